"""Rule `find_objects`: see `phantomscope.stages.finding.find_objects`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.finding import find_objects
from phantomscope.stages.rule import run

run(snakemake, find_objects)

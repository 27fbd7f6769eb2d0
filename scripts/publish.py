"""Rule `publish`: see `phantomscope.stages.publish.publish`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.publish import publish
from phantomscope.stages.rule import run

run(snakemake, publish)

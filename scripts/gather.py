"""Rule `gather`: see `phantomscope.stages.checking.gather`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.checking import gather
from phantomscope.stages.rule import run

run(snakemake, gather)

"""Rule `check`: see `phantomscope.stages.diffusion.check`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.diffusion import check
from phantomscope.stages.rule import run

run(snakemake, check)

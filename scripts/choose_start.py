"""Rule `choose_start`: see `phantomscope.stages.diffusion.choose_start`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.diffusion import choose_start
from phantomscope.stages.rule import run

run(snakemake, choose_start)

"""Rule `train_diffusion`: see `phantomscope.stages.diffusion.train_diffusion`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.diffusion import train_diffusion
from phantomscope.stages.rule import run

run(snakemake, train_diffusion)

"""Rule `distil`: see `phantomscope.stages.diffusion.distil`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.diffusion import distil
from phantomscope.stages.rule import run

run(snakemake, distil)

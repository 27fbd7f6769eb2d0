"""Rule `synthesise`: see `phantomscope.stages.diffusion.synthesise`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.diffusion import synthesise
from phantomscope.stages.rule import run

run(snakemake, synthesise)

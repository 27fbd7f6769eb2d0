"""Rule `cut_crops`: see `phantomscope.stages.filtering.cut_crops`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.filtering import cut_crops
from phantomscope.stages.rule import run

run(snakemake, cut_crops)

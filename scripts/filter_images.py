"""Rule `filter_images`: see `phantomscope.stages.filtered.filter_images`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.filtered import filter_images
from phantomscope.stages.rule import run

run(snakemake, filter_images)

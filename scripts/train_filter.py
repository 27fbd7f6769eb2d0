"""Rule `train_filter`: see `phantomscope.stages.filtering.train_filter`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.filtering import train_filter
from phantomscope.stages.rule import run

run(snakemake, train_filter)

"""Rule `train_segmenter`: see `phantomscope.stages.analysis.train_segmenter`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.analysis import train_segmenter
from phantomscope.stages.rule import run

run(snakemake, train_segmenter)

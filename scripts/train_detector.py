"""Rule `train_detector`: see `phantomscope.stages.detection.train_detector`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.detection import train_detector
from phantomscope.stages.rule import run

run(snakemake, train_detector)

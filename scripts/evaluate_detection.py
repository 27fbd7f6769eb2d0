"""Rule `evaluate_detection`: see `phantomscope.stages.detection.evaluate_detection`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.detection import evaluate_detection
from phantomscope.stages.rule import run

run(snakemake, evaluate_detection)

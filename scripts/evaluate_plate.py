"""Rule `evaluate_plate`: see `phantomscope.stages.filter_scores.evaluate_plate`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.filter_scores import evaluate_plate
from phantomscope.stages.rule import run

run(snakemake, evaluate_plate)

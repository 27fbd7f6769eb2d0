"""Rule `evaluate_translation`: see `phantomscope.stages.translation.evaluate_translation`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.translation import evaluate_translation
from phantomscope.stages.rule import run

run(snakemake, evaluate_translation)

"""Rule `evaluate_translation`: see the stage in `phantomscope.stages.translated`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.rule import run
from phantomscope.stages.translated import evaluate_translation

run(snakemake, evaluate_translation)

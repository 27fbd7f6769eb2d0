"""Rule `evaluate_restoration`: see `phantomscope.stages.restoration`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.restoration import evaluate_restoration
from phantomscope.stages.rule import run

run(snakemake, evaluate_restoration)

"""Rule `predict_generalist`: see `phantomscope.stages.analysis.predict`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.analysis import predict
from phantomscope.stages.rule import run

run(snakemake, predict)

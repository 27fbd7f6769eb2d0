"""Rule `train_finder`: see `phantomscope.stages.finding.train_finder`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.finding import train_finder
from phantomscope.stages.rule import run

run(snakemake, train_finder)

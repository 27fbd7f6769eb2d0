"""Rule `train_translator`: see `phantomscope.stages.translation.train_translator`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.rule import run
from phantomscope.stages.translation import train_translator

run(snakemake, train_translator)

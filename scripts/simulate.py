"""Rule `simulate`: see `phantomscope.stages.data.simulate`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.data import simulate
from phantomscope.stages.rule import run

run(snakemake, simulate)

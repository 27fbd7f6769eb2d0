"""Rule `simulate`: see `phantomscope.stages.sketching.simulate`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.rule import run
from phantomscope.stages.sketching import simulate

run(snakemake, simulate)

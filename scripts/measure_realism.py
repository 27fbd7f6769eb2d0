"""Rule `measure_realism`: see `phantomscope.stages.realism.measure_realism`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.realism import measure_realism
from phantomscope.stages.rule import run

run(snakemake, measure_realism)

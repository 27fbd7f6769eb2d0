"""Rule `measure_forward`: see `phantomscope.stages.appearance.measure_forward`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.appearance import measure_forward
from phantomscope.stages.rule import run

run(snakemake, measure_forward)

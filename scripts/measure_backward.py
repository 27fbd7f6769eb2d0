"""Rule `measure_backward`: see `phantomscope.stages.appearance.measure_backward`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.appearance import measure_backward
from phantomscope.stages.rule import run

run(snakemake, measure_backward)

"""Rule `measure_intensities`: see `phantomscope.stages.plates.measure_intensities`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.plates import measure_intensities
from phantomscope.stages.rule import run

run(snakemake, measure_intensities)

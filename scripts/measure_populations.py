"""Rule `measure_populations`: see `phantomscope.stages.populations`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.populations import measure_populations
from phantomscope.stages.rule import run

run(snakemake, measure_populations)

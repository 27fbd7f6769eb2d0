"""Rule `measure_profiles`: see the stage in `phantomscope.stages.profiles`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.profiles import measure_profiles
from phantomscope.stages.rule import run

run(snakemake, measure_profiles)

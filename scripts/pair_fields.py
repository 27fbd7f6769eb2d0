"""Rule `pair_fields`: see `phantomscope.stages.plates.pair_fields`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.plates import pair_fields
from phantomscope.stages.rule import run

run(snakemake, pair_fields)

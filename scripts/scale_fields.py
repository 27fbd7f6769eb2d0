"""Rule `scale_fields`: see `phantomscope.stages.plates.scale_fields`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.plates import scale_fields
from phantomscope.stages.rule import run

run(snakemake, scale_fields)

"""Rule `fetch_plates`: see `phantomscope.stages.plates.fetch_plates`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.plates import fetch_plates
from phantomscope.stages.rule import run

run(snakemake, fetch_plates)

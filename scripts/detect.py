"""Rule `detect`: see `phantomscope.stages.detection.detect`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.detection import detect
from phantomscope.stages.rule import run

run(snakemake, detect)

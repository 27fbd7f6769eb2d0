"""Rule `download`: see `phantomscope.stages.data.download`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.data import download
from phantomscope.stages.rule import run

run(snakemake, download)

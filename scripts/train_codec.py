"""Rule `train_codec`: see `phantomscope.stages.codec.train_codec`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.codec import train_codec
from phantomscope.stages.rule import run

run(snakemake, train_codec)

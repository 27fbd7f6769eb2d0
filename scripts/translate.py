"""Rule `translate`: see `phantomscope.stages.translation.translate`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.rule import run
from phantomscope.stages.translation import translate

run(snakemake, translate)

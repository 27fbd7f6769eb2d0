"""Rule `compose_set`: see `phantomscope.stages.filtering.compose_set`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.filtering import compose_set
from phantomscope.stages.rule import run

run(snakemake, compose_set)

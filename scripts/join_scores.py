"""Rule `join_scores`: see `phantomscope.stages.translated.join_scores`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.rule import run
from phantomscope.stages.translated import join_scores

run(snakemake, join_scores)

"""Rule `pseudo_sketches`: see `phantomscope.stages.pseudo.pseudo_sketches`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.pseudo import pseudo_sketches
from phantomscope.stages.rule import run

run(snakemake, pseudo_sketches)

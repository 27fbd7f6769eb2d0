"""Rule `fit_sketch`: see `phantomscope.stages.data.fit_sketch`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.data import fit_sketch
from phantomscope.stages.rule import run

run(snakemake, fit_sketch)

"""Rule `fit_sketch`: see `phantomscope.stages.sketching.fit_sketch`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.rule import run
from phantomscope.stages.sketching import fit_sketch

run(snakemake, fit_sketch)

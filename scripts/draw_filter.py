"""Rule `draw_filter`: see `phantomscope.stages.results.draw_figures`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.results import draw_figures
from phantomscope.stages.rule import run

run(snakemake, draw_figures)

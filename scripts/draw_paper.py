"""Rule `draw_paper`: see `phantomscope.stages.papers.draw_paper`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.papers import draw_paper
from phantomscope.stages.rule import run

run(snakemake, draw_paper)

"""Rule `tabulate_paper`: see `phantomscope.stages.papers.tabulate_paper`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.papers import tabulate_paper
from phantomscope.stages.rule import run

run(snakemake, tabulate_paper)

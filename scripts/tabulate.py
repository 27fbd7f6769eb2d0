"""Rule `tabulate`: see `phantomscope.stages.results.tabulate`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.results import tabulate
from phantomscope.stages.rule import run

run(snakemake, tabulate)

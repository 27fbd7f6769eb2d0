"""Rule `report_filter`: see `phantomscope.stages.results.report`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.results import report
from phantomscope.stages.rule import run

run(snakemake, report)

"""Rule `tabulate_studies`: see the stage in `phantomscope.stages.studies`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.rule import run
from phantomscope.stages.studies import tabulate_studies

run(snakemake, tabulate_studies)

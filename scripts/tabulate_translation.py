"""Rule `tabulate_translation`: see `phantomscope.stages.translation.tabulate_translation`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.translation import tabulate_translation
from phantomscope.stages.rule import run

run(snakemake, tabulate_translation)

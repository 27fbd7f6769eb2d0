"""Rule `write_config`: see `phantomscope.stages.results.write_config`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.results import write_config
from phantomscope.stages.rule import run

run(snakemake, write_config)

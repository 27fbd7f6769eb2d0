"""Rule `survey_plates`: see `phantomscope.stages.plates.survey_plates`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from phantomscope.stages.plates import survey_plates
from phantomscope.stages.rule import run

run(snakemake, survey_plates)

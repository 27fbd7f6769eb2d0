"""All cases, and running them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bad_inputs.archives import ARCHIVES
from benchmarks.bad_inputs.artefacts import SETS
from benchmarks.bad_inputs.checkpoints import CHECKPOINTS
from benchmarks.bad_inputs.configs import CONFIGS, SKETCHES
from benchmarks.bad_inputs.downloads import DOWNLOADS
from benchmarks.bad_inputs.folders import FOLDERS
from benchmarks.bad_inputs.images import IMAGES
from benchmarks.bad_inputs.localisations import LOCALISATIONS
from benchmarks.bad_inputs.model import Answer, Case, check
from benchmarks.bad_inputs.runs import RUNS
from benchmarks.bad_inputs.system import OUTPUTS
from benchmarks.laboratory import Laboratory

CASES: list[Case] = [
    *IMAGES, *FOLDERS, *CONFIGS, *SKETCHES, *CHECKPOINTS, *SETS, *OUTPUTS, *RUNS,
    *LOCALISATIONS, *ARCHIVES, *DOWNLOADS,
]  # fmt: skip


def answered(folder: Path, lab: Laboratory | None = None) -> list[Answer]:
    """Run all cases; the laboratory is built in `folder` unless it is given."""
    if lab is None:
        lab = Laboratory(folder / "lab")
        lab.prepare()
        lab.train()
    return [check(case, folder / case.name, lab) for case in CASES]

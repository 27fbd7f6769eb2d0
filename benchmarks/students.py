"""Few-step students against their teacher, on sketches that neither has seen.

`python -m benchmarks.students FOLDER` trains a teacher of 1500 steps on the packaged
image and students of 1, 2 and 4 steps, which takes about an hour on one core, and
prints a table. What is in FOLDER already is not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.laboratory import Laboratory
from phantomscope.config.load import make_config
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.sample import Sampler
from phantomscope.images.files import read_json, write_text
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.measure.fidelity import check_fidelity
from phantomscope.measure.image import psnr
from phantomscope.measure.spectral import radial_power_spectrum
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.stages import diffusion
from phantomscope.stages.data import raw_limits, unannotated

Float = NDArray[np.floating[Any]]
TEACHER = {"train": {"steps": 1500}}
STUDENTS, REFERENCE = (1, 2, 4), 20
SEED = 77  # of the sketches to compare on


class Comparison:
    """Sketches, and what the teacher makes of them in its 20 steps of DDIM."""

    def __init__(self, lab: Laboratory, count: int = 8, side: int = 256) -> None:
        self.lab, self.start = lab, read_json(lab.start)["value"]
        self.scale = Normalisation.load(lab.normalisation)
        self.images = unannotated(lab.prepared)
        options = lab.config.simulate.model_copy(update={"size": (side, side)})
        parameters = SketchParameters.load(lab.sketch)
        self.drawn = [
            simulate_sketch(parameters, options, SEED, n) for n in range(count)
        ]
        self.reference = self.bring_back(lab.model, REFERENCE)

    def bring_back(self, model: Path, steps: int) -> list[Float]:
        """Run a model from the noised sketches, by DDIM."""
        options = self.lab.config.synthesise.model_copy(
            update={"steps": steps, "sampler": "ddim", "eta": 0.0}
        )
        sampler = Sampler(DiffusionModel.load(model), options, SEED)
        flat = [unit_to_network(one[0], self.scale.transform) for one in self.drawn]
        return [
            sampler.from_sketch(x, f"s-{n}", self.start) for n, x in enumerate(flat)
        ]

    def fidelity(self, made: Sequence[Float]) -> float:
        """Mean F1 of an independent segmentation against the labels."""
        found = []
        for n, (image, (_, labels, kind)) in enumerate(
            zip(made, self.drawn, strict=True)
        ):
            like = raw_limits(self.scale, self.images, kind.name, SEED, n)
            raw = self.scale.inverse(np.asarray(image, np.float32), like)
            unit = self.scale.to_unit(raw, like)
            found.append(check_fidelity(unit, labels, kind.radius[3]).f1)
        return float(np.mean(found))

    def row(self, name: str, steps: int, made: Sequence[Float]) -> dict[str, Any]:
        """Compare images with the reference.

        Decibels of ``high`` are the mean difference of the radial power spectrum at
        0.25 cycles per px and above: negative where fine texture is missing.
        """
        pairs = list(zip(self.reference, made, strict=True))
        frequency, power = mean_spectrum(made)
        ratio = 10 * np.log10(power / mean_spectrum(self.reference)[1])
        return {
            "model": name,
            "steps": steps,
            "psnr": np.mean([psnr(a, b, 2.0) for a, b in pairs]),
            "high_db": ratio[frequency >= 0.25].mean(),
            "low_db": np.abs(ratio[frequency < 0.25]).mean(),
            "fidelity_f1": self.fidelity(made),
        }


def mean_spectrum(images: Sequence[Float]) -> tuple[Float, Float]:
    """Radial power spectrum, averaged over images."""
    found = [radial_power_spectrum(image) for image in images]
    return found[0][0], np.mean([power for _, power in found], axis=0)


def distilled(lab: Laboratory, steps: int) -> Path:
    """Train a student of so many steps, or take it up."""
    student = lab.folder / f"student-{steps}.pt"
    own = lab.config.distil.model_copy(update={"steps": steps})
    if not student.exists():
        diffusion.distil(
            lab.config.model_copy(update={"distil": own}),
            normalisation=lab.normalisation, sketch=lab.sketch, model=lab.model,
            start=lab.start, student=student,
            student_metrics=student.with_suffix(".jsonl"),
            state=student.with_suffix(".state"),
        )  # fmt: skip
    return student


def compare(lab: Laboratory) -> pd.DataFrame:
    """Return a table of teacher and students."""
    comparison = Comparison(lab)
    rows = [comparison.row("teacher", REFERENCE, comparison.reference)]
    for steps in STUDENTS:
        made = comparison.bring_back(lab.model, steps)
        rows.append(comparison.row("teacher", steps, made))
    for steps in STUDENTS:
        made = comparison.bring_back(distilled(lab, steps), steps)
        rows.append(comparison.row("student", steps, made))
    return pd.DataFrame(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for models and the table")
    folder = parser.parse_args().folder
    lab = Laboratory(folder, make_config(TEACHER))
    if not lab.model.exists():
        lab.prepare()
        lab.train()
    table = compare(lab).round(3)
    write_text(folder / "students.csv", table.to_csv(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()

"""Images of empty sketches as backgrounds of composed images.

A diffusion model that brings back a sketch without cells gives as much background as
wanted, without holes where objects were. Filters learn from images composed on real
backgrounds, on these, and on both; all are tested on images that are composed of crops
and real backgrounds of the part that no training saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.houses_lab import House
from phantomscope.images.files import write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.fidelity import count_phantoms
from phantomscope.measure.membranes import ball_volume
from phantomscope.measure.statistics import (
    Interval,
    bootstrap_interval,
    paired_bootstrap_ratio,
)
from phantomscope.simulate.background import finished
from phantomscope.simulate.crops import extract_crops
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.sketch import sketch_identifier
from phantomscope.stages import filter_scores, filtered, filtering, synthesis

TARGET = "large"
REAL, DIFFUSION, BOTH = "real", "diffusion", "both"
ARMS = (REAL, DIFFUSION, BOTH)
COUNTS = ("true_positives", "false_positives", "false_negatives")


def empty_sketches(house: House) -> ImageSet:
    """Draw sketches without cells, as large as the real training image."""
    folder, (kind,) = (
        house.folder / "empty",
        SketchParameters.load(house.lab.sketch).types,
    )
    (name,) = ImageSet.open(house.lab.prepared).select(split="train").ids
    shape = ImageSet.open(house.lab.prepared).shape(name)
    if not folder.exists():
        with ImageSetWriter(folder, {"stage": "empty"}, resume=False) as writer:
            for number in range(house.sizes.grounds):
                rng = generator(house.lab.config.seed, "empty", number)
                image = finished(np.zeros(shape), kind, rng)
                writer.add(
                    sketch_identifier(number), image, np.zeros(shape, np.uint16),
                    split="train", type=kind.name,
                )  # fmt: skip
    return ImageSet.open(folder)


def make_grounds(house: House) -> ImageSet:
    """Bring empty sketches back."""
    lab, folder = house.lab, house.folder / "grounds"
    start = house.folder / "ground_start.json"
    empty_sketches(house)
    if not folder.exists():
        write_json(start, {"value": house.sizes.ground_start, "reason": "fixed"})
        synthesis.synthesise(
            lab.config, prepared=lab.prepared, normalisation=lab.normalisation,
            model=lab.model, start=start, sketches=house.folder / "empty",
            synthetic=folder,
        )  # fmt: skip
    return ImageSet.open(folder)


def phantoms_per_real(house: House, grounds: ImageSet) -> float:
    """Return phantoms of empty images over objects of as large a real one."""
    scale = Normalisation.load(house.lab.normalisation)
    (kind,) = SketchParameters.load(house.lab.sketch).types
    area = ball_volume(kind.radius[3], 2)
    found, pixels = 0, 0
    for name in grounds.ids:
        unit = scale.to_unit(grounds.image(name), grounds.row(name)["limits"])
        found += count_phantoms(unit, grounds.mask(name), area)
        pixels += unit.size
    return found / (pixels / 1e6 * kind.density[3])


def make_backgrounds(house: House, grounds: ImageSet) -> dict[str, Path]:
    """Write the sets of backgrounds, and cut the crops that all arms share.

    Crops are found by the ids of their images: without real backgrounds a synthesised
    one stands under such an id.
    """
    lab, folder = house.lab, house.folder
    places = {arm: folder / f"backgrounds/{arm}" for arm in ARMS}
    if not places[REAL].exists():
        # As the stage does it, without a contact sheet.
        extract_crops(
            ImageSet.open(lab.prepared), folder / "crops", places[REAL],
            house.composer.filter.crops, house.composer.seed,
        )  # fmt: skip
    real = ImageSet.open(places[REAL]).select(split="train")
    (parent,) = real.ids
    made = [grounds.image(name) for name in grounds.ids]
    empty = [np.zeros(image.shape, np.uint16) for image in made]
    pairs = list(zip(made, empty, strict=True))
    own = (real.image(parent), real.mask(parent))
    # One of each: backgrounds of both kinds are drawn equally often.
    content = {DIFFUSION: pairs, BOTH: [own, pairs[0]]}
    for arm, images in content.items():
        if not places[arm].exists():
            with ImageSetWriter(places[arm], {"source": arm}, resume=False) as writer:
                for number, (image, mask) in enumerate(images):
                    name = f"made-{number}" if number else parent
                    writer.add(name, image, mask, split="train")
    return places


def train_arms(house: House, places: dict[str, Path]) -> Path:
    """Train every arm with every seed, filter the tests, and score; return a folder."""
    config, lab, folder = house.composer, house.lab, house.folder
    tests, scores = folder / "composed", folder / "layer-scores"
    if not tests.exists():
        filtering.compose_set(
            config, crops=folder / "crops", backgrounds=places[REAL], composed=tests,
            target=TARGET, fold=0, use="tests",
        )  # fmt: skip
    for seed in house.sizes.seeds:
        for arm in ARMS:
            name = f"{arm}-{seed}"
            model = folder / f"composer-{name}.pt"
            if not model.exists():
                filtering.train_filter(
                    config, prepared=lab.prepared, crops=folder / "crops",
                    backgrounds=places[arm], model=model,
                    metrics=folder / f"composer-{name}.jsonl",
                    state=folder / f"composer-{name}.state", target=TARGET,
                    method="filter", seed=seed,
                )  # fmt: skip
            for test, options, images in (
                ("composed", config, tests), ("real", house.tester, lab.prepared)
            ):  # fmt: skip
                found = folder / f"layers/{test}-{name}"
                if not found.exists():
                    filtered.filter_images(
                        options, tested=images, model=model, found=found,
                        target=TARGET, method="filter", seed=seed,
                    )  # fmt: skip
                place = scores / f"{test}-{name}"
                if not place.exists():
                    filter_scores.evaluate_filter(
                        options, tested=images, found=found, scores=place,
                        target=TARGET, method="filter", fold=0,
                    )  # fmt: skip
    return scores


def read_scores(house: House, scores: Path, test: str = "composed") -> pd.DataFrame:
    """Return a row per arm, seed and test image: counts of objects, PSNR of layers."""
    parts = []
    for arm in ARMS:
        for seed in house.sizes.seeds:
            folder = scores / f"{test}-{arm}-{seed}"
            objects = pd.read_csv(folder / "objects.csv")
            of_masks = objects["rule"] == "instances"
            objects = objects[of_masks & (objects["threshold"] == 0.5)].set_index("id")
            pixels = pd.read_csv(folder / "pixels.csv")
            target = pixels[pixels["layer"] == "target"].set_index("id")
            part = objects[list(COUNTS)].join(target[["psnr"]])
            parts.append(part.reset_index().assign(arm=arm, seed=seed))
    return pd.concat(parts, ignore_index=True)


Unit = NDArray[np.float64]


def units(table: pd.DataFrame, arm: str) -> list[Unit]:
    """Return for each test image the sums over seeds of counts, and the mean PSNR."""
    own = table[table["arm"] == arm].groupby("id")
    joined = own[list(COUNTS)].sum().join(own["psnr"].mean())
    return list(joined.to_numpy(float))


def f1_of(units: Sequence[Any]) -> float:
    """Return F1 of the counts of several images."""
    tp, fp, fn, _ = np.sum(units, axis=0)
    return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else 1.0


def compared(table: pd.DataFrame, arm: str) -> dict[str, Interval]:
    """Return F1 over that with real backgrounds, and the difference of PSNR (dB)."""
    own, real = units(table, arm), units(table, REAL)
    gain = [a[3] - b[3] for a, b in zip(own, real, strict=True)]
    return {
        "f1_ratio": paired_bootstrap_ratio(own, real, f1_of),
        "psnr_gain": bootstrap_interval(gain, lambda drawn: float(np.mean(drawn))),
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm."""
    rows = []
    for arm in ARMS:
        own = units(table, arm)
        row: dict[str, Any] = {
            "backgrounds": arm, "f1": f1_of(own),
            "psnr": float(np.mean([unit[3] for unit in own])), "tests": len(own),
            "seeds": table["seed"].nunique(),
        }  # fmt: skip
        for name, found in compared(table, arm).items():
            row |= {name: found.value, f"{name}_low": found.low,
                    f"{name}_high": found.high}  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def measure(house: House) -> tuple[pd.DataFrame, float]:
    """Return the row of each arm, and phantoms of backgrounds per real object."""
    grounds = make_grounds(house)
    places = make_backgrounds(house, grounds)
    scores = train_arms(house, places)
    found = summary(read_scores(house, scores))
    # One image: a number without an interval.
    real = read_scores(house, scores, "real")
    found["f1_real_image"] = [f1_of(units(real, arm)) for arm in ARMS]
    return found, phantoms_per_real(house, grounds)

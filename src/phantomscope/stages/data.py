"""Stages from the source of images to labelled sketches."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phantomscope.acquire import split
from phantomscope.acquire.source import acquire as acquire_source
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import check_targets, write_json, write_text
from phantomscope.images.imageset import ImageSet, ImageSetWriter
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation, fit_normalisation
from phantomscope.progress import Progress
from phantomscope.simulate.fit import (
    FitResult,
    Measured,
    compare_type,
    fit_parameters,
)
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.simulate.sketch import camera, simulate_sketch, sketch_identifier


def unannotated(prepared: Path) -> ImageSet:
    """Open the training part as if nobody had annotated it.

    Everything between preparation and synthesis sees the images through this.
    """
    images = ImageSet.open(prepared).select(split="train").without_masks()
    if not len(images):
        raise PhantomscopeError(
            "no image of this set is in the training part",
            where=prepared / "manifest.csv",
            fix="give the folder that `prepare` writes",
        )
    return images


def shard_indices(config: Config, shard: int) -> list[int]:
    """Numbers of the images of one shard: every n-th, so that shards are even."""
    if not 0 <= shard < config.simulate.shards:
        raise PhantomscopeError(
            f"there is no shard {shard}: `simulate.shards` is {config.simulate.shards}",
            where="--shard",
            fix=f"shards count from 0 to {config.simulate.shards - 1}",
        )
    return list(range(shard, config.simulate.images, config.simulate.shards))


def kind_of(parameters: SketchParameters, name: str, sketch: Path) -> SketchType:
    """Return the parameters of a type by its name."""
    for kind in parameters.types:
        if kind.name == name:
            return kind
    raise PhantomscopeError(
        f"there is no type {name!r} in this file, but images of it",
        where=sketch,
        fix="it was edited after they were made: run `simulate` and `synthesise` again",
    )


def acquire(config: Config, *, images: Path) -> None:
    """Make an image set of the packaged images or of your folder."""
    acquire_source(config.source, images)


def prepare(
    config: Config, *, images: Path, prepared: Path, normalisation: Path
) -> None:
    """Divide into training and test part and fit the intensity range."""
    split.prepare(ImageSet.open(images), config.split, config.seed, prepared)
    everything = ImageSet.open(prepared)
    split.assert_disjoint(everything)
    fit_normalisation(
        everything.select(split="train").without_masks(),
        everything.select(split="test").without_masks(),
        config.normalise,
    ).save(normalisation)


def _grouped(images: ImageSet, most: int) -> dict[str, list[str]]:
    """Ids by image type; the rarest types are pooled when there are too many."""
    counts = images.table["stratum"].value_counts()
    names = sorted(counts.index, key=lambda name: (-counts[name], str(name)))
    groups: dict[str, list[str]] = {}
    for position, name in enumerate(names):
        pooled = position >= most - 1 and len(names) > most
        key = "others" if pooled else str(name)
        groups.setdefault(key, []).extend(images.select(stratum=name).ids)
    return groups


def _summary(measured: Measured) -> dict[str, float]:
    return {
        "density": float(measured.density.mean()),
        "coverage": measured.coverage,
        "touching": measured.touching,
        "edge": measured.edge,
    }


def _objects(results: list[FitResult]) -> pd.DataFrame:
    columns = ["radius", "elongation", "intensity"]
    parts = [
        measured.objects[columns].assign(source=source, type=result.kind.name)
        for result in results
        for source, measured in (("real", result.real), ("sketch", result.drawn))
    ]
    return pd.concat(parts)[["source", "type", *columns]]


def _compared(
    parameters: SketchParameters, loaded: dict[str, list[Any]], config: Config
) -> list[FitResult]:
    """Measure the sketches of given parameters beside the images, without a fit."""
    pooled = [image for images in loaded.values() for image in images]
    return [
        compare_type(
            kind,
            loaded.get(kind.name, pooled),
            config.fit,
            config.simulate,
            config.seed,
        )
        for kind in parameters.types
    ]


def fit_sketch(
    config: Config, *, prepared: Path, normalisation: Path, sketch: Path, fit: Path,
    objects: Path,
) -> None:  # fmt: skip
    """Fit the sketch parameters to the unannotated training images."""
    check_targets(sketch, fit, objects)
    images = unannotated(prepared)
    scale = Normalisation.load(normalisation)
    groups = _grouped(images, config.fit.max_types)
    # Twenty images tell as much about a type as four hundred.
    loaded = {
        name: [scale.to_unit(images.image(i), i) for i in ids[:: -(-len(ids) // 20)]]
        for name, ids in groups.items()
    }
    skipped: dict[str, str] = {}
    if config.fit.parameters:
        parameters = SketchParameters.load(Path(config.fit.parameters))
        results = _compared(parameters, loaded, config)
    else:
        weights = {name: len(ids) / len(images) for name, ids in groups.items()}
        results, skipped = fit_parameters(
            loaded, weights, config.fit, config.simulate, config.seed
        )
        parameters = SketchParameters(types=[r.kind for r in results])
    for name, reason in skipped.items():
        print(f"warning: images of type {name} are not imitated: {reason}")
    report = [
        {
            "name": r.kind.name,
            "distances": r.distances,
            "real": _summary(r.real),
            "drawn": _summary(r.drawn),
        }
        for r in results
    ]
    write_json(fit, {"types": report, "skipped": skipped})
    write_text(objects, _objects(results).to_csv(index=False))
    parameters.save(sketch)


def simulate(config: Config, *, sketch: Path, sketches: Path, shard: int = 0) -> None:
    """Draw one shard of labelled sketches."""
    parameters = SketchParameters.load(sketch)
    info = {
        "stage": "simulate",
        "seed": config.seed,
        "options": config.simulate.model_dump(),
        "parameters": parameters.model_dump(),
    }
    numbers = shard_indices(config, shard)
    with (
        ImageSetWriter(sketches, info) as writer,
        Progress("drawing sketches", len(numbers), unit="images") as progress,
    ):
        for number in numbers:
            identifier = sketch_identifier(number)
            if identifier not in writer:
                image, labels, kind = simulate_sketch(
                    parameters, config.simulate, config.seed, number
                )
                writer.add(
                    identifier, image, labels, seed=config.seed, split="train",
                    type=kind.name, objects=int(labels.max()),
                )  # fmt: skip
            progress.advance()


def raw_limits(
    scale: Normalisation, prepared: ImageSet, kind: str, seed: int, number: int
) -> str:
    """Return the training image whose intensity limits a synthetic image takes.

    With limits per image, one of the same type is drawn; so synthetic images are as
    mixed in exposure as the real ones.
    """
    table = prepared.table
    same = table.index[table["stratum"] == kind]
    identifiers = list(same) if len(same) else prepared.ids
    rng = generator(seed, "limits", number)
    return str(identifiers[int(rng.integers(len(identifiers)))])


def photograph(
    config: Config, *, sketch: Path, prepared: Path, normalisation: Path,
    sketches: list[Path], camera_images: Path,
) -> None:  # fmt: skip
    """Photograph the sketches with the fitted camera model: the arm without diffusion.

    The camera adds the noise that was measured on the images to the soft-edged sketch.
    """
    parameters = SketchParameters.load(sketch)
    real, scale = unannotated(prepared), Normalisation.load(normalisation)
    info = {"stage": "photograph", "seed": config.seed}
    shutil.rmtree(camera_images.with_name(f".{camera_images.name}.partial"), True)
    with ImageSetWriter(camera_images, info) as writer:
        for folder in sketches:
            part = ImageSet.open(folder).having("type")
            for identifier in part.ids:
                row = part.row(identifier)
                number = int(identifier.rsplit("-", 1)[1])
                rng = generator(config.seed, "camera", number)
                kind = kind_of(parameters, row["type"], sketch)
                unit = camera(part.image(identifier), kind, rng)
                like = raw_limits(scale, real, row["type"], config.seed, number)
                writer.add(
                    identifier,
                    scale.from_unit(unit, like),
                    part.mask(identifier).astype(np.uint16),
                    split="train",
                    seed=config.seed,
                    type=row["type"],
                    limits=like,
                )

"""Stages of sketches: fitting their parameters, drawing and photographing them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.config.simulation import DIVISION, STRUCTURES
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import check_targets, write_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation
from phantomscope.images.tracks import carry_tracks, series_columns, write_tracks
from phantomscope.images.writer import ImageSetWriter
from phantomscope.planning.sharding import shard_count
from phantomscope.progress import Progress
from phantomscope.simulate.fit import FitResult, compare_type, fit_parameters
from phantomscope.simulate.measured import Measured, measure_images
from phantomscope.simulate.meristem_shape import ShapeModel
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.series import Sketches, series_identifier
from phantomscope.simulate.sketch import camera, sketch_identifier
from phantomscope.simulate.tissue import fit_tissue
from phantomscope.stages.arguments import Output
from phantomscope.stages.data import exposure, kind_of, raw_limits, unannotated
from phantomscope.stages.organ import learn_organ

# Parts of volumes that a fit looks at: voxels, and most planes.
PART_VOXELS, PART_DEPTH = 1_000_000, 64


def shard_indices(config: Config, shard: int) -> list[int]:
    """Numbers of the images of one shard: a block of them, in order.

    A time series stays whole.
    """
    total, count = config.simulate.series, shard_count(config)
    frames = config.simulate.frames
    if not 0 <= shard < count:
        raise PhantomscopeError(
            f"there is no shard {shard}: there are {count}",
            where="--shard / simulate.shards",
            fix=f"shards count from 0 to {count - 1}",
        )
    first, stop = shard * total // count, (shard + 1) * total // count
    return list(range(first * frames, stop * frames))


def _check_dims(images: ImageSet, config: Config) -> None:
    """Refuse volumes where images are simulated, and the reverse."""
    if images.dims != config.dims:
        names = {2: "images (height, width)", 3: "volumes (depth, height, width)"}
        raise PhantomscopeError(
            f"the source has {names[images.dims]}, the sketches are "
            f"{names[config.dims]}",
            where="simulate.size",
            fix=f"give {images.dims} numbers, such as "
            f"{[32, 128, 128] if images.dims == 3 else [192, 192]}",
        )


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
    if not results:
        # Membranes are no objects to measure: there is the header alone.
        return pd.DataFrame(columns=["source", "type", *columns])
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


def _samples(
    images: ImageSet, ids: list[str], scale: Normalisation, config: Config
) -> list[NDArray[np.float32]]:
    """Images of one type that are looked at, of volumes parts, in unit intensities."""
    if images.select(id=ids[0]).dims == 2:
        # Twenty images tell as much about a type as four hundred.
        chosen = ids[:: -(-len(ids) // 20)]
        return [scale.to_unit(images.image(i), i) for i in chosen]
    parts: dict[tuple[object, ...], NDArray[np.float32]] = {}
    for n in range(config.fit.subvolumes):
        identifier = ids[n * len(ids) // config.fit.subvolumes]
        full = images.shape(identifier)
        depth = min(full[0], PART_DEPTH)
        side = max(16, math.isqrt(PART_VOXELS // depth))
        size = (depth, min(full[1], side), min(full[2], side))
        rng = generator(config.seed, "part", n)
        origin = [int(rng.integers(f - s + 1)) for f, s in zip(full, size, strict=True)]
        if (identifier, *origin) not in parts:
            with images.planes(identifier) as planes:
                raw = planes.read(origin[0], origin[0] + depth)
            window = tuple(
                slice(o, o + s) for o, s in zip(origin[1:], size[1:], strict=True)
            )
            parts[identifier, *origin] = scale.to_unit(raw[:, *window], identifier)
    return list(parts.values())


def _organism_type(loaded: dict[str, list[Any]], config: Config) -> SketchType:
    """Return an organism's own type, with the noise of the images for the camera."""
    kind = drawer_of(config.simulate.organism).kind(config.simulate)
    images = [image for several in loaded.values() for image in several]
    noise = measure_images(images, kind.radius[3], config.fit).background
    background = kind.background.model_copy(
        update={"read_noise": noise.read, "shot_noise": noise.gain}
    )
    return kind.model_copy(update={"background": background})


def _found(
    loaded: dict[str, list[Any]], weights: dict[str, float], config: Config,
    organ: ShapeModel | None,
) -> tuple[SketchParameters, list[FitResult], dict[str, str]]:  # fmt: skip
    """Return parameters, what was measured beside them, and types left out."""
    options, own = config.simulate, config.simulate.variant != "fitted"
    if config.fit.parameters:
        parameters = SketchParameters.load(Path(config.fit.parameters))
    elif options.organism == "meristem" and not own:
        pooled = [image for images in loaded.values() for image in images]
        kind = fit_tissue(pooled, config.fit, options, config.seed, organ)
        return SketchParameters(types=[kind]), [], {}
    elif options.organism != "fitted" and own:
        parameters = SketchParameters(types=[_organism_type(loaded, config)])
    else:
        results, skipped = fit_parameters(
            loaded, weights, config.fit, options, config.seed
        )
        kinds = [result.kind for result in results]
        return SketchParameters(types=kinds), results, skipped
    # Membranes and lines are no objects that the classical segmentation could measure.
    nuclei = all(kind.tissue is None for kind in parameters.types)
    nuclei &= options.organism not in STRUCTURES
    return parameters, _compared(parameters, loaded, config) if nuclei else [], {}


def _organ(
    config: Config, prepared: Path, sketch: Path, shape: Path | None
) -> ShapeModel | None:
    """Learn the shape of the organ, if the config asks for it."""
    if not config.simulate.learns_shape:
        return None
    if shape is None or shape.parent.resolve() != sketch.parent.resolve():
        raise PhantomscopeError(
            "the learnt shape model has no place beside the sketch parameters",
            where="--shape / simulate.meristem.shape_model",
            fix="name a file in the folder of the sketch parameters",
            example=f"--shape {sketch.with_name('shape_model.npz')}",
        )
    check_targets(shape)
    return learn_organ(config, prepared)


def fit_sketch(
    config: Config, *, prepared: Path, normalisation: Path, sketch: Output,
    fit: Output, objects: Output, shape: Output | None = None,
) -> None:  # fmt: skip
    """Fit the sketch parameters to the unannotated training images."""
    check_targets(sketch, fit, objects)
    organ = _organ(config, prepared, sketch, shape)
    images = unannotated(prepared)
    _check_dims(images, config)
    scale = Normalisation.load(normalisation)
    groups = _grouped(images, config.fit.max_types)
    loaded = {
        name: _samples(images, ids, scale, config) for name, ids in groups.items()
    }
    weights = {name: len(ids) / len(images) for name, ids in groups.items()}
    parameters, results, skipped = _found(loaded, weights, config, organ)
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
    # A parameter file of the user names no shape model of this experiment.
    parameters = parameters.model_copy(update={"shape_model": None})
    if organ is not None and shape is not None:
        organ.save(shape)
        parameters = parameters.with_organ(shape)
    parameters.save(sketch)


def simulate(config: Config, *, sketch: Path, sketches: Output, shard: int = 0) -> None:
    """Draw one shard of labelled sketches."""
    parameters = SketchParameters.load(sketch)
    numbers = shard_indices(config, shard)
    info = {
        "stage": "simulate",
        "seed": config.seed,
        "numbers": [numbers[0], numbers[-1]],
        "options": config.simulate.model_dump(exclude=set(DIVISION)),
        "parameters": parameters.model_dump(),
    }
    drawn = Sketches(parameters, config.simulate, config.seed)
    with (
        ImageSetWriter(sketches, info) as writer,
        Progress("drawing sketches", len(numbers), unit="images") as progress,
    ):
        for number in numbers:
            identifier = sketch_identifier(number)
            if identifier not in writer:
                one = drawn.draw(number)
                columns: dict[str, Any] = {}
                if one.series is not None:
                    group = series_identifier(number, config.simulate.frames)
                    columns = series_columns(group, one.frame)
                    write_tracks(writer.partial / columns["tracks"], one.series.tracks)
                writer.add(
                    identifier, one.sketch, one.labels, seed=config.seed,
                    split="train", type=one.kind.name, objects=one.objects,
                    channels=len(config.simulate.channels), **columns,
                )  # fmt: skip
            progress.advance()


def photograph(
    config: Config, *, sketch: Path, prepared: Path, normalisation: Path,
    sketches: Path, photographs: Output,
) -> None:  # fmt: skip
    """Photograph one shard of sketches with the fitted camera model.

    This is the arm without diffusion: the camera adds the noise that was measured on
    the images to the soft-edged sketch.
    """
    parameters = SketchParameters.load(sketch)
    real, scale = unannotated(prepared), Normalisation.load(normalisation)
    part = ImageSet.open(sketches).having("type")
    info = {"stage": "photograph", "seed": config.seed}
    with (
        ImageSetWriter(photographs, info, resume=False) as writer,
        Progress("photographing", len(part), unit="images") as progress,
    ):
        for identifier in part.ids:
            row = part.row(identifier)
            number = int(identifier.rsplit("-", 1)[1])
            rng = generator(config.seed, "camera", number)
            kind = kind_of(parameters, row["type"], sketch)
            unit = camera(part.image(identifier), kind, rng)
            like = raw_limits(scale, real, row["type"], config.seed, exposure(row))
            writer.add(
                identifier,
                scale.from_unit(unit, like),
                part.mask(identifier),
                split="train",
                seed=config.seed,
                type=row["type"],
                limits=like,
                **carry_tracks(row, part.folder, writer.partial),
            )
            progress.advance()

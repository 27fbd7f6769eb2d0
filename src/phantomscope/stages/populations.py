"""The stage that compares the simulated objects with those of the real images.

A measurement: it may read annotation, and nothing on the way from images to synthetic
images depends on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phantomscope.config.model import Config
from phantomscope.images.files import check_targets, write_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation
from phantomscope.images.voxels import voxel_size
from phantomscope.measure.edges import Spacing
from phantomscope.measure.morphology import segment
from phantomscope.measure.populations import (
    FEWEST_OBJECTS,
    Pair,
    compare_populations,
    population,
    property_histograms,
)
from phantomscope.progress import Progress
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.stages.arguments import Output
from phantomscope.stages.data import unannotated

# Of each side at most so many images and voxels are looked at, evenly spread.
MOST_IMAGES, MOST_VOXELS = 60, 200_000_000
# Planes of a volume that are looked at, where annotation is of single planes.
MOST_PLANES = 8
ANNOTATED = "annotation of all images"
HELD_OUT = "annotation of the held-out test part"
CLASSICAL = "classical segmentation of the unannotated training part"
LABELS = "labels of the synthetic images that passed the checks"
LEARNT = " (shape of the organ learnt from the annotation of the training part)"
CUT = ", those that an edge cuts included, since too few are whole"
SAME_WAY = "the same classical segmentation of the synthetic images"
DEFINITION = (
    "relative: first Wasserstein distance by the interquartile range of the real "
    "objects; ks: largest difference of the distribution functions; chance: relative "
    "between two random halves of the real objects"
)


@dataclass(frozen=True)
class _Way:
    """How the objects of both sides are measured: alike.

    Attributes
    ----------
    window : tuple of int
        ([Z,] Y, X): larger images are cut into windows of this size, so that edges
        leave out as many large objects of both sides.
    spacing : tuple of float, optional
        Voxel of volumes along z, y and x, by that along y.
    planes : bool
        Whether single planes of volumes are looked at.
    classical : bool
        Whether objects are those of the classical segmentation, not the labels.
    """

    window: tuple[int, ...]
    spacing: Spacing | None
    planes: bool
    classical: bool


def measure_populations(
    config: Config, *, prepared: Path, normalisation: Path, sketch: Path, checked: Path,
    populations: Output, histograms: Output,
) -> None:  # fmt: skip
    """Compare size, shape, distance and intensity of simulated and real objects."""
    check_targets(populations, histograms)
    scale, parameters = Normalisation.load(normalisation), SketchParameters.load(sketch)
    learnt = parameters.shape_model is not None
    real = _real_part(prepared, learnt)
    drawn = ImageSet.open(checked, most=MOST_IMAGES)
    labelled = any(real.has_mask(i) for i in real.ids)
    tissue = any(kind.tissue is not None for kind in parameters.types)
    if labelled:
        sides = (HELD_OUT, LABELS + LEARNT) if learnt else (ANNOTATED, LABELS)
    else:
        sides = (CLASSICAL, SAME_WAY)
    if tissue and not labelled:
        # The classical segmentation is one of bright objects.
        _write(populations, histograms, config, (), sides, "membranes without labels")
        return
    real, drawn = _spread(real), _spread(drawn)
    way = _way(real, drawn, parameters, classical=not labelled)
    with Progress("measuring objects", len(real) + len(drawn), unit="images") as clock:
        tables = [_objects(one, scale, way, clock) for one in (real, drawn)]
    whole = [table[~table["border"].astype(bool)] for table in tables]
    if min(map(len, whole)) < FEWEST_OBJECTS:
        # Windows of one size cut as many objects of both sides.
        whole, sides = tables, (sides[0] + CUT, sides[1] + CUT)
    _write(populations, histograms, config, whole, sides, way=way)


def _real_part(prepared: Path, learnt: bool) -> ImageSet:
    """Open the annotated images; without any annotation the training part.

    Synthesis sees no annotation, so that of both parts may be compared with, except
    where the shape of an organ was learnt from that of the training part.
    """
    images = ImageSet.open(prepared)
    images = images.select(split="test") if learnt else images
    labelled = [i for i in images.ids if images.has_mask(i)]
    if not labelled:
        return unannotated(prepared)
    return _only(images, labelled)


def _only(images: ImageSet, identifiers: Sequence[str]) -> ImageSet:
    return ImageSet(images.folder, images.table.loc[list(identifiers)], images.info)


def _spread(images: ImageSet) -> ImageSet:
    """Keep as many images, evenly spread, as may be looked at; at least one."""
    voxels = sum(math.prod(images.shape(i)) for i in images.ids)
    every = max(-(-len(images) // MOST_IMAGES), -(-voxels // MOST_VOXELS), 1)
    return _only(images, images.ids[::every])


def _way(
    real: ImageSet, drawn: ImageSet, parameters: SketchParameters, *, classical: bool
) -> _Way:
    """Choose what both sides have in common."""
    middle = [
        np.median([images.shape(i) for i in images.ids], axis=0)
        for images in (real, drawn)
        if len(images)
    ]
    window = tuple(int(n) for n in np.min(middle, axis=0)) if middle else (1, 1)
    planes = any(real.annotated_planes(i) for i in real.ids)
    spacing: Spacing | None = None
    if len(window) == 3 and not planes:
        spacing = parameters.types[0].spacing or (1.0, 1.0, 1.0)
        depth, height, width = voxel_size(real)
        if depth and height and width:
            spacing = (depth / height, 1.0, width / height)
    return _Way(window, spacing, planes, classical)


def _objects(
    images: ImageSet, scale: Normalisation, way: _Way, progress: Progress
) -> pd.DataFrame:
    """Measure the whole objects of a set, with the group of each."""
    tables = []
    for identifier in images.ids:
        group = str(images.row(identifier)["group"] or identifier)
        parts = _parts(images, identifier, scale, way)
        found = population(parts, way.spacing, cut=True)
        tables.append(found.assign(image=identifier, group=group))
        progress.advance()
    some = [table for table in tables if len(table)]
    if some:
        return pd.concat(some, ignore_index=True)
    return population([], cut=True).assign(group="")


def _parts(
    images: ImageSet, identifier: str, scale: Normalisation, way: _Way
) -> Iterator[Pair]:
    """Give labels and unit intensities of one image, window by window."""
    limits = str(images.row(identifier).get("limits", identifier))
    unit = scale.to_unit(images.image(identifier), limits)
    labels = (
        segment(unit, spacing=way.spacing) if way.classical else images.mask(identifier)
    )
    pairs = [(labels, unit)]
    if way.planes and unit.ndim == 3:
        some = range(0, len(unit), -(-len(unit) // MOST_PLANES))
        pairs = [
            (labels[z], unit[z]) for z in images.annotated_planes(identifier) or some
        ]
    for plane, light in pairs:
        for window in _windows(plane.shape, way.window[-plane.ndim :]):
            yield plane[window], light[window]


def _windows(shape: Sequence[int], size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Divide an image into windows around its middle; what is left over is rim."""
    sides = []
    for length, wanted in zip(shape, size, strict=True):
        side = min(length, wanted)
        count = length // side
        first = (length - count * side) // 2
        sides.append([slice(first + n * side, first + (n + 1) * side)
                      for n in range(count)])  # fmt: skip
    yield from itertools.product(*sides)


def _write(
    populations: Path, histograms: Path, config: Config,
    tables: Sequence[pd.DataFrame], sides: tuple[str, str], absent: str = "",
    way: _Way | None = None,
) -> None:  # fmt: skip
    """Write the table and the histograms; with a reason why there are none."""
    options = config.evaluate
    # Without objects the columns are those of no rows.
    real, drawn = tables or (population([]), population([]))
    table = compare_populations(
        real, drawn, resamples=options.resamples, confidence=options.confidence,
        seed=config.seed,
    ).rename(columns={"property": "quantity"})  # fmt: skip
    table = table.assign(
        real_objects=sides[0], simulated_objects=sides[1], definition=DEFINITION,
        data_kind=config.data_kind, scale=config.scale, seed=config.seed,
    )  # fmt: skip
    write_text(populations, (table[:0] if absent else table).to_csv(index=False))
    content: dict[str, Any] = {
        "real": sides[0], "simulated": sides[1], "absent": absent,
        "confidence": options.confidence, "definition": DEFINITION,
        "histograms": property_histograms(real, drawn),
    }  # fmt: skip
    if way is not None:
        content |= {"window": list(way.window), "spacing": way.spacing,
                    "single_planes": way.planes}  # fmt: skip
    write_json(histograms, content)

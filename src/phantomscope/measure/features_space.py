"""How stain lies around the centre of objects, and how objects lie to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray
from skimage import graph, measure

from phantomscope.measure.features_objects import (
    Columns,
    Floats,
    Objects,
    depth_of,
    ratio,
)

RINGS = 4
WEDGES = 8


@dataclass(frozen=True)
class Rings:
    """Four rings around the centre of each object, eight wedges each.

    The centre is the pixel farthest from what is not the object (the first of equals).
    A pixel's place between centre and edge is its way from the centre within the
    object (over eight neighbours, 1 or sqrt(2) each) by that plus its distance from
    outside. Pixels that no way leads to are in no ring.
    """

    objects: Objects

    @cached_property
    def cell(self) -> NDArray[np.intp]:
        """Ring and wedge of each pixel, as one number; -1 for none."""
        objects = self.objects
        centre = objects.largest(objects.depth)
        way = objects.over_boxes(_ways)
        reached = np.isfinite(way)
        share = np.zeros(way.size)
        np.divide(way, way + objects.depth + 0.001, out=share, where=reached)
        ring = np.minimum((share * RINGS).astype(np.intp), RINGS - 1)
        y, x = (p - p[centre][objects.owner] for p in objects.places)
        wedge = (y > 0) + 2 * (x > 0) + 4 * (np.abs(y) > np.abs(x))
        return np.where(reached, ring * WEDGES + wedge, -1)

    def table(self, values: NDArray[Any]) -> Floats:
        """Sum values by object, ring and wedge."""
        n, known = len(self.objects), self.cell >= 0
        at = self.objects.owner * (RINGS * WEDGES) + self.cell
        found = np.bincount(at[known], values[known], n * RINGS * WEDGES)
        return found.reshape(n, RINGS, WEDGES).astype(np.float64)

    @cached_property
    def counts(self) -> Floats:
        """Pixels by object, ring and wedge."""
        return self.table(np.ones(self.cell.size))


def _ways(mask: NDArray[np.bool_]) -> Floats:
    """Return the way of each pixel of a mask from its centre, infinite for none."""
    depth = np.where(mask, depth_of(mask), -1)
    start = np.unravel_index(np.argmax(depth), mask.shape)
    costs = np.where(mask, 1.0, -1.0)
    return np.asarray(graph.MCP_Geometric(costs).find_costs([start])[0])


def radial(rings: Rings, image: NDArray[Any], channel: str) -> Columns:
    """Measure the share of stain in each ring, its excess, and its unevenness.

    ``FracAtD`` is the share of the object's stain in the ring, ``MeanFrac`` that by the
    ring's share of pixels, ``RadialCV`` the standard deviation by the mean of the mean
    intensities of its wedges that have pixels, 0 for an empty ring.
    """
    sums, counts = rings.table(rings.objects.values(image)), rings.counts
    stain = ratio(sums.sum(2), sums.sum((1, 2))[:, None])
    area = ratio(counts.sum(2), counts.sum((1, 2))[:, None])
    means, used = ratio(sums, counts), counts > 0
    number = used.sum(2)
    centre = ratio(np.where(used, means, 0).sum(2), number)
    square = np.where(used, (means - centre[..., None]) ** 2, 0).sum(2)
    uneven = ratio(np.sqrt(ratio(square, number)), centre)
    # An empty ring has no stain: 0 and not 0/0.
    excess = np.where(area > 0, ratio(stain, area), np.where(np.isnan(stain), stain, 0))
    found = {
        "FracAtD": stain,
        "MeanFrac": excess,
        "RadialCV": np.where(number == 0, 0, uneven),
    }
    return {
        f"RadialDistribution_{name}_{channel}_{ring + 1}of{RINGS}": values[:, ring]
        for name, values in found.items()
        for ring in range(RINGS)
    }


def neighbours(objects: Objects, distance: int | None) -> Columns:
    """Count neighbours and measure where they are.

    Parameters
    ----------
    objects : Objects
        All objects of the image.
    distance : int or None
        Neighbours have a pixel within this distance of a pixel of the object, px;
        None: they touch it over an edge of a pixel. CellProfiler's manual says that
        both are expanded, so that neighbours could be twice as far; its results, and
        these, expand one.

    Returns
    -------
    dict
        ``NumberOfNeighbors``; ``PercentTouching``, the percentage of the object's
        outline (over eight neighbours) within the distance and half a pixel of another
        object; ``FirstClosestDistance`` and ``SecondClosestDistance`` between centres,
        px, and the angle to both, degrees. NaN where there is no such object
        (CellProfiler writes 0). Numbers of neighbours are names, and left out.
    """
    reach = distance or 1
    # An object's nearest pixel to another one is always on its outline.
    own = objects.owner[objects.outline]
    y, x = (place[objects.outline] for place in objects.places)
    framed = np.pad(objects.labels, reach + 1)
    pairs, touching = np.zeros((0, 2), np.intp), np.zeros(own.size, bool)
    for dy, dx, inner in _steps(reach):
        seen = framed[y + dy + reach + 1, x + dx + reach + 1]
        other = (seen > 0) & (seen != own + 1)
        touching |= other
        if inner:
            found = np.stack([own[other], seen[other] - 1], 1)
            pairs = np.unique(np.concatenate([pairs, found]), axis=0)
    length = np.bincount(own, minlength=len(objects))
    near = np.bincount(own, touching, len(objects))
    name = "Adjacent" if distance is None else str(distance)
    columns: Columns = {
        "NumberOfNeighbors": np.bincount(pairs[:, 0], minlength=len(objects)).astype(
            float
        ),
        "PercentTouching": ratio(100 * near, length),
    } | _closest(objects)
    return {f"Neighbors_{key}_{name}": column for key, column in columns.items()}


def _steps(reach: int) -> list[tuple[int, int, bool]]:
    """List steps within the reach and half a pixel; whether within the reach."""
    sides = range(-reach - 1, reach + 2)
    steps = [(dy, dx, dy * dy + dx * dx) for dy in sides for dx in sides]
    return [
        (dy, dx, square <= reach**2)
        for dy, dx, square in steps
        if square <= (reach + 0.5) ** 2
    ]


def _closest(objects: Objects) -> Columns:
    """Distance of the two nearest centres and the angle between them."""
    n = len(objects)
    centres = np.stack(objects.centres, 1)
    vectors = np.full((n, 2, 2), np.nan)
    number = min(3, n)
    if number > 1:
        found = scipy.spatial.cKDTree(centres).query(centres, k=number)[1]
        # With equal centres the object need not come first.
        for i, row in enumerate(found):
            others = row[row != i][: number - 1]
            vectors[i, : others.size] = centres[others] - centres[i]
    length: Floats = np.hypot(vectors[..., 0], vectors[..., 1])
    cosine = ratio((vectors[:, 0] * vectors[:, 1]).sum(1), length.prod(1))
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return {
        "FirstClosestDistance": length[:, 0],
        "SecondClosestDistance": length[:, 1],
        "AngleBetweenNeighbors": angle.astype(np.float64),
    }


# CellProfiler's names of what scikit-image measures.
SHAPES = {
    "Area": "area", "BoundingBoxArea": "area_bbox", "ConvexArea": "area_convex",
    "Eccentricity": "eccentricity", "EquivalentDiameter": "equivalent_diameter_area",
    "EulerNumber": "euler_number", "Extent": "extent",
    "MajorAxisLength": "axis_major_length", "MinorAxisLength": "axis_minor_length",
    "Perimeter": "perimeter", "Solidity": "solidity",
}  # fmt: skip


def shape(objects: Objects) -> Columns:
    """Measure size and shape. Zernike moments of the mask and Feret's are left out."""
    table = pd.DataFrame(
        measure.regionprops_table(objects.labels, properties=tuple(SHAPES.values()))
    )
    found = {name: table[key].to_numpy(np.float64) for name, key in SHAPES.items()}
    area, length = found["Area"], found["Perimeter"]
    found["FormFactor"] = ratio(4 * np.pi * area, length**2)
    # Unlike the depth, these count the border of the image as an edge (CellProfiler).
    deep = objects.ordered(objects.over_boxes(_depth_to_border))
    found["MaximumRadius"] = deep[objects.starts[1:] - 1]
    found["MeanRadius"] = objects.total(deep) / objects.sizes
    return {f"AreaShape_{name}": column for name, column in found.items()}


def _depth_to_border(mask: NDArray[np.bool_]) -> Floats:
    return depth_of(np.pad(mask, 1))[1:-1, 1:-1]


def distances(kind: str) -> Sequence[int | None]:
    """Return the neighbourhoods that the pipeline measures for nuclei or cells."""
    return (1,) if kind == "nuclei" else (5, None)

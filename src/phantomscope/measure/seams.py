"""Seams between the tiles of a stitched image, seen in its gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks

Floats = NDArray[np.float64]
Lines = NDArray[np.int64]


def gradient_excess(
    image: ArrayLike, tile_edges_y: Sequence[int], tile_edges_x: Sequence[int]
) -> float:
    """Return by how much the gradient power at tile borders exceeds that elsewhere.

    For each direction, the mean squared difference of neighbours across a border
    over the mean squared difference of all other neighbours in that direction,
    minus 1; the two directions weigh by their number of differences across borders.

    Parameters
    ----------
    image : array_like, shape (y, x) or (z, y, x)
        Real numbers; each plane is tiled alike.
    tile_edges_y, tile_edges_x : sequence of int
        First pixel of each tile but the first, so that edge e lies between e - 1 and
        e, 1 <= e < size; empty where there is no border across that axis.

    Returns
    -------
    float
        At least -1; about 0 without seams. Infinite for seams in an image that is
        constant elsewhere, 0 for a constant image.

    Raises
    ------
    PhantomscopeError
        For bad images, no edges at all, edges outside of the image or given twice,
        or an axis with edges between all its pixels.
    """
    return sum(
        share * _excess(power, lines, lines)
        for power, lines, share in _directions(image, tile_edges_y, tile_edges_x)
    )


def gradient_excess_noise(
    image: ArrayLike, tile_edges_y: Sequence[int], tile_edges_x: Sequence[int]
) -> tuple[float, float]:
    """Return mean and sd of `gradient_excess` over borders moved to where none are.

    The edges of each axis are shifted together, round the axis, by each offset that
    brings none of them onto a real edge; y and x shift independently. Real seams are
    left out of "elsewhere" so that they do not bias the null. Offsets that differ by
    a tile repeat nearly the same lines, so the sd rests on about a tile of offsets.

    Parameters and errors are those of `gradient_excess`; it is also an error if there
    are fewer than two such offsets along an axis with edges.

    Returns
    -------
    mean, sd : float
        Over all pairs of a y and an x offset.
    """
    mean = variance = 0.0
    for power, edges, share in _directions(image, tile_edges_y, tile_edges_x):
        moved = [(edges + k) % power.size for k in range(1, power.size)]
        free = [lines for lines in moved if not np.isin(lines, edges).any()]
        if len(free) < 2 or 2 * edges.size >= power.size:
            raise PhantomscopeError(
                "tile borders lie too close for any to be moved off them",
                fix="give tiles of at least 4 pixels",
            )
        found = [_excess(power, lines, np.append(lines, edges)) for lines in free]
        # Over all pairs of offsets the directions are independent, so that the
        # moments of the weighted sum follow from those of each.
        mean += share * float(np.mean(found))
        variance += share**2 * float(np.var(found))
    return mean, float(np.sqrt(variance))


def _directions(
    image: ArrayLike, edges_y: Sequence[int], edges_x: Sequence[int]
) -> list[tuple[Floats, Lines, float]]:
    """Return by axis: mean squared difference by line, border lines, share of weight.

    The line before pixel e has index e - 1. All lines of an axis have as many pixels,
    so that their mean is the mean over pixels.
    """
    values = checks.finite(image, "image", (2, 3))
    found: list[tuple[Floats, Lines]] = []
    crossings: list[float] = []
    for axis, name, given in ((-2, "y", edges_y), (-1, "x", edges_x)):
        if len(given) == 0:
            continue
        edges = np.asarray(given)
        size = values.shape[axis]
        outside = edges.dtype.kind not in "iu" or edges.min() < 1 or edges.max() >= size
        if outside or np.unique(edges).size < edges.size or edges.size >= size - 1:
            raise PhantomscopeError(
                f"bad tile edges along {name}: {list(given)} for {size} pixels",
                fix=f"give distinct integers from 1 to {size - 1}, not all of them",
                example="tile_edges_y=[256, 512]",
            )
        difference = np.moveaxis(np.diff(values, axis=axis), axis, 0)
        power = np.square(difference).reshape(size - 1, -1).mean(axis=1)
        crossings.append(edges.size * values.size / size)
        found.append((power, edges.astype(np.int64) - 1))
    if not found:
        raise PhantomscopeError(
            "there are no tile edges", fix="give those of one axis at least"
        )
    return [
        (power, lines, crossing / sum(crossings))
        for (power, lines), crossing in zip(found, crossings, strict=True)
    ]


def _excess(power: Floats, lines: Lines, left_out: Lines) -> float:
    """Return power at `lines` over that of all lines but `left_out`, minus 1."""
    elsewhere = np.delete(power, left_out)
    across = float(power[lines].mean())
    around = float(elsewhere.mean())
    if around == 0:
        return 0.0 if across == 0 else float("inf")
    return across / around - 1

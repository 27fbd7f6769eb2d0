"""Intensity of objects, where it lies, and how it goes along with another channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import segmentation

from phantomscope.measure.features_objects import Columns, Floats, Objects, ratio

# Of an object's brightest pixel: what counts as stained, for overlaps of channels.
STAINED = 0.15


def intensity(objects: Objects, image: NDArray[Any], channel: str) -> Columns:
    """Measure the intensities of each object.

    Quartiles lie at position n q of the n sorted values (from 0), between neighbours
    linearly, as in CellProfiler, where numpy has (n - 1) q. The edge is what has one
    of four neighbours of another kind; the border of the image is no edge.
    """
    values = objects.values(image)
    ordered = objects.ordered(values)
    middle = _quantile(objects, ordered, 0.5)
    apart = objects.ordered(np.abs(values - middle[objects.owner]))
    every = np.ones(values.size, bool)
    edge = segmentation.find_boundaries(objects.labels, mode="inner")
    found = _described(objects, values, every, "") | {
        "LowerQuartileIntensity": _quantile(objects, ordered, 0.25),
        "MedianIntensity": middle,
        "UpperQuartileIntensity": _quantile(objects, ordered, 0.75),
        "MADIntensity": _quantile(objects, apart, 0.5),
        "MassDisplacement": np.hypot(
            *(a - b for a, b in zip(
                _mass_centres(objects, values), objects.centres, strict=True
            ))
        ),
    }  # fmt: skip
    found |= _described(objects, values, objects.values(edge), "Edge")
    return {f"Intensity_{name}_{channel}": column for name, column in found.items()}


def location(objects: Objects, image: NDArray[Any], channel: str) -> Columns:
    """Find the centre of mass and the brightest pixel (the first of equals), px."""
    values = objects.values(image)
    mass_y, mass_x = _mass_centres(objects, values)
    top = objects.largest(values)
    y, x = (place[top].astype(np.float64) for place in objects.places)
    return {
        f"Location_CenterMassIntensity_X_{channel}": mass_x,
        f"Location_CenterMassIntensity_Y_{channel}": mass_y,
        f"Location_MaxIntensity_X_{channel}": x,
        f"Location_MaxIntensity_Y_{channel}": y,
    }


def centres(objects: Objects) -> Columns:
    """Return the centres of the objects, px."""
    y, x = objects.centres
    return {"Location_Center_X": x, "Location_Center_Y": y}


def _described(
    objects: Objects, values: Floats, chosen: NDArray[np.bool_], suffix: str
) -> Columns:
    """Describe some pixels of each object; NaN where it has none of them."""
    owner, values, n = objects.owner[chosen], values[chosen], len(objects)
    count = np.bincount(owner, minlength=n)
    total = np.bincount(owner, values, n)
    mean = ratio(total, count)
    square = np.bincount(owner, (values - mean[owner]) ** 2, n)
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, owner, values)
    np.maximum.at(high, owner, values)
    none = count == 0
    return {
        f"IntegratedIntensity{suffix}": np.where(none, np.nan, total),
        f"MeanIntensity{suffix}": mean,
        f"StdIntensity{suffix}": np.sqrt(ratio(square, count)),
        f"MinIntensity{suffix}": np.where(none, np.nan, low),
        f"MaxIntensity{suffix}": np.where(none, np.nan, high),
    }


def _quantile(objects: Objects, ordered: Floats, q: float) -> Floats:
    place = objects.sizes * q
    low = np.minimum(place.astype(np.intp), objects.sizes - 1)
    high = np.minimum(low + 1, objects.sizes - 1)
    first, part = objects.starts[:-1], place - low
    return np.asarray(ordered[first + low] * (1 - part) + ordered[first + high] * part)


def _mass_centres(objects: Objects, values: Floats) -> tuple[Floats, Floats]:
    total = objects.total(values)
    y, x = (ratio(objects.total(p * values), total) for p in objects.places)
    return y, x


def correlation(
    objects: Objects, images: tuple[NDArray[Any], NDArray[Any]], names: tuple[str, str]
) -> Columns:
    """Correlate two channels within each object.

    Pearson's correlation; above 15% of the object's brightest pixel in either channel,
    the coefficients of Manders, the overlap with its two parts K, and the rank-weighted
    colocalisation. Ranks are dense and taken within the object: CellProfiler's manual
    does not say over what, and so no object depends on others. NaN where a channel is
    constant, or where no pixel is stained in both (in CellProfiler some are 0 then).
    """
    a, b = (objects.values(image) for image in images)
    first, second = names
    high = [v >= STAINED * v[objects.largest(v)][objects.owner] for v in (a, b)]
    both = (high[0] & high[1]).astype(np.float64)
    near = both * _alike(objects, a, b)
    own = [objects.total(v * h) for v, h in zip((a, b), high, strict=True)]
    aa, bb, ab = (objects.total(both * v) for v in (a * a, b * b, a * b))
    found = {
        f"Correlation_{first}_{second}": _pearson(objects, a, b),
        f"Overlap_{first}_{second}": ratio(ab, np.sqrt(aa * bb)),
    }
    for v, total, square, (one, other) in (
        (a, own[0], aa, (first, second)), (b, own[1], bb, (second, first)),
    ):  # fmt: skip
        found |= {
            f"K_{one}_{other}": ratio(ab, square),
            f"Manders_{one}_{other}": ratio(objects.total(both * v), total),
            f"RWC_{one}_{other}": ratio(objects.total(near * v), total),
        }
    return {f"Correlation_{name}": column for name, column in found.items()}


def _pearson(objects: Objects, a: Floats, b: Floats) -> Floats:
    a, b = (v - (objects.total(v) / objects.sizes)[objects.owner] for v in (a, b))
    spread = objects.total(a * a) * objects.total(b * b)
    # Equal values leave rounding errors of their mean behind.
    spread[spread < 1e-24 * objects.sizes**2] = 0
    return np.clip(ratio(objects.total(a * b), np.sqrt(spread)), -1, 1)


def _alike(objects: Objects, a: Floats, b: Floats) -> Floats:
    """Weight of each pixel: 1 for the same rank in both, near 0 for opposite ends."""
    ranks = [_dense_ranks(objects, v) for v in (a, b)]
    top = np.zeros(len(objects), np.intp)
    for rank in ranks:
        np.maximum.at(top, objects.owner, rank)
    count = (top + 1)[objects.owner]
    return np.asarray((count - np.abs(ranks[0] - ranks[1])) / count)


def _dense_ranks(objects: Objects, values: Floats) -> NDArray[np.intp]:
    """Rank within each object from 0, equal values alike."""
    order = np.lexsort((values, objects.owner))
    new = np.diff(values[order], prepend=np.nan) != 0
    new[objects.starts[:-1]] = False
    climbed = np.cumsum(new)
    ranks = np.empty(values.size, np.intp)
    ranks[order] = climbed - climbed[objects.starts[:-1]][objects.owner]
    return ranks

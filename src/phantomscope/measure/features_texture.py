"""Texture of objects: co-occurrence of grey values, and granularity."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import skimage
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.measure.features_objects import Columns, Floats, Objects

# As in the pipelines for Cell Painting.
SCALES = (3, 5, 10)
GREY = 256
SUBSAMPLE = 0.5
BACKGROUND_RADIUS = 10
SPECTRUM = 16
# Steps along y and x at distance 1, in CellProfiler's order.
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
HARALICK = (
    "AngularSecondMoment", "Contrast", "Correlation", "Variance",
    "InverseDifferenceMoment", "SumAverage", "SumVariance", "SumEntropy", "Entropy",
    "DifferenceVariance", "DifferenceEntropy", "InfoMeas1", "InfoMeas2",
)  # fmt: skip


def texture(objects: Objects, image: NDArray[Any], channel: str) -> Columns:
    """Measure the thirteen textures of Haralick et al. (1973) in four directions.

    The image is taken as 256 grey values of 0 ... 1, not of its own range. Pairs of
    pixels of the object at a distance of 3, 5 and 10 px count in both orders, those
    with grey value 0 do not. As in CellProfiler, ``DifferenceVariance`` is the variance
    of the probabilities of differences (up to the object's largest grey value), not of
    differences, ``SumVariance`` is that about ``SumAverage`` (Haralick has the sum's
    entropy there, a misprint), entropies are in bits, and an object without a pair in
    some direction has no texture (NaN) at this distance.
    """
    grey = np.rint(np.clip(image, 0, 1) * (GREY - 1)).astype(np.int64)
    found: Columns = {}
    for scale in SCALES:
        values = np.empty((len(objects), len(DIRECTIONS), len(HARALICK)))
        _textures(
            grey, objects.labels, objects.pixels, objects.starts,
            scale * np.array(DIRECTIONS), values,
        )  # fmt: skip
        values[np.isnan(values).any(axis=(1, 2))] = np.nan
        for d in range(len(DIRECTIONS)):
            for k, name in enumerate(HARALICK):
                key = f"Texture_{name}_{channel}_{scale}_{d:02d}_{GREY}"
                found[key] = values[:, d, k]
    return found


@numba.njit(cache=True, nogil=True)
def _textures(grey, labels, pixels, starts, steps, out):  # type: ignore[no-untyped-def]
    """Fill out (object, direction, feature)."""
    height, width = labels.shape
    table = np.zeros((256, 256))
    for i in range(len(starts) - 1):
        own = pixels[starts[i] : starts[i + 1]]
        low, high = 255, 0
        for p in own:
            value = grey[p // width, p % width]
            high = max(high, value)
            if value > 0:
                low = min(low, value)
        for d in range(len(steps)):
            count = 0
            for p in own:
                y, x = p // width, p % width
                v, u = y + steps[d, 0], x + steps[d, 1]
                if v < 0 or v >= height or u < 0 or u >= width:
                    continue
                a, b = grey[y, x], grey[v, u]
                if labels[v, u] == i + 1 and a > 0 and b > 0:
                    table[a, b] += 1
                    table[b, a] += 1
                    count += 2
            if count == 0:
                out[i, d] = np.nan
                continue
            part = table[low : high + 1, low : high + 1]
            part /= count
            _haralick(part, low, high + 1, out[i, d])
            part[:] = 0


@numba.njit(cache=True, nogil=True)
def _haralick(p, low, length, out):  # type: ignore[no-untyped-def]
    """Describe a symmetric table of probabilities of grey values from `low` on."""
    n = len(p)
    single, plus, minus = np.zeros(n), np.zeros(2 * n), np.zeros(length)
    moment = inverse = product = entropy = 0.0
    for a in range(n):
        for b in range(n):
            q = p[a, b]
            if q > 0:
                single[a] += q
                plus[a + b] += q
                minus[abs(a - b)] += q
                moment += q * q
                inverse += q / (1 + (a - b) ** 2)
                product += q * (a + low) * (b + low)
                entropy -= q * np.log2(q)
    grey = np.arange(n) + low
    mean = (single * grey).sum()
    # The mean is taken off first, so that equal values have no variance.
    variance = (single * (grey - mean) ** 2).sum()
    sums = np.arange(2 * n) + 2 * low
    own = _entropy(single)
    out[0] = moment
    out[1] = (minus * np.arange(length) ** 2).sum()
    out[2] = (product - mean * mean) / variance if variance > 1e-12 else 1.0
    out[3] = variance
    out[4] = inverse
    out[5] = (plus * sums).sum()
    out[6] = (plus * (sums - out[5]) ** 2).sum()
    out[7] = _entropy(plus)
    out[8] = entropy
    out[9] = minus.var()
    out[10] = _entropy(minus)
    # The table is symmetric: both marginals are the same, and both cross entropies.
    out[11] = (entropy - 2 * own) / own if own > 0 else 0.0
    out[12] = np.sqrt(max(0.0, 1 - np.exp(-2 * (2 * own - entropy))))


@numba.njit(cache=True, nogil=True)
def _entropy(p):  # type: ignore[no-untyped-def]
    total = 0.0
    for q in p:
        if q > 0:
            total -= q * np.log2(q)
    return total


def granularity(objects: Objects, image: NDArray[Any], channel: str) -> Columns:
    """Measure the granular spectrum: what openings by reconstruction take away.

    The image is halved, and its background (an opening by a disc of radius 10 on every
    other pixel) subtracted. Step k opens with a diamond of radius k and reconstructs
    what is left under the image. ``Granularity_k`` is by how much this lowers the mean
    of the object, in percent of its mean in the image as it was. Thus, as in
    CellProfiler, the first value has the background in it, too.
    """
    small, grid = _subtracted(image), objects.places
    scale = [
        (new - 1) / max(old - 1, 1)
        for new, old in zip(small.shape, image.shape, strict=True)
    ]
    at = np.stack([p * s for p, s in zip(grid, scale, strict=True)])
    before = objects.total(objects.values(image)) / objects.sizes
    whole, found = np.maximum(before, np.finfo(float).eps), {}
    eroded, cross = small, ndimage.generate_binary_structure(2, 1)
    for k in range(1, SPECTRUM + 1):
        eroded = ndimage.grey_erosion(eroded, footprint=cross, mode="reflect")
        left = eroded.copy()
        _reconstruct(left, small)
        values = ndimage.map_coordinates(left, at, order=1, mode="nearest")
        after = objects.total(values) / objects.sizes
        found[f"Granularity_{k}_{channel}"] = (before - after) * 100 / whole
        before = after
    return found


def _subtracted(image: NDArray[Any]) -> Floats:
    """Halve an image and subtract its background."""
    small = _sampled(np.asarray(image, np.float64), SUBSAMPLE)
    back = _sampled(small, SUBSAMPLE)
    disc = skimage.morphology.disk(BACKGROUND_RADIUS)
    # The border mirrors, which adds nothing to what a disc already sees.
    back = ndimage.grey_erosion(back, footprint=disc, mode="reflect")
    back = ndimage.grey_dilation(back, footprint=disc, mode="reflect")
    at = np.meshgrid(
        *(np.linspace(0, b - 1, s)
          for s, b in zip(small.shape, back.shape, strict=True)),
        indexing="ij",
    )  # fmt: skip
    wide = ndimage.map_coordinates(back, at, order=1, mode="nearest")
    return np.asarray(np.maximum(small - wide, 0))


def _sampled(image: Floats, part: float) -> Floats:
    shape = [max(1, int(side * part)) for side in image.shape]
    at = np.meshgrid(*(np.arange(side) / part for side in shape), indexing="ij")
    return np.asarray(ndimage.map_coordinates(image, at, order=1, mode="nearest"))


@numba.njit(cache=True, nogil=True)
def _reconstruct(left, limit):  # type: ignore[no-untyped-def]
    """Grow `left` under `limit`, over four neighbours, to where it stays.

    Sweeps there and back until nothing changes (Vincent 1993, sequential).
    """
    height, width = left.shape
    changed = True
    while changed:
        changed = False
        for y in range(height):
            for x in range(width):
                value = left[y, x]
                if y > 0:
                    value = max(value, left[y - 1, x])
                if x > 0:
                    value = max(value, left[y, x - 1])
                value = min(value, limit[y, x])
                if value > left[y, x]:
                    left[y, x] = value
                    changed = True
        for y in range(height - 1, -1, -1):
            for x in range(width - 1, -1, -1):
                value = left[y, x]
                if y < height - 1:
                    value = max(value, left[y + 1, x])
                if x < width - 1:
                    value = max(value, left[y, x + 1])
                value = min(value, limit[y, x])
                if value > left[y, x]:
                    left[y, x] = value
                    changed = True

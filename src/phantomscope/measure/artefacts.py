"""What becomes of artefacts in predicted stains, and spots that may be artefacts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label, perimeter_crofton, regionprops

from phantomscope.measure.translation import shown

Floats = NDArray[np.float64]
# Differences below half a grey value of 0 ... 255 cannot be seen: what lies around an
# artefact is not taken for less when contrasts are divided by it.
UNSEEN = 0.5
# 4 pi area / perimeter^2: 1 of a disc; what is less round than this is no spot.
ROUNDNESS = 0.6
# A background is the median over a window so much wider than the largest artefact.
WINDOW = 2.0


def reappearance(
    clean: NDArray[Any], changed: NDArray[Any], inside: NDArray[np.bool_],
    around: NDArray[np.bool_],
) -> dict[str, float]:  # fmt: skip
    """Tell how much an artefact changes one channel, where it lies and around it.

    Parameters
    ----------
    clean, changed : ndarray, shape (N, Y, X)
        Network values of N predictions without and with the artefact, made with the
        same noise; clipped to -1 ... 1.
    inside, around : ndarray of bool, shape (Y, X)
        Where it lies, and what to compare with.

    Returns
    -------
    dict
        In grey values of 0 ... 255, means over predictions and pixels: ``inside`` and
        ``around``, the absolute change; ``signed``, the change inside minus that
        around: negative where the artefact leaves something dark. NaN where there is
        no pixel around.
    """
    change = shown(changed) - shown(clean)
    size = np.abs(change)
    there = bool(around.any())
    return {
        "inside": float(size[:, inside].mean()),
        "around": float(size[:, around].mean()) if there else math.nan,
        "signed": float(change[:, inside].mean() - change[:, around].mean())
        if there else math.nan,
    }  # fmt: skip


def contrast(inside: float, around: float) -> float:
    """Return how many times larger a change is inside than around.

    0 where nothing changes inside. Around at least `UNSEEN` is taken.
    """
    return inside / max(around, UNSEEN)


def auc(inside: NDArray[Any], outside: NDArray[Any]) -> float:
    """Return the probability that a value inside is larger than one outside.

    Parameters
    ----------
    inside, outside : ndarray
        Values, of any shape.

    Returns
    -------
    float
        The area under the curve of receiver operating characteristics: 1 if all
        values inside are larger, 0.5 if one cannot tell (ties count half). NaN where
        either has none.
    """
    inside, outside = np.ravel(inside), np.sort(np.ravel(outside))
    if not inside.size or not outside.size:
        return math.nan
    below = np.searchsorted(outside, inside, "left")
    not_above = np.searchsorted(outside, inside, "right")
    return float((below + not_above).mean() / 2 / outside.size)


def candidate_spots(
    image: NDArray[Any], pixel: tuple[float, float], sizes: tuple[float, float],
    darker: float,
) -> NDArray[np.int32]:  # fmt: skip
    """Find dark round spots in a brightfield image, which may be artefacts.

    A pixel is dark if it has less than 1 - `darker` of the background, which is the
    median over a window twice as wide as the largest artefact. Pixels that touch are
    one spot; its holes count as its own. A spot counts if its area is that of a disc
    of a diameter within `sizes` and it is nearly round (`ROUNDNESS`).

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Light: 0 where there is none.
    pixel : tuple of float
        Size of a pixel along y and x, um.
    sizes : tuple of float
        Smallest and largest diameter, um.
    darker : float
        Share of the light that is lost at least, in (0, 1).

    Returns
    -------
    ndarray, shape (Y, X)
        Spots, numbered from 1.
    """
    light = np.asarray(image, np.float64)
    dark = light < (1 - darker) * _background(light, pixel, WINDOW * sizes[1])
    spots = label(dark, connectivity=2)
    least, most = (math.pi * diameter**2 / 4 for diameter in sizes)
    kept = np.zeros(int(spots.max()) + 1, np.int32)
    for one in regionprops(spots):
        area = one.area_filled * pixel[0] * pixel[1]
        if not least <= area <= most:
            continue
        around = perimeter_crofton(np.pad(one.image_filled, 1), directions=4)
        if 4 * math.pi * one.area_filled >= ROUNDNESS * around**2:
            kept[one.label] = kept.max() + 1
    found: NDArray[np.int32] = kept[spots]
    return found


def _background(image: Floats, pixel: tuple[float, float], width: float) -> Floats:
    """Return the median over a window of `width` um; from every few pixels only.

    It varies slowly, so a coarse grid of blocks tells it.
    """
    step = [max(1, round(width / 16 / side)) for side in pixel]
    size = [
        max(3, round(width / (side * s))) for side, s in zip(pixel, step, strict=True)
    ]
    coarse = ndimage.median_filter(image[:: step[0], :: step[1]], size, mode="reflect")
    places = np.meshgrid(
        *(np.arange(n) / s for n, s in zip(image.shape, step, strict=True)),
        indexing="ij",
    )  # fmt: skip
    full: Floats = ndimage.map_coordinates(coarse, places, order=1, mode="nearest")
    return full

"""Pairs of a widefield and a super-resolution image: what restoration learns from.

The widefield image is computed (`phantomscope.simulate.optics`), whatever the
super-resolution image is: a drawing, a synthetic or a real one. All go the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.superresolution import Optics
from phantomscope.downstream.common import orientation
from phantomscope.simulate.optics import in_photons, widefield
from phantomscope.simulate.psf import point_spread
from phantomscope.simulate.snr import observed_snr

Float = NDArray[np.float32]
Places = NDArray[np.intp]

# What becomes 0 and 1 of every super-resolution image; those of CSBDeep's patches are
# drawn from 1 to 3 and 99.5 to 99.9.
PERCENTILES = (1.0, 99.9)
# A pair shows structure if the middle half of it has a pixel above this: CSBDeep's
# `no_background_patches` has 0.4 of the 99.9th percentile.
STRUCTURE = 0.4


@dataclass(frozen=True)
class Pair:
    """A widefield image and its truth.

    Attributes
    ----------
    counts : ndarray, shape (Y, X)
        uint16, as a camera gives them.
    target : ndarray, shape (Y, X)
        float32, light of the super-resolution image, see `light_of`.
    photons : float
        Mean photons of the structure in the brightest pixel of what was imaged.
    snr : float
        Signal-to-noise ratio that was measured on the counts.
    """

    counts: NDArray[np.uint16]
    target: Float
    photons: float
    snr: float


def light_of(image: NDArray[Any]) -> Float:
    """Return a super-resolution image as light: the same scale for every source.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Any numeric dtype and range.

    Returns
    -------
    ndarray, shape (Y, X)
        float32, 0 or more; its percentiles 1 and 99.9 become 0 and 1 (of images in
        which structure is rarer than that, the maximum becomes 1). All 0 for a
        constant image.
    """
    values = np.asarray(image, np.float64)
    low, high = np.percentile(values, PERCENTILES)
    high = high if high > low else values.max()
    if not high > low:
        return np.zeros(values.shape, np.float32)
    light: Float = np.maximum((values - low) / (high - low), 0).astype(np.float32)
    return light


def places_of(light: Float, side: int) -> Places:
    """Find where a pair can be cut out: its middle half has structure.

    Parameters
    ----------
    light : ndarray, shape (Y, X)
        What `light_of` returned; no side below `side`.
    side : int
        Side of a pair, px.

    Returns
    -------
    ndarray of int, shape (n, 2)
        First pixels (y, x); none for an image without structure.
    """
    brightest = ndimage.maximum_filter(light, size=max(side // 2, 1), mode="constant")
    first = side // 2
    corners = brightest[
        first : light.shape[0] - side + first + 1,
        first : light.shape[1] - side + first + 1,
    ]
    return np.argwhere(corners > STRUCTURE)


def image_pair(
    light: Float, pixel: float, optics: Optics, rng: np.random.Generator
) -> Pair:
    """Image a whole super-resolution image.

    Parameters
    ----------
    light : ndarray, shape (Y, X)
        What `light_of` returned.
    pixel : float
        Side of its pixel, nm.
    optics : Optics
        From structure to counts, on the same grid.
    rng : Generator
        Source of light, background and noise.
    """
    whole = (slice(None), slice(None))
    return _imaged(light, whole, whole, pixel, optics, rng)


def cut_pair(
    light: Float, corner: tuple[int, int], side: int, turn: int, pixel: float,
    optics: Optics, rng: np.random.Generator,
) -> Pair:  # fmt: skip
    """Image a part of a super-resolution image, with what lies around it.

    Parameters
    ----------
    light, pixel, optics, rng
        See `image_pair`.
    corner : tuple of int
        First pixel (y, x) of the part.
    side : int
        Its side, px.
    turn : int
        Which of the eight flips and quarter turns, 0 to 7.
    """
    reach = len(point_spread(optics, pixel)) // 2
    around = tuple(
        slice(max(first - reach, 0), min(first + side + reach, length))
        for first, length in zip(corner, light.shape, strict=True)
    )
    within = tuple(
        slice(first - part.start, first - part.start + side)
        for first, part in zip(corner, around, strict=True)
    )
    found = _imaged(light, around, within, pixel, optics, rng)
    # A spot is round, so that turning may follow.
    return Pair(
        np.ascontiguousarray(orientation(found.counts, turn)),
        np.ascontiguousarray(orientation(found.target, turn)),
        found.photons,
        found.snr,
    )


def _imaged(
    light: Float, around: tuple[slice, ...], within: tuple[slice, ...], pixel: float,
    optics: Optics, rng: np.random.Generator,
) -> Pair:  # fmt: skip
    part = light[around]
    taken = widefield(part, pixel, optics, rng)
    counts, signal = taken.counts[within], taken.signal[within]
    seen = in_photons(counts, optics)
    snr = observed_snr(seen, signal, taken.background[within])
    return Pair(counts, part[within], taken.photons, snr)

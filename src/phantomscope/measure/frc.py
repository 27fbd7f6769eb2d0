"""Fourier ring correlation: to which detail two images agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks
from phantomscope.measure.spectral import frequency_steps

Floats = NDArray[np.float64]

Taper = Literal["tukey", "hann", "none"]
Rings = Literal["bins", "circles"]

TAPERS: dict[str, Callable[[int], Floats]] = {
    # The share of both flanks together, an eighth of the side each.
    "tukey": lambda side: scipy.signal.windows.tukey(side, 0.25),
    "hann": lambda side: scipy.signal.windows.hann(side, sym=False),
    "none": np.ones,
}
RINGS = ("bins", "circles")
# Pixels along an axis: fewer have no four rings.
LEAST = 8


@dataclass(frozen=True)
class RingCorrelation:
    """Agreement of two images by spatial frequency.

    Attributes
    ----------
    frequency : ndarray of float64, shape (n_rings,)
        Cycles per pixel of rings one step of the transform apart, up to 0.5.
    correlation : ndarray of float64, shape (n_rings,)
        In [-1, 1]; NaN where an image has no power.
    samples : ndarray of float64, shape (n_rings,)
        Independent Fourier coefficients of the ring, both halves counted: fewer than
        it has where images were padded or tapered.
    """

    frequency: Floats
    correlation: Floats
    samples: Floats


def ring_correlation(
    first: ArrayLike,
    second: ArrayLike,
    *,
    taper: Taper = "tukey",
    pad: bool = True,
    rings: Rings = "bins",
) -> RingCorrelation:
    """Correlate two images ring by ring of their Fourier transforms.

    FRC(q) = Re sum F1 conj(F2) / sqrt(sum |F1|^2 sum |F2|^2) over the ring (Saxton &
    Baumeister 1982, J. Microsc. 127:127, eq. 5; van Heel 1987, Ultramicroscopy 21:95).
    The mean is removed, since it would leak through the taper and hide the first rings.

    Parameters
    ----------
    first, second : array_like, shape (y, x)
        Real images of one shape, at least 8 pixels along each axis.
    taper : {"tukey", "hann", "none"}, optional
        Window along each axis, against the jump between opposite borders, which is
        common to both images: an eighth of the side of cosine at each end, as
        NanoJ-SQUIRREL has it; a cosine over the side; or none, for periodic images.
        A window spreads what is common over the rings nearby: a sharp cut-off is found
        2 steps of the transform too far out with "tukey" where signal has 10 times the
        power of noise, 5 steps where it has 100 times; with "hann" about 2 steps.
    pad : bool, optional
        Pad with zeros to squares of the next power of two, as NanoJ-SQUIRREL does:
        rings are narrower, and neither more nor less is known.
    rings : {"bins", "circles"}, optional
        Sums over all coefficients within half a step of the ring; or over pi r points
        of half a circle, interpolated bilinearly, as NanoJ-SQUIRREL does.

    Returns
    -------
    RingCorrelation

    Raises
    ------
    PhantomscopeError
        For images that are too small, not 2D, of unlike shapes, empty, NaN or infinite,
        and for an unknown option.
    """
    a, b = image_pair(first, second)
    known(taper, "taper", tuple(TAPERS))
    known(rings, "rings", RINGS)
    shape = a.shape
    if pad:
        shape = (2 ** math.ceil(math.log2(max(shape))),) * 2
    weight = _weight(a.shape, taper)
    transforms = [
        scipy.fft.rfft2(
            weight * (image - np.sum(weight * image) / weight.sum()), s=shape
        )
        for image in (a, b)
    ]
    sums, count = (_over_bins if rings == "bins" else _over_circles)(
        transforms[0], transforms[1], shape
    )
    power = np.sqrt(sums[1] * sums[2])
    # What is left of a constant image is the rounding of its mean.
    nothing = np.minimum(sums[1] / max(np.square(a).sum(), 1e-300),
                         sums[2] / max(np.square(b).sum(), 1e-300)) < 1e-26  # fmt: skip
    correlation = np.where(nothing, np.nan, sums[0] / np.where(nothing, 1.0, power))
    # The power of the window's own spectrum tells how many pixels' worth it leaves.
    left = np.square(np.square(weight).sum()) / np.sum(weight**4)
    frequency = np.arange(1, len(count) + 1) / max(shape)
    return RingCorrelation(frequency, correlation, count * left / math.prod(shape))


def image_pair(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    """Return two images as float64, or tell why they have no rings to compare."""
    a, b = checks.finite(first, "first", (2,)), checks.finite(second, "second", (2,))
    checks.same_shape(a, b, ("first", "second"))
    if min(a.shape) < LEAST:
        raise PhantomscopeError(
            f"images of {a.shape[0]} x {a.shape[1]} pixels are too small for rings",
            fix=f"give at least {LEAST} pixels along each axis",
        )
    return a, b


def known(value: str, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is none of those allowed."""
    if value not in allowed:
        raise PhantomscopeError(
            f"unknown {name}: {value}", fix=f"use {', '.join(allowed)}",
            example=f"{name}: {allowed[0]}",
        )  # fmt: skip


@lru_cache(maxsize=8)
def _weight(shape: tuple[int, int], taper: str) -> Floats:
    weight = TAPERS[taper](shape[0])[:, None] * TAPERS[taper](shape[1])
    weight.flags.writeable = False
    return weight


def _products(a: NDArray[Any], b: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return the real part of a conj(b), and the squared moduli of both."""
    return (
        a.real * b.real + a.imag * b.imag,
        a.real**2 + a.imag**2,
        b.real**2 + b.imag**2,
    )


@lru_cache(maxsize=8)
def _bins(shape: tuple[int, int]) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return ring and weight of each coefficient of rfft2, and the rings' counts."""
    width = shape[1] // 2 + 1
    step = frequency_steps(shape)[:, :width].ravel()
    # The other half of the plane holds the same, but for the columns of its border.
    twice = np.full(width, 2.0)
    twice[0] = 1
    if shape[1] % 2 == 0:
        twice[-1] = 1
    weight: Floats = np.tile(twice, shape[0])
    count = _ring_sums(step, weight, max(shape) // 2)
    for array in (step, weight, count):
        array.flags.writeable = False
    return step, weight, count


def _over_bins(
    a: NDArray[Any], b: NDArray[Any], shape: tuple[int, int]
) -> tuple[list[Floats], Floats]:
    """Sum the products of half a plane over rings that hold each coefficient once."""
    step, weight, count = _bins(shape)
    sums = [
        _ring_sums(step, weight * product.ravel(), len(count))
        for product in _products(a, b)
    ]
    return sums, count


def _ring_sums(step: NDArray[np.int64], values: Floats, last: int) -> Floats:
    """Sum values by ring; ring 0 and the corners beyond the last one are left out."""
    sums = np.bincount(step, values, last + 1).astype(np.float64)
    return sums[1 : last + 1]


def _over_circles(
    a: NDArray[Any], b: NDArray[Any], shape: tuple[int, int]
) -> tuple[list[Floats], Floats]:
    """Sum the products over points of half circles, interpolated between pixels."""
    longest = max(shape)
    radii = np.arange(1, longest // 2 + 1)
    points = np.ceil(np.pi * radii).astype(np.int64)
    ring = np.repeat(np.arange(len(radii)), points)
    turn = np.concatenate([np.arange(n) / n for n in points]) * np.pi - np.pi / 2
    # Half a turn lies in the half of the plane that is there; its rows wrap.
    y = radii[ring] * np.sin(turn) * shape[0] / longest
    x = radii[ring] * np.cos(turn) * shape[1] / longest
    sums = []
    for product in _products(a, b):
        # One more row and column, since the interpolation does not wrap by itself.
        wide = np.pad(product, ((0, 1), (0, 1)), mode="wrap")
        values = scipy.ndimage.map_coordinates(wide, [y % shape[0], x], order=1)
        sums.append(np.bincount(ring, values).astype(np.float64))
    count: Floats = 2.0 * points
    return sums, count

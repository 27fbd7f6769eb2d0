"""Radially averaged power spectra of images and their distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks

Floats = NDArray[np.float64]


def radial_power_spectrum(
    image: ArrayLike, window: str = "hann"
) -> tuple[Floats, Floats]:
    """Return the power of an image by spatial frequency, averaged over directions.

    The mean is removed, so that frequency 0 is left out. Power is the squared
    modulus of the discrete Fourier transform over the sum of the squared window
    (Welch 1967): white noise of variance v has power v at each frequency.

    Parameters
    ----------
    image : array_like, shape (y, x) or (z, y, x)
        Real numbers; the axes may differ in length, none in pixel size, and the
        longest has at least 4 pixels.
    window : {"hann", "none"}, optional
        Window along each axis. "hann" keeps the jump between opposite borders from
        spreading over all frequencies; "none" suits a periodic image.

    Returns
    -------
    frequency : ndarray of float64, shape (n // 2,)
        k / n cycles per pixel for k = 1, ..., n // 2, n being the longest axis; each
        stands for the frequencies within half a step.
    power : ndarray of float64, shape (n // 2,)
        Mean power at that frequency, in squared intensity units.

    Raises
    ------
    PhantomscopeError
        For a wrong number of axes, a too small image, NaN, or an unknown window.
    """
    values = checks.finite(image, "image", (2, 3))
    longest = max(values.shape)
    if longest < 4:
        raise PhantomscopeError(
            f"an image of shape {values.shape} is too small for a spectrum",
            fix="give at least 4 pixels along one axis",
        )
    weight = _window(values.shape, window)
    # The weighted mean, so that nothing of frequency 0 leaks through the window.
    values = values - np.sum(weight * values) / weight.sum()
    power = np.abs(scipy.fft.fftn(values * weight)) ** 2 / np.sum(weight**2)
    step = frequency_steps(values.shape).ravel()
    count = np.bincount(step)
    total = np.bincount(step, weights=power.ravel())
    kept = np.arange(1, longest // 2 + 1)
    return kept / longest, total[kept] / count[kept]


def frequency_steps(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the rounded frequency of each coefficient of a Fourier transform.

    Parameters
    ----------
    shape : tuple of int
        Of the image.

    Returns
    -------
    ndarray of int64, shape `shape`
        In steps of the longest axis, so that each step holds that axis's own frequency.
    """
    squared = np.zeros(shape)
    for axis, size in enumerate(shape):
        along = [1] * len(shape)
        along[axis] = size
        squared = squared + scipy.fft.fftfreq(size).reshape(along) ** 2
    steps: NDArray[np.int64] = np.rint(np.sqrt(squared) * max(shape)).astype(np.int64)
    return steps


def _window(shape: tuple[int, ...], name: str) -> Floats:
    if name not in ("hann", "none"):
        raise PhantomscopeError(
            f"unknown window: {name}", fix='use "hann" or "none"', example="hann"
        )
    weight = np.ones(shape)
    for axis, size in enumerate(shape):
        # A periodic window of 2 pixels would drop one of them.
        if name == "hann" and size > 2:
            along = [1] * len(shape)
            along[axis] = size
            weight = weight * scipy.signal.windows.hann(size, sym=False).reshape(along)
    return weight


def spectral_distance(
    image_a_list: Sequence[ArrayLike], image_b_list: Sequence[ArrayLike]
) -> float:
    """Return the distance of the power spectra of two sets of images, in decades.

    The mean absolute difference of log10 of the mean radial power of each set, over
    equal steps of frequency that all images resolve. It depends on the intensity
    unit: ten times brighter images differ by 2.

    Parameters
    ----------
    image_a_list, image_b_list : sequence of array_like
        Images of `radial_power_spectrum`, all 2D or all 3D; sizes may differ.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    PhantomscopeError
        For an empty set, a constant image (it has no power, so no logarithm), 2D
        mixed with 3D, and as in `radial_power_spectrum`.
    """
    if not len(image_a_list) or not len(image_b_list):
        raise PhantomscopeError("a set of images is empty", fix="give at least one")
    arrays = [[np.asarray(i) for i in s] for s in (image_a_list, image_b_list)]
    if len({image.ndim for images in arrays for image in images}) > 1:
        raise PhantomscopeError(
            "2D images are compared with 3D ones", fix="compare planes with planes"
        )
    if any(np.all(i == i.flat[0]) for images in arrays for i in images if i.size):
        raise PhantomscopeError(
            "an image is constant, so it has no spectrum", fix="leave it out"
        )
    spectra = [[radial_power_spectrum(i) for i in images] for images in arrays]
    grids = [frequency for found in spectra for frequency, _ in found]
    low, high = max(g[0] for g in grids), min(g[-1] for g in grids)
    grid = np.linspace(low, high, min(g.size for g in grids))
    a, b = (_mean_log_power(found, grid) for found in spectra)
    return float(np.abs(a - b).mean())


def _mean_log_power(spectra: Sequence[tuple[Floats, Floats]], grid: Floats) -> Floats:
    """Return log10 of the mean power on `grid`, interpolated where spectra are even."""
    tiny = np.finfo(np.float64).tiny
    powers = [
        10 ** np.interp(grid, frequency, np.log10(np.maximum(power, tiny)))
        for frequency, power in spectra
    ]
    found: Floats = np.log10(np.maximum(np.mean(powers, axis=0), tiny))
    return found

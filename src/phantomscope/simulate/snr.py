"""Signal-to-noise ratio of an image: its definition, measures and how to set it.

The foreground are the pixels in which the signal is among the brightest tenth. There

    SNR = mean signal / sqrt(mean variance of the noise),

with the signal without background, in photons: of Poisson light with read noise of r
electrons the variance is signal + background + r^2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.errors import PhantomscopeError

Image = NDArray[np.floating[Any]]
SHARE = 0.1


def foreground(signal: Image, share: float = SHARE) -> NDArray[np.bool_]:
    """Return the brightest pixels; a `share` of all (more, where many are equal)."""
    return np.asarray(signal >= np.quantile(signal, 1 - share))


def expected_snr(signal: Image, background: Image | float, read_noise: float) -> float:
    """Return the signal-to-noise ratio that an image is to have.

    Parameters
    ----------
    signal : ndarray, shape (Y, X)
        Expected photons of the structure.
    background : ndarray, shape (Y, X), or float
        Expected photons of the background.
    read_noise : float
        Standard deviation, electrons.

    Returns
    -------
    float
        0 or more; 0 for an image without signal.
    """
    inside = foreground(signal)
    mean = float(signal[inside].mean())
    behind = np.broadcast_to(background, signal.shape)[inside]
    variance = mean + float(behind.mean()) + read_noise**2
    return mean / math.sqrt(variance) if mean > 0 else 0.0


def observed_snr(photons: Image, signal: Image, background: Image | float) -> float:
    """Measure the signal-to-noise ratio of a noisy image whose truth is known.

    Parameters
    ----------
    photons : ndarray, shape (Y, X)
        The image, in photons: (counts - offset) / gain.
    signal, background : ndarray, shape (Y, X), or float
        Expected photons of structure and background.

    Returns
    -------
    float
        Mean of what is above the background by the standard deviation about the
        expected image, both in the foreground.
    """
    inside = foreground(signal)
    above = (photons - background)[inside]
    noise = (photons - signal - background)[inside]
    return float(above.mean() / math.sqrt(np.mean(noise**2)))


def estimated_snr(image: Image) -> float:
    """Estimate the signal-to-noise ratio of an image whose truth is not known.

    For widefield images, which are smooth over neighbouring pixels: noise is what the
    mask of Immerkaer (CVIU 64, 300, 1996) leaves, in the foreground of the smoothed
    image; the background is the median of the darker half.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Any unit and offset.

    Returns
    -------
    float
        0 or more. Of images with most pixels bright, the background is not seen and
        the ratio is too low.
    """
    values = np.asarray(image, float)
    mask = np.array([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6.0
    noise = ndimage.convolve(values, mask, mode="mirror")
    smooth = ndimage.gaussian_filter(values, 1.5)
    inside = foreground(smooth)
    dark = float(np.median(values[smooth <= np.median(smooth)]))
    sd = math.sqrt(float(np.mean(noise[inside] ** 2)))
    return max(0.0, float(smooth[inside].mean()) - dark) / sd if sd > 0 else math.inf


def scale_for_snr(
    signal: Image, background: float, uneven: Image | float, read_noise: float,
    target: float,
) -> float:  # fmt: skip
    """Return the factor of the light with which an image has a signal-to-noise ratio.

    With k the factor, s and u the means of signal and uneven background in the
    foreground and c = background + read_noise^2, k s / sqrt(k (s + u) + c) is the
    target for the larger root of a quadratic equation.

    Parameters
    ----------
    signal : ndarray, shape (Y, X)
        Light of the structure, any unit; not 0 everywhere.
    background : float
        Photons that do not change with the light.
    uneven : ndarray, shape (Y, X), or float
        Background in the unit of `signal`, which changes with it.
    read_noise : float
        Standard deviation, electrons.
    target : float
        Signal-to-noise ratio, above 0.

    Returns
    -------
    float
        Photons per unit of `signal`.

    Raises
    ------
    PhantomscopeError
        If the image is dark, so that no light gives it a signal.
    """
    inside = foreground(signal)
    s = float(signal[inside].mean())
    u = float(np.broadcast_to(uneven, signal.shape)[inside].mean())
    if s <= 0:
        raise PhantomscopeError(
            "an image without structure has no signal-to-noise ratio",
            where="snr",
            fix="leave out empty images, or state `photons` in place of `snr`",
        )
    square = target**2
    half = square * (s + u)
    root = math.sqrt(half**2 + 4 * s**2 * square * (background + read_noise**2))
    return (half + root) / (2 * s**2)

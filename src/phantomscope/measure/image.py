"""Differences between an image and the truth, pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import skimage
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks

Floats = NDArray[np.float64]

Window = Literal["gaussian", "uniform"]
# Pixels of the window of SSIM along each axis.
WINDOWS = {"gaussian": 11, "uniform": 7}


def _pair(truth: ArrayLike, image: ArrayLike) -> tuple[Floats, Floats]:
    a, b = checks.finite(truth, "truth"), checks.finite(image, "image")
    checks.same_shape(a, b, ("truth", "image"))
    return a, b


def _check_range(data_range: float) -> None:
    if not 0 < data_range < float("inf"):
        raise PhantomscopeError(
            f"data_range is {data_range}",
            fix="give the span of possible intensities, such as 65535 for uint16",
            example="psnr(truth, image, data_range=1.0)",
        )


def mae(truth: ArrayLike, image: ArrayLike) -> float:
    """Return the mean absolute error in intensity units.

    Parameters
    ----------
    truth, image : array_like
        Real images of one shape, any number of axes, any real dtype.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    PhantomscopeError
        For different shapes, or empty, NaN or infinite images.
    """
    a, b = _pair(truth, image)
    return float(np.abs(a - b).mean())


def mse(truth: ArrayLike, image: ArrayLike) -> float:
    """Return the mean squared error in squared intensity units; otherwise as `mae`."""
    a, b = _pair(truth, image)
    return float(np.square(a - b).mean())


def psnr(truth: ArrayLike, image: ArrayLike, data_range: float) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(data_range^2 / mse).

    Parameters
    ----------
    truth, image : array_like
        Real images of one shape, any number of axes, any real dtype.
    data_range : float
        Span of possible intensities. It is required: a guess from the dtype or from
        the image changes the result by many decibels.

    Returns
    -------
    float
        Decibels; infinity for identical images.

    Raises
    ------
    PhantomscopeError
        As for `mae`, and for a data_range that is not positive and finite.
    """
    _check_range(data_range)
    error = mse(truth, image)
    return float(10 * np.log10(data_range**2 / error)) if error else float("inf")


def ssim(
    truth: ArrayLike, image: ArrayLike, data_range: float, window: Window = "gaussian"
) -> float:
    """Return the mean structural similarity.

    K1 = 0.01, K2 = 0.03, as Wang et al. 2004 (IEEE TIP 13:600) have it.

    Parameters
    ----------
    truth, image : array_like
        Real images of one shape, at least as large as the window along each axis.
    data_range : float
        Span of possible intensities, see `psnr`.
    window : {"gaussian", "uniform"}
        Gaussian weights of standard deviation 1.5 pixels over 11 pixels along each
        axis, as Wang et al. have it; or equal weights over 7 pixels and the sample
        covariance, the default of scikit-image.

    Returns
    -------
    float
        In [-1, 1]; 1 for identical images.

    Raises
    ------
    PhantomscopeError
        As for `psnr`, and for images smaller than the window.
    """
    _check_range(data_range)
    a, b = _pair(truth, image)
    side = WINDOWS[window]
    if a.ndim == 0 or min(a.shape) < side:
        raise PhantomscopeError(
            f"images of shape {a.shape} are too small for SSIM",
            fix=f"give at least {side} pixels along each axis",
        )
    how: dict[str, Any] = {"win_size": side}
    if window == "gaussian":
        how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(
        skimage.metrics.structural_similarity(a, b, data_range=data_range, **how)
    )


def affine_match(truth: ArrayLike, image: ArrayLike) -> Floats:
    """Return scale * image + offset with the least squared difference to the truth.

    A restored image has a brightness scale of its own; what is left after this is not
    a matter of brightness (Weigert et al. 2018, Nat. Methods 15:1090, online methods).

    Parameters
    ----------
    truth, image : array_like
        Real images of one shape, any number of axes, any real dtype.

    Returns
    -------
    ndarray of float64
        In the units of the truth; the mean of the truth for a constant image. The scale
        is negative for an image that is darker where the truth is brighter.

    Raises
    ------
    PhantomscopeError
        For different shapes, or empty, NaN or infinite images.
    """
    a, b = _pair(truth, image)
    centred = b - b.mean()
    power = float(np.square(centred).sum())
    # The mean of a constant image is rounded.
    scale = 0.0 if np.ptp(b) == 0 else float((centred * (a - a.mean())).sum()) / power
    matched: Floats = scale * centred + a.mean()
    return matched


@dataclass(frozen=True)
class Accuracy:
    """Agreement of an image with the truth whatever its brightness scale.

    Attributes
    ----------
    psnr : float
        Decibels, with the range of the truth as the peak.
    ssim : float
        In [-1, 1].
    nrmse : float
        Root mean squared error over the range of the truth; at least 0.
    """

    psnr: float
    ssim: float
    nrmse: float


def matched_accuracy(
    truth: ArrayLike, image: ArrayLike, percentiles: tuple[float, float] = (0.1, 99.9)
) -> Accuracy:
    """Compare an image with the truth after `affine_match`.

    The truth is mapped so that its percentiles become 0 and 1, and the image matched to
    it, as Weigert et al. 2018 do it; range and data_range are then 1.

    Parameters
    ----------
    truth, image : array_like
        Real images of one shape, at least 11 pixels along each axis.
    percentiles : tuple of float, optional
        The percentiles of the truth that make its range.

    Returns
    -------
    Accuracy

    Raises
    ------
    PhantomscopeError
        As for `ssim`, and for a truth without a range between these percentiles.
    """
    a, b = _pair(truth, image)
    low, high = np.percentile(a, percentiles)
    if not high > low:
        raise PhantomscopeError(
            f"the truth is {low} at its percentiles {percentiles[0]} and "
            f"{percentiles[1]}: it has no range",
            fix="leave it out, or choose wider percentiles",
            example="matched_accuracy(truth, image, percentiles=(0, 100))",
        )
    unit = (a - low) / (high - low)
    matched = affine_match(unit, b)
    error = math.sqrt(mse(unit, matched))
    return Accuracy(psnr(unit, matched, 1.0), ssim(unit, matched, 1.0), error)


@dataclass(frozen=True)
class Similarity:
    """PSNR in dB, SSIM and mean absolute error of an image against the truth."""

    psnr: float
    ssim: float
    mae: float


def similarity(
    truth: NDArray[Any], image: NDArray[Any], data_range: float = 1.0, rows: int = 32
) -> Similarity:
    """Compare images row by row: memory does not grow with the length.

    What `psnr`, `ssim` (window ``uniform``) and `mae` give up to rounding: the local
    statistics of SSIM reach three rows beyond.

    Parameters
    ----------
    truth, image : ndarray
        Real images of one shape, at least 7 pixels along each axis; anything that
        gives an ndarray when it is sliced along the first axis.
    data_range : float
        Span of possible intensities, see `psnr`.
    rows : int
        Rows of the first axis to look at together.

    Raises
    ------
    PhantomscopeError
        As for `ssim`.
    """
    _check_range(data_range)
    checks.same_shape(truth, image, ("truth", "image"))
    side, count = WINDOWS["uniform"], math.prod(truth.shape)
    absolute = squared = alike = 0.0
    last = truth.shape[0] - side + 1
    if last < 1:
        ssim(truth, image, data_range, "uniform")  # raises
    for first in range(0, truth.shape[0], rows):
        a, b = _pair(truth[first : first + rows], image[first : first + rows])
        absolute += float(np.abs(a - b).sum())
        squared += float(np.square(a - b).sum())
    for first in range(0, last, rows):
        # Windows that begin in these rows; the mean over them is that of whole windows.
        stop = min(first + rows, last)
        part = slice(first, stop + side - 1)
        alike += (stop - first) * ssim(truth[part], image[part], data_range, "uniform")
    error = squared / count
    ratio = 10 * math.log10(data_range**2 / error) if error else math.inf
    return Similarity(ratio, alike / last, absolute / count)

"""Differences between an image and the truth, pixel by pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import structural_similarity

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks

Floats = NDArray[np.float64]

_SSIM_SIDE = 11


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


def ssim(truth: ArrayLike, image: ArrayLike, data_range: float) -> float:
    """Return the mean structural similarity.

    Gaussian weights of standard deviation 1.5 pixels over 11 pixels along each axis,
    K1 = 0.01, K2 = 0.03, as Wang et al. 2004 (IEEE TIP 13:600) have it.

    Parameters
    ----------
    truth, image : array_like
        Real images of one shape, at least 11 pixels along each axis.
    data_range : float
        Span of possible intensities, see `psnr`.

    Returns
    -------
    float
        In [-1, 1]; 1 for identical images.

    Raises
    ------
    PhantomscopeError
        As for `psnr`, and for images with fewer than 11 pixels along an axis.
    """
    _check_range(data_range)
    a, b = _pair(truth, image)
    if a.ndim == 0 or min(a.shape) < _SSIM_SIDE:
        raise PhantomscopeError(
            f"images of shape {a.shape} are too small for SSIM",
            fix=f"give at least {_SSIM_SIDE} pixels along each axis",
        )
    similarity = structural_similarity(
        a,
        b,
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(similarity)

"""The image of a point in focus, integrated over pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from phantomscope.config.superresolution import Optics
from phantomscope.errors import PhantomscopeError

Floats = NDArray[np.float64]
# Standard deviations to which a Gaussian reaches: beyond lie 1e-8 of it.
REACH = 6.0
# Rings of an Airy pattern: beyond the 20th lies 1% of the light, in a halo.
RINGS = 20
# Points per wavelength / aperture by which an Airy pattern is integrated over pixels.
FINE = 30


def gaussian_sigma(wavelength: float, aperture: float) -> float:
    """Return the standard deviation of the Gaussian nearest to an Airy pattern, nm.

    0.21 wavelength / aperture (Zhang, Zerubia & Olivo-Marin, Appl Opt 46, 1819, 2007:
    0.211 for a paraxial widefield microscope).

    Parameters
    ----------
    wavelength : float
        Of the emission, nm.
    aperture : float
        Numerical aperture.
    """
    return 0.21 * wavelength / aperture


def airy(radius: Floats, wavelength: float, aperture: float) -> Floats:
    """Return the Airy pattern: (2 J1(v) / v)^2 with v = 2 pi NA r / wavelength.

    Its integral over the plane is 4 pi (wavelength / (2 pi NA))^2; the share within r
    is 1 - J0(v)^2 - J1(v)^2 (Born & Wolf, Principles of Optics, 8.5).

    Parameters
    ----------
    radius : ndarray
        r, nm.
    wavelength : float
        Of the emission, nm.
    aperture : float
        NA.

    Returns
    -------
    ndarray
        float64, 1 in the middle.
    """
    v = np.maximum(2 * np.pi * aperture / wavelength * np.abs(radius), 1e-8)
    return np.asarray((2 * scipy.special.j1(v) / v) ** 2)


def _integrated(
    value: Callable[[Floats], Floats], half: int, pixel: float, fine: int
) -> Floats:
    """Mean over pixels of a function of the radius (nm), by fine^2 points in each."""
    side = 2 * half + 1
    places = ((np.arange(side * fine) + 0.5) / fine - side / 2) * pixel
    # A quarter tells the rest; with the middle row and column whole.
    places = places[half * fine :]
    values = value(np.hypot(places[:, None], places))
    quarter = values.reshape(half + 1, fine, half + 1, fine).mean(axis=(1, 3))
    below = np.concatenate([quarter[:0:-1], quarter])
    return np.concatenate([below[:, :0:-1], below], axis=1)


def _gaussian(sigma: float, pixel: float) -> Floats:
    half = max(1, math.ceil(REACH * sigma / pixel))
    edges = (np.arange(-half, half + 2) - 0.5) * pixel / (math.sqrt(2) * sigma)
    line = np.diff(scipy.special.erf(edges)) / 2
    return np.outer(line, line)


def _airy(options: Optics, pixel: float) -> Floats:
    # Dark rings are half a wavelength / aperture apart.
    reach = RINGS * options.wavelength / (2 * options.aperture)
    half = max(1, math.ceil(reach / pixel))
    fine = math.ceil(FINE * pixel * options.aperture / options.wavelength)
    return _integrated(
        lambda r: airy(r, options.wavelength, options.aperture), half, pixel, fine
    )


def _gibson_lanni(options: Optics, pixel: float) -> Floats:
    """Ask the library for the model of Gibson & Lanni (JOSA A 9, 154, 1992)."""
    try:
        # None of the project's own: it is under the GPL, and few need it.
        import psfmodels  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise PhantomscopeError(
            "the model of Gibson & Lanni comes from a library that is not installed",
            where="psf",
            fix="install it (licence: GPL-3), or use `psf: airy`",
            example="pip install psfmodels",
        ) from error
    reach = RINGS * options.wavelength / (2 * options.aperture)
    side = 2 * max(1, math.ceil(reach / pixel)) + 1
    # Lengths in um. In focus and at the cover glass, so as the objective is made for.
    found = psfmodels.make_psf(
        [0.0], nx=side, dxy=pixel / 1000, NA=options.aperture,
        wvl=options.wavelength / 1000, model="scalar",
    )  # fmt: skip
    return np.asarray(found, float).reshape(side, side)


@lru_cache(maxsize=8)
def point_spread(options: Optics, pixel: float) -> Floats:
    """Return the image of a point in focus in the middle of a pixel.

    Parameters
    ----------
    options : Optics
        Kind, wavelength, aperture, sigma.
    pixel : float
        Side of a pixel, nm.

    Returns
    -------
    ndarray, shape (n, n)
        float64, n odd, read-only; the light in each pixel, together 1.

    Raises
    ------
    PhantomscopeError
        If `psf: gibson_lanni` is asked for and its library is not installed.
    """
    if options.psf == "gaussian":
        sigma = options.sigma or gaussian_sigma(options.wavelength, options.aperture)
        found = _gaussian(sigma, pixel)
    elif options.psf == "airy":
        found = _airy(options, pixel)
    else:
        found = _gibson_lanni(options, pixel)
    found = np.asarray(found / found.sum())
    # The cached array is everyone's.
    found.setflags(write=False)
    return found


def blurred(image: NDArray[np.floating[Any]], psf: Floats) -> Floats:
    """Convolve an image with a point spread function; the image goes on mirrored.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Light; 0 or more.
    psf : ndarray, shape (n, n)
        n odd; sum 1.

    Returns
    -------
    ndarray, shape (Y, X)
        float64, 0 or more.
    """
    half = len(psf) // 2
    # Mirrored again and again where the point spread function outgrows the image.
    padded = np.pad(np.asarray(image, float), half, mode="symmetric")
    found = scipy.signal.oaconvolve(padded, psf, mode="valid")
    # Rounding of the Fourier transforms leaves values just below 0.
    return np.asarray(np.maximum(found, 0))

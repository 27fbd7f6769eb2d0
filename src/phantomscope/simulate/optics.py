"""From a structure or a super-resolution image to a widefield image.

    counts = offset + gain (Poisson(signal * psf + background) + read noise)

Saguy et al. (2023): I = Poisson(S * H) + G with a Gaussian H, and for training pairs a
background of Perlin noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.superresolution import Optics
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.perlin import perlin
from phantomscope.simulate.psf import blurred, point_spread
from phantomscope.simulate.snr import expected_snr, scale_for_snr

Image = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Widefield:
    """A widefield image and the truth behind it.

    Attributes
    ----------
    counts : ndarray, shape (Y, X)
        uint16, as a camera gives them; saturated at 65535.
    signal, background : ndarray, shape (Y, X)
        float64, expected photons of structure and background.
    photons : float
        Expected photons of the structure in its brightest pixel.
    snr : float
        Expected signal-to-noise ratio (`phantomscope.simulate.snr`).
    pixel : float
        Side of a pixel of the camera, nm.
    """

    counts: NDArray[np.uint16]
    signal: Floats
    background: Floats
    photons: float
    snr: float
    pixel: float


def binned(image: Image, size: int) -> Floats:
    """Add up squares of pixels.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Light per pixel.
    size : int
        Pixels along each side of a square.

    Returns
    -------
    ndarray, shape (Y / size, X / size)
        float64 with the same sum.

    Raises
    ------
    PhantomscopeError
        If the sides are no multiples of the size.
    """
    height, width = image.shape
    if height % size or width % size:
        raise PhantomscopeError(
            f"an image of {height} x {width} px does not divide into squares of {size}",
            where="binning",
            fix="crop the image, or use another `binning`",
        )
    squares = np.asarray(image, float).reshape(
        height // size, size, width // size, size
    )
    return np.asarray(squares.sum(axis=(1, 3)))


def exposed(
    photons: Image, options: Optics, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return what a camera makes of light.

    Parameters
    ----------
    photons : ndarray, shape (Y, X)
        Expected photons, 0 or more; each makes one electron.
    options : Optics
        Read noise, gain, offset.
    rng : Generator
        Source of shot and read noise.

    Returns
    -------
    ndarray, shape (Y, X)
        uint16 counts, rounded, from 0 to 65535.
    """
    # Beyond, numpy's Poisson numbers overflow; every camera is long saturated.
    electrons = rng.poisson(np.minimum(photons, 1e12)).astype(float)
    electrons += options.read_noise * rng.standard_normal(photons.shape)
    counts = np.rint(options.offset + options.gain * electrons)
    return np.clip(counts, 0, 65535).astype(np.uint16)


def in_photons(counts: NDArray[Any], options: Optics) -> Floats:
    """Return counts of a camera as photons, below 0 where it is darker than offset."""
    return np.asarray((np.asarray(counts, float) - options.offset) / options.gain)


def widefield(
    image: Image, pixel: float, options: Optics, rng: np.random.Generator, *,
    snr: float | None = None,
) -> Widefield:  # fmt: skip
    """Image a structure by a widefield microscope.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Light of a structure or a super-resolution image, any unit, 0 or more.
    pixel : float
        Side of its pixel, nm.
    options : Optics
        Point spread function, camera, light (`photons`, or `snr`), background.
    rng : Generator
        Source of the drawn light, the background and the noise.
    snr : float, optional
        Signal-to-noise ratio of this image, in place of `options.snr`: with the same
        list of them, the images of two arms match one by one.

    Returns
    -------
    Widefield
        Counts and truth, on a grid coarser by `options.binning`. An image without
        light gives background alone.

    Raises
    ------
    PhantomscopeError
        If values are negative or not finite, the sides do not divide by
        `options.binning`, the image is empty and gets a ratio, or the library of
        `psf: gibson_lanni` is not installed.
    """
    if not np.isfinite(image).all() or image.min(initial=0) < 0:
        raise PhantomscopeError(
            "light is finite and not negative, but this image has such values",
            where="image",
            fix="give intensities from 0 on, without NaN",
        )
    light = binned(blurred(image, point_spread(options, pixel)), options.binning)
    # In units of the brightest pixel, of which `photons` and `perlin` speak.
    light = light / max(float(light.max()), 1e-300)
    camera = pixel * options.binning
    # All are drawn, so that the background does not depend on what sets the light.
    photons = float(rng.uniform(*options.photons))
    drawn = float(rng.uniform(*(options.snr or (0, 0))))
    amplitude = rng.uniform(*options.perlin)
    noise = perlin(
        light.shape, options.perlin_scale / camera, options.perlin_octaves, rng
    )
    uneven = amplitude * (noise + 1) / 2
    if target := snr or drawn:
        photons = scale_for_snr(
            light, options.background, uneven, options.read_noise, target
        )
    signal, background = photons * light, options.background + photons * uneven
    counts = exposed(signal + background, options, rng)
    ratio = expected_snr(signal, background, options.read_noise)
    return Widefield(counts, signal, background, photons, ratio, camera)


def numbered_widefield(
    image: Image, pixel: float, options: Optics, seed: int, index: int, *,
    snr: float | None = None,
) -> Widefield:  # fmt: skip
    """Image a structure: a pure function of the image and (seed, index).

    Parameters are those of `widefield`, with the experiment's seed and the number of
    the image in place of a generator.
    """
    rng = generator(seed, "widefield", index)
    return widefield(image, pixel, options, rng, snr=snr)

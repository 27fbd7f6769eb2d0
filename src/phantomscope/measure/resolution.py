"""Resolution of images by Fourier ring correlation, beside their accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.frc import (
    LEAST,
    RingCorrelation,
    image_pair,
    known,
    ring_correlation,
)
from phantomscope.measure.image import matched_accuracy

Floats = NDArray[np.float64]

Criterion = Literal["1/7", "half-bit"]

CRITERIA = ("1/7", "half-bit")


@dataclass(frozen=True)
class Resolution:
    """The finest detail that two images share.

    Attributes
    ----------
    pixels : float
        Period in pixels at the first crossing of the threshold; infinity where not
        even the coarsest detail agrees, NaN where none is known.
    nm : float
        The same in nanometres; NaN without a pixel size.
    reason : str
        Why there is no crossing; empty if there is one.
    """

    pixels: float
    nm: float
    reason: str = ""


def threshold(found: RingCorrelation, criterion: Criterion = "1/7") -> Floats:
    """Return the correlation that counts as agreement, ring by ring.

    Parameters
    ----------
    found : RingCorrelation
        The rings.
    criterion : {"1/7", "half-bit"}, optional
        1/7 (Rosenthal & Henderson 2003, J. Mol. Biol. 333:721; Nieuwenhuizen et al.
        2013, Nat. Methods 10:557). Or the correlation at which each coefficient
        carries half a bit, (0.2071 + 1.9102 / sqrt(n)) / (1.2071 + 0.9102 / sqrt(n))
        with n independent coefficients (van Heel & Schatz 2005, J. Struct. Biol.
        151:250, eq. 17).

    Returns
    -------
    ndarray of float64, shape (n_rings,)

    Raises
    ------
    PhantomscopeError
        For an unknown criterion.
    """
    known(criterion, "criterion", CRITERIA)
    if criterion == "1/7":
        return np.full(len(found.frequency), 1 / 7)
    part = 1 / np.sqrt(found.samples)
    limit: Floats = (0.2071 + 1.9102 * part) / (1.2071 + 0.9102 * part)
    return limit


def resolution(
    found: RingCorrelation,
    *,
    criterion: Criterion = "1/7",
    pixel_size_nm: float | None = None,
    least: float = 30,
) -> Resolution:
    """Return the period at which the correlation first falls below the threshold.

    Between the last ring above and the first one below, both curves are taken as
    straight lines. The innermost rings have so few coefficients that their correlation
    may dip by chance, so they end the curve only if it does not rise again.

    Parameters
    ----------
    found : RingCorrelation
        The rings.
    criterion : {"1/7", "half-bit"}, optional
        See `threshold`.
    pixel_size_nm : float, optional
        Side of a pixel in nanometres.
    least : float, optional
        Dips of rings with fewer independent coefficients are passed over; 0 takes the
        first crossing whatever its ring, as NanoJ-SQUIRREL does.

    Returns
    -------
    Resolution
        Infinity where the first ring is below; NaN where none is, as the images then
        agree in more than their pixels can show, and where one has no power.

    Raises
    ------
    PhantomscopeError
        For a pixel size that is not positive and finite, or an unknown criterion.
    """
    if pixel_size_nm is not None and not 0 < pixel_size_nm < math.inf:
        raise PhantomscopeError(
            f"the pixel size is {pixel_size_nm} nm", fix="give a positive number",
            example="pixel_size_nm: 27",
        )  # fmt: skip
    above = found.correlation - threshold(found, criterion)
    scale = math.nan if pixel_size_nm is None else pixel_size_nm
    below = np.flatnonzero(~(above >= 0))
    trusted = int(np.searchsorted(found.samples, least))
    if trusted < len(above) and above[trusted] >= 0:
        below = below[below > trusted]
    if not below.size:
        return Resolution(
            math.nan, math.nan,
            "the correlation stays above the threshold: finer than 2 pixels",
        )  # fmt: skip
    ring = int(below[0])
    if np.isnan(above[ring]):
        return Resolution(math.nan, math.nan, "an image has no power in a ring")
    if ring == 0:
        return Resolution(
            math.inf, math.inf * scale,
            "the correlation is below the threshold from the first ring on",
        )  # fmt: skip
    share = above[ring - 1] / (above[ring - 1] - above[ring])
    low, high = found.frequency[ring - 1 : ring + 1]
    pixels = float(1 / (low + share * (high - low)))
    return Resolution(pixels, pixels * scale)


@dataclass(frozen=True)
class ResolutionMap:
    """Local resolution.

    Attributes
    ----------
    pixels : ndarray of float64, shape (n_y, n_x)
        `Resolution.pixels` of each tile.
    mean, sd, min : float
        Over the tiles with a crossing, in pixels; NaN without any. The deviation is
        that of a sample.
    known : int
        Number of these tiles.
    """

    pixels: Floats
    mean: float
    sd: float
    min: float
    known: int


def resolution_map(
    first: ArrayLike,
    second: ArrayLike,
    *,
    tiles: int = 10,
    criterion: Criterion = "1/7",
    least: float = 30,
    **options: Any,
) -> ResolutionMap:
    """Return the resolution of each tile of a pair of images.

    A tile of n pixels has n / 2 rings, and its first ones few coefficients: tiles of
    fewer than 64 pixels tell little but where there is something to resolve.

    Parameters
    ----------
    first, second : array_like, shape (y, x)
        Real images of one shape.
    tiles : int, optional
        Number of equal tiles along each axis; what is left over at the ends is not
        used. NanoJ-SQUIRREL has 10.
    criterion, least
        See `resolution`.
    **options
        Of `ring_correlation`.

    Returns
    -------
    ResolutionMap

    Raises
    ------
    PhantomscopeError
        For tiles of fewer than 8 pixels, and as for `ring_correlation`.
    """
    a, b = image_pair(first, second)
    height, width = (side // max(tiles, 1) for side in a.shape)
    if tiles < 1 or min(height, width) < LEAST:
        raise PhantomscopeError(
            f"{tiles} x {tiles} tiles of images of {a.shape[0]} x {a.shape[1]} pixels",
            fix=f"choose 1 to {min(a.shape) // LEAST} tiles: each needs {LEAST} "
            "pixels along each axis",
        )
    pixels = np.empty((tiles, tiles))
    for y, x in np.ndindex(tiles, tiles):
        part = np.s_[y * height : (y + 1) * height, x * width : (x + 1) * width]
        found = ring_correlation(a[part], b[part], **options)
        pixels[y, x] = resolution(found, criterion=criterion, least=least).pixels
    crossed = pixels[np.isfinite(pixels)]
    if not crossed.size:
        return ResolutionMap(pixels, math.nan, math.nan, math.nan, 0)
    sd = float(crossed.std(ddof=1)) if crossed.size > 1 else math.nan
    return ResolutionMap(
        pixels, float(crossed.mean()), sd, float(crossed.min()), crossed.size
    )


def resolution_row(
    truth: ArrayLike,
    image: ArrayLike,
    *,
    pixel_size_nm: float | None = None,
    criterion: Criterion = "1/7",
    least: float = 30,
    **options: Any,
) -> dict[str, float | str]:
    """Return the resolution of an image against the truth beside its accuracy.

    Rings look at each frequency by itself: an image whose frequencies are weighted
    wrongly, or that is mirrored in brightness between them, has the resolution of a
    good one. So neither is read alone.

    Parameters
    ----------
    truth, image : array_like, shape (y, x)
        Real images of one shape, at least 11 pixels along each axis.
    pixel_size_nm, criterion, least
        See `resolution`.
    **options
        Of `ring_correlation`.

    Returns
    -------
    dict
        ``frc_px``, ``frc_nm``, ``frc_reason``, and ``psnr`` in dB, ``ssim`` and
        ``nrmse`` of `matched_accuracy`.

    Raises
    ------
    PhantomscopeError
        As for `ring_correlation`, `resolution` and `matched_accuracy`.
    """
    rings = ring_correlation(truth, image, **options)
    found = resolution(
        rings, criterion=criterion, pixel_size_nm=pixel_size_nm, least=least
    )
    accuracy = matched_accuracy(truth, image)
    return {
        "frc_px": found.pixels, "frc_nm": found.nm, "frc_reason": found.reason,
        "psnr": accuracy.psnr, "ssim": accuracy.ssim, "nrmse": accuracy.nrmse,
    }  # fmt: skip

"""All that is measured of a restored image: resolution, its map, accuracy, rings."""

from __future__ import annotations

import pandas as pd
from numpy.typing import ArrayLike

from phantomscope.measure.frc import LEAST, image_pair, ring_correlation
from phantomscope.measure.resolution import (
    resolution,
    resolution_map,
    resolution_row,
    threshold,
)

# Blocks of a map along each axis (Saguy et al.).
BLOCKS = 10


def restoration_row(
    truth: ArrayLike, image: ArrayLike, pixel_nm: float
) -> dict[str, float | int | str]:
    """Compare an image with the truth.

    Parameters
    ----------
    truth, image : array_like, shape (y, x)
        Real images of one shape, at least 11 pixels along each axis; any scale of
        brightness.
    pixel_nm : float
        Side of a pixel, nm.

    Returns
    -------
    dict
        ``frc_nm`` (criterion 1/7) and ``frc_half_bit_nm``, each with a reason
        (``frc_reason``, ``frc_half_bit_reason``) where there is no crossing: NaN if
        the images agree to beyond two pixels, infinity if they agree nowhere. Of the
        map of ``frc_map_blocks`` x ``frc_map_blocks`` blocks (10, or as many as an
        image under 80 pixels has room for) the ``frc_map_mean_nm``,
        ``frc_map_sd_nm`` and ``frc_map_min_nm`` over the ``frc_map_known`` blocks
        with a crossing. ``psnr`` in dB, ``ssim`` and ``nrmse`` after the affine match
        of `matched_accuracy`.

    Raises
    ------
    PhantomscopeError
        As for `resolution_row`.
    """
    both = resolution_row(truth, image, pixel_size_nm=pixel_nm)
    rings = ring_correlation(truth, image)
    half_bit = resolution(rings, criterion="half-bit", pixel_size_nm=pixel_nm)
    blocks = min(BLOCKS, min(image_pair(truth, image)[0].shape) // LEAST)
    local = resolution_map(truth, image, tiles=blocks)
    return {
        "frc_nm": both["frc_nm"],
        "frc_reason": both["frc_reason"],
        "frc_half_bit_nm": half_bit.nm,
        "frc_half_bit_reason": half_bit.reason,
        "frc_map_mean_nm": local.mean * pixel_nm,
        "frc_map_sd_nm": local.sd * pixel_nm,
        "frc_map_min_nm": local.min * pixel_nm,
        "frc_map_known": local.known,
        "frc_map_blocks": blocks,
        **{name: both[name] for name in ("psnr", "ssim", "nrmse")},
    }


def ring_rows(truth: ArrayLike, image: ArrayLike, pixel_nm: float) -> pd.DataFrame:
    """Return the correlation ring by ring.

    Parameters are those of `restoration_row`.

    Returns
    -------
    DataFrame
        ``frequency`` in cycles per um, ``correlation``, and ``half_bit``, the
        correlation that the half-bit criterion asks for.
    """
    rings = ring_correlation(truth, image)
    return pd.DataFrame({
        "frequency": rings.frequency / pixel_nm * 1000,
        "correlation": rings.correlation,
        "half_bit": threshold(rings, "half-bit"),
    })  # fmt: skip

"""Size and shape of labelled objects, in images and in volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage import measure

Labels = NDArray[np.integer[Any]]


def image_shapes(labels: Labels) -> pd.DataFrame:
    """Measure size and shape of the objects of an image.

    Parameters
    ----------
    labels : ndarray, shape (Y, X)
        Instance labels.

    Returns
    -------
    pandas.DataFrame
        label, area (px), solidity, radius (px, of the circle of that area),
        elongation (major by minor axis).
    """
    names = ("label", "area", "axis_major_length", "axis_minor_length", "solidity")
    table = pd.DataFrame(measure.regionprops_table(labels, properties=names))
    table["radius"] = np.sqrt(table["area"] / np.pi)
    minor = table["axis_minor_length"].clip(lower=1.0)
    table["elongation"] = (table["axis_major_length"] / minor).clip(lower=1.0)
    return table.drop(columns=["axis_major_length", "axis_minor_length"])


def volume_shapes(labels: Labels, spacing: tuple[float, float, float]) -> pd.DataFrame:
    """Measure size and shape of the objects of a volume, by their second moments.

    A solid ellipsoid has a variance of a fifth of its squared semi-axis along each
    axis.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Instance labels.
    spacing : tuple of float
        Voxel along z, y and x.

    Returns
    -------
    pandas.DataFrame
        label, area (voxels), solidity (volume by that of the ellipsoid of the same
        moments, at most 1), radius (of the ball of that volume), elongation (major by
        minor axis in the plane), axial (extent along z by that in the plane).
    """
    places = np.nonzero(labels)
    found, which = np.unique(labels[places], return_inverse=True)
    count = np.bincount(which).astype(float)
    spaced = [p * s for p, s in zip(places, spacing, strict=True)]
    mean = [np.bincount(which, p) / np.maximum(count, 1) for p in spaced]
    away = [p - m[which] for p, m in zip(spaced, mean, strict=True)]

    def moment(a: int, b: int) -> NDArray[np.float64]:
        found = np.bincount(which, away[a] * away[b]) / np.maximum(count, 1)
        # A voxel is no point.
        return np.asarray(found + (spacing[a] ** 2 / 12 if a == b else 0.0))

    zz, yy, xx, yx = moment(0, 0), moment(1, 1), moment(2, 2), moment(1, 2)
    half, root = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    major, minor = half + root, np.maximum(half - root, 1 / 12)
    full = np.stack(
        [np.stack([moment(a, b) for b in range(3)], axis=-1) for a in range(3)], axis=-2
    )
    ellipsoid = 4 / 3 * np.pi * np.sqrt(np.abs(np.linalg.det(5 * full)))
    volume = count * np.prod(spacing)
    return pd.DataFrame(
        {
            "label": found,
            "area": count.astype(int),
            "solidity": np.minimum(volume / np.maximum(ellipsoid, 1e-9), 1.0),
            "radius": np.cbrt(3 * volume / (4 * np.pi)),
            "elongation": np.sqrt(major / minor),
            "axial": np.sqrt(zz / np.sqrt(major * minor)),
        }
    )

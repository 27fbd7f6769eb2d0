"""Voxel sizes of image sets: the one place that knows where they are recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from phantomscope.images.imageset import ImageSet

# One size in um per axis, ([z,] y, x); None where it is not known.
VoxelSize = tuple[float | None, ...]


def row_voxel_size(row: Mapping[Any, Any]) -> VoxelSize:
    """Return the voxel size of an image from its row of a manifest.

    Parameters
    ----------
    row : Mapping
        Holds `axes` and `pixel_size`, which is the size in y and x. The distance of
        planes is recorded nowhere yet, so that of a volume is None.

    Returns
    -------
    tuple of float or None
        ([z,] y, x) in um.
    """
    value = pd.to_numeric(row["pixel_size"], errors="coerce")
    known = pd.notna(value) and math.isfinite(value) and value > 0
    side = float(value) if known else None
    return (None, side, side) if row["axes"] == "ZYX" else (side, side)


def voxel_size(images: ImageSet, fallback: ImageSet | None = None) -> VoxelSize:
    """Return the voxel size of all images of a set, ([z,] y, x) in um.

    Parameters
    ----------
    images : ImageSet
        The set. An axis on which its images differ is None.
    fallback : ImageSet, optional
        A set of the same kind of images, such as the real ones, for the axes that
        this one does not know.
    """
    if not len(images):
        return ()
    rows = images.table[["axes", "pixel_size"]].drop_duplicates().to_dict("records")
    sizes = {row_voxel_size(row) for row in rows}
    agreed = tuple(
        axis.pop() if len(axis := set(values)) == 1 else None
        for values in zip(*sizes, strict=False)
    )
    if fallback is None or None not in agreed:
        return agreed
    others = voxel_size(fallback)
    if len(others) != len(agreed):
        return agreed
    return tuple(own or other for own, other in zip(agreed, others, strict=True))


def aspect(size: Sequence[float | None]) -> float:
    """Return the distance of planes in pixels; 1 where it is not known."""
    if len(size) < 3 or size[0] is None or size[-1] is None:
        return 1.0
    return size[0] / size[-1]

"""Voxel sizes of image sets: the one place that knows where they are recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from phantomscope.images.imageset import ImageSet

# One size in um per axis, ([z,] y, x); None where it is not known.
VoxelSize = tuple[float | None, ...]
COLUMNS = ("axes", "pixel_size", "pixel_size_y", "pixel_size_z")


def row_voxel_size(row: Mapping[Any, Any]) -> VoxelSize:
    """Return the voxel size of an image from its row of a manifest.

    Parameters
    ----------
    row : Mapping
        Holds `axes` and `pixel_size`, which is the size in x, and in y if there is no
        `pixel_size_y`. The distance of planes is `pixel_size_z`.

    Returns
    -------
    tuple of float or None
        ([z,] y, x) in um.
    """
    x = _length(row["pixel_size"])
    y = _length(row.get("pixel_size_y")) or x
    return (_length(row.get("pixel_size_z")), y, x) if row["axes"] == "ZYX" else (y, x)


def _length(cell: Any) -> float | None:
    """Return the number in a cell; None for an empty one."""
    value = pd.to_numeric(cell, errors="coerce")
    return float(value) if pd.notna(value) and 0 < value < math.inf else None


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
    columns = [name for name in COLUMNS if name in images.table]
    rows = images.table[columns].drop_duplicates().to_dict("records")
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

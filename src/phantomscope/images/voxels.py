"""Voxel sizes of whole image sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from phantomscope.images.axes import voxel_size as known_size
from phantomscope.images.imageset import ImageSet

# One size in um per axis, ([z,] y, x); None where it is not known.
VoxelSize = tuple[float | None, ...]


def row_voxel_size(row: Mapping[Any, Any]) -> VoxelSize:
    """Return the voxel size of a manifest row, ([z,] y, x) in um, None if unknown."""
    found = known_size(row)
    if row["axes"] != "ZYX":
        return found or (None, None)
    if found is None:
        return (None, None, None)
    # `known_size` takes a volume of unknown depth for one of cubes.
    deep = pd.to_numeric(row.get("pixel_size_z"), errors="coerce")
    return found if pd.notna(deep) and deep > 0 else (None, *found[1:])


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
    names = ("axes", "pixel_size", "pixel_size_y", "pixel_size_z")
    table = images.table[[name for name in names if name in images.table]]
    rows = table.drop_duplicates().to_dict("records")
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


def anisotropy(size: Sequence[float | None]) -> float | None:
    """Return the size of a voxel along z by that along x; None where it is not known.

    Parameters
    ----------
    size : sequence of float or None
        ([z,] y, x); images have none.
    """
    if len(size) < 3 or size[0] is None or size[-1] is None:
        return None
    return size[0] / size[-1]


def aspect(size: Sequence[float | None]) -> float:
    """Return the distance of planes in pixels; 1 where it is not known."""
    return anisotropy(size) or 1.0

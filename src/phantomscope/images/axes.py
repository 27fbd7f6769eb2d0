"""Axes of an image in memory and in micrometres: their order, their voxel size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError

# One number for all axes, or (z, y, x) in um.
PixelSize = float | Sequence[float]
# Of a volume, beside those of every image.
VOLUME_COLUMNS = ("depth", "pixel_size_z", "pixel_size_y", "annotated_planes")


def to_image(
    array: NDArray[Any], axes: str, channel: int | Sequence[int] | None, path: Path
) -> NDArray[Any]:
    """Return what `axes` and `channel` name as ([Z,] Y, X), or (C, [Z,] Y, X).

    Parameters
    ----------
    array : ndarray
        One axis per letter.
    axes : str
        ``YX`` or ``ZYX`` in any order, with a ``C`` for channels; empty: ``YX``.
    channel : int or sequence of int, optional
        Which channel to take, or which channels, in this order.
    path : Path
        File to name in an error.

    Raises
    ------
    PhantomscopeError
        If the array has another number of axes, or no such channel.
    """
    axes = axes or "YX"
    if array.ndim != len(axes):
        raise _other_axes(array, axes, path)
    space = "ZYX" if "Z" in axes else "YX"
    if "C" in axes:
        position = axes.index("C")
        if channel is None or np.max(channel) >= array.shape[position]:
            raise PhantomscopeError(
                f"`source.channel: {channel}` does not exist: the image has "
                f"{array.shape[position]} channels",
                where=path,
                fix="channels count from 0",
            )
        array = np.take(array, channel, axis=position)
        if isinstance(channel, int):
            axes = axes.replace("C", "")
        else:
            space = f"C{space}"
    order = [axes.index(letter) for letter in space]
    return np.transpose(array, order)


def _other_axes(array: NDArray[Any], axes: str, path: Path) -> PhantomscopeError:
    """Say that an image has other axes than expected, and which it may have."""
    shape = " x ".join(map(str, array.shape))
    if array.ndim == 3 and axes == "YX":
        colour = array.shape[-1] in (3, 4)
        order = "YXC" if array.shape[-1] <= 4 else "CYX"
        return PhantomscopeError(
            f"a grey image (Y, X) is expected, this one is {shape}"
            + (" (RGB?)" if colour else ""),
            where=path,
            fix="name the axes and the channel to use, under `source`"
            + ("" if colour else "; of a volume `axes: ZYX`"),
            example=f"source:\n  axes: {order}\n  channel: 0",
        )
    return PhantomscopeError(
        f"`source.axes: {axes}` does not fit an image of {shape}",
        where=path,
        fix="give one letter per axis of the file"
        if array.ndim <= 3 or (array.ndim == 4 and "Z" in axes)
        else "export single planes (YX) or volumes (ZYX); those with channels have "
        "axes such as CYX and ZCYX",
    )


def per_axis(size: PixelSize | None, dims: int) -> tuple[float, ...] | None:
    """Return the size of a pixel along ([z,] y, x) in um; None if it is unknown.

    Parameters
    ----------
    size : float or (z, y, x), optional
        One number is the size along all axes.
    dims : int
        2 or 3; of an image the z size is left out.
    """
    if size is None:
        return None
    sizes = (size,) * 3 if isinstance(size, (int, float)) else tuple(size)
    return tuple(float(value) for value in sizes[-dims:])


def size_columns(size: PixelSize | None, dims: int) -> dict[str, Any]:
    """Return what the manifest says about the size of a pixel.

    `pixel_size` is that along x, and along y if `pixel_size_y` does not say
    otherwise; volumes of known size have `pixel_size_z`.
    """
    sizes = per_axis(size, dims)
    if sizes is None:
        return {"pixel_size": None, "pixel_unit": ""}
    columns: dict[str, Any] = {"pixel_size": sizes[-1], "pixel_unit": "um"}
    if sizes[-2] != sizes[-1]:
        columns["pixel_size_y"] = sizes[-2]
    if dims == 3:
        columns["pixel_size_z"] = sizes[0]
    return columns


def voxel_size(row: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return the size of a pixel along ([z,] y, x) in um, as a manifest row has it.

    A volume whose row has no size along z is as large along z as along x.
    """
    x = _number(row.get("pixel_size"))
    if x is None:
        return None
    y = _number(row.get("pixel_size_y")) or x
    if row["axes"] != "ZYX":
        return (y, x)
    return (_number(row.get("pixel_size_z")) or x, y, x)


def _number(cell: Any) -> float | None:
    """Return the number in a cell; None for an empty one."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if value > 0 else None  # NaN is no size


def ome_sizes(size: PixelSize | None, axes: str) -> dict[str, Any]:
    """Return the physical sizes as OME metadata, along the axes of an array."""
    axes = axes.removeprefix("C")
    sizes = per_axis(size, len(axes)) or ()
    metadata: dict[str, Any] = {}
    for axis, value in zip(axes, sizes, strict=bool(sizes)):
        metadata |= {f"PhysicalSize{axis}": value, f"PhysicalSize{axis}Unit": "µm"}
    return metadata


def parse_planes(text: str) -> list[int]:
    """Return the planes in a cell such as ``5 9 12``; a `ValueError` for others."""
    planes = [int(part) for part in text.split()]
    if planes != sorted(set(planes)) or min(planes, default=0) < 0:
        raise ValueError(f"{text!r} are not the numbers of planes, in order")
    return planes

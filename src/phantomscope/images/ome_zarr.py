"""OME-Zarr: an image or volume with its labels as a pyramid, written plane by plane.

Version 0.4 of the specification (https://ngff.openmicroscopy.org/0.4), in Zarr 2, is
what most tools read, as the maintainers of ome-zarr-py say (its issue 458). 0.5 is the
same in Zarr 3: napari reads it since ome-zarr-py 0.12 (2025), others only in part.

One group per image, since that is what a viewer opens; plates and wells would claim an
experiment that nobody made. Only axes that the image has are written: the
specification asks for no channel and no time. Chunks are compressed by zlib in Zarr 2,
which every reader has without a library of its own (Blosc needs a native one in Java),
and by Zstandard in Zarr 3, the default there. Neither notes the time, as gzip does: the
same images are the same files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import explain_os_errors
from phantomscope.images.voxels import VoxelSize

if TYPE_CHECKING:
    import zarr

Array = NDArray[Any]
Shape = tuple[int, ...]
Version = Literal["0.4", "0.5"]

LABELS = "objects"
# About two million voxels, 4 MB of uint16: few files, and little read in vain.
CHUNKS: Mapping[int, Shape] = {2: (1024, 1024), 3: (32, 256, 256)}
# A level that fits into this side is the last: it is on the screen at once.
SMALLEST = 256
ZLIB_LEVEL, ZSTD_LEVEL = 5, 3
# So many planes tell the contrast of a volume.
SAMPLED = 16
ZARR_FORMATS: Mapping[str, Literal[2, 3]] = {"0.4": 2, "0.5": 3}


@dataclass(frozen=True)
class Planes:
    """An image that is read plane by plane.

    Attributes
    ----------
    shape : tuple of int
        ([Z,] Y, X).
    dtype : dtype
        Of the planes.
    planes : iterable of ndarray, shape (Y, X)
        Z of them, or one.
    """

    shape: Shape
    dtype: np.dtype[Any]
    planes: Iterable[Array]


def level_factors(shape: Shape, size: Sequence[float | None], most: int) -> list[Shape]:
    """Return by how much each level of a pyramid is smaller, ([z,] y, x).

    From level to level the axes along which voxels are short are halved, until voxels
    are about as long in all directions; from then on all. Axes of unknown voxel size
    count as if voxels were cubes.

    Parameters
    ----------
    shape : tuple of int
        Size of the image, ([Z,] Y, X).
    size : sequence of float or None
        Voxel size, one per axis.
    most : int
        Number of levels at most.

    Returns
    -------
    list of tuple of int
        Powers of two; the first are ones.

    Examples
    --------
    >>> level_factors((30, 1024, 600), (1.0, 0.25, 0.25), 5)
    [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    """
    known = [length for length in size if length is not None]
    spacing = np.array([x or (min(known) if known else 1.0) for x in size])
    factors = [np.ones(len(shape), int)]
    while len(factors) < most:
        now = spacing * factors[-1]
        left = np.ceil(np.array(shape) / factors[-1])
        if left[-2:].max() <= SMALLEST:
            break
        # One plane is as thin as it gets.
        halved = (now < 2 * now[left > 1].min()) & (left > 1)
        factors.append(np.where(halved, 2, 1) * factors[-1])
    return [tuple(int(f) for f in level) for level in factors]


def shrink(block: Array, factors: Sequence[int], *, labels: bool) -> Array:
    """Shrink an array by whole factors; what is left over at an end counts as well.

    Parameters
    ----------
    block : ndarray
        Any real dtype.
    factors : sequence of int
        One per axis.
    labels : bool
        Take the first voxel of each cell, which makes no new labels; else the mean,
        rounded half up for integers.

    Returns
    -------
    ndarray
        Each axis is ceil(length / factor) long; the dtype stays.
    """
    if labels:
        return block[tuple(slice(None, None, f) for f in factors)]
    short = [-length % f for length, f in zip(block.shape, factors, strict=True)]
    padded = np.pad(block, [(0, n) for n in short], "edge") if any(short) else block
    count = int(np.prod(factors))
    integer = block.dtype.kind in "ui"
    # Sums of eight bytes are exact: labels and pixels have four at most.
    total = np.zeros(
        [n // f for n, f in zip(padded.shape, factors, strict=True)],
        np.int64 if integer else np.float64,
    )
    for start in np.ndindex(*factors):
        total += padded[
            tuple(slice(s, None, f) for s, f in zip(start, factors, strict=True))
        ]
    mean = (total + count // 2) // count if integer else total / count
    return mean.astype(block.dtype)


def write_ome_zarr(
    path: Path,
    image: Planes,
    labels: Planes | None = None,
    *,
    name: str,
    voxel_size: VoxelSize,
    objects: Mapping[int, int] | None = None,
    levels: int = 5,
    version: Version = "0.4",
) -> None:
    """Write an image and its labels as one OME-Zarr image, under a temporary name.

    Memory holds the planes of one chunk, or twice as many of the level before.

    Parameters
    ----------
    path : Path
        Ends with ``.ome.zarr``; must not exist.
    image, labels : Planes
        Of one shape. Labels are integers, 0 is the background.
    name : str
        Shown by viewers.
    voxel_size : tuple of float or None
        ([z,] y, x) in um. An axis of unknown size has the scale 1 and no unit.
    objects : Mapping, optional
        Label to number of voxels, kept as properties of the labels.
    levels : int
        Levels of the pyramid at most.
    version : str
        Of the specification.

    Raises
    ------
    PhantomscopeError
        If it cannot be written.
    """
    import zarr

    factors = level_factors(image.shape, voxel_size, levels)
    with _temporary(path) as temporary:
        root = zarr.open_group(temporary, mode="w", zarr_format=ZARR_FORMATS[version])
        limits = _write_levels(root, image, factors, version, labels=False)
        metadata = _multiscales(name, factors, voxel_size, labels=False)
        shown = _rendering(root[str(len(factors) - 1)], name, limits)
        _annotate(root, version, {**metadata, "omero": shown})
        if labels is None:
            return
        parent = root.create_group("labels")
        _annotate(parent, version, {"labels": [LABELS]})
        group = parent.create_group(LABELS)
        _write_levels(group, labels, factors, version, labels=True)
        about = {"source": {"image": "../../"}, "properties": [
            {"label-value": int(label), "voxels": int(count)}
            for label, count in sorted((objects or {}).items())
        ]}  # fmt: skip
        metadata = _multiscales(LABELS, factors, voxel_size, labels=True)
        _annotate(group, version, {**metadata, "image-label": about})


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Give a folder that gets its name only when the block succeeds."""
    temporary = path.with_name(f".{path.name}.partial")
    with explain_os_errors(path):
        shutil.rmtree(temporary, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _array(
    group: zarr.Group, level: int, shape: Shape, dtype: np.dtype[Any], version: Version
) -> Any:
    """Create the empty array of one level."""
    from zarr.codecs import ZstdCodec

    dims = len(shape)
    old = version == "0.4"
    codec: Any = (
        {"id": "zlib", "level": ZLIB_LEVEL} if old else ZstdCodec(level=ZSTD_LEVEL)
    )
    return group.create_array(
        str(level),
        shape=shape,
        dtype=np.dtype(dtype).newbyteorder("<"),
        chunks=tuple(min(n, c) for n, c in zip(shape, CHUNKS[dims], strict=True)),
        compressors=codec,
        filters=None,
        fill_value=0,
        chunk_key_encoding={"name": "v2" if old else "default", "separator": "/"},
        dimension_names=None if old else list("zyx"[-dims:]),
    )


def _write_levels(
    group: zarr.Group, source: Planes, factors: list[Shape], version: Version, *,
    labels: bool,
) -> tuple[float, float]:  # fmt: skip
    """Write the full size from planes, and each level from the one before.

    Returns the range of the values.
    """
    array = _array(group, 0, source.shape, source.dtype, version)
    depth = array.chunks[0] if len(source.shape) == 3 else 1
    low, high = np.inf, -np.inf
    block: list[Array] = []
    first = 0
    for plane in source.planes:
        low, high = min(low, float(plane.min())), max(high, float(plane.max()))
        block.append(plane)
        if len(block) == depth:
            _put(array, first, np.stack(block))
            first, block = first + depth, []
    if block:
        _put(array, first, np.stack(block))
    for level in range(1, len(factors)):
        pairs = zip(factors[level], factors[level - 1], strict=True)
        array = _next_level(
            group, level, array, tuple(a // b for a, b in pairs), version, labels
        )
    return low, high


def _put(array: Any, first: int, block: Array) -> None:
    """Store planes, shape (n, Y, X)."""
    if array.ndim == 2:
        array[:] = block[0]
    else:
        array[first : first + len(block)] = block


def _next_level(
    group: zarr.Group, level: int, above: Any, step: Shape, version: Version,
    labels: bool,
) -> Any:  # fmt: skip
    shape = tuple(-(-n // f) for n, f in zip(above.shape, step, strict=True))
    array = _array(group, level, shape, above.dtype, version)
    if len(shape) == 2:
        array[:] = shrink(above[:], step, labels=labels)
        return array
    depth = array.chunks[0]
    for first in range(0, shape[0], depth):
        stop = min(first + depth, shape[0])
        block = above[first * step[0] : min(stop * step[0], above.shape[0])]
        array[first:stop] = shrink(block, step, labels=labels)
    return array


def _multiscales(
    name: str, factors: list[Shape], size: VoxelSize, *, labels: bool
) -> dict[str, Any]:
    """Describe the axes and the levels.

    The centre of a mean of 2^n voxels lies (2^n - 1) / 2 voxels further on; a label is
    that of the first voxel and stays where it is.
    """
    axes = [
        {"name": axis, "type": "space"} | ({"unit": "micrometer"} if length else {})
        for axis, length in zip("zyx"[-len(size) :], size, strict=True)
    ]
    datasets = []
    for level, factor in enumerate(factors):
        scale = [(x or 1.0) * f for x, f in zip(size, factor, strict=True)]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if level and not labels:
            moved = [
                (x or 1.0) * (f - 1) / 2 for x, f in zip(size, factor, strict=True)
            ]
            steps.append({"type": "translation", "translation": moved})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    how = "nearest" if labels else "mean"
    one = {"name": name, "axes": axes, "datasets": datasets, "type": how}
    return {"multiscales": [one]}


def _rendering(smallest: Any, name: str, limits: tuple[float, float]) -> dict[str, Any]:
    """Choose the contrast that viewers begin with, from some of the smallest level."""
    depth = smallest.shape[0]
    every = range(0, depth, -(-depth // SAMPLED))
    some = [smallest[z] for z in every] if smallest.ndim == 3 else smallest[:]
    start, end = (float(v) for v in np.percentile(np.asarray(some), [0.1, 99.9]))
    window = {"min": limits[0], "max": limits[1], "start": start, "end": end}
    channel = {"label": name, "color": "FFFFFF", "active": True, "window": window}
    return {"channels": [channel], "rdefs": {"model": "greyscale"}}


def _annotate(group: zarr.Group, version: Version, metadata: dict[str, Any]) -> None:
    """Store metadata where this version of the specification has it."""
    if version == "0.5":
        group.attrs.update({"ome": {"version": version, **metadata}})
        return
    for part in ("image-label", "omero"):
        if part in metadata:
            metadata = {**metadata, part: {"version": version, **metadata[part]}}
    if "multiscales" in metadata:
        stated = [{"version": version, **one} for one in metadata["multiscales"]]
        metadata = {**metadata, "multiscales": stated}
    group.attrs.update(metadata)

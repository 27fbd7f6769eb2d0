"""Tiles: cutting an image of any size and dimension, and blending tiles again."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.errors import PhantomscopeError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes
    ----------
    origin : tuple of int
        Global coordinate of its first voxel; negative where it reaches over the edge.
    index : tuple of ndarray
        Per axis, the voxels of the image that fill it; reflected beyond the edge.
    inside : tuple of slice
        The part of the tile that lies in the image.
    target : tuple of slice
        Where that part lies in the image.
    """

    origin: Shape
    index: tuple[NDArray[np.intp], ...]
    inside: tuple[slice, ...]
    target: tuple[slice, ...]


def reflect_index(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Return start..stop-1 reflected into 0..size-1; edges are not repeated."""
    if size == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (size - 1)
    place = np.arange(start, stop) % period
    return np.minimum(place, period - place).astype(np.intp)


def even_tile(size: int, tile: int, overlap: int, multiple: int) -> int:
    """Shrink tiles so that as few as needed cover an axis with nothing to spare.

    Parameters
    ----------
    size : int
        Length of the image along the axis.
    tile, overlap : int
        Largest tile, and its overlap on each side.
    multiple : int
        Tiles are multiples of this (the stride of the network).

    Returns
    -------
    int
        Side of the tiles, at most `tile`.
    """
    count = math.ceil(size / max(tile - 2 * overlap, 1))
    core = math.ceil(size / count / multiple) * multiple
    return min(tile, core + 2 * overlap)


def tile_grid(shape: Shape, tile: Shape, overlap: Shape) -> list[Tile]:
    """Cover an image with tiles that overlap their neighbours by 2 x `overlap`.

    Each tile has a core of `tile` - 2 `overlap`; the cores part the image, starting at
    its first voxel. Origins are therefore multiples of the network's stride whenever
    `tile` and `overlap` are: each voxel is seen at the same phase by any tiling.

    Parameters
    ----------
    shape, tile, overlap : tuple of int
        Sizes along each axis, in voxels.

    Raises
    ------
    PhantomscopeError
        If nothing is left between the overlaps.
    """
    core = tuple(t - 2 * o for t, o in zip(tile, overlap, strict=True))
    if min(core) <= 0:
        raise PhantomscopeError(
            f"tiles of {tile} leave nothing between overlaps of {overlap}",
            where="synthesise.tile",
            fix="make `tile` more than twice `overlap`",
        )
    counts = [math.ceil(s / c) for s, c in zip(shape, core, strict=True)]
    tiles = []
    for position in itertools.product(*map(range, counts)):
        origin = tuple(
            p * c - o for p, c, o in zip(position, core, overlap, strict=True)
        )
        edges = [
            (max(o, 0), min(o + t, s))
            for o, t, s in zip(origin, tile, shape, strict=True)
        ]
        tiles.append(
            Tile(
                origin,
                tuple(
                    reflect_index(o, o + t, s)
                    for o, t, s in zip(origin, tile, shape, strict=True)
                ),
                tuple(
                    slice(a - o, b - o) for (a, b), o in zip(edges, origin, strict=True)
                ),
                tuple(slice(a, b) for a, b in edges),
            )
        )
    return tiles


def _profile(length: int, overlap: int, window: str) -> NDArray[np.float32]:
    """One axis of the window: 1 in the middle, falling over the shared 2 x overlap."""
    if overlap == 0 or window == "uniform":
        weight = np.zeros(length)
        weight[overlap : length - overlap] = 1.0
        return weight.astype(np.float32)
    ramp = np.sin(np.pi / 2 * (np.arange(2 * overlap) + 0.5) / (2 * overlap)) ** 2
    weight = np.ones(length)
    weight[: 2 * overlap] *= ramp
    weight[length - 2 * overlap :] *= ramp[::-1]
    return weight.astype(np.float32)


def tile_window(tile: Shape, overlap: Shape, window: str) -> NDArray[np.float32]:
    """Blending weights of a tile.

    Parameters
    ----------
    tile, overlap : tuple of int
        As in `tile_grid`.
    window : {"cosine", "edt", "uniform"}
        ``cosine``: squared sines that sum to one over neighbours; ``edt``: Euclidean
        distance to the tile's edge (Eschweiler's code); ``uniform``: the core alone.

    Returns
    -------
    ndarray, shape `tile`
        float32; blended values are divided by the sum of the weights.
    """
    if window == "edt":
        box = np.pad(np.ones(tile, bool), 1)
        distance = ndimage.distance_transform_edt(box)[(slice(1, -1),) * len(tile)]
        weights: NDArray[np.float32] = (distance / distance.max()).astype(np.float32)
        return weights
    profiles = [_profile(t, o, window) for t, o in zip(tile, overlap, strict=True)]
    weight: NDArray[np.float32] = functools.reduce(np.multiply.outer, profiles)
    return weight

"""Flows of cells: where each voxel's centre lies, as targets of a network.

A flow points away from the centre of a cell and is 0 in the background, for images and
volumes alike; its component along an axis lies in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.downstream.cellpose_library import cellpose_module
from phantomscope.engine.patches import dihedral

Float = NDArray[np.float32]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ObjectTable:
    """Where the objects of a label image are.

    Attributes
    ----------
    numbers : ndarray of int64, shape (n,)
        Their labels, ascending.
    centres : ndarray of float64, shape (n, dims)
        Means of the coordinates of their voxels.
    first, stop : ndarray of int64, shape (n, dims)
        Their bounding boxes; `stop` is the first voxel behind.
    sizes : ndarray of int64, shape (n,)
        Their voxels.
    """

    numbers: NDArray[np.int64]
    centres: NDArray[np.float64]
    first: NDArray[np.int64]
    stop: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Labels) -> ObjectTable:
        """Measure the objects of a label image of any dimension."""
        boxes = ndimage.find_objects(labels.astype(np.int32, copy=False))
        found = [(n + 1, box) for n, box in enumerate(boxes) if box is not None]
        numbers = np.array([number for number, _ in found], np.int64)
        shape = (len(found), labels.ndim)
        first, stop = np.empty(shape, np.int64), np.empty(shape, np.int64)
        centres, sizes = np.empty(shape), np.empty(len(found), np.int64)
        for k, (number, box) in enumerate(found):
            first[k] = [side.start for side in box]
            stop[k] = [side.stop for side in box]
            inside = np.nonzero(labels[box] == number)
            centres[k] = first[k] + [float(axis.mean()) for axis in inside]
            sizes[k] = inside[0].size
        return cls(numbers, centres, first, stop, sizes)

    @property
    def scales(self) -> NDArray[np.float64]:
        """Along each axis a third of the way from the centre to the nearer side.

        At least 1 voxel (code of Eschweiler & Stegmaier; that of Cellpose3D has 5
        voxels for all cells).
        """
        sides = np.minimum(self.centres - self.first, self.stop - self.centres)
        return np.maximum(1.0, sides / 3)


def tanh_flows(
    labels: Labels,
    table: ObjectTable | None = None,
    index: Sequence[NDArray[np.intp]] | None = None,
) -> Float:
    """Return squashed distances from the centres (Eschweiler et al. 2022, Cellpose3D).

    Parameters
    ----------
    labels : ndarray of integer, shape ([Z,] Y, X)
        Instance labels, 0 is background.
    table : ObjectTable, optional
        Of the whole label image, if `labels` is a part of it: flows are those of the
        whole cells.
    index : sequence of ndarray of int, optional
        For each axis, where in that image the voxels of the part lie.

    Returns
    -------
    ndarray of float32, shape (dims, [Z,] Y, X)
        tanh((x - centre) / scale) along each axis in its order, in (-1, 1).
    """
    table = ObjectTable.of(labels) if table is None else table
    index = index or [np.arange(length) for length in labels.shape]
    flows = np.zeros((labels.ndim, *labels.shape), np.float32)
    places = np.nonzero(labels)
    which = np.searchsorted(table.numbers, labels[places])
    for axis, place in enumerate(places):
        away = index[axis][place] - table.centres[which, axis]
        flows[axis][places] = np.tanh(away / table.scales[which, axis])
    return flows


def diffusion_flows(labels: Labels) -> Float:
    """Return Cellpose's flows by diffusion from the centre, with the sign turned.

    Each cell is handed to Cellpose by itself, so that heat does not flow in from cells
    that touch it, and small cells do not take as many iterations as the largest.

    Parameters
    ----------
    labels : ndarray of integer, shape ([Z,] Y, X)
        Instance labels, 0 is background.

    Returns
    -------
    ndarray of float32, shape (dims, [Z,] Y, X)
        Unit vectors away from the centre; 0 in the background.
    """
    import torch

    dynamics = cellpose_module("dynamics")
    flows = np.zeros((labels.ndim, *labels.shape), np.float32)
    table = ObjectTable.of(labels)
    for number, first, stop in zip(table.numbers, table.first, table.stop, strict=True):
        box = tuple(slice(a, b) for a, b in zip(first, stop, strict=True))
        cell = (labels[box] == number).astype(np.int32)
        device = torch.device("cpu")
        if labels.ndim == 3:
            # Not its `masks_to_flows`: that adds up the flows of planes, which do not
            # lead to the centre of a volume.
            found = dynamics.masks_to_flows_gpu_3d(cell, device=device)
        else:
            found = dynamics.masks_to_flows(cell, device=device)
        flows[(slice(None), *box)] -= found.astype(np.float32)
    return flows


def turned_flows(flows: Float, element: int) -> Float:
    """Apply a symmetry of the square to the last two axes of a field of vectors.

    Parameters
    ----------
    flows : ndarray, shape (dims, [Z,] Y, X)
        Components in the order of the axes.
    element : int
        As `dihedral` takes it.

    Returns
    -------
    ndarray, shape (dims, [Z,] Y, X)
        The flows of the image that `dihedral` gives.
    """
    turned = np.array(dihedral(flows, element))
    if element >= 4:
        turned[-1] *= -1
    for _ in range(element % 4):
        turned[-2], turned[-1] = -turned[-1], turned[-2].copy()
    return turned

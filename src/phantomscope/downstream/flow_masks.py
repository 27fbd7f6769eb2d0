"""From flows and foreground to cells: Cellpose's dynamics, or those of the paper."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from phantomscope.downstream.cellpose_library import cellpose_module
from phantomscope.downstream.common import Array
from phantomscope.downstream.flows import tanh_flows
from phantomscope.images.labels import compact_labels

Float = NDArray[np.float32]
FOREGROUND = 0.5
# Of Cellpose3D.
EULER_STEPS = 100
SMALLEST, LARGEST = 5, 100
MIN_FOREGROUND = 0.5
MAX_FLOW_ERROR = 0.8
MIN_AXIS_RATIO = 0.1


def cellpose_masks(
    flows: Float, foreground: Float, *, min_size: int, device: torch.device
) -> Array:
    """Follow the flows with Cellpose's own dynamics.

    Parameters
    ----------
    flows : ndarray, shape (dims, [Z,] Y, X)
        Away from the centres, components in [-1, 1].
    foreground : ndarray, shape ([Z,] Y, X)
        Above 0.5 inside of cells.
    min_size : int
        Smaller objects are dropped, in voxels.
    device : torch.device
        Where to follow them.

    Returns
    -------
    ndarray of uint16 (uint32 above 65535 objects), shape ([Z,] Y, X)
        0 is background.
    """
    dynamics = cellpose_module("dynamics")
    with warnings.catch_warnings():
        # Of torch, about a sparse tensor of Cellpose's.
        warnings.filterwarnings("ignore", "Sparse invariant checks")
        found = dynamics.compute_masks(
            # Cellpose's networks give five times the vector towards the centre.
            -5 * flows,
            foreground,
            cellprob_threshold=FOREGROUND,
            # A cell of a crop may fill it.
            max_size_fraction=1.0,
            min_size=min_size,
            do_3D=flows.shape[0] == 3,
            device=device,
        )
    return compact_labels(found)


def euler_masks(
    flows: Float,
    foreground: Float,
    *,
    smallest: int = SMALLEST,
    largest: int = LARGEST,
) -> Array:
    """Follow the flows as Cellpose3D does (Eschweiler et al. 2022 and its code).

    Every voxel takes 100 steps along the smoothed flow. Ends that nearly touch become
    one object; it is dropped if it is too small, too large, outside of the
    foreground, too thin, or if its own flows differ from those that were predicted.

    Parameters
    ----------
    flows, foreground
        As in `cellpose_masks`.
    smallest, largest : int
        Diameters of balls: limits of the volume, in voxels.

    Returns
    -------
    ndarray of uint16 (uint32 above 65535 objects), shape ([Z,] Y, X)
        0 is background.
    """
    dims = flows.shape[0]
    smooth = np.stack([ndimage.gaussian_filter(part, 1) for part in flows])
    ends = _follow(smooth)
    marks = np.zeros(foreground.shape, bool)
    marks[ends] = True
    border = smallest // 2
    around = np.indices((2 * border + 1,) * dims) - border
    disc = (around**2).sum(axis=0) <= border**2
    # With a border: scipy counts the outside as empty when it erodes.
    closed = ndimage.binary_closing(np.pad(marks, border), disc)
    inside = (slice(border, -border),) * dims
    objects = measure.label(closed[inside])[ends]
    near = ndimage.binary_dilation(foreground > FOREGROUND, disc)
    objects = _sized(objects, near, _ball(smallest, dims), _ball(largest, dims))
    return compact_labels(_plausible(objects, smooth))


def _ball(diameter: float, dims: int) -> float:
    """Volume of a ball, or area of a disc."""
    radius = diameter / 2
    return 4 / 3 * math.pi * radius**3 if dims == 3 else math.pi * radius**2


def _follow(flows: Float) -> tuple[Array, ...]:
    """Return where each voxel ends: whole voxels, per axis."""
    shape = flows.shape[1:]
    place: Float = np.indices(shape, dtype=np.float32)
    for _ in range(EULER_STEPS):
        at = tuple(axis.astype(np.intp) for axis in place)
        for axis, size in enumerate(shape):
            place[axis] -= flows[axis][at]
            np.clip(place[axis], 0, size - 1, out=place[axis])
    return tuple(axis.astype(np.intp) for axis in place)


def _sized(objects: Array, near: Array, least: float, most: float) -> Array:
    """Drop objects of a wrong volume, and those that are mostly background."""
    sizes = np.bincount(objects.ravel())
    covered = np.bincount(objects.ravel(), near.ravel())
    bad = (sizes < least) | (sizes > most) | (covered < MIN_FOREGROUND * sizes)
    bad[0] = True
    return np.where(bad[objects], 0, objects)


def _plausible(objects: Array, flows: Float) -> Array:
    """Drop objects with other flows than the predicted ones, and very thin ones."""
    error = np.abs(tanh_flows(objects) - flows).mean(axis=0)
    bad = []
    for region in measure.regionprops(objects):
        difference = float(error[region.slice][region.image].mean())
        if difference > MAX_FLOW_ERROR or _axis_ratio(region) < MIN_AXIS_RATIO:
            bad.append(region.label)
    return np.where(np.isin(objects, bad), 0, objects)


def _axis_ratio(region: Any) -> float:
    """Shortest by longest axis of the ellipsoid with the moments of an object."""
    moments = region.inertia_tensor_eigvals
    if len(moments) == 2:
        return float(np.sqrt(max(moments[1], 0) / max(moments[0], 1e-9)))
    most, middle, least = moments
    # Rounding can make the moment of a flat object negative.
    return float(
        np.sqrt(max(middle + least - most, 0) / max(most + middle - least, 1e-9))
    )

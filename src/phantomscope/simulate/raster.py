"""Nuclei as numbers, and how they are drawn into images and volumes.

Equation 1 of Eschweiler & Stegmaier 2023: an ellipsoid, rotated in the plane, bent by a
B-spline over a 3 x 3 control grid. The paper is drawn as it is written. The released
code draws an upright ellipsoid into a box, rotates the box and bends it, each time by
the nearest voxel, and shifts boxes that stick out of the image back into it: with
`released` the same voxels come out, without the boxes in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one sketch; those of images have z = 0.

    Attributes
    ----------
    centres : ndarray, shape (n, 3)
        int64 voxels (z, y, x).
    axes : ndarray, shape (n, 3)
        Semi-axes in voxels before the rotation.
    angles : ndarray, shape (n,)
        Rotation from y towards x, in degrees.
    greys : ndarray, shape (n,)
        Unit intensities.
    moves : ndarray, shape (n, 2, 3, 3)
        Displacements (y, x) of the control points relative to the box; n = 0: none.
    nucleoli : ndarray, shape (n, m, 4)
        (y, x) from the centre in voxels, radius in voxels (0: no nucleolus) and the
        factor of the intensity.
    """

    centres: NDArray[np.int64]
    axes: Floats
    angles: Floats
    greys: Floats
    moves: Floats
    nucleoli: Floats

    def __len__(self) -> int:
        return len(self.centres)


@lru_cache(maxsize=64)
def spline_weights(size: int) -> Floats:
    """Weights (size, 3) of the three control points along one axis of a box.

    Cubic B-spline interpolation with mirrored ends; the last control point lies one
    pixel beyond the box, as the released code has it.
    """
    place = 2.0 * np.arange(size) / size
    weights = [
        ndimage.map_coordinates(unit, [place], order=3, mode="mirror")
        for unit in np.eye(3)
    ]
    return np.stack(weights, axis=1)


def turns_in_box(angles: Floats, box: tuple[int, int, int]) -> Floats:
    """Cosine, sine and shifts along y and x that turn a box about its middle.

    Returns
    -------
    ndarray, shape (n, 4)
        For angles in degrees, shape (n,); of multiples of 30 degrees exact.
    """
    cosine, sine = special.cosdg(angles), special.sindg(angles)
    y, x = (box[1] - 1) / 2, (box[2] - 1) / 2
    shift_y, shift_x = y - (cosine * y + sine * x), x - (cosine * x - sine * y)
    return np.stack([cosine, sine, shift_y, shift_x], axis=1)


@numba.njit(cache=True, nogil=True)
def box_start(centre, box, shape, released):  # type: ignore[no-untyped-def]
    """First voxel of the box of a nucleus; the released code keeps it inside."""
    start = np.empty(3, np.int64)
    for axis in range(3):
        start[axis] = centre[axis] - box[axis] // 2
        if released:
            start[axis] = min(max(0, start[axis]), max(0, shape[axis] - box[axis]))
    return start


@numba.njit(cache=True, nogil=True)
def lateral(y, x, box, axes, turn, released):  # type: ignore[no-untyped-def]
    """Squared terms of equation 1 along y and x, for a place in the box."""
    v = y * turn[0] + x * turn[1] + turn[2]
    u = x * turn[0] - y * turn[1] + turn[3]
    if released:
        if v < 0 or u < 0 or v > box[1] - 1 or u > box[2] - 1:
            return 2.0, 2.0
        v, u = np.floor(v + 0.5), np.floor(u + 0.5)
    dy = (v - (box[1] - 1) // 2) / axes[1]
    dx = (u - (box[2] - 1) // 2) / axes[2]
    return dy * dy, dx * dx


@numba.njit(cache=True, nogil=True)
def _shade(y, x, box, grey, nucleoli):  # type: ignore[no-untyped-def]
    """Intensity of a nucleus at a place in its box: darker in nucleoli."""
    for m in range(len(nucleoli)):
        dy = y - (box[1] - 1) // 2 - nucleoli[m, 0]
        dx = x - (box[2] - 1) // 2 - nucleoli[m, 1]
        if dy * dy + dx * dx <= nucleoli[m, 2] ** 2:
            grey *= nucleoli[m, 3]
    return grey


@numba.njit(cache=True, nogil=True)
def _paint(  # type: ignore[no-untyped-def]
    labels, sketch, counts, centres, axes, turns, greys, moves, nucleoli, box, wy, wx,
    released, adds, most,
):  # fmt: skip
    shape = np.array(labels.shape)
    rows = np.zeros((2, 3))
    # Of each nucleus its voxels, covered or not, and those that the next one covers.
    whole, hits = np.zeros_like(counts), np.zeros_like(counts)
    for n in range(len(centres)):
        for drawn in range(0 if most < 1.0 else 1, 2):
            _paint_one(
                labels, sketch, counts, n, box_start(centres[n], box, shape, released),
                axes[n], turns[n], greys[n], moves, nucleoli[n], box, wy, wx, released,
                adds, drawn == 1, whole, hits, rows,
            )  # fmt: skip
            if drawn == 0 and _covers(counts, whole, hits, n + 1, most):
                break


@numba.njit(cache=True, nogil=True)
def _covers(counts, whole, hits, number, most):  # type: ignore[no-untyped-def]
    """Whether a nucleus lies over more of the others, or of itself, than allowed.

    What it would cover is noted in `hits`, which is emptied.
    """
    shared, beyond = 0, False
    for other in range(1, number):
        if hits[other] > 0:
            shared += hits[other]
            left = counts[other] - hits[other]
            beyond = beyond or whole[other] - left > most * whole[other]
            hits[other] = 0
    beyond = beyond or shared > most * (shared + hits[0])
    hits[0] = 0
    return beyond


@numba.njit(cache=True, nogil=True)
def _paint_one(  # type: ignore[no-untyped-def]
    labels, sketch, counts, n, start, axes, turn, grey_of_it, moves, nucleoli, box,
    wy, wx, released, adds, draws, whole, hits, rows,
):  # fmt: skip
    """Draw one nucleus, or only note what it would cover."""
    shape = labels.shape
    bent = len(moves) > 0
    for y in range(max(0, -start[1]), min(box[1], shape[1] - start[1])):
        if bent:
            for axis in range(2):
                for j in range(3):
                    rows[axis, j] = (
                        wy[y, 0] * moves[n, axis, 0, j]
                        + wy[y, 1] * moves[n, axis, 1, j]
                        + wy[y, 2] * moves[n, axis, 2, j]
                    ) * box[1 + axis]
        for x in range(max(0, -start[2]), min(box[2], shape[2] - start[2])):
            v, u = float(y), float(x)
            if bent:
                a, b, c = wx[x, 0], wx[x, 1], wx[x, 2]
                v += a * rows[0, 0] + b * rows[0, 1] + c * rows[0, 2]
                u += a * rows[1, 0] + b * rows[1, 1] + c * rows[1, 2]
                if released:
                    if v < 0 or u < 0 or v > box[1] - 1 or u > box[2] - 1:
                        continue
                    v, u = np.floor(v + 0.5), np.floor(u + 0.5)
            along, across = lateral(v, u, box, axes, turn, released)
            if along + across > 1.0:
                continue
            grey = _shade(y, x, box, grey_of_it, nucleoli)
            for z in range(max(0, -start[0]), min(box[0], shape[0] - start[0])):
                dz = (z - (box[0] - 1) // 2) / axes[0]
                if dz * dz + along + across > 1.0:
                    continue
                at = (start[0] + z, start[1] + y, start[2] + x)
                if not draws:
                    hits[labels[at]] += 1
                    continue
                counts[labels[at]] -= 1
                counts[n + 1] += 1
                whole[n + 1] += 1
                labels[at] = n + 1
                sketch[at] = sketch[at] + grey if adds else grey


def label_type(count: int) -> type[np.uint16] | type[np.uint32]:
    """Smallest of uint16 and uint32 that holds so many labels."""
    return np.uint16 if count <= np.iinfo(np.uint16).max else np.uint32


def paint(
    nuclei: Nuclei, shape: tuple[int, int, int], box: tuple[int, int, int], *,
    released: bool, overlap: float | None = None,
    numbers: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[Any]]:  # fmt: skip
    """Draw nuclei one after the other; the later one lies on the earlier one.

    Where they overlap, the label is that of the later one.

    Parameters
    ----------
    nuclei : Nuclei
        What to draw.
    shape : tuple of int
        (Z, Y, X).
    box : tuple of int
        Size in voxels of the box of one nucleus, which bounds it.
    released : bool
        Nearest voxels and shifted boxes, as in the released code; else nuclei are
        drawn exactly about their centres (odd boxes) and cut by the edges.
    overlap : float, optional
        Nuclei are transparent: where they overlap their light adds up. One is left out
        that would lie with more than this share of itself on others, or cover more
        than this share of another (together with those before); from 1 on none is.
        None: what is covered gives no light.
    numbers : ndarray, shape (n,), optional
        Label of each nucleus, in place of 1 ... n.

    Returns
    -------
    sketch : ndarray, shape (Z, Y, X)
        float32 unit intensities, 0 outside the nuclei.
    labels : ndarray, shape (Z, Y, X)
        uint16 or uint32, 1 ... m without gaps, or `numbers`. A nucleus of which
        nothing is seen has no label.
    """
    labels = np.zeros(shape, label_type(len(nuclei)))
    sketch = np.zeros(shape, np.float32)
    counts = np.zeros(len(nuclei) + 1, np.int64)
    _paint(
        labels, sketch, counts, nuclei.centres, nuclei.axes,
        turns_in_box(nuclei.angles, box), nuclei.greys, nuclei.moves, nuclei.nucleoli,
        np.array(box),
        spline_weights(box[1]), spline_weights(box[2]), released,
        overlap is not None, 1.0 if overlap is None else float(overlap),
    )  # fmt: skip
    if numbers is None:
        return sketch, without_gaps(labels, counts)
    table = np.concatenate([[0], numbers]).astype(label_type(numbers.max(initial=0)))
    return sketch, table[labels]


def without_gaps(labels: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[Any]:
    """Renumber labels 1 ... m; `counts` are the voxels of each (counts[0]: any)."""
    seen = counts[1:] > 0
    if seen.all():
        return labels
    table = np.zeros(len(counts), labels.dtype)
    table[1:][seen] = np.arange(1, seen.sum() + 1)
    return np.asarray(table[labels])

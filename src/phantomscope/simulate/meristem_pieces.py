"""Cells in one piece: fragments go to the cell that they touch most."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def _root(parent, n):  # type: ignore[no-untyped-def]
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


@numba.njit(cache=True, nogil=True)
def _join(labels, parent):  # type: ignore[no-untyped-def]
    """Union of voxels of a label that share a face; the first voxel is the root."""
    nz, ny, nx = labels.shape
    steps = (ny * nx, nx, 1)
    flat = labels.ravel()
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                n = (z * ny + y) * nx + x
                parent[n] = n
                if flat[n] == 0:
                    continue
                for axis in range(3):
                    if (z, y, x)[axis] == 0:
                        continue
                    m = n - steps[axis]
                    if flat[m] == flat[n]:
                        a, b = _root(parent, n), _root(parent, m)
                        if a != b:
                            parent[max(a, b)] = min(a, b)


@numba.njit(cache=True, nogil=True)
def _loose(labels, parent, count):  # type: ignore[no-untyped-def]
    """Voxels (ascending) of all pieces but the largest of each label."""
    flat = labels.ravel()
    roots = np.zeros(len(flat), np.bool_)
    pieces = 0
    for n in range(len(flat)):
        if flat[n] > 0 and _root(parent, n) == n:
            roots[n] = True
            pieces += 1
    names = np.flatnonzero(roots)  # few: sizes are found by bisection
    sizes = np.zeros(pieces, np.int64)
    for n in range(len(flat)):
        if flat[n] > 0:
            sizes[np.searchsorted(names, _root(parent, n))] += 1
    best = np.full(count + 1, -1, np.int64)
    for p in range(pieces):
        own = flat[names[p]]
        if best[own] < 0 or sizes[p] > sizes[best[own]]:
            best[own] = p
    total = 0
    for p in range(pieces):
        if best[flat[names[p]]] != p:
            total += sizes[p]
    found = np.empty(total, np.int64)
    k = 0
    if total > 0:
        for n in range(len(flat)):
            if flat[n] > 0 and names[best[flat[n]]] != _root(parent, n):
                found[k] = n
                k += 1
    return found


@numba.njit(cache=True, nogil=True)
def _majority(labels, places):  # type: ignore[no-untyped-def]
    """Most frequent label around each place (over faces); 0 if there is none."""
    nz, ny, nx = labels.shape
    out = np.zeros(len(places), labels.dtype)
    near = np.zeros(6, labels.dtype)
    for p in range(len(places)):
        z, rest = places[p] // (ny * nx), places[p] % (ny * nx)
        y, x = rest // nx, rest % nx
        near[0] = labels[z - 1, y, x] if z > 0 else 0
        near[1] = labels[z + 1, y, x] if z < nz - 1 else 0
        near[2] = labels[z, y - 1, x] if y > 0 else 0
        near[3] = labels[z, y + 1, x] if y < ny - 1 else 0
        near[4] = labels[z, y, x - 1] if x > 0 else 0
        near[5] = labels[z, y, x + 1] if x < nx - 1 else 0
        most = 0
        for n in near:
            votes = (near == n).sum()
            if n > 0 and (votes > most or (votes == most and n < out[p])):
                most, out[p] = votes, n
    return out


def in_one_piece(labels: NDArray[Any]) -> NDArray[Any]:
    """Give fragments of cells to the neighbours that they touch, in place.

    A weighted Voronoi cell can fall apart. Of each label the largest piece (connected
    by faces) stays; the voxels of the others take the most frequent label around them,
    from outside inwards. What touches no other cell becomes background.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Instance labels, 0 is background; C-contiguous.

    Returns
    -------
    ndarray, shape (Z, Y, X)
        The same array.
    """
    index = np.int32 if labels.size < 2**31 else np.int64
    parent = np.empty(labels.size, index)
    _join(labels, parent)
    places = _loose(labels, parent, int(labels.max()))
    del parent
    flat = labels.reshape(-1)
    flat[places] = 0
    while len(places):
        found = _majority(labels, places)
        if not found.any():
            break
        flat[places] = found
        places = places[found == 0]
    return labels

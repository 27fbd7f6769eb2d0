"""Nuclei of the cells of a tissue: the second channel of a sketch of membranes."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.simulate.membrane import Depth, Labels, Spacing
from phantomscope.simulate.organisms import GREYS

Floats = NDArray[np.float64]
# Variance of a ball of radius 1 along each axis is 1 by this.
BALL = 5.0


@numba.njit(cache=True, nogil=True)
def _sums(labels, spacing, out):  # type: ignore[no-untyped-def]
    """Add up 1, z, y, x, zz, zy, zx, yy, yx, xx over the voxels of each label."""
    place = np.empty(3)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            for k in range(labels.shape[2]):
                n = labels[i, j, k]
                if n == 0:
                    continue
                place[0], place[1], place[2] = (
                    i * spacing[0], j * spacing[1], k * spacing[2],
                )  # fmt: skip
                out[n, 0] += 1.0
                slot = 4
                for a in range(3):
                    out[n, 1 + a] += place[a]
                    for b in range(a, 3):
                        out[n, slot] += place[a] * place[b]
                        slot += 1


@numba.njit(cache=True, nogil=True)
def _fill(labels, spacing, middles, inverses, greys, limit, out):  # type: ignore[no-untyped-def]  # fmt: skip
    """Draw the ellipsoid of each label, within the label."""
    d = np.empty(3)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            for k in range(labels.shape[2]):
                n = labels[i, j, k]
                if n == 0:
                    continue
                d[0] = i * spacing[0] - middles[n, 0]
                d[1] = j * spacing[1] - middles[n, 1]
                d[2] = k * spacing[2] - middles[n, 2]
                away = 0.0
                for a in range(3):
                    for b in range(3):
                        away += d[a] * inverses[n, a, b] * d[b]
                if away <= limit:
                    out[i, j, k] = greys[n]


def cell_moments(labels: Labels, spacing: Spacing = (1, 1, 1)) -> tuple[Floats, Floats]:
    """Centroid and covariance of each cell.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        1 ... n without gaps; 0 is outside.
    spacing : tuple of float
        Voxel size in z, y and x.

    Returns
    -------
    centroids : ndarray, shape (n + 1, 3)
        In units of `spacing`; row 0 means nothing.
    covariances : ndarray, shape (n + 1, 3, 3)
        With that of a voxel itself, so that a cell of one plane has one, too.
    """
    sums = np.zeros((int(labels.max(initial=0)) + 1, 10))
    _sums(np.ascontiguousarray(labels), np.asarray(spacing, float), sums)
    count = np.maximum(sums[:, :1], 1)
    middles, squares = sums[:, 1:4] / count, sums[:, 4:] / count
    covariances = np.empty((len(sums), 3, 3))
    rows, columns = np.triu_indices(3)
    covariances[:, rows, columns] = covariances[:, columns, rows] = squares
    covariances -= middles[:, :, None] * middles[:, None, :]
    covariances += np.diag(np.asarray(spacing, float) ** 2 / 12)
    return middles, covariances


def nuclei_of_cells(
    labels: Labels, size: float, decline: float, depth: Depth,
    rng: np.random.Generator, spacing: Spacing = (1, 1, 1), *, blur: float = 0.0,
) -> NDArray[np.float32]:  # fmt: skip
    """Draw a nucleus into each cell.

    It is the ellipsoid with the moments of its cell, made smaller, and lies within the
    cell. Each is evenly bright, by chance as in the other organisms, and darker with
    depth as the membranes are. Nobody published such sketches: ours.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Cells: 1 ... n without gaps; 0 is outside.
    size : float
        Diameter by that of the cell, above 0 to 1: the share of the volume is its
        third power.
    decline : float
        Intensity lost from the surface to the deepest place, 0 to 1.
    depth : Depth
        Depth below the surface.
    rng : Generator
        Source of the intensities.
    spacing : tuple of float
        Voxel size in z, y and x.
    blur : float
        Sigma of a Gaussian, in units of `spacing`.

    Returns
    -------
    ndarray, shape (Z, Y, X)
        float32 in [0, 1].
    """
    middles, covariances = cell_moments(labels, spacing)
    greys = rng.uniform(*GREYS, len(middles))
    greys *= 1 - decline * _depth_at(depth, middles / np.asarray(spacing))
    sketch = np.zeros(labels.shape, np.float32)
    _fill(
        np.ascontiguousarray(labels), np.asarray(spacing, float), middles,
        np.linalg.inv(covariances), greys, BALL * size**2, sketch,
    )  # fmt: skip
    if blur > 0:
        sigma = [blur / s for s in spacing]
        ndimage.gaussian_filter(sketch, sigma, output=sketch)
    return sketch


def _depth_at(depth: Depth, voxels: Floats) -> NDArray[Any]:
    """Depth at places (n, 3) in voxels of the fine grid, interpolated."""
    coarse = (voxels + np.asarray(depth.origin) + 0.5) / depth.factors - 0.5
    return np.asarray(
        ndimage.map_coordinates(depth.values, coarse.T, order=1, mode="nearest")
    )

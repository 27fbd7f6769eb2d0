"""Cells of a tissue: seeds in shells, weighted Voronoi labels, rounded surface."""

from __future__ import annotations

import itertools
from typing import Any

import numba
import numpy as np
import scipy
from numpy.typing import NDArray

from phantomscope.config.meristem import Meristem, Shape3
from phantomscope.simulate.membrane import dilated, eroded, wall_partner
from phantomscope.simulate.meristem_outline import Organ, directions, unit_vectors

Array = NDArray[np.float64]
Labels = NDArray[np.uint32]
Mask = NDArray[np.bool_]

# Complete linkage holds all pairs: 67 MB for so many points. More are divided.
CLUSTER_AT_ONCE = 4096
# Candidates per squared cell diameter on a shell, as many as the released code has on
# the outermost one (5000 directions, radius 242 px, diameter 23 px).
CANDIDATES = 7.3
NEAREST = 5


def cluster_means(points: Array, diameter: float) -> Array:
    """Means of clusters that are nowhere wider than `diameter` (complete linkage).

    The cost is quadratic, so more than `CLUSTER_AT_ONCE` points are halved across their
    longest side first, again and again; clusters do not reach over such a cut.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        Candidates.
    diameter : float
        Largest distance of two points of a cluster.

    Returns
    -------
    ndarray, shape (m, 3)
        In no order that means anything.
    """
    if len(points) < 2:
        return points
    if len(points) > CLUSTER_AT_ONCE:
        axis = int(np.argmax(np.ptp(points, axis=0)))
        order = np.argsort(points[:, axis], kind="stable")
        halves = np.array_split(order, 2)
        return np.concatenate([cluster_means(points[h], diameter) for h in halves])
    tree = scipy.cluster.hierarchy.linkage(points, "complete")
    cluster = scipy.cluster.hierarchy.fcluster(tree, diameter, "distance") - 1
    sums = [np.bincount(cluster, points[:, axis]) for axis in range(3)]
    return np.asarray(np.stack(sums, axis=1) / np.bincount(cluster)[:, None])


def separated(points: Array, distance: float) -> Array:
    """Merge the nearest pairs to their middle until none is nearer than `distance`."""
    while len(points) > 1 and distance > 0:
        pairs = scipy.spatial.cKDTree(points).query_pairs(
            distance * (1 - 1e-9), output_type="ndarray"
        )
        if not len(pairs):
            break
        gaps = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
        kept, moved = np.ones(len(points), bool), points.copy()
        used = np.zeros(len(points), bool)
        for a, b in pairs[np.lexsort((pairs[:, 1], pairs[:, 0], gaps))]:
            if not used[a] and not used[b]:
                used[[a, b]] = True
                moved[a] = (points[a] + points[b]) / 2
                kept[b] = False
        points = moved[kept]
    return points


def shell_seeds(
    organ: Organ, base: bool, parameters: Meristem, rng: np.random.Generator
) -> Array:
    """Place the seeds of cells in shells below the surface of an organ.

    Each shell lies one (growing) spacing deeper along the radius, its candidates are
    jittered radially and clustered; then all are clustered once more.

    Parameters
    ----------
    organ : Organ
        Where the surface is.
    base : bool
        The organ is a half space above a cut base.
    parameters : Meristem
        Diameter, shells and decay.
    rng : Generator
        Source of the jitter and of the turn of each shell's candidates.

    Returns
    -------
    ndarray, shape (n, 3)
        (z, y, x) in px of x, from the corner of the volume.
    """
    diameter = parameters.cell_diameter
    gap = diameter * parameters.shell_spacing
    # The first shell lies half a spacing below the surface.
    depth, shell, seeds = gap / 2, 0, []
    while organ.radii.max() > depth:
        mean = float(np.sqrt(np.mean(np.maximum(organ.radii - depth, 0) ** 2)))
        area = (2 if base else 4) * np.pi * mean**2
        rays = _rays(max(int(CANDIDATES * area / diameter**2), 1), base, organ, rng)
        radii = np.maximum(organ.sample(rays) - depth, 0)
        rays, radii = rays[radii > 0], radii[radii > 0]
        spread = shell * diameter * parameters.radial_jitter
        radii = np.maximum(radii + spread * rng.standard_normal(len(radii)), 0)
        seeds.append(cluster_means(organ.origin + rays * radii[:, None], diameter))
        diameter /= parameters.cell_decay
        gap /= parameters.shell_decay
        depth, shell = depth + gap, shell + 1
    every = np.concatenate(seeds) if seeds else organ.origin[None]
    # No shell is denser than the first, so its diameter holds for all.
    every = cluster_means(
        every, min(1.0, parameters.shell_spacing) * parameters.cell_diameter
    )
    return separated(every, parameters.separation * parameters.cell_diameter)


def _rays(count: int, base: bool, organ: Organ, rng: np.random.Generator) -> Array:
    """Even directions on the organ's side, turned about z by chance."""
    angles = directions(count, "base" if base else "centroid")
    angles[:, 1] += rng.uniform(0, 2 * np.pi)
    return np.asarray(unit_vectors(angles) * np.array([organ.flip, 1, 1]))


def block_seeds(
    extent: tuple[float, float, float],
    parameters: Meristem,
    rng: np.random.Generator,
) -> Array:
    """Place the seeds of cells in a volume full of tissue, and a margin around it.

    One random point per cubed cell diameter, clustered at twice the diameter (the
    released code's tissue without an organ).
    """
    margin = 2 * parameters.cell_diameter
    size = np.asarray(extent) + 2 * margin
    count = int(np.prod(size / parameters.cell_diameter))
    points = rng.uniform(0, 1, (max(count, 1), 3)) * size - margin
    seeds = cluster_means(points, 2 * parameters.cell_diameter)
    return separated(seeds, parameters.separation * parameters.cell_diameter)


def distance_weights(
    seeds: Array, parameters: Meristem, rng: np.random.Generator
) -> Array:
    """Return by how much the distances of each seed count more (n,), 1 or so."""
    weights = np.ones(len(seeds))
    if len(seeds) > 1:
        gaps = scipy.spatial.cKDTree(seeds).query(seeds, k=2, workers=1)[0][:, 1]
        weights += parameters.distance_weight * gaps / max(float(gaps.max()), 1e-9)
    if parameters.size_variation > 0:
        weights *= np.exp(parameters.size_variation * rng.standard_normal(len(seeds)))
    return np.asarray(weights)


@numba.njit(cache=True, nogil=True)
def _label_block(seeds, weights, near, mask, low, high, size, start, out):  # type: ignore[no-untyped-def]  # fmt: skip
    """Label the voxels of one block; `near` holds all seeds that can be among five."""
    gap = np.empty(NEAREST)
    who = np.empty(NEAREST, np.int64)
    for z in range(low[0], high[0]):
        pz = (z + start[0] + 0.5) * size[0]
        for y in range(low[1], high[1]):
            py = (y + start[1] + 0.5) * size[1]
            for x in range(low[2], high[2]):
                if not mask[z, y, x]:
                    continue
                px = (x + start[2] + 0.5) * size[2]
                gap[:] = np.inf
                for s in near:
                    dz, dy, dx = seeds[s, 0] - pz, seeds[s, 1] - py, seeds[s, 2] - px
                    d = dz * dz + dy * dy + dx * dx
                    if d >= gap[NEAREST - 1]:
                        continue
                    n = NEAREST - 1
                    while n > 0 and gap[n - 1] > d:
                        gap[n], who[n] = gap[n - 1], who[n - 1]
                        n -= 1
                    gap[n], who[n] = d, s
                best = np.inf
                for n in range(NEAREST):
                    if gap[n] < np.inf:
                        d = np.sqrt(gap[n]) * weights[who[n]]
                        if d < best:
                            best = d
                            out[z, y, x] = who[n] + 1


@numba.njit(cache=True, nogil=True)
def _label_blocks(seeds, weights, near, ends, mask, lows, block, size, start, out):  # type: ignore[no-untyped-def]  # fmt: skip
    high = np.empty(3, np.int64)
    for b in range(lows.shape[0]):
        for axis in range(3):
            high[axis] = min(lows[b, axis] + block[axis], mask.shape[axis])
        first = ends[b - 1] if b > 0 else 0
        _label_block(
            seeds, weights, near[first : ends[b]], mask, lows[b], high, size, start, out
        )


def weighted_voronoi(
    seeds: Array, weights: Array, mask: Mask, spacing: tuple[float, float, float],
    start: Shape3 = (0, 0, 0),
) -> Labels:  # fmt: skip
    """Label each voxel by the one of its five nearest seeds that weights make nearest.

    Exact, but fast: the voxels of a block share the few seeds that can be among the
    five nearest of any of them (none is farther from the block's middle than the fifth
    nearest seed there and the block's diagonal).

    Parameters
    ----------
    seeds : ndarray, shape (n, 3)
        (z, y, x) in px of x, from the corner of the volume.
    weights : ndarray, shape (n,)
        Factors of the distances.
    mask : ndarray, shape (Z, Y, X)
        Voxels to label: a window of the volume.
    spacing : tuple of float
        Size of a voxel in z, y and x, in px of x.
    start : tuple of int
        First voxel of the window.

    Returns
    -------
    ndarray, shape (Z, Y, X)
        uint32: 1 + number of the seed, 0 outside the mask.
    """
    out = np.zeros(mask.shape, np.uint32)
    size = np.asarray(spacing, float)
    block = np.maximum(np.round(8 * size.min() / size), 1).astype(np.int64)
    half = float(np.linalg.norm(block * size)) / 2
    tree = scipy.spatial.cKDTree(seeds)
    grid = [np.arange(0, n, b) for n, b in zip(mask.shape[1:], block[1:], strict=True)]
    plane = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    for z in range(0, mask.shape[0], int(block[0])):  # a layer at a time: little memory
        lows = np.column_stack([np.full(len(plane), z), plane])
        some = mask[z : z + block[0]].any(axis=0)
        filled = np.logical_or.reduceat(some, grid[0], axis=0)
        filled = np.logical_or.reduceat(filled, grid[1], axis=1).ravel()
        lows = lows[filled]
        if not len(lows):
            continue
        middle = (lows + np.asarray(start) + block / 2) * size
        count = min(NEAREST, len(seeds))
        reach = tree.query(middle, k=[count], workers=1)[0][:, 0]
        found = tree.query_ball_point(middle, reach + 2 * half + 1e-6, workers=1)
        ends = np.cumsum([len(f) for f in found])
        near = np.fromiter(
            itertools.chain.from_iterable(found), np.int64, int(ends[-1])
        )
        _label_blocks(
            seeds, weights, near, ends, mask, lows, block, size, np.asarray(start), out
        )
    return out


def rounded(labels: NDArray[Any], radius: float, spacing: Any) -> NDArray[Any]:
    """Round the cells at the surface of an organ and open the gaps between them.

    The released code's last step: what stays is opening(no membrane, ball r) or
    erosion(foreground, ball floor(1.5 r)), with a membrane 3 px thick for r = 3.
    """
    if radius <= 0:
        return labels
    wall = wall_partner(labels, radius, spacing) != labels
    opened = dilated(eroded(~wall, radius, spacing), radius, spacing)
    del wall
    opened |= eroded(labels > 0, np.floor(1.5 * radius), spacing)
    labels[~opened] = 0
    return labels

"""Membranes between labelled cells: the sketch of a volume of walls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.meristem import Sides

Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

# Depth is smooth: it is measured on a grid of about this many px (in the finest axis)
# once the volume has more voxels than FINE, which keeps the distance transform small.
COARSE, FINE = 4, 2_000_000


def ball_offsets(radius: float, spacing: Spacing = (1, 1, 1)) -> NDArray[np.int64]:
    """Offsets (n, 3) of the voxels within `radius` of the middle one.

    Parameters
    ----------
    radius : float
        In units of `spacing`, inclusive, as the usual structuring element `ball`.
    spacing : tuple of float
        Voxel size in z, y and x.
    """
    half = [int(np.floor(radius / s + 1e-9)) for s in spacing]
    axes = [np.arange(-h, h + 1) for h in half]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = ((grid * np.asarray(spacing, float)) ** 2).sum(axis=1)
    return np.asarray(grid[distance <= radius**2 * (1 + 1e-9)], np.int64)


# Dilations with a ball start from boundary voxels only. Let v lie in the ball of a
# voxel u with a larger label. A path of face neighbours from v towards u that comes
# nearer to u with each step stays in the ball about v. The first voxel on it with a
# label above v's has a face neighbour (its predecessor) with a lower label. So the
# voxels with a lower face neighbour reach every v that any voxel reaches. Outside the
# volume is nothing.
@numba.njit(cache=True, nogil=True)
def _spread_labels(labels, offsets, both, out):  # type: ignore[no-untyped-def]
    """Write the largest label that lies in the ball of each voxel and differs."""
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                a = labels[z, y, x]
                low = a
                high = a
                if z > 0:
                    low, high = (
                        min(low, labels[z - 1, y, x]),
                        max(high, labels[z - 1, y, x]),
                    )
                if z < nz - 1:
                    low, high = (
                        min(low, labels[z + 1, y, x]),
                        max(high, labels[z + 1, y, x]),
                    )
                if y > 0:
                    low, high = (
                        min(low, labels[z, y - 1, x]),
                        max(high, labels[z, y - 1, x]),
                    )
                if y < ny - 1:
                    low, high = (
                        min(low, labels[z, y + 1, x]),
                        max(high, labels[z, y + 1, x]),
                    )
                if x > 0:
                    low, high = (
                        min(low, labels[z, y, x - 1]),
                        max(high, labels[z, y, x - 1]),
                    )
                if x < nx - 1:
                    low, high = (
                        min(low, labels[z, y, x + 1]),
                        max(high, labels[z, y, x + 1]),
                    )
                if low == a and not (both and high != a):
                    continue
                for n in range(offsets.shape[0]):
                    i, j, k = z + offsets[n, 0], y + offsets[n, 1], x + offsets[n, 2]
                    if i < 0 or j < 0 or k < 0 or i >= nz or j >= ny or k >= nx:
                        continue
                    own = labels[i, j, k]
                    if (a > own or (both and a != own)) and (
                        out[i, j, k] == own or a > out[i, j, k]
                    ):
                        out[i, j, k] = a


@numba.njit(cache=True, nogil=True)
def _spread_mask(mask, offsets, out):  # type: ignore[no-untyped-def]
    """Dilate a mask (out holds a copy of it) from the voxels at its boundary."""
    nz, ny, nx = mask.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if not mask[z, y, x]:
                    continue
                inner = (
                    (z == 0 or mask[z - 1, y, x])
                    and (z == nz - 1 or mask[z + 1, y, x])
                    and (y == 0 or mask[z, y - 1, x])
                    and (y == ny - 1 or mask[z, y + 1, x])
                    and (x == 0 or mask[z, y, x - 1])
                    and (x == nx - 1 or mask[z, y, x + 1])
                )
                if inner:
                    continue
                for n in range(offsets.shape[0]):
                    i, j, k = z + offsets[n, 0], y + offsets[n, 1], x + offsets[n, 2]
                    if i >= 0 and j >= 0 and k >= 0 and i < nz and j < ny and k < nx:
                        out[i, j, k] = True


def wall_partner(
    labels: Labels,
    radius: float,
    spacing: Spacing = (1, 1, 1),
    sides: Sides = "lower",
) -> Labels:
    """Return the cell on the other side of the wall in each voxel, or its own label.

    With ``lower`` this is the grey dilation of the labels by a ball, so that the wall
    (where it differs from the labels) lies on the side of the lower label, `radius`
    thick: `dilation(labels, ball(radius)) - labels != 0` of the released code
    (Eschweiler & Stegmaier 2023). With ``both`` the wall lies on both sides, `radius`
    thick on each, and so in the middle between two cells.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Instance labels, 0 is background.
    radius : float
        Of the ball, in units of `spacing`.
    spacing : tuple of float
        Voxel size in z, y and x.
    sides : {"lower", "both"}
        See above.

    Returns
    -------
    ndarray, shape (Z, Y, X)
        Of the dtype of `labels`.
    """
    labels = np.ascontiguousarray(labels)
    out = labels.copy()
    _spread_labels(labels, ball_offsets(radius, spacing), sides == "both", out)
    return out


def dilated(mask: Mask, radius: float, spacing: Spacing = (1, 1, 1)) -> Mask:
    """Binary dilation by a ball; what lies outside the volume counts as background."""
    mask = np.ascontiguousarray(mask, bool)
    out = mask.copy()
    _spread_mask(mask, ball_offsets(radius, spacing), out)
    return out


def eroded(mask: Mask, radius: float, spacing: Spacing = (1, 1, 1)) -> Mask:
    """Binary erosion by a ball; what lies outside the volume counts as foreground."""
    return ~dilated(~mask, radius, spacing)


@dataclass(frozen=True)
class Depth:
    """Depth below the surface of an organ, on a coarse grid.

    Attributes
    ----------
    values : ndarray, shape (z, y, x)
        float32, 0 outside to 1 at the deepest place of the organ.
    factors : tuple of int
        Voxels of the fine grid per voxel of the coarse one.
    origin : tuple of int
        Place of the fine grid's first voxel, counted from the coarse grid's corner.
    """

    values: NDArray[np.float32]
    factors: tuple[int, int, int]
    origin: tuple[int, int, int] = (0, 0, 0)


def coarse_factors(shape: tuple[int, ...], spacing: Spacing) -> tuple[int, int, int]:
    """Voxels per coarse voxel in each axis: 1 if the volume is small."""
    if np.prod(shape) <= FINE:
        return 1, 1, 1
    fine = min(spacing)
    z, y, x = (max(1, round(COARSE * fine / s)) for s in spacing)
    return z, y, x


def _share(mask: Mask, factors: tuple[int, int, int]) -> NDArray[np.float32]:
    """Share of foreground in each coarse voxel."""
    total: NDArray[Any] = mask
    count = np.ones((1, 1, 1), np.float32)
    for axis, factor in enumerate(factors):
        starts = np.arange(0, mask.shape[axis], factor)
        total = np.add.reduceat(total, starts, axis=axis, dtype=np.uint16)
        sizes = np.diff(np.append(starts, mask.shape[axis])).astype(np.float32)
        count = count * sizes.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.asarray(total / count, np.float32)


def depth_of(share: NDArray[np.floating[Any]], size: Spacing) -> NDArray[np.float32]:
    """Depth relative to the deepest place: 0 outside, 1 there.

    Parameters
    ----------
    share : ndarray, shape (z, y, x)
        Share of organ in each voxel; above one half is organ. Holes are filled: they
        are no surface.
    size : tuple of float
        Size of these voxels.

    Returns
    -------
    ndarray, shape (z, y, x)
        float32. All 0 if the organ fills the volume: then there is no surface in it.
    """
    inside = ndimage.binary_fill_holes(share > 0.5)
    if inside.all() or not inside.any():
        return np.zeros(share.shape, np.float32)
    distance = ndimage.distance_transform_edt(inside, sampling=size)
    # The surface lies between voxels.
    depth = np.maximum(distance - min(size) / 2, 0)
    return np.asarray(depth / max(float(depth.max()), 1e-9), np.float32)


def surface_depth(labels: Labels, spacing: Spacing = (1, 1, 1)) -> Depth:
    """Measure the depth below the surface of everything that is labelled.

    Faces of the volume are no surface: the field of view cuts the organ there.
    """
    factors = coarse_factors(labels.shape, spacing)
    z, y, x = (f * s for f, s in zip(factors, spacing, strict=True))
    return Depth(depth_of(_share(labels > 0, factors), (z, y, x)), factors)


@numba.njit(cache=True, nogil=True)
def _wall_value(a, b, seed):  # type: ignore[no-untyped-def]
    """Two uniform numbers of a wall: a hash (SplitMix64) of its two labels."""
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    h = np.uint64(seed) ^ (low * np.uint64(0x9E3779B97F4A7C15))
    h = h ^ (high * np.uint64(0xC2B2AE3D27D4EB4F))
    for _ in range(2):
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h = h ^ (h >> np.uint64(31))
    first = np.float64(h >> np.uint64(32)) / 4294967296.0
    return first, np.float64(h & np.uint64(0xFFFFFFFF)) / 4294967296.0


@numba.njit(cache=True, nogil=True)
def _axis_cell(place, factor, size):  # type: ignore[no-untyped-def]
    """Lower coarse voxel and weight of the upper one for linear interpolation."""
    c = min(max((place + 0.5) / factor - 0.5, 0.0), size - 1.0)
    low = min(int(c), max(size - 2, 0))
    return low, min(low + 1, size - 1), c - low


@numba.njit(cache=True, nogil=True)
def _render(labels, other, depth, factors, origin, decline, spread, gone, seed, out):  # type: ignore[no-untyped-def]  # fmt: skip
    nz, ny, nx = labels.shape
    dz, dy, dx = depth.shape
    for z in range(nz):
        z0, z1, wz = _axis_cell(z + origin[0], factors[0], dz)
        for y in range(ny):
            y0, y1, wy = _axis_cell(y + origin[1], factors[1], dy)
            for x in range(nx):
                a, b = labels[z, y, x], other[z, y, x]
                if a == b:
                    continue
                x0, x1, wx = _axis_cell(x + origin[2], factors[2], dx)
                near = (1 - wy) * (
                    (1 - wx) * depth[z0, y0, x0] + wx * depth[z0, y0, x1]
                )
                near += wy * ((1 - wx) * depth[z0, y1, x0] + wx * depth[z0, y1, x1])
                far = (1 - wy) * ((1 - wx) * depth[z1, y0, x0] + wx * depth[z1, y0, x1])
                far += wy * ((1 - wx) * depth[z1, y1, x0] + wx * depth[z1, y1, x1])
                value = 1 - decline * ((1 - wz) * near + wz * far)
                if spread > 0 or gone > 0:
                    first, second = _wall_value(a, b, seed)
                    value *= 1 - spread * first
                    if a > 0 and b > 0 and second < gone:
                        value = 0.0
                out[z, y, x] = value


def membrane_sketch(
    labels: Labels,
    radius: float = 3.0,
    decline: float = 0.8,
    spacing: Spacing = (1, 1, 1),
    *,
    depth: Depth | None = None,
    sides: Sides = "lower",
    wall_variation: float = 0.0,
    missing_walls: float = 0.0,
    blur: float = 0.0,
    rng: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """Draw the walls between labelled cells, darker with depth.

    Eschweiler & Stegmaier 2023, section 2: the membranes' intensity declines linearly
    towards the organism's centre. Serves simulated labels and annotations alike.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Instance labels, 0 is background.
    radius : float
        Thickness of a wall: radius of the dilating ball (3 in the released simulator,
        2 in its converter of annotations), in units of `spacing`.
    decline : float
        What is lost between the surface and the deepest place, 0 to 1. The paper does
        not say how much.
    spacing : tuple of float
        Voxel size in z, y and x.
    depth : Depth, optional
        Depth below the surface; measured on the labels by default.
    sides : {"lower", "both"}
        Where a wall lies; see `wall_partner`.
    wall_variation : float
        Each wall loses a random share of its intensity, up to this one.
    missing_walls : float
        Chance that a wall between two cells is not drawn. The labels keep it.
    blur : float
        Sigma of a Gaussian, in units of `spacing`.
    rng : Generator, optional
        Source of the random shares; needed for `wall_variation` and `missing_walls`.

    Returns
    -------
    ndarray, shape (Z, Y, X)
        float32 in [0, 1].

    Raises
    ------
    ValueError
        If random walls are asked for without a generator.
    """
    random = wall_variation > 0 or missing_walls > 0
    if random and rng is None:
        raise ValueError("random walls need a generator")
    seed = (
        np.uint64(rng.integers(2**63)) if random and rng is not None else np.uint64(0)
    )
    depth = surface_depth(labels, spacing) if depth is None else depth
    other = wall_partner(labels, radius, spacing, sides)
    sketch = np.zeros(labels.shape, np.float32)
    _render(
        np.ascontiguousarray(labels), other, depth.values, depth.factors, depth.origin,
        float(decline), float(wall_variation), float(missing_walls), seed, sketch,
    )  # fmt: skip
    if blur > 0:
        sigma = [blur / s for s in spacing]
        ndimage.gaussian_filter(sketch, sigma, output=sketch)
    return sketch


def light_at_depth(
    labels: Labels, decline: float = 0.8, spacing: Spacing = (1, 1, 1)
) -> NDArray[np.float32]:
    """Return the light that a wall has, or would have, in each voxel.

    That of `membrane_sketch` without random walls.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Instance labels, 0 is background.
    decline, spacing
        See `membrane_sketch`.

    Returns
    -------
    ndarray, shape (Z, Y, X)
        float32 in [0, 1].
    """
    depth = surface_depth(labels, spacing)
    light = np.zeros(labels.shape, np.float32)
    labels = np.ascontiguousarray(labels, np.int64)
    _render(
        labels, labels + 1, depth.values, depth.factors, depth.origin, float(decline),
        0.0, 0.0, np.uint64(0), light,
    )  # fmt: skip
    return light

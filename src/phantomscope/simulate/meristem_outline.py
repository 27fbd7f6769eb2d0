"""The outline of an organ: measured on a mask, and placed into a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
import scipy
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
Shape3 = tuple[int, int, int]
Origin = Literal["base", "centroid"]

# Rows and columns (theta, phi) of the table of radii: one degree, half of what lies
# between 5000 directions on a half sphere.
TABLE = (181, 360)


def directions(count: int, origin: Origin) -> Array:
    """Spread angles evenly over the sphere, or over its half above a base.

    A Fibonacci lattice: every direction stands for the same solid angle.

    Returns
    -------
    ndarray, shape (count, 2)
        theta (from the z axis) and phi (from the x axis), in radians.
    """
    index = np.arange(count) + 0.5
    span = 1.0 if origin == "base" else 2.0
    theta = np.arccos(1 - span * index / count)
    phi = (np.pi * (1 + np.sqrt(5)) * index) % (2 * np.pi) - np.pi
    return np.stack([theta, phi], axis=1)


def unit_vectors(angles: Array) -> Array:
    """Return unit vectors (n, 3), as (z, y, x), of angles (theta, phi)."""
    theta, phi = angles[:, 0], angles[:, 1]
    return np.stack(
        [np.cos(theta), np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi)],
        axis=1,
    )


@dataclass(frozen=True)
class Pose:
    """A mask and where its organ stands in it.

    Attributes
    ----------
    mask : ndarray, shape (Z, Y, X)
        One connected organ, its cut base (if any) in the first plane.
    spacing : tuple of float
        Voxel size.
    origin : ndarray, shape (3,)
        (z, y, x) from the corner of the volume, in units of `spacing`.
    axes : ndarray, shape (3, 3)
        Rows: the organ's z, y and x axis as unit vectors (z, y, x) of the volume.
    """

    mask: Mask
    spacing: Spacing
    origin: Array
    axes: Array


def _largest_part(mask: Mask) -> Mask:
    parts, count = scipy.ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _middle(mask: Mask, axis: int) -> float:
    """Centroid along an axis, from the corner, in voxels."""
    others = tuple(a for a in range(3) if a != axis)
    weight = mask.sum(axis=others)
    return float((np.arange(len(weight)) + 0.5) @ weight / weight.sum())


def _principal_axes(places: Array) -> Array:
    """Axes of places (n, d), shortest first; the long tail points along each."""
    centred = places - places.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors.T
    skew = ((centred @ axes.T) ** 3).sum(axis=0)
    axes = axes * np.where(skew < 0, -1, 1)[:, None]
    if np.linalg.det(axes) < 0:  # no mirror images: the shortest axis gives way
        axes[0] *= -1
    return np.asarray(axes)


def find_pose(mask: Mask, spacing: Spacing, base: bool, align: bool) -> Pose:
    """Find the origin and the axes of an organ.

    Parameters
    ----------
    mask : ndarray, shape (Z, Y, X)
        Not empty; with `base` it touches the first or last plane.
    spacing : tuple of float
        Voxel size in z, y and x.
    base : bool
        Origin in the middle of the plane that cuts the organ; else its centroid.
    align : bool
        Turn the axes of the organ to its principal axes.
    """
    mask = _largest_part(mask)
    if base and mask[-1].sum() > mask[0].sum():
        mask = mask[::-1]
    size = np.asarray(spacing, float)
    # Axes need no more than some hundred thousand of the voxels.
    step = max(1, int((np.count_nonzero(mask) / 500_000) ** (1 / 3)))
    places = np.argwhere(mask[::step, ::step, ::step]) * step * size
    axes = np.eye(3)
    if base:
        origin = np.append(0.0, (np.argwhere(mask[0]) + 0.5).mean(axis=0) * size[1:])
        if align:
            axes[1:, 1:] = _principal_axes(places[:, 1:])
    else:
        origin = np.array([_middle(mask, axis) for axis in range(3)]) * size
        axes = _principal_axes(places) if align else axes
    return Pose(np.ascontiguousarray(mask), spacing, origin, axes)


@numba.njit(cache=True, nogil=True)
def _march(mask, size, origin, rays, step, out):  # type: ignore[no-untyped-def]
    """Radius of the last foreground voxel along each ray."""
    far = 0.0
    for axis in range(3):
        far += (mask.shape[axis] * size[axis]) ** 2
    steps = int(np.sqrt(far) / step) + 1
    for n in range(rays.shape[0]):
        for s in range(1, steps):
            z = int(np.floor((origin[0] + s * step * rays[n, 0]) / size[0]))
            y = int(np.floor((origin[1] + s * step * rays[n, 1]) / size[1]))
            x = int(np.floor((origin[2] + s * step * rays[n, 2]) / size[2]))
            if z < 0 or y < 0 or x < 0:
                break
            if z >= mask.shape[0] or y >= mask.shape[1] or x >= mask.shape[2]:
                break
            if mask[z, y, x]:
                out[n] = s * step


def surface_radii(pose: Pose, rays: Array) -> Array:
    """Distance from the origin to the surface along rays.

    The last foreground voxel counts, so that gaps between annotated cells do no harm;
    where the field of view cuts the organ, its face is the surface.

    Parameters
    ----------
    pose : Pose
        Mask, origin and axes.
    rays : ndarray, shape (n, 3)
        Unit vectors (z, y, x) in the organ's axes.

    Returns
    -------
    ndarray, shape (n,)
        In units of the spacing, to a quarter of the finest voxel.
    """
    out = np.zeros(len(rays))
    size = np.asarray(pose.spacing, float)
    step = 0.25 * float(size.min())
    _march(pose.mask, size, pose.origin, rays @ pose.axes, step, out)
    return out


@numba.njit(cache=True, nogil=True)
def _inside(table, origin, flip, angle, size, start, out):  # type: ignore[no-untyped-def]
    rows, columns = table.shape
    least, most = table.min(), table.max()
    for k in range(out.shape[0]):
        z = ((k + start[0] + 0.5) * size[0] - origin[0]) * flip
        for j in range(out.shape[1]):
            y = (j + start[1] + 0.5) * size[1] - origin[1]
            for i in range(out.shape[2]):
                x = (i + start[2] + 0.5) * size[2] - origin[2]
                r = np.sqrt(z * z + y * y + x * x)
                if r > most:
                    continue
                if r <= least:
                    out[k, j, i] = True
                    continue
                row = np.arccos(z / r) / np.pi * (rows - 1)
                turn = (np.arctan2(y, x) - angle) / (2 * np.pi) % 1.0
                column = turn * columns
                a, b = min(int(row), rows - 2), int(column) % columns
                c = (b + 1) % columns
                v, w = row - a, column - int(column)
                radius = (1 - v) * ((1 - w) * table[a, b] + w * table[a, c])
                radius += v * ((1 - w) * table[a + 1, b] + w * table[a + 1, c])
                out[k, j, i] = r <= radius


@dataclass(frozen=True)
class Organ:
    """An organ placed into a volume; all lengths in px of x.

    Attributes
    ----------
    table : ndarray, shape `TABLE`
        Radius over theta (0 to pi) and phi (from 0, once around).
    rays, radii : ndarray, shape (n, 3) and (n,)
        Even directions (z, y, x) in the volume, and the radius in each.
    origin : ndarray, shape (3,)
        (z, y, x) from the volume's corner.
    flip : float
        -1 if the organ's z axis points to the volume's first plane.
    angle : float
        By which the organ is turned about z.
    """

    table: Array
    rays: Array
    radii: Array
    origin: Array
    flip: float
    angle: float

    def mask(self, shape: Shape3, spacing: Spacing, start: Shape3 = (0, 0, 0)) -> Mask:
        """Return where the organ is in a window of the volume that begins at `start`.

        A voxel is inside if its middle is no farther from the origin than the surface
        in its direction (mean of the three nearest samples, then linear).
        """
        out = np.zeros(shape, bool)
        _inside(
            self.table, self.origin, self.flip, self.angle, np.asarray(spacing, float),
            np.asarray(start), out,
        )  # fmt: skip
        return out

    def sample(self, rays: Array) -> Array:
        """Radii in any directions (n, 3) of the volume."""
        rows, columns = self.table.shape
        row = np.arccos(np.clip(rays[:, 0] * self.flip, -1, 1)) / np.pi * (rows - 1)
        turn = (np.arctan2(rays[:, 1], rays[:, 2]) - self.angle) / (2 * np.pi) % 1.0
        wrapped = np.concatenate([self.table, self.table[:, :1]], axis=1)
        return np.asarray(
            scipy.ndimage.map_coordinates(wrapped, [row, turn * columns], order=1)
        )


def radius_table(vectors: Array, radii: Array) -> Array:
    """Tabulate radii over theta and phi: the mean of the three nearest samples."""
    theta = np.linspace(0, np.pi, TABLE[0])[:, None]
    phi = np.arange(TABLE[1])[None, :] * (2 * np.pi / TABLE[1])
    grid = np.stack(
        np.broadcast_arrays(
            np.cos(theta), np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi)
        ),
        axis=-1,
    )
    count = min(3, len(radii))
    _, nearest = scipy.spatial.cKDTree(vectors).query(
        grid.reshape(-1, 3), k=count, workers=1
    )
    means = radii[nearest].reshape(-1, count).mean(axis=1)
    return np.asarray(means.reshape(TABLE))


def place_organ(
    vectors: Array, radii: Array, *, extent: tuple[float, float, float], base: bool,
    fill: float, angle: float, flip: bool,
) -> Organ:  # fmt: skip
    """Scale an organ to a volume and put it into its middle, or onto its first plane.

    Parameters
    ----------
    vectors, radii : ndarray, shape (n, 3) and (n,)
        Directions in the organ's axes and the radius in each, in any unit.
    extent : tuple of float
        Size of the volume in px of x.
    base : bool
        The organ stands with its cut base on a face.
    fill : float
        Extent of the organ relative to the volume, in the axis that is tightest.
    angle : float
        Turn about z, in radians.
    flip : bool
        The z axis of the organ points to the first plane.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    z, y, x = vectors.T
    rays = np.stack([-z if flip else z, sin * x + cos * y, cos * x - sin * y], axis=1)
    points = rays * radii[:, None]
    low, high = points.min(axis=0), points.max(axis=0)
    if base:
        low[0], high[0] = min(low[0], 0.0), max(high[0], 0.0)
    size = np.asarray(extent, float)
    scale = fill * float((size / np.maximum(high - low, 1e-9)).min())
    origin = size / 2 - scale * (low + high) / 2
    if base:
        origin[0] = size[0] if flip else 0.0
    radii = radii * scale
    return Organ(
        radius_table(vectors, radii), rays, radii, origin, -1.0 if flip else 1.0, angle
    )

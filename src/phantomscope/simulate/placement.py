"""Where nuclei may stand, and the placement by exclusion of the paper.

The rule (Eschweiler & Stegmaier 2023, section 2): draw a centre uniformly from the
allowed voxels, remove all allowed ones closer than twice the largest radius, and so on
until there are enough nuclei or no voxel is left. Voxels lie sorted by rows, so that
what a nucleus removes are a few runs of them: a placement costs time in proportion to
the allowed voxels, not to their product with the number of nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import scipy
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Region:
    """Voxels in which a centre may lie, row by row.

    Attributes
    ----------
    shape : tuple of int
        (Z, Y, X); images have Z = 1.
    columns : ndarray, shape (n,)
        int32, x of each allowed voxel, rising within a row.
    starts : ndarray, shape (Z * Y + 1,)
        int64, the first voxel of each row (z, y), and n at the end.
    """

    shape: Shape
    columns: NDArray[np.int32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.columns)

    @classmethod
    def of_mask(cls, mask: Mask) -> Region:
        """Region of a mask, shape ([Z,] Y, X)."""
        volume = np.ascontiguousarray(mask).reshape((1,) * (3 - mask.ndim) + mask.shape)
        depth, height, width = volume.shape
        rows = volume.reshape(depth * height, width)
        counts = np.count_nonzero(rows, axis=1)
        columns, starts = _columns_of_mask(rows, counts)
        return cls((depth, height, width), columns, starts)

    @classmethod
    def whole(cls, shape: Shape) -> Region:
        """Region of all voxels of an image or a volume."""
        rows = shape[0] * shape[1]
        columns = np.tile(np.arange(shape[2], dtype=np.int32), rows)
        return cls(shape, columns, np.arange(rows + 1, dtype=np.int64) * shape[2])

    @classmethod
    def ellipsoid(
        cls, shape: Shape, centre: tuple[float, float, float],
        axes: tuple[float, float, float],
    ) -> Region:  # fmt: skip
        """Region of the voxels in an ellipsoid along the axes of the volume.

        Parameters
        ----------
        shape : tuple of int
            (Z, Y, X).
        centre, axes : tuple of float
            Centre and semi-axes in voxels (z, y, x).
        """
        columns, starts = _ellipsoid(
            np.array(shape), np.array(centre, float), np.array(axes, float)
        )
        return cls(shape, columns, starts)

    def voxels(self) -> NDArray[np.int64]:
        """Coordinates of all voxels, shape (n, 3), in order of the rows."""
        row = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        z, y = np.divmod(row, self.shape[1])
        return np.stack([z, y, self.columns.astype(np.int64)], axis=1)

    def mask(self) -> Mask:
        """Return the region as a mask, shape (Z, Y, X)."""
        inside = np.zeros(self.shape, np.bool_)
        inside[tuple(self.voxels().T)] = True
        return inside


@numba.njit(cache=True, nogil=True)
def _columns_of_mask(rows, counts):  # type: ignore[no-untyped-def]
    starts = np.zeros(len(counts) + 1, np.int64)
    starts[1:] = np.cumsum(counts)
    columns = np.empty(starts[-1], np.int32)
    for row in range(rows.shape[0]):
        place = starts[row]
        if counts[row] > 0:
            for x in range(rows.shape[1]):
                if rows[row, x]:
                    columns[place] = x
                    place += 1
    return columns, starts


@numba.njit(cache=True, nogil=True)
def _ellipsoid(shape, centre, axes):  # type: ignore[no-untyped-def]
    depth, height, width = shape
    starts = np.zeros(depth * height + 1, np.int64)
    columns = np.empty(depth * height * width, np.int32)
    count = 0
    for z in range(depth):
        above = ((z - centre[0]) / axes[0]) ** 2
        for y in range(height):
            off = above + ((y - centre[1]) / axes[1]) ** 2
            if off <= 1.0:
                half = axes[2] * np.sqrt(1.0 - off) + 1.0
                first = max(0, int(np.floor(centre[2] - half)))
                stop = min(width, int(np.ceil(centre[2] + half)) + 1)
                for x in range(first, stop):
                    if off + ((x - centre[2]) / axes[2]) ** 2 <= 1.0:
                        columns[count] = x
                        count += 1
            starts[z * height + y + 1] = count
    return columns[:count].copy(), starts


@numba.njit(cache=True, nogil=True)
def _remove(free, columns, starts, shape, centre, reach):  # type: ignore[no-untyped-def]
    """Forbid all voxels of a region within an ellipsoid; return how many it were."""
    depth, height = shape[0], shape[1]
    removed = 0
    z_first = max(0, centre[0] - int(reach[0]))
    z_stop = min(depth, centre[0] + int(reach[0]) + 1)
    y_first = max(0, centre[1] - int(reach[1]))
    y_stop = min(height, centre[1] + int(reach[1]) + 1)
    for z in range(z_first, z_stop):
        above = ((z - centre[0]) / reach[0]) ** 2
        for y in range(y_first, y_stop):
            off = above + ((y - centre[1]) / reach[1]) ** 2
            if off > 1.0:
                continue
            row = z * height + y
            low, stop = starts[row], starts[row + 1]
            if low == stop:
                continue
            # One more on either side, for the rounding of the root.
            half = int(reach[2] * np.sqrt(1.0 - off)) + 1
            high = stop
            while low < high:
                middle = (low + high) // 2
                if columns[middle] < centre[2] - half:
                    low = middle + 1
                else:
                    high = middle
            while low < stop and columns[low] <= centre[2] + half:
                if free[low]:
                    away = off + ((columns[low] - centre[2]) / reach[2]) ** 2
                    if away <= 1.0:
                        free[low] = False
                        removed += 1
                low += 1
    return removed


@numba.njit(cache=True, nogil=True)
def _place(columns, starts, shape, reach, wanted, rng):  # type: ignore[no-untyped-def]
    """Centres by exclusion, and whether the voxels were exhausted."""
    total = len(columns)
    centres = np.empty((min(wanted, total), 3), np.int64)
    free = np.ones(total, np.bool_)
    left, placed, misses = total, 0, 0
    order = np.empty(0, np.int64)
    while placed < wanted and left > 0:
        if misses * 8 < total and len(order) == 0:
            # Draws from all voxels, of which the forbidden ones are drawn again.
            pick = rng.integers(0, total)
            if not free[pick]:
                misses += 1
                continue
        else:
            # Few are left: draw from a list of them, from which the forbidden ones
            # are struck off when they are met.
            if len(order) == 0:
                order = np.flatnonzero(free)
                length = len(order)
            slot = rng.integers(0, length)
            pick = order[slot]
            length -= 1
            order[slot] = order[length]
            if not free[pick]:
                continue
        row = np.searchsorted(starts, pick, side="right") - 1
        centres[placed, 0] = row // shape[1]
        centres[placed, 1] = row % shape[1]
        centres[placed, 2] = columns[pick]
        left -= _remove(free, columns, starts, shape, centres[placed], reach)
        placed += 1
    return centres[:placed], left == 0


def place_by_exclusion(
    region: Region, reach: tuple[float, float, float], count: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], bool]:  # fmt: skip
    """Draw centres that keep a distance from each other.

    Parameters
    ----------
    region : Region
        Where centres may lie.
    reach : tuple of float
        Semi-axes (z, y, x) in voxels of the ellipsoid around a centre in which no
        further centre may lie, its surface included; at least 1 along each axis.
    count : int
        Most centres.
    rng : Generator
        Source.

    Returns
    -------
    centres : ndarray, shape (n, 3)
        int64 voxels (z, y, x), in the order in which they were drawn.
    exhausted : bool
        Whether no voxel was left after the last one.
    """
    if count < 1 or not len(region):
        return np.empty((0, 3), np.int64), not len(region)
    found: tuple[NDArray[np.int64], Any] = _place(
        region.columns, region.starts, np.array(region.shape),
        np.array(reach, float), count, rng,
    )  # fmt: skip
    return found[0], bool(found[1])


def covered_share(
    distance: Floats | float, first: Floats | float, second: Floats | float
) -> Floats:
    """Share of the smaller of two discs that lies on the larger one.

    Parameters
    ----------
    distance : ndarray or float
        Between the centres, px.
    first, second : ndarray or float
        Radii above 0, px.

    Returns
    -------
    ndarray
        0 (apart or touching) to 1 (within the other): the area of the lens that two
        circles have in common by the area of the smaller one.
    """
    r, s = np.minimum(first, second), np.maximum(first, second)
    d = np.clip(distance, np.maximum(s - r, 1e-9 * r), r + s)
    near = np.arccos(np.clip((d**2 + r**2 - s**2) / (2 * d * r), -1, 1))
    far = np.arccos(np.clip((d**2 + s**2 - r**2) / (2 * d * s), -1, 1))
    kite = np.sqrt(np.maximum((r + s - d) * (d + r - s) * (d - r + s) * (d + r + s), 0))
    return np.asarray((r**2 * near + s**2 * far - kite / 2) / (np.pi * r**2))


def nearest_distance(share: float) -> float:
    """Distance of two equal discs that cover this share of each other, in diameters.

    1 (touching) for a share of 0, and 0 for a share of 1.
    """
    if share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    return float(
        scipy.optimize.brentq(
            lambda d: float(covered_share(2 * d, 1.0, 1.0)) - share, 0, 1
        )
    )


def discs(shape: Shape, count: int, radius: float, rng: np.random.Generator) -> Mask:
    """Union of discs whose centres lie anywhere in an image.

    Parameters
    ----------
    shape : tuple of int
        (1, Y, X).
    count : int
        How many discs.
    radius : float
        Of each, in px.
    rng : Generator
        Source.

    Returns
    -------
    ndarray, shape (Y, X)
        True inside.
    """
    mask = np.zeros(shape[1:], np.bool_)
    _fill_discs(mask, rng.integers(0, shape[1:], (count, 2)), float(radius))
    return mask


@numba.njit(cache=True, nogil=True)
def _fill_discs(mask, centres, radius):  # type: ignore[no-untyped-def]
    height, width = mask.shape
    for n in range(len(centres)):
        cy, cx = centres[n]
        for y in range(max(0, cy - int(radius)), min(height, cy + int(radius) + 1)):
            off = ((y - cy) / radius) ** 2
            # One more on either side, for the rounding of the root.
            half = int(radius * np.sqrt(1.0 - off)) + 1
            for x in range(max(0, cx - half), min(width, cx + half + 1)):
                if off + ((x - cx) / radius) ** 2 <= 1.0:
                    mask[y, x] = True

"""Volumes on paper: three planes side by side, or maximum projections.

The plane XY stands above on the left, YZ on its right (z from left to right), XZ below
it (z from top to bottom); the distance of planes is drawn to scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.voxels import aspect
from phantomscope.tables.style import LABEL, outlines, scale_bar, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]
GAP = 3  # px between two views
# Planes this near to the fullest one, as a share of the range, count as equally full.
AS_FULL = 0.02


@dataclass(frozen=True)
class Cut:
    """Which part of an image is shown: a square, and for volumes three planes.

    Calling it with an image, or with labels of the same shape, gives an array
    (rows, columns) for `phantomscope.tables.style.show` and `outlines`. Between the
    views of a volume lies nothing: NaN, or background.

    Attributes
    ----------
    box : tuple of slice
        The part of the image, ([Z,] Y, X).
    at : tuple of int
        The planes (z, y, x) within the box; empty for images.
    stretch : float
        Distance of the planes in pixels.
    """

    box: tuple[slice, ...]
    at: tuple[int, ...] = ()
    stretch: float = 1.0

    @property
    def side(self) -> int:
        """Shorter side of the square, in px."""
        height, width = (int(part.stop - part.start) for part in self.box[-2:])
        return min(height, width)

    def __call__(self, array: Array) -> Array:
        """Return the square of an image, or three planes of a volume."""
        part = array[self.box]
        if not self.at:
            return part
        z, y, x = self.at
        return self._compose(part[z], part[:, y, :], part[:, :, x])

    def projection(self, array: Array) -> Array:
        """Return the square of an image, or the maxima of a volume along its axes."""
        part = array[self.box]
        if not self.at:
            return part
        return self._compose(*(part.max(axis=axis) for axis in range(3)))

    def _compose(self, xy: Array, zx: Array, zy: Array) -> Array:
        depth = max(1, round(len(zx) * self.stretch))
        # Each row shows the plane in which its middle lies: no value is invented.
        rows = ((np.arange(depth) + 0.5) * len(zx) / depth).astype(int)
        height, width = xy.shape
        empty = np.nan if xy.dtype.kind == "f" else 0
        page = np.full((height + GAP + depth, width + GAP + depth), empty, xy.dtype)
        page[:height, :width] = xy
        page[height + GAP :, :width] = zx[rows]
        page[:height, width + GAP :] = zy[rows].T
        return page


def choose_cut(
    shape: Sequence[int], side: int, size: Sequence[float | None] = (),
    fill: Array | None = None,
) -> Cut:  # fmt: skip
    """Choose what to show of an image or a volume: nobody picks the beautiful plane.

    Parameters
    ----------
    shape : sequence of int
        ([Z,] Y, X).
    side : int
        Side of the central square, in px. A volume is cut in depth as well where it
        would be longer than that.
    size : sequence of float or None
        Voxel size, one per axis; without it voxels are cubes.
    fill : ndarray, optional
        Labels or intensities of this shape. The planes with the most labelled voxels,
        or the brightest ones, are shown; of equally full ones that nearest to the
        middle. Without it, or if it is empty, the middle.

    Returns
    -------
    Cut
    """
    corners = [(max(0, (n - side) // 2), min(side, n)) for n in shape[-2:]]
    box = tuple(slice(first, first + length) for first, length in corners)
    if len(shape) == 2:
        return Cut(box)
    stretch = aspect(size)
    weight = np.zeros((shape[0], 1, 1)) if fill is None else fill[:, *box]
    if weight.dtype.kind in "uib":
        weight = weight > 0
    z = _fullest(weight, 0)
    planes = _around(z, shape[0], max(1, int(side / stretch)))
    if fill is None:
        y, x = ((part.stop - part.start) // 2 for part in box)
    else:
        y, x = (_fullest(weight[planes], axis) for axis in (1, 2))
    return Cut((planes, *box), (z - planes.start, y, x), stretch)


def _around(centre: int, length: int, side: int) -> slice:
    """Return a range of at most `side` around a place, within the axis."""
    side = min(side, length)
    first = min(max(centre - side // 2, 0), length - side)
    return slice(first, first + side)


def _fullest(weight: Array, axis: int) -> int:
    """Return the plane with the largest sum, of equal ones the middle one."""
    others = tuple(a for a in range(3) if a != axis)
    total = weight.sum(axis=others, dtype=np.float64)
    good = np.flatnonzero(total >= total.max() - AS_FULL * np.ptp(total))
    return int(good[np.argmin(np.abs(good - len(total) // 2))])


def as_plane(image: Array, fill: Array | None = None) -> Array:
    """Return an image (Y, X) as it is, and the fullest plane (Y, X) of a volume.

    `fill` is as in `choose_cut`; without it the intensities tell.
    """
    if image.ndim == 2:
        return image
    full = image if fill is None else fill
    plane: Array = image[_fullest(full > 0 if full.dtype.kind in "uib" else full, 0)]
    return plane


def orthogonal(
    axes: Axes, volume: Array, size: Sequence[float | None] = (), *,
    fill: Array | None = None, labels: Array | None = None, side: int | None = None,
    title: str = "", project: bool = False,
) -> Cut:  # fmt: skip
    """Show three planes of a volume, or its maximum projections, with a scale bar.

    Parameters
    ----------
    axes : Axes
        Where.
    volume : ndarray, shape (Z, Y, X)
        Unit intensities: 0 is black, 1 white. An image (Y, X) is shown as it is.
    size : sequence of float or None
        Voxel size in um.
    fill : ndarray, optional
        Decides on the planes, see `choose_cut`; by default `labels`, else the volume.
    labels : ndarray of integer, optional
        Of the same shape: their outlines are drawn. Those of a projection would be of
        what lies in front, so it gets none.
    side : int, optional
        Side of the square in px; the whole by default.
    title : str
        Above it.
    project : bool
        Show the projections.

    Returns
    -------
    Cut
        What was shown.
    """
    side = side or max(volume.shape)
    if fill is None:
        fill = volume if labels is None else labels
    cut = choose_cut(volume.shape, side, size, fill)
    show(axes, cut.projection(volume) if project else cut(volume), title)
    if labels is not None and not project:
        outlines(axes, cut(labels), LABEL, width=0.9)
    scale_bar(axes, cut.side, size[-1] if size else None)
    return cut

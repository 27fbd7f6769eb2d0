"""Volumes on paper: three planes side by side, or maximum projections.

The plane XY stands above on the left, YZ on its right (z from left to right), XZ below
it (z from top to bottom); the distance of planes is drawn to scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.imageset import ImageSet
from phantomscope.images.volumes import PlaneReader
from phantomscope.images.voxels import aspect, row_voxel_size
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

    @property
    def within(self) -> Cut:
        """The same cut of the part that `take` returned."""
        whole = tuple(slice(0, part.stop - part.start) for part in self.box)
        return replace(self, box=whole)

    def take(self, source: Array | PlaneReader) -> Array:
        """Return the part of an image, or of a volume that is read by planes."""
        if isinstance(source, PlaneReader):
            planes, *square = self.box
            every = range(planes.start, planes.stop)
            return np.stack([source.read(z, z + 1)[0][tuple(square)] for z in every])
        part: Array = source[self.box]
        return part

    def __call__(self, array: Array) -> Array:
        """Return the square of an image, or three planes of a volume."""
        part = self.take(array)
        if not self.at:
            return part
        z, y, x = self.at
        return self._compose(part[z], part[:, y, :], part[:, :, x])

    def projection(self, array: Array) -> Array:
        """Return the square of an image, or the maxima of a volume along its axes."""
        part = self.take(array)
        if not self.at:
            return part
        return self._compose(*(part.max(axis=axis) for axis in range(3)))

    def plane(self, array: Array) -> Array:
        """Return the square of an image, or that of a volume in the plane XY."""
        part = self.take(array)
        return part[self.at[0]] if self.at else part

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
    fill: Array | PlaneReader | None = None,
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
    fill : ndarray or PlaneReader, optional
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
    stretch, depth = aspect(size), shape[0]
    totals = np.zeros(depth)
    if fill is not None:
        totals = np.array([_weight(plane[box]).sum() for plane in fill])
    z = _fullest(totals)
    planes = _around(z, depth, max(1, int(side / stretch)))
    cut = Cut((planes, *box), (z - planes.start, 0, 0), stretch)
    if fill is None:
        y, x = (length // 2 for _, length in corners)
    else:
        part = _weight(cut.take(fill))
        y, x = (_fullest(part.sum(axis=axes)) for axes in ((0, 2), (0, 1)))
    return replace(cut, at=(z - planes.start, y, x))


def cut_of(
    images: ImageSet, identifier: str, side: int, size: Sequence[float | None] = ()
) -> Cut:
    """Choose what to show of an image of a set; its labels decide, if it has any.

    Parameters
    ----------
    images : ImageSet
        The set.
    identifier : str
        Image id.
    side : int
        Side of the square, in px.
    size : sequence of float or None
        Voxel size where the set itself does not know it.
    """
    shape = images.shape(identifier)
    if len(shape) == 2:
        return choose_cut(shape, side)
    known = size or row_voxel_size(images.row(identifier))
    column = "mask" if images.has_mask(identifier) else "image"
    with images.planes(identifier, column) as planes:
        return choose_cut(shape, side, known, planes)


def read_part(
    images: ImageSet, identifier: str, cut: Cut, column: str = "image"
) -> Array:
    """Read only what a cut shows of an image, or with ``mask`` of its labels.

    ``cut.within`` shows what is returned. Volumes are read plane by plane.
    """
    if len(images.shape(identifier)) == 2:
        read = images.mask if column == "mask" else images.image
        return cut.take(read(identifier))
    with images.planes(identifier, column) as planes:
        return cut.take(planes)


def _weight(array: Array) -> Array:
    """How much a voxel counts: labels all the same, intensities what they are."""
    return array > 0 if array.dtype.kind in "uib" else array


def _around(centre: int, length: int, side: int) -> slice:
    """Return a range of at most `side` around a place, within the axis."""
    side = min(side, length)
    first = min(max(centre - side // 2, 0), length - side)
    return slice(first, first + side)


def _fullest(totals: Array) -> int:
    """Return the place of the largest sum, of equal ones that in the middle."""
    good = np.flatnonzero(totals >= totals.max() - AS_FULL * np.ptp(totals))
    return int(good[np.argmin(np.abs(good - len(totals) // 2))])


def as_plane(image: Array) -> Array:
    """Return an image (Y, X) as it is, and the brightest plane (Y, X) of a volume."""
    if image.ndim == 2:
        return image
    plane: Array = image[_fullest(image.sum(axis=(1, 2), dtype=np.float64))]
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

"""Pixels of labelled objects in one order, which all features share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.images.labels import compact_labels

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
Columns = dict[str, Floats]
# Of features: those of the published table.
CATEGORIES = (
    "Correlation", "Count", "Granularity", "Intensity", "Location", "Neighbors",
    "RadialDistribution", "Texture",
)  # fmt: skip


@dataclass(frozen=True)
class Objects:
    """Objects of an image.

    Attributes
    ----------
    labels : ndarray of int32, shape (Y, X)
        1 ... n without gaps, 0 is background.
    numbers : ndarray of integer, shape (n,)
        What the objects were called.
    pixels : ndarray of intp, shape (P,)
        Positions in the flat image, object by object, each in raster order.
    starts : ndarray of intp, shape (n + 1,)
        Where the pixels of each object begin and end.
    """

    labels: NDArray[np.int32]
    numbers: Labels
    pixels: NDArray[np.intp]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, labels: Labels) -> Objects:
        """Sort the pixels of a label image."""
        compact = compact_labels(labels).astype(np.int32)
        flat = compact.ravel()
        inside = np.flatnonzero(flat)
        pixels = inside[np.argsort(flat[inside], kind="stable")]
        starts = np.append(0, np.cumsum(np.bincount(flat)[1:]))
        numbers = np.unique(labels[labels > 0])
        return cls(compact, numbers, pixels, starts.astype(np.intp))

    def __len__(self) -> int:
        return self.starts.size - 1

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """Pixels of each object."""
        return np.diff(self.starts)

    @cached_property
    def owner(self) -> NDArray[np.intp]:
        """Object of each pixel, from 0."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @cached_property
    def places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of each pixel."""
        y, x = np.divmod(self.pixels, self.labels.shape[1])
        return y, x

    @cached_property
    def centres(self) -> tuple[Floats, Floats]:
        """Mean row and column of each object."""
        y, x = self.places
        return self.total(y) / self.sizes, self.total(x) / self.sizes

    @cached_property
    def depth(self) -> Floats:
        """Distance of each pixel from what is not its object, px; see `depth_of`."""
        return self.over_boxes(depth_of)

    @cached_property
    def outline(self) -> NDArray[np.bool_]:
        """Whether a pixel has one of another kind among its eight neighbours.

        What lies outside the image is another kind, too.
        """
        framed = np.pad(self.labels, 1)
        low = ndimage.minimum_filter(framed, 3)[1:-1, 1:-1]
        high = ndimage.maximum_filter(framed, 3)[1:-1, 1:-1]
        return np.asarray((low != high).ravel()[self.pixels])

    def values(self, image: NDArray[Any]) -> NDArray[Any]:
        """Take the pixels out of an image."""
        return image.ravel()[self.pixels]

    def total(self, values: NDArray[Any]) -> Floats:
        """Sum over each object."""
        return np.bincount(self.owner, values, len(self)).astype(np.float64)

    def ordered(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sort the values within each object."""
        return values[np.lexsort((values, self.owner))]

    def largest(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Return which pixel of each object is the largest, the first of equals."""
        if not len(self):
            return np.zeros(0, np.intp)
        top = np.maximum.reduceat(values, self.starts[:-1])
        found = np.flatnonzero(values == top[self.owner])
        return np.asarray(found[np.unique(self.owner[found], return_index=True)[1]])

    def over_boxes(self, measure: Any) -> Floats:
        """Measure each object's pixels from its mask alone.

        Parameters
        ----------
        measure : callable
            Maps a mask, with one pixel around it where the image goes on, to values
            of its shape.
        """
        found = np.empty(self.pixels.size)
        height, width = self.labels.shape
        for i, box in enumerate(ndimage.find_objects(self.labels)):
            rows, columns = (
                slice(max(side.start - 1, 0), min(side.stop + 1, end))
                for side, end in zip(box, (height, width), strict=True)
            )
            mask = self.labels[rows, columns] == i + 1
            found[self.starts[i] : self.starts[i + 1]] = measure(mask)[mask]
        return found


def depth_of(mask: NDArray[np.bool_]) -> Floats:
    """Return the distance from outside, px, infinite if there is no outside.

    The border of the image is no edge: nobody sees beyond.
    """
    if mask.all():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(mask))


def ratio(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    found = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=found, where=np.asarray(below) != 0)
    return found

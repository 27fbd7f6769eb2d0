"""Planes of images and volumes for figures, read plane by plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation

Array = NDArray[Any]
GAP = 2


@dataclass(frozen=True)
class Views:
    """What is shown of an image or a volume, unit intensities.

    Attributes
    ----------
    plane : ndarray, shape (Y, X)
        The image, or the plane with most annotation (without any, the middle one).
    slices : ndarray
        `plane` above a slice (Z, X): where `plane` has most annotation, or its middle.
    projections : ndarray
        The largest values along z, above those along y.
    """

    plane: Array
    slices: Array
    projections: Array


def best_plane(images: ImageSet, identifier: str) -> int:
    """Return the plane of a volume with most annotation, else the middle one."""
    depth = images.shape(identifier)[0]
    if not images.has_mask(identifier):
        return depth // 2
    with images.planes(identifier, "mask") as planes:
        counts = [np.count_nonzero(plane) for plane in planes]
    middle = np.abs(np.arange(depth) - depth // 2)
    # Of several that have nearly as much, the one nearest to the middle.
    good = np.asarray(counts) >= 0.9 * max(counts)
    return int(np.argmin(np.where(good, middle, depth)))


def view_mask(images: ImageSet, identifier: str, like: ImageSet | None = None) -> Array:
    """Read the labels in the plane that is shown of an image or volume.

    Parameters
    ----------
    images : ImageSet
        Holds the labels.
    identifier : str
        Image id.
    like : ImageSet, optional
        Whose annotation says which plane is shown; by default that of `images`.
    """
    if len(images.shape(identifier)) == 2:
        return images.mask(identifier)
    z = best_plane(like or images, identifier)
    with images.planes(identifier, "mask") as planes:
        plane: Array = planes.read(z, z + 1)[0]
    return plane


def view_image(root: Path, images: ImageSet, identifier: str) -> Views:
    """Read what is shown of an image or a volume.

    Parameters
    ----------
    root : Path
        Folder of the experiment, with its normalisation.
    images : ImageSet
        Real or synthetic images, or sketches (float32, unit intensities already).
    identifier : str
        Image id.
    """
    norm = Normalisation.load(root / "normalisation.json")
    row = images.row(identifier)
    like = str(row.get("limits", identifier))

    def unit(values: Array) -> Array:
        return values if row.get("input") == "drawn" else norm.to_unit(values, like)

    shape = images.shape(identifier)
    if len(shape) == 2:
        plane = unit(images.image(identifier))
        return Views(plane, plane, plane)
    z, middle = best_plane(images, identifier), shape[1] // 2
    if images.has_mask(identifier):
        seen = np.count_nonzero(view_mask(images, identifier), axis=1)
        middle = int(np.argmax(seen)) if seen.any() else middle
    along_z, slices, along_y = np.full(shape[1:], -np.inf), [], []
    with images.planes(identifier) as planes:
        for number, values in enumerate(planes):
            scaled = unit(values)
            if number == z:
                plane = scaled
            along_z = np.maximum(along_z, scaled)
            slices.append(scaled[middle])
            along_y.append(scaled.max(axis=0))
    size = float(row.get("pixel_size") or np.nan)
    step = float(row.get("pixel_size_z") or np.nan) / size
    times = max(1, round(step)) if np.isfinite(step) else 1
    return Views(
        plane,
        _stacked(plane, np.repeat(slices, times, axis=0)),
        _stacked(along_z, np.repeat(along_y, times, axis=0)),
    )


def _stacked(above: Array, below: Array) -> Array:
    """Put two pictures of one width above each other, with a white line between."""
    line = np.ones((GAP, above.shape[1]), np.float32)
    return np.concatenate([above, line, below])

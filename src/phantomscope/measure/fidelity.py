"""Fidelity: whether a synthetic image still shows what its label says.

The papers admit phantom cells that noise gave birth to, and dim cells that vanish. Both
are looked for here, object by object, with nothing but the image and its label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import skimage
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.measure import morphology
from phantomscope.measure.instance import dice_per_object, match
from phantomscope.measure.membranes import ball_volume, segment_membranes

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Fidelity:
    """Agreement of one image with its labels.

    Attributes
    ----------
    objects : DataFrame
        Per object: label, area (of volumes voxels), contrast (brightness over its
        surroundings in standard deviations of the background; of membranes that of its
        walls over its inside), dice (with the best object of an independent
        re-segmentation).
    phantoms : int
        Bright objects of at least a third of the typical size without a label; none
        between membranes.
    f1 : float
        F1 at IoU 0.5 of the re-segmentation against the labels.
    """

    objects: pd.DataFrame
    phantoms: int
    f1: float

    @property
    def agreement(self) -> float:
        """Mean Dice of the objects with the re-segmentation; 1 without objects."""
        return float(self.objects["dice"].mean()) if len(self.objects) else 1.0

    def vanished(self, least: float) -> NDArray[np.bool_]:
        """Which objects have a contrast below `least`."""
        return np.asarray(self.objects["contrast"] < least)


def object_contrast(
    image: Image, labels: Labels, numbers: NDArray[np.integer[Any]],
    spacing: Spacing | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Brightness of each object over its surroundings.

    Parameters
    ----------
    image : ndarray, shape ([Z,] Y, X)
        Intensities.
    labels : ndarray, shape ([Z,] Y, X)
        Instance labels.
    numbers : ndarray, shape (n,)
        Labels to measure.
    spacing : tuple of float, optional
        Of volumes: a voxel along z, y and x, as a multiple of that along y.

    Returns
    -------
    ndarray, shape (n,)
        (Mean inside - mean of a ring of 2 to 5 px around it) / standard deviation of
        the background. Pixels of other objects are left out; an object without any
        free ring is compared with the background of the image.
    """
    apart, nearest = ndimage.distance_transform_edt(
        labels == 0, spacing, return_indices=True
    )
    outside = apart > 2
    if outside.sum() < 50:
        outside = labels == 0
    if not outside.any():
        return np.full(len(numbers), np.inf)
    base = float(np.median(image[outside]))
    spread = 1.4826 * float(np.median(np.abs(image[outside] - base)))
    ring = np.where((apart > 1) & (apart <= 5), labels[tuple(nearest)], 0)
    inside = ndimage.mean(image, labels, numbers)
    counts = ndimage.sum_labels(np.ones_like(image), ring, numbers)
    around = np.full(len(numbers), base)
    free = counts >= 8
    around[free] = ndimage.mean(image, ring, numbers[free])
    contrast: NDArray[np.float64] = (inside - around) / max(spread, 1e-9)
    return contrast


def wall_contrast(
    image: Image, labels: Labels, numbers: NDArray[np.integer[Any]],
    spacing: Spacing | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Brightness of each cell's walls over its inside.

    Parameters
    ----------
    image, labels, numbers, spacing
        As of `object_contrast`; membranes lie between the labels.

    Returns
    -------
    ndarray, shape (n,)
        (Mean of its voxels within 1.5 px of another label - mean of those further
        inside) / standard deviation of the latter over all cells; infinite for a cell
        without an inside or a wall.
    """
    border = skimage.segmentation.find_boundaries(labels, mode="thick")
    depth = ndimage.distance_transform_edt(~border, spacing)
    wall = np.where(depth <= 1.5, labels, 0)
    inner = np.where(depth > 1.5, labels, 0)
    ones = np.ones_like(image)
    there = np.asarray(ndimage.sum_labels(ones, inner, numbers)) > 0
    there &= np.asarray(ndimage.sum_labels(ones, wall, numbers)) > 0
    contrast = np.full(len(numbers), np.inf)
    outer = ndimage.mean(image, wall, numbers[there])
    within = ndimage.mean(image, inner, numbers[there])
    residual = ndimage.standard_deviation(image, inner, numbers[there])
    spread = float(np.median(residual)) if there.any() else 1.0
    contrast[there] = (np.asarray(outer) - within) / max(spread, 1e-9)
    return contrast


def find_phantoms(
    image: Image, labels: Labels, typical_area: float, spacing: Spacing | None = None
) -> Labels:
    """Find bright components outside all labels (grown by 2 px).

    Parameters
    ----------
    image, labels : ndarray, shape ([Z,] Y, X)
        Unit intensities and labels.
    typical_area : float
        Size of an object in px (voxels): smaller than a third of it is none.
    spacing : tuple of float, optional
        Of volumes.

    Returns
    -------
    ndarray, shape ([Z,] Y, X)
        Phantoms, from 1 without gaps.
    """
    free = morphology.foreground_mask(image, spacing=spacing) & (
        ndimage.distance_transform_edt(labels == 0, spacing) > 2
    )
    # Planes lie apart: opened in the plane.
    flat = ndimage.generate_binary_structure(2, 1)
    structure = flat if image.ndim == 2 else flat[None]
    found, _ = ndimage.label(ndimage.binary_opening(free, structure, iterations=2))
    large = np.bincount(found.ravel()) >= typical_area / 3
    large[0] = False
    numbers: Labels = np.where(large, np.cumsum(large), 0)
    phantoms: Labels = numbers[found]
    return phantoms


def count_phantoms(
    image: Image, labels: Labels, typical_area: float, spacing: Spacing | None = None
) -> int:
    """Count what `find_phantoms` finds."""
    return int(find_phantoms(image, labels, typical_area, spacing).max(initial=0))


def check_fidelity(
    image: Image, labels: Labels, radius: float, *, spacing: Spacing | None = None,
    membranes: bool = False,
) -> Fidelity:  # fmt: skip
    """Compare an image with its labels.

    Parameters
    ----------
    image : ndarray, shape ([Z,] Y, X)
        Unit intensities.
    labels : ndarray, shape ([Z,] Y, X)
        Labels that it should show.
    radius : float
        Typical object radius in px (of y).
    spacing : tuple of float, optional
        Of volumes: a voxel along z, y and x, as a multiple of that along y.
    membranes : bool
        Whether the image shows the walls of the cells instead of nuclei.
    """
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    numbers = np.flatnonzero(areas)
    if membranes:
        again = segment_membranes(image, radius, spacing)
    else:
        again = morphology.segment(image, radius, spacing)
    table = pd.DataFrame({"label": numbers, "area": areas[numbers]})
    if len(numbers):
        contrast = wall_contrast if membranes else object_contrast
        table["contrast"] = contrast(image, labels, numbers, spacing)
        table["dice"] = dice_per_object(labels, again)
    else:
        table["contrast"], table["dice"] = [], []
    phantoms = 0
    if not membranes:
        size = ball_volume(radius, image.ndim) / math.prod(spacing or (1.0,))
        phantoms = count_phantoms(image, labels, size, spacing)
    return Fidelity(table, phantoms, match(labels, again, (0.5,))[0].f1)

"""Fidelity: whether a synthetic image still shows what its label says.

The papers admit phantom cells that noise gave birth to, and dim cells that vanish. Both
are looked for here, object by object, with nothing but the image and its label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage import segmentation

from phantomscope.measure import morphology
from phantomscope.measure.instance import dice_per_object, match

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Fidelity:
    """Agreement of one image with its labels.

    Attributes
    ----------
    objects : DataFrame
        Per object: label, area, contrast (brightness over its surroundings in standard
        deviations of the background), dice (with the best object of an independent
        re-segmentation).
    phantoms : int
        Bright objects of at least a third of the typical area without a label.
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
    image: Image, labels: Labels, numbers: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Brightness of each object over its surroundings.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Intensities.
    labels : ndarray, shape (Y, X)
        Instance labels.
    numbers : ndarray, shape (n,)
        Labels to measure.

    Returns
    -------
    ndarray, shape (n,)
        (Mean inside - mean of a ring of 2 to 5 px around it) / standard deviation of
        the background. Pixels of other objects are left out; an object without any
        free ring is compared with the background of the image.
    """
    outside = ndimage.distance_transform_edt(labels == 0) > 2
    if outside.sum() < 50:
        outside = labels == 0
    if not outside.any():
        return np.full(len(numbers), np.inf)
    base = float(np.median(image[outside]))
    spread = 1.4826 * float(np.median(np.abs(image[outside] - base)))
    near = segmentation.expand_labels(labels, 5)
    ring = np.where(segmentation.expand_labels(labels, 1) > 0, 0, near)
    inside = ndimage.mean(image, labels, numbers)
    counts = ndimage.sum_labels(np.ones_like(image), ring, numbers)
    around = np.full(len(numbers), base)
    free = counts >= 8
    around[free] = ndimage.mean(image, ring, numbers[free])
    contrast: NDArray[np.float64] = (inside - around) / max(spread, 1e-9)
    return contrast


def count_phantoms(image: Image, labels: Labels, typical_area: float) -> int:
    """Count bright components outside all labels (grown by 2 px)."""
    free = morphology.foreground_mask(image) & (
        ndimage.distance_transform_edt(labels == 0) > 2
    )
    found, count = ndimage.label(ndimage.binary_opening(free, iterations=2))
    if count == 0:
        return 0
    areas = np.bincount(found.ravel())[1:]
    return int((areas >= typical_area / 3).sum())


def check_fidelity(image: Image, labels: Labels, radius: float) -> Fidelity:
    """Compare an image with its labels.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Unit intensities.
    labels : ndarray, shape (Y, X)
        Labels that it should show.
    radius : float
        Typical object radius in px.
    """
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    numbers = np.flatnonzero(areas)
    again = morphology.segment(image, radius)
    table = pd.DataFrame({"label": numbers, "area": areas[numbers]})
    if len(numbers):
        table["contrast"] = object_contrast(image, labels, numbers)
        table["dice"] = dice_per_object(labels, again)
    else:
        table["contrast"], table["dice"] = [], []
    phantoms = count_phantoms(image, labels, np.pi * radius**2)
    return Fidelity(table, phantoms, match(labels, again, (0.5,))[0].f1)

"""The classical baseline: Otsu's threshold and a watershed of the distance transform.

It expects bright objects on a dark background.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import skimage
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.downstream.common import Array, check_image, check_pairs
from phantomscope.errors import PhantomscopeError
from phantomscope.images.labels import compact_labels
from phantomscope.measure.instance import match


def otsu_watershed(
    image: Array, sigma: float, *, min_size: int | None = None, anisotropy: float = 1.0
) -> Array:
    """Segment bright objects without training.

    Parameters
    ----------
    image : ndarray, shape ([Z,] Y, X)
        Any intensity range and numeric dtype.
    sigma : float
        Standard deviation of the Gaussian smoothing before the threshold, in px of
        the planes.
    min_size : int, optional
        Smaller objects are dropped, in px; by default those below a tenth of the
        typical size, which this function takes from the image itself.
    anisotropy : float
        How many times larger a voxel is in z than in y and x; of no effect in 2D.

    Returns
    -------
    ndarray of uint16 (uint32 above 65535 objects), shape ([Z,] Y, X)
        0 is background, objects count from 1. All 0 for a constant image.

    Raises
    ------
    PhantomscopeError
        If `image` is no grey image or volume, or `sigma` is negative.
    """
    if not sigma >= 0:
        raise PhantomscopeError(
            f"the smoothing is {sigma} px", fix="give 0 or a positive number"
        )
    image = check_image(image)
    # Size of a voxel along each axis, in px of the planes.
    spacing = np.array([anisotropy, 1.0, 1.0])[-image.ndim :]
    smooth = ndimage.gaussian_filter(image, sigma / spacing)
    if smooth.min() == smooth.max():
        return np.zeros(smooth.shape, np.uint16)
    foreground = ndimage.binary_fill_holes(
        smooth > skimage.filters.threshold_otsu(smooth)
    )
    distance = ndimage.distance_transform_edt(foreground, sampling=spacing)
    radius = _typical_radius(foreground, distance)
    # Without smoothing every dent of an outline gives a ridge and splits the object.
    distance = ndimage.gaussian_filter(distance, radius / 8 / spacing) * foreground
    # Centres of touching objects are about two radii apart, those of small ones less;
    # half a radius and radius / 8 above were the best of nine pairs on real nuclei.
    reach = [max(1, round(radius / 2 / size)) for size in spacing]
    peaks = skimage.feature.peak_local_max(
        distance,
        # Parts plateaus, by whole voxels of any axis: the footprint does the rest.
        min_distance=min(reach),
        footprint=np.ones([2 * n + 1 for n in reach]),
        labels=ndimage.label(foreground)[0],
        exclude_border=False,
    )
    markers = np.zeros(smooth.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    objects = skimage.segmentation.watershed(-distance, markers, mask=foreground)
    smallest = _tenth(radius, spacing) if min_size is None else min_size
    small = np.bincount(objects.ravel()) < smallest
    objects[small[objects]] = 0
    return compact_labels(objects)


def _tenth(radius: float, spacing: NDArray[np.float64]) -> float:
    """Return a tenth of a disc, or of a ball in voxels of this size."""
    if len(spacing) == 2:
        return float(np.pi * radius**2 / 10)
    return float(4 / 3 * np.pi * radius**3 / np.prod(spacing) / 10)


def _typical_radius(foreground: Array, distance: Array) -> float:
    """Return the median inscribed radius of the components, in px, at least 1.

    The largest inscribed disc of a clump is about as large as that of one of its
    objects, so that clumps do not raise it. Specks of noise are left out: components
    count in proportion to their area.
    """
    parts, number = ndimage.label(foreground)
    index = np.arange(1, number + 1)
    radii = np.asarray(ndimage.maximum(distance, parts, index))
    areas = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    order = np.argsort(radii)
    half = np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)
    return max(1.0, float(radii[order][half]))


def tune(
    images: Sequence[Array],
    labels: Sequence[Array],
    sigmas: Sequence[float],
    threshold: float = 0.5,
    anisotropy: float = 1.0,
    planes: Sequence[Sequence[int] | None] | None = None,
) -> float:
    """Return the smoothing with the highest average precision on annotated images.

    Parameters
    ----------
    images : sequence of ndarray, each of shape ([Z,] Y, X)
        Annotated images.
    labels : sequence of ndarray of integer, each of shape ([Z,] Y, X)
        Their instance labels.
    sigmas : sequence of float
        Candidates, in px.
    threshold : float
        IoU at which an object counts as found.
    anisotropy : float
        As in `otsu_watershed`.
    planes : sequence of (sequence of int or None), optional
        For each volume the planes that are annotated, None for all; whole volumes are
        segmented, these planes count.

    Returns
    -------
    float
        The candidate with the highest TP / (TP + FP + FN), counts pooled over the
        images; the smallest one among equals.

    Raises
    ------
    PhantomscopeError
        For unusable pairs or an empty list of candidates.
    """
    images, labels = check_pairs(images, labels)
    if not len(sigmas):
        raise PhantomscopeError(
            "there is no smoothing to choose from",
            where="segment.classical.sigmas",
            fix="give at least one number",
        )

    known = [
        slice(None) if one is None else list(one)
        for one in planes or [None] * len(images)
    ]

    def precision(sigma: float) -> float:
        found = []
        for image, label, part in zip(images, labels, known, strict=True):
            mask = otsu_watershed(image, sigma, anisotropy=anisotropy)
            found.append(match(label[part], mask[part], [threshold])[0])
        hits = sum(one.tp for one in found)
        misses = sum(one.fp + one.fn for one in found)
        return hits / (hits + misses)

    return float(max(sorted(sigmas), key=precision))

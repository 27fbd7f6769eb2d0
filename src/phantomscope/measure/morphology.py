"""Classical segmentation and the shape of objects, without annotation.

This is how the sketch parameters are measured on real images, and the independent
re-segmentation that checks synthetic ones. It needs no tuning: the object size is
found from the image. Volumes are measured in space: `spacing` is the size of a voxel
along z, y and x as a multiple of that along y, and lengths are in px of y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage import feature, filters, measure, segmentation

from phantomscope.measure.edges import (
    Spacing,
    sampling,
)
from phantomscope.measure.edges import edge_softness as edge_softness
from phantomscope.measure.edges import signed_distance as signed_distance
from phantomscope.measure.moments import image_shapes, volume_shapes

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

SMALLEST_AREA = 12


def _along_axes(
    length: float, ndim: int, spacing: Spacing | None
) -> float | tuple[float, ...]:
    """Return a length in voxels: one number for images, one per axis for volumes."""
    if ndim == 2:
        return length
    return tuple(length / one for one in spacing or (1.0,) * ndim)


def _structure(ndim: int) -> Mask | None:
    """Neighbours for morphology: of volumes those in the plane, as planes lie apart."""
    if ndim == 2:
        return None
    return np.asarray(ndimage.generate_binary_structure(2, 1)[None])


def _root(image: Image, sigma: float, spacing: Spacing | None) -> Image:
    """Smooth an image and take the square root, the brightest 0.5% cut off."""
    smooth = filters.gaussian(
        np.clip(image, 0, None), _along_axes(sigma, image.ndim, spacing),
        preserve_range=True,
    )  # fmt: skip
    return np.asarray(np.sqrt(smooth))


def shared_threshold(
    images: Sequence[Image], sigma: float = 1.0, spacing: Spacing | None = None
) -> float:
    """Threshold of `foreground_mask` for parts of one volume, some perhaps empty.

    Parameters
    ----------
    images : sequence of ndarray, shape ([Z,] Y, X)
        Unit intensities.
    sigma : float
        Smoothing in px.
    spacing : tuple of float, optional
        Of volumes.
    """
    root = np.concatenate([_root(i, sigma, spacing).ravel() for i in images])
    top = np.percentile(root, 99.5)
    return float(filters.threshold_otsu(np.minimum(root, top)))


def foreground_mask(
    image: Image, sigma: float = 1.0, spacing: Spacing | None = None,
    threshold: float | None = None,
) -> Mask:  # fmt: skip
    """Otsu's threshold on the smoothed square root of an image.

    The square root keeps a few very bright objects from pulling the threshold over the
    dim ones.

    Parameters
    ----------
    image : ndarray, shape ([Z,] Y, X)
        Unit intensities (0: dark, 1: bright).
    sigma : float
        Smoothing in px.
    spacing : tuple of float, optional
        Of volumes.
    threshold : float, optional
        Of the square root; found from the image by default.
    """
    root = _root(image, sigma, spacing)
    if threshold is None:
        top = np.percentile(root, 99.5)
        threshold = filters.threshold_otsu(np.minimum(root, top))
    return np.asarray(root > threshold)


def typical_radius(mask: Mask, spacing: Spacing | None = None) -> float:
    """Radius of the typical object of a mask, in px, robust against clumps.

    The median of the largest inscribed circles (balls) of the components, weighted by
    area.
    """
    labels, count = ndimage.label(mask)
    if count == 0:
        return 0.0
    distance = ndimage.distance_transform_edt(mask, sampling(mask.ndim, spacing))
    numbers = np.arange(1, count + 1)
    inner = ndimage.maximum(distance, labels, numbers)
    area = np.bincount(labels.ravel())[1:]
    keep = area >= SMALLEST_AREA
    if not keep.any():
        return 0.0
    order = np.argsort(inner[keep])
    weight = np.cumsum(area[keep][order])
    middle = np.searchsorted(weight, weight[-1] / 2)
    return float(inner[keep][order][middle])


def segment(
    image: Image, radius: float | None = None, spacing: Spacing | None = None,
    threshold: float | None = None,
) -> Labels:  # fmt: skip
    """Threshold, distance transform, watershed, and each object's half maximum.

    Parameters
    ----------
    image : ndarray, shape ([Z,] Y, X)
        Unit intensities.
    radius : float, optional
        Typical object radius in px; found from the image by default.
    spacing : tuple of float, optional
        Of volumes.
    threshold : float, optional
        As `shared_threshold` gives it; found from the image by default.

    Returns
    -------
    ndarray, shape ([Z,] Y, X)
        int32 labels, 0 is background.
    """
    mask = foreground_mask(image, spacing=spacing, threshold=threshold)
    radius = typical_radius(mask, spacing) if radius is None else radius
    if radius <= 0:
        return np.zeros(image.shape, np.int32)
    structure = _structure(image.ndim)
    mask = ndimage.binary_fill_holes(mask, structure)
    mask = ndimage.binary_opening(mask, structure, iterations=max(1, round(radius / 6)))
    distance = ndimage.distance_transform_edt(mask, sampling(image.ndim, spacing))
    smooth = ndimage.gaussian_filter(
        distance, _along_axes(max(1.0, radius / 8), image.ndim, spacing)
    )
    peaks = _peaks(smooth, mask, radius, spacing)
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-smooth, seeds, mask=mask).astype(np.int32)
    labels = _half_maximum(labels, image, spacing)
    small = np.flatnonzero(np.bincount(labels.ravel()) < SMALLEST_AREA)
    labels[np.isin(labels, small)] = 0
    return labels


def _peaks(
    smooth: Image, mask: Mask, radius: float, spacing: Spacing | None
) -> NDArray[np.int64]:
    """Local maxima at least half a radius apart, shape (n, ndim)."""
    apart = max(2, round(radius * 0.5))
    if smooth.ndim == 2:
        where: dict[str, Any] = {"min_distance": apart}
    else:
        sides = [2 * max(1, round(apart / s)) + 1 for s in spacing or (1, 1, 1)]
        where = {"footprint": np.ones(sides, bool)}
    peaks = feature.peak_local_max(
        smooth, labels=mask.astype(int), exclude_border=False, **where
    )
    return np.asarray(peaks, np.int64)


def _half_maximum(labels: Labels, image: Image, spacing: Spacing | None) -> Labels:
    """Keep the pixels of each object above half its height over the background.

    One threshold for all makes bright objects too large; half the height is where the
    edge of a blurred object lies, whatever its brightness.
    """
    if labels.max() == 0:
        return labels
    smooth = ndimage.gaussian_filter(
        image.astype(float), _along_axes(0.7, image.ndim, spacing)
    )
    outside = labels == 0
    level = float(np.median(smooth[outside])) if outside.any() else float(smooth.min())
    numbers = np.arange(1, labels.max() + 1)
    height = np.zeros(len(numbers) + 1)
    structure = _structure(image.ndim)
    # Again and again: the halo of a bright object lowers its first median.
    for _ in range(3):
        height[1:] = np.nan_to_num(label_medians(smooth, labels, numbers))
        kept = (labels > 0) & (smooth > (level + height[labels]) / 2)
        labels = np.where(ndimage.binary_opening(kept, structure), labels, 0)
    return labels


def label_medians(image: Image, labels: Labels, numbers: Any) -> NDArray[np.float64]:
    """Median of each of these labels; only their pixels are sorted."""
    inside = labels > 0
    return np.asarray(ndimage.median(image[inside], labels[inside], numbers))


def object_table(
    labels: Labels, image: Image, spacing: Spacing | None = None
) -> pd.DataFrame:
    """Measure each object.

    Parameters
    ----------
    labels : ndarray, shape ([Z,] Y, X)
        Instance labels.
    image : ndarray, shape ([Z,] Y, X)
        Intensities.
    spacing : tuple of float, optional
        Of volumes.

    Returns
    -------
    pandas.DataFrame
        One row per object: label, area (px or voxels), radius (px, of the circle of
        that area or the ball of that volume), elongation (major by minor axis; in the
        plane), solidity (in volumes that of the moments: volume by that of the
        ellipsoid of the same second moments), intensity (median), border (touches the
        image's edge), neighbours (touches another object); in volumes axial (extent
        along z by that in the plane).
    """
    if labels.ndim == 3:
        table = volume_shapes(labels, spacing or (1.0, 1.0, 1.0))
    else:
        table = image_shapes(labels)
    table["intensity"] = label_medians(image, labels, table["label"])
    faces = [
        np.take(labels, end, axis) for axis in range(labels.ndim) for end in (0, -1)
    ]
    edge = np.concatenate([face.ravel() for face in faces])
    table["border"] = table["label"].isin(np.unique(edge))
    table["neighbours"] = table["label"].isin(touching_labels(labels))
    return table


def touching_labels(labels: Labels) -> NDArray[np.integer[Any]]:
    """Labels of the objects that touch another one (over an edge of a pixel)."""
    found = []
    for axis in range(labels.ndim):
        a = np.take(labels, range(labels.shape[axis] - 1), axis)
        b = np.take(labels, range(1, labels.shape[axis]), axis)
        touch = (a != b) & (a > 0) & (b > 0)
        found += [a[touch], b[touch]]
    return np.unique(np.concatenate(found))


@dataclass(frozen=True)
class BackgroundModel:
    """Background and noise of an image, in its intensity units.

    Attributes
    ----------
    level : float
        Median of the background.
    variation : float
        Standard deviation of its slow change over the image.
    read : float
        Standard deviation of the noise at zero signal.
    gain : float
        Growth of the noise variance per intensity (shot noise).
    """

    level: float
    variation: float
    read: float
    gain: float


def background_model(
    image: Image, labels: Labels, radius: float, spacing: Spacing | None = None
) -> BackgroundModel:
    """Measure background and noise outside and inside the objects."""
    outside = ndimage.distance_transform_edt(
        labels == 0, sampling(labels.ndim, spacing)
    )
    far = outside - 0.5 > max(3.0, radius / 2)
    if far.sum() < 100:
        far = labels == 0
    if far.sum() < 100:
        far = image <= np.percentile(image, 20)
    level = float(np.median(image[far]))
    # Noise: differences of diagonal neighbours (in the plane) hold little structure.
    residual = image - ndimage.uniform_filter(
        image, 3 if image.ndim == 2 else (1, 3, 3)
    )
    scale = 1.4826 / np.sqrt(8 / 9)

    def variance(mask: Mask) -> float:
        return float((scale * np.median(np.abs(residual[mask]))) ** 2)

    dark = variance(far)
    inside = ndimage.binary_erosion(labels > 0, _structure(image.ndim), iterations=2)
    gain = 0.0
    if inside.sum() > 100:
        bright = float(np.median(image[inside]))
        if bright > level:
            gain = max(0.0, (variance(inside) - dark) / (bright - level))
    read = np.sqrt(max(dark - gain * level, 0.25 * dark))
    slow = _slow_change(image, far, radius, spacing)
    return BackgroundModel(level, slow, float(read), gain)


def _slow_change(
    image: Image, where: Mask, radius: float, spacing: Spacing | None
) -> float:
    """Spread of the background over distances beyond two object radii.

    Blocks of a quarter of a radius first: the smoothing would take seconds otherwise.
    """
    spaced = (1.0, 1.0) if image.ndim == 2 else spacing or (1.0, 1.0, 1.0)
    side = tuple(max(1, int(radius / one // 4)) for one in spaced)
    share = measure.block_reduce(where.astype(float), side, np.mean)
    level = measure.block_reduce(np.where(where, image, 0.0), side, np.mean)
    sigma = [
        (2 * radius + 1) / (one * length)
        for one, length in zip(spaced, side, strict=True)
    ]
    weight = ndimage.gaussian_filter(share, sigma)
    slow = ndimage.gaussian_filter(level, sigma)
    use = share > 0.25
    if not use.any():
        return 0.0
    return float(np.std(slow[use] / np.maximum(weight[use], 1e-6)))

"""Classical segmentation and the shape of objects, without annotation.

This is how the sketch parameters are measured on real images, and the independent
re-segmentation that checks synthetic ones. It needs no tuning: the object size is
found from the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, optimize, special
from skimage import feature, filters, measure, segmentation

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

SMALLEST_AREA = 12


def foreground_mask(image: Image, sigma: float = 1.0) -> NDArray[np.bool_]:
    """Otsu's threshold on the smoothed square root of an image.

    The square root keeps a few very bright objects from pulling the threshold over the
    dim ones.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Unit intensities (0: dark, 1: bright).
    sigma : float
        Smoothing in px.
    """
    smooth = filters.gaussian(np.clip(image, 0, None), sigma, preserve_range=True)
    root = np.sqrt(smooth)
    top = np.percentile(root, 99.5)
    return np.asarray(root > filters.threshold_otsu(np.minimum(root, top)))


def typical_radius(mask: NDArray[np.bool_]) -> float:
    """Radius of the typical object of a mask, in px, robust against clumps.

    The median of the largest inscribed circles of the components, weighted by area.
    """
    labels, count = ndimage.label(mask)
    if count == 0:
        return 0.0
    distance = ndimage.distance_transform_edt(mask)
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


def segment(image: Image, radius: float | None = None) -> Labels:
    """Threshold, distance transform, watershed, and each object's half maximum.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Unit intensities.
    radius : float, optional
        Typical object radius in px; found from the image by default.

    Returns
    -------
    ndarray, shape (Y, X)
        int32 labels, 0 is background.
    """
    mask = foreground_mask(image)
    radius = typical_radius(mask) if radius is None else radius
    if radius <= 0:
        return np.zeros(image.shape, np.int32)
    mask = ndimage.binary_fill_holes(mask)
    mask = ndimage.binary_opening(mask, iterations=max(1, round(radius / 6)))
    distance = ndimage.distance_transform_edt(mask)
    smooth = ndimage.gaussian_filter(distance, max(1.0, radius / 8))
    peaks = feature.peak_local_max(
        smooth, min_distance=max(2, round(radius * 0.5)), labels=mask.astype(int),
        exclude_border=False,
    )  # fmt: skip
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-smooth, seeds, mask=mask).astype(np.int32)
    labels = _half_maximum(labels, image)
    small = np.flatnonzero(np.bincount(labels.ravel()) < SMALLEST_AREA)
    labels[np.isin(labels, small)] = 0
    return labels


def _half_maximum(labels: Labels, image: Image) -> Labels:
    """Keep the pixels of each object above half its height over the background.

    One threshold for all makes bright objects too large; half the height is where the
    edge of a blurred object lies, whatever its brightness.
    """
    if labels.max() == 0:
        return labels
    smooth = ndimage.gaussian_filter(image.astype(float), 0.7)
    outside = labels == 0
    level = float(np.median(smooth[outside])) if outside.any() else float(smooth.min())
    numbers = np.arange(1, labels.max() + 1)
    height = np.zeros(len(numbers) + 1)
    # Again and again: the halo of a bright object lowers its first median.
    for _ in range(3):
        height[1:] = np.nan_to_num(ndimage.median(smooth, labels, numbers))
        kept = (labels > 0) & (smooth > (level + height[labels]) / 2)
        labels = np.where(ndimage.binary_opening(kept), labels, 0)
    return labels


def object_table(labels: Labels, image: Image) -> pd.DataFrame:
    """Measure each object.

    Parameters
    ----------
    labels : ndarray, shape (Y, X)
        Instance labels.
    image : ndarray, shape (Y, X)
        Intensities.

    Returns
    -------
    pandas.DataFrame
        One row per object: label, area (px), radius (px, of the circle of that area),
        elongation (major by minor axis), solidity, intensity (median), border (touches
        the image's edge), neighbours (touches another object).
    """
    names = ("label", "area", "axis_major_length", "axis_minor_length", "solidity")
    table = pd.DataFrame(measure.regionprops_table(labels, properties=names))
    table["radius"] = np.sqrt(table["area"] / np.pi)
    minor = table["axis_minor_length"].clip(lower=1.0)
    table["elongation"] = (table["axis_major_length"] / minor).clip(lower=1.0)
    table["intensity"] = ndimage.median(image, labels, table["label"])
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    table["border"] = table["label"].isin(np.unique(edge))
    table["neighbours"] = table["label"].isin(touching_labels(labels))
    return table.drop(columns=["axis_major_length", "axis_minor_length"])


def touching_labels(labels: Labels) -> NDArray[np.integer[Any]]:
    """Labels of the objects that touch another one (over an edge of a pixel)."""
    found = []
    for axis in range(labels.ndim):
        a = np.take(labels, range(labels.shape[axis] - 1), axis)
        b = np.take(labels, range(1, labels.shape[axis]), axis)
        touch = (a != b) & (a > 0) & (b > 0)
        found += [a[touch], b[touch]]
    return np.unique(np.concatenate(found))


def signed_distance(labels: Labels) -> NDArray[np.float64]:
    """Distance to the edge of the foreground: positive outside, negative inside.

    The edge lies between pixels: the first pixel on either side has distance 0.5.
    """
    inside = labels > 0
    outer = ndimage.distance_transform_edt(~inside)
    inner = ndimage.distance_transform_edt(inside)
    distance: NDArray[np.float64] = np.where(inside, 0.5 - inner, outer - 0.5)
    return distance


def edge_softness(image: Image, labels: Labels, reach: float = 5.0) -> float:
    """Blur of the objects' edges: sigma of a Gaussian, in px.

    The mean brightness as a function of the distance to the edge is fitted by an error
    function whose position is free, since a threshold may cut inside or outside.
    """
    distance = signed_distance(labels)
    near = np.abs(distance) <= reach
    bins = np.arange(-reach, reach + 0.5, 0.5)
    where = np.digitize(distance[near], bins)
    total = np.bincount(where, image[near], len(bins) + 1)
    count = np.bincount(where, minlength=len(bins) + 1)
    use = count > 20
    if use.sum() < 6:
        return 1.0
    profile = total[use] / count[use]
    at = np.bincount(where, distance[near], len(bins) + 1)[use] / count[use]

    def model(x: Image, low: float, high: float, shift: float, sigma: float) -> Image:
        edge = special.erfc((x - shift) / (np.sqrt(2) * sigma)) / 2
        return np.asarray(low + (high - low) * edge)

    first = (profile[-1], profile[0], 0.0, 1.5)
    limits = ([-np.inf, -np.inf, -reach, 0.2], [np.inf, np.inf, reach, reach])
    try:
        fit, _ = optimize.curve_fit(model, at, profile, first, bounds=limits)
    except (RuntimeError, ValueError):
        return 1.0
    return float(fit[3])


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


def background_model(image: Image, labels: Labels, radius: float) -> BackgroundModel:
    """Measure background and noise outside and inside the objects."""
    far = signed_distance(labels) > max(3.0, radius / 2)
    if far.sum() < 100:
        far = labels == 0
    if far.sum() < 100:
        far = image <= np.percentile(image, 20)
    level = float(np.median(image[far]))
    # Noise: differences of diagonal neighbours hold little structure.
    residual = image - ndimage.uniform_filter(image, 3)
    scale = 1.4826 / np.sqrt(8 / 9)

    def variance(mask: NDArray[np.bool_]) -> float:
        return float((scale * np.median(np.abs(residual[mask]))) ** 2)

    dark = variance(far)
    inside = ndimage.binary_erosion(labels > 0, iterations=2)
    gain = 0.0
    if inside.sum() > 100:
        bright = float(np.median(image[inside]))
        if bright > level:
            gain = max(0.0, (variance(inside) - dark) / (bright - level))
    read = np.sqrt(max(dark - gain * level, 0.25 * dark))
    return BackgroundModel(level, _slow_change(image, far, radius), float(read), gain)


def _slow_change(image: Image, where: NDArray[np.bool_], radius: float) -> float:
    """Spread of the background over distances beyond two object radii.

    Blocks of a quarter of a radius first: the smoothing would take seconds otherwise.
    """
    side = max(1, int(radius // 4))
    share = measure.block_reduce(where.astype(float), side, np.mean)
    level = measure.block_reduce(np.where(where, image, 0.0), side, np.mean)
    sigma = (2 * radius + 1) / side
    weight = ndimage.gaussian_filter(share, sigma)
    slow = ndimage.gaussian_filter(level, sigma)
    use = share > 0.25
    if not use.any():
        return 0.0
    return float(np.std(slow[use] / np.maximum(weight[use], 1e-6)))

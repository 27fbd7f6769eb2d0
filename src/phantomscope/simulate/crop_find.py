"""Where objects are that may become crops, and how sharp they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from phantomscope.config.layers import Crops
from phantomscope.images.normalise import log_unit
from phantomscope.measure.detection import labels_at
from phantomscope.measure.foreground import by_area, ellipse, opened, otsu_mask

Image = NDArray[Any]
Mask = NDArray[np.bool_]
Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cut:
    """An object that was cut out.

    Attributes
    ----------
    y, x : int
        First pixel in its image.
    image, mask : ndarray, shape (h, w)
        Intensities as they were, and the object.
    kind : str
        Its class.
    focus : float
        Mean absolute Laplacian within it.
    clean : bool
        Whether the object itself was found, and not only its box.
    """

    y: int
    x: int
    image: Image
    mask: Mask
    kind: str
    focus: float
    clean: bool = True


def unit_range(image: Image, options: Crops) -> Float:
    """Return an image with objects bright, least and greatest 0 and 1."""
    image = np.asarray(image, np.float32)
    if options.log:
        image = np.log1p(np.clip(image, 0, None))
    low, high = float(image.min()), float(image.max())
    unit = (image - low) / (high - low if high > low else 1)
    return np.asarray(1 - unit if options.dark else unit, np.float32)


def above_mean(unit: Float, window: int, offset: float) -> Mask:
    """Return what is so far above the mean of its neighbourhood (in 1/255)."""
    mean = ndimage.uniform_filter(unit, window, mode="nearest")
    found: Mask = unit > mean + offset / 255
    return found


def _smooth(unit: Float, options: Crops) -> Float:
    if options.median > 1:
        for _ in range(options.median_passes):
            unit = ndimage.median_filter(unit, options.median, mode="nearest")
    if options.smooth > 0:
        unit = ndimage.gaussian_filter(unit, options.smooth, mode="mirror")
    return unit


def foreground(image: Image, options: Crops) -> Mask:
    """Return what the recipe takes for objects, shape (Y, X)."""
    unit = _smooth(unit_range(image, options), options)
    if options.window:
        mask = above_mean(unit, options.window, options.offset)
    else:
        mask = otsu_mask(unit, options.otsu_factor)
    mask = opened(mask, options.opening, options.opening_passes)
    if options.dilation > 1:
        disc = ellipse(options.dilation)
        mask = ndimage.binary_dilation(mask, disc, options.dilation_passes)
    return mask


def focus_image(image: Image, options: Crops) -> Float:
    """Return the absolute Laplacian of an image from 0 to 1, shape (Y, X)."""
    if options.score_limits and options.log:
        unit = log_unit(image, options.score_limits)
    elif options.score_limits:
        low, high = options.score_limits
        unit = np.clip((np.asarray(image, np.float32) - low) / (high - low), 0, 1)
    else:
        unit = unit_range(image, options)
    if options.score == "log":
        curved: Float = ndimage.gaussian_laplace(unit, 1.0, mode="mirror")
    else:
        curved = ndimage.laplace(unit, mode="mirror")
    return np.abs(curved)


def _whole(labels: NDArray[Any], options: Crops) -> NDArray[Any]:
    """Drop objects that touch the border, unless they are to stay."""
    if not options.border:
        edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
        cut = np.unique(np.concatenate(edges))
        labels = np.where(np.isin(labels, cut), 0, labels)
    return by_area(labels, options.min_area, options.max_area)


def cut_labels(
    image: Image, labels: NDArray[Any], options: Crops, points: pd.DataFrame | None
) -> Iterator[Cut]:
    """Cut out each labelled object; its class is that of its points, size or focus."""
    labels, sharp = _whole(labels, options), focus_image(image, options)
    kinds = [] if points is None else points["type"].tolist()
    under: list[int] = []
    if points is not None:
        under = labels_at(points[["y", "x"]], labels).tolist()
    for number, part in enumerate(ndimage.find_objects(labels), 1):
        own = labels[part] == number
        focus = float(sharp[part][own].mean())
        kind = "object"
        if options.recipe == "points":
            found = {k for k, u in zip(kinds, under, strict=True) if u == number}
            if len(found) != 1 or options.debris in found:
                continue
            kind = found.pop()
        elif options.recipe == "focus":
            if options.out_of_focus < focus < options.in_focus:
                continue
            kind = "in_focus" if focus >= options.in_focus else "out_of_focus"
        elif options.size_limit is not None:
            kind = "small" if own.sum() < options.size_limit else "large"
        wide = tuple(
            slice(max(0, s.start - options.margin), s.stop + options.margin)
            for s in part
        )
        yield Cut(
            wide[0].start, wide[1].start, image[wide], labels[wide] == number, kind,
            focus,
        )  # fmt: skip


def _inside(box: NDArray[Any], shape: tuple[int, ...]) -> tuple[slice, slice]:
    corners = np.clip(np.rint(box), 0, [*shape, *shape]).astype(int)
    return slice(corners[0], corners[2]), slice(corners[1], corners[3])


def box_mask(boxes: pd.DataFrame, shape: tuple[int, ...]) -> Mask:
    """Return what is within any box."""
    mask = np.zeros(shape, bool)
    for box in boxes[["y1", "x1", "y2", "x2"]].to_numpy(float):
        mask[_inside(box, shape)] = True
    return mask


def cut_boxes(image: Image, boxes: pd.DataFrame, options: Crops) -> Iterator[Cut]:
    """Cut out the object in the middle of each box.

    Where none is found, all that is bright stays in the mask, and it is not clean.
    """
    sharp = focus_image(image, options)
    corners = boxes[["y1", "x1", "y2", "x2"]].to_numpy(float)
    for box, kind in zip(corners, boxes["type"], strict=True):
        part = _inside(box, image.shape)
        crop = image[part]
        if min(crop.shape) < 3 or crop.min() == crop.max():
            continue
        unit = _smooth(unit_range(crop, options), options)
        known = unit[unit > 0]
        if not known.size or known.min() == known.max():
            continue
        mask = unit > options.otsu_factor * threshold_otsu(known)
        labels, count = ndimage.label(mask)
        own, clean = mask, False
        if count:
            numbers = np.arange(1, count + 1)
            centres = np.array(ndimage.center_of_mass(mask, labels, numbers))
            far = np.hypot(*((centres + 0.5) / crop.shape - 0.5).T)
            areas = ndimage.sum_labels(mask, labels, numbers) * (far <= options.centre)
            best = int(areas.argmax()) + 1
            (found,) = ndimage.find_objects((labels == best).astype(np.uint8))
            spans = [s.stop - s.start for s in found]
            wide = (np.array(spans) > options.extent * np.array(crop.shape)).all()
            if areas.max() > 0 and wide:
                own, clean = labels == best, True
        yield Cut(
            part[0].start, part[1].start, crop, own, str(kind) or "object",
            float(sharp[part][own].mean()), clean,
        )  # fmt: skip


def cut_squares(
    image: Image, taken: Mask, options: Crops, rng: np.random.Generator
) -> Iterator[Cut]:
    """Cut squares at random; what is in boxes is not part of them."""
    sharp = focus_image(image, options)
    for draw in rng.random((options.squares_per_image, 3)):
        low, high = options.squares
        side = min(low + int(draw[0] * (high - low + 1)), high, *image.shape)
        y, x = (
            int(d * (n - side + 1)) for d, n in zip(draw[1:], image.shape, strict=True)
        )
        part = (slice(y, y + side), slice(x, x + side))
        own = ~taken[part]
        if own.any():
            focus = float(sharp[part][own].mean())
            yield Cut(y, x, image[part], own, "other", focus)


def holes(
    image: Image, options: Crops, objects: Mask, points: pd.DataFrame | None = None
) -> Mask:
    """Return what is no background: objects but for debris, or by local threshold."""
    if options.background_window:
        unit = unit_range(image, options)
        objects = above_mean(unit, options.background_window, options.background_offset)
    elif points is not None and len(points):
        labels, _ = ndimage.label(objects)
        under = labels_at(points[["y", "x"]], labels)
        dirt = (points["type"] == options.debris).to_numpy()
        pure = np.setdiff1d(under[dirt], under[~dirt])
        objects = objects & ~np.isin(labels, pure[pure > 0])
    if options.background_dilation:
        objects = ndimage.binary_dilation(
            objects, np.ones((3, 3), bool), options.background_dilation
        )
    return objects

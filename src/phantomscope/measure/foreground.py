"""From a separated layer to objects, as Javer & Rittscher did it for each data set.

Discs are those of OpenCV's `MORPH_ELLIPSE`, so that sizes of the released code mean the
same here. Thresholds and areas are arguments; their defaults are the published ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from phantomscope.config.filtering import Objects
from phantomscope.errors import PhantomscopeError
from phantomscope.images.labels import compact_labels

Mask = NDArray[np.bool_]
Labels = NDArray[Any]


def ellipse(side: int) -> Mask:
    """Return the disc of OpenCV's `MORPH_ELLIPSE`, shape (side, side)."""
    radius = side // 2
    rows = np.arange(side) - radius
    inverse = 1 / radius**2 if radius else 0.0
    # Where the row is beyond the radius (even sides) it is empty.
    reach = np.rint(radius * np.sqrt(np.clip(1 - rows**2 * inverse, 0, None)))
    x = np.arange(side)
    left, right = radius - reach, np.minimum(radius + reach + 1, side)
    inside = (x >= np.maximum(left, 0)[:, None]) & (x < right[:, None])
    found: Mask = inside & (np.abs(rows) <= radius)[:, None]
    return found


def opened(mask: Mask, side: int, passes: int = 1) -> Mask:
    """Erode, then dilate, so often each, by a disc; beyond the border it goes on."""
    if side < 2:
        return mask
    disc = ellipse(side)
    eroded = ndimage.binary_erosion(mask, disc, passes, border_value=1)
    found: Mask = ndimage.binary_dilation(eroded, disc, passes)
    return found


def closed(mask: Mask, side: int, passes: int = 1) -> Mask:
    """Dilate, then erode, so often each, by a disc; beyond the border is nothing."""
    if side < 2:
        return mask
    disc = ellipse(side)
    dilated = ndimage.binary_dilation(mask, disc, passes)
    found: Mask = ndimage.binary_erosion(dilated, disc, passes, border_value=1)
    return found


def otsu_mask(image: NDArray[Any], factor: float = 1.0) -> Mask:
    """Return what is above Otsu's threshold times a factor; of a flat image nothing."""
    image = np.asarray(image, np.float32)
    if image.size == 0 or image.min() == image.max():
        return np.zeros(image.shape, bool)
    found: Mask = image > factor * threshold_otsu(image)
    return found


def by_area(labels: Labels, least: float, most: float | None = None) -> Labels:
    """Drop objects below and above an area (px), and renumber the others."""
    areas = np.bincount(np.ravel(labels))
    kept = areas >= least
    if most is not None:
        kept &= areas <= most
    kept[0] = False
    return compact_labels(np.where(kept[labels], labels, 0))


def by_light(labels: Labels, layer: NDArray[Any], least: float) -> Labels:
    """Drop objects of a lower mean intensity in a layer, and renumber the others."""
    counts = np.maximum(np.bincount(np.ravel(labels)), 1)
    kept = np.bincount(np.ravel(labels), np.ravel(layer)) / counts >= least
    kept[0] = False
    return compact_labels(np.where(kept[labels], labels, 0))


def by_share(
    labels: Labels, layer: NDArray[Any], image: NDArray[Any], least: float
) -> Labels:
    """Drop objects of which a layer has a smaller share of the light.

    Parameters
    ----------
    labels : ndarray, shape (Y, X)
        Objects that were found in the layer.
    layer, image : ndarray, shape (Y, X)
        In one unit. The light of an object is what the image has above its median.
    least : float
        Share from 0 to 1.

    Returns
    -------
    ndarray, shape (Y, X)
        Labels, renumbered.
    """
    light = np.asarray(image, np.float64) - np.median(image)
    whole, own = (
        np.bincount(np.ravel(labels), np.ravel(values)) for values in (light, layer)
    )
    kept = own >= least * whole
    kept[0] = False
    return compact_labels(np.where(kept[labels], labels, 0))


def split_objects(
    layer: NDArray[Any], *, opening: int = 3, passes: int = 3, window: int = 11,
    least: float = 300.0, most: float | None = None, factor: float = 1.0,
) -> Labels:  # fmt: skip
    """Objects of a layer, touching ones split: the rule for BBBC026.

    Otsu, opening, holes filled, distance transform, its maxima within a disc as seeds
    of a watershed, and small objects dropped.

    Parameters
    ----------
    layer : ndarray, shape (Y, X)
        What the network kept, bright on dark.
    opening, passes : int
        Side of the disc of the opening (px), and how often.
    window : int
        Side of the disc in which a maximum is the greatest (px).
    least, most : float
        Areas (px); for counts of a plate 300 to 5000.
    factor : float
        Of Otsu's threshold.

    Returns
    -------
    ndarray, shape (Y, X)
        uint16 or uint32.
    """
    mask = opened(otsu_mask(layer, factor), opening, passes)
    mask = ndimage.binary_fill_holes(mask)
    distance = ndimage.distance_transform_edt(mask)
    highest = ndimage.maximum_filter(distance, footprint=ellipse(window))
    # A plateau is one seed.
    seeds, _ = ndimage.label((distance == highest) & mask, np.ones((3, 3)))
    return by_area(watershed(-distance, seeds, mask=mask), least, most)


def bounding_boxes(labels: Labels) -> NDArray[np.float64]:
    """Return the box (y1, x1, y2, x2) of each object, the second corner excluded."""
    found = [
        [part[0].start, part[1].start, part[0].stop, part[1].stop]
        for part in ndimage.find_objects(labels)
        if part is not None
    ]
    return np.array(found, np.float64).reshape(-1, 4)


def outlined_objects(
    layer: NDArray[Any], *, closing: int = 5, least: float = 300.0,
    most: float | None = None, factor: float = 1.0,
) -> Labels:  # fmt: skip
    """Objects of a layer whose boxes are asked for: the rule for BBBC042.

    Otsu (which finds the same whatever the scale), closing, outer outlines by area.

    Parameters
    ----------
    layer : ndarray, shape (Y, X)
        What the network kept, bright on dark.
    closing : int
        Side of the disc (px).
    least, most : float
        Area within the outer outline (px); here of pixels, holes filled. As published,
        objects are larger than `least`.
    factor : float
        Of Otsu's threshold.

    Returns
    -------
    ndarray, shape (Y, X)
        Labels, uint16 or uint32.
    """
    mask = ndimage.binary_fill_holes(closed(otsu_mask(layer, factor), closing))
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    return by_area(labels, least + 1e-9, most)


def layer_boxes(
    layer: NDArray[Any], *, closing: int = 5, least: float = 300.0
) -> NDArray[np.float64]:
    """Boxes (y1, x1, y2, x2) of `outlined_objects`, px, shape (n, 4)."""
    return bounding_boxes(outlined_objects(layer, closing=closing, least=least))


def removed_objects(
    image: NDArray[Any], output: NDArray[Any], *, step: float | None = 10.0 / 255.0,
    factor: float = 1.0,
) -> Mask:  # fmt: skip
    """Return what a network made lighter that removes dark objects: the rule for worms.

    Parameters
    ----------
    image, output : ndarray, shape (Y, X)
        Before and after, in one unit.
    step : float, optional
        Least difference; 10 of 255 grey values in the paper. (Its code compares with
        the sum of the output and the first row of it, which is a slip.) None: Otsu's
        threshold of the differences, which noise of the camera does not reach.
    factor : float
        Of Otsu's threshold.
    """
    if np.shape(image) != np.shape(output):
        raise PhantomscopeError(
            f"images of shapes {np.shape(image)} and {np.shape(output)} do not go "
            "together",
            fix="compare an image with what became of it",
        )
    lighter = np.asarray(output, np.float64) - np.asarray(image, np.float64)
    found: Mask = otsu_mask(lighter, factor) if step is None else lighter > step
    return found


def median_scene(frames: NDArray[Any]) -> NDArray[np.float32]:
    """Return the median of the frames of a video: what does not move.

    Parameters
    ----------
    frames : ndarray, shape (T, Y, X)
        Of one camera that stands still.

    Returns
    -------
    ndarray, shape (Y, X)
        float32.
    """
    if np.ndim(frames) != 3 or not len(frames):
        raise PhantomscopeError(
            f"frames of shape {np.shape(frames)} are no video",
            fix="give some frames of one size, shape (T, Y, X)",
        )
    scene: NDArray[np.float32] = np.median(frames, axis=0).astype(np.float32)
    return scene


def find_objects(
    layer: NDArray[Any], image: NDArray[Any], scene: NDArray[Any], rule: Objects
) -> Labels:
    """Find the objects of a layer that was told apart.

    Parameters
    ----------
    layer : ndarray, shape (Y, X)
        Target layer, objects bright.
    image, scene : ndarray, shape (Y, X)
        The image, and what is left of it without targets; for the rule ``removed``.
    rule : Objects
        Which rule, and its sizes.

    Returns
    -------
    ndarray, shape (Y, X)
        Labels, uint16 or uint32.
    """
    least, most, factor = rule.min_area, rule.max_area, rule.otsu_factor
    if rule.rule == "split":
        found = split_objects(
            layer, opening=rule.opening, passes=rule.opening_passes,
            window=rule.window, least=least, most=most, factor=factor,
        )  # fmt: skip
    elif rule.rule == "boxes":
        found = outlined_objects(
            layer, closing=rule.closing, least=least, most=most, factor=factor
        )
    else:
        if rule.rule == "removed":
            mask = removed_objects(image, scene, step=rule.step, factor=factor)
        else:
            mask = otsu_mask(layer, factor)
        found = by_area(ndimage.label(mask, np.ones((3, 3)))[0], least, most)
    if rule.min_share:
        found = by_share(found, layer, image, rule.min_share)
    return by_light(found, layer, rule.min_light) if rule.min_light else found


def object_table(labels: Labels) -> pd.DataFrame:
    """Return label, area (px) and centre (y, x) of each object."""
    names = ("label", "area", "centroid")
    found = pd.DataFrame(measure.regionprops_table(labels, properties=names))
    return found.rename(columns={"centroid-0": "y", "centroid-1": "x"})

"""Pseudo-sketches: real images drawn as sketches, from a segmentation of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float32]
# Background beside an object is lit by it: pixels so near are not looked at.
HALO = 3.0


def slow_background(
    image: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], scale: float
) -> NDArray[np.float64]:
    """Background as it changes over long distances, also below the objects.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Unit intensities.
    labels : ndarray, shape (Y, X)
        Instance labels; 0 is background.
    scale : float
        Sigma of the Gaussian over which the background is averaged, px.

    Returns
    -------
    ndarray, shape (Y, X)
        Unit intensities. Where no background is near, its median.
    """
    outside = labels == 0
    far = ndimage.distance_transform_edt(outside) > HALO if not outside.all() else True
    seen = (outside & far).astype(float)
    if not seen.any():
        # Objects everywhere: the darkest pixels are the best guess.
        return np.full(image.shape, float(np.percentile(image, 1)))
    level = float(np.median(image[seen > 0]))
    weight = ndimage.gaussian_filter(seen, scale)
    light = ndimage.gaussian_filter(seen * (image - level), scale)
    # A little of the median everywhere, which counts where nothing else is known.
    smooth: NDArray[np.float64] = level + light / (weight + 0.01)
    return smooth


def pseudo_sketch(
    image: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], edge: float,
    radius: float,
) -> Float:  # fmt: skip
    """Draw an image as the simulator would draw it.

    Each object is as bright as its median above the background there, evenly; edges
    are as soft as those of sketches, and there is no noise.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Unit intensities.
    labels : ndarray, shape (Y, X)
        Its segmentation.
    edge : float
        Blur of the edges: sigma in px, as in the sketch parameters.
    radius : float
        Typical radius of an object, px. Background varies over four of them, as in
        sketches.

    Returns
    -------
    ndarray, shape (Y, X)
        float32, unit intensities.
    """
    background = slow_background(image, labels, 4 * radius)
    height = np.zeros(int(labels.max(initial=0)) + 1)
    if len(height) > 1:
        numbers = np.arange(1, len(height))
        above = ndimage.median(image - background, labels, numbers)
        # A segmenter may call something darker than its surroundings an object.
        height[1:] = np.clip(np.nan_to_num(above), 0, None)
    drawn = ndimage.gaussian_filter(background + height[labels], edge)
    return np.asarray(drawn, np.float32)

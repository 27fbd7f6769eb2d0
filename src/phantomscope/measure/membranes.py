"""Classical segmentation of cells by the membranes between them, without annotation.

The independent re-segmentation that tells whether an image of membranes still shows
the cells that its labels say; for nuclei see `phantomscope.measure.morphology`.
"""

from __future__ import annotations

from math import gamma, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import feature, segmentation

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
# What is so many times larger than the typical cell is the space around the organism.
LARGEST = 12.0


def ball_volume(radius: float, dims: int) -> float:
    """Area of a circle, or volume of a ball."""
    return float(pi ** (dims / 2) / gamma(dims / 2 + 1) * radius**dims)


def ball_radius(volume: float, dims: int) -> float:
    """Radius of the circle of an area, or of the ball of a volume."""
    return float((volume / ball_volume(1.0, dims)) ** (1 / dims))


def _middles(depth: Image, apart: NDArray[np.float64]) -> Labels:
    """Return numbered local maxima, so many voxels apart along each axis."""
    seeds = np.zeros(depth.shape, np.int32)
    reach = np.maximum(1, np.round(apart)).astype(int)
    if len(set(reach)) == 1:
        peaks = feature.peak_local_max(
            depth, min_distance=int(reach[0]), exclude_border=False
        )
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        return seeds
    highest = ndimage.maximum_filter(depth, tuple(2 * reach + 1))
    # A plateau is one middle.
    found: Labels = ndimage.label(
        (depth == highest) & (depth > depth.min()), np.ones((3,) * depth.ndim)
    )[0]
    return found


def segment_membranes(
    image: Image, radius: float, spacing: tuple[float, float, float] | None = None
) -> Labels:
    """Watershed of the brightness, from the middles of the dark spaces.

    Parameters
    ----------
    image : ndarray, shape ([Z,] Y, X)
        Intensities; membranes are brighter than the cells.
    radius : float
        Typical radius of a cell, px (of y).
    spacing : tuple of float, optional
        Of volumes: a voxel along z, y and x, as a multiple of that along y.

    Returns
    -------
    ndarray, shape ([Z,] Y, X)
        int32 labels; 0 where there is no cell: the space around the organism.
    """
    voxel = np.asarray(spacing or (1.0,) * image.ndim)

    def blurred(values: Image, sigma: float) -> Image:
        return np.asarray(ndimage.gaussian_filter(values, tuple(sigma / voxel)))

    smooth = blurred(image.astype(np.float32), max(0.7, radius / 10))
    # Membranes are brighter than what is around them, also where all light is weak.
    walls = smooth > blurred(smooth, radius)
    distance = ndimage.distance_transform_edt(~walls, voxel)
    middle = blurred(distance, max(0.7, radius / 6))
    seeds = _middles(middle, 0.6 * radius / voxel)
    # Where a membrane has a gap, the distance from the walls divides the cells.
    heights = smooth - 0.05 * np.ptp(smooth) * middle / radius
    labels: Labels = segmentation.watershed(heights, seeds).astype(np.int32)
    sizes = np.bincount(labels.ravel())
    cell = ball_volume(radius, image.ndim) / float(np.prod(voxel))
    outside = sizes > LARGEST * cell
    labels[outside[labels]] = 0
    return labels

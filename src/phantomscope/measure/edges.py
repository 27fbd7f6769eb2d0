"""How far pixels are from the edges of objects, and how soft these edges are."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Spacing = tuple[float, float, float]


def sampling(ndim: int, spacing: Spacing | None) -> Spacing | None:
    """Voxel of a distance transform; None for images."""
    return None if ndim == 2 else spacing


def signed_distance(
    labels: Labels, spacing: Spacing | None = None
) -> NDArray[np.float64]:
    """Distance to the edge of the foreground: positive outside, negative inside.

    The edge lies between pixels: the first pixel on either side has distance 0.5.
    """
    inside, voxel = labels > 0, sampling(labels.ndim, spacing)
    outer = scipy.ndimage.distance_transform_edt(~inside, voxel)
    inner = scipy.ndimage.distance_transform_edt(inside, voxel)
    distance: NDArray[np.float64] = np.where(inside, 0.5 - inner, outer - 0.5)
    return distance


def axial_distance(labels: Labels) -> NDArray[np.float64]:
    """Distance to the edge of the foreground along z, in planes, signed as above.

    Where there is no edge, the distance is larger than the volume is deep.
    """
    inside = labels > 0
    steps = np.full(inside.shape, 2.0 * len(inside))
    for planes in (range(1, len(inside)), range(len(inside) - 2, -1, -1)):
        before = -1 if planes.step > 0 else 1
        for z in planes:
            change = inside[z] != inside[z + before]
            near = np.where(change, 0.5, steps[z + before] + 1)
            steps[z] = np.minimum(steps[z], near)
    return np.where(inside, -steps, steps)


def edge_softness(
    image: Image, labels: Labels, reach: float = 5.0, spacing: Spacing | None = None,
    axial: bool = False,
) -> float:  # fmt: skip
    """Blur of the objects' edges: sigma of a Gaussian, in px.

    The mean brightness as a function of the distance to the edge is fitted by an error
    function whose position is free, since a threshold may cut inside or outside.

    Parameters
    ----------
    image, labels : ndarray, shape ([Z,] Y, X)
        Intensities and objects.
    reach : float
        Farthest pixels that count.
    spacing : tuple of float, optional
        Of volumes, in which the distance is measured in the plane,
    axial : bool
        or along z, in planes.
    """
    if axial:
        distance = axial_distance(labels)
    elif labels.ndim == 3:
        # In the plane: along z everything is far away.
        distance = signed_distance(labels, (1e6, 1.0, (spacing or (1, 1, 1))[2]))
    else:
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
        edge = scipy.special.erfc((x - shift) / (np.sqrt(2) * sigma)) / 2
        return np.asarray(low + (high - low) * edge)

    first = (profile[-1], profile[0], 0.0, 1.5)
    limits = ([-np.inf, -np.inf, -reach, 0.2], [np.inf, np.inf, reach, reach])
    try:
        fit, _ = scipy.optimize.curve_fit(model, at, profile, first, bounds=limits)
    except (RuntimeError, ValueError):
        return 1.0
    return float(fit[3])

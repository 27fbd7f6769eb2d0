"""Fit the walls of a tissue to images of its membranes: width, blur and brightness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import skimage
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.meristem import Meristem, Shape3
from phantomscope.simulate.membrane import light_at_depth
from phantomscope.simulate.meristem import draw_meristem
from phantomscope.simulate.meristem_shape import ShapeModel

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
# A block of so many voxels (z, y, x) tells how wide walls are.
BLOCK = (64, 160, 160)
# Fitted in turn: the blur changes the width that is seen, and the reverse. Halvings of
# the width in the first round and in the others, which begin near it.
ROUNDS, HALVINGS, LATER = 6, 7, 5
# Smoothing before anything is measured, px of x: the noise counts for less.
SMOOTHING = 0.7
LEAST_BLUR = 0.3


@dataclass(frozen=True)
class Look:
    """What walls look like in an image of unit intensities.

    Attributes
    ----------
    share : float
        Share of the tissue that is brighter than Otsu's threshold.
    lateral, axial : float
        How fast the light changes: mean squared difference of neighbours in a plane,
        and in successive planes, by twice the variance. 0 is smooth, 1 white noise.
        Neither brightness nor contrast change it.
    light : float
        Median, after smoothing, of what is brighter than its surroundings.
    """

    share: float
    lateral: float
    axial: float
    light: float


@dataclass(frozen=True)
class Walls:
    """Walls that look like those of images.

    Attributes
    ----------
    radius : float
        Thickness on each side of the border of two cells, px of x.
    lateral, axial : float
        Sigma of their blur: px of x, planes.
    light : float
        Of a wall at the surface before the blur, unit intensities.
    """

    radius: float
    lateral: float
    axial: float
    light: float


def smoothed(image: Float, spacing: Sequence[float]) -> Float:
    """Smooth an image, shape (Z, Y, X), a little, before it is measured."""
    sigma = tuple(SMOOTHING / np.asarray(spacing))
    return np.asarray(ndimage.gaussian_filter(image, sigma))


def wall_mask(image: Float, diameter: float, spacing: Sequence[float]) -> Mask:
    """Find the voxels, shape (Z, Y, X), brighter than their surroundings.

    Parameters
    ----------
    image : ndarray, shape (Z, Y, X)
        Bright membranes.
    diameter : float
        Of the mean cell, px of x: surroundings are as wide.
    spacing : sequence of float
        Of the voxels, px of x.
    """
    smooth = smoothed(image, spacing)
    wide = ndimage.gaussian_filter(smooth, tuple(diameter / 2 / np.asarray(spacing)))
    return np.asarray(smooth > wide)


def look(
    image: Float, bright: Mask, spacing: Sequence[float], inside: Mask | None = None
) -> Look:
    """Measure the walls of an image.

    Parameters
    ----------
    image : ndarray, shape (Z, Y, X)
        Unit intensities, without the level of the background.
    bright : ndarray of bool, shape (Z, Y, X)
        That of `wall_mask`.
    spacing : sequence of float
        Of the voxels, px of x.
    inside : ndarray of bool, shape (Z, Y, X), optional
        Where the tissue is; everywhere by default.
    """
    smooth = smoothed(image, spacing)
    within = np.ones(image.shape, bool) if inside is None else inside
    values = smooth[within]
    variance = float(values.var()) or 1.0
    change = []
    for axis in range(3):
        step = np.diff(smooth, axis=axis)
        last = within.shape[axis] - 1
        both = within.take(range(1, last + 1), axis) & within.take(range(last), axis)
        change.append(float(np.mean(step[both] ** 2)) / (2 * variance))
    share = float(np.mean(values > skimage.filters.threshold_otsu(values)))
    walls = bright & within
    # Of the smoothed image: what is brighter than around it is wider than thin walls.
    light = float(np.median(smooth[walls])) if walls.any() else 0.0
    return Look(share, (change[1] + change[2]) / 2, change[0], light)


def border_distance(labels: NDArray[Any], spacing: Sequence[float]) -> Float:
    """Measure how far each voxel is from the nearest one of another label.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Instance labels; 0 is another label, too.
    spacing : sequence of float
        Of the voxels; the distance has its unit.

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
        Voxels up to a radius are the walls that `membrane_sketch` draws on both sides.
        Infinite where there is no other label.
    """
    distance = np.full(labels.shape, np.inf, np.float32)
    # 0 is no object for `find_objects`.
    for number, box in enumerate(ndimage.find_objects(labels + 1), start=1):
        if box is None:
            continue
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        own = labels[around] + 1 == number
        if not own.all():
            found = ndimage.distance_transform_edt(own, sampling=spacing)
            distance[around][own] = found[own]
    return distance


def fit_walls(
    real: Look, cells: Meristem, size: Shape3, diameter: float, noise: float,
    rng: np.random.Generator, organ: ShapeModel | None = None,
) -> Walls:  # fmt: skip
    """Find the walls that look like those of images.

    Width and blur are told apart by what a threshold finds and by how fast the light
    changes: thin walls that are out of focus, and thick ones in focus, may both fill
    half of the tissue.

    Parameters
    ----------
    real : Look
        Of the images.
    cells : Meristem
        Fitted cells; walls lie on both sides of the borders.
    size : tuple of int
        Of the volumes to be drawn, voxels.
    diameter : float
        Of the mean cell, px of x.
    noise : float
        Standard deviation of the noise of the images, relative to the light of walls.
    rng : Generator
        Source of cells and noise.
    organ : ShapeModel, optional
        Learnt shape of the organ.
    """
    if cells.organ == "block":  # as many cells as needed, however large the volume
        deep, high, wide = (min(a, b) for a, b in zip(size, BLOCK, strict=True))
        size = deep, high, wide
    _, labels = draw_meristem(cells, size, rng, organ)
    inside = labels > 0 if cells.organ == "meristem" else None
    light = light_at_depth(labels, cells.decline, cells.spacing)
    distance = border_distance(labels, cells.spacing)
    grain = np.asarray(noise * rng.standard_normal(size), np.float32)

    def drawn(radius: float, lateral: float, axial: float) -> Float:
        walls = light * (distance <= radius)
        return _blurred(walls, cells.spacing, lateral, axial) + grain

    lateral, axial = 1.0, 1.0 / cells.spacing[0]
    # Voxels of different labels are at least so far apart: below there is no wall.
    least, most = min(cells.spacing), diameter / 3
    thin, thick, halvings = least, most, HALVINGS
    for _ in range(ROUNDS):
        for _ in range(halvings):
            radius = max((thin + thick) / 2, least)
            walls = drawn(radius, lateral, axial)
            bright = wall_mask(walls, diameter, cells.spacing)
            found = look(walls, bright, cells.spacing, inside)
            if found.share < real.share:
                thin = radius
            else:
                thick = radius
        thin, thick = max(0.6 * radius, least), min(1.6 * radius, most)
        halvings = LATER
        lateral = _corrected(lateral, found.lateral, real.lateral, diameter)
        axial = _corrected(axial, found.axial, real.axial, diameter / cells.spacing[0])
    # A blur takes of the light of thin walls.
    surface = real.light / max(found.light, 0.05)
    return Walls(radius, lateral, axial, surface)


def _blurred(
    walls: Float, spacing: Sequence[float], lateral: float, axial: float
) -> Float:
    sigma = (axial, lateral / spacing[1], lateral / spacing[2])
    return np.asarray(ndimage.gaussian_filter(walls, sigma), np.float32)


def _corrected(sigma: float, drawn: float, real: float, diameter: float) -> float:
    """Widen a blur that leaves too fast a change: it goes about as 1 / sigma."""
    ratio = min(max(drawn / max(real, 1e-9), 0.25), 4.0)
    return float(np.clip(sigma * ratio**0.7, LEAST_BLUR, diameter / 8))

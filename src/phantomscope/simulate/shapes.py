"""Shapes of nuclei: ellipses with a B-spline deformation, and foreground regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def _spline_weights(size: int) -> NDArray[np.float64]:
    """Weights (size, 3) of cubic spline interpolation through three control points."""
    place = np.linspace(0, 2, size)
    weights = [
        ndimage.map_coordinates(unit, [place], order=3, mode="nearest")
        for unit in np.eye(3)
    ]
    return np.stack(weights, axis=1)


def nucleus_mask(
    rng: np.random.Generator, radius: float, elongation: float, deformation: float
) -> Mask:
    """Draw one nucleus: an ellipse at a random angle, bent by a B-spline.

    Eschweiler & Stegmaier 2023, eq. 1 and section 2 (GOWT1): a 3 x 3 control grid over
    the patch, displaced by up to `deformation` of its size.

    Parameters
    ----------
    rng : Generator
        Source of the angle and the displacements.
    radius : float
        Radius in px of the circle of the same area.
    elongation : float
        Major by minor axis.
    deformation : float
        Largest displacement relative to the patch.

    Returns
    -------
    ndarray, shape (side, side)
        A patch with the nucleus about its middle; never empty.
    """
    major, minor = radius * np.sqrt(elongation), radius / np.sqrt(elongation)
    half = int(np.ceil(major * (1 + 3 * deformation))) + 1
    side = 2 * half + 1
    angle = rng.uniform(0, np.pi)
    moves = rng.uniform(-deformation, deformation, (2, 3, 3)) * side
    grid = np.arange(side) - half + rng.uniform(-0.5, 0.5, (2, 1))
    weights = _spline_weights(side)
    y = grid[0][:, None] + weights @ moves[0] @ weights.T
    x = grid[1][None, :] + weights @ moves[1] @ weights.T
    along = (x * np.cos(angle) + y * np.sin(angle)) / major
    across = (y * np.cos(angle) - x * np.sin(angle)) / minor
    mask: Mask = along**2 + across**2 <= 1
    mask[half, half] = True
    return mask


def foreground_region(
    rng: np.random.Generator, shape: tuple[int, int], kind: str, radius: float
) -> Mask:
    """Return where the centres of nuclei may lie.

    Parameters
    ----------
    rng : Generator
        Source of places.
    shape : tuple of int
        Height and width.
    kind : {"image", "discs", "ellipse"}
        The whole image; a union of 15 to 30 discs (HeLa; radius 1/7 of the image's
        height there); an ellipse with semi-axes of 0.3 x the image (C. elegans).
    radius : float
        Typical nucleus radius in px: discs are never smaller than three of it.
    """
    if kind == "image":
        return np.ones(shape, bool)
    y, x = np.ogrid[: shape[0], : shape[1]]
    if kind == "ellipse":
        middle = [(s - 1) / 2 for s in shape]
        inside: Any = ((y - middle[0]) / (0.3 * shape[0])) ** 2
        inside = inside + ((x - middle[1]) / (0.3 * shape[1])) ** 2 <= 1
        return np.asarray(inside)
    mask = np.zeros(shape, bool)
    disc = max(min(shape) / 7, 3 * radius)
    for _ in range(int(rng.integers(15, 30))):
        cy, cx = rng.uniform(0, 1, 2) * shape
        mask |= (y - cy) ** 2 + (x - cx) ** 2 <= disc**2
    return mask


def smooth_field(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    scale: float | tuple[float, ...],
) -> NDArray[np.float64]:
    """Smooth random field of mean 0 and standard deviation 1.

    Parameters
    ----------
    rng : Generator
        Source.
    shape : tuple of int
        ([Z,] Y, X).
    scale : float or tuple of float
        Correlation length in px, for all axes or for each.

    Returns
    -------
    ndarray, shape ([Z,] Y, X)
        float64 for images, float32 for volumes.
    """
    scales = np.broadcast_to(np.asarray(scale, float), len(shape))
    coarse = tuple(
        int(np.ceil(s / one)) + 4 for s, one in zip(shape, scales, strict=True)
    )
    nodes = rng.standard_normal(coarse)
    offset = rng.uniform(1, 2, len(shape))
    axes = [
        np.arange(s) / one + o for s, one, o in zip(shape, scales, offset, strict=True)
    ]
    if len(shape) == 2:
        places = np.meshgrid(*axes, indexing="ij")
        field = ndimage.map_coordinates(nodes, places, order=3)
        # Cubic interpolation between white nodes has a standard deviation of 0.87.
        return np.asarray(field / 0.87)
    # The same interpolation, axis by axis: a volume of coordinates would be large.
    field = nodes
    for axis, places in enumerate(axes):
        unit = np.eye(field.shape[axis])
        weights = ndimage.spline_filter1d(unit, 3, axis=0).T
        basis = [
            ndimage.map_coordinates(row, [places], order=3, prefilter=False)
            for row in weights
        ]
        field = np.moveaxis(
            np.tensordot(np.asarray(basis, np.float32), field, (0, axis)), 0, axis
        )
    return np.asarray(field / 0.87**1.5, np.float32)

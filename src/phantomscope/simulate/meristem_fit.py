"""Fit the simulated tissue to membrane images: size of the cells, organ, comparison."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray
from skimage import feature, filters, segmentation

from phantomscope.config.meristem import Meristem, Shape3
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.distribution import wasserstein
from phantomscope.simulate.meristem import draw_meristem
from phantomscope.simulate.meristem_shape import ShapeModel

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

# Images are looked at with at most so many voxels: cells are many voxels wide.
LARGEST = 8_000_000
PROPERTIES = ("volume", "neighbour_distance", "neighbours")


def _isotropic(
    image: NDArray[Any], spacing: Spacing, order: int
) -> tuple[NDArray[Any], float]:
    """Resample to cubes as large as the finest side of a voxel, or larger."""
    extent = float(np.prod(np.multiply(image.shape, spacing)))
    size = max(min(spacing), (extent / LARGEST) ** (1 / 3))
    zoom = [s / size for s in spacing]
    if np.allclose(zoom, 1):
        return image, size
    return scipy.ndimage.zoom(image, zoom, order=order), size


def cell_diameter(labels: Labels, spacing: Spacing = (1, 1, 1)) -> float:
    """Diameter of the sphere of the mean cell's volume.

    Cells at the faces of the volume are cut. So the mean is labelled volume by number
    of cells, where a cell counts if it touches none of three faces that meet in a
    corner (the unbiased brick), averaged over the eight corners.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Instance labels, 0 is background.
    spacing : tuple of float
        Size of a voxel in z, y and x.

    Raises
    ------
    PhantomscopeError
        If every cell is cut.
    """
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    touched = np.zeros((3, 2, len(sizes)), bool)
    for axis, side in itertools.product(range(3), (0, 1)):
        touched[axis, side, np.unique(np.take(labels, -side, axis))] = True
    counts = []
    for corner in itertools.product((0, 1), repeat=3):
        excluded = touched[[0, 1, 2], corner].any(axis=0)
        counts.append(int(((sizes > 0) & ~excluded).sum()))
    mean = float(np.mean(counts))
    if mean == 0:
        raise PhantomscopeError(
            "no whole cell in this volume, so that their size cannot be told",
            where="cell_diameter", fix="give a larger volume, or the size itself",
        )  # fmt: skip
    # A cell that counts begins in any plane but the first of each axis.
    shape = np.asarray(labels.shape)
    share = float(np.prod((shape - 1) / shape))
    volume = float(sizes.sum() * np.prod(spacing)) * share / mean
    return float((6 * volume / np.pi) ** (1 / 3))


def organ_mask(image: Image, spacing: Spacing = (1, 1, 1), gap: float = 6.0) -> Mask:
    """Find the organ in an image of its membranes, without annotation.

    Otsu's threshold on the square root of the smoothed image, gaps in the walls closed,
    everything that the walls enclose filled (in the volume, then in each plane), the
    largest part kept.

    Parameters
    ----------
    image : ndarray, shape (Z, Y, X)
        Bright membranes.
    spacing : tuple of float
        Size of a voxel in z, y and x.
    gap : float
        Widest gap in a wall that is closed, in units of `spacing`.

    Returns
    -------
    ndarray, shape (Z, Y, X)
        bool.
    """
    fine, size = _isotropic(np.asarray(image, np.float32), spacing, 1)
    smooth = np.sqrt(np.maximum(scipy.ndimage.gaussian_filter(fine, 1.0), 0))
    walls = smooth > filters.threshold_otsu(smooth)
    reach = gap / 2 / size
    near = scipy.ndimage.distance_transform_edt(np.pad(~walls, 1, mode="edge")) <= reach
    inside = scipy.ndimage.distance_transform_edt(near) > reach
    inside = scipy.ndimage.binary_fill_holes(inside[1:-1, 1:-1, 1:-1] | walls)
    inside = np.stack([scipy.ndimage.binary_fill_holes(plane) for plane in inside])
    parts, count = scipy.ndimage.label(inside)
    if count > 1:
        inside = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    factors = np.divide(inside.shape, image.shape)
    grid = np.ix_(
        *(
            np.minimum(((np.arange(n) + 0.5) * f).astype(int), m - 1)
            for n, f, m in zip(image.shape, factors, inside.shape, strict=True)
        )
    )
    return np.asarray(inside[grid])


def _watershed(image: Image, mask: Mask, window: float, sigma: float) -> Labels:
    """Cells of an isotropic image: basins between what is brighter than around it."""
    smooth = scipy.ndimage.gaussian_filter(image, 1.5)
    walls = smooth > scipy.ndimage.gaussian_filter(image, window)
    depth = scipy.ndimage.distance_transform_edt(~walls & mask)
    depth = scipy.ndimage.gaussian_filter(depth, sigma)
    peaks = feature.peak_local_max(
        depth, min_distance=3, threshold_abs=1.0, exclude_border=False,
        labels=mask.astype(np.int32),
    )  # fmt: skip
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(segmentation.watershed(smooth, seeds, mask=mask))


def estimate_cell_diameter(
    image: Image, spacing: Spacing = (1, 1, 1), mask: Mask | None = None
) -> float:
    """Diameter of the mean cell in an image of membranes, without annotation.

    A classical watershed: walls are brighter than their surroundings, seeds are the
    middles between walls. It is done twice, since window and smoothing should suit the
    size of the cells (a third and a twentieth of it).

    Parameters
    ----------
    image : ndarray, shape (Z, Y, X)
        Bright membranes.
    spacing : tuple of float
        Size of a voxel in z, y and x; the result has the same unit.
    mask : ndarray, shape (Z, Y, X), optional
        Where the tissue is (see `organ_mask`); everywhere by default.

    Raises
    ------
    PhantomscopeError
        If no whole cell is found.
    """
    fine, size = _isotropic(np.asarray(image, np.float32), spacing, 1)
    inside = np.ones(fine.shape, bool)
    if mask is not None:
        inside = _isotropic(mask.astype(np.uint8), spacing, 0)[0] > 0
    window, sigma = 10.0, 2.0
    for _ in range(2):
        labels = _watershed(fine, inside, window, sigma)
        diameter = cell_diameter(labels)
        window, sigma = max(diameter / 3, 3.0), max(diameter / 20, 0.7)
    return diameter * size


def fitted(
    parameters: Meristem,
    diameter: float,
    shape: Shape3,
    rng: np.random.Generator,
    model: ShapeModel | None = None,
    rounds: int = 3,
) -> Meristem:
    """Choose `cell_diameter` such that the mean cell has this diameter.

    The parameter bounds clusters of seeds; what cells become of it depends on the
    organ, the shells and the weights. So tissue is drawn coarsely (eight voxels per
    cell), measured, and the parameter corrected.

    Parameters
    ----------
    parameters : Meristem
        What is not fitted.
    diameter : float
        Wanted diameter in px of x, as `cell_diameter` or `estimate_cell_diameter`
        gives it.
    shape : tuple of int
        Volume that is to be drawn, in voxels.
    rng : Generator
        Source of the drawings.
    model : ShapeModel, optional
        Shape of the organ.
    rounds : int
        Of drawing and correcting.
    """
    side = diameter / 8
    whole = parameters.organ_shape or shape
    extent = np.multiply(whole, parameters.spacing)
    if parameters.organ == "block":  # enough cells, however small the volume
        extent = np.full(3, 10 * diameter)
    z, y, x = (max(round(e / side), 1) for e in extent)
    coarse = parameters.model_copy(
        update={
            "cell_diameter": diameter, "spacing": (side, side, side),
            "organ_shape": None, "rounding_radius": 0.0, "blur": 0.0,
        }
    )  # fmt: skip
    for _ in range(rounds):
        labels = draw_meristem(coarse, (z, y, x), rng, model)[1]
        factor = diameter / cell_diameter(labels, coarse.spacing)
        better = coarse.cell_diameter * float(np.clip(factor, 0.5, 2))
        coarse = coarse.model_copy(update={"cell_diameter": better})
    return parameters.model_copy(update={"cell_diameter": coarse.cell_diameter})


def cell_table(labels: Labels, spacing: Spacing = (1, 1, 1)) -> pd.DataFrame:
    """Measure each cell of a tissue.

    Parameters
    ----------
    labels : ndarray, shape (Z, Y, X)
        Instance labels, 0 is background.
    spacing : tuple of float
        Size of a voxel in z, y and x.

    Returns
    -------
    pandas.DataFrame
        One row per cell: label, volume, neighbour_distance (from its centroid to the
        nearest other), neighbours (cells that share faces of voxels with it), border
        (cut by a face of the volume).
    """
    sizes = np.bincount(labels.ravel())
    numbers = np.flatnonzero(sizes)
    numbers = numbers[numbers > 0]
    centres = np.array(scipy.ndimage.center_of_mass(labels > 0, labels, numbers))
    distance = np.full(len(numbers), np.nan)
    if len(numbers) > 1:
        places = centres.reshape(-1, 3) * np.asarray(spacing)
        distance = scipy.spatial.cKDTree(places).query(places, k=2, workers=1)[0][:, 1]
    pairs = []
    edge = []
    for axis in range(3):
        a = np.take(labels, range(labels.shape[axis] - 1), axis)
        b = np.take(labels, range(1, labels.shape[axis]), axis)
        touch = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.sort(np.stack([a[touch], b[touch]], axis=1), axis=1))
        edge += [np.take(labels, 0, axis).ravel(), np.take(labels, -1, axis).ravel()]
    both = np.unique(np.concatenate(pairs), axis=0)
    count = np.bincount(both.ravel(), minlength=len(sizes))
    return pd.DataFrame({
        "label": numbers,
        "volume": sizes[numbers] * float(np.prod(spacing)),
        "neighbour_distance": distance,
        "neighbours": count[numbers],
        "border": np.isin(numbers, np.unique(np.concatenate(edge))),
    })  # fmt: skip


def tissue_distances(real: pd.DataFrame, drawn: pd.DataFrame) -> dict[str, float]:
    """Wasserstein distance of each property, relative to the real mean.

    Parameters
    ----------
    real, drawn : pandas.DataFrame
        As `cell_table` gives them, of volumes of the same size, so that the same share
        of cells is cut.

    Returns
    -------
    dict
        volume, neighbour_distance, neighbours: 0 if they are distributed alike.
    """
    found = {}
    for name in PROPERTIES:
        a, b = real[name].dropna(), drawn[name].dropna()
        found[name] = wasserstein(a, b) / float(a.mean())
    return found

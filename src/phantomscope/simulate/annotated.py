"""Sketches of annotated images: what the simulator would have drawn for these cells.

Eschweiler & Stegmaier 2023, section 3: each cell is as bright as its mean in the real
image, without any structure inside; of single annotated slices, stacks are made.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.errors import PhantomscopeError
from phantomscope.images.labels import compact_labels

Float = NDArray[np.float32]
Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def annotated_sketch(
    image: Image, labels: Labels, *, background: Literal["mean", "zero"] = "mean",
    blur: float = 0.0,
) -> Float:  # fmt: skip
    """Draw an annotated image as a sketch of nuclei.

    Parameters
    ----------
    image : ndarray, shape ([Z,] Y, X)
        Intensities.
    labels : ndarray, shape ([Z,] Y, X)
        Its annotation: 0 is background, each cell one number.
    background : {"mean", "zero"}
        The mean of the image outside all cells, or 0.
    blur : float
        Sigma of a Gaussian over the finished sketch, px; 0: sharp edges.

    Returns
    -------
    ndarray, shape ([Z,] Y, X)
        float32; each cell has the mean of `image` over it.

    Raises
    ------
    PhantomscopeError
        If the labels are of another shape.
    """
    if image.shape != labels.shape:
        raise PhantomscopeError(
            f"an image of {image.shape} has labels of {labels.shape}",
            fix="give the annotation of this image",
        )
    cells = compact_labels(labels).ravel()
    count = np.bincount(cells)
    light = np.bincount(cells, weights=image.ravel()) / np.maximum(count, 1)
    if background == "zero":
        light[0] = 0.0
    sketch = light.astype(np.float32)[cells].reshape(image.shape)
    return ndimage.gaussian_filter(sketch, blur) if blur else sketch


def annotated_membranes(
    labels: Labels, *, radius: float, decline: float,
    spacing: tuple[float, float, float] = (1, 1, 1), blur: float = 0.0,
) -> Float:  # fmt: skip
    """Draw an annotation as a sketch of membranes.

    Parameters
    ----------
    labels : ndarray, shape ([Z,] Y, X)
        Each cell one number.
    radius, decline, spacing, blur
        As in `phantomscope.simulate.membrane.membrane_sketch`.

    Returns
    -------
    ndarray, shape ([Z,] Y, X)
        float32 in [0, 1].
    """
    from phantomscope.simulate.membrane import membrane_sketch

    volume = labels if labels.ndim == 3 else labels[None]
    drawn = membrane_sketch(volume, radius, decline, spacing, blur=blur)
    return np.asarray(drawn.reshape(labels.shape), np.float32)


def stack_slice(
    image: NDArray[Any], labels: Labels, count: int
) -> tuple[NDArray[Any], Labels]:
    """Make an annotated volume of the best annotated plane.

    Parameters
    ----------
    image, labels : ndarray, shape (Z, Y, X), or (Y, X)
        A volume of which single planes are annotated, or such a plane alone.
    count : int
        Planes of the result.

    Returns
    -------
    image : ndarray, shape (count, Y, X)
        The planes around the annotated one, within the volume; of a plane alone,
        the same plane again and again.
    labels : ndarray, shape (count, Y, X)
        The annotated plane in each.

    Raises
    ------
    PhantomscopeError
        If the volume has fewer planes.
    """
    if image.ndim == 2:
        return np.stack([image] * count), np.stack([labels] * count)
    if len(image) < count:
        raise PhantomscopeError(
            f"a volume of {len(image)} planes does not hold a stack of {count}",
            where="appearance.stack",
            fix=f"use at most {len(image)}",
        )
    best = int(np.argmax([np.count_nonzero(plane) for plane in labels]))
    first = min(max(best - count // 2, 0), len(image) - count)
    return image[first : first + count], np.stack([labels[best]] * count)


def crop_annotated(
    arrays: tuple[NDArray[Any], ...], labels: Labels, size: tuple[int | None, ...]
) -> tuple[NDArray[Any], ...]:
    """Cut a box around the middle of the annotation out of arrays.

    Parameters
    ----------
    arrays : tuple of ndarray, shape ([Z,] Y, X)
        What to cut.
    labels : ndarray, shape ([Z,] Y, X)
        Annotation, which the box is around the middle of.
    size : tuple of int or None
        Lengths of the box; None: as long as the arrays are.

    Returns
    -------
    tuple of ndarray
        The same box of each; smaller where the arrays are.
    """
    box = []
    for axis, (length, wanted) in enumerate(zip(labels.shape, size, strict=True)):
        side = length if wanted is None else min(wanted, length)
        others = tuple(a for a in range(labels.ndim) if a != axis)
        seen = np.flatnonzero((labels > 0).any(axis=others))
        middle = (seen[0] + seen[-1] + 1) // 2 if len(seen) else length // 2
        first = min(max(int(middle) - side // 2, 0), length - side)
        box.append(slice(first, first + side))
    return tuple(array[tuple(box)] for array in arrays)

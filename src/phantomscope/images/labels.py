"""Instance labels: 0 is background, each object has one number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]


def compact_labels(labels: Labels) -> Labels:
    """Renumber the objects 1 ... n without gaps, in the order of their old numbers.

    Parameters
    ----------
    labels : ndarray of integer, any shape
        Not negative; 0 is background.

    Returns
    -------
    ndarray
        The same objects, as uint16 (uint32 if there are more than 65535). A table by
        label then never outgrows the image.
    """
    largest = int(labels.max(initial=0))
    if largest >= max(labels.size, 1):
        return _sorted(labels)
    # Plane by plane: indices of a whole volume are large.
    planes = labels if labels.ndim > 2 else labels[None]
    present = np.zeros(largest + 1, bool)
    for plane in planes:
        present[plane] = True
    present[0] = False
    count = int(present.sum())
    table = np.zeros(len(present), _kind(count))
    table[present] = np.arange(1, count + 1)
    out = np.empty(planes.shape, table.dtype)
    for plane, target in zip(planes, out, strict=True):
        target[...] = table[plane]
    return np.asarray(out.reshape(labels.shape))


def _sorted(labels: Labels) -> Labels:
    """Do it where a table would be larger than the image."""
    numbers, places = np.unique(labels, return_inverse=True)
    # Without background pixels the smallest object must not become background.
    first = 0 if numbers[0] == 0 else 1
    kind = _kind(len(numbers) + first - 1)
    return np.asarray(places.reshape(labels.shape) + first, kind)


def _kind(count: int) -> np.dtype[Any]:
    return np.dtype(np.uint16 if count < 2**16 else np.uint32)

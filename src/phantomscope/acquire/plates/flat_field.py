"""Illumination functions of a plate, and the division by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError, explain_os_errors


def read_flat_field(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read an illumination function and scale it to a mean of 1.

    Parameters
    ----------
    path : Path
        A ``.npy`` file of CellProfiler: brightness of an even field, any unit.
    shape : tuple of int
        (Y, X) of the images.

    Returns
    -------
    ndarray, shape (Y, X)
        float32, positive, mean 1.

    Raises
    ------
    PhantomscopeError
        If it holds no numbers (pickled objects are not opened), has another shape, or
        has values that are not positive.
    """
    with explain_os_errors(path):
        try:
            found = np.load(path, allow_pickle=False)
            if not isinstance(found, np.ndarray):
                raise ValueError("it is an archive")
            array = np.asarray(found, float)
        except (ValueError, EOFError, TypeError, SyntaxError) as error:
            raise _unusable(path, f"it is no array of numbers ({error})") from error
    if array.shape != shape:
        raise _unusable(path, f"it is {array.shape}, the images are {shape}")
    bad = int((~(np.isfinite(array) & (array > 0))).sum())
    if bad:
        raise _unusable(path, f"{bad} of its values are NaN, infinite or not positive")
    return np.asarray(array / array.mean(), np.float32)


def _unusable(path: Path, reason: str) -> PhantomscopeError:
    return PhantomscopeError(
        f"this illumination function cannot be used: {reason}",
        where=path,
        fix="get it from its publisher again, or set `flat_field: false`",
    )


def flatten(image: NDArray[Any], flat_field: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Divide an image by its illumination function; mean brightness stays about.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        uint16.
    flat_field : ndarray, shape (Y, X)
        What `read_flat_field` returns.

    Returns
    -------
    ndarray, shape (Y, X)
        uint16, rounded; what leaves the range is cut off.
    """
    flat = np.rint(image / flat_field)
    return np.asarray(np.clip(flat, 0, np.iinfo(np.uint16).max), np.uint16)

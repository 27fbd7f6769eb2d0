"""Checks of array arguments that the measures share, with errors a user can mend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError


def finite(
    array: ArrayLike, name: str, ndim: tuple[int, ...] | None = None
) -> NDArray[np.float64]:
    """Return `array` as float64 after checking that it can be measured.

    Parameters
    ----------
    array : array_like
        Real numbers of any shape and dtype.
    name : str
        What to call it in an error.
    ndim : tuple of int, optional
        The allowed numbers of axes; None allows any.

    Returns
    -------
    ndarray of float64
        Same shape and values as `array`.

    Raises
    ------
    PhantomscopeError
        If it is empty, not real, holds NaN or infinity, or has a wrong `ndim`.
    """
    given = np.asarray(array)
    if given.size == 0:
        raise PhantomscopeError(f"{name} is empty", fix="give at least one value")
    if given.dtype.kind not in "biuf":
        raise PhantomscopeError(
            f"{name} has dtype {given.dtype}, not real numbers",
            fix="convert it to a numeric array",
        )
    if ndim is not None and given.ndim not in ndim:
        wanted = " or ".join(str(n) for n in ndim)
        raise PhantomscopeError(
            f"{name} has {given.ndim} axes where {wanted} are needed",
            fix="select one channel or plane first",
        )
    values = given.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise PhantomscopeError(
            f"{name} holds {bad} values that are NaN or infinite",
            fix="mask or fill them before measuring",
        )
    return values


def same_shape(a: NDArray[Any], b: NDArray[Any], names: tuple[str, str]) -> None:
    """Raise a `PhantomscopeError` unless `a` and `b` have the same shape."""
    if a.shape != b.shape:
        raise PhantomscopeError(
            f"{names[0]} has shape {a.shape} but {names[1]} has shape {b.shape}",
            fix="give two arrays of the same shape",
        )


def labels(array: ArrayLike, name: str) -> NDArray[np.integer[Any]]:
    """Return `array` after checking that it is a label image.

    Parameters
    ----------
    array : array_like
        Integers of any shape, 0 for background, any positive number for an object.
    name : str
        What to call it in an error.

    Returns
    -------
    ndarray of integer
        `array` itself, as an array.

    Raises
    ------
    PhantomscopeError
        If it is empty, not of an integer dtype (a boolean mask is not one), or
        holds negative labels.
    """
    given = np.asarray(array)
    if given.size == 0:
        raise PhantomscopeError(f"{name} is empty", fix="give at least one pixel")
    if given.dtype.kind not in "iu":
        raise PhantomscopeError(
            f"{name} has dtype {given.dtype}, but labels must be integers",
            fix="label a mask with skimage.measure.label, or cast float labels",
            example="labels = skimage.measure.label(mask)",
        )
    if given.dtype.kind == "i" and int(given.min()) < 0:
        raise PhantomscopeError(
            f"{name} holds negative labels",
            fix="use 0 for background and positive integers for objects",
        )
    return given

"""Two regions of an image or a volume, with a margin between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.data import Split
from phantomscope.errors import PhantomscopeError

# Parts of an image are as wide as a patch of the memorisation check; of volumes, which
# are small, they hold an object and what is around it.
THINNEST = {2: 64, 3: 32}
# Networks halve the depth three times, too.
THINNEST_PLANES = 8
# Begin and end along each axis, px, the end excluded.
Box = tuple[tuple[int, int], ...]


def _axis(shape: Sequence[int], options: Split, name: str) -> int:
    """Return the axis to cut along, counted from the end."""
    if options.axis == "longest":
        return -2 if shape[-2] >= shape[-1] else -1
    if options.axis == "z" and len(shape) == 2:
        raise PhantomscopeError(
            f"{name} is no volume, so it cannot be cut along z",
            where="split.axis",
            fix="choose `longest`, `y` or `x`",
        )
    return "zyx".index(options.axis) - 3


def cut(
    shape: Sequence[int], options: Split, train_first: bool, name: str = "an image"
) -> dict[str, Box]:
    """Cut an image or a volume into two regions.

    Parameters
    ----------
    shape : sequence of int
        ([Z,] Y, X), px.
    options : Split
        Axis, share of the training part and margin, px.
    train_first : bool
        Whether the training part is at the top, left or front.
    name : str
        What to call the image in an error.

    Returns
    -------
    dict
        ``train`` and ``test`` to (begin, end) along each axis, px, end excluded.

    Raises
    ------
    PhantomscopeError
        If a part would be thinner than 64 px, of a volume than 32 px or, along z, than
        8 planes.
    """
    axis = _axis(shape, options, name)
    length = shape[axis]
    thinnest = THINNEST_PLANES if axis == -3 else THINNEST[len(shape)]
    train = round((length - options.margin) * options.train_fraction)
    test = length - options.margin - train
    if min(train, test) < thinnest:
        unit = "planes" if axis == -3 else "px"
        raise PhantomscopeError(
            f"{name} of {' x '.join(map(str, shape))} px leaves {max(train, 0)} {unit} "
            f"for training and {max(test, 0)} {unit} for test beside a margin of "
            f"{options.margin} {unit}; each needs {thinnest}",
            where="split.margin",
            fix="choose a smaller margin, another `train_fraction`, larger images, or "
            "whole images on each side (`by: group`)",
        )
    ends = {
        "train": (0, train) if train_first else (length - train, length),
        "test": (length - test, length) if train_first else (0, test),
    }
    whole = [(0, side) for side in shape]
    cut_at = len(shape) + axis
    return {
        side: (*whole[:cut_at], end, *whole[cut_at + 1 :]) for side, end in ends.items()
    }


def crop(array: NDArray[Any], box: Box) -> NDArray[Any]:
    """Cut a region out."""
    return np.ascontiguousarray(array[tuple(slice(*ends) for ends in box)])


def planes_within(planes: Sequence[int], box: Box) -> str:
    """Return which annotated planes are in a region, counted from its first one."""
    begin, end = box[0]
    return " ".join(str(plane - begin) for plane in planes if begin <= plane < end)

"""Pairs of what is given and what is predicted, as network values.

A set of pairs has the channels that are given, then those that are predicted, as uint16
over the network's range: 0 is -1 and 65535 is 1. Limits of intensity were applied when
it was made, so that a pair means the same to every method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.imageset import ImageSet

Float = NDArray[np.float32]
FULL = 65535


def to_stored(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Store network values; what is outside -1 ... 1 is clipped."""
    unit = (np.clip(values, -1, 1) + 1) / 2
    stored: NDArray[np.uint16] = np.rint(unit * FULL).astype(np.uint16)
    return stored


def from_stored(stored: NDArray[np.uint16]) -> Float:
    """Return network values."""
    return (stored.astype(np.float32) * np.float32(2 / FULL) - 1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Pairs:
    """A set of pairs, read as a method needs them.

    Attributes
    ----------
    images : ImageSet
        The set.
    inputs : int
        How many of the channels, the first ones, are given.
    anchors : sequence of int
        Which given channel each predicted one ends as, for processes that end at
        their condition; empty for processes that end at noise.
    """

    images: ImageSet
    inputs: int
    anchors: Sequence[int] = ()

    @property
    def conditions(self) -> int:
        """Channels of the condition."""
        return len(self.anchors) or self.inputs

    def condition(self, identifier: str) -> Float:
        """Return what the network sees, shape (C', Y, X)."""
        given = self.images.channels(identifier)[: self.inputs]
        return from_stored(given[list(self.anchors)] if self.anchors else given)

    def truth(self, identifier: str) -> Float:
        """Return what is to be predicted, shape (C, Y, X)."""
        return from_stored(self.images.channels(identifier)[self.inputs :])

    def read(self, identifier: str) -> Float:
        """Return what is to be predicted, then the condition: a training image."""
        return np.concatenate([self.truth(identifier), self.condition(identifier)])

"""Which molecules of a table are used, and what a first look at it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.localisations import Drawing
from phantomscope.images.localisations.table import Localisations


@dataclass(frozen=True)
class Limits:
    """What to keep; both ends belong to a range, None is no limit.

    Attributes
    ----------
    precision : float, optional
        Largest standard deviation of the position, nm.
    photons : tuple of float
        Fewest and most.
    frames : tuple of int
        First and last, counted as in the file.
    """

    precision: float | None = None
    photons: tuple[float | None, float | None] = (None, None)
    frames: tuple[int | None, int | None] = (None, None)

    @classmethod
    def of(
        cls, options: Drawing, frames: tuple[int | None, int | None] = (None, None)
    ) -> Self:
        """Return those of options."""
        photons = options.min_photons, options.max_photons
        return cls(options.max_precision_nm, photons, frames)

    def keep(self, part: Localisations) -> NDArray[np.bool_]:
        """Return a mask of the molecules within all limits.

        Raises
        ------
        PhantomscopeError
            If the table lacks a column that is limited.
        """
        kept = np.ones(len(part), bool)
        ranges = (
            ("uncertainty", (None, self.precision), "the filter by precision"),
            ("photons", self.photons, "the filter by photons"),
            ("frame", self.frames, "the filter by frames"),
        )
        for name, (low, high), user in ranges:
            if low is None and high is None:
                continue
            values = part.field(name, user)
            if low is not None:
                kept &= values >= low
            if high is not None:
                kept &= values <= high
        return kept

    def apply(self, part: Localisations) -> Localisations:
        """Return the molecules within all limits."""
        kept = self.keep(part)
        return part if kept.all() else part.take(kept)


@dataclass
class Extent:
    """How far a table reaches, seen part by part.

    Attributes
    ----------
    low, high : tuple of float
        Least and greatest (x, y), nm.
    frames : tuple of int
        First and last frame; (0, 0) without frames.
    count : int
        Molecules.
    """

    low: tuple[float, float] = (np.inf, np.inf)
    high: tuple[float, float] = (-np.inf, -np.inf)
    frames: tuple[int, int] = (0, 0)
    count: int = field(default=0)

    def add(self, part: Localisations) -> None:
        """Look at a part."""
        if not len(part):
            return
        self.low = (
            min(self.low[0], float(part.x.min())),
            min(self.low[1], float(part.y.min())),
        )
        self.high = (
            max(self.high[0], float(part.x.max())),
            max(self.high[1], float(part.y.max())),
        )
        if part.frame is not None:
            first, last = int(part.frame.min()), int(part.frame.max())
            if self.count:
                first, last = min(first, self.frames[0]), max(last, self.frames[1])
            self.frames = (first, last)
        self.count += len(part)

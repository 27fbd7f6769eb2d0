"""Cells that move, grow and divide: the nuclei of one frame after those of another.

A persistent random walk: each step keeps a share of the one before and adds a normal
one, so that its variance stays (an autoregressive process of first order, the discrete
form of Fürth's, Z. Phys. 2, 1920). A cell does not step, grow or divide where its
circle would then cover, or be covered by, another one's more than is allowed, or more
than it does already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from phantomscope.config.motion import Motion
from phantomscope.simulate.placement import covered_share
from phantomscope.simulate.raster import Nuclei

Floats = NDArray[np.float64]
# Where the whole step does not go: half of it, then half a step back.
ATTEMPTS = (1.0, 0.5, -0.5)
# A daughter with less than this radius, px, could not be seen: none is born.
SMALLEST = 2.0
ROUNDING = 1e-6


@dataclass(frozen=True)
class World:
    """Where cells may be.

    Attributes
    ----------
    shape : tuple of int
        (Z, Y, X) in voxels; images have Z = 1, and there nothing moves along z.
    spacing : tuple of float
        Voxel along z, y and x, in px of y.
    overlap : float
        Largest share of a cell's circle that another one may cover.
    inside : ndarray, shape (Z, Y, X), optional
        Mask of where centres must be; None: anywhere in the field.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    overlap: float = 0.0
    inside: NDArray[np.bool_] | None = None

    @property
    def dims(self) -> int:
        """Dimensions in which cells move."""
        return 2 if self.shape[0] == 1 else 3

    def voxel(self, place: Floats) -> NDArray[np.int64]:
        """Voxels (z, y, x) of places in px of y, shape (..., 3)."""
        return np.rint(place / self.spacing).astype(np.int64)

    def holds(self, place: Floats) -> bool:
        """Whether a centre may be here, shape (3,) in px of y."""
        at = self.voxel(place)
        if (at < 0).any() or (at >= self.shape).any():
            return False
        return self.inside is None or bool(self.inside[tuple(at)])


class Colony:
    """All cells of a field, now.

    Parameters
    ----------
    nuclei : Nuclei
        Full-grown ones, of the first frame.
    world : World
        Where they may be.
    motion : Motion
        How they move, grow and divide.
    rng : Generator
        Source of everything random.

    Attributes
    ----------
    numbers : ndarray, shape (n,)
        Of the cells, in the order in which they lie on each other.
    parents : dict
        Number of the mother of each cell that was born.
    """

    def __init__(
        self, nuclei: Nuclei, world: World, motion: Motion, rng: np.random.Generator
    ) -> None:
        self._grown, self._world, self._motion, self._rng = nuclei, world, motion, rng
        count = len(nuclei)
        self.numbers = np.arange(1, count + 1)
        self.parents: dict[int, int] = {}
        self._places = nuclei.centres * np.asarray(world.spacing)
        # Area (volume) relative to that of the full-grown cell.
        self._share = np.ones(count)
        self._steps = self._random_steps()

    def _random_steps(self) -> Floats:
        """Independent steps of the wanted length."""
        dims = self._world.dims
        steps = self._rng.standard_normal((len(self.numbers), 3))
        steps[:, : 3 - dims] = 0
        return np.asarray(steps * self._motion.speed / np.sqrt(dims))

    @property
    def _lengths(self) -> Floats:
        """Semi-axes relative to those of the full-grown cell, shape (n,)."""
        return np.asarray(self._share ** (1 / self._world.dims))

    @property
    def _radii(self) -> Floats:
        """Of the circles about the cells, in px of y."""
        axes = self._grown.axes * np.asarray(self._world.spacing)
        return np.asarray(axes[:, 3 - self._world.dims :].max(axis=1) * self._lengths)

    def nuclei(self, margin: int = 0) -> Nuclei:
        """Return the nuclei as they are now.

        Parameters
        ----------
        margin : int
            What is cut off on each side in y and x, px: there centres are negative.
        """
        lengths = self._lengths[:, None]
        holes = self._grown.nucleoli.copy()
        holes[..., :3] *= lengths[..., None]
        axes = self._grown.axes.copy()
        axes[:, 3 - self._world.dims :] *= lengths
        centres = self._world.voxel(self._places) - np.array([0, margin, margin])
        return replace(self._grown, centres=centres, axes=axes, nucleoli=holes)

    def advance(self) -> None:
        """Go on to the next frame."""
        motion, count = self._motion, len(self.numbers)
        keep = motion.persistence
        fresh = np.sqrt(1 - keep**2) * self._random_steps()
        self._steps = keep * self._steps + fresh
        turns = motion.turning * self._rng.standard_normal(count)
        self._grown = replace(self._grown, angles=self._grown.angles + turns)
        divide = self._rng.uniform(size=count) < motion.division
        for n in range(count):
            self._step(n)
        if motion.regrowth:
            for n in np.flatnonzero(self._share < 1).tolist():
                self._grow(n)
        for n in np.flatnonzero(divide & (self._share >= 1)).tolist():
            self._divide(n)

    def _covered(self, n: int, place: Floats, radius: float) -> Floats:
        """Share of a circle here that each other cell covers, or of that one's."""
        apart = np.linalg.norm(self._places - place, axis=1)
        apart[n] = np.inf
        return covered_share(apart, radius, self._radii)

    def _allowed(self, n: int, place: Floats, radius: float, before: Floats) -> bool:
        """Whether a circle may be here, in place of cell `n`."""
        if not self._world.holds(place):
            return False
        most = np.maximum(self._world.overlap, before) + ROUNDING
        return bool((self._covered(n, place, radius) <= most).all())

    def _step(self, n: int) -> None:
        radius = float(self._radii[n])
        before = self._covered(n, self._places[n], radius)
        for factor in ATTEMPTS:
            place = self._places[n] + factor * self._steps[n]
            if self._allowed(n, place, radius, before):
                self._places[n] = place
                self._steps[n] *= factor
                return
        self._steps[n] = 0

    def _grow(self, n: int) -> None:
        """Grow by the same area (volume) in each frame, if there is room."""
        old, place = float(self._radii[n]), self._places[n]
        before, share = self._covered(n, place, old), self._share[n]
        # Rounded, so that a sum of shares ends at 1.
        grown = min(1.0, round(share + 0.5 / self._motion.regrowth, 9))
        radius = old * (grown / share) ** (1 / self._world.dims)
        if self._allowed(n, place, radius, before):
            self._share[n] = grown

    def _divide(self, n: int) -> None:
        """Divide along the longer axis, else across it, if the daughters find room.

        Each has half of the area (volume); they touch, side by side, and part.
        """
        half = 0.5 ** (1 / self._world.dims)
        axes = self._grown.axes[n, 1:] * np.asarray(self._world.spacing)[1:]
        radius, old = half * float(self._radii[n]), float(self._radii[n])
        if half * axes.min() < SMALLEST:
            return
        before = self._covered(n, self._places[n], old)
        short = int(np.argmin(axes))
        for turn in (90.0, 0.0):
            angle = float(self._grown.angles[n]) + turn
            # Axis 1 points along (cos, sin) in (y, x), axis 2 along (-sin, cos).
            cosine, sine = special.cosdg(angle), special.sindg(angle)
            across = np.array([(cosine, sine), (-sine, cosine)][short])
            shift = np.concatenate([[0], half * axes[short] * across])
            places = self._places[n] + shift, self._places[n] - shift
            if all(self._allowed(n, place, radius, before) for place in places):
                self._bear(n, places, angle)
                return

    def _bear(self, n: int, places: tuple[Floats, Floats], angle: float) -> None:
        """Put two daughters in the place of their mother; the second lies on top.

        Sisters are each other's mirror image, as they often are.
        """
        mother, dims = int(self.numbers[n]), self._world.dims
        angles = self._grown.angles.copy()
        angles[n] = angle
        axes = self._grown.axes.copy()
        share = 0.5
        if not self._motion.regrowth:
            # What a daughter is now is full-grown.
            axes[n, 3 - dims :] *= 0.5 ** (1 / dims)
            share = 1.0
        moves, holes = self._grown.moves, self._grown.nucleoli
        if len(moves):
            moves = np.concatenate([moves, -moves[n : n + 1, :, ::-1, ::-1]])
        self._grown = Nuclei(
            _twice(self._grown.centres, n), _twice(axes, n), _twice(angles, n),
            _twice(self._grown.greys, n), moves,
            np.concatenate([holes, holes[n : n + 1] * [-1, -1, 1, 1]]),
        )  # fmt: skip
        self._places = _twice(self._places, n)
        self._places[n], self._places[-1] = places
        self._steps, self._share = _twice(self._steps, n), _twice(self._share, n)
        self._share[[n, -1]] = share
        # They part: only so do they find the room to grow.
        away = places[0] - places[1]
        away *= self._motion.speed / max(float(np.linalg.norm(away)), 1e-9)
        self._steps[n] += away
        self._steps[-1] -= away
        first = max(int(self.numbers.max()), *self.parents, 0) + 1
        self.numbers = _twice(self.numbers, n)
        self.numbers[n], self.numbers[-1] = first, first + 1
        self.parents |= {first: mother, first + 1: mother}


def _twice(values: NDArray[Any], n: int) -> NDArray[Any]:
    """Append row `n` once more."""
    return np.concatenate([values, values[n : n + 1]])

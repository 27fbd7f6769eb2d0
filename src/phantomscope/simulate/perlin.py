"""Perlin noise: a smooth uneven background."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def perlin(
    shape: tuple[int, int], period: float, octaves: int, rng: np.random.Generator
) -> Floats:
    """Return gradient noise (Perlin 1985, with the fade of Perlin 2002).

    Each octave has half the period and half the amplitude of the one before. Unit
    gradients of random direction sit on a lattice with a random shift.

    Parameters
    ----------
    shape : tuple of int
        Height and width, px.
    period : float
        Of the coarsest octave, px; above 0.
    octaves : int
        How many, 1 or more. Those finer than 2 px are left out.
    rng : Generator
        Source of gradients and shifts.

    Returns
    -------
    ndarray, shape (Y, X)
        float64, between -1 and 1, mean 0 over many fields.
    """
    total, weight = np.zeros(shape), 0.0
    for octave in range(octaves):
        side = period / 2**octave
        if octave and side < 2:
            break
        total += _layer(shape, side, rng) / 2**octave
        weight += 1 / 2**octave
    # The most that one layer reaches is half a diagonal of the lattice.
    return np.asarray(total / (weight * math.sqrt(0.5)))


def _layer(shape: tuple[int, int], side: float, rng: np.random.Generator) -> Floats:
    """One octave: interpolated products of gradients and distances."""
    places = [
        (np.arange(n) + 0.5) / side + shift
        for n, shift in zip(shape, rng.uniform(size=2), strict=True)
    ]
    cells = [np.floor(p).astype(np.int64) for p in places]
    angles = rng.uniform(0, 2 * np.pi, tuple(int(c[-1]) + 2 for c in cells))
    slope = np.sin(angles), np.cos(angles)
    dy, dx = (p - c for p, c in zip(places, cells, strict=True))
    wy, wx = (_fade(d) for d in (dy, dx))

    def corner(v: int, u: int) -> Floats:
        at = np.ix_(cells[0] + v, cells[1] + u)
        return np.asarray(slope[0][at] * (dy - v)[:, None] + slope[1][at] * (dx - u))

    def row(v: int) -> Floats:
        left = corner(v, 0)
        return np.asarray(left + wx * (corner(v, 1) - left))

    top = row(0)
    return np.asarray(top + wy[:, None] * (row(1) - top))


def _fade(t: Floats) -> Floats:
    """6 t^5 - 15 t^4 + 10 t^3: no slope and no curvature at 0 and 1."""
    return t**3 * (t * (6 * t - 15) + 10)

"""A flat cell: its outline, its nucleus, and a field of view within it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WAVES = 5  # of the outline, from an ellipse on
ANGLES = 720


@dataclass(frozen=True)
class Cell:
    """A rounded outline about (0, 0): its radius is a sum of waves over the angle.

    Attributes
    ----------
    radius : float
        Of the circle of the same area, nm.
    waves : ndarray, shape (k, 2)
        Relative amplitudes of cosine and sine of 2, 3 ... k + 1 times the angle.
    nucleus : float
        Radius of the nucleus about (0, 0), nm; 0: none.
    """

    radius: float
    waves: Floats
    nucleus: float = 0.0

    @classmethod
    def drawn(
        cls, diameter: float, rng: np.random.Generator, nucleus: float = 0.0
    ) -> Cell:
        """Draw an outline.

        Parameters
        ----------
        diameter : float
            Mean diameter, nm.
        rng : Generator
            Source of everything random.
        nucleus : float
            Diameter of the nucleus relative to the cell's.
        """
        # High waves are smaller, so that the outline is smooth.
        sizes = 0.1 / np.arange(1, WAVES + 1)[:, None]
        waves = sizes * rng.standard_normal((WAVES, 2))
        return cls(diameter / 2, waves, nucleus * diameter / 2)

    def edge(self, angles: Floats) -> Floats:
        """Return the distance of the outline from (0, 0) at angles (rad), nm."""
        turns = np.arange(2, len(self.waves) + 2)[:, None] * np.atleast_1d(angles)
        wave = self.waves[:, :1] * np.cos(turns) + self.waves[:, 1:] * np.sin(turns)
        shape = np.clip(1 + wave.sum(axis=0), 0.3, 2.0)
        norm = np.sqrt(1 + (self.waves**2).sum() / 2)
        return np.asarray(self.radius * shape / norm).reshape(np.shape(angles))

    def area(self) -> float:
        """Return the area within the outline, nm^2 (nucleus included)."""
        angles = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
        return float(np.pi * np.mean(self.edge(angles) ** 2))

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Tell which points (y, x), shape (n, 2), are in the cell, not the nucleus."""
        y, x = points.T
        distance = np.hypot(y, x)
        inside = distance <= self.edge(np.arctan2(y, x))
        return np.asarray(inside & (distance >= self.nucleus))

    def point(self, rng: np.random.Generator) -> Floats:
        """Draw one point of the cell outside its nucleus."""
        reach = 2.0 * self.radius
        while True:
            points = rng.uniform(-reach, reach, (64, 2))
            inside = self.contains(points)
            if inside.any():
                return np.asarray(points[np.argmax(inside)])

    def corner(
        self, field: tuple[float, float], rng: np.random.Generator
    ) -> tuple[float, float]:
        """Place a field of view: its middle is in the cell, at random.

        The larger the field, the nearer to the middle of the cell; a field as large
        as the cell is about it.

        Parameters
        ----------
        field : tuple of float
            Height and width, nm.

        Returns
        -------
        tuple of float
            Corner (y, x) of the field, nm.
        """
        # Shrunken, so that a field reaches the outside only at its corners.
        free = np.maximum(1 - np.asarray(field) / (2 * self.radius), 0)
        y, x = self.point(rng) * free
        return float(y) - field[0] / 2, float(x) - field[1] / 2

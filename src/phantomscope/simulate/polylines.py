"""Lines in the plane with ids: the ground truth of filaments and tubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Polylines:
    """Lines of a structure; those of one object share its id.

    Attributes
    ----------
    points : ndarray, shape (n, 2)
        float64 (y, x) in nm from the outer corner of the first pixel of the field.
    starts : ndarray, shape (m + 1,)
        int64; line i is ``points[starts[i]:starts[i + 1]]``, of two points or more.
    ids : ndarray, shape (m,)
        int64 object of each line, from 1.
    radii : ndarray, shape (n,)
        float64 radius of filament or tube in nm, at each point.
    """

    points: Floats
    starts: Integers
    ids: Integers
    radii: Floats

    @classmethod
    def of(
        cls, lines: Sequence[Floats], radii: Sequence[Floats | float],
        ids: Sequence[int] | Integers | None = None,
    ) -> Polylines:  # fmt: skip
        """Join lines, shape (k, 2) each, with their radii; ids are 1, 2 ... if none."""
        sizes = [len(line) for line in lines]
        wide = [np.broadcast_to(r, n) for r, n in zip(radii, sizes, strict=True)]
        return cls(
            np.concatenate([np.zeros((0, 2)), *lines]),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.arange(1, len(sizes) + 1) if ids is None else np.asarray(ids, np.int64),
            np.concatenate([np.zeros(0), *wide]),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def lines(self) -> list[Floats]:
        """Return the points of each line."""
        return np.split(self.points, self.starts[1:-1]) if len(self) else []

    def arcs(self) -> Floats:
        """Return the length of line from its start to each point, nm; shape (n,)."""
        steps = np.zeros(len(self.points))
        steps[1:] = np.hypot(*np.diff(self.points, axis=0).T)
        total = np.cumsum(steps)
        first = self.starts[:-1]
        return np.asarray(total - np.repeat(total[first], np.diff(self.starts)))

    def lengths(self) -> Floats:
        """Return the length of each line, nm; shape (m,)."""
        return np.asarray(self.arcs()[self.starts[1:] - 1])

    def segments(self) -> Integers:
        """Return the index of the first point of each segment; shape (n - m,)."""
        first = np.ones(len(self.points), bool)
        first[self.starts[1:] - 1] = False
        return np.flatnonzero(first)

    def moved(self, shift: tuple[float, float] | Floats) -> Polylines:
        """Return the lines moved by (y, x) nm."""
        return Polylines(
            self.points + np.asarray(shift), self.starts, self.ids, self.radii
        )

    def within(self, low: tuple[float, float], high: tuple[float, float]) -> Polylines:
        """Leave out what lies wholly outside a box.

        A segment stays if its bounding box touches the box. A line that leaves the box
        and comes back becomes two lines of one id.

        Parameters
        ----------
        low, high : tuple of float
            Corners (y, x) in nm.
        """
        first = self.segments()
        a, b = self.points[first], self.points[first + 1]
        seen = ((np.minimum(a, b) <= high) & (np.maximum(a, b) >= low)).all(axis=1)
        kept = first[seen]
        # A new line begins where the segment before is not kept; between lines there
        # is none, since their last point begins no segment.
        begins = np.flatnonzero(np.diff(kept, prepend=-2) != 1)
        owner = np.searchsorted(self.starts, kept, side="right") - 1
        pieces = np.split(kept, begins[1:]) if len(kept) else []
        chosen = [np.append(piece, piece[-1] + 1) for piece in pieces]
        return Polylines.of(
            [self.points[piece] for piece in chosen],
            [self.radii[piece] for piece in chosen],
            self.ids[owner[begins]] if len(kept) else [],
        )

    def table(self) -> pd.DataFrame:
        """Return the points as rows: line, id, y, x, radius (nm)."""
        counts = np.diff(self.starts)
        return pd.DataFrame(
            {
                "line": np.repeat(np.arange(len(self)), counts),
                "id": np.repeat(self.ids, counts),
                "y": self.points[:, 0],
                "x": self.points[:, 1],
                "radius": self.radii,
            }
        )


@dataclass(frozen=True)
class Structure:
    """What is simulated in a field of view.

    Attributes
    ----------
    lines : Polylines
        Centre lines, also those a little outside the field.
    field : tuple of float
        Height and width of the field of view in nm.
    junctions : ndarray, shape (k, 2)
        float64 (y, x) in nm of the branch points of tubes; filaments have
        none.
    """

    lines: Polylines
    field: tuple[float, float]
    junctions: Floats


@numba.njit(cache=True, nogil=True)
def _crossings(a, b, owner, order, first, grid, side, low, out):  # type: ignore[no-untyped-def]
    """Write crossings of segments that lie in neighbouring cells; count them."""
    height, width = grid
    count = 0
    for i in range(len(a)):
        y = int(((a[i, 0] + b[i, 0]) / 2 - low[0]) // side)
        x = int(((a[i, 1] + b[i, 1]) / 2 - low[1]) // side)
        d0, d1 = b[i, 0] - a[i, 0], b[i, 1] - a[i, 1]
        for v in range(max(0, y - 1), min(height, y + 2)):
            for u in range(max(0, x - 1), min(width, x + 2)):
                for place in range(first[v * width + u], first[v * width + u + 1]):
                    j = order[place]
                    if j <= i or owner[i] == owner[j]:
                        continue
                    e0, e1 = b[j, 0] - a[j, 0], b[j, 1] - a[j, 1]
                    det = d0 * e1 - d1 * e0
                    if det == 0.0:
                        continue
                    g0, g1 = a[j, 0] - a[i, 0], a[j, 1] - a[i, 1]
                    t = (g0 * e1 - g1 * e0) / det
                    s = (g0 * d1 - g1 * d0) / det
                    if 0.0 <= t < 1.0 and 0.0 <= s < 1.0:
                        if count < len(out):
                            out[count, 0] = a[i, 0] + t * d0
                            out[count, 1] = a[i, 1] + t * d1
                        count += 1
    return count


def crossings(lines: Polylines) -> Floats:
    """Find where lines of different objects cross.

    Straight lines in any direction cross r^2 / pi times per area, with r their length
    per area (Buffon's needle, for lines).

    Parameters
    ----------
    lines : Polylines
        With segments of about the same length: the search is by cells as large as the
        longest segment.

    Returns
    -------
    ndarray, shape (k, 2)
        float64 (y, x) in nm.
    """
    start = lines.segments()
    if not len(start):
        return np.zeros((0, 2))
    a, b = lines.points[start], lines.points[start + 1]
    owner = lines.ids[np.searchsorted(lines.starts, start, side="right") - 1]
    side = max(float(np.abs(b - a).max()), 1e-9)
    low = np.minimum(a, b).min(axis=0)
    cells = (((a + b) / 2 - low) // side).astype(np.int64)
    grid = tuple(int(n) + 1 for n in cells.max(axis=0))
    flat = cells[:, 0] * grid[1] + cells[:, 1]
    order = np.argsort(flat, kind="stable")
    first = np.searchsorted(flat[order], np.arange(grid[0] * grid[1] + 1))
    found = np.zeros((1024, 2))
    count = _crossings(a, b, owner, order, first, grid, side, low, found)
    if count > len(found):
        found = np.zeros((count, 2))
        _crossings(a, b, owner, order, first, grid, side, low, found)
    return found[:count]

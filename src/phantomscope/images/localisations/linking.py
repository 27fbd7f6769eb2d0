"""Molecules that shine in several frames, joined into one localisation each."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations.table import Int, Localisations


@numba.njit(cache=True, nogil=True)
def _nearest(  # type: ignore[no-untyped-def]
    i, x, y, frame, radius, gap, cells, heads, after, taken
):
    """Return the open row nearest to row i, or -1; forget rows that are not open."""
    best, distance = -1, radius * radius
    for cell in cells:
        if cell < 0:
            continue
        j, before = heads[cell], -1
        while j >= 0:
            if taken[j] or frame[i] - frame[j] > gap + 1:
                # Rows come by frame, so nobody can be joined to it any more.
                if before < 0:
                    heads[cell] = after[j]
                else:
                    after[before] = after[j]
            else:
                far = (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2
                # Of two at the same distance the later row in the table.
                if (
                    frame[j] < frame[i]
                    and far <= distance
                    and (far < distance or j > best)
                ):
                    best, distance = j, far
                before = j
            j = after[j]
    return best


@numba.njit(cache=True, nogil=True)
def _tracks(  # type: ignore[no-untyped-def]
    x, y, frame, radius, gap, order, cell, around
):
    """Give each row the number of its molecule; `order` sorts rows by frame.

    Open rows of a cell of side `radius` are a chain that begins in `heads`; so only the
    nine cells around a row are looked through.
    """
    track, after = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    taken, heads = np.zeros(len(x), np.bool_), np.full(len(around), -1)
    count = 0
    for i in order:
        best = _nearest(
            i, x, y, frame, radius, gap, around[cell[i]], heads, after, taken
        )
        if best >= 0:
            track[i], taken[best] = track[best], True
        else:
            track[i] = count
            count += 1
        after[i] = heads[cell[i]]
        heads[cell[i]] = i
    return track, count


def _cells(table: Localisations, radius: float) -> tuple[Int, Int]:
    """Return the cell of each row, and the nine cells (-1: empty) around each cell."""
    u, v = (np.floor((p - p.min()) / radius).astype(np.int64) + 1
            for p in (table.x, table.y))  # fmt: skip
    stride = int(v.max()) + 2
    keys, cell = np.unique(u * stride + v, return_inverse=True)
    steps = [du * stride + dv for du in (-1, 0, 1) for dv in (-1, 0, 1)]
    wanted = keys[:, None] + np.array(steps)
    found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return cell, np.where(keys[found] == wanted, found, -1)


def link(table: Localisations, radius: float, gap: int = 1) -> Localisations:
    """Join localisations of one molecule in successive frames.

    A localisation is joined to the nearest one of an earlier frame within `radius` that
    has no successor yet; rows of one frame choose in their order. Positions are means
    weighted by 1 / uncertainty^2 (by 1 without it), photons are summed, background is
    averaged, and the frame is the first one.

    Parameters
    ----------
    table : Localisations
        The whole table, N rows, in any order.
    radius : float
        Largest distance between two successive localisations, nm.
    gap : int
        Frames between them in which the molecule may be dark.

    Returns
    -------
    Localisations
        One row for each molecule, by first frame; its uncertainty is that of the
        weighted mean.

    Raises
    ------
    PhantomscopeError
        If `radius` is not positive, or the table has no frames.
    """
    if not 0 < radius < np.inf:
        raise PhantomscopeError(
            f"a distance of {radius} nm",
            where="link_nm",
            fix="give a positive one, or leave it out",
        )
    frame = table.field("frame", "joining of successive localisations")
    if not len(table):
        return table
    order = np.argsort(frame, kind="stable")
    cells = _cells(table, radius)
    track, count = _tracks(table.x, table.y, frame, float(radius), gap, order, *cells)
    first = np.empty(count, np.int64)
    # From behind, so that the earliest row of each molecule stays.
    first[track[order[::-1]]] = order[::-1]
    return _merged(table, track, count, first)


def _merged(table: Localisations, track: Int, count: int, first: Int) -> Localisations:
    rows = np.bincount(track, minlength=count)
    weight = np.ones(len(table))
    if table.uncertainty is not None:
        weight = 1 / table.uncertainty**2
    total = np.bincount(track, weight, count)

    def mean(values: NDArray[np.float64] | None) -> Any:
        return None if values is None else np.bincount(track, weight * values) / total

    def summed(values: NDArray[np.float64] | None) -> Any:
        return None if values is None else np.bincount(track, values, count)

    frame, background = table.frame, summed(table.background)
    return Localisations(
        x=mean(table.x),
        y=mean(table.y),
        z=mean(table.z),
        frame=None if frame is None else frame[first],
        photons=summed(table.photons),
        uncertainty=None if table.uncertainty is None else 1 / np.sqrt(total),
        background=None if background is None else background / rows,
        source=table.source,
    )

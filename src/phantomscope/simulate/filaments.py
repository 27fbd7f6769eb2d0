"""Microtubules by mathematics: worm-like chains in a flat cell.

The angle of the tangent is a random walk: over a length s it changes by a normal number
of variance s / P. Hence tangents correlate by exp(-s / 2P), and a chain of length L has
the mean square end-to-end distance 4 P L (1 - 2 P / L (1 - exp(-L / 2P))) (Kratky &
Porod 1949, in the plane).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.structures import Filaments
from phantomscope.errors import PhantomscopeError
from phantomscope.simulate.cell import Cell
from phantomscope.simulate.polylines import Polylines, Structure

Floats = NDArray[np.float64]
NM = 1000.0  # per um
# Beyond the field, nm: what a widefield image of it may see.
MARGIN = 1000.0
MOST = 100_000


def worm_like_chain(
    start: Floats, angle: float, length: float, persistence: float, step: float,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Draw one worm-like chain in the plane.

    Parameters
    ----------
    start : ndarray, shape (2,)
        First point (y, x), nm.
    angle : float
        Direction of its beginning, rad from x towards y.
    length, persistence : float
        Of the contour, and persistence length, nm.
    step : float
        Distance of the points, nm; the last is nearer, so that the length is exact.
        Far below `persistence`.
    rng : Generator
        Source of everything random.

    Returns
    -------
    ndarray, shape (n, 2)
        float64 (y, x) in nm, two points or more.
    """
    count = max(1, int(np.ceil(length / step - 1e-9)))
    turns = np.sqrt(step / persistence) * rng.standard_normal(count)
    turns[0] = angle
    angles = np.cumsum(turns)
    steps = np.full(count, float(step))
    steps[-1] = length - step * (count - 1)
    moves = steps[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return np.concatenate([start[None], start + np.cumsum(moves, axis=0)])


def heading(line: Floats) -> float:
    """Return the direction in which a line ends, rad from x towards y."""
    return float(np.arctan2(*(line[-1] - line[-2])))


def cut_to(line: Floats, length: float) -> Floats:
    """Cut a line, shape (n, 2), to a length above 0; the last point is interpolated."""
    arcs = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    if length >= arcs[-1]:
        return line
    last = [np.interp(length, arcs, line[:, axis]) for axis in range(2)]
    return np.concatenate([line[: max(1, np.searchsorted(arcs, length))], [last]])


def _beside(line: Floats, options: Filaments, rng: np.random.Generator) -> Floats:
    """Return a part of a line, moved aside by the distance of a bundle."""
    many = int(np.ceil(rng.exponential(options.bundle_length * NM) / options.step)) + 1
    first = int(rng.integers(len(line) - 1))
    part = line[first : first + many + 1]
    if rng.uniform() < 0.5:
        part = part[::-1]
    slope = np.gradient(part, axis=0)
    normal = np.stack([slope[:, 1], -slope[:, 0]], axis=1)
    normal /= np.maximum(np.hypot(*normal.T), 1e-12)[:, None]
    return np.asarray(part + rng.uniform(*options.bundle_distance) * normal)


def _begin(
    cell: Cell, centre: Floats, options: Filaments, rng: np.random.Generator
) -> tuple[Floats, float]:
    """Draw where a filament starts, and its direction."""
    angle = float(rng.uniform(-np.pi, np.pi))
    if options.origin == "anywhere" or rng.uniform() >= options.from_origin:
        return cell.point(rng), angle
    if options.origin == "centre":
        # Not all at one point: a centrosome with its cloud is about 1 um wide.
        return centre + rng.normal(0, 0.3 * NM, 2), angle
    # Just within the edge, inwards within 60 degrees.
    reach = 0.995 * float(cell.edge(np.asarray(angle)))
    start = reach * np.array([np.sin(angle), np.cos(angle)])
    return start, angle + np.pi + float(rng.uniform(-1, 1)) * np.pi / 3


def _filament(
    cell: Cell, centre: Floats, old: list[Floats], options: Filaments,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Draw one filament of the cell; it ends at the cell's edge."""
    length = max(rng.exponential(options.length * NM), options.step)
    bend, step = options.persistence * NM, options.step
    if old and rng.uniform() < options.bundles:
        beside = _beside(old[int(rng.integers(len(old)))], options, rng)
        beside = cut_to(beside, length)
        rest = length - float(np.hypot(*np.diff(beside, axis=0).T).sum())
        line = beside
        if rest > 0:
            own = worm_like_chain(beside[-1], heading(beside), rest, bend, step, rng)
            line = np.concatenate([beside, own[1:]])
    else:
        start, angle = _begin(cell, centre, options, rng)
        line = worm_like_chain(start, angle, length, bend, step, rng)
    inside = cell.contains(line)
    return line if inside.all() else line[: int(np.argmin(inside))]


def microtubules(
    options: Filaments, field: tuple[float, float], rng: np.random.Generator
) -> Structure:
    """Draw the microtubules of a flat cell, seen in a field at random within it.

    Filaments are added until they have `options.density`; the last is cut to it.

    Parameters
    ----------
    options : Filaments
        Density, length, persistence, origin, bundles.
    field : tuple of float
        Height and width of the field of view, nm.
    rng : Generator
        Source of everything random.

    Returns
    -------
    Structure
        One line (or more, if it leaves the field) and one id per filament.

    Raises
    ------
    PhantomscopeError
        If so many filaments would be needed that the options cannot be meant.
    """
    lines, cell = cell_filaments(options, rng)
    low = cell.corner(field, rng)
    every = Polylines.of(lines, [options.radius] * len(lines))
    high = tuple(edge + MARGIN for edge in field)
    seen = every.moved((-low[0], -low[1])).within((-MARGIN, -MARGIN), high)  # type: ignore[arg-type]
    return Structure(seen, field, np.zeros((0, 2)))


def cell_filaments(
    options: Filaments, rng: np.random.Generator
) -> tuple[list[Floats], Cell]:
    """Draw all filaments of a cell about (0, 0).

    Returns
    -------
    lines : list of ndarray, shape (n, 2)
        (y, x) in nm; of `options.density` times the cell's area together.
    cell : Cell
        Its outline.

    Raises
    ------
    PhantomscopeError
        As `microtubules`.
    """
    cell = Cell.drawn(options.cell_diameter * NM, rng)
    centre = rng.normal(0, 0.1 * cell.radius, 2)
    wanted, lines = options.density / NM * cell.area(), list[Floats]()
    # Of at most this mean length: the cell's edge makes them shorter.
    hopeless = wanted > MOST * options.length * NM
    for _ in range(0 if hopeless else MOST):
        line = _filament(cell, centre, lines, options, rng)
        if len(line) < 2:
            continue
        length = float(np.hypot(*np.diff(line, axis=0).T).sum())
        lines.append(line if length < wanted else cut_to(line, wanted))
        wanted -= length
        if wanted <= 1e-6:
            return lines, cell
    raise PhantomscopeError(
        f"a cell of {options.cell_diameter:g} um would have more than {MOST} filaments",
        where="density",
        fix="ask for a lower density, longer filaments or a smaller cell",
    )

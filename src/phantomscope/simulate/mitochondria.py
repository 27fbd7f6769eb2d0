"""Mitochondria by mathematics: a network of tubes that branch, fuse and divide.

Tubes grow one after the other as worm-like chains. A tube has side tubes at random
places. Where it meets another one it fuses with it, passes over it or ends. At last
tubes divide at random places. What hangs together is one mitochondrion. The
events are those of the graph model of Sukhorukov et al. (PLOS Comput Biol 2012): tip to
tip, tip to side, and fission; here they also have a place.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from phantomscope.config.structures import Mitochondria
from phantomscope.simulate.cell import Cell
from phantomscope.simulate.filaments import MARGIN, NM, heading, worm_like_chain
from phantomscope.simulate.polylines import Polylines, Structure
from phantomscope.simulate.tubes import tube_labels

Floats = NDArray[np.float64]
# Tubes in a row that found no room: the cell is full.
PATIENCE = 300
# Smoothness of the radius along a tube, in radii.
WAVINESS = 3.0


@dataclass(frozen=True)
class Junction:
    """The end of one tube at a point of another: numbers of the tubes, of its points.

    ``end`` is 0 or -1: the first or the last point of tube ``tip``.
    """

    tip: int
    end: int
    side: int
    point: int


@dataclass
class Network:
    """Tubes that have grown, and where they hang together."""

    tubes: list[Floats] = field(default_factory=list)
    radii: list[Floats] = field(default_factory=list)
    junctions: list[Junction] = field(default_factory=list)


class _Room:
    """Which tube is near each place of the cell, on a grid as fine as the steps."""

    def __init__(self, cell: Cell, options: Mitochondria) -> None:
        self.half = 2.1 * cell.radius
        self.pitch = 2 * options.step
        side = int(np.ceil(2 * self.half / self.pitch))
        self.owner = np.zeros((side, side), np.int64)
        self.reach = 2 * options.radius + options.gap

    def at(self, points: Floats) -> NDArray[np.int64]:
        """Return the number + 1 of the tube near each point; 0: none."""
        place = ((points + self.half) / self.pitch).astype(np.int64)
        y, x = np.clip(place, 0, len(self.owner) - 1).T
        return np.asarray(self.owner[y, x])

    def add(self, tube: Floats, number: int) -> None:
        """Take the room within `reach` of a tube; what is taken stays the first's."""
        low = np.maximum((tube.min(0) + self.half - self.reach) // self.pitch, 0)
        high = (tube.max(0) + self.half + self.reach) // self.pitch + 1
        y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        window = self.owner[y, x]
        line = Polylines.of([tube + self.half - low * self.pitch], [self.reach])
        field = window.shape[0] * self.pitch, window.shape[1] * self.pitch
        near = tube_labels(line, field, self.pitch)
        window[(near > 0) & (window == 0)] = number + 1


class _Growth:
    """Grows the network of one cell."""

    def __init__(
        self, cell: Cell, options: Mitochondria, rng: np.random.Generator
    ) -> None:
        self.cell, self.options, self.rng = cell, options, rng
        self.room = _Room(cell, options)
        self.net = Network()
        self.waiting = deque[tuple[Floats, float, Junction]]()
        self.length = 0.0

    def run(self) -> Network:
        """Add tubes until the cell has its density or is full."""
        wanted = self.options.density / NM * self.cell.area()
        failed = 0
        while self.length < wanted and failed < PATIENCE:
            # Side tubes wait in a queue: with many of each tube they have no end.
            if self.waiting:
                grown = self.tube(*self.waiting.popleft())
            else:
                start = self.cell.point(self.rng)
                angle = float(self.rng.uniform(-np.pi, np.pi))
                free = not self.room.at(start[None])[0]
                grown = free and self.tube(start, angle, None)
            failed = 0 if grown else failed + 1
        return self.net

    def tube(self, start: Floats, angle: float, parent: Junction | None) -> bool:
        """Grow a tube and let its side tubes wait; tell whether there was room."""
        options, rng = self.options, self.rng
        length = max(rng.exponential(options.length * NM), options.step)
        line = worm_like_chain(
            start, angle, length, options.persistence * NM, options.step, rng
        )
        line, met = self._until_contact(line, None if parent is None else parent.side)
        if len(line) < 2:
            return False
        number = len(self.net.tubes)
        self.net.tubes.append(line)
        self.net.radii.append(self._radius(len(line)))
        if parent is not None:
            self.net.junctions.append(
                Junction(number, 0, parent.side, parent.point)
            )  # fmt: skip
        if met is not None:
            self.net.junctions.append(Junction(number, -1, *met))
        self.room.add(line, number)
        grown = float(np.hypot(*np.diff(line, axis=0).T).sum())
        self.length += grown
        for _ in range(rng.poisson(options.branching / NM * grown)):
            self.waiting.append(self._branch(number))
        return True

    def _branch(self, number: int) -> tuple[Floats, float, Junction]:
        """Begin a side tube somewhere on a tube, 60 to 90 degrees to it."""
        line, rng = self.net.tubes[number], self.rng
        point = int(rng.integers(len(line) - 1))
        side = float(rng.choice([-1.0, 1.0]) * rng.uniform(np.pi / 3, np.pi / 2))
        angle = heading(line[point : point + 2]) + side
        return line[point], angle, Junction(-1, 0, number, point)

    def _until_contact(
        self, line: Floats, parent: int | None
    ) -> tuple[Floats, tuple[int, int] | None]:
        """Follow a line to the cell's edge or another tube.

        Returns
        -------
        line : ndarray, shape (n, 2)
            What is left of it; to the other's centre line if they fuse.
        met : tuple of int or None
            Number of the tube that it fuses with, and the point of it.
        """
        inside = self.cell.contains(line)
        line = line if inside.all() else line[: int(np.argmin(inside))]
        near = self.room.at(line)
        if parent is not None:
            # Beside its parent, until it has left it for the first time.
            left = np.flatnonzero(near != parent + 1)
            near[: int(left[0]) if len(left) else len(near)] = 0
        passed = 0
        for place in np.flatnonzero(near):
            other = int(near[place]) - 1
            if other + 1 == passed:
                continue
            if self.rng.uniform() < self.options.fusion_chance:
                tube = self.net.tubes[other]
                point = int(np.argmin(((tube - line[place]) ** 2).sum(axis=1)))
                bridge = self._bridge(line[place], tube[point])
                return np.concatenate([line[: place + 1], bridge]), (other, point)
            if self.rng.uniform() >= self.options.crossing_chance:
                return line[:place], None
            passed = other + 1
        return line, None

    def _bridge(self, start: Floats, end: Floats) -> Floats:
        """Points from one place, which is left out, to another."""
        many = max(1, round(float(np.hypot(*(end - start))) / self.options.step))
        share = np.arange(1, many + 1)[:, None] / many
        return np.asarray(start + share * (end - start))

    def _radius(self, count: int) -> Floats:
        """Draw the radius at each point of a tube, nm."""
        options, rng = self.options, self.rng
        sigma = WAVINESS * options.radius / options.step
        # White noise over a longer tube, so that the ends are like the middle.
        pad = int(np.ceil(4 * sigma))
        wave = ndimage.gaussian_filter1d(rng.standard_normal(count + 2 * pad), sigma)
        wave = wave[pad : pad + count] * np.sqrt(2 * sigma * np.sqrt(np.pi))
        spread = options.radius_spread / np.sqrt(2)
        return np.asarray(
            options.radius * np.exp(spread * (rng.standard_normal() + wave))
        )


def grown_network(options: Mitochondria, rng: np.random.Generator) -> Network:
    """Grow the tubes of a cell about (0, 0), before any divides.

    Parameters
    ----------
    options : Mitochondria
        Density, length, branching, fusion, crossing.
    rng : Generator
        Source of everything random.

    Returns
    -------
    Network
        Tubes in nm, their radii and junctions.
    """
    cell = Cell.drawn(options.cell_diameter * NM, rng, options.nucleus)
    return _Growth(cell, options, rng).run()


@dataclass(frozen=True)
class Pieces:
    """Tubes after fission.

    Attributes
    ----------
    lines : Polylines
        Pieces of tubes; those that hang together have one id.
    junctions : ndarray, shape (k, 2)
        Where pieces hang together, (y, x) in nm.
    cuts : int
        Divisions.
    """

    lines: Polylines
    junctions: Floats
    cuts: int


def divided(net: Network, options: Mitochondria, rng: np.random.Generator) -> Pieces:
    """Divide tubes at random places, and number what hangs together.

    Parameters
    ----------
    net : Network
        Tubes.
    options : Mitochondria
        `fission` (mean divisions per length) and `gap`.
    rng : Generator
        Source of the places.

    Returns
    -------
    Pieces
        In which pieces too short to be seen (one point) are left out.
    """
    lines, radii, cuts = list[Floats](), list[Floats](), 0
    # Number of the piece of each point of each tube; -1: within a gap.
    belongs: list[NDArray[np.int64]] = []
    for tube, radius in zip(net.tubes, net.radii, strict=True):
        arcs = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(tube, axis=0).T))])
        many = int(rng.poisson(options.fission / NM * arcs[-1]))
        places = rng.uniform(0, arcs[-1], many)
        cuts += many
        # Ends are round caps as wide as the tube, so walls are 2 r nearer.
        wide = options.gap + 2 * options.radius
        lost = (np.abs(arcs[:, None] - places) < wide / 2).any(axis=1)
        after = np.searchsorted(np.sort(places), arcs)
        owner = np.full(len(tube), -1)
        for part in range(many + 1):
            kept = np.flatnonzero((after == part) & ~lost)
            if len(kept) >= 2:
                owner[kept] = len(lines)
                lines.append(tube[kept])
                radii.append(radius[kept])
        belongs.append(owner)
    pairs, joints = list[tuple[int, int]](), list[Floats]()
    for joint in net.junctions:
        tip, side = belongs[joint.tip][joint.end], belongs[joint.side][joint.point]
        if min(tip, side) >= 0:
            pairs.append((tip, side))
            joints.append(net.tubes[joint.side][joint.point])
    ids = _connected(len(lines), pairs) + 1
    return Pieces(
        Polylines.of(lines, radii, ids), np.reshape(joints, (-1, 2)), cuts
    )  # fmt: skip


def _connected(count: int, pairs: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Give 0, 1 ... to what hangs together, by the pairs that do."""
    if not count:
        return np.zeros(0, np.int64)
    a, b = np.reshape(pairs, (-1, 2)).T
    graph = sparse.coo_array((np.ones(len(a)), (a, b)), (count, count))
    found = sparse.csgraph.connected_components(graph, directed=False)[1]
    return np.asarray(found, np.int64)


def mitochondria(
    options: Mitochondria, field: tuple[float, float], rng: np.random.Generator
) -> Structure:
    """Draw the mitochondria of a flat cell, seen in a field at random within it.

    Parameters
    ----------
    options : Mitochondria
        Density, length, branching, fusion, fission, radius, nucleus.
    field : tuple of float
        Height and width of the field of view, nm.
    rng : Generator
        Source of everything random.

    Returns
    -------
    Structure
        Centre lines and radii of the tubes, one id per connected mitochondrion (also
        where the connection is outside the field), and the branch points.
    """
    cell = Cell.drawn(options.cell_diameter * NM, rng, options.nucleus)
    pieces = divided(_Growth(cell, options, rng).run(), options, rng)
    shift = -np.asarray(cell.corner(field, rng))
    high = tuple(edge + MARGIN for edge in field)
    lines = pieces.lines.moved(shift).within((-MARGIN, -MARGIN), high)  # type: ignore[arg-type]
    joints = pieces.junctions + shift
    seen = ((joints >= 0) & (joints < field)).all(axis=1)
    return Structure(lines, field, joints[seen])

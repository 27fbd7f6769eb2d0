"""Time series of labelled sketches: cells keep their label from frame to frame.

A series is a pure function of (seed, number of the series). It is planned as a whole,
as numbers; its frames are drawn one by one. The field is larger than the image by a
margin, from which cells enter and into which they leave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.simulation import Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.images.tracks import Relabelling, Track, relabelled, tracks_of
from phantomscope.simulate.background import finished
from phantomscope.simulate.motion import Colony, World
from phantomscope.simulate.organisms import Plan
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.simulate.raster import Nuclei, paint
from phantomscope.simulate.registry import NucleiDrawer, drawer_of
from phantomscope.simulate.sketch import (
    check_dimensions,
    choose_type,
    plan_fitted,
    simulate_sketch,
    sketch_identifier,
)
from phantomscope.simulate.volume import SLIVER

Float = NDArray[np.float32]
Labels = NDArray[Any]
Shape = tuple[int, int, int]


class _Frame(NamedTuple):
    """Nuclei of one frame, in voxels of the image, and the number of each cell."""

    nuclei: Nuclei
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """A time series: its tracks, and what its frames are drawn from.

    Attributes
    ----------
    kind : SketchType
        What the objects are like.
    tracks : list of Track
        Of all cells that are seen; their labels are those of the frames.
    """

    kind: SketchType
    tracks: list[Track]
    _options: Simulate
    _frames: list[_Frame]
    _tables: list[Relabelling]
    _box: Shape
    _transparent: bool
    _key: tuple[int, int]

    def objects(self, frame: int) -> int:
        """Count the cells that are seen in a frame."""
        return len(self._tables[frame])

    def draw(self, frame: int) -> tuple[Float, Labels]:
        """Draw one frame.

        Returns
        -------
        sketch : ndarray, shape ([Z,] Y, X)
            float32 unit intensities.
        labels : ndarray, shape ([Z,] Y, X)
            uint16 or uint32: of each cell the label of its track; where cells overlap
            that of the upper one.
        """
        size = self._options.size
        light, cells = _painted(
            self._frames[frame], self._options, self._box, self._transparent
        )
        labels = relabelled(cells, self._tables[frame]).reshape(size)
        light = light.reshape(size)
        if "fitted" in (self._options.organism, self._options.variant):
            # The same background in all frames.
            rng = generator(self._key[0], "series background", self._key[1])
            light = finished(light, self.kind, rng)
        return light, labels


def _painted(
    frame: _Frame, options: Simulate, box: Shape, transparent: bool
) -> tuple[Float, Labels]:
    """Draw the light of a frame and the numbers of its cells, shape (Z, Y, X)."""
    return paint(
        frame.nuclei, _field(options, 0), box, released=False,
        overlap=1.0 if transparent else None, numbers=frame.numbers,
    )  # fmt: skip


def _field(options: Simulate, margin: int) -> Shape:
    """Return (Z, Y, X) of the images and of a margin around them, px."""
    height, width = options.size[-2:]
    return math.prod(options.size[:-2]), height + 2 * margin, width + 2 * margin


class _Start(NamedTuple):
    """The first frame, in voxels of a field, and the rules for those that follow."""

    plan: Plan
    world: World
    transparent: bool


def _start(
    options: Simulate, kind: SketchType, margin: int, rng: np.random.Generator
) -> _Start:
    """Plan the first frame of a series in a field with this margin."""
    field = _field(options, margin)
    if options.organism == "fitted":
        check_dimensions(kind, options.size)
        plan = plan_fitted(kind, options, field[1:], rng)
        apart = options.placement == "non_overlapping"
        overlap = 0.0 if apart else options.largest_overlap(kind.overlap)
        return _Start(plan, World(field, overlap=overlap), True)
    drawer = _moving(options.organism)
    plan, order = drawer.plan(options, kind, field, rng)
    organism, spacing = drawer.organism, (1.0, 1.0, 1.0)
    if organism.volume is not None:
        spacing = organism.volume.spacing
    inside = None
    if organism.moves == "closed" and plan.region is not None:
        inside = plan.region.mask()
    world = World(field, spacing, order.overlap, inside)
    return _Start(plan, world, order.transparent is not None)


def _moving(organism: str) -> NucleiDrawer:
    """Return the drawer of an organism whose cells can move."""
    drawer = drawer_of(organism)
    if not isinstance(drawer, NucleiDrawer) or drawer.organism.moves is None:
        raise PhantomscopeError(
            f"there is no time series of {organism}",
            where="simulate.frames",
            fix="use 1, or an organism whose cells move: fitted, hela, gowt1, celegans",
        )
    return drawer


def _margin(options: Simulate, kind: SketchType) -> int:
    """Width of the field around an image, px: cells may be wholly out of view."""
    if options.organism != "fitted":
        organism = _moving(options.organism).organism
        if organism.moves == "closed":
            return 0
    return 2 * math.ceil(kind.radius[-1] * math.sqrt(kind.elongation[-1])) + 2


def simulate_series(
    parameters: SketchParameters, options: Simulate, seed: int, number: int
) -> Series:
    """Simulate the time series with this number: a pure function of (seed, number).

    Parameters
    ----------
    parameters : SketchParameters
        Fitted ones; not looked at for an organism as in the paper.
    options : Simulate
        `frames`, `motion`, organism, size and the rest.
    seed, number : int
        Of the experiment, and the number of the series.

    Raises
    ------
    PhantomscopeError
        If cells of this organism do not move.
    """
    rng = generator(seed, "series", number)
    kind = choose_type(parameters, options, rng)
    margin = _margin(options, kind)
    plan, world, transparent = _start(options, kind, margin, rng)
    colony = Colony(plan.nuclei, world, options.motion, rng)
    frames, present = [], []
    for frame in range(options.frames):
        if frame:
            colony.advance()
        frames.append(_Frame(colony.nuclei(margin), colony.numbers.copy()))
        _, cells = _painted(frames[-1], options, plan.box, transparent)
        # Slivers at an edge or under another cell are no objects, as in still images.
        seen = np.bincount(cells.ravel())
        present.append([int(n) for n in np.flatnonzero(seen >= SLIVER) if n > 0])
    tracks, tables = tracks_of(present, colony.parents)
    return Series(
        kind, tracks, options, frames, tables, plan.box, transparent, (seed, number)
    )


class Drawing(NamedTuple):
    """One sketch with its labels and what else is known of it.

    `series` is that to which it belongs, as number `frame`; None: a still image.
    """

    sketch: Float
    labels: Labels
    kind: SketchType
    objects: int
    series: Series | None = None
    frame: int = 0


class Sketches:
    """The sketches of an experiment by their number, still ones and frames of series.

    Frame k of series s has the number s x `frames` + k.
    """

    def __init__(
        self, parameters: SketchParameters, options: Simulate, seed: int
    ) -> None:
        self._parameters, self._options, self._seed = parameters, options, seed
        self._last: tuple[int, Series] | None = None

    def series(self, number: int) -> Series:
        """Return the series that sketch `number` belongs to; the last one is kept."""
        wanted = number // self._options.frames
        if self._last is None or self._last[0] != wanted:
            found = simulate_series(self._parameters, self._options, self._seed, wanted)
            self._last = wanted, found
        return self._last[1]

    def draw(self, number: int) -> Drawing:
        """Draw the sketch with this number."""
        if self._options.frames == 1:
            sketch, labels, kind = simulate_sketch(
                self._parameters, self._options, self._seed, number
            )
            return Drawing(sketch, labels, kind, int(labels.max()))
        series, frame = self.series(number), number % self._options.frames
        sketch, labels = series.draw(frame)
        return Drawing(
            sketch, labels, series.kind, series.objects(frame), series, frame
        )


def series_identifier(number: int, frames: int) -> str:
    """Id of the group of the sketch with this number: its series, or itself."""
    if frames == 1:
        return sketch_identifier(number)
    return f"series-{number // frames:06d}"

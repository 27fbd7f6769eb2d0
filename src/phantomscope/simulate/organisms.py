"""The nuclei of four organisms, as the paper and as its released code arrange them.

Eschweiler & Stegmaier 2023, section 2. Each organism says where nuclei stand and what
they look like (`Plan`); drawing is common. Where text and released code differ, both
are variants; `fitted` keeps the arrangement and takes sizes, elongation, intensities
and number from parameters that were fitted to images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phantomscope.simulate.parameters import SketchType, Volume, quantile
from phantomscope.simulate.placement import (
    Region,
    discs,
    nearest_distance,
    place_by_exclusion,
)
from phantomscope.simulate.raster import Nuclei, paint

Variant = Literal["paper", "code", "fitted"]
Shape = tuple[int, int, int]
Floats = NDArray[np.float64]
Drawn = tuple[NDArray[np.float32], NDArray[Any]]

# Intensity of each nucleus: "randomly chosen" in the text, these limits in the code.
GREYS = (0.5, 0.9)
# The text has dark circles without numbers, the code has none: ours. Fewest and most,
# radius relative to the nucleus, factor of the intensity.
NUCLEOLI, NUCLEOLUS_RADIUS, NUCLEOLUS_FACTOR = (0, 2), (0.12, 0.22), (0.2, 0.5)
# C. elegans: size of a voxel along y by that along z.
CE_FLATNESS = 0.09


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes
    ----------
    variant : str
        ``paper``, ``code`` or ``fitted``.
    shape : tuple of int
        (Z, Y, X); images have Z = 1.
    count : int, optional
        Most nuclei; None: as many as the organism has in this shape.
    kind : SketchType, optional
        Fitted parameters, for ``fitted``.
    overlap : float
        Largest share of a nucleus that others may cover; 0: the paper's exclusion, and
        no light adds up.
    """

    variant: Variant
    shape: Shape
    count: int | None = None
    kind: SketchType | None = None
    overlap: float = 0.0

    @property
    def released(self) -> bool:
        """Whether the released code is followed to the voxel."""
        return self.variant == "code"

    @property
    def transparent(self) -> float | None:
        """How nuclei are painted on each other, as `paint` has it."""
        return self.overlap or None


@dataclass(frozen=True)
class Plan:
    """Nuclei, and the box that bounds one of them in voxels (z, y, x).

    `region` is where their centres stay when they move; None: anywhere.
    """

    nuclei: Nuclei
    box: Shape
    region: Region | None = None


@dataclass(frozen=True)
class Organism:
    """One organism.

    Attributes
    ----------
    size : tuple of int
        Published size ([Z,] Y, X).
    plan : callable
        (Order, Generator) to Plan.
    draw : callable
        (Plan, Order) to sketch and labels of shape (Z, Y, X).
    unit : float
        Length of a px along y in the units of a plan.
    volume : Volume, optional
        Voxels, of volumes.
    moves : {"open", "closed"}, optional
        Of a time series: whether cells enter and leave the field of view, or stay in
        their region; None: they cannot move.
    """

    size: tuple[int, ...]
    plan: Callable[[Order, np.random.Generator], Plan]
    draw: Callable[[Plan, Order], Drawn]
    unit: float = 1.0
    volume: Volume | None = None
    moves: Literal["open", "closed"] | None = None


def draw_plan(plan: Plan, order: Order) -> Drawn:
    """Draw a plan whose nuclei are in the coordinates of the image."""
    return paint(
        plan.nuclei, order.shape, plan.box, released=order.released,
        overlap=order.transparent,
    )  # fmt: skip


def radii(
    order: Order, low: float, high: float, count: int, rng: np.random.Generator
) -> Floats:
    """Draw radii between two limits: whole numbers below `high` in the code."""
    if order.released:
        return rng.integers(int(low), int(high), count).astype(float)
    return rng.uniform(low, high, count)


def turns(order: Order, count: int, rng: np.random.Generator) -> Floats:
    """Draw angles from 0 to 360 degrees: whole numbers in the code."""
    if order.released:
        return rng.integers(0, 360, count).astype(float)
    return rng.uniform(0, 360, count)


def kept(
    centres: NDArray[np.int64], exhausted: bool, wanted: int, order: Order
) -> NDArray[np.int64]:
    """Centres that are drawn: the released code drops the last when room ran out."""
    if order.released and exhausted and len(centres) < wanted:
        return centres[:-1]
    return centres


def odd_box(order: Order, *sides: float) -> Shape:
    """Box of these sides: whole numbers; odd, unless the released code is followed."""
    whole = [max(1, int(side) if order.released else int(side) | 1) for side in sides]
    return whole[0], whole[1], whole[2]


def deformed(limit: float, count: int, rng: np.random.Generator) -> Floats:
    """Displacements of the 3 x 3 control points, relative to the box."""
    return rng.uniform(-limit, limit, (count, 2, 3, 3))


def nucleoli(
    radius: Floats, rng: np.random.Generator, number: tuple[int, int] = NUCLEOLI,
    contrast: tuple[float, float] = NUCLEOLUS_FACTOR,
) -> Floats:  # fmt: skip
    """Draw dark circles within nuclei of these radii, shape (n, most, 4)."""
    n, most = len(radius), number[1]
    there = np.arange(most) < rng.integers(number[0], most + 1, n)[:, None]
    angle = rng.uniform(0, 2 * np.pi, (n, most))
    # Within half of the radius, evenly over the area.
    place = 0.5 * radius[:, None] * np.sqrt(rng.uniform(size=(n, most)))
    size = radius[:, None] * rng.uniform(*NUCLEOLUS_RADIUS, (n, most))
    factor = rng.uniform(*contrast, (n, most))
    return np.stack(
        [place * np.sin(angle), place * np.cos(angle), np.where(there, size, 0.0),
         np.where(there, factor, 1.0)], axis=2,
    )  # fmt: skip


def fitted_number(
    order: Order, kind: SketchType, voxels: float, rng: np.random.Generator
) -> int:
    """Draw the number of nuclei in an image of so many voxels, by the density."""
    if order.count is not None:
        return order.count
    density = float(quantile(kind.density, rng.uniform()))
    return max(1, int(rng.poisson(density * voxels / 1e6)))


def fitted_nuclei(
    region: Region, order: Order, moves: float, rng: np.random.Generator,
    voxel: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Plan:  # fmt: skip
    """Nuclei of fitted size, elongation, intensity and number, placed by exclusion.

    Parameters
    ----------
    region : Region
        Where centres may lie.
    order : Order
        With the fitted parameters.
    moves : float
        Deformation; 0: none.
    rng : Generator
        Source.
    voxel : tuple of float
        Size of a voxel (z, y, x) in the unit of the fitted radius. z counts in
        volumes only.
    """
    assert order.kind is not None
    # As many as whole images have, wherever they stand there.
    count = fitted_number(order, order.kind, math.prod(order.shape), rng)
    radius, elongation, intensity = order.kind.draw(rng, count).T
    flat = region.shape[0] == 1
    axial = order.kind.volume.axial if order.kind.volume and not flat else 1.0
    across, along = radius / axial ** (1 / 3), radius * axial ** (2 / 3)
    axes = np.stack(
        [np.ones(count) if flat else along / voxel[0],
         across / np.sqrt(elongation) / voxel[1], across * np.sqrt(elongation)
         / voxel[2]], axis=1,
    )  # fmt: skip
    reach = np.maximum(2 * axes.max(axis=0) * nearest_distance(order.overlap), 1.0)
    centres, _ = place_by_exclusion(region, tuple(reach), count, rng)
    n = len(centres)
    depth = 1.0 if flat else 2 * np.ceil(axes[:, 0].max()) + 1
    side = 3 * np.ceil(axes[:, 1:].max())
    return Plan(
        Nuclei(
            centres, axes[:n], turns(order, n, rng), intensity[:n],
            deformed(moves, n, rng) if moves else no_moves(),
            np.zeros((n, 0, 4)),
        ),
        odd_box(order, depth, side, side),
        region,
    )  # fmt: skip


def no_moves() -> Floats:
    """No deformation."""
    return np.zeros((0, 2, 3, 3))


def _published_number(order: Order, number: int, size: tuple[int, ...]) -> int:
    """Scale the number of the paper with the area."""
    if order.count is not None:
        return order.count
    area = order.shape[1] * order.shape[2] / (size[-1] * size[-2])
    return max(1, round(number * area))


def _flat_nuclei(
    region: Region, order: Order, limits: tuple[float, float], number: int,
    shapes: Callable[[Floats, np.random.Generator], Floats], moves: float,
    rng: np.random.Generator,
) -> Plan:  # fmt: skip
    """Nuclei of an image; `shapes` gives the shrinking factor along y."""
    low, high = limits
    near = max(1.0, 2.0 * high * nearest_distance(order.overlap))
    reach = (1.0, near, near)
    found, exhausted = place_by_exclusion(region, reach, number, rng)
    centres = kept(found, exhausted, number, order)
    n = len(centres)
    radius = radii(order, low, high, n, rng)
    axes = np.stack([np.ones(n), radius * shapes(radius, rng), radius], axis=1)
    nuclei = Nuclei(
        centres, axes, turns(order, n, rng), rng.uniform(*GREYS, n),
        deformed(moves, n, rng), np.zeros((n, 0, 4)),
    )  # fmt: skip
    return Plan(nuclei, odd_box(order, 1, 3 * high, 3 * high))


def _hela(order: Order, rng: np.random.Generator) -> Plan:
    """Plan colonies: a union of 15 to 29 discs of 100 px, full of nuclei."""
    region = Region.of_mask(discs(order.shape, int(rng.integers(15, 30)), 100.0, rng))
    if order.variant == "fitted":
        return fitted_nuclei(region, order, 0.1, rng)

    def shapes(radius: Floats, rng: np.random.Generator) -> Floats:
        n = len(radius)
        if order.released:
            return 1 / (1 + rng.uniform(size=n) * 10 / radius)
        return rng.uniform(0.5, 1.0, n)

    number = _published_number(order, 450, HELA.size)
    return _flat_nuclei(region, order, (10, 20), number, shapes, 0.1, rng)


def _gowt1(order: Order, rng: np.random.Generator) -> Plan:
    """Plan mouse stem cells: anywhere, with nucleoli (not in the released code)."""
    region = Region.whole(order.shape)
    if order.variant == "fitted":
        plan = fitted_nuclei(region, order, 0.05, rng)
    else:

        def shapes(radius: Floats, rng: np.random.Generator) -> Floats:
            n = len(radius)
            if order.released:
                return 1 / (1 + rng.uniform(0, 0.3, n))
            return rng.uniform(0.75, 1.0, n)

        number = _published_number(order, 30, GOWT1.size)
        plan = _flat_nuclei(region, order, (30, 45), number, shapes, 0.05, rng)
    if order.released:
        return plan
    axes = plan.nuclei.axes
    dark = nucleoli(np.sqrt(axes[:, 1] * axes[:, 2]), rng)
    return replace(plan, nuclei=replace(plan.nuclei, nucleoli=dark))


def _celegans_number(order: Order, rng: np.random.Generator) -> int:
    """Most nuclei: 4 in the released code; the text says "variable", 4 to 100 here."""
    if order.count is not None:
        return order.count
    return 4 if order.released else int(rng.integers(4, 101))


def _celegans(order: Order, rng: np.random.Generator) -> Plan:
    """Plan an embryo: an ellipsoid; the more nuclei the smaller; some divide."""
    middle = tuple(float(s // 2) for s in order.shape)
    # Whole semi-axes, 0.3 of the size.
    semi = tuple(float(max(1, int(0.3 * s))) for s in order.shape)
    region = Region.ellipsoid(order.shape, middle, semi)  # type: ignore[arg-type]
    if order.variant == "fitted":
        return fitted_nuclei(region, order, 0.0, rng, (1 / CE_FLATNESS, 1.0, 1.0))
    number = _celegans_number(order, rng)
    share = len(region) / (3 * number) / CE_FLATNESS
    radius = max(2.0, (3 / (4 * np.pi) * share) ** (1 / 3))
    radius = float(int(radius)) if order.released else radius
    most = radius + 1
    reach = (max(1.0, 2 * most * CE_FLATNESS), 2 * most, 2 * most)
    found, exhausted = place_by_exclusion(region, reach, number, rng)
    centres = kept(found, exhausted, number, order)
    n = len(centres)
    size = radii(order, radius - 1, most, n, rng)
    # A tenth has just divided. The text gives no elongation of the others.
    divided = rng.uniform(size=n) < 0.1
    if order.released:
        shrink = 1 / (1 + rng.uniform(size=n) * np.where(divided, 1.0, 0.1))
        angles = rng.integers(-20, 20, n).astype(float)
    else:
        shrink = np.where(divided, rng.uniform(0.5, 1.0, n), 1.0)
        angles = turns(order, n, rng)
    axes = np.stack([CE_FLATNESS * size, size, size * shrink], axis=1)
    nuclei = Nuclei(
        centres, axes, angles, rng.uniform(*GREYS, n), no_moves(), np.zeros((n, 0, 4))
    )
    depth = 2 * most * CE_FLATNESS
    depth = depth if order.released else 2 * np.ceil(most * CE_FLATNESS) + 1
    return Plan(nuclei, odd_box(order, depth, 3 * most, 3 * most), region)


HELA = Organism((700, 1100), _hela, draw_plan, moves="open")
GOWT1 = Organism((1024, 1024), _gowt1, draw_plan, moves="open")
CELEGANS = Organism(
    (35, 512, 708), _celegans, draw_plan,
    volume=Volume(spacing=(1 / CE_FLATNESS, 1.0, 1.0)), moves="closed",
)  # fmt: skip

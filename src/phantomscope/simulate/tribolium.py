"""Nuclei of a Tribolium embryo: a shell, and its cartographic projection.

Eschweiler & Stegmaier 2023, section 2: nuclei lie densely on the boundary of a sphere
(in the released code an ellipsoid of random axes, turned in the plane) in a cube of
500 voxels, of which 13 concentric surfaces are spread out to planes of 2450 x 1700 px.
The cube is never made: each nucleus is drawn where it falls in the projection.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import special

from phantomscope.simulate.organisms import (
    GREYS,
    Drawn,
    Order,
    Organism,
    Plan,
    Shape,
    fitted_nuclei,
    fitted_number,
    kept,
    no_moves,
    odd_box,
    radii,
    turns,
)
from phantomscope.simulate.parameters import Volume
from phantomscope.simulate.placement import Region, place_by_exclusion
from phantomscope.simulate.raster import (
    Nuclei,
    box_start,
    label_type,
    lateral,
    turns_in_box,
    without_gaps,
)

SIDE, OUTER, INNER = 500, 230.0, 229.0
NUMBER, LOW, HIGH = 3000, 5, 6
# Polar angles of the map: 0.05 pi to 0.95 pi.
POLE, SPAN = 0.05 * math.pi, 0.9 * math.pi
# A px of the published map on its middle surface at the equator, in voxels of the cube.
SIZE = (13, 2450, 1700)
PIXEL_Y, PIXEL_X = INNER * 2 * math.pi / SIZE[1], INNER * SPAN / SIZE[2]


@numba.njit(cache=True, nogil=True)
def _shell(side, axes, cosine, sine, outer, inner):  # type: ignore[no-untyped-def]
    """Voxels of a cube in a turned ellipsoidal shell, by rows.

    As if an upright shell had been turned by nearest voxels about the middle of the
    cube; only the voxels of each row near the shell are looked at.
    """
    origin, middle = (side - 1) // 2, (side - 1) / 2.0
    starts = np.zeros(side * side + 1, np.int64)
    columns = np.empty(0, np.int32)
    for fill in range(2):
        count = 0
        for z in range(side):
            above = ((z - origin) / axes[0]) ** 2
            for y in range(side):
                # Squared distance along the row: q2 x^2 + 2 q1 x + q0, x from the
                # middle; one and a half voxels of margin for the nearest voxel.
                b2, c2 = 1.0 / axes[1] ** 2, 1.0 / axes[2] ** 2
                dy = y - middle
                q2 = sine * sine * b2 + cosine * cosine * c2
                q1 = sine * cosine * dy * (b2 - c2)
                q0 = above + dy * dy * (cosine * cosine * b2 + sine * sine * c2)
                far = (outer + 3.0) ** 2 - q0 + q1 * q1 / q2
                if far >= 0.0:
                    half = math.sqrt(far / q2)
                    near = (inner - 3.0) ** 2 - q0 + q1 * q1 / q2
                    hole = math.sqrt(max(near, 0.0) / q2)
                    shift = middle - q1 / q2
                    first = max(0, math.floor(shift - half))
                    stop = min(side, math.ceil(shift + half) + 1)
                    x = first
                    while x < stop:
                        if abs(x - shift) < hole:
                            x = max(x + 1, math.ceil(shift + hole))
                            continue
                        v = cosine * dy + sine * (x - middle) + middle
                        u = cosine * (x - middle) - sine * dy + middle
                        inside = 0 <= min(v, u) and max(v, u) <= side - 1
                        v, u = math.floor(v + 0.5), math.floor(u + 0.5)
                        away = (
                            above
                            + ((v - origin) / axes[1]) ** 2
                            + ((u - origin) / axes[2]) ** 2
                        )
                        if inside and inner * inner < away <= outer * outer:
                            if fill == 1:
                                columns[count] = x
                            count += 1
                        x += 1
                starts[z * side + y + 1] = count
        if fill == 0:
            columns = np.empty(count, np.int32)
    return columns, starts


def shell_region(
    axes: tuple[float, float, float], angle: float, side: int = SIDE,
    outer: float = OUTER, inner: float = INNER,
) -> Region:  # fmt: skip
    """Voxels between two ellipsoids in a cube.

    Parameters
    ----------
    axes : tuple of float
        Factors of the radii along z, y and x, above 0.
    angle : float
        Rotation from y towards x, degrees.
    side : int
        Of the cube.
    outer, inner : float
        Radii in voxels.
    """
    columns, starts = _shell(
        side, np.array(axes), special.cosdg(angle), special.sindg(angle), outer, inner
    )
    return Region((side, side, side), columns, starts)


def _plan(order: Order, rng: np.random.Generator) -> Plan:
    """Plan nuclei on the shell, in voxels of the cube."""
    axes, angle = (1.0, 1.0, 1.0), 0.0
    if order.released:
        a, b, c = 1 - 0.05 * rng.uniform(size=3)
        axes, angle = (float(a), float(b), float(c)), float(rng.integers(0, 360))
    region = shell_region(axes, angle)
    if order.variant == "fitted":
        return _fitted(region, order, rng)
    number = order.count or NUMBER
    found, exhausted = place_by_exclusion(region, (2.0 * HIGH,) * 3, number, rng)
    centres = kept(found, exhausted, number, order)
    n = len(centres)
    radius = radii(order, LOW, HIGH, n, rng)
    nuclei = Nuclei(
        centres, np.repeat(radius[:, None], 3, axis=1), turns(order, n, rng),
        rng.uniform(*GREYS, n), no_moves(), np.zeros((n, 0, 4)),
    )  # fmt: skip
    side = 3 * HIGH
    return Plan(nuclei, odd_box(order, side, side, side))


def _fitted(region: Region, order: Order, rng: np.random.Generator) -> Plan:
    """Nuclei of fitted size and density: px of the map become voxels of the cube."""
    assert order.kind is not None
    if order.count is None:
        # The density is that of the whole map, which leaves out the poles.
        mapped = math.prod(SIZE) / math.cos(POLE)
        count = fitted_number(order, order.kind, mapped, rng)
        order = replace(order, count=count)
    return fitted_nuclei(region, order, 0.0, rng, (1 / PIXEL_Y,) * 3)


@numba.njit(cache=True, nogil=True)
def _project(  # type: ignore[no-untyped-def]
    labels, sketch, counts, centres, axes, turns, greys, box, side, radius, polar,
    azimuth, released,
):  # fmt: skip
    depth, height, width = labels.shape
    middle = (side - 1) // 2
    cube = np.array([side, side, side])
    step_y, step_x = azimuth[1] - azimuth[0], polar[1] - polar[0]
    cos_y, sin_y, cos_x, sin_x = (
        np.cos(azimuth), np.sin(azimuth), np.cos(polar), np.sin(polar),
    )  # fmt: skip
    for n in range(len(centres)):
        start = box_start(centres[n], box, cube, released)
        # The nucleus lies within a ball, seen from the middle of the cube within a
        # cone. The released code's roundings move voxels by up to 3: a turned box of
        # even sides by 1.4, nearest voxels in it by 0.7, voxels of the cube by 0.9.
        reach = axes[n].max() + (3.0 if released else 0.1)
        place = np.empty(3)
        for axis in range(3):
            corner = start[axis] + (box[axis] - 1) // 2
            place[axis] = corner - (side / 2.0 - 0.5 if released else middle)
        distance = np.sqrt((place**2).sum())
        spread = np.pi if reach >= distance else np.arcsin(reach / distance)
        least = np.cos(spread)
        theta = np.arccos(place[2] / distance)
        phi = np.arctan2(place[1], place[0])
        x_first = max(0, int(np.floor((theta - spread - polar[0]) / step_x)))
        x_stop = min(width, int(np.ceil((theta + spread - polar[0]) / step_x)) + 1)
        # The azimuths of a cap that holds no pole.
        wide = np.pi
        if spread < theta and theta < np.pi - spread:
            wide = np.arcsin(min(1.0, np.sin(spread) / np.sin(theta)))
        y_first = int(np.floor((phi - wide - azimuth[0]) / step_y))
        y_count = min(height, int(np.ceil(2 * wide / step_y)) + 2)
        for step in range(y_count):
            y = (y_first + step) % height
            for x in range(x_first, x_stop):
                ray = sin_x[x] * (cos_y[y] * place[0] + sin_y[y] * place[1])
                if ray + cos_x[x] * place[2] < least * distance:
                    continue
                for k in range(depth):
                    if released:
                        # Whole voxels: the lookup of the released code.
                        w = float(int(radius[k] * sin_x[x] * cos_y[y] + side / 2.0))
                        v = float(int(radius[k] * sin_x[x] * sin_y[y] + side / 2.0))
                        u = float(int(radius[k] * cos_x[x] + side / 2.0))
                    else:
                        w = radius[k] * sin_x[x] * cos_y[y] + middle
                        v = radius[k] * sin_x[x] * sin_y[y] + middle
                        u = radius[k] * cos_x[x] + middle
                    w, v, u = w - start[0], v - start[1], u - start[2]
                    if (
                        w < 0 or v < 0 or u < 0 or w > box[0] - 1 or v > box[1] - 1
                        or u > box[2] - 1
                    ):  # fmt: skip
                        continue
                    dz = (w - (box[0] - 1) // 2) / axes[n, 0]
                    along, across = lateral(v, u, box, axes[n], turns[n], released)
                    if dz * dz + along + across <= 1.0:
                        counts[labels[k, y, x]] -= 1
                        counts[n + 1] += 1
                        labels[k, y, x] = n + 1
                        sketch[k, y, x] = greys[n]


def project(
    nuclei: Nuclei, shape: Shape, box: Shape, *, released: bool, side: int = SIDE,
    inner: float = INNER,
) -> tuple[NDArray[np.float32], NDArray[Any]]:  # fmt: skip
    """Draw nuclei of a cube into its cartographic projection.

    Plane k is the surface of radius inner + k - Z // 2; y is the azimuth (a full turn),
    x the polar angle (without the last twentieth at either pole).

    Parameters
    ----------
    nuclei : Nuclei
        In voxels of the cube.
    shape : tuple of int
        (Z, Y, X) of the projection.
    box : tuple of int
        Bounds one nucleus, in voxels of the cube.
    released : bool
        Look up the nearest lower voxel of a cube in which nuclei were drawn as the
        released code does; else evaluate equation 1 at each place itself.
    side : int
        Of the cube.
    inner : float
        Radius of the middle plane.

    Returns
    -------
    sketch, labels : ndarray, shape (Z, Y, X)
        As `paint` gives them.
    """
    labels = np.zeros(shape, label_type(len(nuclei)))
    sketch = np.zeros(shape, np.float32)
    counts = np.zeros(len(nuclei) + 1, np.int64)
    _project(
        labels, sketch, counts, nuclei.centres, nuclei.axes,
        turns_in_box(nuclei.angles, box),
        nuclei.greys, np.array(box), side,
        np.arange(shape[0]) + inner - shape[0] // 2,
        np.arange(shape[2]) / shape[2] * SPAN + POLE,
        np.arange(shape[1]) / shape[1] * 2 * math.pi - math.pi, released,
    )  # fmt: skip
    return sketch, without_gaps(labels, counts)


def _draw(plan: Plan, order: Order) -> Drawn:
    return project(plan.nuclei, order.shape, plan.box, released=order.released)


TRIBOLIUM = Organism(
    SIZE, _plan, _draw, unit=PIXEL_Y,
    volume=Volume(spacing=(1 / PIXEL_Y, 1.0, PIXEL_X / PIXEL_Y)),
)  # fmt: skip

"""The organisms against their rules, drawn naively as they are written."""

import numpy as np
import pytest
from scipy import ndimage

from phantomscope.config.simulation import Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.organisms import CELEGANS, GOWT1, HELA, Order
from phantomscope.simulate.parameters import SketchParameters, SketchType, Volume
from phantomscope.simulate.raster import Nuclei, paint
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.simulate.tribolium import (
    POLE,
    SPAN,
    TRIBOLIUM,
    project,
    shell_region,
)

FLAT = SketchType(
    name="flat", radius=[6, 7, 8, 9, 10, 11, 12], intensity=[0.3] * 7,
    elongation=[1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6], density=[900.0] * 7, clustering=0.3,
    edge=1.0,
)  # fmt: skip
DEEP = FLAT.model_copy(
    update={"name": "deep", "volume": Volume(spacing=(4, 1, 1), axial=1.2, edge=0.7)}
)


def boxed(nuclei: Nuclei, n, box):
    """One nucleus as the released code makes it: a box, turned and bent."""
    places = [np.arange(size) - (size - 1) // 2 for size in box]
    z, y, x = np.meshgrid(*places, indexing="ij")
    a, b, c = nuclei.axes[n]
    mask = (z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2 <= 1
    mask = ndimage.rotate(mask, nuclei.angles[n], axes=(1, 2), reshape=False, order=0)
    if len(nuclei.moves):
        place = [2 * np.arange(size) / size for size in box[1:]]
        grid = np.meshgrid(*place, indexing="ij")
        moved = [
            np.arange(box[1 + axis]).reshape((-1, 1) if axis == 0 else (1, -1))
            + box[1 + axis]
            * ndimage.map_coordinates(
                nuclei.moves[n, axis], grid, order=3, mode="mirror"
            )
            for axis in range(2)
        ]
        mask[0] = ndimage.map_coordinates(mask[0], moved, order=0, mode="constant")
    return mask


def pasted(nuclei: Nuclei, shape, box):
    """Draw boxes shifted into the volume; the largest label wins."""
    labels = np.zeros(shape, np.uint16)
    for n in range(len(nuclei)):
        start = [
            min(max(0, p - b // 2), s - b)
            for p, b, s in zip(nuclei.centres[n], box, shape, strict=True)
        ]
        window = tuple(slice(s, s + b) for s, b in zip(start, box, strict=True))
        labels[window] = np.maximum(labels[window], (n + 1) * boxed(nuclei, n, box))
    return labels


@pytest.mark.parametrize(
    ("organism", "shape", "count"),
    [(HELA, (1, 240, 260), None), (GOWT1, (1, 400, 420), 9),
     (CELEGANS, (35, 130, 150), 20)],
)  # fmt: skip
def test_released_code_is_followed_to_the_voxel(organism, shape, count):
    order = Order("code", shape, count)
    plan = organism.plan(order, generator("code", 1))
    assert len(plan.nuclei) > 5
    _, labels = organism.draw(plan, order)
    naive = pasted(plan.nuclei, shape, plan.box)
    # Numbers without those of which nothing is seen.
    naive = np.searchsorted(np.unique(naive), naive)
    different = labels != naive
    # The spline's sums are rounded otherwise: single voxels where a place ties.
    assert different.sum() <= 1e-4 * (naive > 0).sum()


def test_ellipsoids_of_the_paper_are_equation_1():
    centres = np.array([[10, 20, 30], [2, 1, 39]])
    axes, angles = np.array([[3.0, 6.0, 9.0], [2.0, 5.0, 8.0]]), np.array([30.0, 250.0])
    nuclei = Nuclei(
        centres, axes, angles, np.array([0.5, 0.7]), np.zeros((0, 2, 3, 3)),
        np.zeros((2, 0, 4)),
    )  # fmt: skip
    sketch, labels = paint(nuclei, (20, 40, 45), (9, 27, 27), released=False)
    z, y, x = np.indices(labels.shape)
    expected = np.zeros_like(labels)
    for n, (centre, (a, b, c), angle) in enumerate(
        zip(centres, axes, np.deg2rad(angles), strict=True)
    ):
        dy, dx = y - centre[1], x - centre[2]
        v = np.cos(angle) * dy + np.sin(angle) * dx
        u = np.cos(angle) * dx - np.sin(angle) * dy
        inside = ((z - centre[0]) / a) ** 2 + (v / b) ** 2 + (u / c) ** 2 <= 1
        expected[inside] = n + 1
    assert np.array_equal(labels, expected)
    assert set(np.unique(sketch)) == {0, np.float32(0.5), np.float32(0.7)}
    volume = 4 / 3 * np.pi * 3 * 6 * 9
    assert (labels == 1).sum() == pytest.approx(volume, rel=0.05)


def test_shell_is_that_of_a_turned_cube():
    side, axes, angle = 60, (0.97, 0.96, 0.99), 37.0
    z, y, x = np.indices((side,) * 3) - (side - 1) // 2
    away = (z / axes[0]) ** 2 + (y / axes[1]) ** 2 + (x / axes[2]) ** 2
    inner, outer = (
        ndimage.rotate(away <= r**2, angle, axes=(1, 2), reshape=False, order=0)
        for r in (25, 27)
    )
    region = shell_region(axes, angle, side, 27.0, 25.0)
    assert np.array_equal(region.voxels(), np.argwhere(inner ^ outer))


@pytest.mark.parametrize("released", [True, False])
def test_projection_equals_that_of_the_whole_cube(released):
    side, shape, inner = 80, (5, 90, 70), 25.0
    box = (12, 12, 12) if released else (13, 13, 13)
    rng = np.random.default_rng(1)
    # Also at the poles, where the azimuth means nothing.
    ends = [[40, 40, 65], [40, 40, 15], [41, 40, 64]]
    way = rng.standard_normal((60, 3))
    way = np.rint(40 + 25 * way / np.linalg.norm(way, axis=1, keepdims=True))
    centres = np.concatenate([ends, way]).astype(np.int64)
    n = len(centres)
    nuclei = Nuclei(
        centres, rng.uniform(2, 4, (n, 3)), rng.integers(0, 360, n).astype(float),
        rng.uniform(0.5, 0.9, n), np.zeros((0, 2, 3, 3)), np.zeros((n, 0, 4)),
    )  # fmt: skip
    sketch, labels = project(
        nuclei, shape, box, released=released, side=side, inner=inner
    )
    k, y, x = np.indices(shape)
    r, phi = k + inner - 2, y / shape[1] * 2 * np.pi - np.pi
    theta = x / shape[2] * SPAN + POLE
    place = [r * np.sin(theta) * np.cos(phi), r * np.sin(theta) * np.sin(phi),
             r * np.cos(theta)]  # fmt: skip
    if released:
        cube = pasted(nuclei, (side,) * 3, box)
        expected = cube[tuple((p + side / 2).astype(int) for p in place)]
    else:
        expected = np.zeros(shape, int)
        for number in range(n):
            d, v, u = (
                p + (side - 1) // 2 - c
                for p, c in zip(place, centres[number], strict=True)
            )
            angle = np.deg2rad(nuclei.angles[number])
            a, b, c = nuclei.axes[number]
            inside = (
                (d / a) ** 2
                + ((np.cos(angle) * v + np.sin(angle) * u) / b) ** 2
                + ((np.cos(angle) * u - np.sin(angle) * v) / c) ** 2
            ) <= 1
            expected[inside] = number + 1
    seen = np.unique(expected)
    assert len(seen) > 40
    assert (labels != np.searchsorted(seen, expected)).mean() < 1e-5
    assert np.array_equal(sketch > 0, labels > 0)


def published(organism, variant, objects=None, size=None):
    sizes = {"hela": (350, 550), "gowt1": (512, 512), "celegans": (35, 256, 354),
             "tribolium": (3, 245, 170)}  # fmt: skip
    options = Simulate(
        organism=organism, variant=variant, objects=objects,
        size=size or sizes[organism],
    )  # fmt: skip
    unused = SketchParameters(types=[FLAT])
    return simulate_sketch(unused, options, 4, 2)


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("organism", ["hela", "gowt1", "celegans", "tribolium"])
def test_sketches_of_organisms(organism, variant):
    sketch, labels, kind = published(organism, variant)
    again = published(organism, variant)
    assert np.array_equal(sketch, again[0])
    assert np.array_equal(labels, again[1])
    assert sketch.shape == labels.shape
    assert sketch.dtype == np.float32
    assert labels.dtype == np.uint16
    assert kind.name == organism
    assert kind.radius[0] >= 1
    assert (kind.volume is None) == (sketch.ndim == 2)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert np.array_equal(sketch > 0, labels > 0)
    inside = sketch[labels > 0]
    least = 0.5 * 0.2**2 if (organism, variant) == ("gowt1", "paper") else 0.5
    assert least <= inside.min()
    assert inside.max() <= 0.9


@pytest.mark.parametrize(
    ("organism", "low", "high"), [(HELA, 10, 20), (GOWT1, 30, 45), (TRIBOLIUM, 5, 6)]
)
def test_radii_are_those_of_the_specification(organism, low, high):
    shape = (1, 700, 1100) if organism is not TRIBOLIUM else (13, 30, 30)
    for variant in ("paper", "code"):
        plan = organism.plan(Order(variant, shape), generator(variant))
        radius = plan.nuclei.axes.max(axis=1)
        assert radius.min() >= low
        assert radius.max() <= high
        if variant == "code":
            assert np.array_equal(radius, np.rint(radius))
            assert radius.max() <= high - 1


def test_embryos_of_more_nuclei_have_smaller_ones():
    voxels = 4 / 3 * np.pi * 10 * 153 * 212
    for count in (4, 20, 100):
        for variant in ("code", "paper"):
            plan = CELEGANS.plan(
                Order(variant, (35, 512, 708), count), generator(variant, count)
            )
            ball = (3 / (4 * np.pi) * voxels / (3 * count) / 0.09) ** (1 / 3)
            axes = plan.nuclei.axes
            assert abs(axes[:, 1] - ball).max() < 2.5
            assert np.allclose(axes[:, 0], 0.09 * axes[:, 1])
            assert axes[:, 2].min() >= 0.5 * axes[:, 1].min()


def test_nucleoli_are_dark_and_few():
    sketch, labels, _ = published("gowt1", "paper")
    found = []
    for number in range(1, labels.max() + 1):
        values = sketch[labels == number]
        dark = (values < 0.9 * values.max()).mean()
        assert dark < 0.2
        found.append(dark > 0)
    assert 0 < np.mean(found) < 1
    plain, labels, _ = published("gowt1", "code")
    assert len(np.unique(plain)) == labels.max() + 1


def test_objects_sets_the_number():
    for objects in (5, (5, 7)):
        labels = published("gowt1", "paper", objects)[1]
        assert 5 <= labels.max() <= (objects if isinstance(objects, int) else 7)


def test_fitted_variants_take_sizes_and_background_from_the_images():
    lit = FLAT.model_copy(
        update={
            "density": [300.0] * 7,
            "background": FLAT.background.model_copy(update={"level": 0.2}),
        }
    )
    options = Simulate(organism="gowt1", variant="fitted", size=(400, 400))
    sketch, labels, kind = simulate_sketch(SketchParameters(types=[lit]), options, 0, 0)
    assert kind == lit
    assert 20 < labels.max() < 80
    area = np.median(np.bincount(labels.ravel())[1:])
    assert np.sqrt(area / np.pi) == pytest.approx(9, rel=0.15)
    assert np.median(sketch[labels == 0]) == pytest.approx(0.2, abs=0.01)
    deep = SketchParameters(types=[DEEP])
    options = Simulate(organism="celegans", variant="fitted", size=(20, 120, 130))
    sketch, labels, _ = simulate_sketch(deep, options, 0, 0)
    assert sketch.shape == labels.shape == (20, 120, 130)
    assert labels.max() >= 1
    options = options.model_copy(update={"organism": "tribolium", "size": (5, 90, 80)})
    assert simulate_sketch(deep, options, 0, 0)[1].max() > 50


def test_what_cannot_be_drawn_is_refused():
    flat, deep = SketchParameters(types=[FLAT]), SketchParameters(types=[DEEP])
    for parameters, changes, message in [
        (flat, {"organism": "meristem", "variant": "fitted", "size": (20, 64, 64)},
         "those of nuclei"),
        (flat, {"organism": "celegans", "variant": "fitted", "size": (20, 64, 64)},
         "fitted to images"),
        (deep, {"organism": "hela", "variant": "fitted", "size": (64, 64)},
         "fitted to volumes"),
        (flat, {"size": (20, 64, 64)}, "3 dimensions were asked for"),
        (deep, {"size": (64, 64)}, "2 dimensions were asked for"),
    ]:  # fmt: skip
        with pytest.raises(PhantomscopeError, match=message):
            simulate_sketch(parameters, Simulate(**changes), 0, 0)
    for changes, message in [
        ({"organism": "hela", "size": (8, 64, 64)}, "drawn as images"),
        ({"organism": "tribolium"}, "drawn as volumes"),
        ({"objects": (5, 4)}, "fewest, most"),
    ]:
        with pytest.raises(ValueError, match=message):
            Simulate(**changes)


def test_kind_of_a_drawer_is_that_of_its_nuclei():
    options = Simulate(organism="hela", size=(64, 64))
    kind = drawer_of("hela").kind(options)
    assert 10 < kind.radius[3] < 15
    assert kind.elongation[3] == pytest.approx(1 / 0.75, rel=0.08)

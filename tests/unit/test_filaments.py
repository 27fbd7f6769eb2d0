"""Microtubules against the formulas of worm-like chains, and lines as images."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import KDTree

from phantomscope.config.structures import Filaments
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.cell import Cell
from phantomscope.simulate.filaments import (
    cell_filaments,
    cut_to,
    microtubules,
    worm_like_chain,
)
from phantomscope.simulate.polylines import Polylines, crossings
from phantomscope.simulate.tubes import length_map, tube_labels, tube_maps

SMALL = Filaments(cell_diameter=15, length=8, density=2)


def chains(count, length, persistence, step):
    rng = generator("chains", length, persistence)
    angles = rng.uniform(-np.pi, np.pi, count)
    return np.stack(
        [
            worm_like_chain(np.zeros(2), a, length, persistence, step, rng)
            for a in angles
        ]
    )


@pytest.mark.parametrize(("length", "persistence"), [(2000, 8000), (20_000, 4000)])
def test_end_to_end_distance_is_that_of_a_worm_like_chain(length, persistence):
    found = (chains(4000, length, persistence, 100)[:, -1] ** 2).sum(axis=1)
    bend = 2 * persistence / length
    wanted = 4 * persistence * length * (1 - bend * (1 - np.exp(-1 / bend)))
    assert found.mean() == pytest.approx(wanted, abs=4 * found.std() / 4000**0.5)
    assert found.std() / 4000**0.5 < 0.02 * wanted


def test_tangents_decorrelate_over_twice_the_persistence_length():
    steps = np.diff(chains(3000, 10_000, 3000, 100), axis=1)
    along = (steps[:, :1] * steps).sum(axis=2) / 100**2
    arcs = 100 * np.arange(100)
    assert along.mean(axis=0) == pytest.approx(np.exp(-arcs / 6000), abs=0.05)


def test_a_chain_has_its_length():
    line = worm_like_chain(np.zeros(2), 0.3, 1234.5, 5000, 100, generator(1))
    assert Polylines.of([line], [1]).lengths() == pytest.approx([1234.5])
    short = cut_to(line, 432.1)
    assert Polylines.of([short], [1]).lengths() == pytest.approx([432.1])


@pytest.mark.parametrize("origin", ["centre", "edge", "anywhere"])
def test_a_cell_has_the_density_that_was_asked_for(origin):
    options = SMALL.model_copy(update={"origin": origin, "bundles": 0.4})
    lines, cell = cell_filaments(options, generator(origin))
    total = Polylines.of(lines, [1] * len(lines)).lengths().sum()
    assert total / cell.area() * 1000 == pytest.approx(options.density)
    assert all(cell.contains(line).all() for line in lines)


def test_filaments_begin_at_the_origin():
    alone = {"bundles": 0.0, "from_origin": 1.0}
    lines, _ = cell_filaments(SMALL.model_copy(update=alone), generator(2))
    starts = np.stack([line[0] for line in lines])
    assert np.hypot(*(starts - np.median(starts, axis=0)).T).max() < 1500
    edge = SMALL.model_copy(update={**alone, "origin": "edge"})
    lines, cell = cell_filaments(edge, generator(2))
    y, x = np.stack([line[0] for line in lines]).T
    assert np.hypot(y, x) == pytest.approx(cell.edge(np.arctan2(y, x)), rel=0.01)


def test_filaments_of_a_bundle_run_beside_another():
    options = SMALL.model_copy(update={"bundles": 1.0, "bundle_length": 3.0})
    lines, _ = cell_filaments(options, generator(3))
    others = KDTree(np.concatenate([cut_to(line, 1e6) for line in lines[:1]]))
    second = lines[1]
    near = others.query(second)[0]
    assert len(lines) > 5
    # The points of the first are 50 nm apart, so a point is nearest within 84 nm.
    assert (near[:2] < 85).all()


def test_straight_lines_cross_as_often_as_theory_says():
    rng = generator("crossings")
    # Lines of any direction through a disc are uniform in angle and distance.
    angle, distance = rng.uniform(0, np.pi, 600), rng.uniform(-10_000, 10_000, 600)
    along = np.linspace(-10_000, 10_000, 101)
    normal = np.stack([np.cos(angle), -np.sin(angle)], axis=1)
    way = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    lines = [d * n + along[:, None] * w for d, n, w in zip(distance, normal, way)]  # noqa: B905
    found = crossings(Polylines.of(lines, [1] * 600))
    inside = int((np.hypot(*found.T) < 5000).sum())
    density = 600 / 20_000  # of lines per nm across, so of length per area
    wanted = density**2 / np.pi * np.pi * 5000**2
    assert inside == pytest.approx(wanted, rel=0.1)


def test_two_lines_cross_where_they_do():
    lines = Polylines.of(
        [np.array([[0.0, 0], [10, 10]]), np.array([[0.0, 8], [10, 3]])], [1, 1]
    )
    # y = x and y = 16 - 2 x.
    assert crossings(lines) == pytest.approx(np.array([[16 / 3, 16 / 3]]))


def test_a_field_keeps_the_lines_that_it_sees():
    line = np.array([[5.0, -30], [5, -10], [5, 10], [5, 30], [9, 30], [9, 10]])
    seen = Polylines.of([line, line + 100], [1, 2]).within((0, 0), (20, 20))
    assert [len(piece) for piece in seen.lines()] == [3, 2]
    assert seen.ids.tolist() == [1, 1]
    assert set(seen.table()["id"]) == {1}


def test_length_per_pixel_is_exact():
    lines = Polylines.of([np.array([[0.0, 0], [30, 40]])], [1])
    found = length_map(lines, (30, 40), 10)
    assert found.sum() == pytest.approx(50)
    # From (0, 0) to (7.5, 10) in the first pixel.
    assert found[0, 0] == pytest.approx(12.5)
    field = (2700, 5400)
    structure = microtubules(SMALL, field, generator(4))
    fine = Polylines.of(
        [np.linspace(a, b, 200) for a, b in zip(
            structure.lines.points[structure.lines.segments()],
            structure.lines.points[structure.lines.segments() + 1], strict=True,
        )],
        [1] * len(structure.lines.segments()),
    )  # fmt: skip
    middle = (fine.points[1:] + fine.points[:-1]) / 2
    inside = ((middle >= 0) & (middle < field)).all(axis=1)
    steps = np.hypot(*np.diff(fine.points, axis=0).T)
    steps[fine.starts[1:-1] - 1] = 0
    total = length_map(structure.lines, field, 27).sum()
    assert total == pytest.approx(steps[inside].sum(), rel=1e-3)


def test_a_tube_holds_its_volume_and_wall():
    line = np.array([[500.0, -3000], [500, 3000]])
    tube = Polylines.of([line], [150], [7])
    labels, matter = tube_maps(tube, (1000, 1000), 10)
    assert set(np.unique(labels)) == {0, 7}
    assert (labels > 0).sum(axis=0).tolist() == [30] * 100
    assert matter[:, 3].sum() * 10 == pytest.approx(np.pi * 150**2, rel=1e-5)
    _, wall = tube_maps(tube, (1000, 1000), 10, profile="surface")
    assert wall[:, 3].sum() * 10 == pytest.approx(2 * np.pi * 150, rel=1e-5)
    assert tube_labels(tube, (1000, 1000), 10, 55).any(axis=1).sum() == 12


def test_a_field_needs_whole_pixels():
    with pytest.raises(PhantomscopeError, match="pixels of 27 nm"):
        length_map(Polylines.of([], []), (100, 270), 27)


def test_a_structure_without_lines_is_an_empty_image():
    nothing = Polylines.of([], [])
    assert not length_map(nothing, (270, 270), 27).any()
    assert not tube_maps(nothing, (270, 270), 27)[0].any()
    assert len(crossings(nothing)) == 0
    assert len(nothing.within((0, 0), (1, 1))) == 0


def test_the_area_of_a_cell_is_that_of_its_outline():
    cell = Cell.drawn(20_000, generator(5))
    points = generator(6).uniform(-20_000, 20_000, (200_000, 2))
    assert cell.contains(points).mean() * 40_000**2 == pytest.approx(
        cell.area(), rel=0.02
    )
    assert cell.area() == pytest.approx(np.pi * 10_000**2, rel=0.02)


def test_impossible_options_are_refused():
    with pytest.raises(ValidationError, match="least, largest"):
        Filaments(bundle_distance=(50, 20))
    with pytest.raises(ValidationError, match="tenth of `persistence`"):
        Filaments(persistence=0.1, step=100)
    with pytest.raises(PhantomscopeError, match="more than"):
        cell_filaments(Filaments(density=50, length=0.2, cell_diameter=1000),
                       generator(1))  # fmt: skip

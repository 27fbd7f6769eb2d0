"""Cells that move, grow and divide, against what is known of them without drawing."""

import numpy as np
import pytest

from phantomscope.config.motion import Motion
from phantomscope.images.noise import generator
from phantomscope.simulate.motion import Colony, World
from phantomscope.simulate.placement import covered_share, nearest_distance
from phantomscope.simulate.raster import Nuclei, paint


def nuclei(places, axes, *, volume=False):
    """Nuclei of one shape at places (y, x), or (z, y, x)."""
    places = np.asarray(places)
    centres = places if volume else np.insert(places, 0, 0, axis=1)
    n = len(centres)
    return Nuclei(
        centres.astype(np.int64), np.tile(np.asarray(axes, float), (n, 1)),
        np.zeros(n), np.full(n, 0.7), np.zeros((0, 2, 3, 3)), np.zeros((n, 0, 4)),
    )  # fmt: skip


def test_discs_cover_what_the_lens_of_two_circles_says():
    assert covered_share(2.0, 1.0, 1.0) == pytest.approx(0, abs=1e-9)
    assert covered_share(0.0, 1.0, 1.0) == pytest.approx(1)
    assert covered_share(0.5, 1.0, 2.0) == 1  # within the other
    # Two unit discs at distance 1: (2/3 - sqrt(3)/(2 pi)) of each.
    lens = 2 / 3 - np.sqrt(3) / (2 * np.pi)
    assert covered_share(1.0, 1.0, 1.0) == pytest.approx(lens)
    assert covered_share(3.0, 3.0, 3.0) == pytest.approx(lens)
    assert nearest_distance(lens) == pytest.approx(0.5)
    assert (nearest_distance(0), nearest_distance(1)) == (1, 0)
    y, x = np.mgrid[-200:201, -200:201] / 100
    first, second = x**2 + y**2 <= 1, (x - 0.8) ** 2 + y**2 <= 0.49
    seen = (first & second).sum() / second.sum()
    assert covered_share(0.8, 1.0, 0.7) == pytest.approx(seen, abs=0.01)


@pytest.mark.parametrize("keep", [0.0, 0.8])
def test_free_cells_go_as_far_as_a_persistent_random_walk(keep):
    # Far apart: 400 cells that never meet.
    grid = np.stack(np.mgrid[0:20, 0:20], axis=-1).reshape(-1, 2) * 200 + 1000
    motion = Motion(speed=3, persistence=keep, division=0)
    start = nuclei(grid, (1, 4, 5))
    colony = Colony(start, World((1, 6000, 6000)), motion, generator("walk", keep))
    frames = 12
    for _ in range(frames):
        colony.advance()
    moved = colony.nuclei().centres - start.centres
    assert (moved[:, 0] == 0).all()
    found = float((moved**2).sum(axis=1).mean())
    # Sum over all pairs of steps of speed^2 keep^|i - j|.
    lag = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))
    expected = 9 * float((keep**lag).sum())
    assert found == pytest.approx(expected, rel=0.15)


def test_a_division_conserves_area_and_daughters_grow_back():
    motion = Motion(speed=3, division=1, regrowth=5)
    colony = Colony(
        nuclei([(100, 100)], (1, 8, 16)), World((1, 200, 200)), motion, generator("d")
    )

    def areas():
        axes = colony.nuclei().axes
        return np.pi * axes[:, 1] * axes[:, 2]

    whole, start = areas()[0], colony._places[0]
    colony._steps[:] = 0
    colony.advance()
    assert colony.parents == {2: 1, 3: 1}
    assert sorted(colony.numbers) == [2, 3]
    assert areas().sum() == pytest.approx(whole)
    middle = colony.nuclei().centres.mean(axis=0)
    assert np.linalg.norm(middle - start) < 8  # one step, and whole px
    # Sisters touch, but hardly overlap.
    _, labels = paint(colony.nuclei(), (1, 200, 200), (1, 49, 49), released=False)
    drawn = np.bincount(labels.ravel())[1:]
    assert drawn.sum() == pytest.approx(whole, rel=0.03)
    # By a tenth of the mother in each frame in which there is room.
    grown = {n: [whole / 2] for n in (2, 3)}
    while colony.numbers.max() == 3:
        colony.advance()
        for n in (2, 3):
            if n in colony.numbers:
                grown[n].append(areas()[colony.numbers == n][0])
    for sizes in grown.values():
        steps = np.diff(sizes) / whole * 10
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
        assert set(np.rint(steps)) <= {0, 1}
        assert sizes[-1] > 0.85 * whole


def test_cells_of_an_embryo_cleave_into_ever_smaller_ones():
    motion = Motion(speed=3, division=1, regrowth=0)
    colony = Colony(
        nuclei([(60, 60, 60)], (20, 20, 20), volume=True), World((121, 121, 121)),
        motion, generator("e"),
    )  # fmt: skip
    for _ in range(30):
        colony.advance()
        volumes = colony.nuclei().axes.prod(axis=1)
        assert volumes.sum() == pytest.approx(20**3)
    assert len(volumes) > 50
    assert colony.nuclei().axes.min() >= 2  # smaller ones could not be seen


@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_cells_never_cover_more_of_each_other_than_allowed(overlap):
    grid = np.stack(np.mgrid[0:6, 0:6], axis=-1).reshape(-1, 2) * 20 + 20
    motion = Motion(speed=6, division=0.1, regrowth=4)
    world = World((1, 140, 140), overlap=overlap)
    colony = Colony(nuclei(grid, (1, 9, 9)), world, motion, generator("crowd"))
    for _ in range(25):
        old, sisters = colony.nuclei(), dict(colony.parents)
        colony.advance()
        now = colony.nuclei()
        assert (now.centres >= 0).all()
        assert (now.centres < 140).all()
        places, radius = now.centres[:, 1:].astype(float), now.axes[:, 1]
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
        np.fill_diagonal(apart, np.inf)
        # Centres are rounded to whole px.
        share = covered_share(apart + 1.5, radius[:, None], radius[None])
        assert share.max() <= overlap + 1e-3
        assert len(colony.parents) >= len(sisters)
        assert len(now) >= len(old)
    assert len(colony.numbers) > 36


def test_cells_stay_where_they_may_be():
    inside = np.zeros((1, 60, 60), bool)
    inside[0, 20:40, 20:40] = True
    colony = Colony(
        nuclei([(30, 30)], (1, 3, 3)), World((1, 60, 60), inside=inside),
        Motion(speed=10, division=0), generator("in"),
    )  # fmt: skip
    seen = set()
    for _ in range(40):
        colony.advance()
        _, y, x = colony.nuclei().centres[0]
        assert inside[0, y, x]
        seen.add((int(y), int(x)))
    assert len(seen) > 20


def test_nothing_random_is_left_out_of_the_generator():
    def walked():
        colony = Colony(
            nuclei([(50, 50), (90, 90)], (1, 6, 9)), World((1, 150, 150)),
            Motion(division=0.3), generator("same"),
        )  # fmt: skip
        for _ in range(10):
            colony.advance()
        return colony.numbers, colony.nuclei().centres, colony.nuclei().angles

    for a, b in zip(walked(), walked(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_light_adds_up_and_the_upper_cell_has_the_label():
    two = nuclei([(20, 18), (20, 26)], (1, 8, 8))
    sketch, labels = paint(two, (1, 41, 45), (1, 25, 25), released=False, overlap=1.0)
    both = sketch > 1
    assert both.any()
    np.testing.assert_allclose(sketch[both], 1.4)
    assert (labels[both] == 2).all()
    share = both.sum() / (labels == 2).sum()
    for limit, count in ((share + 0.01, 2), (share - 0.01, 1)):
        kept = paint(two, (1, 41, 45), (1, 25, 25), released=False, overlap=limit)
        assert kept[1].max() == count
    flat, _ = paint(two, (1, 41, 45), (1, 25, 25), released=False)
    assert flat.max() == pytest.approx(0.7)

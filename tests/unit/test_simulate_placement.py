"""Placement by exclusion against exact probabilities and a naive reference."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from phantomscope.images.noise import generator
from phantomscope.simulate.placement import Region, discs, place_by_exclusion


def naive(voxels, reach, count, rng):
    """Draw, remove all that are near, and so on: the rule as it is written."""
    left, found = voxels.copy(), []
    while len(found) < count and len(left):
        centre = left[rng.integers(len(left))]
        found.append(centre)
        left = left[(((left - centre) / reach) ** 2).sum(axis=1) > 1]
    return np.array(found)


def probabilities(voxels, reach, count):
    """Exact probability of every order of centres."""
    found = Counter()

    def go(left, path, chance):
        if len(path) == count or not left:
            found[tuple(path)] += chance
            return
        for voxel in left:
            away = [((np.array(v) - voxel) / reach) ** 2 for v in left]
            rest = [v for v, a in zip(left, away, strict=True) if a.sum() > 1]
            go(rest, [*path, voxel], chance / len(left))

    go([tuple(int(i) for i in v) for v in voxels], [], 1.0)
    return found


@pytest.mark.parametrize("count", [2, 9])
def test_orders_have_their_exact_probabilities(count):
    mask = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 1, 1], [0, 1, 1, 0, 1]], bool)
    region, reach = Region.of_mask(mask), np.array([1.0, 1.5, 2.0])
    expected = probabilities(region.voxels(), reach, count)
    drawn = Counter()
    rng, trials = np.random.default_rng(0), 20_000
    for _ in range(trials):
        centres, exhausted = place_by_exclusion(region, tuple(reach), count, rng)
        assert exhausted == (len(centres) < count) or count == 2
        drawn[tuple(tuple(int(i) for i in c) for c in centres)] += 1
    assert set(drawn) <= set(expected)
    # Rare orders together, so that chi squared holds.
    often = [key for key, p in expected.items() if p * trials >= 5]
    seen = [drawn[key] for key in often]
    wanted = [expected[key] * trials for key in often]
    rest = trials - sum(wanted)
    if rest > 5:
        seen, wanted = [*seen, trials - sum(seen)], [*wanted, rest]
    scale = sum(seen) / sum(wanted)
    assert stats.chisquare(seen, [w * scale for w in wanted]).pvalue > 1e-3


def test_numbers_agree_with_the_naive_rule_when_room_runs_out():
    region = Region.ellipsoid((9, 40, 50), (4, 20, 25), (3.0, 15.0, 20.0))
    reach = np.array([1.5, 7.0, 7.0])
    ours = [
        len(place_by_exclusion(region, tuple(reach), 10**6, generator("a", n))[0])
        for n in range(200)
    ]
    theirs = [
        len(naive(region.voxels(), reach, 10**6, generator("b", n))) for n in range(200)
    ]
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.02)


def test_centres_keep_their_distance_and_no_room_is_left():
    region = Region.whole((1, 80, 90))
    centres, exhausted = place_by_exclusion(region, (1, 10, 10), 10**6, generator(0))
    assert exhausted
    away = ((centres[:, None] - centres[None]) ** 2).sum(axis=2)
    assert away[~np.eye(len(centres), dtype=bool)].min() > 100
    nearest = ((region.voxels()[:, None] - centres[None]) ** 2).sum(axis=2).min(axis=1)
    assert nearest.max() <= 100
    same, _ = place_by_exclusion(region, (1, 10, 10), 10**6, generator(0))
    assert np.array_equal(centres, same)


def test_regions_hold_the_voxels_of_their_masks():
    mask = np.random.default_rng(0).uniform(size=(4, 6, 7)) > 0.6
    assert np.array_equal(Region.of_mask(mask).voxels(), np.argwhere(mask))
    flat = Region.of_mask(mask[0])
    assert flat.shape == (1, 6, 7)
    assert np.array_equal(flat.voxels()[:, 1:], np.argwhere(mask[0]))
    whole = Region.whole((2, 3, 4))
    assert np.array_equal(whole.voxels(), np.argwhere(np.ones((2, 3, 4))))
    z, y, x = np.indices((9, 40, 50))
    inside = ((z - 4) / 3) ** 2 + ((y - 20) / 15) ** 2 + ((x - 25) / 20) ** 2 <= 1
    found = Region.ellipsoid((9, 40, 50), (4, 20, 25), (3, 15, 20))
    assert np.array_equal(found.voxels(), np.argwhere(inside))


def test_no_room_and_no_wish_give_no_centre():
    nowhere = Region.of_mask(np.zeros((5, 5), bool))
    assert place_by_exclusion(nowhere, (1, 2, 2), 3, generator(0))[1]
    centres, exhausted = place_by_exclusion(
        Region.whole((1, 5, 5)), (1, 2, 2), 0, generator(0)
    )
    assert not len(centres)
    assert not exhausted


def test_discs_are_unions_of_discs():
    seen = discs((1, 70, 110), 5, 12.0, generator("discs"))
    y, x = np.indices((70, 110))
    expected = np.zeros((70, 110), bool)
    for cy, cx in generator("discs").integers(0, (70, 110), (5, 2)):
        expected |= ((y - cy) / 12.0) ** 2 + ((x - cx) / 12.0) ** 2 <= 1
    assert np.array_equal(seen, expected)

"""Copies are flagged, independent images are cleared at the stated rate."""

from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.alarm import alarm, distinctness
from phantomscope.measure.audit import audit, expected_best, nested_subsets, sweep

SIDE = 32


def textures(count, seed):
    """Independent images with bright and dark blobs."""
    noise = np.random.default_rng(seed).normal(size=(count, SIDE, SIDE))
    return np.exp(3 * ndimage.gaussian_filter(noise, (0, 1.5, 1.5), mode="wrap"))


TRAINING, HELD_OUT, FRESH = textures(40, 0), textures(24, 1), textures(20, 2)


def planted(patch, seed=3):
    """A copy that is turned, shifted and noisy."""
    noise = np.random.default_rng(seed).normal(0, 0.5 * patch.std(), patch.shape)
    return np.roll(np.rot90(patch.T), (5, -9), (0, 1)) + noise


def test_a_planted_copy_is_flagged_and_independent_images_are_not():
    samples = FRESH.copy()
    samples[7] = planted(TRAINING[11])
    found = audit(samples, TRAINING, HELD_OUT)
    assert_array_equal(np.flatnonzero(found.alarm.flagged), [7])
    assert found.samples.index[7] == 11
    assert found.alarm.rule == "extrapolated"
    assert found.alarm.p[7] == pytest.approx(1 / 25)
    assert found.alarm.p_any[7] < 0.01
    overlaid = found.samples.aligned(7, TRAINING[11])
    assert np.corrcoef(overlaid.flat, samples[7].flat)[0, 1] > 0.85
    summary = found.summary()
    assert summary["samples_n"] == 20
    assert summary["flagged"] == 1
    assert summary["samples_max"] == pytest.approx(found.samples.score[7])


def test_gaps_are_above_zero_for_copies_only():
    copies = np.stack([planted(patch, n) for n, patch in enumerate(TRAINING[:20])])
    copied, independent = (audit(s, TRAINING, HELD_OUT) for s in (copies, FRESH))
    for gap in (copied.gap, copied.gap_to_held_out):
        assert gap.low > 0.2
    for gap in (independent.gap, independent.gap_to_held_out):
        assert abs(gap.value) < 0.05
        assert gap.low < gap.value < gap.high


def test_smooth_samples_are_near_to_everything_but_no_copies():
    smooth = ndimage.gaussian_filter(FRESH, (0, 3, 3), mode="wrap")
    found = audit(smooth, TRAINING, HELD_OUT)
    assert found.gap.low > 0
    assert abs(found.gap_to_held_out.value) < 0.03
    assert not found.alarm.flagged.any()


def test_the_gap_of_few_held_out_images_is_wider():
    alone = audit(FRESH, TRAINING, HELD_OUT).gap
    groups = [f"image {n // 8}" for n in range(24)]
    grouped = audit(FRESH, TRAINING, HELD_OUT, held_out_groups=groups).gap
    assert grouped.value == alone.value
    assert (grouped.n_groups, alone.n_groups) == (3, 20)


DRAWS = {
    "gumbel": lambda r, n: r.gumbel(0.3, 0.02, n),
    "normal": lambda r, n: r.normal(0.3, 0.02, n),
    "two kinds": lambda r, n: r.normal(0.3, 0.02, n) + 0.1 * (r.random(n) < 0.3),
}


@pytest.mark.parametrize("known", [8, 24, 200, 1000])
@pytest.mark.parametrize("kind", DRAWS)
def test_false_alarms_are_as_rare_as_stated(kind, known):
    random = np.random.default_rng(known)
    alarmed = flagged = 0
    for _ in range(120):
        scores, baseline = DRAWS[kind](random, 50), DRAWS[kind](random, known)
        found = alarm(scores, baseline).flagged
        alarmed += found.any()
        flagged += found.sum()
    # Three standard errors of a rate of 0.05 in 120 audits are 0.06.
    assert alarmed / 120 <= 0.05 + 0.06
    assert flagged / 120 / 50 <= 0.05


def test_a_lone_copy_is_found_among_many_with_few_held_out_images():
    random = np.random.default_rng(0)
    scores, baseline = random.gumbel(1, 0.1, 50), random.gumbel(1, 0.1, 10)
    scores[3] = 3.0
    assert_array_equal(np.flatnonzero(alarm(scores, baseline).flagged), [3])


def test_many_held_out_images_need_no_distribution():
    baseline = np.arange(1, 100) / 100
    found = alarm([0.955, 0.945, 1.0], baseline, rate=0.15)
    # Bonferroni: 3 (1 + 4) / 100 = 0.15 is allowed, one more is not.
    assert found.rule == "conformal"
    assert_allclose(found.p, [0.05, 0.06, 0.01])
    assert_allclose(found.p_any, [0.15, 0.18, 0.03])
    assert_array_equal(found.flagged, [True, False, True])
    assert found.limit == pytest.approx(0.95)


def test_distinctness_by_hand():
    z = np.array([[0.1, 0.2, 0.3, 0.2, 0.9], [0.2] * 5, [0, 0, 0, 0, 0.5]])
    found = distinctness(np.tanh(z))
    assert found[0] == pytest.approx(np.log(0.7 / np.sqrt(0.02 / 3)))
    assert np.isnan(found[1:]).all()
    judged = alarm(found, [0.1, 0.2, 0.3, np.nan])
    assert_array_equal(judged.flagged, [True, False, False])
    assert_allclose(judged.p, [0.25, 1, 1])


def test_baselines_without_spread_have_a_limit():
    found = alarm([0.2, 0.4], [0.3, 0.3, 0.3])
    assert_array_equal(found.flagged, [False, True])


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_the_expected_best_is_the_mean_over_all_choices(count):
    scores = np.random.default_rng(1).random((2, 6))
    means = [
        np.mean([max(row[list(chosen)]) for chosen in combinations(range(6), count)])
        for row in scores
    ]
    assert_allclose(expected_best(scores, count), means)


def test_a_sweep_finds_the_size_at_which_copying_ends():
    def generate(chosen):
        return TRAINING[chosen][:6] if len(chosen) < 30 else FRESH[:6]

    table = sweep(generate, TRAINING, HELD_OUT, [20, 25, 40], resamples=50)
    assert list(table["training_n"]) == [20, 25, 40]
    assert list(table["flagged"]) == [6, 6, 0]
    assert list(table["gap_low"] > 0) == [True, True, False]


def test_subsets_are_nested_and_take_image_after_image():
    groups = ["a", "b", "c", "a", "b", "c"]
    small, large = nested_subsets(6, [2, 5], groups)
    assert_array_equal(large[:2], small)
    assert len({groups[i] for i in small}) == 1
    assert len(set(large)) == 5


def test_bad_input_is_refused():
    with pytest.raises(PhantomscopeError, match="rate is 1"):
        alarm([0.1], [0.1, 0.2, 0.3], rate=1)
    with pytest.raises(PhantomscopeError, match="1 samples cannot be judged by 2"):
        alarm([0.1], [0.1, 0.2])
    with pytest.raises(PhantomscopeError, match="scores are no correlations"):
        distinctness(np.full((1, 4), 1.5))
    with pytest.raises(PhantomscopeError, match="nothing can stand out"):
        distinctness(np.zeros((5, 3)))
    with pytest.raises(PhantomscopeError, match="7 patches cannot be drawn from 6"):
        expected_best(np.zeros((2, 6)), 7)
    with pytest.raises(PhantomscopeError, match=r"sizes \[9\] of 6 patches"):
        nested_subsets(6, [9])

"""Bootstrap intervals against normal theory, and their invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.statistics import (
    bootstrap_difference,
    bootstrap_interval,
    paired_bootstrap_ratio,
)


def mean(units):
    return float(np.mean(units))


def test_interval_of_a_mean_has_the_width_of_normal_theory():
    units = np.random.default_rng(0).normal(5, 2, 200).tolist()
    found = bootstrap_interval(units, mean, resamples=2000)
    half = 1.96 * np.std(units) / math.sqrt(200)
    assert found.value == pytest.approx(np.mean(units))
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)
    assert (found.n, found.n_groups) == (200, 200)


def test_groups_are_drawn_whole_and_widen_the_interval():
    centre = np.repeat(np.random.default_rng(1).normal(0, 1, 12), 10)
    groups = [f"specimen {i // 10}" for i in range(120)]
    alone = bootstrap_interval(centre.tolist(), mean, resamples=400)
    grouped = bootstrap_interval(centre.tolist(), mean, groups=groups, resamples=400)
    # Equal units within a group: the sd of the mean grows by sqrt(10).
    ratio = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.2)
    assert (grouped.n, grouped.n_groups) == (120, 12)


def test_a_draw_of_groups_holds_all_their_units():
    units = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]

    def whole(drawn):
        a, b = (sum(g == name for g, _ in drawn) for name in "ab")
        assert a % 2 == 0
        assert b % 3 == 0
        return 1.0

    bootstrap_interval(units, whole, groups=[g for g, _ in units], resamples=50)


def test_one_unit_or_group_has_no_interval():
    for found in (
        bootstrap_interval([3.0], mean),
        bootstrap_interval([2.0, 4.0], mean, groups=["a", "a"]),
    ):
        assert found.value == 3
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.n_groups == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.integers(0, 9))
def test_deterministic_and_within_the_range(units, seed):
    found = bootstrap_interval(units, mean, resamples=40, seed=seed)
    assert found == bootstrap_interval(units, mean, resamples=40, seed=seed)
    assert min(units) - 1e-9 <= found.low <= found.high <= max(units) + 1e-9


def test_resamples_without_a_value_are_left_out():
    found = bootstrap_interval(
        [1.0, float("nan")], lambda u: float(np.max(u)), resamples=50
    )
    assert found.low == found.high == 1
    none = bootstrap_interval([1.0, 2.0], lambda u: float("nan"), resamples=5)
    assert math.isnan(none.low)


def test_paired_ratio_ignores_what_the_methods_share():
    a = np.random.default_rng(2).uniform(1, 100, 30)
    found = paired_bootstrap_ratio(a.tolist(), (a / 2).tolist(), mean, resamples=200)
    assert found.value == pytest.approx(2)
    assert found.low == pytest.approx(2)
    assert found.high == pytest.approx(2)
    assert math.isnan(paired_bootstrap_ratio([1.0, 2], [0.0, 0], mean).value)


def test_bad_input_is_refused():
    with pytest.raises(PhantomscopeError, match="no units to resample"):
        bootstrap_interval([], mean)
    with pytest.raises(PhantomscopeError, match="2 units have 1 groups"):
        bootstrap_interval([1.0, 2.0], mean, groups=["a"])
    with pytest.raises(PhantomscopeError, match="confidence 95"):
        bootstrap_interval([1.0, 2.0], mean, confidence=95)
    with pytest.raises(PhantomscopeError, match="2 units cannot be paired with 1"):
        paired_bootstrap_ratio([1.0, 2.0], [1.0], mean)


def test_a_difference_of_independent_sets():
    a, b = [3.0, 5.0] * 40, [1.0, 3.0] * 60
    found = bootstrap_difference(a, b, mean)
    # The standard error is sqrt(1 / 80 + 1 / 120).
    half = 1.96 * np.sqrt(1 / 80 + 1 / 120)
    assert found.value == 2
    assert found.low == pytest.approx(2 - half, abs=0.05)
    assert found.high == pytest.approx(2 + half, abs=0.05)
    assert (found.n, found.n_groups) == (80, 80)
    grouped = bootstrap_difference(a, b, mean, groups_b=["one"] * 120)
    assert np.isnan(grouped.low)
    assert grouped.n_groups == 1

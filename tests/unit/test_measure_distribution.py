"""Distribution distances against closed forms and their invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.testing import assert_allclose
from scipy.stats import wasserstein_distance

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import distribution as d

SAMPLES = npst.arrays(
    np.float64, st.integers(1, 30), elements=st.floats(-1e3, 1e3, width=32)
)


def test_known_histograms():
    p, q = [0.5, 0.5], [0.25, 0.75]
    assert d.kl_divergence(p, q) == pytest.approx(0.5 * math.log(4 / 3))
    shared = math.sqrt(0.125) + math.sqrt(0.375)
    assert d.bhattacharyya_distance(p, q) == pytest.approx(-math.log(shared))


def test_disjoint_histograms():
    assert d.kl_divergence([1, 0], [0, 1]) == pytest.approx(-math.log(1e-12), rel=1e-6)
    assert d.bhattacharyya_distance([1, 0], [0, 1]) == math.inf


def test_kl_of_two_normals_is_the_closed_form():
    random = np.random.default_rng(0)
    a, b = random.normal(0, 1, 200_000), random.normal(0.5, 1, 200_000)
    p, q = d.shared_histograms(a, b, bins=64, value_range=(-3.5, 4))
    assert d.kl_divergence(p, q) == pytest.approx(0.125, rel=0.03)
    assert d.bhattacharyya_distance(p, q) == pytest.approx(0.25 / 8, rel=0.03)
    assert d.wasserstein(a, b) == pytest.approx(0.5, abs=0.01)


def test_histograms_share_the_range_and_clip_to_a_given_one():
    p, q = d.shared_histograms([0, 0, 1], np.array([[9, 10]], np.uint8), bins=10)
    assert_allclose(p[:2], [2 / 3, 1 / 3])
    assert_allclose(q[-1], 1)
    p, _ = d.shared_histograms([-5, 0.5, 7], [0.5], 2, (0, 1))
    assert_allclose(p, [1 / 3, 2 / 3])
    p, q = d.shared_histograms([3, 3], [3])
    assert_allclose(p, q)


@settings(max_examples=50, deadline=None)
@given(SAMPLES, SAMPLES)
def test_distances_are_distances(a, b):
    p, q = d.shared_histograms(a, b, bins=16)
    assert p.sum() == pytest.approx(1)
    assert d.kl_divergence(p, q) >= 0
    assert d.kl_divergence(p, p) == 0
    assert d.bhattacharyya_distance(p, q) == d.bhattacharyya_distance(q, p) >= 0
    moved = d.wasserstein(a, b)
    assert moved == pytest.approx(d.wasserstein(b, a))
    assert moved == pytest.approx(wasserstein_distance(a, b), abs=1e-9)
    assert moved >= abs(a.mean() - b.mean()) - 1e-9


@settings(max_examples=30, deadline=None)
@given(SAMPLES, st.floats(-50, 50))
def test_wasserstein_of_a_shift_is_the_shift(a, shift):
    assert d.wasserstein(a, a + shift) == pytest.approx(abs(shift), abs=1e-9)
    repeated = np.concatenate([a, a]) + shift
    assert d.wasserstein(a, repeated) == pytest.approx(abs(shift), abs=1e-9)


def test_bad_input_is_refused():
    with pytest.raises(PhantomscopeError, match="b holds 1 values that are NaN"):
        d.wasserstein([1.0], [math.nan])
    with pytest.raises(PhantomscopeError, match="a is empty"):
        d.shared_histograms([], [1.0])
    with pytest.raises(PhantomscopeError, match="0 bins over"):
        d.shared_histograms([1.0], [2.0], 0)
    with pytest.raises(PhantomscopeError, match="over 1 to 1"):
        d.shared_histograms([1.0], [2.0], 4, (1, 1))
    with pytest.raises(PhantomscopeError, match="p is not a probability"):
        d.kl_divergence([1, 2], [0.5, 0.5])
    with pytest.raises(PhantomscopeError, match=r"p has shape \(1,\) but q has"):
        d.bhattacharyya_distance([1.0], [0.5, 0.5])
    with pytest.raises(PhantomscopeError, match="eps is 0"):
        d.kl_divergence([1.0], [1.0], eps=0)
    with pytest.raises(PhantomscopeError, match="not real numbers"):
        d.wasserstein([1j], [1.0])

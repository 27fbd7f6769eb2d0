"""Seams of known height, and none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.seams import gradient_excess, gradient_excess_noise

EDGES = [16, 32, 48]


def stitched(seed, step, shape=(64, 64)):
    """White noise, every second tile brighter by `step`."""
    y, x = np.indices(shape) // 16
    return np.random.default_rng(seed).normal(size=shape) + step * ((y + x) % 2)


@pytest.mark.parametrize("step", [1.0, 2.0, 5.0])
def test_a_step_adds_its_square_to_the_noise(step):
    # Neighbours differ by 2 sigma^2 = 2 in the mean square, and step^2 across.
    found = [gradient_excess(stitched(i, step), EDGES, EDGES) for i in range(20)]
    assert np.mean(found) == pytest.approx(step**2 / 2, rel=0.1)


def test_directions_weigh_by_their_crossings():
    step = np.repeat([0.0, 1.0], 2)[:, None] * np.ones(12)
    assert gradient_excess(step, [2], []) == math.inf
    assert gradient_excess(np.zeros((4, 4)), [2], [2]) == 0
    random = np.random.default_rng(0).normal(size=(20, 60))
    y, x = (gradient_excess(random, *e) for e in (([10], []), ([], [20, 40])))
    both = gradient_excess(random, [10], [20, 40])
    assert both == pytest.approx((60 * y + 40 * x) / 100)


def test_a_volume_of_equal_planes_is_as_its_plane():
    plane = stitched(0, 1.0)
    volume = np.stack([plane, plane, plane])
    assert gradient_excess(volume, EDGES, EDGES) == pytest.approx(
        gradient_excess(plane, EDGES, EDGES)
    )


def test_noise_has_the_moments_of_the_excess_without_seams():
    images = [stitched(i, 0.0, (64, 80)) for i in range(150)]
    found = [gradient_excess(i, EDGES, [*EDGES, 64]) for i in images]
    nulls = [gradient_excess_noise(i, EDGES, [*EDGES, 64]) for i in images]
    assert np.mean(found) == pytest.approx(0, abs=0.02)
    assert np.mean([mean for mean, _ in nulls]) == pytest.approx(0, abs=0.01)
    assert np.mean([sd for _, sd in nulls]) == pytest.approx(np.std(found), rel=0.2)


def test_real_seams_do_not_enter_their_null():
    mean, sd = gradient_excess_noise(stitched(0, 50.0), EDGES, EDGES)
    assert mean == pytest.approx(0, abs=0.05)
    assert sd < 0.3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(0.1, 10), st.floats(-100, 100))
def test_scale_offset_and_transposition_change_nothing(seed, scale, offset):
    image = stitched(seed, 1.0, (64, 48))
    found = gradient_excess(image, EDGES, [16, 32])
    assert found >= -1
    same = gradient_excess((scale * image + offset).T, [32, 16], EDGES)
    assert same == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("edges", [[0], [64], [16, 16], [1.5], list(range(1, 64))])
def test_bad_edges_are_refused(edges):
    with pytest.raises(PhantomscopeError, match="bad tile edges along x"):
        gradient_excess(stitched(0, 0), EDGES, edges)


def test_bad_input_is_refused():
    with pytest.raises(PhantomscopeError, match="there are no tile edges"):
        gradient_excess(stitched(0, 0), [], [])
    with pytest.raises(PhantomscopeError, match="image has 1 axes"):
        gradient_excess(np.zeros(9), [3], [])
    with pytest.raises(PhantomscopeError, match="NaN or infinite"):
        gradient_excess(np.full((9, 9), np.inf), [3], [])
    with pytest.raises(PhantomscopeError, match="lie too close"):
        gradient_excess_noise(stitched(0, 0), list(range(1, 64, 2)), [])

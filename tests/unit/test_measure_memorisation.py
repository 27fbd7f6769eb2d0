"""Copies are found whatever their symmetry and shift."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import memorisation
from phantomscope.measure.memorisation import nearest_patch

PATCHES = np.random.default_rng(0).normal(100, 5, (6, 15, 15))


def turn(image, symmetry):
    return np.rot90(image.T if symmetry >= 4 else image, symmetry % 4)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 5),
    st.integers(0, 7),
    st.integers(0, 14),
    st.integers(0, 14),
    st.floats(0.1, 10),
)
def test_a_turned_and_rolled_patch_scores_one(index, symmetry, y, x, gain):
    sample = gain * np.roll(turn(PATCHES[index], symmetry), (y, x), (0, 1)) - 30
    found = nearest_patch(sample[None], PATCHES)
    assert found.score[0] == pytest.approx(1, abs=1e-5)
    assert found.index[0] == index
    back = np.roll(turn(sample, found.symmetry[0]), found.shift[0], (0, 1))
    assert_allclose(back, gain * PATCHES[index] - 30)
    assert_allclose(gain * found.aligned(0, PATCHES[index]) - 30, sample)


@pytest.mark.parametrize("side", [6, 7])
def test_scores_are_those_of_a_plain_search(side):
    random = np.random.default_rng(3)
    samples, patches = (
        random.normal(size=(3, side, side)),
        random.normal(size=(4, side, side)),
    )
    found = nearest_patch(samples, patches)
    still = nearest_patch(samples, patches, all_shifts=False)
    for i, sample in enumerate(samples):
        scores = np.array(
            [
                np.corrcoef(np.roll(turn(sample, s), (y, x), (0, 1)).flat, p.flat)[0, 1]
                for p in patches
                for s in range(8)
                for y in range(side)
                for x in range(side)
            ]
        ).reshape(4, 8, side, side)
        assert found.score[i] == pytest.approx(scores.max(), abs=1e-5)
        best = np.unravel_index(scores.argmax(), scores.shape)
        assert (found.index[i], found.symmetry[i], *found.shift[i]) == best
        assert_allclose(found.by_patch[i], scores.max(axis=(1, 2, 3)), atol=1e-5)
        at_zero = scores[:, :, 0, 0]
        assert still.score[i] == pytest.approx(at_zero.max(), abs=1e-5)
        assert_allclose(still.by_patch[i], at_zero.max(axis=1), atol=1e-5)
    assert_array_equal(still.shift, 0)


@pytest.mark.parametrize("all_shifts", [True, False])
def test_chunks_change_nothing(monkeypatch, all_shifts):
    samples = np.random.default_rng(4).normal(size=(5, 15, 15))
    whole = nearest_patch(samples, PATCHES, all_shifts=all_shifts)
    monkeypatch.setattr(memorisation, "_BUDGET", {"cpu": 2 * 4 * 8 * 15**2})
    monkeypatch.setattr(memorisation, "_SPECTRA", 2 * 4 * 8 * 15**2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    parts = nearest_patch(samples, PATCHES, all_shifts=all_shifts)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert_allclose(parts.score, whole.score, atol=1e-6)
    assert_allclose(parts.by_patch, whole.by_patch, atol=1e-6)
    assert_array_equal(parts.index, whole.index)
    assert_array_equal(parts.symmetry, whole.symmetry)
    assert_array_equal(parts.shift, whole.shift)


def test_lag_zero_misses_a_rolled_copy_but_finds_a_turned_one():
    rolled = np.roll(PATCHES[2], 4, 0)[None]
    assert nearest_patch(rolled, PATCHES, all_shifts=False).score[0] < 0.6
    turned = turn(PATCHES[2], 5)[None]
    found = nearest_patch(turned, PATCHES, all_shifts=False)
    assert found.score[0] == pytest.approx(1, abs=1e-5)
    assert found.index[0] == 2


def test_a_constant_sample_scores_zero():
    found = nearest_patch(np.full((1, 15, 15), 0.1), PATCHES)
    assert found.score[0] == 0


def test_bad_input_is_refused():
    with pytest.raises(PhantomscopeError, match="cannot be compared with patches"):
        nearest_patch(PATCHES[:, :9, :9], PATCHES)
    with pytest.raises(PhantomscopeError, match="15 x 14 pixels, not a square"):
        nearest_patch(PATCHES[:, :, 1:], PATCHES)
    with pytest.raises(PhantomscopeError, match="samples has 2 axes where 3"):
        nearest_patch(PATCHES[0], PATCHES)
    with pytest.raises(PhantomscopeError, match="patches is empty"):
        nearest_patch(PATCHES, PATCHES[:0])
    with pytest.raises(PhantomscopeError, match="unknown device: meta"):
        nearest_patch(PATCHES, PATCHES, device="meta")
    with pytest.raises(PhantomscopeError, match="samples holds 1350 values"):
        nearest_patch(PATCHES * np.nan, PATCHES)

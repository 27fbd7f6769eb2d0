"""The benchmarks of audit and rings, on small sizes."""

import numpy as np
import pytest
from benchmarks import frc, memorisation
from benchmarks.__main__ import AREAS


def test_the_areas_are_registered():
    assert AREAS["frc"] is frc.rows
    assert AREAS["memorisation"] is memorisation.rows


def test_a_small_audit_finds_the_copies():
    planted, alarms = memorisation.counted(
        side=32, patches=24, planted=2, pool=260, sets=2, audits=10
    )
    assert planted.id == "memorisation.planted_found"
    assert 0 <= planted.value <= 1
    assert alarms.id == "memorisation.false_alarms"
    assert 0 <= alarms.value <= 1
    assert alarms.what.count("95% CI over sets") == 4
    (spent,) = memorisation.timed(large=16, many=10, threads=1)
    assert spent.id == "memorisation.minutes_50x10"
    assert 0 < spent.value < 0.1


def test_false_alarms_are_counted_by_set(monkeypatch):
    # In one of two sets every fiftieth image is like no other: who takes one alarms.
    def pool_of(kind, side, patches, pool, number):
        found = np.random.default_rng(number).normal(0, 0.01, pool)
        found[: number * pool // 50] = 1000.0 + np.arange(number * pool // 50)
        return found

    monkeypatch.setattr(memorisation, "pool_of", pool_of)
    found = memorisation.false_alarms("textures", 0, 0, 1000, 2, 40)
    for known, alarms in found.items():
        assert alarms.audits.shape == (2,)
        assert alarms.audits[0] < 0.2
        # Unless the baseline has one as well, which makes the limit infinitely high.
        alone = (1 - 0.02) ** known * (1 - (1 - 0.02) ** 50)
        assert alarms.audits[1] == pytest.approx(alone, abs=0.25)
        assert alarms.images < 0.02


def test_pools_have_training_patches_of_their_own():
    a, b = (memorisation.pool_of("filaments", 32, 8, 6, number) for number in (0, 1))
    assert a.shape == (6,)
    assert not np.array_equal(a, b)
    assert np.array_equal(a, memorisation.pool_of("filaments", 32, 8, 6, 0))


def test_filaments_are_independent_and_planted_copies_are_not():
    images = memorisation.filaments(2, 32, 0)
    assert np.corrcoef(images[0].flat, images[1].flat)[0, 1] < 0.5
    copy = memorisation.plant(images[0], np.random.default_rng(0))
    assert copy.shape == images[0].shape
    assert copy.sum() - images[0].sum() < 0.1 * images[0].sum() + 10


def test_small_rings_are_measured(tmp_path):
    error, spent = frc.rows(tmp_path, side=192, seeds=1, large=32)
    assert error.id == "frc.cutoff_error"
    assert error.value < 0.1
    assert spent.id == "frc.milliseconds"
    assert 0 < spent.value < 100

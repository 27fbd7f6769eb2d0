"""The benchmarks of audit and rings, on small sizes."""

import numpy as np
from benchmarks import frc, memorisation
from benchmarks.__main__ import AREAS


def test_the_areas_are_registered():
    assert AREAS["frc"] is frc.rows
    assert AREAS["memorisation"] is memorisation.rows


def test_a_small_audit_finds_the_copies(tmp_path):
    planted, alarms, spent = memorisation.rows(
        tmp_path, side=32, patches=24, audits=2, pool=260, draws=20, large=16, many=10,
        threads=1,
    )  # fmt: skip
    assert planted.id == "memorisation.planted_found"
    assert 0 <= planted.value <= 1
    assert alarms.id == "memorisation.false_alarms"
    assert 0 <= alarms.value <= 1
    assert spent.id == "memorisation.minutes_50x10"
    assert 0 < spent.value < 0.1


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

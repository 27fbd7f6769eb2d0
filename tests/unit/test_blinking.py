"""Labels, blinking and precision against their formulas, and measured back."""

import numpy as np
import pandas as pd
import pytest

from phantomscope.config.structures import Filaments
from phantomscope.config.superresolution import Blinking, Labelling
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.blinking import (
    COLUMNS,
    drawn_photons,
    lit_frames,
    localise,
)
from phantomscope.simulate.calibrate import measure_table, molecule_counts
from phantomscope.simulate.filaments import microtubules
from phantomscope.simulate.labelling import Fluorophores, label_lines, label_structure
from phantomscope.simulate.polylines import Polylines
from phantomscope.simulate.precision import localisation_precision

FIELD = (10_000.0, 12_000.0)
QUIET = Blinking(false_density=0, least_photons=0, frames=20_000)


def scattered(count, side, seed=1):
    points = generator("scattered", seed).uniform(0, side, (count, 2))
    return Fluorophores(points, np.ones(count, np.int64))


def changed(**options):
    return QUIET.model_copy(update=options)


def test_labels_have_their_density_and_distance():
    line = np.array([[0.0, 0], [0, 300_000], [400_000, 300_000]])
    lines = Polylines.of([line, line + 10], [12.5, 12.5], [4, 9])
    options = Labelling(density=50, linker=12, linker_spread=0)
    marks = label_lines(lines, options, generator(1))
    wanted = 50 * 700
    for one in (4, 9):
        assert (marks.ids == one).sum() == pytest.approx(wanted, abs=4 * wanted**0.5)
    first = marks.points[marks.ids == 4]
    flat = first[(first[:, 1] < 299_000) & (first[:, 0] < 1000)]
    # Evenly along the line; across it the projection of a circle.
    assert flat[:, 1].mean() == pytest.approx(149_500, rel=0.03)
    assert np.abs(flat[:, 0]).max() == pytest.approx(24.5, abs=0.01)
    assert flat[:, 0].std() == pytest.approx(24.5 / 2**0.5, rel=0.02)


def test_labels_of_a_ball_are_even_and_none_are_inside_an_object():
    # A line of no length is a ball; a fifth of its height has a fifth of its labels.
    ball = Polylines.of([np.array([[0.0, 0], [0, 1e-6]])], [500])
    options = Labelling(density=10_000, linker=0, linker_spread=0)
    x = label_lines(ball, options, generator(2)).points[:, 1]
    assert len(x) == pytest.approx(10_000, abs=400)
    counts = np.histogram(x, np.linspace(-500, 500, 6))[0]
    assert counts == pytest.approx(np.full(5, 2000), abs=180)
    along = np.stack([np.zeros(201), np.linspace(-5000, 5000, 201)], axis=1)
    cross = [along, along[100:, ::-1]]
    apart = label_lines(Polylines.of(cross, [300] * 2), options, generator(3))
    joined = label_lines(Polylines.of(cross, [300] * 2, [1, 1]), options, generator(3))
    assert len(joined) < len(apart)

    def rims(marks):
        y, x = np.abs(marks.points).T
        return int(((y > 50) & (y < 200) & (x > 280) & (x < 320)).sum())

    # The rims of the tube that joins lie within the other one.
    assert rims(joined) < 0.6 * rims(apart)


def test_labels_outside_the_field_are_not_seen():
    structure = microtubules(Filaments(cell_diameter=15), (4000, 5000), generator(1))
    marks = label_structure(structure, Labelling(density=20), generator(1))
    assert len(marks) > 200
    assert (marks.points >= 0).all()
    assert (marks.points < (4000, 5000)).all()
    assert set(marks.ids) <= set(structure.lines.ids)
    assert len(label_lines(Polylines.of([], []), Labelling(), generator(1))) == 0


def test_blinks_and_times_have_their_means():
    options = changed(blinks=3.0, lit=2.0, dark=7.0, frames=1_000_000, activation=10.0)
    owner, blink, frame = lit_frames(20_000, options, generator(2))
    blinks = pd.Series(blink).groupby(owner).max() + 1
    assert len(blinks) == 20_000
    assert blinks.mean() == pytest.approx(3.0, rel=0.03)
    # Geometric: the chance of one blink alone is 1 / 3.
    assert (blinks == 1).mean() == pytest.approx(1 / 3, abs=0.015)
    lit = pd.Series(frame).groupby([owner, blink]).agg(["min", "max", "size"])
    assert lit["size"].mean() == pytest.approx(2.0, rel=0.02)
    assert (lit["max"] - lit["min"] + 1 == lit["size"]).all()
    begin = lit["min"].groupby(level=0).shift(-1)
    dark = (begin - lit["max"] - 1).dropna()
    assert dark.mean() == pytest.approx(7.0, rel=0.03)
    assert dark.min() == 1
    first = lit["min"].groupby(level=0).first()
    # The floor of an exponential time.
    assert first.mean() == pytest.approx(1 / np.expm1(0.1), rel=0.03)


def test_nothing_is_lit_after_the_movie():
    owner, _, frame = lit_frames(5000, changed(frames=50, lit=10), generator(3))
    assert frame.max() == 49
    assert frame.min() == 0
    assert set(owner) == set(range(5000))


@pytest.mark.parametrize("kind", ["exponential", "lognormal"])
def test_photons_have_their_mean(kind):
    options = changed(photons=800.0, photon_distribution=kind, photon_spread=0.7)
    found = drawn_photons(100_000, options, generator(4))
    assert found.mean() == pytest.approx(800, rel=0.02)
    spread = 0.7 if kind == "lognormal" else np.pi / 6**0.5
    assert np.log(found).std() == pytest.approx(spread, rel=0.02)


def test_precision_is_that_of_the_papers():
    given = {"sigma": 130.0, "pixel": 100.0}
    wide = 130**2 + 100**2 / 12
    found = [
        localisation_precision(1000.0, **given, background=4.0, formula=name) ** 2
        for name in ("thompson", "mortensen", "rieger")
    ]
    tau = 2 * np.pi * wide * 4 / (1000 * 100**2)
    assert found == pytest.approx(
        [
            wide / 1000 + 8 * np.pi * 130**4 * 4 / (100**2 * 1000**2),
            wide / 1000 * (16 / 9 + 4 * tau),
            wide / 1000 * (1 + 4 * tau + (2 * tau / (1 + 4 * tau)) ** 0.5),
        ]
    )
    # Without background all are s_a / sqrt(N), least squares 4 / 3 of it.
    bare = localisation_precision([100.0, 400.0], **given, formula="rieger")
    assert bare == pytest.approx([wide**0.5 / 10, wide**0.5 / 20])
    assert localisation_precision(100.0, **given) == pytest.approx(4 / 3 * bare[0])


def test_precision_is_that_of_a_real_table():
    # Rows of a ThunderSTORM table (LacY-eYFP in E. coli, Smit et al. 2019, MIT):
    # sigma, photons, sd of the background, precision; 80 nm, electron multiplication.
    rows = np.array(
        [[236.96, 4933.487, 6.576, 9.476], [49.651, 148.889, 6.991, 14.641]]
    )
    found = localisation_precision(
        rows[:, 1], sigma=rows[:, 0], pixel=80, background=rows[:, 2] ** 2, excess=2
    )
    assert found == pytest.approx(rows[:, 3], rel=0.04)


def test_a_localisation_needs_photons():
    with pytest.raises(PhantomscopeError, match="photons above 0"):
        localisation_precision([10.0, 0.0], sigma=100, pixel=100)


def test_a_table_says_what_is_true():
    marks = scattered(2000, 10_000)
    options = changed(false_density=5, least_photons=200, activation=100.0)
    table = localise(marks, FIELD, options, generator(5))
    assert tuple(table.columns) == COLUMNS
    assert table["frame"].is_monotonic_increasing
    assert table["photons"].min() >= 200
    false = table[table["id"] == 0]
    assert len(false) == pytest.approx(600, abs=100)
    assert (false["fluorophore"] == -1).all()
    real = table[table["id"] == 1]
    places = marks.points[real["fluorophore"]]
    score = (real[["y", "x"]].to_numpy() - places) / real[["precision"]].to_numpy()
    assert score.std() == pytest.approx(1, rel=0.03)
    assert score.mean() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("side", "frames"), [(30_000, 20_000), (3000, 2000)])
def test_blinking_is_measured_back(side, frames):
    options = changed(blinks=3.0, lit=1.5, dark=10.0, frames=frames, background=50.0)
    table = localise(scattered(4000, side), (side, side), options, generator(6))
    found = measure_table(table, options)
    assert found.blinks == pytest.approx(3.0, rel=0.06)
    assert found.lit == pytest.approx(1.5, rel=0.04)
    assert found.dark == pytest.approx(10.0, rel=0.1)
    assert found.background == pytest.approx(50)
    assert found.photon_distribution == "lognormal"
    again = found.options(options)
    assert again.photons == pytest.approx(1500, rel=0.03)
    assert again.photon_spread == pytest.approx(0.6, rel=0.05)
    assert again.pixel == options.pixel


def test_a_simulation_by_a_calibration_looks_the_same():
    real = changed(photon_distribution="exponential", photons=700.0, background=9.0,
                   blinks=1.5, dark=5.0)  # fmt: skip
    table = localise(scattered(4000, 30_000), (30_000, 30_000), real, generator(7))
    table = table[table["photons"] > 1].assign(sigma=130.0)
    found = measure_table(table)
    assert found.photon_distribution == "exponential"
    copy = localise(scattered(4000, 30_000, 2), (30_000, 30_000),
                    found.options(QUIET), generator(8))  # fmt: skip
    second = measure_table(copy)
    for name in ("photons", "precision", "blinks", "lit"):
        assert getattr(second, name) == pytest.approx(getattr(found, name), rel=0.06)


def test_joining_is_by_distance_and_time():
    points = np.array([[0.0, 0], [10, 0], [0, 5], [400, 0], [401, 0]])
    frame = np.array([0.0, 1, 5, 5, 5])
    counts = molecule_counts(points, frame, np.full(5, 10.0), np.array([0, 2, 3]))
    # Two of one frame stay apart.
    assert counts.tolist() == [4, 4, 3]


def test_a_table_that_cannot_be_calibrated_is_refused():
    table = localise(scattered(300, 10_000), FIELD, QUIET, generator(9))
    with pytest.raises(PhantomscopeError, match="column `precision`"):
        measure_table(table.drop(columns="precision"))
    with pytest.raises(PhantomscopeError, match="10 rows"):
        measure_table(table[:10])
    with pytest.raises(PhantomscopeError, match="no photons"):
        measure_table(table.assign(photons=0.0))
    with pytest.raises(PhantomscopeError, match="no finite"):
        measure_table(table.assign(x=np.nan))

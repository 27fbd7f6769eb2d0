"""Images of localisations: exact small cases, mass, filters, drift, joined blinks."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations.drift import DriftFinder
from phantomscope.images.localisations.filters import Extent, Limits
from phantomscope.images.localisations.linking import link
from phantomscope.images.localisations.render import Renderer, View, render
from phantomscope.images.localisations.table import Localisations, TableSource, joined

SOURCE = TableSource(Path("table.csv"), {}, {}, 0, 0)


def table(x, y, **columns):
    given = {"frame": None, "photons": None, "uncertainty": None} | columns
    arrays = {n: None if v is None else np.asarray(v) for n, v in given.items()}
    if arrays["frame"] is not None:
        arrays["frame"] = arrays["frame"].astype(np.int64)
    return Localisations(
        np.asarray(x, float), np.asarray(y, float), source=SOURCE, **arrays
    )


def cloud(count, seed=0, side=2000.0):
    rng = np.random.default_rng(seed)
    return table(
        *rng.random((2, count)) * side,
        uncertainty=rng.uniform(2, 40, count),
        photons=rng.uniform(50, 5000, count),
        frame=rng.integers(0, 500, count),
    )


def shares(centre, sigma, edges):
    """Integrals of a Gaussian over pixels, exactly."""
    return np.diff(erf((edges - centre) / (sigma * np.sqrt(2)))) / 2


# Fields of view


def test_views():
    assert View.of_field(0, 0, 20000, 10000, 27.0).shape == (371, 741)
    assert View.of_field(0, 0, 27.3 * 100, 27.3 * 7, 27.3).shape == (7, 100)
    view = View.around((-5.0, 40.0), (59.0, 99.0), 20.0)
    assert (view.left, view.top, view.shape) == (-20.0, 40.0, (3, 4))
    # A molecule at the outer end of the table has a pixel.
    assert View.around((0.0, 0.0), (20.0, 20.0), 20.0).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ((0, 0, 5, 5, 0.0), "pixel_size_nm"),
        ((0, 0, 5, 5, float("nan")), "pixel_size_nm"),
        ((0, 0, 0, 5, 20.0), "field_nm"),
        ((0, 0, 10**5, 10**5, 20.0), "pixel_size_nm"),
    ],
)
def test_impossible_views(arguments, where):
    with pytest.raises(PhantomscopeError) as caught:
        View(*arguments)
    assert caught.value.where == where
    assert caught.value.fix


# Drawing


def test_histogram_by_hand():
    view = View(100.0, 200.0, 2, 3, 10.0)
    # Left and upper borders belong to a pixel; the last four lie outside.
    x = [100, 109.9, 110, 129.9, 125, 99.9, 130, 105, 105]
    y = [200, 209.9, 210, 219.9, 205, 205, 205, 199.9, 220]
    renderer = Renderer(view, "histogram")
    renderer.add(table(x, y))
    np.testing.assert_array_equal(renderer.image(), [[2, 0, 1], [0, 1, 1]])
    assert renderer.image().dtype == np.float32
    assert (renderer.drawn, renderer.inside) == (9, 5)
    photons = table(x, y, photons=np.arange(1.0, 10))
    found = render(photons, view, "histogram", weight="photons")
    np.testing.assert_array_equal(found, [[3, 0, 5], [0, 3, 4]])


@pytest.mark.parametrize(("sigma", "size"), [(12.0, 20.0), (3.0, 20.0), (60.0, 7.0)])
def test_gaussian_is_the_integral_over_each_pixel(sigma, size):
    view = View(-37.0, 11.0, 40, 50, size)
    x, y = 21.3 * size - 37, 17.9 * size + 11
    found = render(table([x], [y], uncertainty=[sigma]), view)
    columns = shares(x, sigma, view.left + size * np.arange(51))
    rows = shares(y, sigma, view.top + size * np.arange(41))
    np.testing.assert_allclose(found, np.outer(rows, columns), atol=1e-6)
    assert render(table([x], [y]), view, sigma=sigma).tolist() == found.tolist()


def test_gaussians_add_up_and_are_cut_by_the_border():
    view = View(0.0, 0.0, 12, 9, 20.0)
    spots = table(
        [90.0, -15.0, 180.0],
        [110.0, 60.0, 239.0],
        uncertainty=[10.0, 30.0, 25.0],
        photons=[1.0, 50.0, 700.0],
    )
    expected = sum(
        weight * np.outer(shares(y, s, 20.0 * np.arange(13)),
                          shares(x, s, 20.0 * np.arange(10)))
        for x, y, s, weight in zip(
            spots.x, spots.y, spots.uncertainty, spots.photons, strict=True
        )
    )  # fmt: skip
    renderer = Renderer(view, weight="photons")
    renderer.add(spots)
    np.testing.assert_allclose(renderer.image(), expected, rtol=1e-5, atol=1e-3)
    assert (renderer.drawn, renderer.inside) == (3, 1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    count=st.integers(0, 200),
    size=st.floats(1.5, 90),
    kind=st.sampled_from(["histogram", "gaussian"]),
    seed=st.integers(0, 9),
)
def test_mass_is_the_number_of_molecules(count, size, kind, seed):
    spots = cloud(count, seed)
    # 5 sigma of 40 nm on each side.
    view = View.of_field(-201.0, -203.0, 2210.0, 2205.0, size)
    renderer = Renderer(view, kind)
    renderer.add(spots)
    assert renderer.inside == count
    assert renderer._sum.sum() == pytest.approx(count, rel=1e-12)
    assert (renderer._sum >= 0).all()


@pytest.mark.parametrize("kind", ["histogram", "gaussian"])
def test_images_do_not_depend_on_parts(kind):
    spots, view = cloud(1000), View(0.0, 0.0, 100, 100, 20.0)
    whole = render(spots, view, kind, weight="photons")
    cuts = [0, 1, 2, 500, 500, 999, 1000]
    parts = [spots.take(slice(a, b)) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(render(parts, view, kind, weight="photons"), whole)


def test_far_and_wide_molecules_do_no_harm():
    view = View(0.0, 0.0, 8, 8, 20.0)
    far = table([1e9, -1e9, 80.0], [80.0, 1e9, 80.0], uncertainty=[1.0, 2000.0, 1e9])
    found = render(far, view)
    assert np.isfinite(found).all()
    assert found.sum() < 1e-12
    # Much smaller than a pixel: all of it in one, or shared by a border.
    sharp = table([30.0, 40.0], [30.0, 50.0], uncertainty=[1e-6, 1e-6])
    assert render(sharp, view)[1:3, 1:3].tolist() == [[1, 0], [0.5, 0.5]]


def test_what_drawing_needs():
    view, spots = View(0.0, 0.0, 4, 4, 20.0), table([1.0], [1.0])
    for options, column in (({}, "uncertainty"), ({"weight": "photons"}, "photons")):
        with pytest.raises(PhantomscopeError, match=f"no column for {column}") as e:
            render(spots, view, **options)
        assert (e.value.where, "it has x, y" in e.value.what) == ("table.csv", True)
    with pytest.raises(PhantomscopeError, match="deviation of 0"):
        Renderer(view, sigma=0)
    with pytest.raises(PhantomscopeError, match="precision of 0 nm"):
        render(table([1.0, 2.0], [1.0, 2.0], uncertainty=[5.0, 0.0]), view)


# Filters


def test_limits():
    spots = table([1, 2, 3, 4], [0, 0, 0, 0], uncertainty=[5.0, 10, 15, 20],
                  photons=[10.0, 20, 30, 40], frame=[1, 2, 3, 4])  # fmt: skip
    assert Limits().apply(spots) is spots
    for limits, kept in (
        (Limits(precision=10), [1, 2]),
        (Limits(photons=(20, None)), [2, 3, 4]),
        (Limits(photons=(20, 30)), [2, 3]),
        (Limits(frames=(None, 3)), [1, 2, 3]),
        (Limits(15, (15, None), (3, 9)), [3]),
        (Limits(precision=1), []),
    ):
        found = limits.apply(spots)
        assert found.x.tolist() == kept
        assert len(found.photons) == len(found.frame) == len(kept)
    with pytest.raises(PhantomscopeError, match=r"no column for photons.*filter by"):
        Limits(photons=(1, 2)).apply(table([1.0], [2.0]))


def test_extent_of_parts():
    extent, spots = Extent(), cloud(300)
    for begin in range(0, 300, 70):
        extent.add(spots.take(slice(begin, begin + 70)))
        extent.add(spots.take(slice(0, 0)))
    assert extent.low == (spots.x.min(), spots.y.min())
    assert extent.high == (spots.x.max(), spots.y.max())
    assert extent.frames == (spots.frame.min(), spots.frame.max())
    assert extent.count == 300


# Drift


def drifting(per_bin, seed, bins=10, frames=10_000):
    """Blinking filaments on a sample that moves by some 200 nm, and how it moves."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, 4000)
    x = np.r_[5000 + 3000 * np.cos(6 * t), 1e4 * t]
    y = np.r_[5000 + 3000 * np.sin(9 * t), 5000 + 2000 * np.sin(7 * t)]
    chosen = rng.integers(0, len(x), per_bin * bins)
    frame = rng.integers(0, frames, per_bin * bins)

    def move(f):
        return 200 * f / frames, 100 * np.sin(5 * f / frames)

    moved = np.array(move(frame)) + rng.normal(0, 10, (2, len(frame)))
    return table(x[chosen] + moved[0], y[chosen] + moved[1], frame=frame), move


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_drift_is_found(seed):
    spots, move = drifting(2000, seed)
    finder = DriftFinder(View.of_field(-500, -500, 11000, 11000, 20.0), (0, 9999), 10)
    for begin in range(0, len(spots), 3000):
        finder.add(spots.take(slice(begin, begin + 3000)))
    drift = finder.find()
    frame = np.arange(10_000)
    error = np.array(drift.at(frame)) - np.array(move(frame))
    assert np.sqrt((error**2).mean(axis=1)).max() < 4
    assert abs(np.array(drift.at(np.array([0])))).max() < 1e-9
    assert (drift.used, drift.pairs) == (45, 45)
    assert drift.residual < 3
    still = drift.correct(spots)
    np.testing.assert_allclose(still.x, spots.x - drift.at(spots.frame)[0])
    assert still.source is spots.source


def test_drift_that_cannot_be_told():
    view = View.of_field(0, 0, 2000, 2000, 20.0)
    with pytest.raises(PhantomscopeError, match="11 time bins of 10 frames"):
        DriftFinder(view, (0, 9), 11)
    finder = DriftFinder(view, (0, 499), 5)
    finder.add(cloud(100))
    with pytest.raises(PhantomscopeError, match="too few") as caught:
        finder.find()
    assert "drift_bins: 0" in caught.value.fix
    # Molecules that are never seen again: no structure to follow.
    finder = DriftFinder(view, (0, 499), 5, most=100.0)
    for n in range(5):
        corner = cloud(200, n, side=300.0)
        place = 100.0 + 350 * n
        finder.add(replace(corner, x=corner.x + place, y=corner.y + place,
                           frame=np.full(200, 100 * n)))  # fmt: skip
    with pytest.raises(PhantomscopeError, match="no drift can be told"):
        finder.find()


# Joining


def test_blinks_are_joined_by_hand():
    spots = table(
        [0.0, 3.0, 100.0, 6.0, 0.0, -3.5], [0.0] * 6, frame=[5, 6, 6, 8, 12, 6],
        photons=[10.0, 20, 30, 40, 50, 60], uncertainty=[1.0, 2, 3, 2, 1, 9],
    )  # fmt: skip
    spots = replace(spots, background=np.arange(6.0))
    found = link(spots, radius=4, gap=1)
    order = np.argsort(found.frame, kind="stable")
    # 5, 6 and, after a dark frame, 8; the row at -3.5 nm comes too late for the first.
    assert found.frame[order].tolist() == [5, 6, 6, 12]
    first = order[0]
    weights = np.array([1, 1 / 4, 1 / 4])
    assert found.x[first] == pytest.approx((weights * [0, 3, 6]).sum() / weights.sum())
    assert found.photons[first] == 70
    assert found.uncertainty[first] == pytest.approx(1.5**-0.5)
    assert found.background[first] == pytest.approx(4 / 3)
    assert len(link(spots, radius=4, gap=0)) == 5


def brute_links(spots, radius, gap):
    """Number of molecules, by looking at every pair."""
    taken, count = set(), 0
    order = np.argsort(spots.frame, kind="stable")
    for place, i in enumerate(order):
        earlier = [
            (np.hypot(spots.x[i] - spots.x[j], spots.y[i] - spots.y[j]), j)
            for j in order[:place]
            if j not in taken and 0 < spots.frame[i] - spots.frame[j] <= gap + 1
        ]
        near = min(earlier, default=(np.inf, -1))
        if near[0] <= radius:
            taken.add(near[1])
        else:
            count += 1
    return count


@pytest.mark.parametrize("gap", [0, 1, 4])
def test_joining_is_that_of_all_pairs(gap):
    spots = cloud(400, seed=gap, side=500.0)
    spots = replace(spots, frame=spots.frame % 40)
    found = link(spots, 30.0, gap)
    assert len(found) == brute_links(spots, 30.0, gap) < 400
    assert found.photons.sum() == pytest.approx(spots.photons.sum())


def test_joining_at_the_edges():
    assert len(link(cloud(0), 10.0)) == 0
    assert len(link(cloud(1), 10.0)) == 1
    with pytest.raises(PhantomscopeError, match="no column for frame"):
        link(table([1.0], [1.0]), 10.0)
    with pytest.raises(PhantomscopeError, match="link_nm"):
        link(cloud(3), -1.0)
    with pytest.raises(ValueError, match="no part"):
        joined([])

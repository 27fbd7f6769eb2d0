"""The optical model against numbers: spots, cameras, backgrounds, ratios."""

import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import special

from phantomscope.config.structures import Filaments, Mitochondria
from phantomscope.config.superresolution import Optics
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.filaments import microtubules
from phantomscope.simulate.mitochondria import mitochondria
from phantomscope.simulate.optics import (
    binned,
    exposed,
    in_photons,
    numbered_widefield,
    widefield,
)
from phantomscope.simulate.perlin import perlin
from phantomscope.simulate.psf import airy, blurred, gaussian_sigma, point_spread
from phantomscope.simulate.snr import (
    estimated_snr,
    expected_snr,
    foreground,
    observed_snr,
)
from phantomscope.simulate.tubes import length_map, tube_maps

PIXEL = 27.0
FIELD = (256 * PIXEL, 256 * PIXEL)


@cache
def drawn():
    return length_map(
        microtubules(Filaments(cell_diameter=15), FIELD, generator(1)).lines,
        FIELD, PIXEL,
    )  # fmt: skip


def width_at_half(line, pixel):
    """Where a peak falls to half, by linear interpolation."""
    middle = len(line) // 2
    right = line[middle:] / line[middle]
    first = int(np.argmax(right < 0.5))
    share = (right[first - 1] - 0.5) / (right[first - 1] - right[first])
    return 2 * (first - 1 + share) * pixel


@pytest.mark.parametrize(
    ("psf", "factor"), [("gaussian", 0.21 * 2.35482), ("airy", 0.5145)]
)
def test_a_spot_has_its_width_and_all_its_light(psf, factor):
    options = Optics(psf=psf, wavelength=600, aperture=1.2)
    spot = point_spread(options, 10.0)
    assert spot.sum() == pytest.approx(1)
    assert len(spot) % 2
    assert np.array_equal(spot, spot[::-1, ::-1])
    middle = spot[len(spot) // 2]
    assert width_at_half(middle, 10.0) == pytest.approx(factor * 600 / 1.2, rel=0.01)


def test_a_gaussian_is_integrated_over_pixels():
    options = Optics(sigma=40)
    # One sigma to each side of a pixel of 80 nm.
    wanted = special.erf(1 / 2**0.5)
    spot = point_spread(options, 80.0)
    assert spot.max() == pytest.approx(wanted**2, rel=1e-6)
    wide = point_spread(Optics(sigma=80), 80.0).sum(axis=0)
    x = 80.0 * (np.arange(len(wide)) - len(wide) // 2)
    # Second moment: sigma^2 + pixel^2 / 12.
    assert (wide * x**2).sum() == pytest.approx(80**2 + 80**2 / 12, rel=1e-4)
    assert gaussian_sigma(668, 1.49) == pytest.approx(94.15, abs=0.01)


def test_an_airy_pattern_encircles_its_light():
    spot = point_spread(Optics(psf="airy", wavelength=600, aperture=1.0), 20.0)
    half = len(spot) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1] * 20.0
    v = 2 * np.pi / 600 * 366.0  # the first dark ring
    wanted = 1 - special.j0(v) ** 2 - special.j1(v) ** 2
    # The kernel ends at the 20th ring, within which is 99%.
    assert spot[np.hypot(y, x) <= 366].sum() == pytest.approx(wanted, rel=0.015)
    assert airy(np.array([0.0, 0.61 * 600]), 600, 1.0) == pytest.approx(
        [1, 0], abs=1e-5
    )


def test_blur_keeps_light_and_evenness():
    spot = point_spread(Optics(), PIXEL)
    assert blurred(np.full((40, 50), 3.0), spot) == pytest.approx(3.0)
    point = np.zeros((101, 101))
    point[50, 50] = 7.0
    found = blurred(point, spot)
    assert found.sum() == pytest.approx(7, rel=1e-6)
    assert found.min() >= 0
    half = len(spot) // 2
    window = slice(50 - half, 51 + half)
    assert found[window, window] == pytest.approx(7 * spot, abs=1e-12)


def test_gibson_and_lanni_come_from_a_library(monkeypatch):
    point_spread.cache_clear()
    options = Optics(psf="gibson_lanni")
    monkeypatch.setitem(sys.modules, "psfmodels", None)
    with pytest.raises(PhantomscopeError, match="pip install psfmodels"):
        point_spread(options, PIXEL)

    def make_psf(z, nx, dxy, **other):
        assert dxy == pytest.approx(PIXEL / 1000)
        assert other == {"NA": 1.49, "wvl": 0.668, "model": "scalar"}
        return np.ones((len(z), nx, nx))

    library = SimpleNamespace(make_psf=make_psf)
    monkeypatch.setitem(sys.modules, "psfmodels", library)
    assert point_spread(options, PIXEL).sum() == pytest.approx(1)
    point_spread.cache_clear()


def test_bins_keep_the_light():
    image = np.arange(24.0).reshape(4, 6)
    assert binned(image, 2).tolist() == [[14, 22, 30], [62, 70, 78]]
    assert binned(image, 1).tolist() == image.tolist()
    with pytest.raises(PhantomscopeError, match="4 x 6 px"):
        binned(image, 4)


def test_light_has_the_variance_of_its_mean():
    options = Optics(read_noise=3.0, gain=2.0, offset=100.0)
    light = np.full((400, 400), 50.0)
    counts = exposed(light, options, generator(1))
    assert counts.dtype == np.uint16
    found = in_photons(counts, options)
    assert found.mean() == pytest.approx(50, abs=4 * (59 / 400**2) ** 0.5)
    # Shot noise, read noise and rounding to half a photon.
    assert found.var() == pytest.approx(50 + 9 + 0.25 / 12, rel=0.02)
    plain = exposed(light, Optics(read_noise=0, offset=0), generator(2))
    assert plain.var() == pytest.approx(plain.mean(), rel=0.02)
    bright = exposed(np.full((2, 2), 1e15), options, generator(3))
    assert (bright == 65535).all()


def test_perlin_noise_is_smooth_bounded_and_of_its_scale():
    fields = [perlin((128, 160), 32, 1, generator("perlin", i)) for i in range(30)]
    every = np.stack(fields)
    assert np.abs(every).max() <= 1
    assert every.std() > 0.2
    assert every.mean() == pytest.approx(0, abs=0.03)
    assert np.abs(np.diff(every, axis=2)).max() < 0.2
    near = (every[:, :, 4:] * every[:, :, :-4]).mean() / every.var()
    far = (every[:, :, 48:] * every[:, :, :-48]).mean() / every.var()
    assert near > 0.85
    assert abs(far) < 0.1
    fine = perlin((128, 160), 32, 4, generator("perlin", 0))
    steps = [np.abs(np.diff(one)).mean() / one.std() for one in (fine, fields[0])]
    assert steps[0] > 1.3 * steps[1]
    assert np.array_equal(fine, perlin((128, 160), 32, 4, generator("perlin", 0)))
    assert perlin((5, 6), 1000.0, 12, generator(1)).shape == (5, 6)


def test_a_widefield_image_is_what_its_truth_says():
    options = Optics(photons=(300, 300), perlin=(0.2, 0.2), binning=2)
    found = widefield(drawn(), PIXEL, options, generator(1))
    assert found.counts.shape == (128, 128)
    assert found.pixel == 54
    assert found.signal.max() == pytest.approx(300)
    assert found.background.min() >= 5
    assert found.background.max() <= 5 + 0.2 * 300
    expected = found.signal + found.background
    score = (in_photons(found.counts, options) - expected) / np.sqrt(expected + 4)
    assert score.mean() == pytest.approx(0, abs=0.04)
    assert score.std() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("target", [2.0, 8.0, 25.0])
def test_arms_get_the_ratio_that_is_asked_for(target):
    tubes = mitochondria(Mitochondria(cell_diameter=15), FIELD, generator(1))
    arms = drawn(), tube_maps(tubes.lines, FIELD, PIXEL)[1]
    options = Optics(snr=(target, target), binning=1)
    for arm in arms:
        images = [numbered_widefield(arm, PIXEL, options, 1, i) for i in range(3)]
        for image in images:
            assert image.snr == pytest.approx(target, rel=1e-6)
        found = [
            observed_snr(in_photons(i.counts, options), i.signal, i.background)
            for i in images
        ]
        assert np.mean(found) == pytest.approx(target, rel=0.02)


def test_a_ratio_can_be_stated_for_each_image():
    one = widefield(drawn(), PIXEL, Optics(), generator(1), snr=6.0)
    assert one.snr == pytest.approx(6)
    # The same background noise, whatever sets the light.
    other = widefield(drawn(), PIXEL, Optics(), generator(1))
    a, b = ((w.background - 5) / w.photons for w in (one, other))
    assert a == pytest.approx(b)


def test_the_ratio_is_estimated_without_the_truth():
    for target in (4.0, 10.0, 20.0):
        image = widefield(
            drawn(), PIXEL, Optics(perlin=(0, 0)), generator(2), snr=target
        )
        assert estimated_snr(image.counts) == pytest.approx(target, rel=0.15)


def test_the_definition_of_the_ratio():
    signal = np.zeros((10, 10))
    signal[0] = 90.0
    assert foreground(signal).sum() == 10
    assert expected_snr(signal, 6.0, 2.0) == pytest.approx(90 / (90 + 6 + 4) ** 0.5)
    assert expected_snr(np.zeros((9, 9)), 6.0, 2.0) == 0


def test_images_do_not_depend_on_their_order():
    a, b = (numbered_widefield(drawn(), PIXEL, Optics(), 1, i) for i in (0, 1))
    again = numbered_widefield(drawn(), PIXEL, Optics(), 1, 0)
    assert np.array_equal(a.counts, again.counts)
    assert not np.array_equal(a.counts, b.counts)


def test_what_is_no_light_is_refused():
    dark = np.zeros((32, 32))
    with pytest.raises(PhantomscopeError, match="without structure"):
        widefield(dark, PIXEL, Optics(snr=(5, 5)), generator(1))
    alone = widefield(dark, PIXEL, Optics(), generator(1))
    assert alone.snr == 0
    for bad in (-1.0, np.nan):
        with pytest.raises(PhantomscopeError, match="finite and not negative"):
            widefield(dark + bad, PIXEL, Optics(), generator(1))
    for wrong in ({"photons": (9, 2)}, {"perlin": (1, 0)}, {"snr": (9, 2)}):
        with pytest.raises(ValidationError, match="least, largest"):
            Optics(**wrong)

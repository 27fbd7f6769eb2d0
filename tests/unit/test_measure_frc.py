"""Fourier ring correlation returns known cut-offs, and never without accuracy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.frc import RingCorrelation, ring_correlation
from phantomscope.measure.image import affine_match, matched_accuracy
from phantomscope.measure.resolution import (
    resolution,
    resolution_map,
    resolution_row,
    threshold,
)


def band_limited(side, cutoff, snr, seed, extra=0):
    """A pair with a common signal up to a cut-off in cycles per pixel, and noise."""
    random = np.random.default_rng(seed)
    whole = side + extra
    spectrum = np.fft.rfft2(random.normal(size=(whole, whole)))
    radius = np.hypot(np.fft.fftfreq(whole)[:, None], np.fft.rfftfreq(whole))
    signal = np.fft.irfft2(spectrum * (radius <= cutoff), s=(whole, whole))
    noise = random.normal(0, snr**-0.5, (2, side, side))
    return 5 + signal[:side, :side] + noise


def direct(first, second, taper):
    """Sum ring by ring over the whole plane of transforms by matrices."""
    side = len(first)
    n = np.arange(side)
    edge = {"tukey": (side - 1) / 8, "hann": side / 2}[taper]
    end = side - 1 if taper == "tukey" else side
    flank = np.minimum(np.minimum(n, end - n) / edge, 1)
    window = np.outer(np.sin(np.pi / 2 * flank) ** 2, np.sin(np.pi / 2 * flank) ** 2)
    wave = np.exp(-2j * np.pi * np.outer(n, n) / side)
    a, b = (
        wave @ (window * (image - np.average(image, weights=window))) @ wave.T
        for image in (first, second)
    )
    signed = (n + side // 2) % side - side // 2
    found = []
    for q in range(1, side // 2 + 1):
        numbers = []
        for y, x in np.argwhere(np.ones((side, side))):
            radius = math.sqrt(signed[y] ** 2 + signed[x] ** 2)
            if q - 0.5 < radius < q + 0.5:
                numbers.append((a[y, x], b[y, x]))
        f, g = np.array(numbers).T
        found.append(np.vdot(g, f).real / np.linalg.norm(f) / np.linalg.norm(g))
    return np.array(found)


@settings(max_examples=25, deadline=None)
@given(st.integers(180, 300), st.floats(0, 1), st.floats(3, 100), st.integers(0, 10**6))
def test_the_cutoff_of_a_periodic_pair_is_found(side, place, snr, seed):
    # From 80 rings on, of which the one with the cut-off is little. With a ratio of 1
    # the correlation is 0.5, and one inner ring in a thousand, of some twenty numbers,
    # is below 1/7 by chance.
    cutoff = 80 / side + place * (0.45 - 80 / side)
    pair = band_limited(side, cutoff, snr, seed)
    found = resolution(ring_correlation(*pair, taper="none", pad=False))
    assert 1 / found.pixels == pytest.approx(cutoff, rel=0.03)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(256, 400), st.floats(0.3, 0.45), st.floats(1, 4), st.integers(0, 10**6),
    st.sampled_from(["bins", "circles"]),
)  # fmt: skip
def test_the_cutoff_of_a_part_of_a_larger_pair_is_found(side, cutoff, snr, seed, rings):
    pair = band_limited(side, cutoff, snr, seed, extra=50)
    found = resolution(ring_correlation(*pair, rings=rings), pixel_size_nm=27)
    assert 1 / found.pixels == pytest.approx(cutoff, rel=0.03)
    assert found.nm == pytest.approx(27 * found.pixels)
    assert found.reason == ""


@pytest.mark.parametrize("taper", ["tukey", "hann"])
@pytest.mark.parametrize("side", [47, 48])
def test_rings_are_those_of_a_direct_summation(side, taper):
    pair = band_limited(side, 0.3, 5, side, extra=11)
    found = ring_correlation(*pair, taper=taper, pad=False)
    again = direct(*pair, taper)
    assert_allclose(found.correlation, again, atol=1e-9)
    other = RingCorrelation(found.frequency, again, found.samples)
    ours, theirs = resolution(found), resolution(other)
    assert ours.pixels == pytest.approx(theirs.pixels, rel=0.02)


@pytest.mark.parametrize("taper", ["tukey", "hann"])
def test_interpolated_circles_agree_with_bins(taper):
    pair = band_limited(256, 0.35, 4, 0, extra=40)
    bins, circles = (
        resolution(ring_correlation(*pair, taper=taper, rings=rings)).pixels
        for rings in ("bins", "circles")
    )
    assert circles == pytest.approx(bins, rel=0.02)


def test_the_correlation_of_known_signal_and_noise():
    pair = band_limited(256, 0.5, 3, 1)
    found = ring_correlation(*pair, taper="none", pad=False)
    outer = found.samples > 300
    # Signal over signal and noise: 3 / 4.
    assert found.correlation[outer].mean() == pytest.approx(0.75, abs=0.02)
    assert found.frequency[-1] == 0.5


def test_brightness_does_not_matter_but_a_sign_does():
    first, second = band_limited(64, 0.3, 10, 2)
    plain = ring_correlation(first, second).correlation
    assert_allclose(ring_correlation(first, 3 * second + 7).correlation, plain)
    assert_allclose(ring_correlation(first, -second).correlation, -plain, atol=1e-12)


def test_padding_and_tapering_add_no_samples():
    white = np.random.default_rng(0).normal(size=(2, 100, 100))
    plain = ring_correlation(*white, taper="none", pad=False).samples.sum()
    padded = ring_correlation(*white, taper="none").samples.sum()
    tapered = ring_correlation(*white, taper="hann").samples.sum()
    assert padded == pytest.approx(plain, rel=0.02)
    # sum(w^2)^2 / sum(w^4) / n of a Hann window is 18 / 35 along an axis.
    assert tapered / padded == pytest.approx((18 / 35) ** 2, rel=0.02)


def test_rectangles_have_rings_of_frequency():
    pair = band_limited(160, 0.3, 3, 4)[:, :120]
    found = ring_correlation(*pair, pad=False)
    assert len(found.frequency) == 80
    assert 1 / resolution(found).pixels == pytest.approx(0.3, rel=0.05)


def rings(values, samples=1000.0):
    n = len(values)
    frequency = np.arange(1, n + 1) / (2 * n)
    return RingCorrelation(frequency, np.array(values), np.full(n, samples))


def test_the_crossing_is_interpolated():
    found = resolution(rings([1, 1 / 7 + 0.3, 1 / 7 - 0.1, 0.9, 0]), pixel_size_nm=10)
    assert found.pixels == pytest.approx(1 / 0.275)
    assert found.nm == pytest.approx(10 / 0.275)


def test_there_is_a_reason_where_there_is_no_crossing():
    fine, coarse = resolution(rings([0.9] * 5)), resolution(rings([0.1] * 5))
    assert math.isnan(fine.pixels)
    assert "finer than 2 pixels" in fine.reason
    assert math.isinf(coarse.pixels)
    assert "from the first ring" in coarse.reason
    blank = ring_correlation(np.full((32, 32), 0.1), np.eye(32))
    nothing = resolution(blank, pixel_size_nm=27)
    assert math.isnan(nothing.nm)
    assert "no power" in nothing.reason


def test_inner_rings_may_dip_by_chance():
    samples = np.array([4, 10, 40, 50, 60.0])
    frequency = np.arange(1, 6) / 10
    dip = RingCorrelation(frequency, np.array([0.9, 0.1, 0.9, 0.8, 0.0]), samples)
    assert resolution(dip).pixels < 2.5
    assert resolution(dip, least=0).pixels > 5
    end = RingCorrelation(frequency, np.array([0.9, 0.1, 0.0, 0.0, 0.9]), samples)
    assert resolution(end).pixels == resolution(end, least=0).pixels


def test_half_a_bit_by_hand():
    found = threshold(rings([1, 1], samples=100.0), "half-bit")
    assert_allclose(found, (0.2071 + 0.19102) / (1.2071 + 0.09102))
    pair = band_limited(200, 0.3, 4, 5)
    curve = ring_correlation(*pair)
    strict = resolution(curve, criterion="half-bit").pixels
    assert resolution(curve).pixels < strict < 1.1 * resolution(curve).pixels


def test_a_map_tells_fine_from_coarse():
    fine, coarse = band_limited(128, 0.4, 10, 6), band_limited(128, 0.15, 10, 7)
    pair = np.concatenate([fine, coarse], axis=2)[:, :, :]
    pair = np.concatenate([pair, pair], axis=1)
    found = resolution_map(*pair, tiles=2)
    assert found.pixels.shape == (2, 2)
    assert np.all(found.pixels[:, 0] < 3)
    assert np.all(found.pixels[:, 1] > 5)
    assert found.known == 4
    assert found.min == found.pixels.min()
    assert found.sd == pytest.approx(found.pixels.std(ddof=1))
    blank = resolution_map(np.ones((64, 64)), np.ones((64, 64)), tiles=2)
    assert blank.known == 0
    assert math.isnan(blank.mean)


def test_resolution_comes_with_accuracy():
    truth, image = band_limited(96, 0.3, 10, 8)
    good = resolution_row(truth, image, pixel_size_nm=27)
    # Each frequency is there, with the wrong weight: the rings cannot see it.
    spectrum = np.fft.rfft2(image - image.mean())
    radius = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(96))
    flat = np.fft.irfft2(spectrum * (0.05 + (radius > 0.2)))
    bad = resolution_row(truth, flat, pixel_size_nm=27)
    assert bad["frc_px"] == pytest.approx(good["frc_px"], rel=0.1)
    assert bad["nrmse"] > 1.2 * good["nrmse"]
    assert bad["psnr"] < good["psnr"]
    assert bad["ssim"] < good["ssim"]


def test_affine_match_is_the_least_squares_line():
    random = np.random.default_rng(0)
    truth, image = random.normal(size=(2, 20, 20))
    slope, intercept = np.polyfit(image.ravel(), truth.ravel(), 1)
    assert_allclose(affine_match(truth, image), slope * image + intercept)
    assert_allclose(affine_match(truth, 100 - 3 * truth), truth)
    assert_allclose(affine_match(truth, np.full((20, 20), 0.1)), truth.mean())


def test_matched_accuracy_by_hand():
    truth = np.tile([0.0, 10.0], (12, 6))
    error = np.repeat([[1.0], [-1.0]], 6, axis=0)
    found = matched_accuracy(truth, 5 * (truth + error) - 2)
    # The error is at right angles to the truth: the line through both keeps 25 / 26.
    assert found.nrmse == pytest.approx(0.5 / math.sqrt(26))
    assert found.psnr == pytest.approx(-20 * math.log10(found.nrmse))
    assert matched_accuracy(truth, -truth).ssim == pytest.approx(1)


def test_bad_input_is_refused():
    image = np.eye(32)
    with pytest.raises(PhantomscopeError, match="shape"):
        ring_correlation(image, image[:16])
    with pytest.raises(PhantomscopeError, match="7 x 32 pixels are too small"):
        ring_correlation(image[:7], image[:7])
    with pytest.raises(PhantomscopeError, match="unknown taper: box"):
        ring_correlation(image, image, taper="box")
    with pytest.raises(PhantomscopeError, match="unknown rings"):
        ring_correlation(image, image, rings="squares")
    with pytest.raises(PhantomscopeError, match="holds 1 values"):
        ring_correlation(np.where(image == image.flat[0], np.nan, 0)[:, :1], image)
    with pytest.raises(PhantomscopeError, match="unknown criterion"):
        resolution(rings([1, 0]), criterion="1/2")
    with pytest.raises(PhantomscopeError, match="pixel size is 0 nm"):
        resolution(rings([1, 0]), pixel_size_nm=0)
    with pytest.raises(PhantomscopeError, match="choose 1 to 4 tiles"):
        resolution_map(image, image, tiles=5)
    with pytest.raises(PhantomscopeError, match="has no range"):
        matched_accuracy(np.ones((32, 32)), image)

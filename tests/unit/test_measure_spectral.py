"""Spectra of images whose power is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.spectral import radial_power_spectrum, spectral_distance


def noise(shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(7, scale, shape)


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (65, 40), (8, 32, 64)])
@pytest.mark.parametrize("window", ["hann", "none"])
def test_a_sine_has_its_power_at_its_frequency(shape, window):
    axis = int(np.argmax(shape))
    n = shape[axis]
    position = np.indices(shape)[axis]
    frequency, power = radial_power_spectrum(
        3 + np.sin(2 * np.pi * 10 * position / n), window
    )
    assert frequency[np.argmax(power)] == pytest.approx(10 / n)
    # A Hann window on 8 of 64 pixels spreads by 8 steps across it.
    near = np.abs(frequency - 10 / n) < 4.5 / n
    assert power[near].sum() > 0.99 * power.sum()


@pytest.mark.parametrize("shape", [(256, 256), (200, 128), (16, 48, 64)])
@pytest.mark.parametrize("window", ["hann", "none"])
def test_white_noise_has_its_variance_at_each_frequency(shape, window):
    frequency, power = radial_power_spectrum(noise(shape, scale=3), window)
    assert frequency[-1] <= 0.5
    assert power[len(power) // 4 :].mean() == pytest.approx(9, rel=0.05)


def test_parseval():
    image = np.zeros((1, 64))
    image[0] = noise(64)
    _, power = radial_power_spectrum(image, "none")
    total = 2 * power.sum() - power[-1]  # all but the Nyquist frequency stand twice
    assert total == pytest.approx(64 * image.var())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(-100, 100), st.floats(0.1, 10))
def test_offset_is_ignored_and_scale_squares(seed, offset, scale):
    image = noise((12, 15), seed)
    _, power = radial_power_spectrum(image)
    assert_allclose(
        radial_power_spectrum(scale * image + offset)[1], scale**2 * power, rtol=1e-6
    )
    assert_allclose(radial_power_spectrum(image.T)[1], power)
    distance = spectral_distance([image], [scale * image])
    assert distance == pytest.approx(abs(2 * np.log10(scale)), abs=1e-9)


def test_distance_is_symmetric_and_zero_for_the_same_set():
    a = [noise((64, 64), seed) for seed in range(3)]
    b = [np.cumsum(noise((48, 56), seed) - 7, axis=0) for seed in range(3)]
    assert spectral_distance(a, a[::-1]) == pytest.approx(0, abs=1e-12)
    assert spectral_distance(a, b) == pytest.approx(spectral_distance(b, a))
    assert spectral_distance(a, b) > 5 * spectral_distance(a[:1], a[1:2])


def test_bad_input_is_refused():
    with pytest.raises(PhantomscopeError, match="unknown window: hamming"):
        radial_power_spectrum(noise((8, 8)), "hamming")
    with pytest.raises(PhantomscopeError, match="image has 1 axes where 2 or 3"):
        radial_power_spectrum(noise(8))
    with pytest.raises(PhantomscopeError, match="too small for a spectrum"):
        radial_power_spectrum(noise((3, 3)))
    with pytest.raises(PhantomscopeError, match="NaN or infinite"):
        radial_power_spectrum(np.full((8, 8), np.nan))
    with pytest.raises(PhantomscopeError, match="a set of images is empty"):
        spectral_distance([], [noise((8, 8))])
    with pytest.raises(PhantomscopeError, match="image is constant"):
        spectral_distance([np.ones((8, 8))], [noise((8, 8))])
    with pytest.raises(PhantomscopeError, match="2D images are compared with 3D"):
        spectral_distance([noise((8, 8))], [noise((8, 8, 8))])

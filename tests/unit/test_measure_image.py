"""Pixel errors against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as npst

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.image import mae, mse, psnr, ssim

IMAGES = npst.arrays(np.uint8, (12, 13))


def test_a_constant_error():
    truth = np.random.default_rng(0).integers(0, 200, (16, 20)).astype(np.uint8)
    image = (truth + 10).astype(np.uint8)
    assert mae(truth, image) == 10
    assert mse(truth, image) == 100
    assert psnr(truth, image, 255) == pytest.approx(20 * math.log10(25.5))


def test_unsigned_differences_do_not_wrap():
    assert mae(np.array([0], np.uint8), np.array([200], np.uint8)) == 200


def test_ssim_of_two_constant_images_is_the_luminance_term():
    a, b = np.full((16, 16), 0.4), np.full((16, 16), 0.6)
    c1 = 0.01**2
    expected = (2 * 0.4 * 0.6 + c1) / (0.4**2 + 0.6**2 + c1)
    assert ssim(a, b, 1.0) == pytest.approx(expected)


def test_identical_volumes():
    volume = np.random.default_rng(1).normal(size=(12, 12, 12))
    assert mae(volume, volume) == 0
    assert psnr(volume, volume, 1) == math.inf
    assert ssim(volume, volume, 1) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(IMAGES, IMAGES)
def test_symmetry_and_bounds(a, b):
    assert mae(a, b) == mae(b, a)
    assert mae(a, b) ** 2 <= mse(a, b) + 1e-9
    assert psnr(a, b, 255) == psnr(b, a, 255) >= 0
    assert ssim(a, b, 255) == pytest.approx(ssim(b, a, 255))
    assert -1 <= ssim(a, b, 255) <= 1 + 1e-12


def test_bad_input_is_refused():
    good = np.zeros((12, 12))
    with pytest.raises(PhantomscopeError, match="truth has shape"):
        mae(good, good[1:])
    with pytest.raises(PhantomscopeError, match="image holds 144 values that are NaN"):
        mse(good, good + np.nan)
    with pytest.raises(PhantomscopeError, match="truth is empty"):
        mae([], [])
    with pytest.raises(PhantomscopeError, match="data_range is 0"):
        psnr(good, good, 0)
    with pytest.raises(PhantomscopeError, match="too small for SSIM"):
        ssim(good[:5], good[:5], 1)
    with pytest.raises(TypeError):
        psnr(good, good)

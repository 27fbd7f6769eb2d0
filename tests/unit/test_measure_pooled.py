"""Histograms of samples that no memory holds, and errors row by row."""

import math

import numpy as np
import pytest

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import distribution as d
from phantomscope.measure.image import mae, psnr, similarity, ssim


def gaussians(mean_a, sd_a, mean_b, sd_b, n=400_000):
    rng = np.random.default_rng(0)
    return rng.normal(mean_a, sd_a, n), rng.normal(mean_b, sd_b, n)


@pytest.mark.parametrize("sds", [(1.0, 1.0), (1.0, 1.3)])
def test_pooled_distances_of_two_gaussians(sds):
    s, t = sds
    a, b = gaussians(0, s, 0.8, t)
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    # Samples in parts, of which each is a group.
    groups = [
        np.stack([d.count_bins(x[n::4], low, high, 1024) for x in (a, b)])
        for n in range(4)
    ]
    kld = math.log(t / s) + (s**2 + 0.8**2) / (2 * t**2) - 0.5
    reverse = math.log(s / t) + (t**2 + 0.8**2) / (2 * s**2) - 0.5
    bd = 0.8**2 / (4 * (s**2 + t**2)) + 0.5 * math.log((s**2 + t**2) / (2 * s * t))
    for bins in (64, 256):
        found = d.pooled_distances([d.merge_bins(g, bins) for g in groups])
        assert found["kld"].value == pytest.approx(kld, rel=0.03)
        # Bins that the narrower sample leaves empty cost the wider one up to 27.6 each.
        loose = 0.03 if s == t else 0.15
        assert found["kld_reverse"].value == pytest.approx(reverse, rel=loose)
        assert found["bd"].value == pytest.approx(bd, rel=0.03)
        assert found["bd"].low <= found["bd"].value <= found["bd"].high
        assert found["bd"].n == 4


def test_parts_and_merged_bins_are_the_histogram_of_all():
    a, b = gaussians(0, 1, 0.5, 2, n=5000)
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    fine = sum(d.count_bins(part, low, high, 1024) for part in np.split(a, 5))
    for bins in (64, 256, 1024):
        p, _ = d.shared_histograms(a, b, bins)
        assert d.merge_bins(fine, bins) / a.size == pytest.approx(p, abs=1e-12)
    with pytest.raises(PhantomscopeError, match="1024 bins cannot become 100"):
        d.merge_bins(fine, 100)


def test_the_same_counts_are_at_no_distance():
    counts = np.random.default_rng(0).integers(0, 50, 64)
    found = d.pooled_distances([np.stack([counts, counts])])
    assert [one.value for one in found.values()] == pytest.approx([0, 0, 0], abs=1e-12)
    assert math.isnan(found["kld"].low)  # one group says nothing about others


@pytest.mark.parametrize("shape", [(40, 33), (70, 12, 9), (7, 8, 9), (33, 7)])
@pytest.mark.parametrize("rows", [1, 32])
def test_row_by_row_is_as_all_at_once(shape, rows):
    rng = np.random.default_rng(0)
    truth = rng.random(shape)
    image = np.clip(truth + rng.normal(0, 0.1, shape), 0, 1)
    found = similarity(truth, image, 1.0, rows)
    assert found.psnr == pytest.approx(psnr(truth, image, 1.0))
    assert found.mae == pytest.approx(mae(truth, image))
    assert found.ssim == pytest.approx(ssim(truth, image, 1.0, "uniform"))


def test_known_noise_has_a_known_error():
    truth = np.full((64, 64, 16), 0.5)
    noise = np.random.default_rng(0).normal(0, 0.05, truth.shape)
    found = similarity(truth, truth + noise)
    assert found.psnr == pytest.approx(-20 * math.log10(0.05), abs=0.05)
    assert found.mae == pytest.approx(0.05 * math.sqrt(2 / math.pi), rel=0.01)
    same = similarity(truth, truth)
    assert (same.psnr, same.mae) == (math.inf, 0)
    assert same.ssim == pytest.approx(1)


def test_the_window_of_ssim():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 8, 20, 20))
    with pytest.raises(PhantomscopeError, match="at least 11 pixels"):
        ssim(a, b, 1.0)
    assert -1 < ssim(a, b, 1.0, "uniform") < 1
    with pytest.raises(PhantomscopeError, match="at least 7 pixels"):
        similarity(a[:6], b[:6])
    with pytest.raises(PhantomscopeError, match="truth has shape"):
        similarity(a, b[:7])
    with pytest.raises(PhantomscopeError, match="data_range is 0"):
        similarity(a, b, 0)

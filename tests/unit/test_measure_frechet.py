from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg, ndimage

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.frechet import (
    frechet_distance,
    gaussian_frechet,
    image_features,
    kernel_distance,
    standardise,
    texture_features,
)

Floats = NDArray[np.float64]


def _gaussian(
    n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0
) -> Floats:
    return shift + scale * np.random.default_rng(seed).standard_normal((n, d))


def _cells(seed: int, size: int = 64) -> Floats:
    """Return blurred noise with a trend: an image with structure at some scales."""
    random = np.random.default_rng(seed)
    fine, coarse = (
        ndimage.gaussian_filter(random.standard_normal((size, size)), sigma) * sigma
        for sigma in (1.5, 5.0)
    )
    return np.exp(fine + coarse) + 0.05 * random.standard_normal((size, size))


@pytest.fixture(scope="module")
def sets() -> tuple[list[Floats], list[Floats]]:
    images = [_cells(seed) for seed in range(120)]
    return images[:60], images[60:]


def test_known_distance_of_gaussians() -> None:
    """In one dimension it is (m - m')^2 + (s - s')^2, and so per axis."""
    a, b = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 4.0, 1.0])
    assert gaussian_frechet([0, 0, 1], a, [3, 0, 1], b) == pytest.approx(9 + 1 + 0 + 4)
    random = np.random.default_rng(0)
    c, d = (m @ m.T for m in random.standard_normal((2, 4, 4)))
    root = np.real(linalg.sqrtm(c @ d))
    expected = np.trace(c + d - 2 * root)
    assert gaussian_frechet(np.zeros(4), c, np.zeros(4), d) == pytest.approx(expected)
    # A covariance of low rank has no inverse, but a root.
    assert gaussian_frechet([0, 0], np.diag([1, 0]), [0, 0], np.diag([0, 1])) == 2


def test_frechet_of_samples_covers_the_truth_and_states_their_size() -> None:
    truth = 3 * (0.5**2 + (1.0 - 2.0) ** 2)
    found = frechet_distance(
        _gaussian(800, 3, 0), _gaussian(600, 3, 1, shift=0.5, scale=2.0)
    )
    assert found.value == pytest.approx(truth, rel=0.15)
    assert found.low < truth < found.high
    assert (found.n_a, found.n_b, found.features) == (800, 600, 3)


def test_kernel_distance_covers_the_truth() -> None:
    """E k(x, y) is known for d = 1: the sum of binomials times moments squared."""

    def moments(shift: float) -> Floats:
        return np.array([1, shift, shift**2 + 1, shift**3 + 3 * shift])

    apart = moments(0.0) - moments(0.5)
    truth = float(np.array([1, 3, 3, 1]) @ apart**2)
    found = kernel_distance(_gaussian(1500, 1, 0), _gaussian(1500, 1, 1, shift=0.5))
    assert found.low < truth < found.high
    assert found.value == pytest.approx(truth, rel=0.3)


def test_kernel_estimate_is_unbiased_and_the_frechet_one_is_not() -> None:
    pairs = [
        (_gaussian(20, 4, 2 * seed), _gaussian(20, 4, 2 * seed + 1))
        for seed in range(300)
    ]
    kernel = [kernel_distance(a, b, resamples=1).value for a, b in pairs]
    error = np.std(kernel) / np.sqrt(len(kernel))
    assert abs(np.mean(kernel)) < 3 * error
    assert min(kernel) < 0
    frechet = [frechet_distance(a, b, resamples=1).value for a, b in pairs]
    assert np.mean(frechet) > 0.2


def test_a_split_set_is_at_no_distance(
    sets: tuple[list[Floats], list[Floats]],
) -> None:
    a, b = standardise(*(image_features(images) for images in sets))
    kernel = kernel_distance(a, b)
    assert kernel.low <= 0 <= kernel.high
    assert frechet_distance(a, b).low <= 0
    assert frechet_distance(a, a).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("damage", ["blur", "noise"])
def test_distances_grow_with_damage(
    sets: tuple[list[Floats], list[Floats]], damage: str
) -> None:
    random = np.random.default_rng(9)
    reference = image_features(sets[0])
    frechet, kernel = [], []
    for strength in (0.0, 0.3, 0.6, 1.2):
        images = [
            ndimage.gaussian_filter(image, strength)
            if damage == "blur"
            else image + strength * random.standard_normal(image.shape)
            for image in sets[1]
        ]
        a, b = standardise(reference, image_features(images))
        frechet.append(frechet_distance(a, b, resamples=1).value)
        kernel.append(kernel_distance(a, b, resamples=50))
    assert frechet == sorted(frechet)
    assert [k.value for k in kernel] == sorted(k.value for k in kernel)
    assert kernel[-1].low > kernel[0].high


def test_features_of_known_images() -> None:
    x = np.tile(np.arange(128), (128, 1))
    stripes = np.sin(2 * np.pi * x / 16)
    names = texture_features(stripes)
    assert names.shape == (39,)
    assert names[0] == pytest.approx(0, abs=1e-9)
    assert names[1] == pytest.approx(np.log(np.sqrt(0.5)))
    assert names[2] == pytest.approx(0, abs=1e-9)
    # 1/16 cycles per pixel is the border of octaves 2 and 3 and counts to the lower.
    assert np.argmax(names[3:8]) == 3
    # Across the stripes the gradient points along x: direction 0, all of it.
    assert names[23:31] == pytest.approx([1, *[0] * 7], abs=1e-9)
    turned = texture_features(stripes.T)
    assert turned[23:31] == pytest.approx([*[0] * 4, 1, *[0] * 3], abs=1e-9)
    # White noise is flat; the power of few frequencies, and so its logarithm, varies.
    noise = np.random.default_rng(0).standard_normal((60, 128, 128))
    power = np.exp(image_features(list(noise))[:, 3:8])
    assert power[:, 0] == pytest.approx(1, abs=0.1)
    assert power.mean(axis=0) == pytest.approx(1, abs=0.2)


def test_features_depend_on_the_unit_only_where_they_say() -> None:
    image = _cells(3)
    once, ten = texture_features(image), texture_features(10 * image + 5)
    assert ten[0] == pytest.approx(10 * once[0] + 5)
    assert ten[1] == pytest.approx(once[1] + np.log(10))
    assert ten[2:] == pytest.approx(once[2:])


def test_standardise_keeps_a_feature_that_does_not_vary() -> None:
    a, b = standardise([[1.0, 0.0], [1.0, 2.0]], [[3.0, 1.0], [4.0, 4.0]])
    assert a.tolist() == [[0, -1], [0, 1]]
    assert b.tolist() == [[2, 0], [3, 3]]


def test_errors_say_what_to_do() -> None:
    with pytest.raises(PhantomscopeError, match="too small"):
        texture_features(np.zeros((32, 64)))
    with pytest.raises(PhantomscopeError, match="constant"):
        texture_features(np.full((64, 64), 7))
    with pytest.raises(PhantomscopeError, match="empty"):
        image_features([])
    with pytest.raises(PhantomscopeError, match="no spread"):
        kernel_distance([[1.0]], [[1.0], [2.0]])
    with pytest.raises(PhantomscopeError, match="features"):
        frechet_distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(PhantomscopeError, match="bad bootstrap"):
        frechet_distance(np.zeros((3, 2)), np.zeros((3, 2)), confidence=1.0)

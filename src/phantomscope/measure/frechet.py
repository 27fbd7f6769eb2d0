"""Distances between two sets of images over features that need no trained network.

Features are `texture_features`: fixed, documented statistics of intensity and structure
at several scales. Distances over them rank sets of the same kind of image; they are not
comparable with those over Inception features, and know nothing of what is shown.

Both distances say how many images they rest on. The Fréchet distance is biased upwards,
by less the more images there are (as 1 / n); the kernel distance is not biased.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks
from phantomscope.measure.spectral import radial_power_spectrum

Floats = NDArray[np.float64]

SCALES = (1, 2, 4, 8, 16)
DIRECTIONS = 8
# Below this share of the variance of a whole image, power or variance is rounding.
LEAST = 1e-8


@dataclass(frozen=True)
class Distance:
    """A distance between two sets with its interval.

    Attributes
    ----------
    value : float
        The distance of the sets as they are.
    low, high : float
        Ends of the interval; see the function that made it.
    n_a, n_b, features : int
        Sample sizes and the number of features.
    """

    value: float
    low: float
    high: float
    n_a: int
    n_b: int
    features: int


def texture_features(image: ArrayLike) -> Floats:
    """Return statistics of an image's intensities and of its structure by scale.

    | features | number |
    |---|---|
    | mean, log standard deviation, skewness of the intensities | 3 |
    | log power in each octave of frequency, 1/2 to 1/64 cycles per pixel | 5 |
    | at each of the scales 1 ... 16 px: log variance of the smoothed image, and mean \
and variance over the image of the log local variance | 15 |
    | share of the squared gradient in each of 8 directions, at scales 1 and 4 | 16 |

    Directions are those of a line (0 to 180 degrees). All that is logarithmic is
    relative to the image's variance, but for the standard deviation.

    Parameters
    ----------
    image : array_like, shape (y, x)
        Real numbers in a unit that both sets share; at least 64 pixels each way.

    Returns
    -------
    ndarray of float64, shape (39,)

    Raises
    ------
    PhantomscopeError
        For a wrong number of axes, a too small or constant image, or NaN.
    """
    values = checks.finite(image, "image", (2,))
    if min(values.shape) < 64:
        raise PhantomscopeError(
            f"an image of shape {values.shape} is too small for features at 16 pixels",
            fix="give at least 64 pixels each way",
        )
    mean, deviation = float(values.mean()), float(values.std())
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        raise PhantomscopeError(
            "an image is constant, so it has no texture", fix="leave it out"
        )
    unit = (values - mean) / deviation
    found = [mean, math.log(deviation), float((unit**3).mean())]
    found += _octaves(unit)
    for scale in SCALES:
        found += _local(unit, scale)
    for scale in (1, 4):
        found += _directions(unit, scale)
    return np.array(found)


def _log(value: float) -> float:
    return math.log(max(value, LEAST))


def _octaves(unit: Floats) -> list[float]:
    frequency, power = radial_power_spectrum(unit)
    edges = [0.5 ** (k + 1) for k in range(6)]
    return [
        _log(float(power[(frequency > low) & (frequency <= high)].mean()))
        for high, low in itertools.pairwise(edges)
    ]


def _local(unit: Floats, scale: int) -> list[float]:
    smooth = ndimage.gaussian_filter(unit, scale, mode="reflect")
    local = ndimage.gaussian_filter(unit**2, scale, mode="reflect") - smooth**2
    logs = np.log(np.maximum(local, LEAST))
    return [_log(float(smooth.var())), float(logs.mean()), float(logs.var())]


def _directions(unit: Floats, scale: int) -> list[float]:
    y, x = (
        ndimage.gaussian_filter(unit, scale, order=order, mode="reflect")
        for order in ((1, 0), (0, 1))
    )
    angle = np.arctan2(y, x) % np.pi
    # Bins are centred on 0, so that an edge along an axis does not lie on a border.
    number = np.rint(angle / np.pi * DIRECTIONS).astype(np.int64) % DIRECTIONS
    energy = np.bincount(number.ravel(), (y**2 + x**2).ravel(), minlength=DIRECTIONS)
    shares: list[float] = (energy / max(float(energy.sum()), LEAST)).tolist()
    return shares


def image_features(images: Sequence[ArrayLike]) -> Floats:
    """Return the features of each image of a set, shape (n, 39)."""
    if not len(images):
        raise PhantomscopeError("a set of images is empty", fix="give at least two")
    return np.stack([texture_features(image) for image in images])


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    first, second = checks.finite(a, "a", (2,)), checks.finite(b, "b", (2,))
    if first.shape[1] != second.shape[1]:
        raise PhantomscopeError(
            f"a has {first.shape[1]} features but b has {second.shape[1]}",
            fix="give both sets the same features",
        )
    if min(len(first), len(second)) < 2:
        raise PhantomscopeError(
            f"sets of {len(first)} and {len(second)} have no spread to compare",
            fix="give at least two of each",
        )
    return first, second


def standardise(reference: ArrayLike, *others: ArrayLike) -> tuple[Floats, ...]:
    """Scale features to mean 0 and variance 1 in the reference; it comes first.

    A feature that does not vary there keeps its unit.
    """
    first = checks.finite(reference, "reference", (2,))
    centre, spread = first.mean(axis=0), first.std(axis=0)
    spread = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(centre)), spread, 1.0)
    every = [first, *(checks.finite(other, "features", (2,)) for other in others)]
    return tuple((values - centre) / spread for values in every)


def gaussian_frechet(
    mean_a: ArrayLike, covariance_a: ArrayLike, mean_b: ArrayLike,
    covariance_b: ArrayLike,
) -> float:  # fmt: skip
    """Return the squared Fréchet distance of two Gaussians (Dowson & Landau 1982).

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2), the square of the
    second Wasserstein distance, as it is reported for images (Heusel et al. 2017).
    """
    first, second = np.asarray(covariance_a), np.asarray(covariance_b)
    root = _root(first)
    inner = np.linalg.eigvalsh(root @ second @ root)
    cross = float(np.sqrt(np.maximum(inner, 0)).sum())
    apart = np.asarray(mean_a, dtype=float) - np.asarray(mean_b, dtype=float)
    total = float(apart @ apart) + float(np.trace(first) + np.trace(second))
    return max(0.0, total - 2 * cross)


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    found: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return found


def _frechet(a: Floats, b: Floats) -> float:
    covariances = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (a, b)]
    return gaussian_frechet(
        a.mean(axis=0), covariances[0], b.mean(axis=0), covariances[1]
    )


def frechet_distance(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 200, confidence: float = 0.95,
    seed: int = 0,
) -> Distance:  # fmt: skip
    """Return the squared Fréchet distance of two sets of features.

    The interval is the basic bootstrap one, 2 value - quantile (Davison & Hinkley 1997,
    5.2): resampled sets lie further apart than the sets themselves by about as much as
    these lie further apart than the truth, so that it corrects the bias, and can reach
    below 0 for sets of one distribution.

    Parameters
    ----------
    a, b : array_like, shape (n, features)
        See `image_features` and `standardise`. With fewer images than features the
        value is mostly bias.
    resamples, confidence, seed
        Of the bootstrap; both sets are drawn anew.

    Raises
    ------
    PhantomscopeError
        For different features, fewer than two of a set, NaN, or a bad `resamples` or
        `confidence`.
    """
    first, second = _pair(a, b)
    _check(resamples, confidence)
    random = np.random.default_rng(seed)
    value = _frechet(first, second)
    found = [
        _frechet(
            first[random.integers(len(first), size=len(first))],
            second[random.integers(len(second), size=len(second))],
        )
        for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    sizes = (len(first), len(second), first.shape[1])
    return Distance(value, 2 * value - float(high), 2 * value - float(low), *sizes)


def kernel_distance(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 200, confidence: float = 0.95,
    seed: int = 0,
) -> Distance:  # fmt: skip
    """Return the squared maximum mean discrepancy with a cubic kernel, unbiased.

    The kernel is (x y / d + 1)^3 for d features (Binkowski et al. 2018), the estimate
    the U-statistic of Gretton et al. 2012, eq. 3: 0 on average, and negative half the
    time, for sets of one distribution. The interval is the percentile bootstrap over
    images; pairs of an image with a copy of itself are left out, for they would draw
    the value up.

    Parameters
    ----------
    a, b : array_like, shape (n, features)
        See `image_features` and `standardise`.
    resamples, confidence, seed
        Of the bootstrap; both sets are drawn anew.

    Raises
    ------
    PhantomscopeError
        As in `frechet_distance`.
    """
    first, second = _pair(a, b)
    _check(resamples, confidence)
    random = np.random.default_rng(seed)
    d = first.shape[1]
    within_a, within_b, across = (
        (x @ y.T / d + 1) ** 3
        for x, y in ((first, first), (second, second), (first, second))
    )
    np.fill_diagonal(within_a, 0.0)
    np.fill_diagonal(within_b, 0.0)

    def estimate(p: Floats, q: Floats) -> float:
        """Take image i of a set p_i times."""
        return float(
            p @ within_a @ p / (p.sum() ** 2 - p @ p)
            + q @ within_b @ q / (q.sum() ** 2 - q @ q)
            - 2 * (p @ across @ q) / (p.sum() * q.sum())
        )

    value = estimate(np.ones(len(first)), np.ones(len(second)))
    found: list[float] = []
    while len(found) < resamples:
        p, q = (
            np.bincount(random.integers(n, size=n), minlength=n).astype(np.float64)
            for n in (len(first), len(second))
        )
        # Of few images a draw can hold a single one, which has no pairs.
        if min(np.count_nonzero(p), np.count_nonzero(q)) > 1:
            found.append(estimate(p, q))
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Distance(value, float(low), float(high), len(first), len(second), d)


def _check(resamples: int, confidence: float) -> None:
    if resamples < 1 or not 0 < confidence < 1:
        raise PhantomscopeError(
            f"bad bootstrap: resamples {resamples}, confidence {confidence}",
            fix="use at least 1 resample and a confidence in (0, 1)",
            example="resamples: 200\nconfidence: 0.95",
        )

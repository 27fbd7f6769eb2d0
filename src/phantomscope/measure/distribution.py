"""Distances between the intensity distributions of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks
from phantomscope.measure.statistics import Interval, bootstrap_interval

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def shared_histograms(
    a: ArrayLike,
    b: ArrayLike,
    bins: int = 256,
    value_range: tuple[float, float] | None = None,
) -> tuple[Floats, Floats]:
    """Return the histograms of two samples over the same bins.

    Parameters
    ----------
    a, b : array_like
        Samples of any shape and real dtype, in the same intensity unit.
    bins : int, optional
        Number of equal bins, at least 1; 256 as in Eschweiler et al., Fig. 2.
    value_range : tuple of float, optional
        Lowest and highest value; None takes the range of both samples together.
        Values outside count in the outermost bins.

    Returns
    -------
    p, q : ndarray of float64, shape (bins,)
        Probabilities in [0, 1] that sum to 1.

    Raises
    ------
    PhantomscopeError
        For empty, NaN or infinite samples, or a bad `bins` or `value_range`.
    """
    first = checks.finite(a, "a").ravel()
    second = checks.finite(b, "b").ravel()
    low, high = value_range or (
        float(min(first.min(), second.min())),
        float(max(first.max(), second.max())),
    )
    if bins < 1 or (value_range is not None and not low < high):
        raise PhantomscopeError(
            f"bad histogram: {bins} bins over {low} to {high}",
            fix="use at least 1 bin and a range that rises",
            example="bins=256, value_range=(0, 65535)",
        )
    p, q = (
        count_bins(values, low, high, bins) / values.size for values in (first, second)
    )
    return p, q


def count_bins(values: NDArray[Any], low: float, high: float, bins: int) -> Counts:
    """Count values in equal bins, those outside in the outermost ones.

    Counts of parts add up, so that a sample of any size passes through a small memory.

    Parameters
    ----------
    values : ndarray
        Finite real numbers of any shape.
    low, high : float
        Ends of the range.
    bins : int
        Number of bins.

    Returns
    -------
    ndarray of int64, shape (bins,)
        Counts that sum to the size of `values`.
    """
    inside = np.clip(values, low, high)
    return np.histogram(inside, bins, (low, high))[0].astype(np.int64)


def merge_bins(counts: Counts, bins: int) -> Counts:
    """Add up neighbouring bins.

    Parameters
    ----------
    counts : ndarray, shape (..., n)
        Counts of equal bins.
    bins : int
        Number of bins to leave; divides n.

    Returns
    -------
    ndarray, shape (..., bins)
        What `count_bins` gives for so many bins over the same range.

    Raises
    ------
    PhantomscopeError
        If `bins` does not divide n.
    """
    if bins < 1 or counts.shape[-1] % bins:
        raise PhantomscopeError(
            f"{counts.shape[-1]} bins cannot become {bins}",
            fix="use a divisor of the number of bins",
        )
    merged: Counts = counts.reshape(*counts.shape[:-1], bins, -1).sum(axis=-1)
    return merged


def _probabilities(values: ArrayLike, name: str) -> Floats:
    checked = checks.finite(values, name, (1,))
    if checked.min() < 0 or abs(checked.sum() - 1) > 1e-6:
        raise PhantomscopeError(
            f"{name} is not a probability distribution: it sums to {checked.sum():.6g}",
            fix="use shared_histograms, or divide the counts by their sum",
        )
    return checked


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[Floats, Floats]:
    first, second = _probabilities(p, "p"), _probabilities(q, "q")
    checks.same_shape(first, second, ("p", "q"))
    return first, second


def kl_divergence(p: ArrayLike, q: ArrayLike, eps: float = 1e-12) -> float:
    """Return the Kullback-Leibler divergence of p from q in nats.

    `eps` is added to every bin of both and they are normalised again, so that bins
    empty in q give a large finite value (up to -ln eps, 27.6) and the result is
    never negative. Kullback & Leibler 1951; eps as in Eschweiler et al., Fig. 2.

    Parameters
    ----------
    p, q : array_like, shape (bins,)
        Probabilities that sum to 1, see `shared_histograms`.
    eps : float, optional
        Small positive number.

    Returns
    -------
    float
        sum p ln(p / q), at least 0, and 0 if p = q.

    Raises
    ------
    PhantomscopeError
        For different lengths, no probability distributions, or eps <= 0.
    """
    first, second = _pair(p, q)
    if eps <= 0:
        raise PhantomscopeError(f"eps is {eps}", fix="use a small positive number")
    first = (first + eps) / (first + eps).sum()
    second = (second + eps) / (second + eps).sum()
    # Rounding can leave -1e-17 for nearly equal histograms.
    return max(0.0, float(np.sum(first * np.log(first / second))))


def bhattacharyya_distance(p: ArrayLike, q: ArrayLike) -> float:
    """Return the Bhattacharyya distance, -ln sum sqrt(p q) (Bhattacharyya 1943).

    Parameters
    ----------
    p, q : array_like, shape (bins,)
        Probabilities that sum to 1, see `shared_histograms`.

    Returns
    -------
    float
        At least 0; 0 if p = q and infinity if they share no bin.

    Raises
    ------
    PhantomscopeError
        For different lengths or no probability distributions.
    """
    first, second = _pair(p, q)
    shared = float(np.sqrt(first * second).sum())
    return max(0.0, -float(np.log(shared))) if shared > 0 else float("inf")


def wasserstein(a: ArrayLike, b: ArrayLike) -> float:
    """Return the first Wasserstein distance of two 1-D samples, in their unit.

    The mean absolute difference of the two quantile functions, exact for samples of
    any size (Ramdas et al. 2017, Entropy 19:47, eq. 8).

    Parameters
    ----------
    a, b : array_like
        Samples of any shape and real dtype, in the same intensity unit.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    PhantomscopeError
        For empty, NaN or infinite samples.
    """
    first = np.sort(checks.finite(a, "a"), axis=None)
    second = np.sort(checks.finite(b, "b"), axis=None)
    if first.size == second.size:
        return float(np.abs(first - second).mean())
    return float(scipy.stats.wasserstein_distance(first, second))


def pooled_distances(
    groups: Sequence[Counts], *, resamples: int = 1000, confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:  # fmt: skip
    """Compare two histograms that are pooled over groups of images.

    Parameters
    ----------
    groups : sequence of ndarray, shape (2, bins)
        Counts of both samples in each group, in the same bins.
    resamples, confidence, seed
        Of the bootstrap over groups, see `bootstrap_interval`.

    Returns
    -------
    dict of str to Interval
        kld: Kullback-Leibler divergence of the first from the second, nats;
        kld_reverse: the other way round; bd: Bhattacharyya distance. A resample of few
        groups holds fewer different voxels, so where both are nearly equal its own
        noise lifts the interval above the value.

    Raises
    ------
    PhantomscopeError
        Without any group, or for an empty sample.
    """
    between: dict[str, Callable[[Floats, Floats], float]] = {
        "kld": kl_divergence,
        "kld_reverse": lambda p, q: kl_divergence(q, p),
        "bd": bhattacharyya_distance,
    }

    def distance(name: str, chosen: Sequence[Counts]) -> float:
        total = np.sum(chosen, axis=0).astype(float)
        p, q = total / total.sum(axis=1, keepdims=True)
        return between[name](p, q)

    return {
        name: bootstrap_interval(
            groups, partial(distance, name), resamples=resamples,
            confidence=confidence, seed=seed,
        )
        for name in between
    }  # fmt: skip

"""Distances between the intensity distributions of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks

Floats = NDArray[np.float64]


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
        np.histogram(np.clip(values, low, high), bins, (low, high))[0] / values.size
        for values in (first, second)
    )
    return p, q


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
    return float(wasserstein_distance(first, second))

"""Which samples stand out like copies, at a stated rate of false alarms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError

Floats = NDArray[np.float64]

# Fewer numbers have no spread to speak of.
_LEAST = 3
# Draws of the extrapolated rule: the error of a rate of 0.05 is 0.003.
_DRAWS = 4000
_BLOCK = 2**20


def distinctness(by_patch: ArrayLike) -> Floats:
    """Return how far the nearest patch stands out from the others.

    log((best - mean) / sd) of arctanh(score), mean and standard deviation being those
    of the other patches. An image that is smooth, or has a single object, is near to
    most patches; a copy is near to one. In the logarithm real images that are no copies
    differ as little as the model of `alarm` needs: measured skewness -0.5 to 1.2, that
    of a Gumbel distribution being 1.14.

    Parameters
    ----------
    by_patch : array_like, shape (n_samples, n_patches)
        Scores of `NearestPatch.by_patch` with at least 4 patches; with fewer than 20
        no copy stands out by much.

    Returns
    -------
    ndarray of float64, shape (n_samples,)
        NaN for a sample that is equally near to all patches, such as a constant one.

    Raises
    ------
    PhantomscopeError
        For fewer than 4 patches, or scores that are no correlations.
    """
    scores = np.asarray(by_patch, np.float64)
    if scores.ndim != 2 or scores.shape[1] < _LEAST + 1:
        raise PhantomscopeError(
            f"nothing can stand out among scores of shape {scores.shape}",
            fix=f"give at least {_LEAST + 1} training patches, better 20 and more",
        )
    if not np.all(np.abs(scores) <= 1 + 1e-6):
        raise PhantomscopeError(
            "scores are no correlations in [-1, 1]", fix="give those of `nearest_patch`"
        )
    # A perfect copy would be infinitely far.
    ordered = np.sort(np.arctanh(np.clip(scores, -1 + 1e-9, 1 - 1e-9)), axis=1)
    others = ordered[:, :-1]
    far, spread = ordered[:, -1] - others.mean(axis=1), others.std(axis=1, ddof=1)
    known = (far > 0) & (spread > 0)
    ratio = np.where(known, far, 1.0) / np.where(known, spread, 1.0)
    found: Floats = np.where(known, np.log(ratio), np.nan)
    return found


@dataclass(frozen=True)
class Alarm:
    """Which samples stand out more than real images that cannot be copies.

    Attributes
    ----------
    distinctness : ndarray of float64, shape (n_samples,)
        What was compared.
    flagged : ndarray of bool, shape (n_samples,)
        Whether it is above `limit`.
    limit : float
        In units of `distinctness`.
    p : ndarray of float64, shape (n_samples,)
        Share of the baseline, with the sample, that stands out as much: at least
        1 / (n_baseline + 1). For one sample, without regard to the number of samples.
    p_any : ndarray of float64, shape (n_samples,)
        Probability that any of n_samples independent images stands out as much.
    rule : {"conformal", "extrapolated"}
        Where `limit` and `p_any` come from, see `alarm`.
    """

    distinctness: Floats
    flagged: NDArray[np.bool_]
    limit: float
    p: Floats
    p_any: Floats
    rule: Literal["conformal", "extrapolated"]


def alarm(
    samples: ArrayLike, baseline: ArrayLike, *, rate: float = 0.05, seed: int = 0
) -> Alarm:
    """Flag samples that stand out as independent images hardly do.

    The probability that any of the samples is flagged, though none is a copy, is at
    most `rate`, if samples and baseline are exchangeable (over training sets: one whose
    patches are in part all but empty has true doubles more often):

    - "conformal", with a baseline of at least n_samples / rate - 1 images: conformal
      p-values (Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World,
      2.2) by Bonferroni, whatever the distribution.
    - "extrapolated", with a smaller one, which no rank is rare enough for: a sample
      must be above all of the baseline, so that one independent image is flagged with
      at most 1 / (n_baseline + 1), whatever the distribution; and above what the
      largest of n_samples further draws reaches if all are Gumbel distributed like
      maxima (Coles 2001, An Introduction to Statistical Modeling of Extreme Values,
      3.1). The distance of that draw from the baseline's mean in standard deviations
      is simulated, so that a baseline of few images gives a higher limit.

    Parameters
    ----------
    samples, baseline : array_like, shape (n_samples,) and (n_baseline,)
        `distinctness` of samples, and of real images that the generator never saw. A
        sample that is NaN is not flagged; of the baseline it is left out.
    rate : float, optional
        False-alarm rate in (0, 1).
    seed : int, optional
        Seed of the simulation.

    Returns
    -------
    Alarm

    Raises
    ------
    PhantomscopeError
        For no samples, fewer than 3 of the baseline, and a rate outside of (0, 1).
    """
    if not 0 < rate < 1:
        raise PhantomscopeError(
            f"the false-alarm rate is {rate}", fix="use a number in (0, 1)",
            example="rate: 0.05",
        )  # fmt: skip
    found, known = (np.asarray(v, np.float64).ravel() for v in (samples, baseline))
    known = known[~np.isnan(known)]
    if len(known) < _LEAST or not len(found):
        raise PhantomscopeError(
            f"{len(found)} samples cannot be judged by {len(known)} held-out images",
            fix=f"give at least 1 sample and {_LEAST} held-out images, better 19: then "
            "one image in 20 is flagged at most, whatever the distribution",
        )
    descending = np.sort(known)[::-1]
    p = _upper_share(found, descending)
    spare = math.floor(rate * (len(known) + 1) / len(found) + 1e-9) - 1
    if spare >= 0:
        limit = float(descending[min(spare, len(known) - 1)])
        p_any = np.minimum(1, p * len(found))
        return Alarm(found, found > limit, limit, p, p_any, "conformal")
    far = _gumbel_distances(len(known), len(found), seed)
    expected = known.mean() + known.std(ddof=1) * far
    spare = max(math.floor(rate * (len(far) + 1)) - 1, 0)
    limit = max(float(expected[spare]), float(descending[0]))
    p_any = _upper_share(found, expected)
    return Alarm(found, found > limit, limit, p, p_any, "extrapolated")


def _upper_share(values: Floats, descending: Floats) -> Floats:
    """Return the share of each value and the reference that is at least the value."""
    lowest = np.where(np.isnan(values), -np.inf, values)
    above = np.searchsorted(-descending, -lowest, side="right")
    share: Floats = (1 + above) / (len(descending) + 1)
    return share


@lru_cache(maxsize=16)
def _gumbel_distances(known: int, count: int, seed: int) -> Floats:
    """Draw the largest of `count` in deviations of `known` others, descending."""
    random = np.random.default_rng(seed)
    found = np.empty(_DRAWS)
    step = max(1, _BLOCK // known)
    for start in range(0, _DRAWS, step):
        part = found[start : start + step]
        others = random.gumbel(size=(len(part), known))
        # The largest of n Gumbel variables is one that is moved by log n.
        largest = random.gumbel(size=len(part)) + math.log(count)
        part[:] = (largest - others.mean(axis=1)) / others.std(axis=1, ddof=1)
    descending = np.sort(found)[::-1]
    # It is kept for the next audit of as many.
    descending.flags.writeable = False
    return descending

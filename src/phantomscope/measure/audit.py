"""Whether a generator copies: samples that are flagged, and gaps with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.memorisation import NearestPatch, nearest_patch
from phantomscope.measure.statistics import (
    Interval,
    bootstrap_difference,
    bootstrap_interval,
)

Floats = NDArray[np.float64]

# Fewer scores have no spread to speak of.
_LEAST = 3
# Draws of the extrapolated rule: the error of a rate of 0.05 is 0.003.
_DRAWS = 4000
_BLOCK = 2**20


@dataclass(frozen=True)
class Alarm:
    """Which samples score higher than real images that cannot be copies.

    Attributes
    ----------
    flagged : ndarray of bool, shape (n_samples,)
        Whether a sample's score is above `limit`.
    limit : float
        The score, in [-1, 1].
    p : ndarray of float64, shape (n_samples,)
        Share of the baseline, with the sample, that scores as high: at least
        1 / (n_baseline + 1). For one sample, without regard to the number of samples.
    p_any : ndarray of float64, shape (n_samples,)
        Probability that any of n_samples independent images scores as high.
    rule : {"conformal", "extrapolated"}
        Where `limit` and `p_any` come from, see `alarm`.
    """

    flagged: NDArray[np.bool_]
    limit: float
    p: Floats
    p_any: Floats
    rule: Literal["conformal", "extrapolated"]


def alarm(
    scores: ArrayLike, baseline: ArrayLike, *, rate: float = 0.05, seed: int = 0
) -> Alarm:
    """Flag scores that independent images would hardly reach.

    The probability that any of the samples is flagged, though none is a copy, is at
    most `rate`, if samples and baseline are exchangeable:

    - "conformal", with a baseline of at least n_samples / rate - 1 scores: conformal
      p-values (Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World,
      2.2) by Bonferroni, whatever the distribution.
    - "extrapolated", with a smaller one, which no rank is rare enough for: a sample
      must be above each baseline score, so that one independent image is flagged with
      at most 1 / (n_baseline + 1), whatever the distribution; and above what the
      largest of n_samples further draws reaches, where arctanh(score) is Gumbel
      distributed like the maxima that the scores are (Coles 2001, An Introduction to
      Statistical Modeling of Extreme Values, 3.1). The distance of that draw from the
      baseline's mean in standard deviations is simulated, so that a baseline of few
      scores gives a higher limit.

    Parameters
    ----------
    scores, baseline : array_like, shape (n_samples,) and (n_baseline,)
        Correlations in [-1, 1] of samples, and of real images that the generator never
        saw, with their nearest training patches.
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
        For no scores, scores that are no correlations, fewer than 3 of the baseline,
        and for a rate outside of (0, 1).
    """
    if not 0 < rate < 1:
        raise PhantomscopeError(
            f"the false-alarm rate is {rate}", fix="use a number in (0, 1)",
            example="rate: 0.05",
        )  # fmt: skip
    found, known = _correlations(scores, "scores"), _correlations(baseline, "baseline")
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
        return Alarm(found > limit, limit, p, p_any, "conformal")
    far, unit = _gumbel_distances(len(known), len(found), seed), np.arctanh(known)
    middle, spread = unit.mean(), unit.std(ddof=1)
    spare = max(math.floor(rate * (len(far) + 1)) - 1, 0)
    limit = max(float(np.tanh(middle + spread * far[spare])), float(descending[0]))
    p_any = _upper_share(np.arctanh(found), middle + spread * far)
    return Alarm(found > limit, limit, p, p_any, "extrapolated")


def _correlations(values: ArrayLike, name: str) -> Floats:
    given = np.asarray(values, np.float64)
    if given.ndim != 1 or not np.all(np.abs(given) <= 1 + 1e-6):
        raise PhantomscopeError(
            f"{name} are no list of correlations in [-1, 1]",
            fix="give the scores of `nearest_patch`",
        )
    # A perfect copy would be infinitely far after the transform.
    return np.clip(given, -1 + 1e-9, 1 - 1e-9)


def _upper_share(values: Floats, descending: Floats) -> Floats:
    """Return the share of each value and the reference that is at least the value."""
    above = np.searchsorted(-descending, -values, side="right")
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


@dataclass(frozen=True)
class Audit:
    """What a generator's samples have in common with its training images.

    Attributes
    ----------
    samples, held_out : NearestPatch
        The training patch next to each sample, and to each held-out real patch.
    alarm : Alarm
        The samples that are flagged, with `held_out` as the baseline.
    gap : Interval
        Mean score of the samples minus that of held-out real patches, both with the
        training patches; above 0 the samples are nearer to them than real images are.
        Samples and held-out groups are drawn anew.
    gap_to_held_out : Interval
        Mean over the samples of the best score with training patches minus that with as
        many held-out ones; above 0 the samples are nearer to what was trained on. It
        tells copies from samples that are near to everything, as smooth ones are.
        Samples are drawn anew.
    """

    samples: NearestPatch
    held_out: NearestPatch
    alarm: Alarm
    gap: Interval
    gap_to_held_out: Interval

    def summary(self) -> dict[str, float | int | str]:
        """Return the figures by name, as one row of a table."""
        found: dict[str, float | int | str] = {}
        for name in ("samples", "held_out"):
            scores = getattr(self, name).score
            found[f"{name}_n"] = len(scores)
            found[f"{name}_mean"] = float(scores.mean())
            found[f"{name}_max"] = float(scores.max())
        for name in ("gap", "gap_to_held_out"):
            gap: Interval = getattr(self, name)
            found |= {name: gap.value, f"{name}_low": gap.low, f"{name}_high": gap.high}
        found["flagged"] = int(self.alarm.flagged.sum())
        return found | {"limit": self.alarm.limit, "rule": self.alarm.rule}


def audit(
    samples: ArrayLike,
    training: ArrayLike,
    held_out: ArrayLike,
    *,
    held_out_groups: Sequence[str] | None = None,
    all_shifts: bool = True,
    rate: float = 0.05,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    device: str = "cpu",
) -> Audit:
    """Look for copies of training patches among the samples of a generator.

    Held-out real patches are the baseline: how near an image comes to the training
    patches that cannot be a copy of them (Saguy et al. 2024, Small Methods, take ten
    images of another experiment). They should be cut like the training patches from
    other images of the same kind; few or unlike ones make a poor baseline.

    Parameters
    ----------
    samples : array_like, shape (n_samples, side, side)
        Generated images, real numbers.
    training, held_out : array_like, shape (n_patches, side, side)
        Real patches that the generator was, and was not, trained on.
    held_out_groups : sequence of str, optional
        The image of each held-out patch; patches of one are not independent.
    all_shifts, device
        See `nearest_patch`.
    rate : float, optional
        Probability that any sample is flagged, though none is a copy, see `alarm`.
    resamples, confidence, seed
        See `bootstrap_interval`.

    Returns
    -------
    Audit

    Raises
    ------
    PhantomscopeError
        As for `nearest_patch`, `alarm` and `bootstrap_interval`.
    """
    how: dict[str, Any] = {"all_shifts": all_shifts, "device": device}
    near = nearest_patch(samples, training, **how)
    beside = nearest_patch(held_out, training, **how)
    alarmed = alarm(near.score, beside.score, rate=rate, seed=seed)
    drawn: dict[str, Any] = {
        "resamples": resamples, "confidence": confidence, "seed": seed,
    }  # fmt: skip
    gap = bootstrap_difference(
        near.score.tolist(), beside.score.tolist(), _mean,
        groups_b=held_out_groups, **drawn,
    )  # fmt: skip
    away = nearest_patch(samples, held_out, **how).by_patch
    count = min(near.by_patch.shape[1], away.shape[1])
    nearer = expected_best(near.by_patch, count) - expected_best(away, count)
    own = bootstrap_interval(nearer.tolist(), _mean, **drawn)
    return Audit(near, beside, alarmed, gap, own)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def expected_best(by_patch: ArrayLike, count: int) -> Floats:
    """Return the expected best score with `count` patches drawn from all.

    The best of more patches is better, whatever they are, so scores are compared at an
    equal number. Exact, without drawing: the k-th best of n patches is the best of the
    drawn ones with probability C(n - k, count - 1) / C(n, count).

    Parameters
    ----------
    by_patch : array_like, shape (n_samples, n_patches)
        Scores of `NearestPatch.by_patch`.
    count : int
        Number of patches, in 1, ..., n_patches.

    Returns
    -------
    ndarray of float64, shape (n_samples,)

    Raises
    ------
    PhantomscopeError
        For another `count`.
    """
    descending = np.sort(np.asarray(by_patch, np.float64), axis=1)[:, ::-1]
    n = descending.shape[1]
    if not 1 <= count <= n:
        raise PhantomscopeError(
            f"{count} patches cannot be drawn from {n}", fix=f"use 1 to {n}"
        )
    k = np.arange(1, n - count + 1)
    ratio = (n - k - count + 1) / (n - k)
    chance = count / n * np.concatenate([[1.0], np.cumprod(ratio)])
    best: Floats = descending[:, : len(chance)] @ chance
    return best


def nested_subsets(
    n: int, sizes: Sequence[int], groups: Sequence[str] | None = None, seed: int = 0
) -> list[NDArray[np.intp]]:
    """Return the indices of training sets of several sizes, each within the next.

    Parameters
    ----------
    n : int
        Number of patches.
    sizes : sequence of int
        Numbers of patches to take, in 1, ..., n.
    groups : sequence of str, optional
        The image of each patch; images come one after the other in random order.
    seed : int, optional
        Seed of that order.

    Returns
    -------
    list of ndarray of intp, shape (size,)
        In the order of `sizes`.

    Raises
    ------
    PhantomscopeError
        For another size, or groups of another length.
    """
    names = [str(i) for i in range(n)] if groups is None else list(groups)
    if len(names) != n or any(not 1 <= size <= n for size in sizes):
        raise PhantomscopeError(
            f"sizes {list(sizes)} of {n} patches with {len(names)} groups",
            fix="name one group per patch, and sizes from 1 to their number",
        )
    _, number = np.unique(names, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(number.max() + 1)[number]
    order = np.argsort(rank, kind="stable")
    return [order[:size] for size in sizes]


def sweep(
    generate: Callable[[NDArray[np.intp]], ArrayLike],
    training: ArrayLike,
    held_out: ArrayLike,
    sizes: Sequence[int],
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Audit a generator by the size of its training set.

    Parameters
    ----------
    generate : callable
        Maps the indices of the training patches, those of `nested_subsets`, to samples
        of a generator trained on these patches.
    training, held_out : array_like, shape (n_patches, side, side)
        See `audit`.
    sizes, groups, seed
        See `nested_subsets`.
    **options
        Of `audit`.

    Returns
    -------
    DataFrame
        One row per size: ``training_n`` and `Audit.summary`.

    Raises
    ------
    PhantomscopeError
        As for `nested_subsets` and `audit`.
    """
    patches = np.asarray(training)
    rows = []
    for chosen in nested_subsets(len(patches), sizes, groups, seed):
        found = audit(generate(chosen), patches[chosen], held_out, seed=seed, **options)
        rows.append({"training_n": len(chosen), **found.summary()})
    return pd.DataFrame(rows)

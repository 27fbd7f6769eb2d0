"""Whether a generator copies: samples that are flagged, and gaps with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.alarm import Alarm, alarm, distinctness
from phantomscope.measure.memorisation import NearestPatch, nearest_patch
from phantomscope.measure.statistics import (
    Interval,
    bootstrap_difference,
    bootstrap_interval,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Audit:
    """What a generator's samples have in common with its training images.

    Attributes
    ----------
    samples, held_out : NearestPatch
        The training patch next to each sample, and to each held-out real patch.
    alarm : Alarm
        The samples that stand out more than `held_out`.
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
        As for `nearest_patch`, `distinctness`, `alarm` and `bootstrap_interval`.
    """
    how: dict[str, Any] = {"all_shifts": all_shifts, "device": device}
    near = nearest_patch(samples, training, **how)
    beside = nearest_patch(held_out, training, **how)
    alarmed = alarm(
        distinctness(near.by_patch), distinctness(beside.by_patch), rate=rate, seed=seed
    )
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

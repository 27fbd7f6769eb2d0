"""Bootstrap intervals of statistics of images or objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError

T = TypeVar("T")
# Groups from which on they are resampled; below, their objects are.
FEWEST_GROUPS = 3


@dataclass(frozen=True)
class Interval:
    """A statistic with its percentile bootstrap interval.

    Attributes
    ----------
    value : float
        The statistic of the units as they are.
    low, high : float
        Ends of the interval; NaN where there is a single unit or group to resample.
    n, n_groups : int
        Number of units, and of the groups that were resampled (n without groups).
    """

    value: float
    low: float
    high: float
    n: int
    n_groups: int


def bootstrap_interval(
    units: Sequence[T],
    statistic: Callable[[Sequence[T]], float],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic of the units and its percentile bootstrap interval.

    Units, or whole groups of them, are drawn with replacement, as many as there are
    (Efron & Tibshirani 1993, An Introduction to the Bootstrap, 8.3 and 13.3). The
    interval is too narrow for few groups: read it with `n_groups`.

    Parameters
    ----------
    units : sequence
        What the statistic takes, for example rows of `instance.score_image`.
    statistic : callable
        Maps a sequence of units to a number; the sequence may repeat units.
    groups : sequence of str, optional
        Group of each unit, for example the specimen; units of a group are not
        independent, so they are drawn together.
    resamples : int, optional
        Number of resamples, at least 1.
    confidence : float, optional
        Probability of the interval, in (0, 1).
    seed : int, optional
        Seed of the draws; the same seed gives the same interval.

    Returns
    -------
    Interval
        Resamples in which the statistic is NaN are left out of the percentiles.

    Raises
    ------
    PhantomscopeError
        For no units, groups of another length, or a bad `resamples` or `confidence`.
    """
    _check(units, groups, resamples, confidence)
    members = _members(len(units), groups)
    value = float(statistic(units))
    if len(members) == 1:
        return Interval(value, float("nan"), float("nan"), len(units), 1)
    random = np.random.default_rng(seed)
    found = np.empty(resamples)
    for i in range(resamples):
        found[i] = statistic([units[k] for k in _redrawn(members, random)])
    low, high = percentiles(found, confidence)
    return Interval(value, low, high, len(units), len(members))


def paired_bootstrap_ratio(
    units_a: Sequence[T],
    units_b: Sequence[T],
    statistic: Callable[[Sequence[T]], float],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the interval of statistic(a) / statistic(b) over paired units.

    Each resample draws the same images for both methods, so the variation between
    images that the methods share does not widen the interval.

    Parameters
    ----------
    units_a, units_b : sequence
        ``units_a[i]`` and ``units_b[i]`` are one image measured under two methods.
    statistic : callable
        See `bootstrap_interval`.
    groups, resamples, confidence, seed
        See `bootstrap_interval`.

    Returns
    -------
    Interval
        The ratio, NaN where statistic(b) is 0.

    Raises
    ------
    PhantomscopeError
        If the lengths differ, and as in `bootstrap_interval`.
    """
    if len(units_a) != len(units_b):
        raise PhantomscopeError(
            f"{len(units_a)} units cannot be paired with {len(units_b)}",
            fix="measure the same images under both methods, in the same order",
        )

    def ratio(pairs: Sequence[tuple[T, T]]) -> float:
        below = statistic([b for _, b in pairs])
        return statistic([a for a, _ in pairs]) / below if below else float("nan")

    return bootstrap_interval(
        list(zip(units_a, units_b, strict=True)),
        ratio,
        groups=groups,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )


def bootstrap_difference(
    units_a: Sequence[T],
    units_b: Sequence[T],
    statistic: Callable[[Sequence[T]], float],
    *,
    groups_a: Sequence[str] | None = None,
    groups_b: Sequence[str] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the interval of statistic(a) - statistic(b) over independent sets.

    Each set is drawn anew by itself (Efron & Tibshirani 1993, 8.3).

    Parameters
    ----------
    units_a, units_b : sequence
        Units of two sets, of any numbers.
    statistic : callable
        See `bootstrap_interval`.
    groups_a, groups_b : sequence of str, optional
        Group of each unit.
    resamples, confidence, seed
        See `bootstrap_interval`.

    Returns
    -------
    Interval
        `n` and `n_groups` are those of the set with fewer groups.

    Raises
    ------
    PhantomscopeError
        As in `bootstrap_interval`, for either set.
    """
    sets = ((units_a, groups_a), (units_b, groups_b))
    for units, groups in sets:
        _check(units, groups, resamples, confidence)
    members = [_members(len(units), groups) for units, groups in sets]
    n_groups, n = min((len(m), len(u)) for m, (u, _) in zip(members, sets, strict=True))
    value = float(statistic(units_a)) - float(statistic(units_b))
    if n_groups == 1:
        return Interval(value, float("nan"), float("nan"), n, 1)
    random = np.random.default_rng(seed)
    found = np.empty(resamples)
    for i in range(resamples):
        a, b = (
            statistic([units[k] for k in _redrawn(own, random)])
            for (units, _), own in zip(sets, members, strict=True)
        )
        found[i] = a - b
    low, high = percentiles(found, confidence)
    return Interval(value, low, high, n, n_groups)


def _redrawn(
    members: list[NDArray[np.intp]], random: np.random.Generator
) -> NDArray[np.intp]:
    """Draw as many groups as there are, and return the indices of their units."""
    drawn = random.integers(len(members), size=len(members))
    return np.concatenate([members[group] for group in drawn])


def _check(
    units: Sequence[Any],
    groups: Sequence[str] | None,
    resamples: int,
    confidence: float,
) -> None:
    if len(units) == 0:
        raise PhantomscopeError("there are no units to resample", fix="give some")
    if groups is not None and len(groups) != len(units):
        raise PhantomscopeError(
            f"{len(units)} units have {len(groups)} groups",
            fix="name one group per unit",
        )
    check_bootstrap(resamples, confidence)


def check_bootstrap(resamples: int, confidence: float) -> None:
    """Refuse a bootstrap without resamples, or without a proper confidence."""
    if resamples < 1 or not 0 < confidence < 1:
        raise PhantomscopeError(
            f"bad bootstrap: resamples {resamples}, confidence {confidence}",
            fix="use at least 1 resample and a confidence in (0, 1)",
            example="resamples: 1000\nconfidence: 0.95",
        )


def _members(n: int, groups: Sequence[str] | None) -> list[NDArray[np.intp]]:
    """Return the unit indices of each group, groups in order of first appearance."""
    if groups is None:
        return [np.array([i]) for i in range(n)]
    found: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group, []).append(i)
    return [np.array(indices) for indices in found.values()]


def percentiles(found: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the ends of the middle share of values, without those that are NaN."""
    kept = found[~np.isnan(found)]
    if kept.size == 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return float(low), float(high)

"""Whether profiles of wells find those that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks
from phantomscope.measure.statistics import Interval, bootstrap_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Retrieval:
    """Mean average precision of a retrieval.

    Attributes
    ----------
    interval : Interval
        The mean, with a bootstrap interval over labels (compounds).
    chance : float
        What a random order would give on average.
    n_left_out : int
        Profiles without another one of their label.
    """

    interval: Interval
    chance: float
    n_left_out: int


def standardised(
    profiles: pd.DataFrame, reference: ArrayLike | None = None
) -> pd.DataFrame:
    """Bring features to one scale, without which cosines follow the largest ones.

    Parameters
    ----------
    profiles : pandas.DataFrame
        One row per well, one column per feature.
    reference : array_like of bool, optional
        Rows whose mean becomes 0 and standard deviation 1, such as untreated wells;
        all by default.

    Returns
    -------
    pandas.DataFrame
        Without features that are not finite everywhere or constant in the reference.

    Raises
    ------
    PhantomscopeError
        If no feature is left.
    """
    chosen = np.ones(len(profiles), bool)
    if reference is not None:
        chosen = np.asarray(reference, bool)
    values = profiles.to_numpy(float)
    with np.errstate(invalid="ignore"):
        mean, spread = values[chosen].mean(0), values[chosen].std(0)
        large = np.abs(values[chosen]).max(axis=0, initial=0)
        kept = np.isfinite(values).all(0) & (spread > 1e-9 * large)
    if not kept.any():
        raise PhantomscopeError(
            "no feature is defined for all profiles and varies",
            fix="leave out wells without objects",
        )
    scaled = (values[:, kept] - mean[kept]) / spread[kept]
    return pd.DataFrame(scaled, profiles.index, profiles.columns[kept])


def replicate_map(
    profiles: ArrayLike,
    labels: Sequence[str],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Retrieval:
    """Return how well each profile finds the others of its label, by cosine.

    The average precision of a profile is the mean, over the others of its label, of
    the share of them among all that are as similar or more. Equal similarities count
    against it.

    Parameters
    ----------
    profiles : array_like, shape (n, features)
        Profiles of wells: see `standardised`.
    labels : sequence of str
        Compound of each; those that occur once are in the way, and are not asked for.
    resamples, confidence, seed
        See `bootstrap_interval`.

    Returns
    -------
    Retrieval
        ``n`` of the interval is the number of profiles asked for.

    Raises
    ------
    PhantomscopeError
        If there are no replicates, or a profile is not finite or all zero.
    """
    unit = _unit(profiles, "profiles")
    names = np.asarray(labels)
    if len(names) != len(unit):
        raise PhantomscopeError(
            f"{len(unit)} profiles have {len(names)} labels", fix="give one each"
        )
    same = names[:, None] == names
    np.fill_diagonal(same, False)
    asked = np.flatnonzero(same.any(1))
    if not asked.size:
        raise PhantomscopeError(
            "no label has two profiles", fix="give replicates of compounds"
        )
    others = ~np.eye(len(unit), dtype=bool)
    similar = _cosines(unit, unit)
    found = [
        _average_precision(similar[i, others[i]], same[i, others[i]]) for i in asked
    ]
    interval = bootstrap_interval(
        found, lambda units: float(np.mean(units)), groups=names[asked].tolist(),
        resamples=resamples, confidence=confidence, seed=seed,
    )  # fmt: skip
    chance = [_chance(len(unit) - 1, int(same[i].sum())) for i in asked]
    return Retrieval(interval, float(np.mean(chance)), len(unit) - asked.size)


def retrieval_of_real(synthetic: ArrayLike, real: ArrayLike) -> NDArray[np.int64]:
    """Return the rank of each synthetic profile's real one among all real ones.

    Parameters
    ----------
    synthetic, real : array_like, shape (n, features)
        Row i of both is one well, standardised alike.

    Returns
    -------
    ndarray of int64, shape (n,)
        1 if no other real profile is as similar (cosine); equals count against it. By
        chance (n + 1) / 2 on average.

    Raises
    ------
    PhantomscopeError
        If the shapes differ, or a profile is not finite or all zero.
    """
    first, second = _unit(synthetic, "synthetic"), _unit(real, "real")
    checks.same_shape(first, second, ("synthetic", "real"))
    similar = _cosines(first, second)
    return np.asarray((similar >= np.diag(similar)[:, None]).sum(1), np.int64)


def _cosines(first: Floats, second: Floats) -> Floats:
    """Cosines of unit rows; rounded, so that equal profiles are equally similar."""
    return np.round(first @ second.T, 12)


def _unit(profiles: ArrayLike, name: str) -> Floats:
    values = checks.finite(profiles, name, ndim=(2,))
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if (length == 0).any():
        raise PhantomscopeError(
            f"{name} hold one that is all zero, which has no direction",
            fix="standardise by a reference that is not this well alone",
        )
    return np.asarray(values / length)


def _average_precision(similar: Floats, wanted: NDArray[np.bool_]) -> float:
    """Sort by similarity, equals with the wanted last."""
    order = np.lexsort((wanted, -similar))
    hits = wanted[order]
    return float((np.cumsum(hits) / np.arange(1, hits.size + 1))[hits].mean())


def _chance(n: int, wanted: int) -> float:
    """Average precision of a random order of n with so many wanted, on average.

    At place k stands a wanted one with probability R/n, and among the k - 1 before it
    are then (k - 1) (R - 1) / (n - 1) more.
    """
    k = np.arange(1, n + 1)
    more = (k - 1) * (wanted - 1) / max(n - 1, 1)
    return float(((1 + more) / k).sum() / n)

"""How well an assay tells its controls apart: wells are the units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.statistics import Interval, check_bootstrap, percentiles

Floats = NDArray[np.float64]


def _wells(values: ArrayLike, name: str) -> Floats:
    found = np.asarray(values, np.float64).ravel()
    if found.size < 2 or not np.isfinite(found).all():
        raise PhantomscopeError(
            f"{found.size} {name} wells do not give a spread, or some have no value",
            fix="give a value for each of at least two wells",
        )
    return found


def sum_by_well(values: ArrayLike, wells: Sequence[str]) -> dict[str, float]:
    """Add values of sites up, by well, in order of first appearance."""
    found = np.asarray(values, np.float64).ravel()
    if found.size != len(wells):
        raise PhantomscopeError(
            f"{found.size} values have {len(wells)} wells",
            fix="name one well per value",
        )
    totals: dict[str, float] = {}
    for well, value in zip(wells, found, strict=True):
        totals[well] = totals.get(well, 0.0) + float(value)
    return totals


def z_prime(positive: ArrayLike, negative: ArrayLike) -> float:
    """Return Z' = 1 - 3 (s_p + s_n) / |m_p - m_n| of two controls.

    Zhang, Chung & Oldenburg 1999 (J Biomol Screen 4:67). s are population standard
    deviations, as in Javer & Rittscher; who divides by n - 1 gets smaller values.

    Parameters
    ----------
    positive, negative : array_like, shape (n,), (m,)
        A value for each well, such as its count of cells.

    Returns
    -------
    float
        At most 1; -inf of equal means.
    """
    a, b = _wells(positive, "positive"), _wells(negative, "negative")
    apart = abs(a.mean() - b.mean())
    return float(1 - 3 * (a.std() + b.std()) / apart) if apart else float("-inf")


def compare_controls(
    positive: ArrayLike, negative: ArrayLike, *, resamples: int = 1000,
    confidence: float = 0.95, seed: int = 0,
) -> tuple[Interval, dict[str, float]]:  # fmt: skip
    """Return Z' with its interval over wells, and tests between the controls.

    Parameters
    ----------
    positive, negative : array_like, shape (n,), (m,)
        A value for each well; at least two each.
    resamples, confidence, seed
        As in `bootstrap_interval`; each control's wells are drawn among themselves.

    Returns
    -------
    Interval
        Z'; resamples of equal means are left out. `n` are all wells.
    dict
        Two-sided p-values over wells, ``student_t`` (equal variances, as in the paper)
        and ``welch_t``; NaN where nothing varies. ``difference`` of the means.
    """
    a, b = _wells(positive, "positive"), _wells(negative, "negative")
    check_bootstrap(resamples, confidence)
    random = np.random.default_rng(seed)
    found = np.array([
        z_prime(random.choice(a, a.size), random.choice(b, b.size))
        for _ in range(resamples)
    ])  # fmt: skip
    found[np.isinf(found)] = np.nan
    low, high = percentiles(found, confidence)
    varies = np.ptp(a) + np.ptp(b) > 0
    tests = {
        name: float(stats.ttest_ind(a, b, equal_var=equal).pvalue)
        if varies
        else float("nan")
        for name, equal in (("student_t", True), ("welch_t", False))
    }
    tests["difference"] = float(a.mean() - b.mean())
    total = a.size + b.size
    return Interval(z_prime(a, b), low, high, total, total), tests

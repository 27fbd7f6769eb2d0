"""Tests of two methods on the same images, with biological groups as units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.statistics import FEWEST_GROUPS

Floats = NDArray[np.float64]

# All are two-sided.
TESTS: dict[str, Callable[[Floats, Floats], float]] = {
    "paired_t": lambda a, b: scipy.stats.ttest_rel(a, b).pvalue,
    "student_t": lambda a, b: scipy.stats.ttest_ind(a, b).pvalue,
    "welch_t": lambda a, b: scipy.stats.ttest_ind(a, b, equal_var=False).pvalue,
    "wilcoxon": lambda a, b: scipy.stats.wilcoxon(a, b).pvalue,
}


def compare_methods(
    first: ArrayLike, second: ArrayLike, groups: Sequence[str]
) -> dict[str, float]:
    """Test whether two methods differ, over the means of groups.

    Images of a group are not independent: thousands of them make any difference
    significant. So each group gives one value per method.

    Parameters
    ----------
    first, second : array_like, shape (n,)
        A score of each image under both methods. Images where either is NaN are left
        out of both.
    groups : sequence of str
        Group (well) of each image.

    Returns
    -------
    dict
        Two-sided p-values ``paired_t``, ``student_t`` (two samples, equal variances),
        ``welch_t`` and ``wilcoxon`` (signed ranks); NaN with fewer than 3 groups, or
        where nothing varies. Next, ``student_t_images``: the same over images, which
        is what CellResDM seems to do and is far too sure. ``difference``, first minus
        second, mean over groups; ``n_groups`` and ``n``, used groups and images.

    Raises
    ------
    PhantomscopeError
        If the lengths differ.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(groups) != a.size:
        raise PhantomscopeError(
            f"scores of shapes {a.shape} and {b.shape} and {len(groups)} groups do "
            "not go together",
            fix="give the same images in the same order, and a group for each",
        )
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    names, at = np.unique(np.asarray(groups, dtype=str)[known], return_inverse=True)
    sizes = np.bincount(at, minlength=names.size)
    mean_a, mean_b = (np.bincount(at, v, names.size) / sizes for v in (a, b))
    enough = names.size >= FEWEST_GROUPS
    found = {
        name: _p_value(test, mean_a, mean_b) if enough else float("nan")
        for name, test in TESTS.items()
    }
    found["student_t_images"] = (
        _p_value(TESTS["student_t"], a, b) if enough else float("nan")
    )
    difference = float((mean_a - mean_b).mean()) if names.size else float("nan")
    return found | {
        "difference": difference, "n_groups": float(names.size), "n": float(a.size),
    }  # fmt: skip


def _p_value(test: Callable[[Floats, Floats], float], a: Floats, b: Floats) -> float:
    apart = a - b
    # Without a difference there is nothing to rank; without any spread no test.
    scale = 1e-12 * max(np.abs(a).max(), np.abs(b).max())
    if test is TESTS["wilcoxon"] and (np.abs(apart) <= scale).all():
        return float("nan")
    spread = np.ptp(apart) if test is TESTS["paired_t"] else np.ptp(a) + np.ptp(b)
    if test is not TESTS["wilcoxon"] and spread <= scale:
        return float("nan")
    return float(test(a, b))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values of several rivals (Holm 1979).

    Parameters
    ----------
    p_values : mapping
        By rival; NaN are no tests: they stay and do not count.

    Returns
    -------
    dict
        Adjusted p-values, in the order given: below the level, the rival differs, and
        the chance of any error among all is below it.

    Raises
    ------
    PhantomscopeError
        If a value is outside 0 ... 1.
    """
    bad = {k: p for k, p in p_values.items() if not (np.isnan(p) or 0 <= p <= 1)}
    if bad:
        raise PhantomscopeError(f"no p-values: {bad}", fix="give values of 0 to 1")
    tests = sorted((p, i) for i, p in enumerate(p_values.values()) if not np.isnan(p))
    found, largest = [float("nan")] * len(p_values), 0.0
    for rank, (p, i) in enumerate(tests):
        largest = max(largest, min(1.0, p * (len(tests) - rank)))
        found[i] = largest
    return dict(zip(p_values, found, strict=True))

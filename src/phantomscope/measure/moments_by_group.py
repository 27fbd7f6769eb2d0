"""Correlations of features from what each group adds: no table is held whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.features import category_of
from phantomscope.measure.statistics import check_bootstrap, percentiles

Floats = NDArray[np.float64]
FEWEST_UNITS = 3
# Of a feature in units of its spread: smaller variances are rounding.
CONSTANT = 1e-9
# Resamples whose sums are held at once.
BATCH = 100


@dataclass(frozen=True, eq=False)
class Moments:
    """What the correlations of features over units need to know of each group.

    Attributes
    ----------
    groups : tuple of str
        Names of the groups, ascending.
    columns : tuple of str
        Names of the features.
    values : ndarray, shape (6, groups, features)
        Number of units where both values are finite, mean of x and of y, sums of the
        squared deviations of x and of y from these, and of their products.
    """

    groups: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats

    @classmethod
    def of(
        cls, first: pd.DataFrame, second: pd.DataFrame, groups: ArrayLike
    ) -> Moments:
        """Take the moments of paired units.

        Parameters
        ----------
        first, second : pandas.DataFrame
            Row i of both is one unit; the columns are features, the same in both.
        groups : array_like, shape (n,)
            Group of each unit.

        Raises
        ------
        PhantomscopeError
            If the tables do not go together.
        """
        columns = tuple(map(str, first.columns))
        if set(columns) != set(map(str, second.columns)) or len(first) != len(second):
            raise PhantomscopeError(
                "units of two tables do not pair, or have other features",
                fix="give the same units in the same order",
            )
        x = first.to_numpy(float)
        y = second[list(columns)].to_numpy(float)
        names, at = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        known = np.isfinite(x) & np.isfinite(y)
        shape = (names.size, len(columns))
        n = _grouped(known.astype(float), at, shape)
        means = [
            _grouped(np.where(known, v, 0), at, shape) / np.maximum(n, 1)
            for v in (x, y)
        ]
        dx, dy = (
            np.where(known, v - mean[at], 0)
            for v, mean in zip((x, y), means, strict=True)
        )
        spreads = [_grouped(v, at, shape) for v in (dx * dx, dy * dy, dx * dy)]
        return cls(tuple(names.tolist()), columns, np.stack([n, *means, *spreads]))

    @classmethod
    def paired(
        cls, first: pd.DataFrame, second: pd.DataFrame, groups: pd.Series[Any]
    ) -> Moments:
        """Take the moments of the units that both tables know.

        Parameters
        ----------
        first, second : pandas.DataFrame
            One row per unit, named by the index; the columns are features. One that
            only one table has is undefined in the other.
        groups : pandas.Series
            Group of each unit of `first`.

        Raises
        ------
        PhantomscopeError
            If a unit occurs twice in a table.
        """
        if not (first.index.is_unique and second.index.is_unique):
            raise PhantomscopeError(
                "a unit occurs twice", fix="give units names of their own"
            )
        both = first.index.intersection(second.index)
        columns = first.columns.union(second.columns, sort=False)
        return cls.of(
            first.loc[both].reindex(columns=columns),
            second.loc[both].reindex(columns=columns),
            groups.loc[both].to_numpy(),
        )

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """Put parts together: of other groups, or of other features.

        Raises
        ------
        PhantomscopeError
            If two parts know of the same feature in the same group.
        """
        groups = sorted({name for part in parts for name in part.groups})
        columns = list(dict.fromkeys(name for part in parts for name in part.columns))
        row, column = pd.Index(groups), pd.Index(columns)
        values = np.zeros((6, len(groups), len(columns)))
        for part in parts:
            at = np.ix_(
                range(6), row.get_indexer(part.groups),
                column.get_indexer(part.columns),
            )  # fmt: skip
            if (values[at][0] * part.values[0]).any():
                raise PhantomscopeError(
                    "two parts hold the same group", fix="divide units by their groups"
                )
            values[at] += part.values
        return cls(tuple(groups), tuple(columns), values)

    def of_groups(self, wanted: Collection[str]) -> Moments:
        """Keep some groups."""
        kept = [name in wanted for name in self.groups]
        names = tuple(n for n, keep in zip(self.groups, kept, strict=True) if keep)
        return Moments(names, self.columns, self.values[:, kept])

    @property
    def units(self) -> int:
        """Number of units, where most have a value."""
        return int(self.values[0].sum(0).max(initial=0))

    def sums(self) -> Floats:
        """Sum 1, x, y, xx, yy, xy over each group; shape (6, groups, features).

        Values are centred and scaled first, by what all groups have together: this
        changes no correlation, and keeps digits.
        """
        n, *means = self.values[:3]
        total = np.maximum(n.sum(0), 1)
        parts = [n]
        centred, scales = [], []
        for mean, spread in zip(means, self.values[3:5], strict=True):
            whole = (n * mean).sum(0) / total
            apart = mean - whole
            deviation = np.sqrt((spread + n * apart**2).sum(0) / total)
            steady = deviation <= CONSTANT * np.hypot(whole, deviation)
            centred.append(np.where(n > 0, apart, 0))
            scales.append(np.where(steady, np.inf, deviation))
        for apart, scale in zip(centred, scales, strict=True):
            parts.append(n * apart / scale)
        for (i, j), spread in zip(
            ((0, 0), (1, 1), (0, 1)), self.values[3:], strict=True
        ):
            whole = spread + n * centred[i] * centred[j]
            parts.append(whole / (scales[i] * scales[j]))
        return np.stack(parts)


def _grouped(values: Floats, at: NDArray[Any], shape: tuple[int, int]) -> Floats:
    found = np.zeros(shape)
    np.add.at(found, at, values)
    return found


def category_correlations(
    repeats: Sequence[Moments],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlate each feature, and average over the features of each category.

    Parameters
    ----------
    repeats : sequence of Moments
        Of the same groups and features, such as one for each training: their
        correlations are averaged, in each resample as well.
    resamples, confidence, seed
        Of the percentile bootstrap over groups, see `bootstrap_interval`.

    Returns
    -------
    pandas.DataFrame
        One row per category: ``category``, ``value`` (Pearson's correlation, mean over
        its features), ``low`` and ``high`` (NaN for a single group), ``n_features`` in
        the mean, ``n_left_out`` (constant in either set, or with under 3 units where
        both are defined; in any repeat), ``n`` units (the fewest of all repeats),
        ``n_groups``.

    Raises
    ------
    PhantomscopeError
        If the repeats are of other groups or features.
    """
    check_bootstrap(resamples, confidence)
    groups, columns = repeats[0].groups, repeats[0].columns
    if any((one.groups, one.columns) != (groups, columns) for one in repeats):
        raise PhantomscopeError(
            "repeats have other groups or features",
            fix="measure the same images each time",
        )
    sums = [one.sums() for one in repeats]
    whole = [_pearson(one.sum(1)[:, None])[0] for one in sums]
    of = np.array([category_of(name) for name in columns])
    kept = {
        name: np.flatnonzero((of == name) & ~np.isnan(whole).any(0))
        for name in sorted(set(of))
    }
    drawn = _drawn(sums, kept, resamples, seed)
    rows = []
    for at, (name, features) in enumerate(kept.items()):
        low, high = percentiles(drawn[:, at], confidence)
        value = np.mean([_means(one[None, features])[0] for one in whole])
        rows.append({
            "category": name, "value": float(value), "low": low, "high": high,
            "n_features": len(features),
            "n_left_out": int((of == name).sum()) - len(features),
            "n": min(one.units for one in repeats), "n_groups": len(groups),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _drawn(
    repeats: Sequence[Floats], kept: dict[str, NDArray[np.intp]], resamples: int,
    seed: int,
) -> Floats:  # fmt: skip
    """Redraw groups; return the value of each category, shape (resamples, kinds)."""
    n_groups = repeats[0].shape[1]
    found = np.full((resamples, len(kept)), np.nan)
    if n_groups < 2:
        return found
    random = np.random.default_rng(seed)
    draws = random.integers(n_groups, size=(resamples, n_groups))
    counts = np.stack([np.bincount(d, minlength=n_groups) for d in draws])
    for first in range(0, resamples, BATCH):
        part = counts[first : first + BATCH].astype(float)
        values = [_pearson(np.matmul(part, sums)) for sums in repeats]
        for at, features in enumerate(kept.values()):
            means = [_means(one[:, features]) for one in values]
            found[first : first + BATCH, at] = np.mean(means, axis=0)
    return found


def _pearson(sums: Floats) -> Floats:
    """Correlate from sums (6, R, features); NaN where too few or constant."""
    n, x, y, xx, yy, xy = sums
    few = n < FEWEST_UNITS
    n = np.maximum(n, 1)
    varied = np.maximum(xx / n - (x / n) ** 2, 0) * np.maximum(yy / n - (y / n) ** 2, 0)
    found = np.full(n.shape, np.nan)
    fine = ~few & (varied > CONSTANT**2)
    np.divide(xy / n - x * y / n**2, np.sqrt(varied), out=found, where=fine)
    return np.clip(found, -1, 1)


def _means(values: Floats) -> Floats:
    """Mean of each row without NaN; NaN for none."""
    known = ~np.isnan(values)
    number = known.sum(1)
    total = np.where(known, values, 0).sum(1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)

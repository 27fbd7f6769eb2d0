"""Scores of draws and of what became of them, and how they change, by sketch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from phantomscope.measure.statistics import Interval, paired_bootstrap_ratio

SCORES = (
    "objects", "phantoms", "phantom_light", "vanished", "lost", "light", "dice"
)  # fmt: skip


def with_chosen(table: pd.DataFrame, most: float) -> pd.DataFrame:
    """Add the methods that choose among the draws as they are.

    ``best`` takes of each sketch the draw with the fewest phantoms (of several the one
    that agrees best with its labels); ``dropped`` keeps those that the check of the
    workflow would keep for their phantoms: at most so many for each object.
    """
    none = table[table["method"] == "none"]
    order = none.sort_values(["phantoms", "dice"], ascending=[True, False])
    best = order.groupby("sketch").head(1).assign(method="best")
    kept = none[none["phantoms"] <= most * none["objects"]].assign(method="dropped")
    return pd.concat([table, best, kept], ignore_index=True)


def sums(table: pd.DataFrame, method: str, names: Sequence[str]) -> pd.DataFrame:
    """Return the sums over the draws of each sketch; nothing where none is left."""
    every = sorted(table["sketch"].unique())
    own = table[table["method"] == method].groupby("sketch")[list(names)].sum()
    return own.reindex(every, fill_value=0)


def changed(
    table: pd.DataFrame, method: str, score: str, resamples: int = 500
) -> Interval:
    """Return a score per object after over before, with its interval over sketches."""
    after, before = (
        sums(table, name, (score, "objects")).to_numpy(float)
        for name in (method, "none")
    )

    def per_object(units: Sequence[Any]) -> float:
        total = np.sum(units, axis=0)
        return float(total[0] / total[1]) if total[1] else float("nan")

    return paired_bootstrap_ratio(
        list(after), list(before), per_object, resamples=resamples
    )

"""Rows of profiles: agreement of features by category, and retrieval of replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.features import (
    UNPUBLISHED,
    category_of,
    feature_columns,
)
from phantomscope.measure.features_objects import CATEGORIES
from phantomscope.measure.moments_by_group import (
    FEWEST_UNITS,
    Moments,
    category_correlations,
)
from phantomscope.measure.retrieval import replicate_map, standardised

Level = Literal["object", "site", "well"]
NAN = float("nan")


def groups_of_lines(wells: pd.DataFrame) -> dict[str, set[str]]:
    """Return the groups of each cell line; of all cells by themselves if none has one.

    Parameters
    ----------
    wells : pandas.DataFrame
        With ``group`` and ``cell_line``, which may be empty.
    """
    if not len(wells):
        return {"": set()}
    return {
        str(line): set(part["group"].astype(str))
        for line, part in wells.groupby("cell_line")
    }


def category_rows(
    repeats: Sequence[Moments], lines: Mapping[str, set[str]], level: Level,
    **drawn: Any,
) -> pd.DataFrame:  # fmt: skip
    """Correlate the features of each category within each cell line.

    Parameters
    ----------
    repeats : sequence of Moments
        See `category_correlations`; empty if there are no units.
    lines : mapping of str to set of str
        Groups of each cell line.
    level : {"object", "site", "well"}
        What a unit is.
    **drawn
        Resamples, confidence and seed.

    Returns
    -------
    pandas.DataFrame
        Of `category_correlations`, with ``cell_line``, ``level`` and ``reason``: why
        there is no value, else empty. All categories are there, but for ``Count``,
        which an object does not have.
    """
    wanted = [
        name for name in (*CATEGORIES, *UNPUBLISHED)
        if (level, name) != ("object", "Count")
    ]  # fmt: skip
    tables = []
    for line, groups in lines.items():
        own = [one.of_groups(groups) for one in _alike(repeats)]
        found = pd.DataFrame({"category": []})
        if own and own[0].groups:
            found = category_correlations(own, **drawn)
        table = pd.DataFrame({"category": wanted}).merge(found, how="left")
        table = table.reindex(columns=[
            "category", "value", "low", "high", "n_features", "n_left_out", "n",
            "n_groups",
        ])  # fmt: skip
        counts = ["n_features", "n_left_out", "n", "n_groups"]
        table[counts] = table[counts].fillna(0).astype(int)
        table["reason"] = [_why(row, level) for row in table.to_dict("records")]
        tables.append(table.assign(cell_line=line, level=level))
    return pd.concat(tables, ignore_index=True)


def _alike(repeats: Sequence[Moments]) -> list[Moments]:
    """Give all repeats the groups and features of any: some found no objects."""
    if not repeats:
        return []
    groups = tuple(sorted({name for one in repeats for name in one.groups}))
    columns = tuple(dict.fromkeys(name for one in repeats for name in one.columns))
    empty = Moments(groups, columns, np.zeros((6, len(groups), len(columns))))
    return [Moments.joined([empty, one]) for one in repeats]


def _why(row: Mapping[str, Any], level: Level) -> str:
    if not np.isnan(row["value"]):
        return ""
    if not row["n_left_out"]:
        return f"no {level} has such features on both stains"
    if row["n"] < FEWEST_UNITS:
        return f"{row['n']} {level}s on both stains, {FEWEST_UNITS} are needed"
    return f"these features are constant or undefined over the {level}s"


def retrieval_rows(
    repeats: Sequence[pd.DataFrame], control: str, **drawn: Any
) -> pd.DataFrame:
    """Retrieve replicates of compounds by the profiles of wells, within a cell line.

    Parameters
    ----------
    repeats : sequence of pandas.DataFrame
        One row per well, with ``group``, ``plate``, ``compound``, ``cell_line`` and
        features; one table per training, of the same wells. Values, and ends of
        intervals, are averaged over them.
    control : str
        What wells without a compound are called. They help to standardise, and are not
        retrieved.
    **drawn
        Resamples, confidence and seed.

    Returns
    -------
    pandas.DataFrame
        One row per cell line: ``cell_line``; ``value`` (mean average precision, see
        `replicate_map`), ``low``, ``high``, ``chance``, ``n`` profiles asked for,
        ``n_groups`` compounds, and ``reason``: why there is no value, else empty.
    """
    rows = []
    for line in groups_of_lines(repeats[0]):
        found: list[dict[str, Any]] = []
        row: dict[str, Any] = {"reason": ""}
        for wells in repeats:
            own = wells[wells["cell_line"] == line] if len(wells) else wells
            try:
                found.append(_retrieved(own, control, drawn))
            except PhantomscopeError as error:
                row = {"reason": error.what}
                break
        else:
            for name in ("value", "low", "high", "chance", "n", "n_groups"):
                row[name] = float(np.mean([one[name] for one in found]))
        rows.append({
            "cell_line": line, "value": NAN, "low": NAN, "high": NAN, "chance": NAN,
            "n": 0, "n_groups": 0, **row,
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.astype({"n": int, "n_groups": int})


def _retrieved(
    wells: pd.DataFrame, control: str, drawn: Mapping[str, Any]
) -> dict[str, Any]:
    """Retrieve within one cell line.

    Features are brought to mean 0 and deviation 1 of each plate; those of places in
    the image tell nothing of a compound and are left out. So are wells without objects.
    """
    compounds = wells["compound"][~wells["compound"].isin(["", control])]
    if not compounds.duplicated().any():
        raise PhantomscopeError(
            "no compound has two wells" if len(compounds) else "no well has a compound",
            fix="give replicates of compounds",
        )
    columns = [c for c in feature_columns(wells) if category_of(c) != "Location"]
    counts = [c for c in columns if category_of(c) == "Count"]
    wells = wells[(wells[counts] > 0).all(axis=1)]
    parts = [
        (part, standardised(part[columns]))
        for _, part in wells.groupby("plate")
        if len(part) >= FEWEST_UNITS
    ]
    if not parts:
        raise PhantomscopeError(
            f"no plate has {FEWEST_UNITS} wells with objects", fix="give more wells"
        )
    shared = [c for c in columns if all(c in scaled for _, scaled in parts)]
    names = pd.concat([part["compound"] for part, _ in parts]).to_numpy(str)
    values = np.concatenate([scaled[shared].to_numpy() for _, scaled in parts])
    asked = ~np.isin(names, ["", control])
    found = replicate_map(values[asked], names[asked].tolist(), **drawn)
    one = found.interval
    return {
        "value": one.value, "low": one.low, "high": one.high, "n": one.n,
        "n_groups": one.n_groups, "chance": found.chance,
    }  # fmt: skip

"""How well features of cells on predicted stains agree with those on real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from phantomscope.config.model import Config
from phantomscope.config.translation import ALL_METHODS
from phantomscope.measure.statistics import Interval
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.paper import markdown
from phantomscope.tables.results import ResultRow, with_interval
from phantomscope.tables.translation import TITLES, RowMaker

CORRELATION = "feature_correlation"
RETRIEVAL, CHANCE = "replicate_map", "replicate_map_chance"
METRICS = (CORRELATION, RETRIEVAL, CHANCE)
WAYS = {"found": "found objects", "true": "true objects"}
ALL_CELLS = "all cells"
REAL = "real"
# Between the parts of a condition.
COMMA = ", "


def levels(config: Config) -> dict[str, str]:
    """Return what each level of features is called in rows; blocks stand for sites."""
    site = "blocks" if config.translate.blocks else "sites"
    return {"object": "objects", "site": site, "well": "wells"}


def profile_rows(root: Path, config: Config) -> list[ResultRow]:
    """Return agreement of features and retrieval of replicates, of all methods.

    Parameters
    ----------
    root : Path
        Folder of the experiment.
    config : Config
        Its config.

    Returns
    -------
    list of ResultRow
        ``feature_correlation`` with conditions such as ``Texture, U2OS, sites, found
        objects``, intervals over wells (blocks); then ``replicate_map``, such as
        ``U2OS, found objects``, of each method and of real stains (method ``real``),
        intervals over compounds, with ``replicate_map_chance``. A value of NaN has the
        reason for its source.

    Raises
    ------
    PhantomscopeError
        If a table is missing or broken.
    """
    options, maker = config.translate, RowMaker(config)
    found: list[ResultRow] = []
    again: dict[str, ResultRow] = {}
    for way in options.profiled:
        for method in (m for m in ALL_METHODS if m in options.methods):
            folder = Path("profile_scores") / method / way
            table = read_table(Path(root) / folder / "correlations.csv")
            found += [
                _correlation_row(maker, record, folder)
                for record in table.to_dict("records")
            ]
            table = read_table(Path(root) / folder / "retrieval.csv")
            for record in table.to_dict("records"):
                for row in _retrieval_rows(maker, record, folder):
                    # Real profiles stand in the tables of all methods.
                    again.setdefault(row.id, row)
    return [*found, *again.values()]


def _interval(record: Mapping[str, Any]) -> Interval:
    return Interval(
        record["value"], record["low"], record["high"], int(record["n"]),
        int(record["n_groups"]),
    )  # fmt: skip


def _source(record: Mapping[str, Any], path: Path) -> str:
    return str(record["reason"]) if math.isnan(record["value"]) else path.as_posix()


def _line(record: Mapping[str, Any]) -> str:
    line = record["cell_line"]
    return line if isinstance(line, str) and line else ALL_CELLS


def _correlation_row(
    maker: RowMaker, record: Mapping[str, Any], folder: Path
) -> ResultRow:
    level = levels(maker.config)[record["level"]]
    condition = COMMA.join(
        (record["category"], _line(record), level, record["objects"])
    )
    return maker.row(
        CORRELATION, condition, record["method"], _interval(record),
        _source(record, folder / "correlations.csv"),
    )  # fmt: skip


def _retrieval_rows(
    maker: RowMaker, record: Mapping[str, Any], folder: Path
) -> list[ResultRow]:
    # Real stains have real objects, whatever those of predicted stains are.
    way = WAYS["true"] if record["source"] == REAL else record["objects"]
    condition = COMMA.join((_line(record), way))
    source, interval = _source(record, folder / "retrieval.csv"), _interval(record)
    chance = Interval(record["chance"], math.nan, math.nan, interval.n, 0)
    rows = [
        maker.row(metric, condition, record["source"], value, source)
        for metric, value in ((RETRIEVAL, interval), (CHANCE, chance))
    ]
    return [replace(row, n=interval.n_groups, unit_of_n="compound") for row in rows]


def parts_of(row: ResultRow) -> tuple[str, str, str, str]:
    """Return category, cell line, level and way of a row of `feature_correlation`."""
    category, rest = row.condition.split(COMMA, 1)
    line, level, way = rest.rsplit(COMMA, 2)
    return category, line, level, way


def feature_rows(
    rows: Iterable[ResultRow], published: Sequence[ResultRow]
) -> list[ResultRow]:
    """Return the rows of features, with the ids of the published ones beside them.

    Beside Table 2 stand sites with objects that were found on each image set, as the
    paper finds them; what it calls a unit it does not say.
    """
    known = {(r.dataset, r.condition, r.method): r.id for r in published}
    found = []
    for row in rows:
        if row.metric not in METRICS:
            continue
        identifier = None
        if row.metric == CORRELATION:
            category, line, level, way = parts_of(row)
            if (level, way) == ("sites", WAYS["found"]):
                identifier = known.get((line, category, row.method))
        if identifier is None:
            row = replace(row, condition=f"{row.condition}, {row.method}")
        found.append(replace(row, id=identifier or row.id))
    return found


def with_reasons(table: pd.DataFrame, rows: Iterable[ResultRow]) -> pd.DataFrame:
    """Say in the remark of a table of `beside` why a value is NaN."""
    why = {row.id: row.source for row in rows if math.isnan(row.value)}
    remarks = [
        "; ".join(filter(None, (remark, why.get(key, ""))))
        for key, remark in zip(table["id"], table["remark"], strict=True)
    ]
    return table.assign(remark=remarks)


def profile_table(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    """Return one line per category and cell line: sites (blocks), all methods."""
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        if row.metric != CORRELATION:
            continue
        category, line, level, way = parts_of(row)
        if level not in ("sites", "blocks"):
            continue
        cells = lines.setdefault((category, line, way), {
            "features": category, "cells": line, "objects": way.split()[0],
        })  # fmt: skip
        cells[TITLES[row.method]] = "–" if math.isnan(row.value) else with_interval(row)
    return list(lines.values())


def retrieval_lines(rows: Sequence[ResultRow]) -> list[str]:
    """Return a sentence about the retrieval of replicates for each set of profiles."""
    chance = {(r.condition, r.method): r.value for r in rows if r.metric == CHANCE}
    said = []
    for row in rows:
        if row.metric != RETRIEVAL:
            continue
        name = "real stains" if row.method == REAL else TITLES[row.method]
        text = f"{row.source}"
        if not math.isnan(row.value):
            by_chance = chance[row.condition, row.method]
            text = f"{with_interval(row)}, by chance {by_chance:.2f}"
        said.append(f"{name} ({row.condition}): {text}")
    return said


def profile_notes(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return what the numbers mean, in sentences."""
    if not config.translate.boundaries:
        return ["No outlines are predicted, and so no objects to measure."]
    if not rows:
        return []
    unit = "blocks" if config.translate.blocks else "wells"
    level = 100 * config.evaluate.confidence
    wide = (
        f"intervals ({level:g}%) redraw {unit}"
        if any(not math.isnan(row.ci_low) for row in rows)
        else f"there are too few {unit} for intervals"
    )
    return [
        "Features of nuclei and cells by CellProfiler's definitions, of each stain of "
        "0 to 1; Pearson correlation over the medians of the objects of a site (of "
        "objects and wells in the CSV), mean over the features of a category that "
        f"vary, of nuclei and of cells; {wide}. Objects at the border of the image are "
        "left out. A mean hides how many features there are and how alike.",
        "Objects: `found` are read off the predicted outlines, and paired one to one "
        "at IoU 0.5 where single objects are correlated; `true` are the real ones on "
        "both stains: then counts, neighbours and shapes agree by definition.",
        "Replicates: mean average precision of finding the other wells of a compound "
        "by the profile of a well, within a cell line; features scaled on each plate.",
    ]  # fmt: skip


def profile_text(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return the lines of Markdown; none without any profiles."""
    lines = []
    if table := profile_table(rows):
        titles = list(dict.fromkeys(name for line in table for name in line))
        lines += ["Correlation of features on real and predicted stains:", ""]
        lines += markdown(titles, [[c.get(t, "–") for t in titles] for c in table])
        lines += ["", "Retrieval of replicates:", ""]
        lines += [f"- {line}" for line in retrieval_lines(rows)]
        lines.append("")
    return [*lines, *(f"- {line}" for line in profile_notes(rows, config))]

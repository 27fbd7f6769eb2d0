"""Tables and figures of CellResDM (Xing et al.), published values beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from phantomscope.config.translation import LATENT
from phantomscope.measure.statistics import bootstrap_interval
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.figures_translation import (
    NO_BOUNDARIES,
    instances_figure,
    stain_quality_figure,
    stains_figure,
)
from phantomscope.tables.paper import PaperFigure, PaperTable, Part, beside_text
from phantomscope.tables.published import beside, load_published, read_rows
from phantomscope.tables.results import ResultRow
from phantomscope.tables.translation import ALL, OBJECTS, OURS, PIXELS

PAPER = "cellresdm"
TABLE = "tables/translation.csv"
# Published values of each table, by their metric; Table 3 is told by its condition.
FEATURES, MATCHED = "feature_correlation", "mean_matched_0.50"
SPEED = ("image_seconds", "speedup", "steps")
# Names of metrics that mean something else in the tables of other papers.
RENAMED = {name: f"stain_{name}" for name in PIXELS}
# What the rows of Table 3 are called, and the ids of their published values: error, its
# spread, and speed.
SPACES = {
    "cellresdm": ("no_vqgan", "c103", "c104", "c105"),
    LATENT: ("latent_own_vqgan", "c100", "c101", "c102"),
}
NATURE = "latent_nature_vqgan"
NO_WEIGHTS = "needs weights learnt from OpenImages, which have to be downloaded"


def _measured(part: Part) -> list[ResultRow]:
    path = part.root / TABLE
    return read_rows(path) if path.exists() else []


def quality_rows(part: Part) -> list[ResultRow]:
    """Return how near predicted stains are to the real ones, and their ratios."""
    stains = {ALL, *part.config.translate.plates.stains}
    return [
        replace(row, metric=RENAMED.get(row.metric, row.metric),
                condition=f"{row.condition}, {row.method}")
        for row in _measured(part)
        if row.condition in stains or row.metric.endswith("_ratio")
    ]  # fmt: skip


def segmentation_rows(part: Part) -> list[ResultRow]:
    """Return the scores of instances; those of ours beside the published ones."""
    published = {"nuclei": "c106", "cells": "c107"}
    rows = []
    for row in _measured(part):
        if (
            row.condition not in published
            or row.metric.rpartition("_")[0] not in OBJECTS
        ):
            continue
        stands = row.metric == MATCHED and row.method == OURS
        rows.append(replace(
            row, id=published[row.condition] if stands else row.id,
            condition=row.condition if stands else f"{row.condition}, {row.method}",
        ))  # fmt: skip
    return rows


def latent_rows(part: Part) -> list[ResultRow]:
    """Return quality and speed in latent space and without it, as in Table 3."""
    seconds, measured = _seconds(part), _measured(part)
    found = []
    for method, (condition, mse, spread, speed) in SPACES.items():
        found += [
            replace(row, id=mse, metric="stain_mse", condition=condition)
            for row in measured
            if (row.metric, row.condition, row.method) == ("mse", ALL, method)
        ]
        errors = _errors(part, method)
        if len(errors) > 1:
            found.append(part.row(
                "stain_mse_sd", condition, method, float(np.std(errors, ddof=1)),
                (math.nan, math.nan), len(errors), "image",
                f"translation_scores/{method}/seed*/pixels.csv", spread,
            ))  # fmt: skip
        if method in seconds:
            found.append(part.row(
                "images_per_second", condition, method,
                1 / float(np.median(seconds[method])), (math.nan, math.nan),
                len(seconds[method]), "image", f"translated/{method}", speed,
            ))  # fmt: skip
    return found


def _errors(part: Part, method: str) -> list[float]:
    """Return the mean squared error of each image, mean over stains and seeds."""
    folder = part.root / "translation_scores" / method
    paths = sorted(folder.glob("seed*/pixels.csv"))
    if not paths:
        return []
    rows = pd.concat([read_table(path) for path in paths])
    rows = rows[rows["channel"].isin(part.config.translate.plates.stains)]
    return list(rows.groupby("id")["mse"].mean())


def _seconds(part: Part) -> dict[str, list[float]]:
    """Return the seconds of each predicted image, by method."""
    found: dict[str, list[float]] = {}
    for path in sorted(part.root.glob("translated/*/*/shard-*.seconds.csv")):
        table = read_table(path)
        if len(table):
            method = path.parts[-3]
            found.setdefault(method, []).extend(table["seconds"].astype(float))
    return found


def speed_rows(part: Part) -> list[ResultRow]:
    """Return seconds per image, the ratio of two samplers, and their steps."""
    seconds, evaluate = _seconds(part), part.config.evaluate
    published = {OURS: "c108", "palette": "c109"}
    rows = []
    for method, values in seconds.items():
        interval = bootstrap_interval(
            values, lambda chosen: float(np.median(chosen)),
            resamples=evaluate.resamples, confidence=evaluate.confidence,
            seed=part.config.seed,
        )  # fmt: skip
        known = published.get(method, "")
        rows.append(part.row(
            "image_seconds", "sampling" if known else f"sampling, {method}", method,
            interval.value, (interval.low, interval.high), len(values), "image",
            f"translated/{method}", known,
        ))  # fmt: skip
        own = part.config.of_method(method)
        steps = own.synthesise.evaluations(own.process.timesteps)
        rows.append(part.row(
            "steps", "sampling" if method == OURS else f"sampling, {method}", method,
            float(steps), (math.nan, math.nan), 0, "", "config.yaml",
            "c111" if method == OURS else "",
        ))  # fmt: skip
    if OURS in seconds and "palette" in seconds:
        slow, fast = (float(np.median(seconds[m])) for m in ("palette", OURS))
        rows.append(part.row(
            "speedup", "vs_diffusion", f"{OURS} against palette", slow / fast,
            (math.nan, math.nan), min(map(len, seconds.values())), "image",
            "translated", "c110",
        ))  # fmt: skip
    return rows


def paper_tables(parts: Mapping[str, Part]) -> dict[str, PaperTable]:
    """Return quality, features, segmentation, latent and speed.

    Parameters
    ----------
    parts : mapping of str to Part
        By `Part.key`. What is absent is "not run" in the tables.
    """
    published = load_published(PAPER)
    made = {
        "quality": (quality_rows, []),
        "features": (None, [r for r in published if r.metric == FEATURES]),
        "segmentation": (
            segmentation_rows,
            [r for r in published
             if r.metric == MATCHED or r.condition == "segmentation"],
        ),
        "latent": (latent_rows, [r for r in published if "vqgan" in r.condition]),
        "speed": (speed_rows, [r for r in published if r.metric in SPEED]),
    }  # fmt: skip
    tables = {}
    for name, (rows, theirs) in made.items():
        ours = [row for part in parts.values() for row in (rows(part) if rows else [])]
        tables[name] = PaperTable(_named(beside(theirs, ours), theirs), beside_text)
    return tables


def _named(table: pd.DataFrame, published: Sequence[ResultRow]) -> pd.DataFrame:
    """Say whose value it is where the paper compares methods, and why one is absent."""
    if table.empty:
        return table
    # No method has this row: the table says why.
    nature = table["condition"] == NATURE
    table = table.assign(
        remark=table["remark"].mask(nature, table["remark"] + f": {NO_WEIGHTS}")
    )
    methods = {row.id: row.method for row in published if row.metric == FEATURES}
    if not methods:
        return table
    conditions = [
        f"{row.condition}, {methods[row.id]}" if row.id in methods else row.condition
        for row in table.itertuples()
    ]
    return table.assign(condition=conditions)


_NEEDS = ("pairs/manifest.csv", "translated/*/*/*/manifest.csv")
FIGURES = {
    "stains": PaperFigure(
        lambda parts: stains_figure(parts[0].root, parts[0].config), _NEEDS
    ),
    "stain_quality": PaperFigure(
        lambda parts: stain_quality_figure(parts[0].root, parts[0].config),
        ("translation_scores/*/*/pixels.csv",),
    ),
    "instances": PaperFigure(
        lambda parts: instances_figure(parts[0].root, parts[0].config),
        (*_NEEDS, "translation_scores/*/*/objects.csv"),
        absent=NO_BOUNDARIES,
    ),
}

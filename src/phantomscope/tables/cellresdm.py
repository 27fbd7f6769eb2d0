"""Tables and figures of CellResDM (Xing et al.), published values beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from phantomscope.config.translation import LATENT
from phantomscope.measure.statistics import bootstrap_interval
from phantomscope.tables import profiles, significance
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.figures_instances import (
    NO_BOUNDARIES,
    instances_figure,
    matching_figure,
)
from phantomscope.tables.figures_profiles import NO_FEATURES, features_figure
from phantomscope.tables.figures_studies import (
    NO_ARTEFACTS,
    NO_SPREAD,
    NO_STEPS,
    artefacts_figure,
    reliability_figure,
    spread_figure,
    steps_figure,
)
from phantomscope.tables.figures_translation import stain_quality_figure, stains_figure
from phantomscope.tables.instances import IOU, OURS, parse_metric, table_lines
from phantomscope.tables.paper import PaperFigure, PaperTable, Part, beside_text
from phantomscope.tables.published import beside, load_published, read_rows
from phantomscope.tables.results import ResultRow
from phantomscope.tables.translation import ALL, PIXELS, instance_tables

PAPER = "cellresdm"
TABLE, STUDIES = "tables/translation.csv", "tables/studies.csv"
# Published values of each table, by their metric; Table 3 is told by its condition.
FEATURES, MATCHED = "feature_correlation", "mean_matched_0.50"
SPEED = ("image_seconds", "speedup", "steps")
# Names of metrics that mean something else in the tables of other papers.
RENAMED = {name: f"stain_{name}" for name in PIXELS}
ARTEFACTS = ("artefact_", "spread_", "candidate_")
STAIN_RATIOS = ("psnr_ratio", "ssim_ratio")
# What the rows of Table 3 are called, and the ids of their published values: error, its
# spread, and speed.
SPACES = {
    "cellresdm": ("no_vqgan", "c103", "c104", "c105"),
    LATENT: ("latent_own_vqgan", "c100", "c101", "c102"),
}
NATURE = "latent_nature_vqgan"
NO_WEIGHTS = "needs weights learnt from OpenImages, which have to be downloaded"


def _measured(part: Part, table: str = TABLE) -> list[ResultRow]:
    path = part.root / table
    return read_rows(path) if path.exists() else []


def uncertainty_rows(part: Part) -> list[ResultRow]:
    """Return whether the spread of predictions tells their error."""
    return [
        replace(row, condition=f"{row.condition}, {row.method}")
        for row in _measured(part, STUDIES)
        if row.metric.startswith("uncertainty_")
    ]


def artefact_rows(part: Part) -> list[ResultRow]:
    """Return what became of artefacts, and how many a rule finds."""
    return [
        replace(row, condition=f"{row.condition}, {row.method}")
        for row in _measured(part, STUDIES)
        if row.metric.startswith(ARTEFACTS)
    ]


def steps_rows(part: Part) -> list[ResultRow]:
    """Return quality and seconds of all stains together by the number of steps."""
    return [
        row
        for row in _measured(part, STUDIES)
        if (row.metric.startswith("stain_") or row.metric == "image_seconds")
        and "," not in row.condition
    ]


def quality_rows(part: Part) -> list[ResultRow]:
    """Return how near predicted stains are to the real ones, and their ratios."""
    stains = {ALL, *part.config.translate.plates.stains}
    return [
        replace(row, metric=RENAMED.get(row.metric, row.metric),
                condition=f"{row.condition}, {row.method}")
        for row in _measured(part)
        if row.condition in stains or row.metric in STAIN_RATIOS
    ] + [
        row for row in _measured(part) if row.metric in significance.NAMES
    ]  # fmt: skip


def _quality_text(table: pd.DataFrame, level: str) -> list[str]:
    """Return the lines of quality, and a table of tests of their own."""
    tested = table["metric"].isin(significance.NAMES)
    columns = ["metric", "condition", "ours", "ci_low", "ci_high", "n", "unit_of_n"]
    records = table.loc[tested, columns].itertuples(index=False, name=None)
    text = significance.significance_text(records)
    return [*beside_text(table[~tested], level), "", *text]


def feature_rows(part: Part) -> list[ResultRow]:
    """Return agreement of features, and retrieval of replicates."""
    published = [r for r in load_published(PAPER) if r.metric == FEATURES]
    return profiles.feature_rows(_measured(part), published)


def segmentation_rows(part: Part) -> list[ResultRow]:
    """Return the scores of instances; those of ours beside the published ones.

    Other methods, among them StarDist, stand in the condition.
    """
    published = {"nuclei": "c106", "cells": "c107"}
    rows = []
    for row in _measured(part):
        if parse_metric(row.metric) is None:
            continue
        stands = row.metric == MATCHED and row.method == OURS
        alone = stands or row.condition not in published
        rows.append(replace(
            row, id=published[row.condition] if stands else row.id,
            condition=row.condition if alone else f"{row.condition}, {row.method}",
        ))  # fmt: skip
    return rows


def segmentation_text(
    table: pd.DataFrame, level: str, parts: Sequence[Part]
) -> list[str]:
    """Return published scores beside ours, then all of ours by object and IoU."""
    beside_ours = table[table["published"].notna()]
    lines = beside_text(beside_ours, level)
    for part in parts:
        for title, shown in instance_tables(_measured(part)).items():
            said = f"{title} ({part.title}; scale of the run: {part.config.scale}"
            said += f"; {level} CI):" if level else "):"
            lines += ["", said, "", *table_lines(shown)[:-1]]
    told = dict(zip(table["metric"], table["definition"], strict=True))
    # Those at other IoU say the same; all of them stand in the CSV.
    wanted = [k for k in told if parse_metric(k) and f"_{IOU}" in k and k != MATCHED]
    return [*lines, "", *(f"- `{name}`: {told[name]}" for name in wanted)]


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
    return [*rows, *steps_rows(part)]


def paper_tables(parts: Mapping[str, Part]) -> dict[str, PaperTable]:
    """Return quality, features, segmentation, latent and speed, and our studies.

    Parameters
    ----------
    parts : mapping of str to Part
        By `Part.key`. What is absent is "not run" in the tables.
    """
    published = load_published(PAPER)
    made = {
        "quality": (quality_rows, []),
        "features": (feature_rows, [r for r in published if r.metric == FEATURES]),
        "segmentation": (
            segmentation_rows,
            [r for r in published
             if r.metric == MATCHED or r.condition == "segmentation"],
        ),
        "latent": (latent_rows, [r for r in published if "vqgan" in r.condition]),
        "speed": (speed_rows, [r for r in published if r.metric in SPEED]),
        "uncertainty": (uncertainty_rows, []),
        "artefacts": (artefact_rows, []),
    }  # fmt: skip
    tables = {}
    for name, (rows, theirs) in made.items():
        ours = [row for part in parts.values() for row in rows(part)]
        frame = _averaged(_named(beside(theirs, ours), theirs), parts)
        text = beside_text
        if name == "features":
            frame = profiles.with_reasons(frame, ours)
        elif name == "quality":
            text = _quality_text
        elif name == "segmentation":
            text = partial(segmentation_text, parts=list(parts.values()))
        tables[name] = PaperTable(frame, text)
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


def _averaged(table: pd.DataFrame, parts: Mapping[str, Part]) -> pd.DataFrame:
    """Say where the mean of several predictions was measured."""
    if table.empty:
        return table
    configs = {part.config.name: part.config for part in parts.values()}

    def said(row: Any) -> str:
        single = row.metric.startswith(ARTEFACTS)  # studied on single predictions
        if single or row.experiment not in configs:
            return str(row.remark)
        method = str(row.method).split(" ")[0]
        count = configs[row.experiment].translate.averaged_of(method)
        words = [row.remark, f"mean of {count} predictions" if count > 1 else ""]
        return "; ".join(word for word in words if word)

    return table.assign(remark=[said(row) for row in table.itertuples()])


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
    "features": PaperFigure(
        lambda parts: features_figure(parts[0].root, parts[0].config),
        ("profile_scores/*/*/correlations.csv",),
        absent=NO_FEATURES,
    ),
    "matching": PaperFigure(
        lambda parts: matching_figure(parts[0].root, parts[0].config),
        ("translation_scores/*/*/objects.csv",),
        absent=NO_BOUNDARIES,
    ),
    "steps": PaperFigure(
        lambda parts: steps_figure(parts[0].root, parts[0].config),
        ("study/steps/*/quality.csv",),
        absent=NO_STEPS,
    ),
    "reliability": PaperFigure(
        lambda parts: reliability_figure(parts[0].root, parts[0].config),
        ("translation_scores/*/*/reliability.csv",),
        absent=NO_SPREAD,
    ),
    "spread": PaperFigure(
        lambda parts: spread_figure(parts[0].root, parts[0].config),
        (*_NEEDS, "translation_scores/*/*/reliability.csv"),
        absent=NO_SPREAD,
    ),
    "artefacts": PaperFigure(
        lambda parts: artefacts_figure(parts[0].root, parts[0].config),
        ("study/artefacts/*/*/artefacts.csv",),
        absent=NO_ARTEFACTS,
    ),
}

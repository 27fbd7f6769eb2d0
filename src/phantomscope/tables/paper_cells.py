"""Dice per cell of segmenters: section 4 of Eschweiler & Stegmaier 2023."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phantomscope.images.imageset import ImageSet
from phantomscope.measure.instance import dice_per_object
from phantomscope.measure.statistics import (
    FEWEST_GROUPS,
    Interval,
    paired_bootstrap_ratio,
)
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.results import ResultRow

if TYPE_CHECKING:
    from phantomscope.tables.paper import Part

SEGMENTATION = Path("tables/segmentation.csv")


def dice_of_cells(root: Path, tool: str, arm: str) -> pd.DataFrame:
    """Return Dice of every true cell of the test part, under each seed of a method.

    Returns
    -------
    DataFrame
        id and group of the image, cell (number of its label), seed, dice.
    """
    truth = ImageSet.open(root / "prepared").select(split="test")
    parts = []
    # Records lie beside the folders.
    for path in sorted((root / "predictions" / tool / arm).glob("seed*/manifest.csv")):
        found = ImageSet.open(path.parent)
        for name in truth.ids:
            if not truth.has_mask(name):
                continue
            labels = truth.mask(name)
            parts.append(pd.DataFrame({
                "id": name, "group": truth.row(name)["group"] or name,
                "cell": np.unique(labels[labels > 0]), "seed": path.parent.name,
                "dice": dice_per_object(labels, found.mask(name)),
            }))  # fmt: skip
    columns = ["id", "group", "cell", "seed", "dice"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(
        columns=columns)  # fmt: skip


def dice_rows(
    parts: Sequence[Part],
    ids: Mapping[tuple[str, str, str], str],
    published: Sequence[ResultRow],
) -> tuple[list[ResultRow], list[ResultRow], dict[str, float]]:
    """Return Dice per cell of all methods, and ratios of synthetic to annotated.

    Parameters
    ----------
    parts : sequence of Part
        The organisms.
    ids : mapping
        Of published values: (organism, metric, condition) to id. Of the tools of an
        organism, the first Cellpose stands beside the published value.
    published : sequence of ResultRow
        Those of section 4.

    Returns
    -------
    published_ratio : list of ResultRow
        The ratio of the published values.
    ours : list of ResultRow
        A row per method, and per tool the ratio.
    spread : dict
        Id to the standard deviation over the cells (and seeds).
    """
    by_id = {row.id: row for row in published}
    keys = [ids.get(("ath", "dice", arm), "") for arm in ("synthetic", "annotated")]
    ratio = []
    if all(key in by_id for key in keys):
        above, below = (by_id[key] for key in keys)
        ratio = [replace(
            above, id="/".join(keys), metric="dice_ratio", unit_of_n="",
            condition="synthetic/annotated", value=above.value / below.value,
            source=f"Section 4, {keys[0]} / {keys[1]}",
        )]  # fmt: skip
        ids = {**ids, ("ath", "dice_ratio", "synthetic/annotated"): ratio[0].id}
    ours: list[ResultRow] = []
    spread: dict[str, float] = {}
    for part in parts:
        rows, deviations = _of_part(part, ids)
        ours += rows
        spread |= deviations
    return ratio, ours, spread


def _of_part(
    part: Part, ids: Mapping[tuple[str, str, str], str]
) -> tuple[list[ResultRow], dict[str, float]]:
    path = part.root / SEGMENTATION
    if not path.exists():
        return [], {}
    table = read_table(path)
    table = table[(table["metric"] == "dice") & (table["seed"].astype(str) == "all")]
    tools = list(dict.fromkeys(table["method"]))
    main = next((tool for tool in tools if str(tool).startswith("cellpose")), "")
    rows: list[ResultRow] = []
    spread: dict[str, float] = {}
    for tool in tools:
        cells: dict[str, pd.DataFrame] = {}

        def key(metric: str, condition: str, tool: str = tool) -> str:
            own = (part.organism, metric, condition)
            return ids.get(own, "") if tool == main else ""

        for line in table[table["method"] == tool].to_dict("records"):
            arm = str(line["condition"])
            cells[arm] = dice_of_cells(part.root, str(tool), arm)
            row = part.row(
                "dice", arm, str(tool), float(line["value"]),
                (float(line["ci_low"]), float(line["ci_high"])), int(line["n"]),
                str(line["unit_of_n"]), SEGMENTATION.name, key("dice", arm),
            )  # fmt: skip
            rows.append(row)
            if len(cells[arm]):
                spread[row.id] = float(cells[arm]["dice"].std(ddof=0))
        if all(len(cells.get(arm, ())) for arm in ("synthetic", "annotated")):
            found, unit = dice_ratio(part, cells["synthetic"], cells["annotated"])
            rows.append(part.row(
                "dice_ratio", "synthetic/annotated", str(tool), found.value,
                (found.low, found.high), found.n_groups, unit, SEGMENTATION.name,
                key("dice_ratio", "synthetic/annotated"),
            ))  # fmt: skip
    return rows, spread


def dice_ratio(
    part: Part, synthetic: pd.DataFrame, annotated: pd.DataFrame
) -> tuple[Interval, str]:
    """Return the ratio of mean Dice; groups are drawn, or cells where groups are few.

    Seeds are averaged, not drawn.
    """
    both = [
        table.groupby(["id", "group", "cell"], sort=True)["dice"].mean().reset_index()
        for table in (synthetic, annotated)
    ]
    many = both[0]["group"].nunique() >= FEWEST_GROUPS
    units: list[list[Any]] = []
    for table in both:
        if many:  # sums and counts of images: cells of an image are drawn together
            sums = table.groupby(["id", "group"], sort=True)["dice"].agg(
                ["sum", "size"]
            )
            units.append(list(zip(sums["sum"], sums["size"], strict=True)))
        else:
            units.append([(value, 1) for value in table["dice"]])
    groups = None
    if many:
        first = both[0].groupby(["id", "group"], sort=True).size()
        groups = [str(group) for _, group in first.index]

    def mean(chosen: Sequence[tuple[float, int]]) -> float:
        total, count = np.sum(chosen, axis=0)
        return float(total / count) if count else math.nan

    evaluate = part.config.evaluate
    found = paired_bootstrap_ratio(
        units[0], units[1], mean, groups=groups, resamples=evaluate.resamples,
        confidence=evaluate.confidence, seed=part.config.seed,
    )  # fmt: skip
    return found, "image group" if many else "cell"

"""Semantic filtering in words: the table of a person, headline, cautions, notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phantomscope.config.model import Config
from phantomscope.images.files import write_text
from phantomscope.measure.statistics import FEWEST_GROUPS
from phantomscope.tables.filter_metrics import BY_FOLD, RATIO, TITLES, main_rule
from phantomscope.tables.filter_scores import ALL
from phantomscope.tables.filtering import filtering_rows
from phantomscope.tables.headline import FEW_GROUPS
from phantomscope.tables.instances import table_lines
from phantomscope.tables.results import ResultRow, with_interval, write_long


def _titles(config: Config) -> dict[str, str]:
    """Return the metrics that a person reads, and what their columns are called."""
    rule = main_rule(config.filter)
    titles = {f"f1_{rule}": "F1"}
    if config.filter.truth == "points":
        titles["f1_points_published"] = "F1 by the paper's rule"
    if config.filter.folds > 1:
        titles[f"f1_{rule}{BY_FOLD}"] = "F1, mean over folds"
    return titles | {
        f"precision_{rule}": "precision", f"recall_{rule}": "recall",
        "mask_iou": "mask IoU", "layer_psnr": "PSNR of the layer (dB)",
    }  # fmt: skip


def filtering_table(rows: Sequence[ResultRow], config: Config) -> list[dict[str, str]]:
    """Return one line per class, method and number of training images."""
    lines = dict[tuple[str, str], dict[str, str]]()
    found = dict[tuple[str, str], dict[str, str]]()
    titles, layer = _titles(config), ", target layer"
    for row in rows:
        if row.metric not in titles:
            continue
        if row.metric == "layer_psnr" and not row.condition.endswith(layer):
            continue
        condition = row.condition.removesuffix(layer)
        target, _, images = condition.partition(", ")
        start = {"objects": target, "method": TITLES[row.method]}
        if config.filter.images:
            start["training images"] = images.removesuffix(" images") or ALL
        lines.setdefault((condition, row.method), start)
        own = found.setdefault((condition, row.method), {})
        own[titles[row.metric]] = with_interval(row)
    order = [t for t in titles.values() if any(t in own for own in found.values())]
    return [
        line | {title: found[key].get(title, "–") for title in order}
        for key, line in lines.items()
    ]


def ratio_lines(rows: Sequence[ResultRow]) -> list[tuple[str, str]]:
    """Return what is divided, and the ratio of F1 with its interval."""
    found = []
    for row in rows:
        if row.metric.startswith("f1_") and row.metric.endswith(RATIO):
            condition, _, pair = row.condition.rpartition(": ")
            ours, rival = (TITLES[name] for name in pair.split(" / "))
            found.append((f"{condition}: {ours} by {rival}", with_interval(row)))
    return found


def control_lines(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    """Return one line per class and method: how far apart controls are."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    titles = {"z_prime": "Z'", "p_student_t": "p (Student's t)",
              "p_welch_t": "p (Welch's t)"}  # fmt: skip
    for row in rows:
        if row.metric in titles:
            start = {"controls of": row.condition.partition(",")[0],
                     "method": TITLES[row.method]}  # fmt: skip
            line = lines.setdefault((row.condition, row.method), start)
            small = f"{row.value:.2g}" if row.metric != "z_prime" else ""
            line[titles[row.metric]] = small or with_interval(row)
    return list(lines.values())


def headline(rows: Sequence[ResultRow], config: Config) -> str:
    """Return the sentence that a reader takes home."""
    said, metric = [], f"f1_{main_rule(config.filter)}"
    for target in config.filter.targets:
        whole = [
            row for row in rows
            if row.metric == metric and not math.isnan(row.value)
            and row.condition.partition(", ")[0] == target
        ]  # fmt: skip
        if not whole:
            continue
        best = max(whole, key=lambda row: row.value)
        where = best.condition.replace(", ", " (", 1)
        where += ")" if "(" in where else ""
        said.append(f"{where}: {TITLES[best.method]} is best, F1 {with_interval(best)}")
    return "; ".join(said) + "." if said else "No object could be measured."


def filtering_cautions(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    options, said = config.filter, []
    n = max((row.n for row in rows if row.unit_of_n not in ("well", "fold")), default=0)
    if options.truth == "layers":
        said.append(
            "Test images are composed of crops of held-out images: the layers are "
            "known to the pixel, but real overlaps may look otherwise, and composed "
            "images that share crops are no independent samples."
        )
    elif n < FEW_GROUPS:
        unit = rows[0].unit_of_n if rows else "image"
        said.append(
            f"Measured on {n} independent units ({unit}): intervals, if there are any, "
            "are narrower than the truth."
        )
    if (seeds := len(options.seeds)) < 3:
        said.append(
            f"Each method was trained {'once' if seeds == 1 else f'{seeds} times'}: "
            "how much chance in the training matters is unknown. Set "
            "filter.seeds: [0, 1, 2] before claiming a difference."
        )
    return said


def filtering_notes(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return what the numbers mean, in sentences."""
    if not rows:
        return ["Nothing was measured."]
    options, first = config.filter, rows[0]
    level, n = 100 * config.evaluate.confidence, first.n
    said = [
        f"Measured on images that no training saw ({first.dataset or 'own images'}; "
        f"data kind: {first.data_kind}; scale of the run: {first.scale}).",
        f"Intervals ({level:g}%): bootstrap over {n} units ({first.unit_of_n}); ratios "
        "are paired; seeds are pooled, not resampled."
        if n >= FEWEST_GROUPS
        else f"There are {n} units ({first.unit_of_n}): too few for intervals.",
    ]
    if options.folds > 1:
        said.append(
            f"Pooled: counts of all {options.folds} folds are added up, then scored. "
            "Mean over folds: each fold is scored, then averaged; its interval is "
            "drawn over folds. The paper does not say which of the two it prints."
        )
    said += _truth_notes(config)
    if options.plate:
        said.append(
            "Controls: objects in each well, wells are the units. The others of its "
            "sites stand for those that trained."
        )
    return said


def _truth_notes(config: Config) -> list[str]:
    options = config.filter
    if options.truth == "points":
        return [
            "F1, precision and recall are one to one: of the points in an object one "
            "is found. By the paper's rule (its code) two points in one object both "
            f"count. A third rule pairs centres with points within {options.reach:g} "
            "px; see the long table."
        ]
    at = ", ".join(f"{iou:g}" for iou in options.iou)
    kind = {"boxes": "Boxes", "masks": "Boxes of objects"}.get(options.truth, "Objects")
    said = [
        f"{kind} match one to one at an IoU ({at}; {main_rule(options)[-4:]} where "
        "nothing else is said)."
    ]
    if options.truth == "layers":
        said.append(
            "PSNR of a layer: intensities from 0 to 1, the target layer against what "
            "it was composed of; `image as it is` shows what doing nothing gives, "
            "`empty layer` what keeping nothing gives: a layer is mostly empty."
        )
    return said


def write_filtering(
    rows: Sequence[ResultRow], csv: Path, md: Path, config: Config
) -> None:
    """Write the long CSV table and the Markdown table."""
    write_long(list(rows), csv)
    lines = table_lines(filtering_table(rows, config))
    if ratios := ratio_lines(rows):
        lines += ["F1 by that of a rival, on the same images:", ""]
        lines += [f"- {what}: {ratio}" for what, ratio in ratios]
        lines.append("")
    lines += table_lines(control_lines(rows))
    lines += [f"- {line}" for line in filtering_notes(rows, config)]
    write_text(Path(md), "\n".join(lines) + "\n")


def filtering_section(root: Path, config: Config) -> dict[str, Any]:
    """Return what the report says of filtering; nothing without any."""
    if not config.filter.methods:
        return {}
    rows = filtering_rows(root, config)
    return {
        "headline": headline(rows, config),
        "cautions": filtering_cautions(rows, config),
        "table": filtering_table(rows, config),
        "ratios": ratio_lines(rows),
        "controls": control_lines(rows),
        "notes": filtering_notes(rows, config),
        "composed": config.filter.truth == "layers",
        "videos": config.filter.pairs == "video",
        "points": config.filter.truth == "points",
        "folds": config.filter.folds,
    }

"""The tables of Saguy et al. 2024, published values beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.statistics import bootstrap_interval
from phantomscope.tables.artefacts import read_lines, read_table, shards
from phantomscope.tables.figures_curves import stage_costs
from phantomscope.tables.paper import (
    Ids,
    PaperTable,
    Part,
    beside_text,
    published_ids,
)
from phantomscope.tables.published import beside, load_published, read_rows
from phantomscope.tables.results import ResultRow

PAPER = "saguy"
COPIES = Path("memorisation.csv")
RESTORED = Path("tables/restoration.csv")
# By the file: the columns of the two readings of the paper's correlation.
LAGS = {"all shifts": "score", "zero lag": "score_zero_lag"}
KINDS = {"synthetic": "generated", "held_out": "experimental other"}
# Names of metrics that mean something else in another table.
RENAMED = {"psnr": "restored_psnr", "ssim": "restored_ssim"}
SYMMETRIES = 8
NOTHING = (math.nan, math.nan)


def _of_size(part: Part, condition: str) -> str:
    """Say in the condition that a part was trained on fewer images."""
    most = part.config.split.most_train
    if most is None:
        return condition
    return f"{condition}, {most} training image{'s' if most > 1 else ''}"


def _key(part: Part, ids: Ids, metric: str, condition: str) -> str:
    """Return the id of the published value that a row stands beside, if any."""
    whole = part.config.split.most_train is None
    return ids.get((part.organism, metric, condition), "") if whole else ""


def memorisation_rows(part: Part, ids: Ids) -> list[ResultRow]:
    """Return how near generated and held-out images are to training patches.

    Of the two readings of the published correlation, that over all shifts stands
    beside the published value.
    """
    if not (part.root / COPIES).exists():
        return []
    table, rows = read_table(part.root / COPIES), list[ResultRow]()
    side = int(table["side"].iloc[0]) if len(table) else 0
    for kind, condition in KINDS.items():
        chosen = table[table["kind"] == kind]
        if not len(chosen):
            continue
        groups = None if kind == "synthetic" else list(chosen["group"].astype(str))
        unit = "generated image" if kind == "synthetic" else "image group"
        who = "" if kind == "synthetic" else "held-out images of the same set, "
        for lag, column in LAGS.items():
            values = list(chosen[column].astype(float))
            rows += _mean_and_max(
                part, ids if lag == "all shifts" else {}, condition,
                f"{who}{lag}, {side} px", values, groups, unit,
            )  # fmt: skip
        rows.append(part.row(
            "ncc_images", _of_size(part, condition), f"{who}{side} px",
            float(len(chosen)), NOTHING, 0, "", COPIES.name,
            _key(part, ids, "ncc_images", condition),
        ))  # fmt: skip
    return rows + _judged(part, table)


def _mean_and_max(
    part: Part, ids: Ids, condition: str, method: str, values: Sequence[float],
    groups: Sequence[str] | None, unit: str,
) -> list[ResultRow]:  # fmt: skip
    evaluate = part.config.evaluate
    mean = bootstrap_interval(
        values, lambda chosen: float(np.mean(chosen)), groups=groups,
        resamples=evaluate.resamples, confidence=evaluate.confidence,
        seed=part.config.seed,
    )  # fmt: skip
    said = _of_size(part, condition)
    return [
        part.row(
            "ncc_mean", said, method, mean.value, (mean.low, mean.high), mean.n_groups,
            unit, COPIES.name, _key(part, ids, "ncc_mean", condition),
        ),
        part.row(
            "ncc_max", said, method, max(values), NOTHING, mean.n_groups, unit,
            COPIES.name, _key(part, ids, "ncc_max", condition),
        ),
    ]  # fmt: skip


def _judged(part: Part, table: pd.DataFrame) -> list[ResultRow]:
    """Return what the audit found: gaps with their intervals, and flagged images."""
    chosen = table[table["kind"] == "synthetic"]
    if not len(chosen) or chosen["flagged"].isna().all():
        return []
    first, condition = chosen.iloc[0], _of_size(part, "generated")
    method, unit = f"all shifts, {int(first['side'])} px", "generated image"
    flagged = float((chosen["flagged"].astype(str) == "True").sum())
    rows = [
        part.row(
            f"ncc_{name}", condition, method, float(first[name]),
            (float(first[f"{name}_low"]), float(first[f"{name}_high"])), len(chosen),
            unit, COPIES.name,
        )
        for name in ("nearer", "gap")
    ]  # fmt: skip
    return [
        *rows,
        part.row("ncc_flagged", condition, method, flagged, NOTHING, len(chosen), unit,
                 COPIES.name),
    ]  # fmt: skip


def resolution_rows(part: Part, ids: Ids) -> list[ResultRow]:
    """Return the scores of restored images; empty if nothing was restored.

    Means over the trainings (seed ``all``) where there are several.
    """
    if not (part.root / RESTORED).exists():
        return []
    found = read_rows(part.root / RESTORED)
    kept: dict[tuple[str, str, str], list[ResultRow]] = {}
    for row in found:
        kept.setdefault((row.metric, row.condition, row.method), []).append(row)
    rows = []
    for (metric, condition, method), alike in kept.items():
        means = [row for row in alike if row.seed == "all"]
        chosen = means or alike
        key = _key(part, ids, metric, condition) if method == "care" else ""
        rows += [
            replace(
                row,
                id=key if key and n == 0 else row.id,
                metric=RENAMED.get(metric, metric),
            )
            for n, row in enumerate(chosen)
        ]
    return rows


def training_rows(part: Part, ids: Ids) -> list[ResultRow]:
    """Return how much went into a part: images, patches, pairs, steps, hours."""
    values = {
        **_of_images(part), **_of_training(part), **_of_synthesis(part),
        **_of_pairs(part),
    }  # fmt: skip
    rows = []
    for metric, (value, method, source) in values.items():
        condition = "each arm" if metric == "care_pairs" else "diffusion model"
        rows.append(part.row(
            metric, _of_size(part, condition), method, value, NOTHING, 0, "", source,
            _key(part, ids, metric, condition),
        ))  # fmt: skip
    return rows


Said = dict[str, tuple[float, str, str]]


def _of_images(part: Part) -> Said:
    manifest = part.root / "prepared/manifest.csv"
    if not manifest.exists():
        return {}
    images = ImageSet.open(manifest.parent).select(split="train")
    audit, count = part.config.audit, 0
    step = max(1, round(audit.patch * (1 - audit.overlap)))
    for name in images.ids:
        sides = images.shape(name)[-2:]
        along = [max(0, (side - audit.patch) // step + 1) for side in sides]
        count += math.prod(along)
    drawn = part.config.source.localisations
    return {
        "train_images": (
            float(len(images)), f"{drawn.render}, pixels of {drawn.pixel_size_nm:g} nm",
            "prepared/manifest.csv",
        ),
        "train_patches": (
            float(SYMMETRIES * count), f"{audit.patch} px, {SYMMETRIES} symmetries",
            "prepared/manifest.csv",
        ),
    }  # fmt: skip


def _of_training(part: Part) -> Said:
    """Say what the training took; nothing if it is not finished."""
    model, metrics = (
        part.root / "diffusion" / name for name in ("model.pt", "metrics.jsonl")
    )
    if not (model.exists() and metrics.exists()):
        return {}
    # Lazily: a table of other parts needs no network.
    from phantomscope.engine.model import DiffusionModel

    network = DiffusionModel.load(model).network
    weights = sum(weight.numel() for weight in network.parameters())
    options = part.config.train
    shown = f"{part.config.network.preset}, {options.batch_size} patches a step"
    rate = float(read_lines(metrics)["images_per_second"].median())
    hours = options.steps * options.batch_size / rate / 3600
    where = f"diffusion/{metrics.name}"
    return {
        "train_steps": (float(options.steps), shown, where),
        "train_hours": (hours, f"{shown}, {options.device}", where),
        "parameters": (
            float(weights), part.config.network.preset, f"diffusion/{model.name}"
        ),
    }  # fmt: skip


def _of_synthesis(part: Part) -> Said:
    costs = stage_costs(part.root)
    costs = costs[costs["stage"] == "synthesise"]
    sets = shards(part.root / "synthetic", most=part.config.simulate.images)
    if not len(costs) or not sets:
        return {}
    count = sum(len(images) for images in sets)
    options = part.config.synthesise
    start = int(read_json(part.root / "start.json")["value"])
    size = " x ".join(map(str, part.config.simulate.size))
    how = f"{options.sampler}, {options.evaluations(start)} steps from t = {start}"
    seconds = float(costs["seconds"].iloc[0]) / count
    return {
        "generated_images": (float(count), f"{size} px", "synthetic"),
        "sample_seconds": (seconds, f"{how}, {size} px", "benchmarks/synthesise.*.tsv"),
    }


def _of_pairs(part: Part) -> Said:
    """Say how many pairs CARE learnt from, where it was asked for."""
    options = part.config.model_dump().get("restore") or {}
    if not options.get("arms"):
        return {}
    how = f"CARE, {options['patch']} px"
    return {"care_pairs": (float(options["pairs"]), how, "config.yaml")}


def paper_tables(parts: Mapping[str, Part]) -> dict[str, PaperTable]:
    """Return memorisation, resolution and training.

    Parameters
    ----------
    parts : mapping of str to Part
        By `Part.key`. What is absent is "not run" in the tables.
    """
    published = load_published(PAPER)
    ids = published_ids(published)
    made = {
        "memorisation": (memorisation_rows, ("ncc_",)),
        "resolution": (resolution_rows, ("frc_",)),
        "training": (training_rows, ("train_", "care_", "sample_")),
    }
    tables = {}
    for name, (rows, metrics) in made.items():
        theirs = [row for row in published if row.metric.startswith(metrics)]
        ours = [row for part in parts.values() for row in rows(part, ids)]
        tables[name] = PaperTable(beside(theirs, ours), beside_text)
    return tables

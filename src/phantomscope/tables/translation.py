"""Predicted stains and instances against the real ones: rows, intervals, tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phantomscope.config.model import Config
from phantomscope.config.translation import ALL_METHODS
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.measure.instance import pool
from phantomscope.measure.statistics import (
    FEWEST_GROUPS,
    Interval,
    bootstrap_interval,
    paired_bootstrap_ratio,
)
from phantomscope.measure.translation import means
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.headline import FEW_GROUPS
from phantomscope.tables.results import ResultRow, with_interval, write_long

TITLES = {
    "cellresdm": "residual diffusion (CellResDM)",
    "cellresdm_latent": "the same in latent space", "unet": "U-Net, regression",
    "pix2pix": "Pix2Pix", "spade": "SPADE", "palette": "Palette",
    "spade_diffusion": "SPADE-Diffusion",
}  # fmt: skip
OURS = "cellresdm"
ALL = "all stains"
PIXELS = ("mse", "mae", "psnr", "ssim", "correlation")
IOU = "0.50"
OBJECTS = ("precision", "recall", "f1", "ap", "pq", "mean_matched", "mean_true")
# What a person reads of all stains together: title, digits.
SHOWN = {"mse": ("MSE", 1), "psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 3),
         "correlation": ("correlation", 3)}  # fmt: skip
NOTHING = Interval(math.nan, math.nan, math.nan, 0, 0)


@dataclass(frozen=True)
class Translated:
    """What was measured of one method.

    Attributes
    ----------
    method : str
        Key of `TITLES`.
    pixels, objects : DataFrame
        Rows of all seeds, with a column ``seed``.
    """

    method: str
    pixels: pd.DataFrame
    objects: pd.DataFrame

    def of_images(self, metric: str, channels: Sequence[str]) -> pd.DataFrame:
        """Return a metric of each image, mean over channels and seeds, with groups."""
        chosen = self.pixels[self.pixels["channel"].isin(channels)]
        found = chosen.groupby("id").agg(
            value=(metric, "mean"), group=("group", "first")
        )
        return found.replace([np.inf, -np.inf], np.nan).dropna(subset="value")


def load_translated(root: Path, config: Config) -> list[Translated]:
    """Read what was measured, in the order of the config.

    Raises
    ------
    PhantomscopeError
        If a table is missing or broken.
    """
    options, found = config.translate, []
    for method in (m for m in ALL_METHODS if m in options.methods):
        tables: dict[str, list[pd.DataFrame]] = {"pixels": [], "objects": []}
        for seed in options.seeds:
            folder = root / f"translation_scores/{method}/seed{seed}"
            for name, parts in tables.items():
                if (folder / f"{name}.csv").exists() or name == "pixels":
                    parts.append(read_table(folder / f"{name}.csv").assign(seed=seed))
        joined = {k: pd.concat(v) if v else pd.DataFrame() for k, v in tables.items()}
        found.append(Translated(method, **joined))
    known = [sorted(set(one.pixels["id"])) for one in found]
    if any(ids != known[0] for ids in known):
        raise PhantomscopeError(
            "not all methods were measured on the same images",
            where=root / "translation_scores",
            fix="delete this folder and run the same command again",
        )
    return found


@dataclass(frozen=True)
class _Rows:
    """Makes rows: what all of an experiment share is filled in."""

    config: Config
    unit: str

    def row(
        self, metric: str, condition: str, method: str, interval: Interval, source: str
    ) -> ResultRow:
        name = self.config.name
        what = condition.replace(" / ", "_over_").replace(" ", "_")
        # Less than three units: an interval would say nothing.
        low, high = interval.low, interval.high
        if interval.n_groups < FEWEST_GROUPS:
            low = high = math.nan
        return ResultRow(
            "/".join((name, method, what, metric)), name, self.config.source_name,
            metric, condition, method, interval.value, low, high, interval.n_groups,
            self.unit, "all", self.config.data_kind, self.config.scale, source,
        )  # fmt: skip

    @property
    def drawn(self) -> dict[str, Any]:
        """Return how intervals are drawn."""
        given = self.config.evaluate
        return {"resamples": given.resamples, "confidence": given.confidence,
                "seed": self.config.seed}  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def translation_rows(root: Path, config: Config) -> list[ResultRow]:
    """Return all numbers of translation, measured on the test part.

    Parameters
    ----------
    root : Path
        Folder of the experiment.
    config : Config
        Methods and seeds, resamples and confidence of `evaluate`.

    Returns
    -------
    list of ResultRow
        For each method: of each stain, and of ``all stains`` (their mean in each
        image), the means over images; of nuclei and cells the scores at IoU 0.5,
        pooled over images. Seeds are averaged in each image. Intervals are drawn over
        groups of images, none for fewer than three. Then ``psnr_ratio`` and
        ``ssim_ratio`` of residual diffusion to each rival, paired by image.
    """
    found = load_translated(Path(root), config)
    maker = _Rows(config, "block of an image" if config.translate.blocks else "well")
    rows = [row for one in found for row in _pixel_rows(maker, one)]
    rows += [row for one in found for row in _object_rows(maker, one)]
    return [*rows, *_ratio_rows(maker, found)]


def _pixel_rows(maker: _Rows, one: Translated) -> list[ResultRow]:
    stains = maker.config.translate.plates.stains
    source = f"translation_scores/{one.method}/seed*/pixels.csv"
    rows = []
    for condition, channels in (
        (ALL, stains), *((name, [name]) for name in maker.config.translate.channels),
    ):  # fmt: skip
        for metric in PIXELS:
            images, interval = one.of_images(metric, channels), NOTHING
            if len(images):
                interval = bootstrap_interval(
                    list(images["value"]), _mean, groups=list(images["group"]),
                    **maker.drawn,
                )  # fmt: skip
            rows.append(maker.row(metric, condition, one.method, interval, source))
    return rows


def _object_rows(maker: _Rows, one: Translated) -> list[ResultRow]:
    if one.objects.empty:
        return []
    source = f"translation_scores/{one.method}/seed*/objects.csv"
    rows = []
    for kind, table in one.objects.groupby("objects"):
        # Each image with all its seeds is one unit: counts add up.
        images = [
            (str(part["group"].iloc[0]), part.to_dict("records"))
            for _, part in table.groupby("id")
        ]
        for metric in OBJECTS:
            interval = bootstrap_interval(
                [records for _, records in images], _pooled(metric),
                groups=[group for group, _ in images], **maker.drawn,
            )  # fmt: skip
            rows.append(
                maker.row(f"{metric}_{IOU}", str(kind), one.method, interval, source)
            )
    return rows


def _pooled(metric: str) -> Callable[[Sequence[list[dict[str, float]]]], float]:
    """Return the function that pools the rows of images into a metric."""

    def statistic(images: Sequence[list[dict[str, float]]]) -> float:
        rows = [row for records in images for row in records]
        if metric in ("mean_matched", "mean_true"):
            names = (f"iou_sum_{IOU}", f"tp_{IOU}", "n_true")
            total = {name: sum(row[name] for row in rows) for name in names}
            return means(total, [float(IOU)])[f"{metric}_{IOU}"]
        return pool(rows, [float(IOU)])[f"{metric}_{IOU}"]

    return statistic


def _ratio_rows(maker: _Rows, found: Sequence[Translated]) -> list[ResultRow]:
    methods = {one.method: one for one in found}
    stains, rows = maker.config.translate.plates.stains, []
    for rival in methods:
        if rival == OURS or OURS not in methods:
            continue
        for metric in ("psnr", "ssim"):
            pair = methods[OURS].of_images(metric, stains).join(
                methods[rival].of_images(metric, stains), rsuffix="_rival", how="inner"
            )  # fmt: skip
            interval = paired_bootstrap_ratio(
                list(pair["value"]), list(pair["value_rival"]), _mean,
                groups=list(pair["group"]), **maker.drawn,
            ) if len(pair) else NOTHING  # fmt: skip
            rows.append(
                maker.row(
                    f"{metric}_ratio", f"{OURS} / {rival}", OURS, interval,
                    "translation_scores",
                )
            )  # fmt: skip
    return rows


def translation_table(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    """Return one line per method: what the Markdown and the report show."""
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(row.method, {"method": TITLES[row.method]})
        if row.condition == ALL and row.metric in SHOWN:
            line[SHOWN[row.metric][0]] = with_interval(row)
        if row.metric in (f"f1_{IOU}", f"mean_matched_{IOU}"):
            title = "F1" if row.metric.startswith("f1") else "IoU of matched"
            line[f"{row.condition}: {title}"] = with_interval(row)
    return list(lines.values())


def ratio_lines(rows: Sequence[ResultRow]) -> list[tuple[str, str]]:
    """Return the rivals, and the ratio of PSNR with its interval."""
    return [
        (TITLES[row.condition.partition(" / ")[2]], with_interval(row))
        for row in rows
        if row.metric == "psnr_ratio"
    ]


def headline(rows: Sequence[ResultRow], config: Config) -> str:
    """Return the sentence that a reader takes home."""
    found = {
        row.method: row
        for row in rows
        if row.condition == ALL and row.metric == "psnr" and not math.isnan(row.value)
    }
    if not found:
        return "No stain could be measured: look at the images."
    best = max(found, key=lambda method: found[method].value)
    said = f"{TITLES[best]} is nearest to the real stains: {found[best].value:.1f} dB"
    if OURS in found and best != OURS:
        said += f"; residual diffusion: {found[OURS].value:.1f} dB"
    level = f"{100 * config.evaluate.confidence:g}% CI"
    row = found[best]
    if not math.isnan(row.ci_low):
        said += f" ({best}: [{row.ci_low:.1f}, {row.ci_high:.1f}], {level})"
    return f"{said}."


def translation_cautions(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    options, said = config.translate, []
    n = max((row.n for row in rows), default=0)
    if options.blocks:
        said.append(
            "Blocks of an image are the units of statistics: the intervals say nothing "
            "about other plates or other cells."
        )
    elif n < FEW_GROUPS:
        said.append(
            f"Measured on {n} independent wells: intervals, if there are any, are "
            "narrower than the truth."
        )
    if (seeds := len(options.seeds)) < 3:
        said.append(
            f"Each method was trained {'once' if seeds == 1 else f'{seeds} times'}: "
            "how much chance in the training matters is unknown. Set "
            "translate.seeds: [0, 1, 2] before claiming a difference."
        )
    return said


def translation_notes(rows: Sequence[ResultRow], config: Config) -> list[str]:
    """Return what the numbers mean, in sentences."""
    if not rows:
        return ["Nothing was measured."]
    first, level = rows[0], 100 * config.evaluate.confidence
    n = max(row.n for row in rows)
    options = config.translate
    interval = (
        f"Intervals ({level:g}%): bootstrap over {n} units ({first.unit_of_n}); ratios "
        "are paired; seeds are averaged, not resampled."
        if n >= FEWEST_GROUPS
        else f"There are {n} units ({first.unit_of_n}): too few for intervals."
    )
    blocks = (
        f" Blocks of {options.blocks} px of one image are no independent samples: "
        "intervals say how much the image varies, not how much plates do."
        if options.blocks
        else ""
    )
    return [
        f"Measured on the test part ({first.dataset}; data kind: {first.data_kind}; "
        f"scale of the run: {first.scale}), split by {options.plates.split_by}.",
        "Each channel is clipped to percentiles "
        f"{options.low_percentile:g} and {options.high_percentile:g} of "
        f"{'its own image' if options.scope == 'image' else 'its plate'}, which become "
        "0 and 255; MSE in squared grey values, PSNR with a peak of 255, SSIM with a "
        "data range of 255 and a Gaussian window, Pearson correlation of the pixels: "
        "mean over stains in each image, then over images.",
        "Instances are read off the predicted boundaries and matched one to one at IoU "
        "0.5; scores are pooled over images. IoU of matched: mean over the pairs that "
        "match, whatever was missed (the number of the paper's abstract).",
        interval + blocks,
    ]


def write_translation(
    rows: Sequence[ResultRow], csv: Path, md: Path, config: Config
) -> None:
    """Write the long CSV table and the Markdown table."""
    write_long(rows, csv)
    lines = []
    if shown := translation_table(rows):
        names = list(dict.fromkeys(name for line in shown for name in line))
        lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        lines += [
            "| " + " | ".join(line.get(name, "–") for name in names) + " |"
            for line in shown
        ]
        lines.append("")
    if ratios := ratio_lines(rows):
        lines += ["PSNR of residual diffusion by that of a rival:", ""]
        lines += [f"- {rival}: {ratio}" for rival, ratio in ratios]
        lines.append("")
    lines += [f"- {line}" for line in translation_notes(rows, config)]
    write_text(Path(md), "\n".join(lines) + "\n")

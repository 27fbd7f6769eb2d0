"""Predicted stains and instances against the real ones: rows, intervals, tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phantomscope.config.model import Config
from phantomscope.config.translation import ALL_METHODS
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.statistics import (
    FEWEST_GROUPS,
    Interval,
    bootstrap_interval,
    paired_bootstrap_ratio,
)
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.headline import FEW_GROUPS
from phantomscope.tables.instances import (
    BY_IMAGE,
    IOU,
    OURS,
    STARDIST,
    Instances,
    instance_lines,
    instance_ratios,
    instance_rows,
    load_detected,
)
from phantomscope.tables.results import ResultRow, with_interval

TITLES = {
    "cellresdm": "residual diffusion (CellResDM)",
    "cellresdm_latent": "residual diffusion (latent space)",
    "unet": "U-Net, regression", "pix2pix": "Pix2Pix", "spade": "SPADE",
    "palette": "Palette",
    "spade_diffusion": "SPADE-Diffusion",
    STARDIST["brightfield"]: "StarDist on brightfield",
    STARDIST["fluorescence"]: "StarDist on a real stain",
}  # fmt: skip
ALL = "all stains"
PIXELS = ("mse", "mae", "psnr", "ssim", "correlation")
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
class RowMaker:
    """Makes rows: what all of an experiment share is filled in."""

    config: Config
    counted: str = ""

    @property
    def unit(self) -> str:
        """What intervals are drawn over: blocks or wells, unless it is said."""
        blocks = self.config.translate.blocks
        return self.counted or ("block of an image" if blocks else "well")

    def row(
        self, metric: str, condition: str, method: str, interval: Interval, source: str
    ) -> ResultRow:
        """Make a row; n is the number of groups."""
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


def mean_of(values: Sequence[float]) -> float:
    """Return the mean, for the bootstrap."""
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
        image), the means over images; of nuclei and cells `instance_rows`, also of
        StarDist. Seeds are averaged in each image. Intervals are drawn over
        groups of images, none for fewer than three. Then ``psnr_ratio`` and
        ``ssim_ratio`` of residual diffusion to each rival, paired by image.
    """
    found = load_translated(Path(root), config)
    maker = RowMaker(config)
    rows = [row for one in found for row in _pixel_rows(maker, one)]
    instances = [*_instances(found), *load_detected(Path(root), config)]
    return [*rows, *instance_rows(maker, instances), *_ratio_rows(maker, found)]


def _pixel_rows(maker: RowMaker, one: Translated) -> list[ResultRow]:
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
                    list(images["value"]), mean_of, groups=list(images["group"]),
                    **maker.drawn,
                )  # fmt: skip
            rows.append(maker.row(metric, condition, one.method, interval, source))
    return rows


def _instances(found: Sequence[Translated]) -> list[Instances]:
    """Return what was read off the boundaries of each method."""
    return [
        Instances(one.method, str(kind), table, source)
        for one in found
        if not one.objects.empty
        for source in [f"translation_scores/{one.method}/seed*/objects.csv"]
        for kind, table in one.objects.groupby("objects", sort=False)
    ]


def _ratio_rows(maker: RowMaker, found: Sequence[Translated]) -> list[ResultRow]:
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
                list(pair["value"]), list(pair["value_rival"]), mean_of,
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


def instance_tables(
    rows: Sequence[ResultRow],
) -> dict[str, list[dict[str, str]]]:
    """Return the tables of instances that have lines, by their titles."""
    found = {
        "Instances, pooled over images": instance_lines(rows, "", TITLES),
        "Instances, mean over images": instance_lines(rows, BY_IMAGE, TITLES),
        f"Instances at IoU {IOU}, ours by a rival's": instance_ratios(rows, TITLES),
    }
    return {title: lines for title, lines in found.items() if lines}


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

"""Semantic filtering: all numbers with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.statistics import (
    Interval,
    bootstrap_interval,
)
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.filter_metrics import (
    BY_FOLD,
    BY_IMAGE,
    INSTANCE_SCORES,
    OURS,
    RATIO,
    SCORES,
    main_rule,
)
from phantomscope.tables.filter_scores import (
    ALL,
    Draws,
    Scored,
    iou_of,
    load_scored,
    run_of,
    runs,
    score_of,
)
from phantomscope.tables.results import ResultRow, dataset_name
from phantomscope.tables.translation import NOTHING, RowMaker, mean_of

COMPOSED = "composed"
# What layers are compared with, too: columns of the scores, and names in rows.
REFERENCES = {"_input": "input", "_empty": "empty"}
PLATES = "plate_scores"


@dataclass(frozen=True)
class FilterRows(RowMaker):
    """Makes rows of semantic filtering: the data may be composed.

    Attributes
    ----------
    dataset : str
        Where the images come from.
    """

    dataset: str = ""

    def row(
        self, metric: str, condition: str, method: str, interval: Interval, source: str
    ) -> ResultRow:
        """Make a row; of composed images it says so."""
        made = super().row(metric, condition, method, interval, source)
        made = replace(made, dataset=self.dataset or made.dataset)
        if self.config.filter.truth == "layers" and self.counted != "well":
            made = replace(made, data_kind=_composed(made.data_kind))
        return made

    def counting(self, unit: str) -> FilterRows:
        """Return the same with another unit of n."""
        return replace(self, counted=unit)


def _composed(kind: str) -> str:
    return COMPOSED if kind == "real" else f"{COMPOSED}, {kind}"


def unit_of(config: Config, found: Sequence[Scored]) -> str:
    """Return what intervals are drawn over."""
    if config.filter.truth == "layers":
        return "composed image"
    if config.filter.pairs == "video":
        return "video"
    alone = all(one.units["group"].is_unique for one in found)
    return "image" if alone else "image group"


def filtering_rows(root: Path, config: Config) -> list[ResultRow]:
    """Return all numbers of semantic filtering, measured on images nobody trained on.

    Parameters
    ----------
    root : Path
        Folder of the experiment.
    config : Config
        Targets, methods, folds and seeds of `filter`; resamples and confidence of
        `evaluate`.

    Returns
    -------
    list of ResultRow
        For each target, method and number of training images: precision, recall and F1
        by every rule, pooled and as mean over folds (metrics ending in ``_by_fold``),
        of masks the IoU, of layers PSNR and SSIM beside those of the image as it is;
        then the pooled F1 and mask IoU of ours by each rival's (``_ratio``), and the
        controls of the plate. Seeds are pooled. Intervals are drawn over groups of
        images, over folds, or over wells; none for fewer than three.
    """
    root = Path(root)
    found = load_scored(root, config)
    if not found:
        return []
    maker = FilterRows(config, unit_of(config, found), dataset_name(root, config))
    draws = {one.target: Draws(one.units, config) for one in found}
    rows: list[ResultRow] = []
    for one in found:
        rows += _object_rows(maker, draws[one.target], one)
        rows += _mask_rows(maker, draws[one.target], one)
        rows += _layer_rows(maker, one)
    rows += _input_rows(maker, found)
    rows += _ratio_rows(maker, draws, found)
    return [*rows, *plate_rows(root, config, maker)]


def _object_rows(maker: FilterRows, draws: Draws, one: Scored) -> list[ResultRow]:
    rows, about = [], (one.condition, one.method)
    for rule in one.rules:
        counts = one.counts(rule)
        for name in INSTANCE_SCORES if rule.startswith("instances") else SCORES:
            score = score_of(name)
            metric = f"{name}_{rule}"
            pooled = draws.pooled(counts, score)
            rows.append(maker.row(metric, *about, pooled, one.source))
            if maker.config.filter.folds > 1:
                mean = draws.by_fold(counts, score)
                over = maker.counting("fold")
                rows.append(over.row(metric + BY_FOLD, *about, mean, one.source))
    return rows


def _mask_rows(maker: FilterRows, draws: Draws, one: Scored) -> list[ResultRow]:
    rows, masks = [], one.pixels[one.pixels["layer"] == "mask"]
    if len(masks):
        shared = one.shared(masks)
        for metric, interval in (
            ("mask_iou", draws.pooled(shared, iou_of)),
            (f"mask_iou{BY_IMAGE}", draws.by_image(shared, iou_of)),
        ):
            rows.append(
                maker.row(metric, one.condition, one.method, interval, one.source)
            )
    for step, table in one.curve.groupby("step"):
        interval = draws.pooled(one.shared(table), iou_of)
        condition = f"{one.condition}, {step_text(float(str(step)))}"
        rows.append(
            maker.row("removed_iou", condition, one.method, interval, one.source)
        )
    return rows


def step_text(step: float) -> str:
    """Return how a step is called in conditions, such as ``step 10/255``."""
    return f"step {255 * step:.3g}/255"


def _layer_interval(maker: FilterRows, images: pd.DataFrame) -> Interval:
    if images.empty:
        return NOTHING
    return bootstrap_interval(
        list(images["value"]), mean_of, groups=list(images["group"]), **maker.drawn
    )


def _layer_rows(
    maker: FilterRows, one: Scored, suffix: str = "", method: str = ""
) -> list[ResultRow]:
    rows = []
    for layer in dict.fromkeys(one.pixels["layer"]):
        if layer == "mask":
            continue
        for metric in ("psnr", "ssim"):
            images = one.of_images(layer, f"{metric}{suffix}")
            condition = one.target if suffix else one.condition
            rows.append(maker.row(
                f"layer_{metric}", f"{condition}, {layer} layer",
                method or one.method, _layer_interval(maker, images), one.source,
            ))  # fmt: skip
    return rows


def _input_rows(maker: FilterRows, found: Sequence[Scored]) -> list[ResultRow]:
    """Return how near images as they are, and nothing, come to layers, once each."""
    rows: dict[str, ResultRow] = {}
    for one in found:
        for suffix, name in REFERENCES.items():
            for row in _layer_rows(maker, one, suffix, name):
                rows.setdefault(row.id, row)
    return list(rows.values())


def _ratio_rows(
    maker: FilterRows, draws: dict[str, Draws], found: Sequence[Scored]
) -> list[ResultRow]:
    """Return F1 and mask IoU of ours by those of others, same number of images."""
    rows, rule = [], main_rule(maker.config.filter)
    for ours in (one for one in found if one.method in OURS):
        for rival in found:
            # One without a number of images stands beside every number.
            alike = rival.images in (ours.images, ALL)
            after = rival.method in OURS[: OURS.index(ours.method)]
            if rival.target != ours.target or not alike:
                continue
            if rival.method in OURS and not after:
                continue
            condition = f"{ours.condition}: {ours.method} / {rival.method}"
            drawn, about = draws[ours.target], (condition, ours.method)
            pairs = [(f"f1_{rule}", score_of("f1"), ours.counts(rule),
                      rival.counts(rule))]  # fmt: skip
            masks = [one.pixels[one.pixels["layer"] == "mask"] for one in (ours, rival)]
            if all(len(table) for table in masks):
                pairs.append(("mask_iou", iou_of, ours.shared(masks[0]),
                              rival.shared(masks[1])))  # fmt: skip
            for metric, statistic, a, b in pairs:
                ratio = drawn.ratio(a, b, statistic)
                rows.append(
                    maker.row(f"{metric}{RATIO}", *about, ratio, "filter_scores")
                )
    return rows


def plate_counts(root: Path, config: Config, target: str, method: str) -> pd.DataFrame:
    """Return the objects in each well, mean over the trainings that counted them.

    Of the largest number of training images. Empty where none did.
    """
    most, tables = config.filter.sizes_of(method)[-1], []
    for images, fold, seed in runs(config, method):
        run = run_of(target, method, images, fold, seed)
        path = root / PLATES / run / "plate.csv"
        if images == most and path.exists():
            tables.append(read_table(path))
    if not tables:
        return pd.DataFrame()
    joined = pd.concat(tables)
    joined["control"] = joined["control"].fillna("")
    return joined.groupby("well", as_index=False).agg(
        control=("control", "first"), objects=("objects", "mean")
    )


def plate_rows(root: Path, config: Config, maker: FilterRows) -> list[ResultRow]:
    """Return how well the controls of the plate are told apart; none without a plate.

    Raises
    ------
    PhantomscopeError
        If the plate is wanted, and nobody counted its objects.
    """
    # It loads distributions: a table without a plate does not wait for them.
    from phantomscope.measure.assay import compare_controls

    rows, seen = list[ResultRow](), maker.counting("well")
    for target in config.filter.targets if config.filter.plate else []:
        for method in config.filter.methods:
            table = plate_counts(root, config, target, method)
            if table.empty:
                continue
            values = [
                table.loc[table["control"] == kind, "objects"].to_numpy(float)
                for kind in ("positive", "negative")
            ]
            z, tests = compare_controls(*values, **maker.drawn)
            named = {
                "p_student_t": tests["student_t"], "p_welch_t": tests["welch_t"],
                "control_difference": tests["difference"],
            }  # fmt: skip
            alone = (math.nan, math.nan, z.n, z.n_groups)
            about = f"{target}, controls", method
            source = f"{PLATES}/{target}/{method}"
            rows.append(seen.row("z_prime", *about, z, source))
            rows += [
                seen.row(metric, *about, Interval(value, *alone), source)
                for metric, value in named.items()
            ]
    if config.filter.plate and not rows:
        raise PhantomscopeError(
            "nobody counted the objects of the plate",
            where=root / PLATES,
            fix="run `evaluate-plate`, or leave `filter.plate` empty",
        )
    return rows

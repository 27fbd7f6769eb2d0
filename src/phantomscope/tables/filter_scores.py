"""What was measured of semantic filtering: read, pooled, and drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.filtering import ALL_FILTER_METHODS
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.statistics import Interval, percentiles
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.filter_metrics import rule_key
from phantomscope.tables.rows import group_weights, scores_of_counts, share

Floats = NDArray[np.float64]
COUNTS = ("true_positives", "false_positives", "false_negatives", "iou_sum")
ALL = "all"
TABLES = ("objects", "pixels", "curve")


def runs(config: Config, method: str) -> Iterator[tuple[str, int, int]]:
    """Yield (images, fold, seed) of all trainings of a method.

    The median learns nothing: it runs once in each fold.
    """
    options = config.filter
    for images in options.sizes_of(method):
        for fold in range(options.folds):
            for seed in options.seeds_of(method):
                yield images, fold, seed


def run_of(target: str, method: str, images: str, fold: int, seed: int) -> str:
    """Return the folder of a training, below that of its kind."""
    return f"{target}/{method}/{images}/fold{fold}/seed{seed}"


@dataclass(frozen=True, eq=False)
class Scored:
    """What was measured of one method, trained on so many images.

    Attributes
    ----------
    target, method, images : str
        Class of objects, method, and ``all`` or a number.
    objects, pixels, curve : DataFrame
        Rows of `stages.filter_scores` of all folds and seeds, with columns ``seed``
        and ``key`` (the image: where each fold composes its own, with the fold).
    """

    target: str
    method: str
    images: str
    objects: pd.DataFrame
    pixels: pd.DataFrame
    curve: pd.DataFrame

    @property
    def condition(self) -> str:
        """What rows say of it: the class, and the number of training images."""
        if self.images == ALL:
            return self.target
        return f"{self.target}, {self.images} images"

    @property
    def source(self) -> str:
        """Where the numbers are from."""
        return f"filter_scores/{self.target}/{self.method}/{self.images}"

    @cached_property
    def units(self) -> pd.DataFrame:
        """Group and fold of each image, by key, in a fixed order."""
        first = self.objects.groupby("key")[["group", "fold"]].first()
        return first.sort_index()

    @cached_property
    def rules(self) -> list[str]:
        """Names of the rules, in the order in which they were measured."""
        return list(dict.fromkeys(self._keyed["what"]))

    @cached_property
    def _keyed(self) -> pd.DataFrame:
        names = [
            rule_key(rule, threshold)
            for rule, threshold in self.objects[["rule", "threshold"]].itertuples(
                index=False
            )
        ]
        return self.objects.assign(what=names)

    def counts(self, rule: str) -> Floats:
        """Return tp, fp, fn and the summed IoU of each image, summed over seeds.

        Shape (images, 4), in the order of `units`.
        """
        own = self._keyed[self._keyed["what"] == rule]
        summed = own.groupby("key")[list(COUNTS)].sum()
        found: Floats = summed.reindex(self.units.index).to_numpy(float)
        return found

    def shared(self, table: pd.DataFrame) -> Floats:
        """Return intersection and union of each image, summed over seeds."""
        summed = table.groupby("key")[["intersection", "union"]].sum()
        found: Floats = summed.reindex(self.units.index).fillna(0).to_numpy(float)
        return found

    def of_images(self, layer: str, metric: str) -> pd.DataFrame:
        """Return a metric of a layer of each image, mean over seeds, and its group.

        Identical images have no PSNR: they are left out.
        """
        own = self.pixels[self.pixels["layer"] == layer]
        found = own.groupby("key").agg(value=(metric, "mean"), group=("group", "first"))
        return found.replace([np.inf, -np.inf], np.nan).dropna(subset="value")


def _read(path: Path, config: Config, fold: int, seed: int) -> pd.DataFrame:
    table = read_table(path)
    table["group"] = table["group"].fillna(table["id"]).astype(str)
    table["key"] = table["id"].astype(str)
    if config.filter.truth == "layers":
        # Each fold composes images of its own, under the same names.
        for name in ("key", "group"):
            table[name] = f"fold{fold}/" + table[name]
    return table.assign(seed=seed)


def load_scored(root: Path, config: Config) -> list[Scored]:
    """Read what was measured, in the order of the config.

    Raises
    ------
    PhantomscopeError
        If a table is missing or broken, or methods were measured on other images.
    """
    found = []
    for target in config.filter.targets:
        for method in (m for m in ALL_FILTER_METHODS if m in config.filter.methods):
            parts: dict[str, dict[str, list[pd.DataFrame]]] = {}
            for images, fold, seed in runs(config, method):
                folder = root / "filter_scores"
                folder /= run_of(target, method, images, fold, seed)
                own = parts.setdefault(images, {name: [] for name in TABLES})
                for name in TABLES:
                    own[name].append(_read(folder / f"{name}.csv", config, fold, seed))
            for images, own in parts.items():
                joined = {name: _joined(tables) for name, tables in own.items()}
                found.append(Scored(target, method, images, **joined))
    _check_same(found, root)
    return found


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def _check_same(found: Sequence[Scored], root: Path) -> None:
    known: dict[str, Scored] = {}
    for one in found:
        first = known.setdefault(one.target, one)
        if not one.units.equals(first.units):
            raise PhantomscopeError(
                f"{one.method} and {first.method} were measured on other images of "
                f"{one.target}",
                where=root / "filter_scores",
                fix="delete this folder and run the same command again",
            )


Statistic = Callable[[Floats], Floats]


def score_of(name: str) -> Statistic:
    """Return what computes a score of counts, shape (..., 4) to (...)."""

    def score(counts: Floats) -> Floats:
        tp, fp, fn, iou = np.moveaxis(counts, -1, 0)
        if name == "pq":
            return share(iou, tp + (fp + fn) / 2, tp + fp + fn)
        return scores_of_counts(tp, fp, fn)[name]

    return score


def iou_of(shared: Floats) -> Floats:
    """Return intersection over union, shape (..., 2) to (...); 1 of two empty masks."""
    return share(shared[..., 0], shared[..., 1], shared[..., 1])


@dataclass(frozen=True, eq=False)
class Draws:
    """Intervals of sums over images: whole groups of these are drawn anew.

    The same resamples for all methods, so that ratios are paired.

    Attributes
    ----------
    units : DataFrame
        Group and fold of each image.
    config : Config
        Resamples and confidence of `evaluate`, and the seed.
    """

    units: pd.DataFrame
    config: Config

    @cached_property
    def weights(self) -> Floats:
        """How often each image is drawn, shape (resamples, images)."""
        rounds = self.config.evaluate.resamples
        return group_weights(list(self.units["group"]), rounds, self.config.seed)

    def interval(self, value: float, drawn: Floats, n: int | None = None) -> Interval:
        """Return a value with the percentiles of what was drawn."""
        low, high = percentiles(drawn, self.config.evaluate.confidence)
        groups = self.units["group"].nunique() if n is None else n
        return Interval(value, low, high, len(self.units), groups)

    def pooled(self, sums: Floats, statistic: Statistic) -> Interval:
        """Return a statistic of the sum over all images, shape (images, ...)."""
        value = float(statistic(sums.sum(axis=0)))
        return self.interval(value, statistic(self.weights @ sums))

    def by_image(self, sums: Floats, statistic: Statistic) -> Interval:
        """Return the mean over images of a statistic of each."""
        each = statistic(sums)
        drawn = self.weights @ each / self.weights.sum(axis=1)
        return self.interval(float(each.mean()), drawn)

    def by_fold(self, sums: Floats, statistic: Statistic) -> Interval:
        """Return the mean over folds of a statistic of each; folds are drawn anew."""
        folds = self.units["fold"].to_numpy()
        each = np.array([
            float(statistic(sums[folds == fold].sum(axis=0)))
            for fold in np.unique(folds)
        ])  # fmt: skip
        random = np.random.default_rng(self.config.seed)
        rounds = self.config.evaluate.resamples
        drawn = each[random.integers(len(each), size=(rounds, len(each)))].mean(axis=1)
        return self.interval(float(each.mean()), drawn, len(each))

    def ratio(self, ours: Floats, theirs: Floats, statistic: Statistic) -> Interval:
        """Return ours by theirs, of the same images; NaN where theirs is 0."""

        def divided(a: Floats, b: Floats) -> Floats:
            nothing = np.full(np.shape(a), np.nan)
            found: Floats = np.divide(a, b, out=nothing, where=np.asarray(b) > 0)
            return found

        values = [statistic(sums.sum(axis=0)[None]) for sums in (ours, theirs)]
        drawn = [statistic(self.weights @ sums) for sums in (ours, theirs)]
        return self.interval(float(divided(*values)[0]), divided(*drawn))

"""Scores of all methods, and the intervals of what is computed from them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.config.arms import arm_rank
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.matching import threshold_keys
from phantomscope.measure.statistics import FEWEST_GROUPS
from phantomscope.tables.artefacts import read_table

Floats = NDArray[np.float64]
TOOLS = ("cellpose", "stardist", "otsu_watershed", "generalist")
# What one object alone says: enough for these and for nothing else.
OBJECT_METRICS = ("ap_0.50", "precision_0.50", "recall_0.50", "f1_0.50")


@dataclass(frozen=True)
class Method:
    """One tool trained on one arm, with the scores of each of its seeds.

    Attributes
    ----------
    tool, arm : str
        Names as in the folder of scores.
    images, objects : dict
        Seed to its table of images (indexed by id) and of objects.
    absent : str
        Why there are no scores; empty if there are.
    """

    tool: str
    arm: str
    images: dict[int, pd.DataFrame] = field(default_factory=dict)
    objects: dict[int, pd.DataFrame] = field(default_factory=dict)
    absent: str = ""

    @property
    def name(self) -> str:
        """Tool and arm, as rows name them."""
        return f"{self.tool} {self.arm}"

    @property
    def seeds(self) -> list[int]:
        """Seeds with scores, ascending."""
        return sorted(self.images)


def _rank(name: str, known: Sequence[str]) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known), name)


def load_methods(root: Path) -> list[Method]:
    """Read the scores of all methods, in the order of the tables.

    Raises
    ------
    PhantomscopeError
        If a table is broken, or two methods were measured on different images.
    """
    folders = sorted(path for path in (root / "scores").glob("*/*") if path.is_dir())
    folders.sort(key=lambda p: (_rank(p.parent.name, TOOLS), arm_rank(p.name)))
    methods = [_load(folder) for folder in folders]
    methods = [method for method in methods if method.images or method.absent]
    tables = [(m, table) for m in methods for table in m.images.values()]
    for method, table in tables[1:]:
        if list(table.index) != list(tables[0][1].index):
            raise PhantomscopeError(
                f"{method.name} and {tables[0][0].name} were measured on different "
                "images and cannot be compared",
                where=root / "scores",
                fix="delete the older of the two and run the same command again",
            )
    return methods


def _load(folder: Path) -> Method:
    method = Method(folder.parent.name, folder.name)
    reasons = []
    for path in sorted(folder.glob("seed*")):
        if (path / "absent.txt").exists():
            reasons.append((path / "absent.txt").read_text(encoding="utf-8").strip())
        elif (path / "images.csv").exists():
            seed = int(path.name.removeprefix("seed"))
            table = read_table(path / "images.csv")
            table = table.assign(group=table["group"].fillna(table["id"]))
            method.images[seed] = table.set_index("id", drop=False).sort_index()
            if (path / "objects.csv").exists():
                method.objects[seed] = read_table(path / "objects.csv")
    absent = (reasons or [""])[0] if not method.images else ""
    return Method(method.tool, method.arm, method.images, method.objects, absent)


def share(part: Floats, whole: Floats, total: Floats) -> Floats:
    """Divide: with nothing to find and nothing found 1, any other 0/0 is 0.

    As `Matching` has it.
    """
    quotient = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return np.where(total == 0, 1.0, quotient)


def scores_of_counts(tp: Floats, fp: Floats, fn: Floats) -> dict[str, Floats]:
    """Return ap, precision, recall and f1 of counts of any shape."""
    total = tp + fp + fn
    return {
        "ap": share(tp, total, total),
        "precision": share(tp, tp + fp, total),
        "recall": share(tp, tp + fn, total),
        "f1": share(2 * tp, 2 * tp + fp + fn, total),
    }


def _summed(table: pd.DataFrame, weights: Floats, keys: Sequence[str]) -> pd.DataFrame:
    """Weighted sums over the images: one row per row of `weights`."""
    some = table["n_true"].to_numpy(float) > 0
    columns = {
        name: table[name].to_numpy(float) for name in ("n_true", "splits", "merges")
    }
    for key in keys:
        for name in (f"tp_{key}", f"fp_{key}", f"fn_{key}", f"iou_sum_{key}"):
            if name not in table:
                raise PhantomscopeError(
                    f"the scores lack the column {name}",
                    where="evaluate.thresholds",
                    fix="run the evaluation again with these thresholds",
                )
            columns[name] = table[name].to_numpy(float)
    for name in ("seg", "dice_mean"):
        # An image without true objects has a NaN mean and no weight.
        mean = np.where(some, table[name].to_numpy(float), 0.0)
        columns[name] = mean * columns["n_true"]
    sums = weights @ np.stack(list(columns.values()), axis=1)
    return pd.DataFrame(sums, columns=list(columns))


def pooled_metrics(
    table: pd.DataFrame, weights: Floats, thresholds: Sequence[float]
) -> dict[str, Floats]:
    """Return the metrics of the table for each row of weights of the images.

    With all weights 1 they equal those of `phantomscope.measure.instance.pool`; this
    one is for thousands of resamples at once.

    Parameters
    ----------
    table : DataFrame
        One row per image, columns of `score_image`.
    weights : ndarray, shape (n_resamples, n_images)
        How often each image counts.
    thresholds : sequence of float
        IoU thresholds.
    """
    keys = threshold_keys(thresholds)
    sums = _summed(table, weights, keys)
    found: dict[str, Floats] = {}
    for key in keys:
        tp, fp, fn, iou = (
            sums[f"{name}_{key}"].to_numpy() for name in ("tp", "fp", "fn", "iou_sum")
        )
        counts = scores_of_counts(tp, fp, fn)
        found |= {f"{name}_{key}": values for name, values in counts.items()}
        found[f"pq_{key}"] = share(iou, tp + (fp + fn) / 2, tp + fp + fn)
    found["ap_mean"] = np.mean([found[f"ap_{key}"] for key in keys], axis=0)
    objects = sums["n_true"].to_numpy()
    empty = np.full_like(objects, np.nan)
    for name, column in (("seg", "seg"), ("dice", "dice_mean")):
        part = sums[column].to_numpy()
        found[name] = np.divide(part, objects, out=empty.copy(), where=objects > 0)
    found |= {name: sums[name].to_numpy() for name in ("splits", "merges")}
    return found


def group_weights(groups: ArrayLike, resamples: int, seed: int) -> Floats:
    """Draw groups with replacement, as many as there are.

    Parameters
    ----------
    groups : array_like of str, shape (n_images,)
        Group of each image.
    resamples, seed : int
        How often, and of the draws.

    Returns
    -------
    ndarray, shape (resamples, n_images)
        How often each image was drawn.
    """
    names, members = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    random = np.random.default_rng(seed)
    drawn = random.integers(len(names), size=(resamples, len(names)))
    counts = np.stack([np.bincount(d, minlength=len(names)) for d in drawn])
    return np.asarray(counts[:, members], float)


class Bootstrap:
    """The same resamples for all methods and seeds, so that ratios are paired.

    Groups of images are drawn with replacement. With fewer than three groups that
    says nothing; then objects are resampled with Poisson weights: a true object has
    the same weight under every method, and the number of false ones is Poisson
    distributed around what was found.

    Parameters
    ----------
    method : Method
        Any method with scores: it names the images, groups and true objects.
    config : Config
        Resamples, confidence, thresholds, seed.
    """

    def __init__(self, method: Method, config: Config) -> None:
        self.options = config.evaluate
        self.seed = config.seed
        table = method.images[method.seeds[0]]
        self.n_images = len(table)
        groups = table["group"].to_numpy()
        self.n_groups = len(set(groups.astype(str)))
        self.by_groups = self.n_groups >= FEWEST_GROUPS
        self.n_objects = int(table["n_true"].sum())
        rounds = self.options.resamples
        if self.by_groups:
            self.weights = group_weights(groups, rounds, self.seed)
        else:
            random = np.random.default_rng(self.seed)
            self.weights = random.poisson(1.0, (rounds, self.n_objects)).astype(float)

    @property
    def n(self) -> int:
        """Number of resampled units."""
        return self.n_groups if self.by_groups else self.n_objects

    @property
    def unit(self) -> str:
        """What is resampled."""
        if self.by_groups:
            return "image group"
        count = {1: "one image"}.get(self.n_images, f"{self.n_images} images")
        return f"object of {count}"

    def values(self, method: Method) -> dict[int, dict[str, float]]:
        """Return the metrics of each seed."""
        ones = np.ones((1, self.n_images))
        return {
            seed: {
                name: float(value[0])
                for name, value in pooled_metrics(
                    table, ones, self.options.thresholds
                ).items()
            }
            for seed, table in method.images.items()
        }

    def draws(self, method: Method) -> dict[int, dict[str, Floats]]:
        """Return, for each seed, each metric under each resample."""
        if self.by_groups:
            return {
                seed: pooled_metrics(table, self.weights, self.options.thresholds)
                for seed, table in method.images.items()
            }
        return {s: self._object_draws(method, s) for s in method.objects}

    def _object_draws(self, method: Method, seed: int) -> dict[str, Floats]:
        from scipy import stats

        table = method.objects[seed].sort_values("id", kind="stable")
        true = table[table["fp"] == 0]
        if len(true) != self.n_objects:
            raise PhantomscopeError(
                f"{method.name}, seed {seed}, was measured against {len(true)} true "
                f"objects, another method against {self.n_objects}",
                where="scores",
                fix="delete its folder of scores and run the same command again",
            )
        found = true["tp"].to_numpy(float)
        # One chance for all seeds of a method: they tend to invent the same objects,
        # and averaging independent draws would make the interval too narrow.
        key = zlib.crc32(method.name.encode())
        chance = np.random.default_rng([self.seed, key]).random(len(self.weights))
        false = stats.poisson.ppf(chance, float((table["fp"] == 1).sum()))
        counts = scores_of_counts(
            self.weights @ found,
            np.nan_to_num(np.asarray(false, float)),
            self.weights @ (1 - found),
        )
        return {f"{name}_0.50": values for name, values in counts.items()}

    def interval(self, draws: Floats | None) -> tuple[float, float]:
        """Return the percentile interval; NaN where there is nothing to draw."""
        kept = np.asarray([]) if draws is None else draws[~np.isnan(draws)]
        if kept.size == 0:
            return float("nan"), float("nan")
        tail = (1 - self.options.confidence) / 2
        low, high = np.quantile(kept, [tail, 1 - tail])
        return float(low), float(high)


def over_seeds(by_seed: dict[int, dict[str, Any]], metric: str) -> Any:
    """Return the mean over seeds of a value, or of its resamples; None if absent."""
    found = [values[metric] for values in by_seed.values() if metric in values]
    return np.mean(found, axis=0) if found else None

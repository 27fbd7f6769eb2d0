"""Instances of translation: scores of all methods and of StarDist, with intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.analysis import Evaluate
from phantomscope.config.model import Config
from phantomscope.config.translation import ALL_DETECTORS
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.matching import THRESHOLDS, threshold_keys
from phantomscope.measure.statistics import Interval, percentiles
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.results import ResultRow, with_interval
from phantomscope.tables.rows import group_weights, scores_of_counts, share

if TYPE_CHECKING:
    from phantomscope.tables.translation import RowMaker

Floats = NDArray[np.float64]
OURS = "cellresdm"
STARDIST = {name: f"stardist_{name}" for name in ALL_DETECTORS}
KEYS = tuple(threshold_keys(THRESHOLDS))
# All scores are given at these, F1 at every threshold.
IOU, *_OTHERS = SHOWN = ("0.50", "0.70", "0.90")
# The seven of the paper; `ap` is what StarDist calls accuracy.
OBJECTS = ("precision", "recall", "f1", "ap", "mean_matched", "mean_true", "pq")
TITLES = {
    "precision": "precision", "recall": "recall", "f1": "F1", "ap": "accuracy (AP)",
    "mean_matched": "IoU of matched", "mean_true": "IoU per true", "pq": "PQ",
}  # fmt: skip
BY_IMAGE = "_by_image"
RATIOS = ("f1", "ap", "pq", "mean_matched")
_METRIC = re.compile(rf"({'|'.join(OBJECTS)})_(0\.\d\d)({BY_IMAGE}|_ratio)?")


@dataclass(frozen=True)
class Instances:
    """What one method found of nuclei or of cells.

    Attributes
    ----------
    method : str
        A method of translation, or a value of `STARDIST`.
    kind : str
        ``nuclei`` or ``cells``.
    table : DataFrame
        Rows of `measure.translation.object_row` with ``id``, ``group`` and ``seed``.
    source : str
        Where they are from.
    """

    method: str
    kind: str
    table: pd.DataFrame
    source: str

    @cached_property
    def ids(self) -> list[str]:
        """Images, or blocks of them, in the order of `groups` and `counts`."""
        return sorted(set(self.table["id"].astype(str)))

    @cached_property
    def groups(self) -> list[str]:
        """The unit of statistics of each image."""
        first = self.table.assign(id=self.table["id"].astype(str)).groupby("id")
        return [str(name) for name in first["group"].first().loc[self.ids]]

    def counts(self, key: str) -> Floats:
        """Return counts of each image at an IoU, shape (seeds, images, 5).

        They are tp, fp, fn, the sum of the IoU of pairs, and true objects.
        """
        names = [f"{n}_{key}" for n in ("tp", "fp", "fn", "iou_sum")] + ["n_true"]
        parts = [
            part.assign(id=part["id"].astype(str)).set_index("id").loc[self.ids, names]
            for _, part in self.table.groupby("seed")
        ]
        return np.stack([part.to_numpy(float) for part in parts])


def load_detected(root: Path, config: Config) -> list[Instances]:
    """Read what was measured of StarDist, in the order of the config.

    Raises
    ------
    PhantomscopeError
        If a table is missing or broken.
    """
    options, found = config.translate, []
    for detector in (d for d in ALL_DETECTORS if d in options.detectors):
        for kind in options.detected:
            place = f"detection_scores/{detector}/{kind}"
            table = pd.concat([
                read_table(root / place / f"seed{seed}/objects.csv").assign(seed=seed)
                for seed in options.seeds
            ])  # fmt: skip
            source = f"{place}/seed*/objects.csv"
            found.append(Instances(STARDIST[detector], kind, table, source))
    return found


def scores(counts: Floats) -> dict[str, Floats]:
    """Return the seven scores of counts.

    Parameters
    ----------
    counts : ndarray, shape (..., 5)
        tp, fp, fn, the sum of the IoU of pairs, and true objects.

    Returns
    -------
    dict of str to ndarray
        Shape (...). With nothing to find and nothing found the first ones are 1 (see
        `Matching`); both means of IoU are NaN where there is nothing to divide by.
    """
    tp, fp, fn, iou, true = np.moveaxis(counts, -1, 0)
    total = tp + fp + fn
    empty = np.full_like(tp, np.nan)
    return scores_of_counts(tp, fp, fn) | {
        "mean_matched": np.divide(iou, tp, out=empty.copy(), where=tp > 0),
        "mean_true": np.divide(iou, true, out=empty.copy(), where=true > 0),
        "pq": share(iou, tp + (fp + fn) / 2, total),
    }


def pooled(counts: Floats, weights: Floats) -> dict[str, Floats]:
    """Return scores of the summed counts of images and seeds, for each resample.

    Parameters
    ----------
    counts : ndarray, shape (seeds, images, 5)
        See `Instances.counts`.
    weights : ndarray, shape (resamples, images)
        How often each image counts.
    """
    return scores(weights @ counts.sum(axis=0))


def by_image(counts: Floats, weights: Floats) -> dict[str, Floats]:
    """Return means of the scores of each image, over seeds and then images.

    As `stardist.matching.matching_dataset` with `by_image`: an image in which there is
    nothing to divide by counts as 0. Images without any true or found object, which
    that counts as 0, too, are left out here.

    Parameters
    ----------
    counts, weights : ndarray
        As of `pooled`.
    """
    there = counts[..., :3].sum(axis=-1) > 0
    # How often seeds have something to judge: no image counts for more than its share.
    seen = there.mean(axis=0)
    below = weights @ seen
    found = {}
    for name, values in scores(counts).items():
        each = np.where(there, np.nan_to_num(values), 0.0).mean(axis=0)
        empty = np.full_like(below, np.nan)
        found[name] = np.divide(weights @ each, below, out=empty, where=below > 0)
    return found


class _Drawn:
    """The same resamples for all methods, so that ratios are paired."""

    def __init__(self, found: Sequence[Instances], evaluate: Evaluate, seed: int):
        first = found[0]
        for one in found:
            if (one.ids, one.groups) != (first.ids, first.groups):
                raise PhantomscopeError(
                    f"{one.method} and {first.method} were measured on different "
                    "images and cannot be compared",
                    where=f"{one.source}, {first.source}",
                    fix="delete these folders and run the same command again",
                )
        self.groups = len(set(first.groups))
        self.images, self.confidence = len(first.ids), evaluate.confidence
        drawn = group_weights(first.groups, evaluate.resamples, seed)
        self.weights = np.concatenate([np.ones((1, self.images)), drawn])

    def interval(self, values: Floats) -> Interval:
        """Return the value of all images, which comes first, and its interval."""
        low, high = math.nan, math.nan
        if self.groups > 1:
            low, high = percentiles(values[1:], self.confidence)
        return Interval(float(values[0]), low, high, self.images, self.groups)


def instance_rows(maker: RowMaker, found: Sequence[Instances]) -> list[ResultRow]:
    """Return the scores of all methods, and ratios of ours to each rival.

    Parameters
    ----------
    maker : RowMaker
        What all rows share.
    found : sequence of Instances
        Of methods of translation and of StarDist.

    Returns
    -------
    list of ResultRow
        For each method and kind ``f1_T`` at all thresholds; at 0.5, 0.7 and 0.9 all
        of `OBJECTS`, pooled over images and, with ``_by_image``, as means over images.
        ``f1_0.50_ratio`` and others: those of residual diffusion by a rival's.

    Raises
    ------
    PhantomscopeError
        If methods were measured on different images.
    """
    rows: list[ResultRow] = []
    for kind in dict.fromkeys(one.kind for one in found):
        own = [one for one in found if one.kind == kind]
        drawn = _Drawn(own, maker.config.evaluate, maker.config.seed)
        at_half: dict[str, Mapping[str, Floats]] = {}
        for one in own:
            at_half[one.method] = pooled(one.counts(IOU), drawn.weights)
            for metric, values in _metrics(one, drawn).items():
                interval = drawn.interval(values)
                rows.append(maker.row(metric, kind, one.method, interval, one.source))
        for rival in at_half if OURS in at_half else ():
            if rival == OURS:
                continue
            for name in RATIOS:
                above, below = at_half[OURS][name], at_half[rival][name]
                empty = np.full_like(below, np.nan)
                ratio = np.divide(above, below, out=empty, where=below > 0)
                rows.append(maker.row(
                    f"{name}_{IOU}_ratio", f"{kind} {OURS} / {rival}", OURS,
                    drawn.interval(ratio), "translation_scores, detection_scores",
                ))  # fmt: skip
    return rows


def _metrics(one: Instances, drawn: _Drawn) -> dict[str, Floats]:
    """Return all scores of one method under each resample."""
    found: dict[str, Floats] = {}
    for key in KEYS:
        counts = one.counts(key)
        whole = pooled(counts, drawn.weights)
        if key not in SHOWN:
            found[f"f1_{key}"] = whole["f1"]
            continue
        found |= {f"{name}_{key}": whole[name] for name in OBJECTS}
        means = by_image(counts, drawn.weights)
        found |= {f"{name}_{key}{BY_IMAGE}": means[name] for name in OBJECTS}
    return found


def parse_metric(metric: str) -> tuple[str, str, str] | None:
    """Return name, IoU and averaging of a metric of instances; None of any other.

    Averaging is empty (pooled), ``_by_image`` or ``_ratio``.
    """
    found = _METRIC.fullmatch(metric)
    return (found[1], found[2], found[3] or "") if found else None


def definitions() -> dict[str, str]:
    """Return what each metric of instances means."""
    said = {
        "precision": "tp / (tp + fp)", "recall": "tp / (tp + fn)",
        "f1": "2 tp / (2 tp + fp + fn)",
        "ap": "tp / (tp + fp + fn), which StarDist calls accuracy",
        "mean_matched": "Mean IoU of the objects that match, whatever was missed",
        "mean_true": "Summed IoU of the objects that match by the number of true ones",
        "pq": "Panoptic quality, the summed IoU by tp + fp/2 + fn/2",
    }  # fmt: skip
    found = {}
    for name, text in said.items():
        for key in KEYS if name == "f1" else SHOWN:
            match = f"{text}; matched one to one at IoU {key}"
            found[f"{name}_{key}"] = f"{match}, pooled over images."
            if key in SHOWN:
                found[f"{name}_{key}{BY_IMAGE}"] = (
                    f"{match}, mean over images: 0 where there is nothing to divide "
                    "by; images without true and found objects are left out."
                )
        if name in RATIOS:
            found[f"{name}_{IOU}_ratio"] = (
                f"`{name}_{IOU}` of residual diffusion by that of a rival; the same "
                "images are drawn for both."
            )
    return found


def instance_lines(
    rows: Sequence[ResultRow], averaging: str, titles: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return one line per kind of object, IoU and method, with the seven scores.

    Parameters
    ----------
    rows : sequence of ResultRow
        Those of other things are passed over.
    averaging : {"", "_by_image"}
        Pooled, or means over images.
    titles : mapping of str to str
        Names of the methods.
    """
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        parsed = parse_metric(row.metric)
        if parsed is None or parsed[2] != averaging or parsed[1] not in SHOWN:
            continue
        place = (row.condition, parsed[1], row.method)
        start = {"objects": place[0], "IoU": place[1], "method": titles[row.method]}
        lines.setdefault(place, start)[TITLES[parsed[0]]] = with_interval(row)
    kinds = list(dict.fromkeys(place[0] for place in lines))
    order = sorted(lines, key=lambda place: (kinds.index(place[0]), place[1]))
    return [lines[place] for place in order]


def instance_ratios(
    rows: Sequence[ResultRow], titles: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return one line per kind of object and rival: ours by that of the rival."""
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        parsed = parse_metric(row.metric)
        if parsed is None or parsed[2] != "_ratio":
            continue
        what, _, rival = row.condition.partition(" / ")
        start = {"objects": what.split()[0], "rival": titles[rival]}
        line = lines.setdefault(row.condition, start)
        line[f"{TITLES[parsed[0]]}: ours / rival"] = with_interval(row)
    return list(lines.values())


def table_lines(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return lines as a table of Markdown; what one lacks is a dash."""
    if not lines:
        return []
    names = list(dict.fromkeys(name for line in lines for name in line))
    cells = [[str(line.get(name, "–")) for name in names] for line in lines]
    return [
        "| " + " | ".join(names) + " |", "|" + "---|" * len(names),
        *("| " + " | ".join(row) + " |" for row in cells), "",
    ]  # fmt: skip

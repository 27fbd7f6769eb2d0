"""Instance segmentation measures on integer label images of any dimension.

Every measure is a function of one small table, the pixel counts shared by each pair
of true and predicted objects, so that an image is read only once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.matching import (
    THRESHOLDS,
    Matching,
    assign_pairs,
    match_at,
    threshold_keys,
)
from phantomscope.measure.overlap import Overlap, overlap_table

__all__ = [
    "THRESHOLDS",
    "Matching",
    "Overlap",
    "ctc_seg",
    "dice_per_object",
    "iou_matrix",
    "match",
    "object_records",
    "overlap_table",
    "pool",
    "score_image",
    "seg_per_object",
    "split_merge_counts",
]

Floats = NDArray[np.float64]


def iou_matrix(truth: ArrayLike, prediction: ArrayLike) -> Floats:
    """Return the intersection over union of each true with each predicted object.

    Parameters and errors are those of `overlap_table`.

    Returns
    -------
    ndarray of float64, shape (n_true, n_pred)
        Values in [0, 1], objects in the ascending order of their labels.
    """
    table = overlap_table(truth, prediction)
    dense: Floats = table.dense(table.iou)
    return dense


def match(
    truth: ArrayLike,
    prediction: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Matching]:
    """Match true and predicted objects one to one at each IoU threshold.

    The matching is the one of ``stardist.matching.matching``: as many pairs with
    IoU >= threshold as possible, ties broken by the sum of the IoU.

    Parameters
    ----------
    truth, prediction : array_like of integer
        Label images, see `overlap_table`.
    thresholds : sequence of float, optional
        IoU thresholds in (0, 1], distinct to two decimals; 0.50, 0.55, ..., 0.95.

    Returns
    -------
    list of Matching
        One per threshold, in the given order.

    Raises
    ------
    PhantomscopeError
        For bad label images or thresholds.
    """
    return match_at(overlap_table(truth, prediction), thresholds)


def seg_per_object(truth: ArrayLike, prediction: ArrayLike) -> Floats:
    """Return the Cell Tracking Challenge SEG value of each true object.

    The Jaccard index with the predicted object that covers more than half of the
    true object, 0 if none does (Maška et al. 2014, Bioinformatics 30:1609, 2.3).

    Parameters and errors are those of `overlap_table`.

    Returns
    -------
    ndarray of float64, shape (n_true,)
        Values in [0, 1], in the ascending order of the labels.
    """
    return _seg(overlap_table(truth, prediction))


def _seg(table: Overlap) -> Floats:
    covers = 2 * table.counts > table.true_sizes[table.rows]
    return _best(table, np.where(covers, table.iou, 0.0))


def _best(table: Overlap, values: NDArray[Any]) -> NDArray[Any]:
    """Return the largest value of each true object's pairs, 0 without any."""
    best = np.zeros(table.true_sizes.size, values.dtype)
    np.maximum.at(best, table.rows, values)
    return best


def ctc_seg(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return SEG, the mean of `seg_per_object`; NaN if there are no true objects."""
    return _mean(seg_per_object(truth, prediction))


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def dice_per_object(truth: ArrayLike, prediction: ArrayLike) -> Floats:
    """Return the Dice coefficient of each true object with its best-overlap prediction.

    The best overlap is the most shared pixels (Eschweiler & Stegmaier 2023, section
    4); of several such predicted objects, the one with the highest Dice counts, and
    one predicted object may serve several true ones.

    Parameters and errors are those of `overlap_table`.

    Returns
    -------
    ndarray of float64, shape (n_true,)
        2 |T n P| / (|T| + |P|) in [0, 1], 0 where no predicted object overlaps.
    """
    return _dice(overlap_table(truth, prediction))


def _dice(table: Overlap) -> Floats:
    most = _best(table, table.counts)[table.rows]
    return _best(table, np.where(table.counts == most, table.dice, 0.0))


def split_merge_counts(
    truth: ArrayLike, prediction: ArrayLike, fraction: float = 0.5
) -> tuple[int, int]:
    """Count split true objects and predicted objects that merge true ones.

    A true object is split if at least two predicted objects each lie in it with more
    than `fraction` of their own area; a predicted object is a merger if at least two
    true objects each lie in it with more than `fraction` of their own area. A
    fragment of any size counts, so filter small objects first where that matters.

    Parameters
    ----------
    truth, prediction : array_like of integer
        Label images, see `overlap_table`.
    fraction : float, optional
        Share of the contained object's area, in [0.5, 1), so that an object lies in
        one other at most.

    Returns
    -------
    tuple of int
        Splits and merges.

    Raises
    ------
    PhantomscopeError
        For bad label images or a bad fraction.
    """
    if not 0.5 <= fraction < 1:
        raise PhantomscopeError(
            f"fraction is {fraction}, outside of [0.5, 1)", fix="use 0.5"
        )
    return _split_merge(overlap_table(truth, prediction), fraction)


def _split_merge(table: Overlap, fraction: float = 0.5) -> tuple[int, int]:
    pred_inside = table.counts > fraction * table.pred_sizes[table.columns]
    true_inside = table.counts > fraction * table.true_sizes[table.rows]
    splits = np.count_nonzero(np.bincount(table.rows[pred_inside]) >= 2)
    merges = np.count_nonzero(np.bincount(table.columns[true_inside]) >= 2)
    return int(splits), int(merges)


def score_image(
    truth: ArrayLike,
    prediction: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, float]:
    """Return all counts and scores of one image as one flat row, ready for `pool`.

    Parameters and errors are those of `match`.

    Returns
    -------
    dict of str to float
        n_true, n_predicted; for each threshold such as 0.50: tp_0.50, fp_0.50,
        fn_0.50, iou_sum_0.50; seg and dice_mean, the means over the true objects
        (NaN without any), and dice_square_mean, that of the squared Dice; splits,
        merges; foreground_shared, foreground_true and foreground_predicted, pixels of
        any object in both, in the truth, and in the prediction.
    """
    table = overlap_table(truth, prediction)
    row = {
        "n_true": float(table.true_sizes.size),
        "n_predicted": float(table.pred_sizes.size),
    }
    for key, found in zip(
        threshold_keys(thresholds), match_at(table, thresholds), strict=True
    ):
        row[f"tp_{key}"] = float(found.tp)
        row[f"fp_{key}"] = float(found.fp)
        row[f"fn_{key}"] = float(found.fn)
        row[f"iou_sum_{key}"] = found.iou_sum
    splits, merges = _split_merge(table)
    dice = _dice(table)
    row |= {"seg": _mean(_seg(table)), "dice_mean": _mean(dice)}
    row |= {"splits": float(splits), "merges": float(merges)}
    return row | {
        "dice_square_mean": _mean(dice**2),
        "foreground_shared": float(table.counts.sum()),
        "foreground_true": float(table.true_sizes.sum()),
        "foreground_predicted": float(table.pred_sizes.sum()),
    }


def pool(
    rows: Sequence[Mapping[str, float]], thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """Pool rows of `score_image` into scores over all objects of all images.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of `score_image`, one per image, made with at least these thresholds.
    thresholds : sequence of float, optional
        IoU thresholds, see `match`.

    Returns
    -------
    dict of str to float
        For each threshold such as 0.50: ap_0.50, precision_0.50, recall_0.50, f1_0.50
        and pq_0.50 of the summed counts (see `Matching`); ap_mean, the mean over the
        thresholds; seg and dice, means over all true objects, and dice_sd, the
        standard deviation of the latter (NaN without any); dice_foreground, the Dice
        coefficient of the pixels of any object (1 without any); splits, merges,
        n_true: sums; n_images.

    Raises
    ------
    PhantomscopeError
        If there are no rows, or a row lacks a column.
    """
    keys = threshold_keys(thresholds)
    pooled: dict[str, float] = {}
    for key, threshold in zip(keys, thresholds, strict=True):
        tp, fp, fn = (round(_total(rows, f"{n}_{key}")) for n in ("tp", "fp", "fn"))
        found = Matching(threshold, tp, fp, fn, _total(rows, f"iou_sum_{key}"))
        pooled[f"ap_{key}"] = found.average_precision
        pooled[f"precision_{key}"] = found.precision
        pooled[f"recall_{key}"] = found.recall
        pooled[f"f1_{key}"] = found.f1
        pooled[f"pq_{key}"] = found.panoptic_quality
    pooled["ap_mean"] = float(np.mean([pooled[f"ap_{key}"] for key in keys]))
    n_true = _total(rows, "n_true")
    # An image without true objects has a NaN mean and no weight.
    some = [row for row in rows if row["n_true"] > 0]
    for name, column in (
        ("seg", "seg"), ("dice", "dice_mean"), ("dice_sd", "dice_square_mean")
    ):  # fmt: skip
        total = sum(row["n_true"] * row[column] for row in some)
        pooled[name] = total / n_true if n_true else float("nan")
    variance = pooled["dice_sd"] - pooled["dice"] ** 2
    pooled["dice_sd"] = float(np.sqrt(np.maximum(variance, 0.0)))
    shared, *both = (
        _total(rows, f"foreground_{name}") for name in ("shared", "true", "predicted")
    )
    pooled["dice_foreground"] = 2 * shared / sum(both) if sum(both) else 1.0
    for name in ("splits", "merges", "n_true"):
        pooled[name] = _total(rows, name)
    return pooled | {"n_images": float(len(rows))}


def _total(rows: Sequence[Mapping[str, float]], column: str) -> float:
    if not rows:
        raise PhantomscopeError("there are no rows to pool", fix="score an image first")
    if any(column not in row for row in rows):
        raise PhantomscopeError(
            f"a row to pool lacks the column {column}",
            fix="score all images with the thresholds that are pooled",
        )
    return float(sum(row[column] for row in rows))


def object_records(
    truth: ArrayLike, prediction: ArrayLike, threshold: float = 0.5
) -> pd.DataFrame:
    """Return one row per object: what to resample where there is only one image.

    Parameters
    ----------
    truth, prediction : array_like of integer
        Label images, see `overlap_table`.
    threshold : float, optional
        IoU threshold in (0, 1], see `match`.

    Returns
    -------
    pandas.DataFrame
        First the true objects in the ascending order of their labels, then one row
        per unmatched predicted object. Columns tp, fp, fn, int64, of which one is 1
        and the others 0; iou, float64, of the matched pair, 0.0 if unmatched; dice and
        seg, float64, as `dice_per_object` and `seg_per_object` give them, NaN for a
        predicted object.

    Raises
    ------
    PhantomscopeError
        For bad label images or a bad threshold.
    """
    threshold_keys([threshold])
    table = overlap_table(truth, prediction)
    pairs = assign_pairs(table, threshold)
    rows, (n_true, n_pred) = table.rows[pairs], table.shape
    size = n_true + n_pred - rows.size
    tp = np.zeros(size, dtype=np.int64)
    matched = np.zeros(size)
    tp[rows] = 1
    matched[rows] = table.iou[pairs]
    fp = (np.arange(size) >= n_true).astype(np.int64)
    own = {name: np.full(size, np.nan) for name in ("dice", "seg")}
    own["dice"][:n_true], own["seg"][:n_true] = _dice(table), _seg(table)
    return pd.DataFrame({"tp": tp, "fp": fp, "fn": 1 - tp - fp, "iou": matched} | own)

"""One-to-one matching of objects by their intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.overlap import Overlap

Floats = NDArray[np.float64]

THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))

# An IoU is a ratio of pixel counts, so two distinct ones differ by far more than this;
# it only keeps "IoU >= 0.7" true of 7/10 when the caller's 0.7 is 0.7000000000000002.
_TOLERANCE = 1e-9


class Rates:
    """Scores that follow from counts of found, wrong and missed objects."""

    tp: int
    fp: int
    fn: int

    def _share(self, part: float, whole: float) -> float:
        if self.tp == self.fp == self.fn == 0:
            return 1.0
        return part / whole if whole else 0.0

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return self._share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return self._share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


@dataclass(frozen=True)
class Matching(Rates):
    """Counts of a one-to-one matching at one IoU threshold, and what follows.

    With nothing to find and nothing found (tp = fp = fn = 0) every score is 1.0,
    where stardist reports 0; any other 0/0 (such as the precision of no prediction)
    is 0.0, as in stardist.

    Attributes
    ----------
    threshold : float
        The IoU from which a pair may match, in (0, 1].
    tp, fp, fn : int
        Matched pairs, unmatched predicted objects, unmatched true objects.
    iou_sum : float
        The sum of the IoU of the matched pairs.
    """

    threshold: float
    tp: int
    fp: int
    fn: int
    iou_sum: float

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), as in the Data Science Bowl 2018 and Cellpose."""
        return self._share(self.tp, self.tp + self.fp + self.fn)

    @property
    def panoptic_quality(self) -> float:
        """Sum of matched IoU / (TP + FP/2 + FN/2), Kirillov et al. 2019, eq. 1."""
        return self._share(self.iou_sum, self.tp + self.fp / 2 + self.fn / 2)


def match_at(table: Overlap, thresholds: Sequence[float]) -> list[Matching]:
    """Match the objects of a table one to one at each threshold."""
    threshold_keys(thresholds)
    n_true, n_pred = table.shape
    iou, found = table.iou, []
    for threshold in thresholds:
        pairs = assign_pairs(table, threshold)
        tp, total = pairs.size, float(iou[pairs].sum())
        found.append(Matching(float(threshold), tp, n_pred - tp, n_true - tp, total))
    return found


def assign(
    iou: Floats, threshold: float, *, disjoint: bool = True
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows and the columns of the matched pairs of a dense matrix.

    `disjoint`: neither the true nor the predicted objects overlap among themselves, as
    those of label images; boxes do.
    """
    hit = iou >= threshold - _TOLERANCE
    if disjoint and threshold > 0.5 + 2 * _TOLERANCE:
        # Objects of an image are disjoint, so at most one can share over half the
        # union with a given object: the pairs are one-to-one already.
        rows, columns = np.nonzero(hit)
        return rows, columns
    # Sum of IoU / (2 n) stays under 1/2: it breaks ties and never costs a pair.
    cost = -hit.astype(np.float64) - iou / (2 * max(1, min(iou.shape)))
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    kept = hit[rows, columns]
    return rows[kept], columns[kept]


def assign_pairs(table: Overlap, threshold: float) -> NDArray[np.intp]:
    """Return which pairs of a table are matched, as `assign` does.

    Objects that are not linked by any overlap cannot compete, so the assignment is
    solved for each linked group by itself: the groups are small, the matrix of all
    objects of a volume is not.
    """
    iou = table.iou
    hits = np.flatnonzero(iou >= threshold - _TOLERANCE)
    if threshold > 0.5 + 2 * _TOLERANCE:
        return hits
    # At 1/2 exactly two pairs may share an object, but only if the one object is the
    # other two: nothing else overlaps them. Below, misses can break ties.
    linked = hits if threshold >= 0.5 - _TOLERANCE else np.arange(iou.size)
    rows, columns = table.rows[linked], table.columns[linked]
    n_true, n_pred = table.shape
    graph = scipy.sparse.coo_array(
        (np.ones(linked.size), (rows, columns + n_true)),
        shape=(n_true + n_pred, n_true + n_pred),
    )
    group = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    kept = [
        _assign_group(table, linked[part], iou, threshold)
        for part in np.split(order, cuts)
        if part.size
    ]
    return np.sort(np.concatenate(kept)) if kept else hits


def _assign_group(
    table: Overlap, pairs: NDArray[np.intp], iou: Floats, threshold: float
) -> NDArray[np.intp]:
    """Match the objects of one group of pairs."""
    if pairs.size == 1:
        return pairs[iou[pairs] >= threshold - _TOLERANCE]
    rows, row = np.unique(table.rows[pairs], return_inverse=True)
    columns, column = np.unique(table.columns[pairs], return_inverse=True)
    matrix = np.zeros((rows.size, columns.size))
    which = np.zeros(matrix.shape, np.intp)
    matrix[row, column], which[row, column] = iou[pairs], pairs
    matched: NDArray[np.intp] = which[assign(matrix, threshold)]
    return matched


def threshold_keys(thresholds: Sequence[float]) -> list[str]:
    """Return the thresholds as they stand in column names, after checking them."""
    keys = [f"{threshold:.2f}" for threshold in thresholds]
    if (
        not keys
        or len(set(keys)) < len(keys)
        or not all(0 < t <= 1 for t in thresholds)
    ):
        raise PhantomscopeError(
            f"bad IoU thresholds: {list(thresholds)}",
            fix="give at least one, in (0, 1], distinct to two decimals",
            example="thresholds: [0.5, 0.75]",
        )
    return keys

"""The table of pixels that two label images share, object by object.

The table is sparse: of n true and m predicted objects only the pairs that touch are
listed, so that its size grows with the number of objects and not with its square.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.measure import checks

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
# Pixels that are looked at together: bounds the memory.
CHUNK = 1 << 24


class Overlap(NamedTuple):
    """Pixel counts of two label images.

    Attributes
    ----------
    rows, columns : ndarray of int64, shape (n_pairs,)
        Which true and which predicted object share pixels, as numbers from 0 in the
        ascending order of the labels; sorted by row, then by column.
    counts : ndarray of int64, shape (n_pairs,)
        How many pixels they share, at least 1.
    true_sizes, pred_sizes : ndarray of int64, shapes (n_true,) and (n_pred,)
        Pixels of the whole objects.
    """

    rows: Counts
    columns: Counts
    counts: Counts
    true_sizes: Counts
    pred_sizes: Counts

    @property
    def shape(self) -> tuple[int, int]:
        """Number of true and of predicted objects."""
        return self.true_sizes.size, self.pred_sizes.size

    @property
    def iou(self) -> Floats:
        """Intersection over union of each pair, in (0, 1]."""
        whole = self.true_sizes[self.rows] + self.pred_sizes[self.columns]
        return self.counts / (whole - self.counts)

    @property
    def dice(self) -> Floats:
        """Dice coefficient of each pair, in (0, 1]."""
        whole = self.true_sizes[self.rows] + self.pred_sizes[self.columns]
        return 2 * self.counts / whole

    def dense(self, values: NDArray[Any]) -> NDArray[Any]:
        """Spread a value per pair over an array (n_true, n_pred), 0 elsewhere."""
        full = np.zeros(self.shape, values.dtype)
        full[self.rows, self.columns] = values
        return full


def overlap_table(truth: ArrayLike, prediction: ArrayLike) -> Overlap:
    """Count the pixels that each true object shares with each predicted object.

    Parameters
    ----------
    truth, prediction : array_like of integer
        Label images of one shape, any number of axes; 0 is background and the
        positive labels need not be sequential.

    Returns
    -------
    Overlap
        Background is left out.

    Raises
    ------
    PhantomscopeError
        If the shapes differ or either is empty, not integer, or negative.
    """
    true = checks.labels(truth, "truth")
    pred = checks.labels(prediction, "prediction")
    checks.same_shape(true, pred, ("truth", "prediction"))
    trues, preds, lengths = _runs(true.ravel(), pred.ravel())
    true_index, true_sizes = _numbered(trues, lengths)
    pred_index, pred_sizes = _numbered(preds, lengths)
    both = (true_index >= 0) & (pred_index >= 0)
    width = max(pred_sizes.size, 1)
    keys, inverse = np.unique(
        true_index[both] * width + pred_index[both], return_inverse=True
    )
    counts = _summed(inverse, lengths[both], keys.size)
    return Overlap(keys // width, keys % width, counts, true_sizes, pred_sizes)


def _runs(
    true: NDArray[np.integer[Any]], pred: NDArray[np.integer[Any]]
) -> tuple[NDArray[Any], NDArray[Any], Counts]:
    """Find runs of pixels along the last axis with the same two labels.

    There are far fewer runs than pixels, so all that follows is fast; one chunk is
    looked at at a time.
    """
    trues, preds, lengths = [], [], []
    for first in range(0, true.size, CHUNK):
        t, p = true[first : first + CHUNK], pred[first : first + CHUNK]
        ends = np.flatnonzero((t[1:] != t[:-1]) | (p[1:] != p[:-1]))
        ends = np.append(ends, t.size - 1)
        some = (t[ends] > 0) | (p[ends] > 0)
        trues.append(t[ends][some])
        preds.append(p[ends][some])
        lengths.append(np.diff(ends, prepend=-1)[some])
    return np.concatenate(trues), np.concatenate(preds), np.concatenate(lengths)


def _numbered(
    labels: NDArray[np.integer[Any]], lengths: Counts
) -> tuple[Counts, Counts]:
    """Give labels numbers from 0, background -1; return their sizes, too."""
    values, inverse = np.unique(labels, return_inverse=True)
    shift = 1 if values.size and values[0] == 0 else 0
    index = inverse.astype(np.int64) - shift
    sizes = _summed(inverse, lengths, values.size)[shift:]
    return index, sizes


def _summed(index: NDArray[Any], lengths: Counts, size: int) -> Counts:
    """Sum lengths by index; sums of fewer than 2^53 pixels are exact in float64."""
    return np.bincount(index, lengths, size).astype(np.int64)

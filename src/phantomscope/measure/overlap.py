"""The table of pixels that two label images share, object by object."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.measure import checks

Counts = NDArray[np.int64]


class Overlap(NamedTuple):
    """Pixel counts of two label images; rows and columns in the order of the labels."""

    counts: Counts
    true_sizes: Counts
    pred_sizes: Counts


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
        counts, int64 (n_true, n_pred), in pixels, background left out; true_sizes,
        int64 (n_true,), and pred_sizes, int64 (n_pred,), the whole objects in pixels.
        Objects are in the ascending order of their labels.

    Raises
    ------
    PhantomscopeError
        If the shapes differ or either is empty, not integer, or negative.
    """
    true = checks.labels(truth, "truth")
    pred = checks.labels(prediction, "prediction")
    checks.same_shape(true, pred, ("truth", "prediction"))
    true_index, n_true = _sequential(true.ravel())
    pred_index, n_pred = _sequential(pred.ravel())
    both = (true_index > 0) & (pred_index > 0)
    pair = (true_index[both] - 1) * n_pred + pred_index[both] - 1
    counts = np.bincount(pair, minlength=n_true * n_pred).reshape(n_true, n_pred)
    true_sizes = np.bincount(true_index, minlength=n_true + 1)[1:]
    pred_sizes = np.bincount(pred_index, minlength=n_pred + 1)[1:]
    return Overlap(counts, true_sizes, pred_sizes)


def _sequential(flat: NDArray[np.integer[Any]]) -> tuple[Counts, int]:
    """Renumber labels to 0 (background), 1, ..., n in ascending order; return n too."""
    top = int(flat.max())
    if top <= max(flat.size, 2**16):
        # A look-up table needs no sort, which matters on a large volume.
        present = np.zeros(top + 1, dtype=bool)
        present[flat] = True
        present[0] = False
        table = np.where(present, np.cumsum(present), 0)
        return table[flat], int(table.max())
    values, inverse = np.unique(flat, return_inverse=True)
    shift = 0 if values[0] == 0 else 1
    return inverse.astype(np.int64) + shift, values.size - 1 + shift

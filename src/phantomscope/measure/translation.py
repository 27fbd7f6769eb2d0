"""How well predicted stains and instances agree with the real ones, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.measure.image import mae, mse, psnr, ssim
from phantomscope.measure.instance import THRESHOLDS, score_image

# Images are compared as 8 bits would show them, as the paper has it.
RANGE = 255.0


def shown(values: ArrayLike) -> NDArray[np.float64]:
    """Bring network values (-1 ... 1, clipped) to 0 ... 255."""
    return (np.clip(np.asarray(values, np.float64), -1, 1) + 1) / 2 * RANGE


def pixel_rows(
    truth: NDArray[Any], predicted: NDArray[Any], channels: Sequence[str]
) -> list[dict[str, Any]]:
    """Compare each channel of an image.

    Parameters
    ----------
    truth, predicted : ndarray, shape (C, Y, X)
        Network values.
    channels : sequence of str
        What they are.

    Returns
    -------
    list of dict
        ``channel``; ``mse`` in squared grey values of 0 ... 255, ``mae``, ``psnr`` in
        dB with a peak of 255, and ``ssim`` with a data range of 255 (Gaussian window);
        ``correlation`` (Pearson), NaN where either is constant.
    """
    rows = []
    for name, real, found in zip(channels, shown(truth), shown(predicted), strict=True):
        spread = float(real.std() * found.std())
        shared = float(((real - real.mean()) * (found - found.mean())).mean())
        rows.append({
            "channel": name,
            "mse": mse(real, found),
            "mae": mae(real, found),
            "psnr": psnr(real, found, RANGE),
            "ssim": ssim(real, found, RANGE),
            "correlation": shared / spread if spread > 0 else float("nan"),
        })  # fmt: skip
    return rows


def object_row(truth: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Compare the instances of an image: see `score_image`.

    Besides, the two means of the paper: ``mean_matched_T``, the mean IoU of the pairs
    that match at T, and ``mean_true_T``, their summed IoU by the number of true
    objects (the paper's prose exchanges them; these are those of StarDist). NaN where
    there is nothing to divide by.
    """
    row = score_image(truth, predicted)
    return row | means(row)


def means(
    row: Mapping[str, float], thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """Return both means of one row, or of the sum of several."""
    found = {}
    for threshold in thresholds:
        key = f"{threshold:.2f}"
        total = row[f"iou_sum_{key}"]
        for name, count in (
            ("mean_matched", row[f"tp_{key}"]), ("mean_true", row["n_true"]),
        ):  # fmt: skip
            found[f"{name}_{key}"] = total / count if count else float("nan")
    return found


def uncertainty_row(
    truth: NDArray[Any], predicted: NDArray[Any], spread: NDArray[Any], bins: int = 10
) -> dict[str, float]:
    """Tell whether pixels with a larger spread of predictions are more often wrong.

    Parameters
    ----------
    truth, predicted, spread : ndarray, shape (Y, X)
        Network values of one channel, and the standard deviation of predictions.
    bins : int
        Groups of pixels of equal size, by their spread.

    Returns
    -------
    dict
        ``correlation`` (Spearman) of the spread with the absolute error over the bins'
        means; ``calibration``: root mean squared error by root mean squared spread,
        1 if the spread is as large as the error; NaN where the spread is constant.
    """
    error = np.abs(truth.astype(np.float64) - predicted).ravel()
    width = np.asarray(spread, np.float64).ravel()
    if not width.max() > width.min():
        return {"correlation": float("nan"), "calibration": float("nan")}
    groups = np.array_split(np.argsort(width, kind="stable"), bins)
    ranks = np.argsort(np.argsort([error[group].mean() for group in groups]))
    correlation = float(np.corrcoef(ranks, np.arange(len(groups)))[0, 1])
    return {
        "correlation": correlation,
        "calibration": float(np.sqrt((error**2).mean() / (width**2).mean())),
    }

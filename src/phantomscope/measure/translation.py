"""How well predicted stains and instances agree with the real ones, image by image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from phantomscope.measure.image import mae, mse, psnr, ssim
from phantomscope.measure.instance import THRESHOLDS, score_image

# Images are compared as 8 bits would show them, as the paper has it.
RANGE = 255.0
# Spreads between which pixels are pooled: two bins for each doubling, the same for all
# images, from a quarter of a grey value of 0 ... 255 on.
RELIABILITY_EDGES = 2.0 ** np.arange(-9, 0.25, 0.5)


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


def error_per_spread(averaged: int = 1) -> float:
    """Return the error that a spread foretells, by that spread.

    Parameters
    ----------
    averaged : int
        How many predictions are averaged into the one whose error is asked for.

    Returns
    -------
    float
        Root mean squared error by the standard deviation of predictions. If the truth
        is as likely as any of them it is sqrt(2) for one prediction, since both are
        draws, and 1 for the mean of very many.
    """
    return math.sqrt(1 + 1 / averaged)


def uncertainty_row(
    truth: NDArray[Any], predicted: NDArray[Any], spread: NDArray[Any], bins: int = 10,
    averaged: int = 1,
) -> dict[str, float]:  # fmt: skip
    """Tell whether pixels with a larger spread of predictions are more often wrong.

    Parameters
    ----------
    truth, predicted, spread : ndarray, shape (Y, X)
        Network values of one channel, and the standard deviation of predictions.
    bins : int
        Groups of pixels of equal size, by their spread.
    averaged : int
        How many predictions `predicted` is the mean of.

    Returns
    -------
    dict
        ``correlation`` (Spearman) of the spread with the absolute error over the bins'
        means, and ``rank_correlation``, the same over pixels; ``calibration``: root
        mean squared error of the prediction by the one that the spread foretells; NaN
        where the spread is constant.

    Notes
    -----
    If the truth is as likely as any prediction, the calibration is 1: see
    `error_per_spread`.
    """
    error = np.abs(truth.astype(np.float64) - predicted).ravel()
    width = np.asarray(spread, np.float64).ravel()
    names = ("correlation", "rank_correlation", "calibration")
    if not width.max() > width.min():
        return dict.fromkeys(names, float("nan"))
    groups = np.array_split(np.argsort(width, kind="stable"), bins)
    ranks = np.argsort(np.argsort([error[group].mean() for group in groups]))
    ordered = np.nan
    if error.max() > error.min():
        ordered = np.corrcoef(*map(scipy.stats.rankdata, (error, width)))[0, 1]
    found = (
        np.corrcoef(ranks, np.arange(len(groups)))[0, 1],
        ordered,
        np.sqrt((error**2).mean() / (width**2).mean()) / error_per_spread(averaged),
    )
    return {name: float(value) for name, value in zip(names, found, strict=True)}


def reliability_rows(
    truth: NDArray[Any], predicted: NDArray[Any], spread: NDArray[Any]
) -> list[dict[str, float]]:
    """Sum squared errors of pixels of about the same spread, in bins for all images.

    Parameters
    ----------
    truth, predicted, spread : ndarray, shape (Y, X)
        As in `uncertainty_row`.

    Returns
    -------
    list of dict
        Of each bin with any pixel: its number in `RELIABILITY_EDGES` (``bin``),
        ``pixels``, and over these the sums ``squared_error`` and ``squared_spread``,
        squared network values. Sums of images add up.
    """
    error = (truth.astype(np.float64) - predicted).ravel() ** 2
    width = np.asarray(spread, np.float64).ravel()
    number = np.searchsorted(RELIABILITY_EDGES, width, side="right")
    sums = [
        np.bincount(number, weights, len(RELIABILITY_EDGES) + 1)
        for weights in (None, error, width**2)
    ]
    return [
        {"bin": int(n), "pixels": int(sums[0][n]),
         "squared_error": float(sums[1][n]), "squared_spread": float(sums[2][n])}
        for n in np.flatnonzero(sums[0])
    ]  # fmt: skip

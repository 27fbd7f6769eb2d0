"""The choice of t_start: enough noise to forget that it was a sketch, not its cells.

Eschweiler & Stegmaier 2023, section 3 and figure 2 compare histograms of noised images
and noised sketches. A fitted sketch has nearly the right histogram already, so the
histogram of fine texture is compared as well, and what comes back is checked against
the labels. Real images differ from each other, too: only what goes beyond the distance
between two halves of them counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from phantomscope.config.diffusion import Start
from phantomscope.engine.process import Process
from phantomscope.images.noise import NoiseField
from phantomscope.measure.distribution import (
    bhattacharyya_distance,
    kl_divergence,
    shared_histograms,
)

Image = NDArray[np.floating[Any]]


def noised(images: Sequence[Image], process: Process, t: int, name: str) -> list[Image]:
    """Apply the forward process to images in the network's range."""
    a, s = float(process.a[t]), float(process.s[t])
    fields = [NoiseField(0, f"{name}-{i}") for i in range(len(images))]
    return [
        a * image + s * field.block((0,) * image.ndim, image.shape, t)
        for image, field in zip(images, fields, strict=True)
    ]


def _pooled(images: Sequence[Image]) -> tuple[Image, Image]:
    """All intensities, and all differences from the local mean (fine texture)."""
    fine = [image - scipy.ndimage.gaussian_filter(image, 1.0) for image in images]
    return (
        np.concatenate([image.ravel() for image in images]),
        np.concatenate([image.ravel() for image in fine]),
    )


def forward_distances(
    real: Sequence[Image],
    sketches: Sequence[Image],
    process: Process,
    times: Sequence[int],
) -> pd.DataFrame:
    """Compare noised images with noised sketches.

    Parameters
    ----------
    real, sketches : sequence of ndarray, shape ([Z,] Y, X)
        Network values.
    process : Process
        Forward process.
    times : sequence of int
        Candidates for t_start.

    Returns
    -------
    DataFrame
        t; kl_intensity, bd_intensity, kl_texture, bd_texture: Kullback-Leibler
        divergence (images from sketches, nats) and Bhattacharyya distance of
        histograms with 256 bins over their shared range; bd_intensity_real,
        bd_texture_real: the same between two halves of the real images.
    """
    rows = []
    for t in times:
        first, second = (
            noised(real, process, t, "real"),
            noised(sketches, process, t, "sketch"),
        )
        pools = [_pooled(first), _pooled(second)]
        halves = [_pooled(first[::2]), _pooled(first[1::2] or first)]
        row: dict[str, float] = {"t": t}
        for which, what in enumerate(("intensity", "texture")):
            p, q = shared_histograms(pools[0][which], pools[1][which], bins=256)
            row[f"kl_{what}"] = kl_divergence(p, q)
            row[f"bd_{what}"] = bhattacharyya_distance(p, q)
            p, q = shared_histograms(halves[0][which], halves[1][which], bins=256)
            row[f"bd_{what}_real"] = bhattacharyya_distance(p, q)
        rows.append(row)
    return pd.DataFrame(rows)


def excess_distance(table: pd.DataFrame) -> pd.Series:
    """Distance of sketches from images beyond that among images, the larger of the two.

    Parameters
    ----------
    table : DataFrame
        What `forward_distances` gave.

    Returns
    -------
    Series
        At least 0, a row per time.
    """
    beyond = [
        table[f"bd_{w}"] - table[f"bd_{w}_real"] for w in ("intensity", "texture")
    ]
    return pd.concat(beyond, axis=1).max(axis=1).clip(lower=0.0)


def relative_fidelity(fidelity: Sequence[float]) -> NDArray[np.float64]:
    """Label fidelity relative to the best, made to fall with time.

    More noise cannot keep labels better. Where a few sketches say so, it is chance:
    isotonic regression (pool adjacent violators) takes the mean over such times.

    Parameters
    ----------
    fidelity : sequence of float
        F1 of each time, times rising.

    Returns
    -------
    ndarray
        Between 0 and 1.
    """
    smooth = scipy.optimize.isotonic_regression(fidelity, increasing=False).x
    relative: NDArray[np.float64] = smooth / max(smooth[0], 1e-9)
    return relative


@dataclass(frozen=True)
class Choice:
    """The chosen t_start and why."""

    value: int
    reason: str


def choose(table: pd.DataFrame, options: Start) -> Choice:
    """Choose the smallest time that is noisy enough and keeps the labels.

    Parameters
    ----------
    table : DataFrame
        t, excess (`excess_distance`) and fidelity_relative (`relative_fidelity` of F1
        at IoU 0.5 of an independent re-segmentation).
    options : Start
        Limits, or the value that the user fixed.
    """
    if options.value != "auto":
        return Choice(int(options.value), "fixed in the config (`start.value`)")
    distance = table["excess"]
    noisy = distance <= options.max_distance
    faithful = table["fidelity_relative"] >= options.min_fidelity
    both = table[noisy & faithful]
    if len(both):
        row = both.iloc[0]
        return Choice(
            int(row["t"]),
            f"the smallest time at which noised sketches look like noised images "
            f"(Bhattacharyya distance {distance[row.name]:.4f} beyond that among real "
            f"images, at most {options.max_distance:g}) and the labels survive the way "
            f"back ({row['fidelity_relative']:.0%} of the best label fidelity, at "
            f"least {options.min_fidelity:.0%})",
        )
    if faithful.any():
        index = distance[faithful].idxmin()
        row = table.loc[index]
        return Choice(
            int(row["t"]),
            f"no time is both noisy enough (distance at most {options.max_distance:g}) "
            f"and faithful (at least {options.min_fidelity:.0%}): this is the faithful "
            f"one with the smallest distance ({distance[index]:.4f})",
        )
    index = table["fidelity_relative"].idxmax()
    return Choice(
        int(table.loc[index, "t"]),
        "no time keeps the labels as asked: this is the most faithful one",
    )

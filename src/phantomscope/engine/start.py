"""The choice of t_start: enough noise to forget that it was a sketch, not its cells.

Eschweiler & Stegmaier 2023, section 3 and figure 2 compare histograms of noised images
and noised sketches. A fitted sketch has nearly the right histogram already, so the
histogram of fine texture is compared as well, and what comes back is checked against
the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

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
    return [
        a * image + s * NoiseField(0, f"{name}-{i}").block((0, 0), image.shape, t)
        for i, image in enumerate(images)
    ]


def _pooled(images: Sequence[Image]) -> tuple[Image, Image]:
    """All intensities, and all differences from the local mean (fine texture)."""
    fine = [image - ndimage.gaussian_filter(image, 1.0) for image in images]
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
    real, sketches : sequence of ndarray, shape (Y, X)
        Network values.
    process : Process
        Forward process.
    times : sequence of int
        Candidates for t_start.

    Returns
    -------
    DataFrame
        t, kl_intensity, bd_intensity, kl_texture, bd_texture: Kullback-Leibler
        divergence (images from sketches, nats) and Bhattacharyya distance of
        histograms with 256 bins over their shared range.
    """
    rows = []
    for t in times:
        pools = [
            _pooled(noised(images, process, t, name))
            for images, name in ((real, "real"), (sketches, "sketch"))
        ]
        row: dict[str, float] = {"t": t}
        for which, what in enumerate(("intensity", "texture")):
            p, q = shared_histograms(pools[0][which], pools[1][which], bins=256)
            row[f"kl_{what}"] = kl_divergence(p, q)
            row[f"bd_{what}"] = bhattacharyya_distance(p, q)
        rows.append(row)
    return pd.DataFrame(rows)


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
        t, bd_intensity, bd_texture and fidelity_relative (F1 at IoU 0.5 of an
        independent re-segmentation, divided by that of the best candidate).
    options : Start
        Limits, or the value that the user fixed.
    """
    if options.value != "auto":
        return Choice(int(options.value), "fixed in the config (`start.value`)")
    distance = table[["bd_intensity", "bd_texture"]].max(axis=1)
    noisy = distance <= options.max_distance
    faithful = table["fidelity_relative"] >= options.min_fidelity
    both = table[noisy & faithful]
    if len(both):
        row = both.iloc[0]
        return Choice(
            int(row["t"]),
            f"the smallest time at which noised sketches look like noised images "
            f"(Bhattacharyya distance {distance[row.name]:.4f}, at most "
            f"{options.max_distance:g}) and the labels survive the way back "
            f"({row['fidelity_relative']:.0%} of the best label fidelity, at least "
            f"{options.min_fidelity:.0%})",
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

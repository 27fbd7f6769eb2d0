"""Pictures of generated samples laid over the training patches next to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.tables.figures_volumes import as_plane
from phantomscope.tables.style import (
    FALSE,
    MUTED,
    bare,
    canvas,
    house_style,
    save,
    show,
)

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

Array = NDArray[Any]


def overlay(sample: Array, patch: Array, *, red: bool = False) -> Array:
    """Return a sample and a training patch in one picture.

    Parameters
    ----------
    sample, patch : ndarray, shape (y, x)
        Real numbers, each scaled to its own percentiles 1 and 99.5.
    red : bool, optional
        Red for the sample, green for the patch and yellow for both, as Saguy et al.
        2024 have it; else magenta, green and white, which any colour vision tells
        apart.

    Returns
    -------
    ndarray of float64, shape (y, x, 3)
        In [0, 1].
    """
    above, below = _stretched(sample), _stretched(patch)
    return np.stack([above, below, np.zeros_like(above) if red else above], axis=-1)


def _stretched(image: Array) -> Array:
    low, high = np.percentile(image, [1, 99.5])
    scaled: Array = np.clip((image - low) / max(float(high - low), 1e-9), 0, 1)
    return scaled


def plot_copies(
    samples: Sequence[Array], patches: Sequence[Array], scores: Sequence[float],
    flagged: Sequence[bool], out: Path, *, columns: int = 10, red: bool = False,
) -> None:  # fmt: skip
    """Draw each sample over its nearest training patch, the nearest first.

    Parameters
    ----------
    samples, patches : sequence of ndarray, shape (y, x)
        Generated images, and `NearestPatch.aligned` training patches.
    scores : sequence of float
        `NearestPatch.score`, written above each picture.
    flagged : sequence of bool
        `Alarm.flagged`: those are framed.
    out : Path
        A PNG.
    columns : int, optional
        Pictures in a row.
    red
        See `overlay`.

    Raises
    ------
    PhantomscopeError
        For no samples, or sequences of unequal lengths.
    """
    counts = {len(samples), len(patches), len(scores), len(flagged)}
    if len(counts) > 1 or not len(samples):
        raise PhantomscopeError(
            f"{len(samples)} samples come with {len(patches)} patches, {len(scores)} "
            f"scores and {len(flagged)} flags",
            fix="give at least one sample, and one of each for each",
        )
    rows = -(-len(samples) // columns)
    with house_style():
        figure = canvas(0.3 + rows * (9.4 / columns + 0.22))
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            bare(axes)
        order = sorted(range(len(samples)), key=lambda i: -scores[i])
        for axes, i in zip(grid, order, strict=False):
            axes.imshow(overlay(samples[i], patches[i], red=red))
            axes.set_title(f"{scores[i]:.2f}", fontsize=8, pad=3,
                           color=FALSE if flagged[i] else MUTED)  # fmt: skip
            for spine in axes.spines.values():
                spine.set(visible=bool(flagged[i]), color=FALSE, linewidth=2.5)
        figure.suptitle(
            f"{_key(red)}; correlation above; {sum(map(bool, flagged))} of "
            f"{len(samples)} framed as copies",
            x=0.01, ha="left", fontsize=8.5, color=MUTED,
        )  # fmt: skip
        save(figure, out)


def _key(red: bool) -> str:
    sample, both = ("red", "yellow") if red else ("magenta", "white")
    return f"{sample} synthetic, green training, {both} both"


def draw_pairs(part: SubFigure, images: ImageSet) -> None:
    """Draw pairs of an image set: sample, training patch laid onto it, and both."""
    numbers = sorted({i.rsplit("-", 1)[0] for i in images.ids})[:4]
    grid = part.subplots(3, len(numbers), squeeze=False)
    for axes, title in zip(
        grid[:, 0], ("synthetic", "training", "overlay"), strict=True
    ):
        axes.set_ylabel(title, fontsize=8.5)
    for column, name in zip(grid.T, numbers, strict=True):
        sample, patch = (
            as_plane(images.image(f"{name}-{kind}")) for kind in ("sample", "patch")
        )
        show(column[0], _stretched(sample))
        show(column[1], _stretched(patch))
        column[2].imshow(overlay(sample, patch))
        bare(column[2])
        bare(column[0])
    title = f"nearest pairs; overlay: {_key(False)}"
    part.suptitle(title, x=0.02, ha="left", fontsize=8.5, color=MUTED)  # fmt: skip

"""Pictures of generated samples laid over the training patches next to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.tables.figures_volumes import as_plane
from phantomscope.tables.style import (
    FALSE,
    MUTED,
    bare,
    canvas,
    save,
    show,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

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
    above, below = stretched(sample), stretched(patch)
    return np.stack([above, below, np.zeros_like(above) if red else above], axis=-1)


def stretched(image: Array) -> Array:
    """Scale to [0, 1] between its own percentiles 1 and 99.5."""
    low, high = np.percentile(image, [1, 99.5])
    scaled: Array = np.clip((image - low) / max(float(high - low), 1e-9), 0, 1)
    return scaled


@dataclass(frozen=True)
class Pairs:
    """Generated samples, each with its nearest training patch.

    Attributes
    ----------
    samples, patches : sequence of ndarray, shape (y, x)
        Generated images, and `NearestPatch.aligned` training patches.
    scores : sequence of float
        `NearestPatch.score`.
    flagged : sequence of bool
        `Alarm.flagged`.

    Raises
    ------
    PhantomscopeError
        For no samples, or sequences of unequal lengths.
    """

    samples: Sequence[Array]
    patches: Sequence[Array]
    scores: Sequence[float]
    flagged: Sequence[bool]

    def __post_init__(self) -> None:
        """Refuse what is no set of pairs."""
        counts = [
            len(v) for v in (self.samples, self.patches, self.scores, self.flagged)
        ]
        if len(set(counts)) > 1 or not counts[0]:
            raise PhantomscopeError(
                f"{counts[0]} samples come with {counts[1]} patches, {counts[2]} "
                f"scores and {counts[3]} flags",
                fix="give at least one sample, and one of each for each",
            )

    @classmethod
    def read(cls, folder: Path) -> Pairs:
        """Read the pairs that `measure_realism` writes."""
        images = ImageSet.open(folder)
        names = dict.fromkeys(name.rsplit("-", 1)[0] for name in images.ids)
        rows = [images.row(f"{name}-sample") for name in names]
        return cls(
            [as_plane(images.image(f"{name}-sample")) for name in names],
            [as_plane(images.image(f"{name}-patch")) for name in names],
            [float(row["score"]) for row in rows],
            [str(row.get("flagged")) == "True" for row in rows],
        )


def copies_height(count: int, columns: int = 10) -> float:
    """Return the height of a picture of so many pairs, in inches."""
    return 0.3 + -(-count // columns) * (9.4 / columns + 0.22)


def draw_copies(
    figure: Figure | SubFigure, pairs: Pairs, *, columns: int = 10, red: bool = False,
    title: str = "",
) -> None:  # fmt: skip
    """Draw each sample over its nearest training patch, the nearest first.

    The score stands above each picture; those that are flagged are framed.

    Parameters
    ----------
    figure : Figure or SubFigure
        Where to draw.
    pairs : Pairs
        What to draw.
    columns : int, optional
        Pictures in a row.
    red
        See `overlay`.
    title : str, optional
        What they are of.
    """
    scores, flagged = pairs.scores, pairs.flagged
    rows = -(-len(scores) // columns)
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes in grid:
        bare(axes)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    for axes, i in zip(grid, order, strict=False):
        axes.imshow(overlay(pairs.samples[i], pairs.patches[i], red=red))
        axes.set_title(f"{scores[i]:.2f}", fontsize=8, pad=3,
                       color=FALSE if flagged[i] else MUTED)  # fmt: skip
        for spine in axes.spines.values():
            spine.set(visible=bool(flagged[i]), color=FALSE, linewidth=2.5)
    figure.suptitle(
        f"{title}{_key(red)}; correlation above; {sum(map(bool, flagged))} of "
        f"{len(scores)} framed as copies",
        x=0.01, ha="left", fontsize=8.5, color=MUTED,
    )  # fmt: skip


@styled
def plot_copies(root: Path, config: Config, out: Path) -> None:
    """Draw the nearest samples of an experiment over their training patches."""
    pairs = Pairs.read(root / "memorisation")
    figure = canvas(copies_height(len(pairs.samples)))
    draw_copies(figure, pairs, red=True)
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
        show(column[0], stretched(sample))
        show(column[1], stretched(patch))
        column[2].imshow(overlay(sample, patch))
        bare(column[2])
        bare(column[0])
    title = f"nearest pairs; overlay: {_key(False)}"
    part.suptitle(title, x=0.02, ha="left", fontsize=8.5, color=MUTED)  # fmt: skip

"""Figures of layers: a contact sheet of crops, and composed pairs with their layers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.imageset import ImageSet
from phantomscope.tables.artefacts import pick
from phantomscope.tables.style import (
    FALSE,
    INK,
    LABEL,
    MUTED,
    bare,
    canvas,
    house_style,
    outlines,
    save,
    show,
)

if TYPE_CHECKING:
    from phantomscope.simulate.compose import Compositor

Array = NDArray[Any]
ACROSS, ROWS = 12, 5


def _stretched(image: Array) -> Array:
    """Scale by the 1st and 99.8th percentile; each crop by its own."""
    low, high = np.percentile(image, [1, 99.8])
    unit: Array = (image.astype(np.float32) - low) / max(float(high - low), 1e-12)
    return unit


def sheet_order(crops: ImageSet, most: int) -> dict[str, list[str]]:
    """Return the ids to show of each class: evenly spread over the focus score."""
    found = {}
    for kind, table in crops.table.reset_index(drop=True).groupby("type"):
        ids = table.sort_values(["focus", "id"])["id"].tolist()
        found[str(kind)] = pick(ids, most)
    return found


@house_style()
def plot_contact_sheet(
    crops: ImageSet, out: Path, dropped: frozenset[str] = frozenset()
) -> None:
    """Show crops of each class with outlines and ids, from blurred to sharp.

    Parameters
    ----------
    crops : ImageSet
        Of `extract_crops`.
    out : Path
        File of the figure.
    dropped : set of str
        Ids of a veto: they are crossed out.
    """
    chosen = sheet_order(crops, ACROSS * ROWS)
    lines = [math.ceil(len(ids) / ACROSS) for ids in chosen.values()]
    figure = canvas(0.3 * len(chosen) + 1.02 * sum(lines))
    parts = np.ravel(
        figure.subfigures(len(chosen), 1, squeeze=False, height_ratios=lines)
    )
    for part, (kind, ids), rows in zip(parts, chosen.items(), lines, strict=True):
        total = int((crops.table["type"] == kind).sum())
        part.suptitle(
            f"{kind}: {len(ids)} of {total} crops, by focus score (in brackets)",
            x=0.01, ha="left", fontsize=9, color=INK,
        )  # fmt: skip
        grid = np.ravel(part.subplots(rows, ACROSS, squeeze=False))
        for axes in grid:
            bare(axes)
        for axes, name in zip(grid, ids, strict=False):
            _crop(axes, crops, name, name in dropped)
    save(figure, out)


def _crop(axes: Any, crops: ImageSet, name: str, crossed: bool) -> None:
    mask = crops.mask(name)
    show(axes, _stretched(crops.image(name)))
    outlines(axes, mask, FALSE if crossed else LABEL, width=0.7)
    focus = crops.row(name)["focus"]
    # The end of an id tells crops of one image apart.
    text = name if len(name) <= 14 else f"…{name[-13:]}"
    axes.set_title(f"{text}\n({focus:.3g})", fontsize=4.5, pad=1.5, color=MUTED)
    if crossed:
        height, width = mask.shape
        for ends in ((0, height - 1), (height - 1, 0)):
            axes.plot([0, width - 1], ends, color=FALSE, linewidth=1.2)


PANELS = ("image", "target layer", "other layer", "background")


def draw_pair(
    grid: Array, compositor: Compositor, number: int, *, titled: bool = True
) -> None:
    """Draw a composed pair and what it consists of.

    Parameters
    ----------
    grid : ndarray of Axes, shape (2, 4)
        A line for each image of the pair; columns `PANELS`.
    compositor : Compositor
        Composes it.
    number : int
        Of the pair.
    titled : bool
        Whether columns get their titles.
    """
    for member, made in enumerate(compositor.pair(number)):
        line = grid[member]
        low, high = np.percentile(made.image, [0.5, 99.8])
        for axes, title, layer in zip(
            line, PANELS, (made.image, made.target, made.other, made.background),
            strict=True,
        ):  # fmt: skip
            below = low if title in ("image", "background") else 0.0
            unit = (layer - below) / max(float(high - below), 1e-12)
            show(axes, unit, title if titled and member == 0 else "")
        outlines(line[1], made.target_labels, LABEL, width=0.7)
        outlines(line[2], made.other_labels, FALSE, width=0.7)
        line[0].set_ylabel(f"pair {number}, {'ab'[member]}", fontsize=8.5)


@house_style()
def plot_pairs(compositor: Compositor, out: Path, pairs: int = 2) -> None:
    """Show composed pairs, what they consist of, and the labels of either layer."""
    figure = canvas(0.3 + 2.35 * 2 * pairs)
    grid = figure.subplots(2 * pairs, len(PANELS), squeeze=False)
    for number in range(pairs):
        lines = grid[2 * number : 2 * number + 2]
        draw_pair(lines, compositor, number, titled=number == 0)
    save(figure, out)

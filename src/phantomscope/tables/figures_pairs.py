"""Figures of what filters learn from: composed pairs and their crops, or frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.folds import training_images
from phantomscope.config.model import Config
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.found import light_of
from phantomscope.tables.artefacts import pick
from phantomscope.tables.figures_filtering import limits_of, show_layer, window_of
from phantomscope.tables.figures_layers import PANELS, draw_pair
from phantomscope.tables.style import (
    FALSE,
    LABEL,
    bare,
    canvas,
    outlines,
    save,
    show,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phantomscope.simulate.compose import Compositor

Array = NDArray[Any]
# Crops of each class that are shown.
CROPS = 8
SIDE = 384


def compositor_of(root: Path, config: Config, target: str) -> Compositor:
    """Return what composes the training pairs of the first fold of a class."""
    # Lazily: it needs what trains.
    from phantomscope.stages.filtering import make_compositor

    crops, grounds = (ImageSet.open(root / n) for n in ("crops", "backgrounds"))
    parents = training_images(config, grounds, 0).ids
    return make_compositor(config, crops, grounds, target, parents, config.seed)[0]


def draw_crops(part: Any, root: Path, target: str) -> None:
    """Draw some crops of a class and of the others, evenly spread, with outlines."""
    crops = ImageSet.open(root / "crops")
    own = crops.table["type"] == target
    grid = part.subplots(2, CROPS, squeeze=False)
    for line, chosen, colour, word in (
        (grid[0], own, LABEL, target), (grid[1], ~own, FALSE, "other"),
    ):  # fmt: skip
        for axes in line:
            bare(axes)
        for axes, name in zip(line, pick(list(crops.table["id"][chosen]), CROPS),
                              strict=False):  # fmt: skip
            image = crops.image(name).astype(np.float32)
            low, high = limits_of(image)
            show(axes, (image - low) / (high - low))
            outlines(axes, crops.mask(name), colour, width=0.7)
        line[0].set_ylabel(word, fontsize=8.5)


Block = tuple[str, Path, Config, str]


def composed_figure(blocks: Sequence[Block]) -> Figure:
    """Show composed pairs, and crops that they are made of.

    Parameters
    ----------
    blocks : sequence of (str, Path, Config, str)
        Of each pair a title, the folder and config of its experiment, and the class.
    """
    heights = [4.9, 2.5] * len(blocks)
    figure = canvas(sum(heights))
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
    for number, (title, root, config, target) in enumerate(blocks):
        above, below = parts[2 * number : 2 * number + 2, 0]
        above.suptitle(
            f"{title}: {target}", x=0.01, ha="left", fontsize=9.5, fontweight="bold"
        )
        grid = above.subplots(2, len(PANELS), squeeze=False)
        draw_pair(grid, compositor_of(root, config, target), 0)
        draw_crops(below, root, target)
    return figure


def frames_figure(root: Path, config: Config) -> Figure:
    """Show two frames of some videos, as far apart as pairs are, and what moved."""
    options = config.filter
    images = training_images(config, ImageSet.open(root / "prepared"), 0)
    table = images.having("frame", "group").table
    lines = []
    for group in pick(sorted(set(table["group"])), 2):
        own = table[table["group"] == group].sort_values("frame")
        later = dict(zip(own["frame"].astype(int), own["id"], strict=True))
        for frame, name in later.items():
            if frame + options.lag in later:
                lines.append((name, later[frame + options.lag]))
                break
    figure = canvas(0.3 + 3.1 * len(lines))
    grid = figure.subplots(len(lines), 3, squeeze=False)
    for number, (line, names) in enumerate(zip(grid, lines, strict=True)):
        units = [light_of(options).to_unit(images.image(name)) for name in names]
        apart = np.abs(units[0] - units[1])
        moved = np.argwhere(apart > apart.max() / 2)
        window = window_of(moved, apart.shape, SIDE)
        limits = limits_of(units[0][window])
        titles = ("first frame", f"{options.lag} later", "difference")
        for axes, title, unit in zip(line, titles, (*units, apart), strict=True):
            whole = title != "difference"
            show_layer(axes, unit[window], limits, "" if number else title, whole=whole)
        line[0].set_ylabel(names[0], fontsize=7)
    return figure


def pairs_figure(root: Path, config: Config) -> Figure:
    """Show what a filter learns from."""
    if config.filter.pairs == "video":
        return frames_figure(root, config)
    names = config.filter.targets
    return composed_figure([(config.name, root, config, name) for name in names])


@styled
def plot_training_pairs(root: Path, config: Config, out: Path) -> None:
    """Draw `pairs_figure` into a file."""
    save(pairs_figure(root, config), out)

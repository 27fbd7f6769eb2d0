"""Figures that show images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation
from phantomscope.images.voxels import VoxelSize, voxel_size
from phantomscope.measure.instance import iou_matrix
from phantomscope.measure.matching import assign
from phantomscope.tables.artefacts import (
    display_unit,
    holder,
    origin,
    pick,
    pixel_size,
    read_table,
    shards,
)
from phantomscope.tables.copies import draw_pairs
from phantomscope.tables.figures_curves import step
from phantomscope.tables.figures_volumes import choose_cut
from phantomscope.tables.rows import load_methods
from phantomscope.tables.style import (
    FALSE,
    GRID,
    INK,
    LABEL,
    MATCH,
    MISSED,
    MUTED,
    TOOLS,
    bare,
    canvas,
    legend,
    outlines,
    save,
    scale_bar,
    show,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

Array = NDArray[Any]
MOST_ROWS = 20_000


@styled
def plot_gallery(root: Path, config: Config, out: Path) -> None:
    """Show real images, and sketches beside what the diffusion model made of them."""
    norm = Normalisation.load(root / "normalisation.json")
    real = ImageSet.open(root / "prepared").select(split="train")
    sketches, synthetic = shards(root / "sketches"), shards(root / "synthetic")
    size = voxel_size(real)
    titles = [origin(config), "sketch", "synthetic", "synthetic, labels"]
    if volumes := len(size) == 3:
        titles += [f"{origin(config)}, projection", "synthetic, projection"]
    names = pick([i for images in synthetic for i in images.ids], 4 if volumes else 5)
    sides = [int(min(real.table[["height", "width"]].min()))]
    sides += [int(min(part.table[["height", "width"]].min())) for part in synthetic]
    side = min(*sides, 160)
    columns = max(len(names), 1)
    figure = canvas(0.2 + 9.1 / max(columns, 3) * len(titles))
    grid = figure.subplots(len(titles), columns, squeeze=False)
    for axes, title in zip(grid[:, 0], titles, strict=True):
        axes.set_ylabel(title, fontsize=9.5, fontweight="bold", labelpad=6)
    for axes in grid.ravel():
        bare(axes)
    parts = real_parts(real, norm, columns, side)
    for line, part in zip(grid.T, parts, strict=True):
        cut = choose_cut(part.shape, side, size, part)
        show(line[0], cut(part))
        if volumes:
            show(line[4], cut.projection(part))
    for line, name in zip(grid.T, names, strict=False):
        images, sketch = holder(synthetic, name), holder(sketches, name)
        if images is not None:
            _gallery_column(line, name, images, sketch, norm, side, size)
    scale_bar(grid[0, 0], side, pixel_size(real))
    save(figure, out)


def _gallery_column(
    line: Array, name: str, images: ImageSet, sketch: ImageSet | None,
    norm: Normalisation, side: int, size: VoxelSize,
) -> None:  # fmt: skip
    """Show a sketch and its image at the same place."""
    labels, unit = images.mask(name), display_unit(norm, images, name)
    cut = choose_cut(unit.shape, side, size, labels)
    if sketch is not None:
        show(line[1], cut(sketch.image(name)))
    show(line[2], cut(unit))
    show(line[3], cut(unit))
    outlines(line[3], cut(labels), LABEL, width=1.1)
    if len(line) > 4:
        show(line[5], cut.projection(unit))


def real_parts(
    real: ImageSet, norm: Normalisation, count: int, side: int
) -> list[Array]:
    """Return parts spread over the real images; several of one where they are few.

    Parameters
    ----------
    real : ImageSet
        With at least one image, ([Z,] Y, X).
    norm : Normalisation
        Its limits become 0 and 1.
    count : int
        Number of parts.
    side : int
        Of each, along y and x, px; smaller where an image is.
    """
    names = pick(real.ids, count)
    found = []
    for number in range(count):
        image = display_unit(norm, real, names[number % len(names)])
        turn, turns = number // len(names), -(-count // len(names))
        steps = (turn + 0.5) / turns
        corner = zip(image.shape[-2:], (steps, 1 - steps), strict=True)
        top, left = (int(max(0, length - side) * share) for length, share in corner)
        found.append(image[..., top : top + side, left : left + side])
    return found


@styled
def plot_pseudo(root: Path, config: Config, out: Path) -> None:
    """Show real images above the pseudo-sketches that were drawn of them."""
    norm = Normalisation.load(root / "normalisation.json")
    real, pseudo = ImageSet.open(root / "prepared"), ImageSet.open(root / "pseudo")
    names = pick(pseudo.ids, 5)
    columns = max(len(names), 1)
    side = min(int(min(pseudo.table[["height", "width"]].min())), 240)
    figure = canvas(0.2 + 9.1 / max(columns, 3) * 2)
    grid = figure.subplots(2, columns, squeeze=False)
    for axes, title in zip(grid[:, 0], (origin(config), "pseudo-sketch"), strict=True):
        axes.set_ylabel(title, fontsize=9.5, fontweight="bold", labelpad=6)
    for axes in grid.ravel():
        bare(axes)
    for (above, below), name in zip(grid.T, names, strict=False):
        labels = pseudo.mask(name)
        cut = choose_cut(labels.shape, side, voxel_size(real), labels)
        show(above, cut(display_unit(norm, real, name)))
        outlines(above, cut(labels), LABEL, width=0.8)
        show(below, cut(pseudo.image(name)))
    scale_bar(grid[0, 0], side, pixel_size(real))
    save(figure, out)


@styled
def plot_overlays(root: Path, config: Config, out: Path) -> None:
    """Show up to three test images with the truth and each method's outlines."""
    norm = Normalisation.load(root / "normalisation.json")
    truth = ImageSet.open(root / "prepared").select(split="test")
    labelled = [name for name in truth.ids if truth.has_mask(name)]
    found: list[tuple[str, ImageSet]] = []
    for method in load_methods(root):
        place = root / "predictions" / method.tool / method.arm
        if method.seeds and (place / f"seed{method.seeds[0]}").exists():
            title = TOOLS.get(method.tool, method.tool)
            if method.tool in ("cellpose", "stardist"):
                title += f", {method.arm}"
            images = ImageSet.open(place / f"seed{method.seeds[0]}")
            found.append((title, images))
    names = pick(labelled, 3)
    columns = min(4, len(found) + 1)
    rows = -(-(len(found) + 1) // columns)
    figure = canvas(0.35 + len(names) * rows * (9.4 / columns + 0.24))
    parts = np.ravel(figure.subfigures(len(names) + 1, 1, squeeze=False,
                     height_ratios=[0.1] + [rows] * len(names)))  # fmt: skip
    outline_key(parts[0], "number: AP50 of the whole image")
    for part, name in zip(parts[1:], names, strict=True):
        grid = np.ravel(part.subplots(rows, columns, squeeze=False))
        for axes in grid:
            bare(axes)
        _overlay_row(list(grid), name, truth, found, norm)
        grid[0].set_title(f"{origin(config)} image, true outlines", fontsize=8.5, pad=4)
    save(figure, out)


def outline_key(
    part: SubFigure, note: str, *before: tuple[str, str, Any],
    matched: str = "matched (IoU ≥ 0.5)", false: str = "false",
    missed: str = "missed (true outline)",
) -> None:  # fmt: skip
    """Write what the colours of outlines mean, and on the right what numbers do.

    `before` are words with a colour and a line style of their own.
    """
    words = [*before, (matched, MATCH, "solid"), (false, FALSE, "solid"),
             (missed, MISSED, (0, (2.2, 1.3)))]  # fmt: skip
    x = 0.015
    for word, colour, dash in words:
        line: Any = dash
        part.add_artist(_line(part, x, x + 0.03, colour, line))
        part.text(x + 0.037, 0.5, word, va="center", fontsize=9)
        x += 0.057 + 0.0071 * len(word)
    part.text(0.985, 0.5, note, va="center", ha="right", fontsize=9, color=MUTED)


def _line(part: SubFigure, left: float, right: float, colour: str, dash: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([left, right], [0.5, 0.5], color=colour, lw=3, ls=dash,
                  transform=part.transSubfigure)  # fmt: skip


def _overlay_row(
    grid: list[Axes], name: str, truth: ImageSet, found: list[tuple[str, ImageSet]],
    norm: Normalisation,
) -> None:  # fmt: skip
    labels = truth.mask(name)
    side = min(*labels.shape[-2:], 200)
    cut = choose_cut(labels.shape, side, voxel_size(truth), labels)
    unit = cut(display_unit(norm, truth, name))
    show(grid[0], unit)
    outlines(grid[0], cut(labels), "#ffffff", width=0.9)
    scale_bar(grid[0], cut.side, pixel_size(truth))
    for axes, (title, images) in zip(grid[1:], found, strict=False):
        prediction = images.mask(name)
        numbers, missed, counts = compare(labels, prediction)
        tp, fp, fn = counts
        show(axes, unit, f"{title}  {tp / max(tp + fp + fn, 1):.2f}")
        part = cut(prediction)
        others = set(np.unique(part)) - {0} - numbers
        outlines(axes, cut(labels), MISSED, only=missed, dashed=True, width=1.3)
        outlines(axes, part, FALSE, only=others, width=1.3)
        outlines(axes, part, MATCH, only=numbers, width=1.1)


def compare(
    truth: Array, prediction: Array, least: float = 0.5
) -> tuple[set[int], set[int], tuple[int, int, int]]:
    """Return matched predictions, missed true objects, and (TP, FP, FN) at an IoU."""
    true_names, found_names = (np.unique(a[a > 0]) for a in (truth, prediction))
    if not len(true_names) or not len(found_names):
        missed = {int(number) for number in true_names}
        return set(), missed, (0, len(found_names), len(missed))
    rows, columns = assign(iou_matrix(truth, prediction), least)
    matched = {int(number) for number in found_names[columns]}
    missed = {int(n) for n in true_names} - {int(n) for n in true_names[rows]}
    return matched, missed, (len(matched), len(found_names) - len(matched), len(missed))


@styled
def plot_memorisation(root: Path, config: Config, out: Path) -> None:
    """Draw how near patches are to the training images, and the nearest pairs."""
    table = read_table(root / "memorisation.csv")
    sets = shards(root / "memorisation")
    figure = canvas(3.2)
    parts = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.15, 1])
    left, right = parts.ravel()
    axes = left.subplots()
    low, high = table["score"].min(), table["score"].max()
    edges = np.linspace(low, max(high, low + 0.01), 15)
    for kind, label in (
        ("held_out", f"{origin(config)}, held out"), ("synthetic", "synthetic")
    ):  # fmt: skip
        values = table.loc[table["kind"] == kind, "score"].to_numpy(float)
        counts = np.histogram(values, edges)[0] / max(len(values), 1)
        step(axes, edges, counts, kind, f"{label} (n = {len(values)})")
    axes.set_xlabel("correlation with the nearest training patch (1: a copy)")
    axes.set_ylabel("share of patches")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    axes.grid(axis="y", color=GRID, lw=0.8)
    legend(axes, loc="upper left")
    if sets and len(sets[0]):
        draw_pairs(right, sets[0])
    save(figure, out)


def check_table(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return kept and rejected images; vanished and phantoms as shares of objects."""
    kept = pd.DataFrame(ImageSet.open(root / "checked", most=MOST_ROWS).table)
    rejected = read_table(root / "checked" / "rejected.csv")
    parts = []
    for table in (kept, rejected):
        table = table.reset_index(drop=True)
        for name in ("vanished", "phantoms"):
            if len(table) and name in table:
                table[f"{name}_share"] = table[name] / table["objects"].clip(lower=1)
        parts.append(table)
    return parts[0], parts[1]


@styled
def plot_checks(root: Path, config: Config, out: Path) -> None:
    """Draw the scores of the checks with their limits, and rejected images."""
    kept, rejected = check_table(root)
    objects = read_table(root / "checked" / "objects.csv")
    names = pick(list(rejected["id"]) if len(rejected) else [], 5)
    figure = canvas(2.5 + (2.35 if names else 0))
    parts = figure.subfigures(2 if names else 1, 1, squeeze=False,
                              height_ratios=[1.15, 1] if names else [1])  # fmt: skip
    grid = np.ravel(parts[0, 0].subplots(1, 4))
    limits = config.check
    panels = (
        ("vanished_share", "vanished objects (share)", limits.max_vanished, "max"),
        ("phantoms_share", "phantoms / objects", limits.max_phantoms, "max"),
        ("agreement", "agreement (mean Dice)", limits.min_agreement, "min"),
    )
    for axes, (name, title, limit, side) in zip(grid, panels, strict=False):
        both = [t[name] if name in t else [] for t in (kept, rejected)]
        _stacked(axes, both, limit, side, title)
    if "contrast" in objects:
        _stacked(grid[3], [objects["contrast"], []], limits.min_contrast, "min",
                 "contrast of objects (sd)")  # fmt: skip
    grid[0].set_ylabel("images")
    grid[3].set_ylabel("objects")
    if names:
        _rejected_strip(parts[1, 0], root, rejected.set_index("id", drop=False), names)
    save(figure, out)


def _stacked(
    axes: Axes, tables: list[Any], limit: float, side: str, title: str
) -> None:
    """Histogram of kept (blue) on rejected (magenta), with the limit."""
    from matplotlib.ticker import MaxNLocator

    values = [np.asarray(table, float) for table in tables]
    values = [v[np.isfinite(v)] for v in values]
    pooled = np.concatenate([*values, [limit]])
    low, high = np.percentile(pooled, [0, 99.5]) if len(pooled) > 50 else (
        pooled.min(), pooled.max())  # fmt: skip
    low, high = min(low, limit), max(high, limit)
    room = (high - low) * 0.08 or 0.1
    edges = np.linspace(low - room * (low > 0), high + room, 22)
    clipped = [np.clip(v, edges[0], edges[-1]) for v in values]
    axes.hist(clipped, bins=list(edges), stacked=True, color=["#0072b2", "#e3499f"])
    axes.axvline(limit, color=INK, lw=1, ls=(0, (4, 3)))
    word = "at most" if side == "max" else "at least"
    axes.set_title(f"{word} {limit:g}", fontsize=8.5, fontweight="normal",
                   color=MUTED)  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel(title)


def _rejected_strip(
    part: SubFigure, root: Path, rejected: pd.DataFrame, names: list[str]
) -> None:
    norm = Normalisation.load(root / "normalisation.json")
    images = ImageSet(root / "checked", rejected)
    size = voxel_size(images)
    grid = np.ravel(part.subplots(1, 5, squeeze=False))
    for axes in grid:
        axes.set_axis_off()
    for axes, name in zip(grid, names, strict=False):
        labels = images.mask(name)
        cut = choose_cut(labels.shape, 160, size, labels)
        show(axes, cut(display_unit(norm, images, name)))
        outlines(axes, cut(labels), LABEL, width=0.9)
        axes.set_title(str(rejected.loc[name, "reason"]), fontsize=8, pad=4,
                       fontweight="normal")  # fmt: skip
    part.suptitle("rejected images with their labels (magenta above)", x=0.01,
                  ha="left", fontsize=9, color=MUTED)  # fmt: skip

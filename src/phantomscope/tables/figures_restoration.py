"""Figures of restoration: images beside the truth, resolution, and the rings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.images.imageset import ImageSet
from phantomscope.tables.artefacts import pick, pixel_size, read_table
from phantomscope.tables.restoration import CARE, Restored, load_restored
from phantomscope.tables.style import (
    COLOURS,
    GRID,
    INK,
    LABEL,
    MUTED,
    bare,
    canvas,
    legend,
    save,
    scale_bar,
    show,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]
TONES = {
    "none": MUTED,
    "mathematical": COLOURS["sketch"],
    "diffusion": COLOURS["synthetic"],
    "experimental": COLOURS["generalist"],
}
# Side of the part that is shown again, larger, by that of the image.
ZOOM = 4
MOST_IMAGES = 2


def _title(one: Restored) -> str:
    return one.arm if one.method == CARE else "widefield"


def _unit(image: Array) -> Array:
    """Scale an image by its own percentiles: each has a brightness of its own."""
    low, high = np.percentile(image, (2, 99.8))
    high = high if high > low else float(np.max(image))
    scaled: Array = (image - low) / max(high - low, 1e-12)
    return scaled


def _richest(truth: Array, side: int) -> tuple[int, int]:
    """Return where a part of this side begins that has the most light."""
    from scipy import ndimage

    mean = ndimage.uniform_filter(np.asarray(truth, float), side, mode="constant")
    half = side // 2
    inner = mean[half : mean.shape[0] - side + half + 1,
                 half : mean.shape[1] - side + half + 1]  # fmt: skip
    y, x = np.unravel_index(int(np.argmax(inner)), inner.shape)
    return int(y), int(x)


@styled
def plot_restoration(root: Path, config: Config, out: Path) -> None:
    """Show widefield, restored images and the truth, a part of each, and all FRC."""
    pairs, found = ImageSet.open(root / "pairs/test"), load_restored(root)
    names = pick(pairs.ids, MOST_IMAGES)
    columns = len(found) + 1
    cell = 9.3 / columns
    figure = canvas(len(names) * 2 * cell + 2.9)
    heights = [len(names) * 2 * cell, 2.9]
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)
    top, bottom = np.ravel(parts)
    grid = np.reshape(top.subplots(2 * len(names), columns), (2 * len(names), columns))
    for axes in grid.ravel():
        bare(axes)
    for number, name in enumerate(names):
        images = [_shown(root, one, pairs, name) for one in found]
        _image_rows(grid[2 * number : 2 * number + 2], images, pairs, name)
    for axes, title in zip(grid[0], [*map(_title, found), "truth"], strict=True):
        axes.set_title(title, fontsize=9, pad=4)
    _plot_resolution(bottom.subplots(), found)
    save(figure, out)


def _shown(root: Path, one: Restored, pairs: ImageSet, name: str) -> Array:
    """Read an image as a method leaves it, that of its first seed."""
    if one.method != CARE:
        return pairs.image(name)
    folder = root / "restored" / one.method / one.arm / f"seed{min(one.images)}"
    return ImageSet.open(folder).image(name)


def _image_rows(
    grid: Array, images: list[Array], pairs: ImageSet, name: str
) -> None:  # fmt: skip
    """Show the middle of whole images, and below it a part of each, larger."""
    from matplotlib.patches import Rectangle

    truth = pairs.target(name)
    side = min(truth.shape)
    first = [(length - side) // 2 for length in truth.shape]
    square = tuple(slice(start, start + side) for start in first)
    small = max(side // ZOOM, 16)
    y, x = _richest(truth[square], small)
    for line, image in zip(grid.T, [*images, truth], strict=True):
        scaled = _unit(image)[square]
        show(line[0], scaled)
        # Pixels begin half a pixel before their middle.
        corner = (x - 0.5, y - 0.5)
        box = Rectangle(corner, small, small, fill=False, ec=LABEL, lw=1.2)
        line[0].add_patch(box)
        show(line[1], scaled[y : y + small, x : x + small])
    scale_bar(grid[0, 0], side, pixel_size(pairs))
    scale_bar(grid[1, 0], small, pixel_size(pairs))


def _plot_resolution(axes: Axes, found: list[Restored]) -> None:
    """Draw the resolution of every image as a dot, and the mean of each arm."""
    for place, one in enumerate(found):
        values = one.column("frc_nm").dropna().to_numpy(float)
        tone = TONES.get(one.arm, INK)
        # Spread by order, not by chance.
        shift = 0.22 * (np.arange(len(values)) / max(len(values) - 1, 1) - 0.5)
        axes.plot(values, place + shift, "o", ms=4.5, color=tone, alpha=0.6, mew=0)
        if len(values):
            mean = float(values.mean())
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color=tone, lw=2.4)
            axes.text(mean, place - 0.34, f"{mean:.0f}", ha="center", va="bottom",
                      fontsize=8.5, color=INK)  # fmt: skip
        else:
            axes.text(0.01, place, "no image has a crossing", color=MUTED,
                      va="center", transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_yticks(range(len(found)), [_title(one) for one in found])
    axes.set_ylim(len(found) - 0.45, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("FRC 1/7 against the truth (nm), each test image; line: their mean")


@styled
def plot_frc_curves(root: Path, config: Config, out: Path) -> None:
    """Draw the Fourier ring correlation of every image, and the mean of each arm."""
    figure = canvas(3.6)
    axes = figure.subplots()
    longest = 0.0
    for one in load_restored(root):
        folder = root / "restoration" / one.method / one.arm / f"seed{min(one.images)}"
        table = read_table(folder / "rings.csv")
        tone = TONES.get(one.arm, INK)
        for _, rings in table.groupby("id"):
            axes.plot(rings["frequency"], rings["correlation"], color=tone, lw=0.5,
                      alpha=0.35)  # fmt: skip
        longest = max(longest, float(table["frequency"].max()))
        x, y = _mean_curve([rings for _, rings in table.groupby("id")])
        axes.plot(x, y, color=tone, lw=2, label=_title(one))
    axes.axhline(1 / 7, color=INK, lw=1, ls=(0, (3, 2)))
    axes.text(longest, 1 / 7 + 0.015, "1/7", ha="right", va="bottom", fontsize=8.5)
    axes.set_xlim(0, longest)
    axes.set_ylim(-0.15, 1.02)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_xlabel("spatial frequency (1 / µm)")
    axes.set_ylabel("correlation with the truth")
    _periods(axes)
    legend(axes, loc="upper right")
    save(figure, out)


def _mean_curve(curves: list[Any]) -> tuple[Array, Array]:
    """Return the mean over images, whose rings lie apart where their sizes differ."""
    last = min(float(rings["frequency"].max()) for rings in curves)
    first = max(float(rings["frequency"].min()) for rings in curves)
    grid = np.linspace(first, last, 200)
    values = [np.interp(grid, r["frequency"], r["correlation"]) for r in curves]
    return grid, np.mean(values, axis=0)


def _periods(axes: Axes) -> None:
    """Write the periods in nm above the frequencies."""
    ends = axes.get_xlim()
    known = [nm for nm in (1000, 500, 300, 200, 150, 100, 80, 60, 50, 40, 30, 20, 10)
             if 1000 / nm < ends[1]]  # fmt: skip
    above = axes.secondary_xaxis("top")
    above.set_ticks([1000 / nm for nm in known], [str(nm) for nm in known])
    above.set_xlabel("period (nm)")
    if not known or not math.isfinite(ends[1]):
        above.set_visible(False)

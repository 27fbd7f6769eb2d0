"""Figures of the studies of translation: steps, uncertainty, planted artefacts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.engine.pairs import from_stored
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.translation import RANGE, error_per_spread
from phantomscope.tables.artefacts import pixel_size
from phantomscope.tables.figures_curves import say_nothing
from phantomscope.tables.figures_translation import (
    SIDE,
    middle,
    tones,
    translated_sets,
)
from phantomscope.tables.instances import OURS
from phantomscope.tables.studies import (
    CALIBRATION,
    load_reliability,
    steps_rows,
    uncertain_methods,
    uncertainty_rows,
)
from phantomscope.tables.style import (
    FALSE,
    GRID,
    MISSED,
    MUTED,
    bare,
    canvas,
    outlines,
    save,
    scale_bar,
    show,
    styled,
)
from phantomscope.tables.translation import ALL, TITLES, RowMaker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
Window = tuple[slice, slice]
NO_STEPS = "Fewer steps were not studied: `translate.study.steps` is empty."
NO_SPREAD = "No uncertainty was predicted: set `translate.samples` to 2 or more."
NO_ARTEFACTS = "No artefacts were planted: `translate.study.artefacts` is empty."
# Steps of the paper's text and of the released code.
PUBLISHED = {4: "released code", 15: "paper"}
# A bin with fewer pixels is not drawn.
FEW_PIXELS = 30
# Largest change that a picture of differences can show, in grey values of 0 ... 255.
DIFFERENCE = 64.0


def steps_figure(root: Path, config: Config) -> Figure:
    """Plot quality and seconds per image of residual diffusion by its steps."""
    rows = [
        row for row in steps_rows(root, RowMaker(config))
        if "," not in row.condition
    ]  # fmt: skip
    figure = canvas(3.1)
    panels = figure.subplots(1, 3)
    for axes, metric, title in zip(
        panels, ("stain_psnr", "stain_ssim", "image_seconds"),
        ("PSNR (dB)", "SSIM", "seconds per image"), strict=True,
    ):  # fmt: skip
        own = [row for row in rows if row.metric == metric]
        x = [int(row.condition.split()[0]) for row in own]
        axes.plot(x, [row.value for row in own], "o-", ms=4, color=tones([OURS])[OURS])
        for steps, row in zip(x, own, strict=True):
            if not math.isnan(row.ci_low):
                axes.plot([steps] * 2, [row.ci_low, row.ci_high], lw=1,
                          color=tones([OURS])[OURS])  # fmt: skip
        for steps, name in PUBLISHED.items():
            axes.axvline(steps, color=MUTED, lw=0.8, ls=":")
            if metric == "image_seconds":
                # Where the curve, which rises, is not.
                first = steps < max(x, default=0) / 2
                axes.text(steps, 0.97 if first else 0.03, name, rotation=90,
                          va="top" if first else "bottom", ha="right",
                          fontsize=7.5, color=MUTED,
                          transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_title(title)
        axes.set_xlabel("steps")
        axes.set_xticks(x if len(x) < 9 else x[::2])
        axes.grid(axis="y", color=GRID)
    panels[-1].set_ylim(bottom=0)
    return figure


def reliability_figure(root: Path, config: Config) -> Figure:
    """Plot the error of pixels by what their spread foretells, and by channel."""
    methods = uncertain_methods(root, config)
    tone, figure = tones(methods), canvas(3.9)
    left, right = figure.subplots(1, 2)
    ends = []
    for method in methods:
        sums = load_reliability(root, config, method)
        sums = sums[sums["channel"].isin(config.translate.plates.stains)]
        bins = sums.groupby("bin")[["pixels", "squared_error", "squared_spread"]].sum()
        bins = bins[bins["pixels"] >= FEW_PIXELS]
        foretold, found = (
            np.sqrt(bins[name] / bins["pixels"]) * RANGE / 2
            for name in ("squared_spread", "squared_error")
        )
        foretold *= error_per_spread(config.translate.averaged_of(method))
        left.plot(foretold, found, "o-", ms=3.5, lw=1.2, color=tone[method],
                  label=TITLES[method])  # fmt: skip
        ends += [*foretold, *found]
    line = [max(min(ends, default=0.1), 0.1), max(ends, default=RANGE)]
    left.plot(line, line, color=MUTED, lw=1, ls="--", zorder=0)
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("error that the spread foretells (grey values)")
    left.set_ylabel("root mean squared error")
    left.set_title("Is a spread as large as the error?")
    left.grid(color=GRID)
    _calibration_panel(right, root, config, tone)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3
    )
    return figure


def _calibration_panel(
    axes: Axes, root: Path, config: Config, tone: dict[str, str]
) -> None:
    channels = [*config.translate.channels, ALL]
    for row in uncertainty_rows(root, RowMaker(config)):
        if row.metric != CALIBRATION:
            continue
        place = (list(tone).index(row.method) + 0.5) / len(tone) - 0.5
        y = channels.index(row.condition) + 0.7 * place
        if not math.isnan(row.ci_low):
            axes.plot([row.ci_low, row.ci_high], [y, y], color=tone[row.method])
        axes.plot(row.value, y, "o", ms=4, color=tone[row.method])
    axes.axvline(1, color=MUTED, lw=1, ls="--", zorder=0)
    axes.set_xlim(left=0)
    axes.set_yticks(range(len(channels)), channels)
    axes.invert_yaxis()
    axes.grid(axis="x", color=GRID)
    axes.set_title("Error by what the spread foretells")


def spread_figure(root: Path, config: Config) -> Figure:
    """Show where predictions of a test image err, and where they say that they may."""
    truth = ImageSet.open(root / "pairs").select(split="test")
    name, options = truth.ids[0], config.translate
    window, count = middle(truth, name), len(options.channels)
    real = from_stored(truth.channels(name)[len(options.plates.inputs) :])[:, *window]
    sets = translated_sets(root, config)
    methods = [m for m in uncertain_methods(root, config) if m in sets]
    stains = options.plates.stains
    cell = 8.6 / len(stains)
    figure = canvas(2 * cell * len(methods) + 0.5)
    grid = np.reshape(figure.subplots(2 * len(methods), len(stains)), (-1, len(stains)))
    for place, method in enumerate(methods):
        stored = from_stored(sets[method].channels(name))[:, *window]
        error = np.abs(stored[:count] - real)
        foretold = error_per_spread(options.averaged_of(method)) * (
            (stored[count:] + 1) / 2
        )
        for row, maps, what in zip(
            grid[2 * place :], (error, foretold), ("|error|", "foretold"), strict=False
        ):
            for column, axes in enumerate(row):
                # Both maps of a stain have the same scale.
                top = max(float(np.percentile(error[column], 99)), 1e-6)
                title = stains[column] if row is grid[0] else ""
                show(axes, maps[column] / top, title)
            row[0].set_ylabel(f"{TITLES[method].split(' (')[0]}\n{what}", fontsize=8)
    for axes, title in zip(grid[0], stains, strict=True):
        axes.set_title(title, fontsize=8.5, pad=4)
    scale_bar(grid[0, 0], error.shape[1], pixel_size(truth))
    return figure


def _about(labels: Array) -> Window:
    """Return a window about the first artefact, inside the image."""
    centre = np.argwhere(labels == 1).mean(axis=0)
    places = []
    for middle_of, length in zip(centre, labels.shape, strict=True):
        side = min(SIDE, length)
        first = int(np.clip(round(middle_of - side / 2), 0, length - side))
        places.append(slice(first, first + side))
    return places[0], places[1]


def artefacts_figure(root: Path, config: Config) -> Figure:
    """Show brightfield without and with artefacts, and what became of a stain."""
    options, seed = config.translate, config.translate.seeds[0]
    sets = [
        ImageSet.open(root / f"study/artefacts/{method}/seed{seed}/picture")
        for method in options.studied
    ]
    clean, dirty = sets[0].ids
    labels = sets[0].mask(dirty)
    window, stains = _about(labels), options.plates.stains
    # That of the paper's figure 8.
    stain = stains.index("Mito") if "Mito" in stains else 0
    figure = canvas(1.9 * (1 + len(sets)) + 0.4)
    grid = figure.subplots(1 + len(sets), 4)
    for axes in grid.ravel():
        bare(axes)
    titles = ("clean", "with artefacts", "|difference|", "foretold error")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=8.5, pad=4)
    _pair_of(grid[0], sets[0], window, 0)
    outlines(grid[0, 0], sets[0].mask(clean)[window], FALSE, width=1.1)
    scale_bar(grid[0, 0], window[1].stop - window[1].start, pixel_size(sets[0]))
    grid[0, 0].set_ylabel("brightfield", fontsize=8)
    for row, method, images in zip(grid[1:], options.studied, sets, strict=True):
        _pair_of(row, images, window, 1 + stain)
        said = TITLES[method].replace(" (", "\n(")
        row[0].set_ylabel(f"{said}\n{stains[stain]}", fontsize=8)
        spread = images.channels(dirty)[1 + len(options.channels) :]
        if len(spread):
            one = (from_stored(spread[stain])[window] + 1) / 2
            show(row[3], error_per_spread() * one * (RANGE / 2) / DIFFERENCE)
            outlines(row[3], labels[window], MISSED)
        else:
            _say(row[3], 0.5, "no noise,\nno spread", ha="center")
    _say(
        grid[0, 3], 0.02, "yellow: planted\nmagenta: real dark spots\nthat may be "
        f"artefacts\nwhite of differences:\n{DIFFERENCE:g} of 255",
    )  # fmt: skip
    return figure


def _pair_of(row: Any, images: ImageSet, window: Window, channel: int) -> None:
    """Show a channel without and with artefacts, and the difference."""
    clean, dirty = images.ids
    labels = images.mask(dirty)[window]
    one, other = (
        (from_stored(images.channels(n)[channel])[window] + 1) / 2
        for n in (clean, dirty)
    )
    change = np.abs(other - one) * RANGE / DIFFERENCE
    for axes, values in zip(row, (one, other, change), strict=False):
        show(axes, values)
        if values is not one:
            outlines(axes, labels, MISSED)
        elif channel:
            outlines(axes, labels, MISSED, dashed=True)


def _say(axes: Axes, x: float, text: str, ha: str = "left") -> None:
    axes.set_box_aspect(1)
    axes.text(x, 0.5, text, ha=ha, va="center", fontsize=8, color=MUTED,
              transform=axes.transAxes)  # fmt: skip


def _plot(
    draw: Callable[[Path, Config], Figure], there: Callable[[Path, Config], bool],
    absent: str,
) -> Callable[[Path, Config, Path], None]:  # fmt: skip
    """Return what draws a figure into a file, or says why there is none."""

    @styled
    def plot(root: Path, config: Config, out: Path) -> None:
        if there(root, config):
            save(draw(root, config), out)
        else:
            say_nothing(out, absent)

    return plot


plot_steps = _plot(
    steps_figure, lambda root, config: bool(config.translate.study.steps), NO_STEPS
)
plot_reliability = _plot(
    reliability_figure, lambda *given: bool(uncertain_methods(*given)), NO_SPREAD
)
plot_spread = _plot(
    spread_figure, lambda *given: bool(uncertain_methods(*given)), NO_SPREAD
)
plot_artefacts = _plot(
    artefacts_figure, lambda root, config: bool(config.translate.studied), NO_ARTEFACTS
)

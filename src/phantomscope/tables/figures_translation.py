"""Figures of translation: stains beside the real ones, and their quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.config.translation import ALL_METHODS
from phantomscope.engine.pairs import from_stored
from phantomscope.images.imageset import ImageSet
from phantomscope.tables.artefacts import holder, pixel_size, shards
from phantomscope.tables.style import (
    COLOURS,
    GRID,
    bare,
    canvas,
    save,
    scale_bar,
    show,
    styled,
)
from phantomscope.tables.translation import ALL, TITLES, translation_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]
# Side of what is shown of an image, in px.
SIDE = 192
LABELS = {"nuclei": "mask", "cells": "cells"}


def middle(truth: ImageSet, name: str) -> tuple[slice, slice]:
    """Return the middle of an image."""
    places = []
    for length in truth.shape(name):
        first = max(0, (length - SIDE) // 2)
        places.append(slice(first, first + SIDE))
    return places[0], places[1]


def translated_sets(root: Path, config: Config) -> dict[str, ImageSet]:
    """Return what each method predicted under its first seed, by name."""
    seed, found = config.translate.seeds[0], {}
    name = ImageSet.open(root / "pairs").select(split="test").ids[0]
    for method in (m for m in ALL_METHODS if m in config.translate.methods):
        folder = root / f"translated/{method}/seed{seed}"
        images = holder(shards(folder, most=10_000), name)
        if images is not None:
            found[method] = images
    return found


def stains_figure(root: Path, config: Config) -> Figure:
    """Show a test image, its real stains, and what each method made of them."""
    truth = ImageSet.open(root / "pairs").select(split="test")
    name, options = truth.ids[0], config.translate
    window, inputs = middle(truth, name), len(options.plates.inputs)
    values = (from_stored(truth.channels(name)) + 1) / 2
    lines = {"real": values[inputs:, *window]}
    for method, images in translated_sets(root, config).items():
        found = from_stored(images.channels(name))[: len(options.channels)]
        lines[method] = (found[:, *window] + 1) / 2
    columns = 1 + len(options.channels)
    cell = 9.5 / columns
    figure = canvas(cell * len(lines) + 0.4)
    grid = np.reshape(figure.subplots(len(lines), columns), (len(lines), columns))
    for axes in grid.ravel():
        bare(axes)
    show(grid[0, 0], values[0, *window], options.plates.inputs[0])
    scale_bar(grid[0, 0], SIDE, pixel_size(truth))
    for row, (method, channels) in zip(grid, lines.items(), strict=True):
        for axes, one, title in zip(row[1:], channels, options.channels, strict=True):
            show(axes, one, title.replace(" ", "\n") if method == "real" else "")
        if method != "real":
            title = TITLES[method].replace(" (", "\n(")
            row[0].text(0.98, 0.5, title, ha="right", va="center", fontsize=8.5,
                        transform=row[0].transAxes)  # fmt: skip
    return figure


# Beside those of the house: there are more methods here, and detectors.
FURTHER = (
    "#000000", "#56b4e9", "#a6761d", "#882255", "#999933", "#7f7f7f", "#1b3a6b",
)  # fmt: skip


def tones(methods: Sequence[str]) -> dict[str, str]:
    """Return a colour for each method."""
    known = dict.fromkeys([*COLOURS.values(), *FURTHER])
    return dict(zip(methods, known, strict=False))


def stain_quality_figure(root: Path, config: Config) -> Figure:
    """Plot PSNR and SSIM of each stain and method, with their intervals."""
    rows = translation_rows(root, config)
    methods = list(dict.fromkeys(row.method for row in rows if row.metric == "psnr"))
    stains = [*config.translate.plates.stains, ALL]
    figure = canvas(0.5 + 0.17 * len(stains) * len(methods) + 0.8)
    panels = figure.subplots(1, 2, sharey=True)
    tone = tones(methods)
    for axes, metric, title in zip(
        panels, ("psnr", "ssim"), ("PSNR (dB)", "SSIM"), strict=True
    ):
        for row in rows:
            if row.metric != metric or row.condition not in stains:
                continue
            y = stains.index(row.condition) + 0.8 * (
                (methods.index(row.method) + 0.5) / len(methods) - 0.5
            )
            if not math.isnan(row.ci_low):
                axes.plot([row.ci_low, row.ci_high], [y, y], color=tone[row.method])
            axes.plot(row.value, y, "o", ms=4, color=tone[row.method])
        axes.set_title(title)
        axes.grid(axis="x", color=GRID)
        axes.set_yticks(range(len(stains)), stains)
    panels[0].invert_yaxis()
    handles = [
        panels[0].plot([], [], "o", ms=4, color=tone[m], label=TITLES[m])[0]
        for m in methods
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


@styled
def plot_stains(root: Path, config: Config, out: Path) -> None:
    """Draw `stains_figure` into a file."""
    save(stains_figure(root, config), out)


@styled
def plot_stain_quality(root: Path, config: Config, out: Path) -> None:
    """Draw `stain_quality_figure` into a file."""
    save(stain_quality_figure(root, config), out)

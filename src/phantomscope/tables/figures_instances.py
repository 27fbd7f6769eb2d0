"""Figures of the instances of translation: where they match, and how well by IoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.engine.pairs import from_stored
from phantomscope.images.imageset import ImageSet
from phantomscope.tables.artefacts import holder, pixel_size, shards
from phantomscope.tables.figures_curves import say_nothing
from phantomscope.tables.figures_images import compare, outline_key
from phantomscope.tables.figures_translation import (
    LABELS,
    middle,
    tones,
    translated_sets,
)
from phantomscope.tables.instances import OURS, STARDIST, parse_metric
from phantomscope.tables.results import ResultRow
from phantomscope.tables.style import (
    FALSE,
    GRID,
    LABEL,
    MATCH,
    MISSED,
    bare,
    canvas,
    outlines,
    save,
    scale_bar,
    show,
    styled,
)
from phantomscope.tables.translation import TITLES, translation_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
Window = tuple[slice, slice]
NO_BOUNDARIES = (
    "No instances are predicted: `translate.boundaries` and `translate.detectors` are "
    "empty."
)
# Panels side by side, and the height of a row of them in inch.
COLUMNS, HEIGHT = 5, 2.1


def _found(root: Path, config: Config, name: str) -> dict[str, dict[str, Array]]:
    """Return labels of a test image, by kind and method, under the first seed."""
    options, found = config.translate, {}
    for kind in LABELS:
        own: dict[str, Array] = {}
        if kind in options.boundaries:
            for method, images in translated_sets(root, config).items():
                own[method] = getattr(images, LABELS[kind])(name)
        for detector in options.detectors if kind in options.detected else []:
            folder = root / f"detected/{detector}/{kind}/seed{options.seeds[0]}"
            if (holding := holder(shards(folder), name)) is not None:
                own[STARDIST[detector]] = holding.mask(name)
        if own:
            found[kind] = own
    return found


def instances_figure(root: Path, config: Config) -> Figure:
    """Show what each method found over a real stain, the real outlines first."""
    truth = ImageSet.open(root / "pairs").select(split="test")
    name, options = truth.ids[0], config.translate
    window, inputs = middle(truth, name), len(options.plates.inputs)
    # The last one where no stain is called so.
    stains = options.plates.stains
    stain = options.detector_stains.get("nuclei", "")
    shown = stains.index(stain) if stain in stains else len(stains) - 1
    back = (from_stored(truth.channels(name)[inputs + shown]) + 1)[window] / 2
    found = _found(root, config, name)
    rows = [-(-(1 + len(own)) // COLUMNS) for own in found.values()]
    figure = canvas(0.45 + HEIGHT * sum(rows))
    heights = [0.4 / HEIGHT, *rows]
    key, *parts = np.ravel(
        figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
    )
    outline_key(
        key, "number: F1 of the whole image", ("true", LABEL, "solid"),
        matched="predicted, matches (IoU ≥ 0.5)", false="predicted, matches nothing",
        missed="true, missed",
    )  # fmt: skip
    for part, count, (kind, own) in zip(parts, rows, found.items(), strict=True):
        real = getattr(truth, LABELS[kind])(name)
        grid = np.ravel(part.subplots(count, COLUMNS, squeeze=False))
        for axes in grid:
            bare(axes)
        show(grid[0], back, f"{kind}, true")
        outlines(grid[0], real[window], LABEL, width=1.1)
        scale_bar(grid[0], back.shape[0], pixel_size(truth))
        for axes, (method, labels) in zip(grid[1:], own.items(), strict=False):
            show(axes, back)
            _compare(axes, real, labels, window, TITLES[method])
    return figure


def _compare(
    axes: Axes, real: Array, found: Array, window: Window, title: str
) -> None:  # fmt: skip
    """Outline objects, found, found wrongly, and missed, as the whole image has it."""
    hits, missed, (tp, fp, fn) = compare(real, found)
    part = found[window]
    others = set(np.unique(part)) - {0} - hits
    outlines(axes, real[window], MISSED, only=missed, dashed=True, width=1.3)
    outlines(axes, part, FALSE, only=others, width=1.3)
    outlines(axes, part, MATCH, only=hits, width=1.1)
    title = title.replace(" (", "\n(").replace("StarDist on ", "StarDist\non ")
    f1 = 2 * tp / max(2 * tp + fp + fn, 1)
    axes.set_title(f"{title}  {f1:.2f}", fontsize=8.5, pad=4)


def matching_figure(root: Path, config: Config) -> Figure:
    """Plot F1 by the IoU from which objects match; the interval of ours as a band."""
    curves = _curves(translation_rows(root, config))
    kinds = list(dict.fromkeys(kind for kind, _ in curves))
    methods = list(dict.fromkeys(method for _, method in curves))
    tone = tones(methods)
    figure = canvas(3.7)
    panels = np.ravel(figure.subplots(1, len(kinds), squeeze=False, sharey=True))
    for axes, kind in zip(panels, kinds, strict=True):
        for (own, method), points in curves.items():
            if own != kind:
                continue
            iou, f1, low, high = np.array(sorted(points)).T
            dash = "--" if method in STARDIST.values() else "-"
            axes.plot(iou, f1, dash, color=tone[method], marker="o", ms=3)
            if method == OURS and not np.isnan(low).any():
                axes.fill_between(iou, low, high, color=tone[method], alpha=0.15, lw=0)
        axes.set_title(kind)
        axes.set_xlabel("IoU from which objects match")
        axes.set_ylim(-0.02, 1.02)
        axes.grid(axis="y", color=GRID)
    panels[0].set_ylabel("F1")
    handles = [
        panels[0].plot(
            [], [], "--" if m in STARDIST.values() else "-", marker="o", ms=3,
            color=tone[m], label=TITLES[m],
        )[0]
        for m in methods
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


Point = tuple[float, float, float, float]


def _curves(rows: Sequence[ResultRow]) -> dict[tuple[str, str], list[Point]]:
    """Return IoU, F1 and its interval of each kind of object and method."""
    found: dict[tuple[str, str], list[Point]] = {}
    for row in rows:
        name, iou, averaging = parse_metric(row.metric) or ("", "nan", "")
        if name == "f1" and not averaging and not math.isnan(row.value):
            point = (float(iou), row.value, row.ci_low, row.ci_high)
            found.setdefault((row.condition, row.method), []).append(point)
    return found


def _predicted(config: Config) -> bool:
    return bool(config.translate.boundaries or config.translate.detectors)


@styled
def plot_instances(root: Path, config: Config, out: Path) -> None:
    """Draw `instances_figure` into a file, or say that there are none."""
    if _predicted(config):
        save(instances_figure(root, config), out)
    else:
        say_nothing(out, NO_BOUNDARIES)


@styled
def plot_matching(root: Path, config: Config, out: Path) -> None:
    """Draw `matching_figure` into a file, or say that there is nothing to match."""
    if _predicted(config):
        save(matching_figure(root, config), out)
    else:
        say_nothing(out, NO_BOUNDARIES)

"""Figure of features: how those on predicted stains follow those on real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phantomscope.config.model import Config
from phantomscope.config.papers import PAPERS
from phantomscope.measure.features_objects import CATEGORIES
from phantomscope.tables.figures_curves import say_nothing
from phantomscope.tables.figures_translation import tones
from phantomscope.tables.profiles import (
    CORRELATION,
    WAYS,
    levels,
    parts_of,
    profile_rows,
)
from phantomscope.tables.published import load_published
from phantomscope.tables.results import ResultRow
from phantomscope.tables.style import GRID, INK, MUTED, canvas, save, styled
from phantomscope.tables.translation import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = "cellresdm"
NO_FEATURES = "No features are measured: `translate.profiles` is empty."
# Share of the room of a category that its bars take.
FILLED = 0.84


def _chosen(root: Path, config: Config) -> list[ResultRow]:
    """Return the rows to show: sites (blocks), with the first way of objects."""
    ways = config.translate.profiled
    site = levels(config)["site"]
    return [
        row for row in profile_rows(root, config)
        if row.metric == CORRELATION and parts_of(row)[0] in CATEGORIES
        and parts_of(row)[2:] == (site, WAYS[ways[0]])
    ]  # fmt: skip


def features_figure(root: Path, config: Config) -> Figure:
    """Show the correlation of features by category, method and cell line.

    Bars, with their intervals over wells; diamonds are the values that the paper
    publishes of the same method and cell line, on its own data.
    """
    rows = _chosen(root, config)
    lines = list(dict.fromkeys(parts_of(row)[1] for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    of_paper = config.appearance.organism in PAPERS[PAPER].organisms
    published = load_published(PAPER) if of_paper else []
    figure = canvas(1.2 + 0.105 * len(CATEGORIES) * (len(methods) + 1))
    panels = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    theirs = False
    for axes, line in zip(panels, lines, strict=True):
        own = [row for row in rows if parts_of(row)[1] == line]
        marks = [r for r in published if r.dataset == line and r.metric == CORRELATION]
        theirs = theirs or bool(marks)
        _panel(axes, own, marks, methods)
        axes.set_title(line)
        axes.set_xlabel("correlation, real and predicted stains")
    panels[0].set_ylim(len(CATEGORIES) - 0.45, -0.55)
    panels[0].set_yticks(range(len(CATEGORIES)), CATEGORIES)
    _legend(figure, panels[0], methods, theirs)
    return figure


def _panel(
    axes: Axes, rows: Sequence[ResultRow], published: Sequence[ResultRow],
    methods: Sequence[str],
) -> None:  # fmt: skip
    tone, thick = tones(methods), FILLED / len(methods)

    def height(category: str, method: str) -> float:
        within = (methods.index(method) + 0.5) / len(methods) - 0.5
        return CATEGORIES.index(category) + FILLED * within

    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for row in rows:
        y = height(parts_of(row)[0], row.method)
        if math.isnan(row.value):
            axes.text(0.01, y, "–", va="center", fontsize=6.5, color=MUTED)
            continue
        axes.barh(y, row.value, 0.9 * thick, color=tone[row.method])
        if not math.isnan(row.ci_low):
            ends = [row.ci_low, row.ci_high]
            # White below, since some bars are as dark as the line.
            axes.plot(ends, [y, y], color="white", linewidth=2.4, alpha=0.8)
            axes.plot(ends, [y, y], color=INK, linewidth=0.9)
    for row in published:
        if row.method in methods:
            y = height(row.condition, row.method)
            axes.plot(row.value, y, **_MARK)
    ends = [v for r in rows for v in (r.value, r.ci_low) if not math.isnan(v)]
    axes.set_xlim(min([-0.1, *(v - 0.05 for v in ends)]), 1.05)


_MARK: dict[str, Any] = {
    "marker": "D", "markersize": 3, "linestyle": "", "markerfacecolor": "white",
    "markeredgecolor": INK, "markeredgewidth": 0.7,
}  # fmt: skip


def _legend(
    figure: Figure, axes: Axes, methods: Sequence[str], published: bool
) -> None:
    tone = tones(methods)
    handles = [
        axes.plot([], [], "s", ms=6, color=tone[m], label=TITLES[m])[0] for m in methods
    ]
    if published:
        label = "published, on the paper's data"
        handles.append(axes.plot([], [], label=label, **_MARK)[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=4)


@styled
def plot_features(root: Path, config: Config, out: Path) -> None:
    """Draw `features_figure` into a file, or say that there are none."""
    if config.translate.profiled:
        save(features_figure(root, config), out)
    else:
        say_nothing(out, NO_FEATURES)

"""Figures of semantic filtering: quality of methods, learning curves, thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phantomscope.config.filtering import ALL_FILTER_METHODS
from phantomscope.config.model import Config
from phantomscope.tables.figures_curves import say_nothing
from phantomscope.tables.filter_metrics import TITLES, main_rule
from phantomscope.tables.filtering import filtering_rows
from phantomscope.tables.results import ResultRow
from phantomscope.tables.style import COLOURS, GRID, INK, MUTED, canvas, save, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A method looks the same in all figures, whatever others there are.
TONES: dict[str, str] = dict(
    zip(
        ALL_FILTER_METHODS,
        (COLOURS["synthetic"], "#56b4e9", COLOURS["sketch"], COLOURS["generalist"],
         COLOURS["otsu_watershed"], "#000000", "#7f7f7f"),
        strict=True,
    )
)  # fmt: skip
NO_CURVE = (
    "all methods were trained on all images: `filter.images` names no numbers of these"
)
NO_STEPS = (
    "no method of this experiment removes objects (`filter.objects.rule: removed`)"
)
SCORES = {"f1": "F1", "precision": "precision", "recall": "recall"}


def number_of(row: ResultRow, target: str) -> str | None:
    """Return the number of training images of a row of this class.

    Empty for all images; None for a row of something else.
    """
    if row.condition == target:
        return ""
    start, end = f"{target}, ", " images"
    inner = row.condition.removeprefix(start).removesuffix(end)
    return inner if row.condition == start + inner + end and inner.isdigit() else None


def _interval(axes: Axes, x: Sequence[float], y: Sequence[float], **look: Any) -> None:
    """Draw an interval, if there is one."""
    if not any(math.isnan(value) for value in (*x, *y)):
        axes.plot(x, y, **look)


def quality_figure(root: Path, config: Config) -> Figure:
    """Plot F1, precision and recall of each class and method, with intervals."""
    rows, options = filtering_rows(root, config), config.filter
    rule, most = main_rule(options), options.sizes[-1]
    wanted = ("", most)
    lines = [
        (target, method)
        for target in options.targets
        for method in ALL_FILTER_METHODS
        if method in options.methods
    ]
    figure = canvas(0.9 + 0.3 * len(lines))
    panels = figure.subplots(1, len(SCORES), sharey=True)
    for axes, (metric, title) in zip(panels, SCORES.items(), strict=True):
        for y, (target, method) in enumerate(lines):
            for row in rows:
                number = number_of(row, target)
                if row.metric != f"{metric}_{rule}" or row.method != method:
                    continue
                if number is None or number not in wanted:
                    continue
                tone = TONES[method]
                _interval(axes, [row.ci_low, row.ci_high], [y, y], color=tone)
                axes.plot(row.value, y, "o", ms=5, color=tone)
        axes.set_title(title)
        axes.set_xlim(-0.03, 1.03)
        axes.grid(axis="x", color=GRID)
        names = [f"{target}: {TITLES[method]}" for target, method in lines]
        axes.set_yticks(range(len(lines)), names)
    panels[0].invert_yaxis()
    level = 100 * config.evaluate.confidence
    figure.supxlabel(
        f"{rule.replace('_', ' ')}; lines: {level:g}% intervals, if there are enough "
        "units", fontsize=8, color=MUTED,
    )  # fmt: skip
    return figure


Mark = tuple[str, float, float]


def learning_curve_figure(
    root: Path, config: Config, metrics: Sequence[str] = (), marks: Sequence[Mark] = (),
) -> Figure | None:  # fmt: skip
    """Plot F1 of each method against the number of training images, with intervals.

    None if all were trained on all images.

    Parameters
    ----------
    root, config
        Of the experiment.
    metrics : sequence of str
        What is drawn, a panel each; by default F1 of the main rule.
    marks : sequence of (str, float, float)
        Published values, as method, number and value.
    """
    options = config.filter
    if not options.images:
        return None
    rows = filtering_rows(root, config)
    metrics = metrics or (f"f1_{main_rule(options)}",)
    panels = [(target, metric) for target in options.targets for metric in metrics]
    figure = canvas(3.4, 9.5)
    grid = figure.subplots(1, max(2, len(panels)), squeeze=False, sharey=True)[0]
    for axes, (target, metric) in zip(grid, panels, strict=False):
        own = [row for row in rows if row.metric == metric]
        _curves(axes, own, target, marks if metric == metrics[0] else ())
        axes.set_title(f"{target}, {metric.replace('_', ' ')}", fontsize=8.5)
        axes.set_xscale("log")
        axes.set_xticks(
            sorted(options.images), [str(n) for n in sorted(options.images)]
        )
        axes.set_xticks([], minor=True)
        axes.set_xlabel("training images")
        axes.set_ylim(-0.02, 1.02)
        axes.grid(axis="y", color=GRID)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    grid[0].set_ylabel("F1")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _curves(
    axes: Axes, rows: Sequence[ResultRow], target: str, marks: Sequence[Mark]
) -> None:
    for place, method in enumerate(dict.fromkeys(row.method for row in rows)):
        found = {
            number_of(row, target): row for row in rows
            if row.method == method and number_of(row, target) is not None
        }  # fmt: skip
        tone = TONES.get(method, INK)
        numbered = sorted((int(n), row) for n, row in found.items() if n)
        if not numbered:
            # It learns nothing.
            for row in found.values():
                axes.axhline(row.value, color=tone, ls="dotted", label=TITLES[method])
            continue
        # Side by side, so that no interval hides another.
        x = [n * 1.03**place for n, _ in numbered]
        axes.plot(
            x, [row.value for _, row in numbered], "o-", ms=4, lw=1.5, color=tone,
            label=TITLES[method],
        )  # fmt: skip
        for n, (_, row) in zip(x, numbered, strict=True):
            _interval(axes, [n, n], [row.ci_low, row.ci_high], color=tone, lw=1.2)
    for name, number, value in marks:
        axes.plot(number, value, "D", ms=6, mfc="none", color=TONES.get(name, INK),
                  label=f"{TITLES[name]}, published")  # fmt: skip


def threshold_figure(root: Path, config: Config) -> Figure | None:
    """Plot the IoU of what was removed against the step, with intervals.

    None if no method removes anything.
    """
    rows = [r for r in filtering_rows(root, config) if r.metric == "removed_iou"]
    if not rows:
        return None
    options, most = config.filter, config.filter.sizes[-1]
    figure = canvas(3.0)
    grid = figure.subplots(1, max(2, len(options.targets)), squeeze=False)[0]
    for axes, target in zip(grid, options.targets, strict=False):
        for method in dict.fromkeys(row.method for row in rows):
            points = sorted(_steps(rows, target, method, most))
            if not points:
                continue
            x, y, low, high = zip(*points, strict=True)
            axes.plot(x, y, "o-", ms=3.5, color=TONES[method], label=TITLES[method])
            axes.fill_between(x, low, high, color=TONES[method], alpha=0.15, lw=0)
        if options.objects.step:
            axes.axvline(255 * options.objects.step, color=MUTED, ls="dotted")
        axes.set_xscale("log")
        axes.set_xticks([1, 3, 10, 28, 80], ["1", "3", "10", "28", "80"])
        axes.set_xticks([], minor=True)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("step (grey values of 255)")
        axes.set_title(target, fontsize=8.5)
        axes.grid(axis="y", color=GRID)
    for axes in grid[len(options.targets) :]:
        axes.axis("off")
    grid[0].set_ylabel("IoU, pooled over pixels")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _steps(
    rows: Sequence[ResultRow], target: str, method: str, most: str
) -> list[tuple[float, float, float, float]]:
    """Return (step, IoU, low, high) of a method and the largest number of images."""
    found = []
    for row in rows:
        condition, _, step = row.condition.rpartition(", step ")
        if row.method == method and condition in (target, f"{target}, {most} images"):
            found.append((float(step.removesuffix("/255")), row.value, row.ci_low,
                          row.ci_high))  # fmt: skip
    return found


def _write(figure: Figure | None, out: Path, why: str) -> None:
    if figure is None:
        say_nothing(out, why)
    else:
        save(figure, out)


@styled
def plot_quality(root: Path, config: Config, out: Path) -> None:
    """Draw `quality_figure` into a file."""
    save(quality_figure(root, config), out)


@styled
def plot_learning_curve(root: Path, config: Config, out: Path) -> None:
    """Draw `learning_curve_figure` into a file, or say that there is none."""
    _write(learning_curve_figure(root, config), out, NO_CURVE)


@styled
def plot_threshold(root: Path, config: Config, out: Path) -> None:
    """Draw `threshold_figure` into a file, or say that there is none."""
    _write(threshold_figure(root, config), out, NO_STEPS)

"""Figure 2 of Eschweiler & Stegmaier 2023: the way forth and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from phantomscope.config.appearance import MAIN_BINS
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.eschweiler import BACKWARD, FORWARD, PAPER, pareto_table
from phantomscope.tables.paper import Part
from phantomscope.tables.published import load_published
from phantomscope.tables.results import ResultRow
from phantomscope.tables.style import COLOURS, GRID, INK, MUTED, canvas, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "kld": "noised images against noised sketches:\nKullback-Leibler divergence (nats)",
    "bd": "Bhattacharyya distance",
    "psnr": "what came back, against the real image:\nPSNR (dB)",
    "ssim": "SSIM",
    "mae": "mean absolute error",
}
# Zero has no logarithm; below this nothing differs any more.
LEAST = 1e-5
ROUNDED = 5e-4


def draw_curves(part: Part) -> Figure:
    """Draw distances forth, similarity back, and the Pareto curve of an organism."""
    figure = canvas(5.9)
    grid = figure.subplots(2, 3)
    published = [
        row for row in load_published(PAPER)
        if row.dataset == part.organism and row.source == "Figure 2"
    ]  # fmt: skip
    forward = read_table(part.root / FORWARD)
    for axes, metric in zip(grid[0], ("kld", "bd"), strict=False):
        _forward(axes, forward[forward["metric"] == metric])
        _published(axes, [row for row in published if row.metric == metric])
    _pareto(grid[0, 2], part)
    backward = read_table(part.root / BACKWARD)
    for axes, metric in zip(grid[1], ("psnr", "ssim", "mae"), strict=True):
        _backward(axes, backward[backward["metric"] == metric])
        _published(axes, [row for row in published if row.metric == metric])
    for axes, title in zip((*grid[0, :2], *grid[1]), TITLES.values(), strict=True):
        axes.set_title(title, fontsize=8.5)
        axes.set_xlabel("t")
        axes.grid(axis="y", color=GRID, lw=0.8)
    legend(grid[0, 0], loc="lower left", fontsize=7.5)
    # Below all three panels: within one it would hide lines.
    handles, labels = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _forward(axes: Axes, table: pd.DataFrame) -> None:
    for bins, line in table.groupby("bins"):
        main, coarse = bins == MAIN_BINS, bins < MAIN_BINS
        values = np.maximum(line["value"].to_numpy(float), LEAST)
        axes.plot(line["t"], values, "o-" if main else ":" if coarse else "--", ms=3.5,
                  lw=1.8 if main else 1.1, label=f"ours, {bins} bins",
                  color=COLOURS["synthetic"] if main else MUTED)  # fmt: skip
        if main and line["ci_low"].notna().all():
            low, high = (line[name].clip(lower=LEAST) for name in ("ci_low", "ci_high"))
            axes.fill_between(line["t"], low, high, alpha=0.15, lw=0,
                              color=COLOURS["synthetic"])  # fmt: skip
    axes.set_yscale("log")


def _backward(axes: Axes, table: pd.DataFrame) -> None:
    came_back = table[table["t"] > 0]
    for (which, sampler), found in came_back.groupby(["input", "sampler"]):
        line = found.groupby("t")["value"].agg(["mean", "count"])
        colour = COLOURS["real" if which == "real" else "sketch"]
        style = (0, (4, 1.6)) if sampler == "ddpm" else "-"
        label = f"from {which}, {sampler} (n = {int(line['count'].min())})"
        axes.plot(line.index, line["mean"], "o", ls=style, ms=3.5, color=colour,
                  label=label)  # fmt: skip
    drawn = table[table["input"] == "drawn"]["value"]
    if len(drawn):
        axes.axhline(float(drawn.mean()), color=COLOURS["sketch"], lw=1, ls=":",
                     label="the sketch itself")  # fmt: skip


def _published(axes: Axes, rows: list[ResultRow]) -> None:
    """Mark published values by hollow points, in the colour of what they belong to.

    What was printed as 0.000 is below half of its last digit: an arrow says so.
    """
    colours = {"real": COLOURS["real"], "sketch": COLOURS["sketch"], "t": INK}
    for which, colour in colours.items():
        mine = [row for row in rows if row.condition.split("_")[0].startswith(which)]
        label = "published" if which == "t" else f"published, {which}"
        for marker, chosen, value in (
            ("D", [row for row in mine if row.value > 0], None),
            ("v", [row for row in mine if row.value == 0], ROUNDED),
        ):
            if chosen:
                times = [int(row.condition.rsplit("t", 1)[1]) for row in chosen]
                heights = [row.value if value is None else value for row in chosen]
                axes.plot(times, heights, marker, mfc="white", color=colour, ms=5,
                          ls="none", label=label)  # fmt: skip
                label = ""


def _pareto(axes: Axes, part: Part) -> None:
    """Draw realism against label fidelity of what came back of sketches."""
    table = pareto_table([part])
    for sampler, line in table.groupby("sampler"):
        line = line.sort_values("t")
        x, y = line["fidelity"].to_numpy(float), line["spectrum"].to_numpy(float)
        good = line["efficient"].to_numpy(bool)
        axes.plot(x, y, "o-", lw=1, ms=4, color=MUTED)
        axes.plot(x[good], y[good], "o", ms=5.5, color=COLOURS["generalist"],
                  label=f"efficient, {sampler}")  # fmt: skip
        for at, t in zip(zip(x, y, strict=True), line["t"], strict=True):
            axes.annotate(f"{t}", at, xytext=(4, 3), textcoords="offset points",
                          fontsize=7.5, color=INK)  # fmt: skip
    word = {"f1": "F1 of a re-segmentation", "dice": "Dice of a re-segmentation"}
    kind = str(table["fidelity_is"].iloc[0]) if len(table) else "f1"
    axes.set_xlabel(f"label fidelity ({word[kind]})")
    title = "fidelity against realism of each t:\ndistance of the power spectrum"
    axes.set_title(title, fontsize=8.5)
    axes.grid(color=GRID, lw=0.8)
    legend(axes, loc="best", fontsize=7.5)

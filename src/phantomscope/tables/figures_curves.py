"""Figures that are curves, histograms and bars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json
from phantomscope.images.normalise import Normalisation
from phantomscope.images.voxels import voxel_size
from phantomscope.measure.matching import threshold_keys
from phantomscope.tables.artefacts import (
    display_unit,
    origin,
    read_lines,
    read_table,
    shards,
)
from phantomscope.tables.figures_volumes import choose_cut
from phantomscope.tables.rows import Bootstrap, load_methods, over_seeds
from phantomscope.tables.style import (
    COLOURS,
    GRID,
    INK,
    LABEL,
    MUTED,
    TOOLS,
    canvas,
    legend,
    outlines,
    save,
    show,
    spread,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

PROPERTIES = {
    "radius": "radius (px)",
    "elongation": "elongation (major / minor axis)",
    "intensity": "intensity above background",
}
TYPES_SHOWN = 4


@styled
def plot_fit(root: Path, config: Config, out: Path) -> None:
    """Draw the distributions of the nuclei of real images and of sketches."""
    table = read_table(root / "fit_objects.csv")
    types = list(table["type"].value_counts().index[:TYPES_SHOWN])
    if not types:
        say_nothing(out, "no nuclei were measured: membranes, or nothing was found")
        return
    figure = canvas(0.4 + 2.1 * len(types))
    grid = np.atleast_2d(figure.subplots(len(types), 3, squeeze=False))
    for line, name in zip(grid, types, strict=True):
        part = table[table["type"] == name]
        for axes, (column, label) in zip(line, PROPERTIES.items(), strict=True):
            _two_histograms(axes, part, column, origin(config))
            axes.set_xlabel(label)
        if len(types) > 1:
            line[0].set_title(f"images of type {name}")
        line[0].set_ylabel("share of nuclei")
    legend(grid[0, -1], loc="upper right")
    save(figure, out)


def say_nothing(out: Path, why: str) -> None:
    """Write a figure that says why there is nothing to show."""
    figure = canvas(0.8)
    axes = figure.subplots()
    axes.axis("off")
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
    save(figure, out)


def _two_histograms(axes: Axes, table: pd.DataFrame, column: str, real: str) -> None:
    values = table[column].to_numpy(float)
    values = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.5]))
    edges = np.linspace(low, max(high, low + 1e-6), 25)
    for source, label in (("real", real), ("sketch", "sketches")):
        chosen = table.loc[table["source"] == source, column].to_numpy(float)
        inside = np.clip(chosen[np.isfinite(chosen)], edges[0], edges[-1])
        counts = np.histogram(inside, edges)[0] / max(len(inside), 1)
        step(axes, edges, counts, source, f"{label} (n = {len(inside):,})")
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def step(
    axes: Axes, edges: np.ndarray, counts: np.ndarray, kind: str, label: str
) -> None:
    """Real: a filled grey shape; all else: a line."""
    filled = kind in ("real", "held_out")
    colour = COLOURS["real" if filled else kind]
    if filled:
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28, label=label)
    else:
        axes.stairs(counts, edges, color=colour, lw=1.8, label=label)


@styled
def plot_training(root: Path, config: Config, out: Path) -> None:
    """Draw loss and learning rate of the diffusion model."""
    table = read_lines(root / "diffusion" / "metrics.jsonl")
    if not len(table):
        raise PhantomscopeError(
            "there is no loss curve", where=root / "diffusion" / "metrics.jsonl",
            fix="train the diffusion model first",
        )  # fmt: skip
    figure = canvas(3.0)
    loss, rate = figure.subplots(1, 2, width_ratios=[2.4, 1])
    step, values = table["step"].to_numpy(), table["loss"].to_numpy(float)
    loss.plot(step, values, color=COLOURS["synthetic"], alpha=0.3, lw=1)
    window = max(1, len(values) // 20)
    smooth = pd.Series(values).rolling(window, min_periods=1, center=True).mean()
    loss.plot(step, smooth, color=COLOURS["synthetic"])
    loss.set_yscale("log")
    loss.set_title("loss of the diffusion model (unannotated images only)")
    rate.plot(step, table["learning_rate"], color=MUTED)
    rate.set_yscale("log")
    rate.set_title("learning rate")
    for axes in (loss, rate):
        axes.set_xlabel("optimiser step")
        axes.set_xlim(left=0)
        axes.grid(axis="y", color=GRID, lw=0.8)
        _plain_log_ticks(axes)
    last = float(smooth.iloc[-1])
    loss.annotate(f"{last:.3g}", (float(step[-1]), last), xytext=(4, 0),
                  textcoords="offset points", va="center",
                  color=COLOURS["synthetic"], annotation_clip=False)  # fmt: skip
    save(figure, out)


def _plain_log_ticks(axes: Axes) -> None:
    """0.02, 0.05, 0.1 rather than powers, as many as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)


@styled
def plot_start(root: Path, config: Config, out: Path) -> None:
    """Draw how t_start was chosen, and one sketch brought back from each time."""
    table = read_table(root / "tables" / "t_start.csv")
    start = read_json(root / "start.json")
    figure = canvas(4.95)
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.65, 1])
    above, below = parts.ravel()
    _start_curves(above, table, start)
    _start_strip(below, root, int(start["value"]))
    save(figure, out)


def _start_curves(
    part: SubFigure, table: pd.DataFrame, start: dict[str, float]
) -> None:
    left, right = part.subplots(1, 2)
    t = table["t"].to_numpy(float)
    for axes in (left, right):
        axes.axvline(start["value"], color=INK, lw=1, ls=(0, (1, 2)), zorder=0)
        axes.set_xlabel("t_start")
        axes.grid(axis="y", color=GRID, lw=0.8)
    lines = {"bd_intensity": ("intensity", COLOURS["synthetic"]),
             "bd_texture": ("fine texture", COLOURS["otsu_watershed"])}  # fmt: skip
    for column, (label, colour) in lines.items():
        # Zero has no logarithm; below 1e-5 nothing differs any more.
        beyond = table[column] - table[f"{column}_real"]
        values = np.maximum(beyond.to_numpy(float), 1e-5)
        left.plot(t, values, "o-", ms=3.5, color=colour, label=label)
    left.set_yscale("log")
    _limit(left, float(start["max_distance"]), "largest allowed")
    left.set_title("noised sketches against noised images")
    left.set_ylabel("Bhattacharyya distance beyond real")
    _plain_log_ticks(left)
    legend(left, loc="best")
    right.plot(t, table["fidelity_relative"], "o-", ms=3.5, color=COLOURS["generalist"])
    _limit(right, float(start["min_fidelity"]), "least allowed")
    right.set_title("do the labels still hold after the way back?")
    right.set_ylabel("label fidelity, relative to the best")
    right.set_ylim(0, 1.06)
    right.annotate(f"chosen: {start['value']:g}", (start["value"], 0.03), xytext=(5, 0),
                   textcoords="offset points", fontweight="bold")  # fmt: skip


def _limit(axes: Axes, value: float, label: str) -> None:
    axes.axhline(value, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=0)
    axes.annotate(f"{label}: {value:g}", (1, value), xycoords=("axes fraction", "data"),
                  xytext=(-3, 3), textcoords="offset points", color=MUTED,
                  ha="right", fontsize=8)  # fmt: skip


def _start_strip(part: SubFigure, root: Path, chosen: int) -> None:
    """Show the same sketch from each time, with the outlines of its labels first."""
    sets = shards(root / "start")
    norm = Normalisation.load(root / "normalisation.json")
    if not sets:
        return
    images = sets[0]
    first = images.table["sketch"].iloc[0]
    table = images.table[images.table["sketch"] == first].sort_values("t")
    grid = np.ravel(part.subplots(1, len(table), squeeze=False))
    # The same place for all.
    shown = str(table.index[0])
    labels = images.mask(shown) if images.has_mask(shown) else None
    cut = choose_cut(images.shape(shown), 128, voxel_size(images), labels)
    for axes, (identifier, t) in zip(grid, table["t"].items(), strict=True):
        show(axes, cut(display_unit(norm, images, str(identifier))))
        here = int(t) == chosen
        axes.set_title(f"{int(t)}", pad=4, loc="center",
                       fontweight="bold" if here else "normal")  # fmt: skip
        if here:
            axes.patch.set_visible(True)
            for spine in axes.spines.values():
                spine.set(visible=True, color=COLOURS["generalist"], linewidth=3)
        if axes is grid[0] and labels is not None:
            outlines(axes, cut(labels), LABEL, width=0.9)
    part.suptitle("the same sketch brought back from each t_start (first panel: with "
                  "the outlines of its labels)", x=0.01, ha="left", fontsize=9,
                  color=MUTED)  # fmt: skip


@styled
def plot_realism(root: Path, config: Config, out: Path) -> None:
    """Draw intensity histograms and radial spectra: real, synthetic, camera."""
    content = read_json(root / "realism.json")
    figure = canvas(3.3)
    left, right = figure.subplots(1, 2)
    names = {"real": origin(config), "synthetic": "synthetic",
             "camera": "sketch with camera noise"}  # fmt: skip
    edges = np.asarray(content["intensity"]["edges"], float)
    frequency = np.asarray(content["spectrum"]["frequency"], float)
    for kind, label in names.items():
        if kind not in content["intensity"]:
            continue
        share = np.asarray(content["intensity"][kind], float)
        step(left, edges, np.maximum(share / max(share.sum(), 1e-12), 1e-6),
              kind, label)  # fmt: skip
        power = np.asarray(content["spectrum"][kind], float)
        style = {"lw": 4, "alpha": 0.4} if kind == "real" else {"lw": 1.8}
        right.plot(frequency, power, color=COLOURS[kind], label=label, **style)
    left.set_yscale("log")
    left.set_ylim(bottom=1e-5)
    left.set_xlabel("intensity (0 and 1: limits of the training images)")
    left.set_ylabel("share of pixels")
    left.set_title("intensities")
    right.set_yscale("log")
    right.set_xlabel("spatial frequency (cycles / px)")
    right.set_ylabel("power")
    right.set_title("texture: radial power spectrum")
    for axes in (left, right):
        axes.grid(axis="y", color=GRID, lw=0.8)
    legend(right, loc="upper right")
    save(figure, out)


@styled
def plot_average_precision(root: Path, config: Config, out: Path) -> None:
    """Draw AP over the IoU threshold: one line per method, mean over seeds."""
    methods = [method for method in load_methods(root) if method.images]
    bootstrap = Bootstrap(methods[0], config)
    thresholds = sorted(config.evaluate.thresholds)
    figure = canvas(3.9, 7.6)
    axes = figure.subplots()
    curves = []
    for method in methods:
        key = method.arm if method.tool in ("cellpose", "stardist") else method.tool
        values = bootstrap.values(method)
        curve = [
            float(over_seeds(values, f"ap_{k}")) for k in threshold_keys(thresholds)
        ]
        colour = COLOURS.get(key, INK)
        dashed = (0, (4, 1.6)) if method.tool == "cellpose" else "-"
        axes.plot(thresholds, curve, color=colour, ls=dashed)
        label = TOOLS.get(method.tool, method.tool)
        label += f", {method.arm}" if key == method.arm else ""
        curves.append((label, colour, curve[0]))
    ends = spread([value for _, _, value in curves], 0.062)
    for (label, colour, value), y in zip(curves, ends, strict=True):
        axes.annotate(f"{label}  {value:.2f}", (thresholds[0], value),
                      xytext=(thresholds[0] - 0.025, y), ha="right", va="center",
                      color=colour, fontsize=8.5, annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6,
                                  "shrinkA": 1, "shrinkB": 0})  # fmt: skip
    axes.set_ylim(0, max(1.0, max(ends) + 0.03))
    axes.set_xlim(thresholds[0], max(thresholds[-1], thresholds[0] + 0.05))
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.spines[["left", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_xlabel("IoU from which an object counts as found")
    axes.set_ylabel("average precision, TP / (TP + FP + FN)")
    save(figure, out)


def stage_costs(root: Path) -> pd.DataFrame:
    """Return seconds, jobs and peak memory (MB) of each stage, longest first."""
    rows = []
    for path in sorted((root / "benchmarks").glob("*.tsv")):
        table = read_table(path, sep="\t")
        if not len(table) or "s" not in table:
            continue
        memory = table["max_rss"] if "max_rss" in table else pd.Series([np.nan])
        rows.append({
            "stage": path.name.split(".")[0],
            "seconds": float(pd.to_numeric(table["s"], errors="coerce").mean()),
            "memory": float(pd.to_numeric(memory, errors="coerce").max()),
        })  # fmt: skip
    if not rows:
        return pd.DataFrame(columns=["stage", "seconds", "jobs", "memory"])
    grouped = pd.DataFrame(rows).groupby("stage")
    table = grouped.agg(
        seconds=("seconds", "sum"), jobs=("seconds", "size"), memory=("memory", "max")
    )
    return table.sort_values("seconds", ascending=False).reset_index()


def duration(seconds: float) -> str:
    """Format a time for people: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


@styled
def plot_costs(root: Path, config: Config, out: Path) -> None:
    """Draw the time of each stage, all its jobs together."""
    table = stage_costs(root)
    figure = canvas(0.5 + 0.27 * max(len(table), 2))
    axes = figure.subplots()
    places = np.arange(len(table))
    axes.barh(places, table["seconds"], height=0.62, color=COLOURS["synthetic"])
    top = float(table["seconds"].max()) if len(table) else 1.0
    for place, row in enumerate(table.itertuples()):
        jobs = f" in {row.jobs} jobs" if row.jobs > 1 else ""
        memory = f" · {row.memory / 1024:.1f} GB" if row.memory > 0 else ""
        axes.text(row.seconds + top * 0.01, place,
                  f"{duration(row.seconds)}{jobs}{memory}", va="center",
                  fontsize=8.5, color=INK)  # fmt: skip
    axes.set_yticks(places, [name.replace("_", " ") for name in table["stage"]])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, top * 1.35)
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    save(figure, out)

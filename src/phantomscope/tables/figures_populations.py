"""Sizes, shapes, distances and intensities of objects: simulated against real."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phantomscope.config.model import Config
from phantomscope.images.files import read_json
from phantomscope.tables.artefacts import origin, read_table
from phantomscope.tables.figures_curves import say_nothing, step
from phantomscope.tables.results import number
from phantomscope.tables.style import MUTED, canvas, legend, save, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, HISTOGRAMS = Path("tables/populations.csv"), Path("populations.json")
QUANTITIES = {
    "radius": "size: radius",
    "elongation": "elongation",
    "nearest_neighbour": "nearest neighbour",
    "intensity": "intensity",
}
AXES = {
    "radius": "radius (px)",
    "elongation": "major by minor axis",
    "nearest_neighbour": "distance of centroids (px)",
    "intensity": "median above background",
}


@styled
def plot_populations(root: Path, config: Config, out: Path) -> None:
    """Draw the distributions of simulated and real objects, a panel per quantity."""
    content = read_json(root / HISTOGRAMS)
    found = content["histograms"]
    rows = {row["quantity"]: row for row in _rows(root)}
    shown = [name for name in QUANTITIES if name in found and name in rows]
    if not shown:
        why = content["absent"] or "no whole object was found"
        say_nothing(out, f"simulated against real objects: not measured ({why})")
        return
    figure = canvas(2.9)
    grid = np.ravel(figure.subplots(1, len(shown), squeeze=False))
    for axes, name in zip(grid, shown, strict=True):
        _panel(axes, name, found[name], rows[name], origin(config))
    grid[0].set_ylabel("share of objects")
    save(figure, out)


def _rows(root: Path) -> list[dict[str, Any]]:
    table = read_table(root / TABLE)
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _panel(
    axes: Axes, name: str, shares: Mapping[str, Any], row: Mapping[str, Any], real: str
) -> None:
    edges = np.asarray(shares["edges"], float)
    sides = (("real", "real", real), ("synthetic", "simulated", "synthetic"))
    for kind, key, word in sides:
        label = f"{word}, n = {row[f'n_{key}']:,}"
        step(axes, edges, np.asarray(shares[key], float), kind, label)
    axes.set_title(QUANTITIES[name], pad=22)
    axes.text(0, 1.02, _distances(row), transform=axes.transAxes, fontsize=7.8,
              color=MUTED, va="bottom")  # fmt: skip
    axes.set_xlabel(AXES[name])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.3)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    legend(axes, loc="upper right")


def _distances(row: Mapping[str, Any]) -> str:
    """Both distances, the first with what chance alone would give."""
    if math.isnan(row["ks"]):
        return "too few objects for a distance"
    chance = number(float(row["chance"]))
    return f"W/IQR {number(float(row['relative']))} (chance {chance}), KS " + number(
        float(row["ks"])
    )


def table_rows(root: Path) -> list[dict[str, str]]:
    """Return one row per quantity as the report prints it; empty if not measured."""
    if not (root / TABLE).exists():
        return []
    found = []
    for row in _rows(root):
        unit = "" if str(row["unit"]) == "nan" else str(row["unit"])
        found.append({
            "quantity": QUANTITIES[row["quantity"]],
            "unit": unit,
            **{side: _summary(row, side) for side in ("real", "simulated")},
            "relative": _interval(row, "relative"),
            "chance": number(float(row["chance"])),
            "ks": _interval(row, "ks"),
        })  # fmt: skip
    return found


def _summary(row: Mapping[str, Any], side: str) -> str:
    """Median with the quartiles, and how many objects."""
    low, middle, high = (float(row[f"{q}_{side}"]) for q in ("q25", "median", "q75"))
    if math.isnan(middle):
        return f"– (n = {row[f'n_{side}']:,})"
    return f"{middle:.3g} ({low:.3g} to {high:.3g}; n = {row[f'n_{side}']:,})"


def _interval(row: Mapping[str, Any], name: str) -> str:
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(low):
        return number(value)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def source_of(root: Path) -> dict[str, Any]:
    """Return what the objects of both sides are, and how they were resampled."""
    if not (root / HISTOGRAMS).exists():
        return {}
    content = read_json(root / HISTOGRAMS)
    rows = _rows(root)
    units = rows[0] if rows else {}
    return {
        **{name: content[name] for name in ("real", "simulated", "absent")},
        "confidence": f"{100 * content['confidence']:g}%",
        "units": f"{units['units_real']} ({units['unit_of_n']})" if units else "",
    }

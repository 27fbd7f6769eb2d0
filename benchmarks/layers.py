"""Semantic filtering: time of the smoke scale, and figures of its pilot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from tests.layers import ARCHIVES, write_layers
from tests.server import serve

from benchmarks.laboratory import ROOT
from benchmarks.papers import AGAIN, keep, run_smoke, smoke_options, smoke_row
from benchmarks.table import Row, load
from phantomscope.tables.artefacts import read_table

WORMS = "semantic_filtering.worm_iou"
LAYERS = "semantic_filtering.f1_layers_over_stardist"
COMMAND = AGAIN.replace("eschweiler", "semantic_filtering")


def semantic_filtering(folder: Path) -> list[Row]:
    """Time the smoke scale of Javer & Rittscher, and read its pilot."""
    write_layers(folder / "archives")
    options, smoke = smoke_options("semantic_filtering"), folder / "smoke"
    for name in ("worms", "worms-labels"):
        shutil.copytree(folder / "archives" / name, smoke / "data" / name)
    with serve(folder / "archives", ARCHIVES) as registry:
        for part in options["parts"].values():
            if part["source"]["kind"] == "dataset":
                part["source"]["registry"] = str(registry)
        minutes = run_smoke("semantic_filtering", options, smoke)
    what = "co-cultures, astrocytes, worms and composed nuclei"
    return [smoke_row("semantic_filtering", what, minutes), *layer_rows()]


def _pilot(results: Path, name: str) -> pd.DataFrame:
    """Return what a table of the pilot measured itself; empty without one."""
    path = results / f"tables/{name}.csv"
    found = read_table(path) if path.exists() else pd.DataFrame()
    if not len(found):
        return found
    return found[(found["scale"] == "pilot") & found["ours"].notna()]


def layer_rows(results: Path = ROOT / "results/semantic_filtering") -> list[Row]:
    """Read the pilot's worms and layers; keep the old rows where it was not run."""
    worms, layers = _pilot(results, "worms"), _pilot(results, "layers")
    if not len(worms) or not len(layers):
        print("semantic_filtering: no finished pilot; first", COMMAND)
        return [row for row in load() if row.id.startswith((WORMS, LAYERS))]
    rows = []
    for line in worms[worms["metric"] == "removed_iou"].to_dict("records"):
        method = str(line["method"])
        name = WORMS if method == "filter" else f"{WORMS}_{method.split()[0]}"
        rows.append(_row(
            name, f"IoU of the worm's pixels, pooled, {method}; published 0.850 on its "
            "own videos", line, ">= 0.85" if name == WORMS else "",
        ))  # fmt: skip
    ratios = layers[layers["metric"].str.endswith("_ratio")]
    ratios = ratios[ratios["condition"].str.contains("stardist", case=False)]
    for line in ratios.to_dict("records"):
        target = str(line["condition"]).split(",")[0].split(":")[0]
        rows.append(_row(
            f"{LAYERS}_{target}".replace(" ", "_"),
            f"{line['metric'].removesuffix('_ratio')} of objects, {line['condition']}",
            line, ">= 1",
        ))  # fmt: skip
    keep(results, "semantic_filtering-pilot")
    return rows


def _row(name: str, what: str, line: dict[str, object], goal: str) -> Row:
    return Row(
        name,
        f"{what} (95% CI {line['ci_low']:.3f} to {line['ci_high']:.3f}; n = "
        f"{line['n']} x {line['unit_of_n']})",
        f"{line['dataset_used']} ({line['data_kind']})", float(str(line["ours"])), "",
        goal, COMMAND,
    )  # fmt: skip

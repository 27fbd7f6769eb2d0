"""Semantic filtering: time of the smoke scale, and figures of its pilot."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tests.layers import ARCHIVES, write_layers
from tests.server import serve

from benchmarks.laboratory import ROOT
from benchmarks.papers import AGAIN, keep, run_smoke, smoke_options, smoke_row
from benchmarks.table import Row, load
from phantomscope.tables.artefacts import read_table

WORMS = "semantic_filtering.worm_iou"
PUBLISHED = "step 10/255"
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
    keep(results, "semantic_filtering-pilot")
    return [*_worm_rows(worms), *_ratio_rows(layers)]


def _worm_rows(worms: pd.DataFrame) -> list[Row]:
    rows = []
    for line in worms.to_dict("records"):
        method = str(line["method"])
        name = WORMS if method.startswith("filter") else f"{WORMS}_{method.split()[0]}"
        if line["metric"] == "mask_iou":
            what = "found objects, threshold by Otsu, and of the true mask"
            goal = ">= 0.85" if name == WORMS else "none"
        elif line["metric"] == "removed_iou" and PUBLISHED in str(line["condition"]):
            what = f"all that became lighter, {PUBLISHED} as published (0.850 there)"
            name, goal = f"{name}_published_step", "none"
        else:
            continue
        rows.append(
            _row(name, f"IoU of pixels of {what}, pooled, {method}", line, goal)
        )
    return rows


def _ratio_rows(layers: pd.DataFrame) -> list[Row]:
    """Return F1 by that of StarDist, and as the row of the goal the worst class."""
    rows = list[Row]()
    lines = layers[layers["metric"].str.match(r"f1_.*_ratio$")]
    for line in lines.to_dict("records"):
        target, _, methods = str(line["condition"]).partition(": ")
        ours, _, rival = methods.partition(" / ")
        if rival != "stardist":
            continue
        text = f"F1 of objects (IoU 0.5) of the class {target}, {ours} by StarDist"
        rows.append(_row(f"{LAYERS}_{target}_{ours}", text, line, "none"))
    of_layers = [row for row in rows if row.id.endswith("_layers")]
    worst = min(of_layers, key=lambda row: row.value)
    text = f"worst class of all layers at once: {worst.what}"
    return [replace(worst, id=LAYERS, what=text, goal=">= 1"), *rows]


def _row(name: str, what: str, line: dict[str, object], goal: str) -> Row:
    return Row(
        name,
        f"{what} (95% CI {line['ci_low']:.3f} to {line['ci_high']:.3f}; n = "
        f"{line['n']} x {line['unit_of_n']})",
        f"{line['dataset_used']} ({line['data_kind']})", float(str(line["ours"])), "",
        goal, COMMAND,
    )  # fmt: skip

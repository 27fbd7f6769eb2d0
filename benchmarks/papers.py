"""Papers: time of the smoke scale, and figures of pilots."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tests import ctc_archives, shareloc_archives
from tests.plates import SMALL_ARTEFACTS, Gallery, small_plates
from tests.server import Server, serve

from benchmarks import scale
from benchmarks.laboratory import ROOT, run
from benchmarks.table import Row, load
from phantomscope.tables.artefacts import read_table
from phantomscope.tables.paper import Part
from phantomscope.tables.paper_cells import dice_of_cells, dice_ratio

PILOT = ROOT / "results/eschweiler"
AGAIN = (
    "python -m benchmarks.standins FOLDER data/stand-ins; "
    "snakemake --cores 2 eschweiler --config scale=pilot; "
    "python -m benchmarks eschweiler"
)
SPEEDUP = "cellresdm.speedup_over_palette"
PSNR_RATIO = "cellresdm.psnr_over_best_rival"
RATIO = "saguy.frc_diffusion_over_mathematical"


def smoke_minutes(
    paper: str, archives: Path, names: Mapping[str, str], folder: Path
) -> float:
    """Run the whole of a paper in an empty folder.

    Archives in the layout of their publishers are served from this machine; the time
    is that of the one command, downloads included. `names` maps data sets to archives.
    """
    options = smoke_options(paper)
    with serve(archives, names) as registry:
        for part in options["parts"].values():
            part["source"]["registry"] = str(registry)
        return run_smoke(paper, options, folder)


def smoke_options(paper: str) -> dict[str, Any]:
    """Read the config of the smoke scale."""
    text = (ROOT / f"config/{paper}/smoke.yaml").read_text()
    options: dict[str, Any] = yaml.safe_load(text)
    return options


def run_smoke(paper: str, options: dict[str, Any], folder: Path) -> float:
    """Run a paper with a config, and return the minutes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "smoke.yaml"
    config.write_text(yaml.safe_dump(options, sort_keys=False))
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile",
        "--profile", "none", "--workflow-profile", "none", "--cores", 2,
        "--configfile", config, "--", paper,
    ]  # fmt: skip
    begin = time.monotonic()
    run([str(part) for part in command], cwd=folder)
    return (time.monotonic() - begin) / 60


def smoke_row(paper: str, what: str, minutes: float, goal: str = "<= 10") -> Row:
    """Return the row of that time."""
    return Row(
        f"{paper}.smoke_minutes",
        f"{what} at smoke scale, from the publishers' archives to tables, figures and "
        "reports",
        "loopback server; simulated miniatures", minutes, "min", goal,
        f"python -m benchmarks {paper}",
    )  # fmt: skip


def eschweiler(folder: Path) -> list[Row]:
    """Time the smoke scale of Eschweiler & Stegmaier, and read its pilot."""
    ctc_archives.write_archives(folder / "archives", ctc_archives.examples())
    minutes = smoke_minutes(
        "eschweiler", folder / "archives", ctc_archives.ARCHIVES, folder / "smoke"
    )
    return [smoke_row("eschweiler", "five organisms", minutes), *pilot_rows()]


def saguy(folder: Path) -> list[Row]:
    """Time the smoke scale of Saguy et al., and read its pilot."""
    shareloc_archives.write_archives(folder / "archives")
    minutes = smoke_minutes(
        "saguy", folder / "archives", shareloc_archives.ARCHIVES, folder / "smoke"
    )
    what = "microtubules, mitochondria and a smaller training set"
    return [smoke_row("saguy", what, minutes), *resolution_rows()]


def cellresdm(folder: Path) -> list[Row]:
    """Time the smoke scale of CellResDM, and read its pilot."""
    gallery = Gallery(folder / "bucket")
    options = smoke_options("cellresdm")
    with Server() as server:
        translate = options["parts"]["jump"]["translate"]
        translate["plates"] |= small_plates(server.add_bucket(gallery.root))
        translate["study"] |= SMALL_ARTEFACTS
        minutes = run_smoke("cellresdm", options, folder / "smoke")
    what = "seven methods on two plates, with StarDist, studies and features"
    rows = [smoke_row("cellresdm", what, minutes, "<= 15"), *plate_plan_rows(folder)]
    return [*rows, *translation_rows()]


def plate_plan_rows(folder: Path) -> list[Row]:
    """Plan the paper's eight plates, 27,648 sites in 96 shards, without any network."""
    seconds, memory, jobs = scale.plan(folder, ROOT / "config/cellresdm/paper.yaml")
    what = "dry run of CellResDM on eight plates of 3456 sites, both presets"
    command = "python -m benchmarks cellresdm"
    return [
        Row("cellresdm.plate_plan_seconds", what, f"{jobs} jobs", seconds, "s", "<= 60",
            command),
        Row("cellresdm.plate_plan_memory", f"{what}: peak resident memory",
            f"{jobs} jobs", memory, "MB", "<= 1000", command),
    ]  # fmt: skip


def translation_rows(results: Path = ROOT / "results/cellresdm") -> list[Row]:
    """Read the pilot's speed and quality; keep the old rows where it was not run."""
    again = AGAIN.replace("eschweiler", "cellresdm")
    tables = {name: results / f"tables/{name}.csv" for name in ("quality", "speed")}
    found = {k: read_table(v) for k, v in tables.items() if v.exists()}
    if len(found) < 2 or not (found["quality"]["scale"] == "pilot").any():
        print("cellresdm: no finished pilot; first", again)
        return [row for row in load() if row.id in (SPEEDUP, PSNR_RATIO)]
    speed = found["speed"].set_index("id")
    ratios = found["quality"][found["quality"]["metric"] == "psnr_ratio"]
    # Over the best rival: the smallest ratio.
    worst = ratios.loc[ratios["ours"].astype(float).idxmin()]
    keep(results, "cellresdm-pilot")
    return [
        Row(SPEEDUP, "seconds per image of Palette with 1000 steps by those of "
            f"residual diffusion with {speed.loc['c111', 'ours']:.0f}, same network, "
            f"one run ({_averaged(speed.loc['c110'])}); by evaluations of the network "
            f"alone {_evaluations(speed):.0f}; published 26",
            f"{worst['dataset_used']} ({worst['data_kind']})",
            float(speed.loc["c110", "ours"]), "", ">= 26", again),
        Row(PSNR_RATIO, "PSNR of residual diffusion by that of the best rival "
            f"({worst['condition']}; {_averaged(worst)}; "
            f"95% CI {worst['ci_low']:.3f} to {worst['ci_high']:.3f}; "
            f"n = {worst['n']} x {worst['unit_of_n']})",
            f"{worst['dataset_used']} ({worst['data_kind']})",
            float(worst["ours"]), "", ">= 1", again),
    ]  # fmt: skip


def _averaged(row: pd.Series) -> str:
    """Return how many predictions were averaged, as the remark says last."""
    last = str(row["remark"]).rsplit("; ", 1)[-1]
    return last if last.startswith("mean of") else "one prediction"


def _evaluations(speed: pd.DataFrame) -> float:
    """Return the network evaluations of Palette by those of residual diffusion."""
    steps = speed[speed["metric"] == "steps"].set_index("method")
    averaged = steps["remark"].str.extract(r"mean of (\d+) predictions")[0]
    counts = steps["ours"].astype(float) * averaged.fillna(1).astype(float)
    return float(counts["palette"] / counts["cellresdm"])


def resolution_rows(results: Path = ROOT / "results/saguy") -> list[Row]:
    """Read the pilot's resolutions; keep the old row where it was not run."""
    path = results / "tables/resolution.csv"
    found = read_table(path) if path.exists() else pd.DataFrame()
    if len(found):
        wanted = (found["metric"] == "frc_ratio") & (found["scale"] == "pilot")
        wanted &= found["condition"] == "diffusion / mathematical"
        found = found[wanted & found["ours"].notna()]
    again = AGAIN.replace("eschweiler", "saguy")
    if not len(found):
        print("saguy: no finished pilot; first", again)
        return [row for row in load() if row.id.startswith(RATIO)]
    made = []
    for line in found.to_dict("records"):
        part = str(line["experiment"]).rsplit("/", 1)[-1]
        made.append(Row(
            RATIO if part == "mt" else f"{RATIO}_{part}",
            "resolution (FRC with the truth at 1/7) of CARE trained on generated over "
            f"that trained on simulated images, {part} (95% CI {line['ci_low']:.3f} to "
            f"{line['ci_high']:.3f}; n = {line['n']} x {line['unit_of_n']}); published "
            "0.71 for microtubules, on its own data",
            f"held-out images of {line['dataset_used']} ({line['data_kind']})",
            float(line["ours"]), "", "<= 1", again,
        ))  # fmt: skip
    keep(results, "saguy-pilot")
    return made


def keep(results: Path, name: str) -> None:
    """Copy the tables and figures of a pilot into the project."""
    for kind in ("tables", "figures"):
        shutil.copytree(
            results / kind, ROOT / "benchmarks/results" / name / kind,
            dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.provenance.json"),
        )  # fmt: skip


def _ratio(roots: Sequence[Path], tool: str) -> tuple[float, str]:
    """Return Dice per cell by training data, over all cells of several data sets."""
    cells = {
        arm: pd.concat(
            [
                # Cells of other data sets have the same numbers.
                table.assign(id=root.name + "/" + table["id"], group=root.name)
                for root in roots
                for table in [dice_of_cells(root, tool, arm)]
            ]
        )
        for arm in ("synthetic", "annotated")
    }
    found, unit = dice_ratio(
        Part.load(roots[0]), cells["synthetic"], cells["annotated"]
    )
    means = " and ".join(f"{table['dice'].mean():.3f}" for table in cells.values())
    return found.value, (
        f"{means}; 95% CI {found.low:.3f} to {found.high:.3f}; n = {found.n_groups} "
        f"x {unit}"
    )


def pilot_rows(preset: str = "best") -> list[Row]:
    """Read the pilot's volumes; keep the old rows where it was not run."""
    roots = sorted(
        path.parent.parent
        for path in (PILOT / preset).glob("*/tables/segmentation.csv")
    )
    if not roots or Part.load(roots[0]).config.appearance.data_kind != "stand-in":
        print("eschweiler: no finished pilot; first", AGAIN)
        return [row for row in load() if row.id.startswith("eschweiler.dice")]
    rows = []
    for name, chosen in (("3d", roots), *((root.name, [root]) for root in roots)):
        value, shown = _ratio(chosen, "cellpose")
        rows.append(Row(
            f"eschweiler.dice_synthetic_over_annotated_{name}",
            "Dice per cell of Cellpose in 3D, trained on synthetic over trained on "
            f"annotated volumes ({shown}); published 0.75 on other data",
            "held-out regions of stand-ins: " + ", ".join(r.name for r in chosen),
            value, "", ">= 0.9", AGAIN,
        ))  # fmt: skip
    keep(PILOT, "eschweiler-pilot")
    # Simulated against real objects stand in the results of each organism.
    for root in roots:
        for path in sorted(root.glob("*/populations.*[!n]")):
            kind = ROOT / "benchmarks/results/eschweiler-pilot" / path.parent.name
            shutil.copyfile(path, kind / f"{path.stem}-{root.name}{path.suffix}")
    return rows

"""Papers: time of the smoke scale, and figures of pilots."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml
from tests.ctc_archives import ARCHIVES, examples, write_archives
from tests.server import serve

from benchmarks.laboratory import ROOT, run
from benchmarks.table import Row, load
from phantomscope.tables.paper import Part
from phantomscope.tables.paper_cells import dice_of_cells, dice_ratio

PILOT = ROOT / "results/eschweiler"
AGAIN = (
    "python -m benchmarks.standins FOLDER data/stand-ins; "
    "snakemake --cores 2 eschweiler --config scale=pilot; "
    "python -m benchmarks eschweiler"
)


def smoke_minutes(folder: Path) -> float:
    """Run the whole of Eschweiler and Stegmaier in an empty folder.

    Archives in the layout of their publishers are made first and served from this
    machine; the time is that of the one command, downloads included.
    """
    archives = folder / "archives"
    archives.mkdir(parents=True)
    write_archives(archives, examples())
    options = yaml.safe_load((ROOT / "config/eschweiler/smoke.yaml").read_text())
    with serve(archives, ARCHIVES) as registry:
        options["common"]["source"] = {"registry": str(registry)}
        config = folder / "smoke.yaml"
        config.write_text(yaml.safe_dump(options))
        command = [
            sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile",
            "--profile", "none", "--workflow-profile", "none", "--cores", 2,
            "--configfile", config, "--", "eschweiler",
        ]  # fmt: skip
        begin = time.monotonic()
        run([str(part) for part in command], cwd=folder)
        return (time.monotonic() - begin) / 60


def smoke_row(minutes: float) -> Row:
    """Return the row of that time."""
    return Row(
        "eschweiler.smoke_minutes",
        "five organisms at smoke scale, from the publishers' archives to tables, "
        "figures and reports",
        "loopback server; simulated miniatures", minutes, "min", "<= 10",
        "python -m benchmarks eschweiler",
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
    for name in ("tables", "figures"):
        target = ROOT / "benchmarks/results/eschweiler-pilot" / name
        shutil.copytree(
            PILOT / name, target, dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("*.provenance.json"),
        )  # fmt: skip
    return rows

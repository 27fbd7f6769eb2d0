"""Papers: time of the smoke scale, from a server on this machine to the tables."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import yaml
from tests.ctc_archives import examples, serve, write_archives

from benchmarks.laboratory import ROOT, run
from benchmarks.table import Row


def smoke_minutes(folder: Path) -> float:
    """Run the whole of Eschweiler and Stegmaier in an empty folder.

    Archives in the layout of their publishers are made first and served from this
    machine; the time is that of the one command, downloads included.
    """
    archives = folder / "archives"
    archives.mkdir(parents=True)
    write_archives(archives, examples())
    options = yaml.safe_load((ROOT / "config/eschweiler/smoke.yaml").read_text())
    with serve(archives) as registry:
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

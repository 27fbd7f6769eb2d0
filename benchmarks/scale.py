"""Planning a million images, and what the workflow adds to the work of its stages."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from benchmarks.laboratory import ENVIRONMENT, ROOT
from phantomscope.provenance import SUFFIX

SNAKEMAKE = [
    sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
    "--quiet", "rules", "--nocolor",
]  # fmt: skip
MILLION = ROOT / "config/bulk/million.yaml"


def plan(folder: Path, config: Path = MILLION) -> tuple[float, float, int]:
    """Plan an experiment with Snakemake, without running it.

    Returns
    -------
    seconds, memory, jobs : float, float, int
        Wall time, largest resident memory in MB, and number of jobs.
    """
    command = [*SNAKEMAKE, "--configfile", str(config), "--dry-run", "--cores", "2"]
    log = folder / "plan.log"
    begin = time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=stream, stderr=stream
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    text = log.read_text()
    found = re.search(r"^total +(\d+)$", text, re.M)
    if status or found is None:
        raise RuntimeError(text[-2000:])
    return seconds, usage.ru_maxrss / 1024, int(found[1])


def process_seconds(results: Path) -> float:
    """Sum of the times of all jobs' processes, from Snakemake's benchmark files."""
    total = 0.0
    for path in (results / "benchmarks").rglob("*.tsv"):
        with path.open(newline="") as stream:
            total += float(list(csv.DictReader(stream, delimiter="\t"))[-1]["s"])
    return total


def stage_times(results: Path) -> list[tuple[float, float]]:
    """Begin and end of each stage of a run, in seconds, from its records."""
    found = []
    for path in results.rglob(f"*{SUFFIX}"):
        record = json.loads(path.read_text())
        begin = datetime.fromisoformat(record["started"]).timestamp()
        found.append((begin, begin + record["seconds"]))
    return sorted(found)


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in which at least one stage was at work."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def run_demo(folder: Path, cores: int = 1) -> float:
    """Run the demo in a folder and return its wall time in seconds."""
    command = [*SNAKEMAKE, "--cores", str(cores)]
    begin = time.monotonic()
    with (folder / "demo.log").open("w") as log:
        subprocess.run(
            command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log, check=True
        )
    return time.monotonic() - begin

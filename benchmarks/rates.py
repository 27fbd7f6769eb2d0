"""The rates of `phantomscope plan`, from finished runs.

`python -m benchmarks.rates results/demo results/dsb2018-pilot` writes the packaged
`rates.json`.
"""

from __future__ import annotations

import argparse
import csv
import platform
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.optimize import nnls

from benchmarks.laboratory import ROOT, run, stage
from benchmarks.table import Row
from phantomscope.config.load import load_config
from phantomscope.images.files import write_json
from phantomscope.planning.plan import make_plan
from phantomscope.planning.rates import PACKAGED, Rate, Rates, packaged_rates
from phantomscope.planning.runs import measured, open_run, rates_from_run, stored_bytes
from phantomscope.planning.sources import source_images

# A few minutes, for what longer runs lack: the small network.
SMALL = {
    "experiment": "demo-small",
    "scale": "smoke",
    "simulate": {"images": 16, "shards": 2},
    "fit": {"calibration_rounds": 1},
    "network": {"preset": "small"},
    "train": {"steps": 240, "warmup": 10},
    "start": {"candidates": [100, 300], "max_distance": 1.0, "min_fidelity": 0.1,
              "images": 2},
    "check": {"max_vanished": 1.0, "max_phantoms": 100, "min_agreement": 0.0},
    "segment": {"cellpose": {"steps": 20}, "stardist": {"steps": 40}},
    "evaluate": {"resamples": 50},
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """Jobs of one kind in one run: their work, typical seconds, number and memory."""

    units: float
    seconds: float
    n: int
    max_rss_mb: float | None


def fit(points: Sequence[Point]) -> tuple[float, float]:
    """Fit seconds per unit and fixed seconds, neither negative, to relative errors.

    With work of one size only, nothing is fixed.
    """
    units = np.array([p.units for p in points])
    seconds = np.array([p.seconds for p in points])
    if np.ptp(units) == 0:
        return float(np.mean(seconds / units)), 0.0
    scale = units.max()
    rows = np.stack([units / scale, np.ones(len(units))], 1) / seconds[:, None]
    (slope, fixed), _ = nnls(rows, np.ones(len(units)))
    return float(slope / scale), float(fixed)


def machine() -> str:
    """Name the processor of this machine as far as it matters."""
    try:
        amx = "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        amx = False
    return f"one core of {platform.machine()}{' with AMX' if amx else ''}"


def measure(runs: Sequence[Path], where: str) -> Rates:
    """Derive rates from finished runs of different sizes on this machine.

    Parameters
    ----------
    runs : sequence of Path
        Folders of finished runs.
    where : str
        Name of the machine they ran on.

    Returns
    -------
    Rates
        For each kind of job a line through the median seconds of each run; a single
        run that was disturbed does not move a median.
    """
    points: dict[tuple[str, str], list[Point]] = defaultdict(list)
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    sizes: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for opened in map(open_run, runs):
        for key, jobs in measured(opened).items():
            kind = (opened.device if jobs.gpu else "cpu", key)
            median = float(np.median(jobs.seconds))
            found = Point(jobs.units, median, len(jobs.seconds), jobs.max_rss_mb)
            points[kind].append(found)
            names[kind].append(opened.results.name)
        for disk_key, size in stored_bytes(opened).items():
            sizes[disk_key].append(size)
    devices: dict[str, dict[str, Rate]] = defaultdict(dict)
    for (device, key), group in points.items():
        slope, fixed = fit(group)
        memory = [p.max_rss_mb for p in group if p.max_rss_mb is not None]
        devices[device][key] = Rate(
            float(f"{slope:.4g}"),
            float(f"{fixed:.4g}"),
            f"{where} ({', '.join(names[device, key])})",
            sum(p.n for p in group),
            max(memory, default=None),
        )
    disk = {
        key: float(f"{sum(b for b, _ in found) / sum(u for _, u in found):.4g}")
        for key, found in sizes.items()
    }
    return Rates(devices, disk)


def run_small(folder: Path) -> Path:
    """Run the small experiment in a folder; return its results."""
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL))
    run([sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
         "--cores", "1", "--configfile", str(config)], cwd=folder)  # fmt: skip
    return folder / "results" / str(SMALL["experiment"])


def _copies(shard: Path, folder: Path, count: int) -> list[Path]:
    """Copy a shard under other names, with ids of their own."""
    with (shard / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    copies = []
    for n in range(count):
        copy = folder / f"shard-{n:04d}"
        shutil.copytree(shard, copy)
        with (copy / "manifest.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"id": f"{n:04d}-{row['id']}"} for row in rows)
        copies.append(copy)
    return copies


def gather_rate(shard: Path, where: str, counts: Sequence[int] = (20, 1000)) -> Rate:
    """Time `gather` on many copies of a checked shard.

    Finished runs have too few images to tell what each of them takes.
    """
    points = []
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            parts = _copies(shard, folder, count)
            with (parts[0] / "manifest.csv").open(newline="") as stream:
                images = count * sum(1 for _ in csv.DictReader(stream))
            command = stage("gather", "gathered", folder / "gathered")
            command += ["--parts", *map(str, parts)]
            taken = []
            for _ in range(3):
                begin = time.monotonic()
                run(command)
                taken.append(time.monotonic() - begin)
        points.append(Point(images, min(taken), 1, None))
    slope, fixed = fit(points)
    text = f"{where} ({', '.join(f'{p.units:g}' for p in points)} images)"
    return Rate(float(f"{slope:.4g}"), float(f"{fixed:.4g}"), text, len(points))


def ratios(results: Path, rates: Rates) -> dict[str, float]:
    """Return predicted over measured seconds of each kind of job of a finished run.

    ``total`` is that of all jobs together.
    """
    opened = open_run(results)
    found, predicted, taken = {}, 0.0, 0.0
    for key, jobs in measured(opened).items():
        rate, _ = rates.find(key, jobs.gpu and opened.device == "cuda")
        if rate is not None:
            seconds = len(jobs.seconds) * rate.seconds(jobs.units)
            found[key] = seconds / sum(jobs.seconds)
            predicted += seconds
            taken += sum(jobs.seconds)
    return found | {"total": predicted / taken}


def _off(ratio: float) -> float:
    """Return how far off a ratio is, to either side; 1 is exact."""
    return max(ratio, 1 / ratio)


def planned(minutes: float) -> list[Row]:
    """Compare finished runs with plans from the demo's own rates.

    Parameters
    ----------
    minutes : float
        Wall time of the demo on two cores.
    """
    demo, pilot = ROOT / "results/demo", ROOT / "results/dsb2018-pilot"
    rates = rates_from_run(demo)
    config = load_config(demo / "config.yaml")
    plan = make_plan(
        config, rates.over(packaged_rates()), 2, source_images(config, demo)
    )
    command = "python -m benchmarks plan"
    off = _off(plan.wall_minutes / minutes)
    rows = [
        Row("plan.demo_minutes", "wall time planned from the run's own rates over "
            "measured, or the inverse", "results/demo", off, "", "<= 1.1", command)
    ]  # fmt: skip
    if (pilot / "report.html").exists():
        rows.append(
            Row("plan.dsb2018_core_seconds", "seconds of all jobs planned from the "
                "demo's rates over measured, or the inverse", "results/dsb2018-pilot",
                _off(ratios(pilot, rates)["total"]), "", "<= 1.5", command)
        )  # fmt: skip
    return rows


def main() -> None:
    """Write the packaged rates, and how well they give the runs back."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rates", description=__doc__
    )
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs")
    parser.add_argument(
        "--small", type=Path,
        help="finished run of the small experiment (default: run it, some minutes)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=PACKAGED)
    parser.add_argument("--machine", default=machine(), help="name of the machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = options.small or run_small(Path(folder))
        rates = measure(options.runs, options.machine)
        rates = rates.over(measure([small], options.machine))
        gather = gather_rate(small / "checks/shard-000", options.machine)
    rates = Rates({"cpu": {"gather": gather}}, {}).over(rates)
    write_json(options.output, rates.plain())
    for results in options.runs:
        print(f"== {results}: predicted over measured seconds")
        for key, ratio in sorted(ratios(results, rates).items()):
            print(f"{key}: {ratio:.2f}")


if __name__ == "__main__":
    main()

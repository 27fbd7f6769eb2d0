"""Rates of a finished run: its benchmark files, divided by its work."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phantomscope.config.load import load_config
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.planning.kinds import all_works
from phantomscope.planning.rates import Rate, Rates, packaged_rates
from phantomscope.planning.sharding import VOLUMES, resolved
from phantomscope.planning.sources import source_images
from phantomscope.planning.work import Work

# Where each rule writes, below the folder of the experiment; `{}` is the variant.
FOLDERS = {
    "acquire": ("images",),
    "prepare": ("prepared",),
    "simulate": ("sketches",),
    "photograph": ("photographs",),
    "pseudo_sketches": ("pseudo",),
    "train_diffusion": ("diffusion",),
    "choose_start": ("start",),
    "distil": ("student",),
    "synthesise": ("synthetic",),
    "check": ("checks",),
    "gather": ("checked", "camera"),
    "measure_realism": ("memorisation",),
    "measure_populations": ("populations.json",),
    "train_segmenter": ("models/{}",),
    "predict": ("predictions/{}",),
    "evaluate": ("scores",),
    "make_pairs": ("pairs",),
    "train_restorer": ("restorers",),
    "restore": ("restored",),
    "evaluate_restoration": ("restoration",),
    "acquire_plates": ("fields",),
    "measure_intensities": ("intensities",),
    "scale_fields": ("scaled",),
    "pair_fields": ("pairs",),
    "train_codec": ("codec",),
    "train_translator": ("translators",),
    "translate": ("translated",),
    "evaluate_translation": ("shard_scores",),
    "join_scores": ("translation_scores",),
    "measure_profiles": ("profiles",),
    "compare_profiles": ("profile_scores",),
    "train_detector": ("detectors",),
    "detect": ("detected",),
    "evaluate_detection": ("detection_scores",),
    "study_steps": ("study/steps",),
    "plant_artefacts": ("study/planted",),
    "study_artefacts": ("study/artefacts",),
    "cut_crops": ("crops", "backgrounds"),
    "compose_set": ("composed",),
    "train_filter": ("filters",),
    "acquire_plate": ("plate",),
    "filter_images": ("found", "plate_found"),
    "train_finder": ("finders",),
    "evaluate_filter": ("filter_scores",),
    "tabulate": ("tables",),
    "draw_figures": ("figures",),
    "report": ("report.html",),
}
# The variant stands in the name of the benchmark file; a preset in the config only.
NAMED_BY_TOOL = ("train_segmenter", "predict", "train_finder", "find_objects")
RECORD = "diffusion/model.pt.provenance.json"


@dataclass(frozen=True)
class Measured:
    """What the finished jobs of one kind took.

    Attributes
    ----------
    seconds : tuple of float
        Of each job, times the processes that shared it.
    units : float
        Work of each job, on average.
    max_rss_mb : float or None
        Highest memory of a job in MB.
    gpu : bool
        Whether they asked for a GPU.
    """

    seconds: tuple[float, ...]
    units: float
    max_rss_mb: float | None
    gpu: bool


@dataclass(frozen=True)
class Run:
    """A finished run: its work, and the device of the jobs that asked for a GPU."""

    results: Path
    work: list[Work]
    device: str
    where: str


def open_run(results: Path) -> Run:
    """Read the config of a finished run, and on what it ran.

    Raises
    ------
    PhantomscopeError
        If the folder is no finished run.
    """
    for name in ("config.yaml", "report.html", "benchmarks"):
        if not (results / name).exists():
            raise PhantomscopeError(
                f"this is no folder of a finished run: it has no {name}",
                where=results,
                fix="give a folder such as results/demo, when its report is written",
            )
    config = resolved(load_config(results / "config.yaml"))
    work = all_works(config, source_images(config, results))
    record = results / RECORD
    if record.exists():
        gpu = _machine(record).get("gpu")
        return Run(results, work, "cuda" if gpu else "cpu", str(gpu or "CPU"))
    if "cuda" in (config.train.device, config.synthesise.device):
        return Run(results, work, "cuda", "GPU")
    return Run(results, work, "cpu", "CPU, as there is no record of a GPU")


def _machine(record: Path) -> Mapping[str, object]:
    """Return what a provenance record says about the machine."""
    with explain_os_errors(record):
        text = record.read_bytes()
    try:
        return dict(json.loads(text)["machine"])
    except (ValueError, KeyError, TypeError) as error:
        raise PhantomscopeError(
            f"this provenance record is broken ({type(error).__name__}: {error})",
            where=record,
            fix="run the workflow again, or give the folder of another run",
        ) from error


def _number(row: Mapping[str, str | None], column: str) -> float | None:
    """Read a number; Snakemake writes a dash or NA for what it could not measure."""
    try:
        value = float(row.get(column) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read_benchmark(path: Path) -> tuple[float, float | None]:
    """Return the seconds and the memory in MB of a job."""
    with explain_os_errors(path), path.open(newline="", errors="replace") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    seconds = _number(rows[-1], "s") if rows else None
    if seconds is None:
        raise PhantomscopeError(
            "this benchmark file does not say how long its job took",
            where=path,
            fix="delete it: this job then has no part in the rates",
        )
    return seconds, _number(rows[-1], "max_rss")


def _key_of(name: str, keys: set[str]) -> str:
    """Return the kind of job of a benchmark file; empty if the run has none such."""
    rule, second, *_ = re.split("[/.]", name)
    if rule in NAMED_BY_TOOL:
        named = (f"{rule}/{second}", f"{rule}/{second}{VOLUMES}")
        return next((key for key in named if key in keys), "")
    return next((key for key in keys if key.split("/")[0] == rule), "")


def _benchmarks(results: Path, keys: set[str]) -> dict[str, list[Path]]:
    """Return the benchmark files of each kind of job, the newest first."""
    folder = results / "benchmarks"
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*.tsv")):
        if key := _key_of(path.relative_to(folder).as_posix(), keys):
            found[key].append(path)
    for paths in found.values():
        paths.sort(key=lambda path: -path.stat().st_mtime)
    return found


def measured(run: Run) -> dict[str, Measured]:
    """Read what each kind of job took, by `Work.key`.

    The work of a kind is divided by its benchmark files, not by its planned jobs: the
    same work may have been divided otherwise. Of more files than jobs the newest count,
    since those of an earlier config stay behind.
    """
    by_key: dict[str, list[Work]] = defaultdict(list)
    for one in run.work:
        by_key[one.key].append(one)
    found = {}
    for key, paths in _benchmarks(run.results, set(by_key)).items():
        group = by_key[key]
        rows = [_read_benchmark(p) for p in paths[: sum(w.jobs for w in group)]]
        total = sum(one.jobs * one.units for one in group)
        memory = [rss for _, rss in rows if rss is not None]
        found[key] = Measured(
            tuple(group[0].processes * seconds for seconds, _ in rows),
            total / len(rows),
            max(memory) if memory else None,
            group[0].gpu,
        )
    return found


def stored_bytes(run: Run) -> dict[str, tuple[float, float]]:
    """Return bytes on disk and units of `Work.stored` of a run, by `Work.disk_key`."""
    keys = {one.key for one in run.work}
    found: dict[str, tuple[float, float]] = {}
    for key in _benchmarks(run.results, keys):
        group = [one for one in run.work if one.key == key]
        names = FOLDERS.get(group[0].rule, ())
        tool = group[0].variant.removesuffix(VOLUMES)
        paths = [run.results / name.format(tool) for name in names]
        paths = [path for path in paths if path.exists()]
        units = sum(one.jobs * one.stored for one in group)
        if units and paths:
            size, before = found.get(group[0].disk_key, (0.0, 0.0))
            size += sum(map(_size, paths))
            found[group[0].disk_key] = (size, before + units)
    return found


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, names in os.walk(path)
        for name in names
    )


def rates_from_run(results: Path, known: Rates | None = None) -> Rates:
    """Derive rates from the benchmark files of a finished run.

    Parameters
    ----------
    results : Path
        Folder of the run, such as ``results/demo``.
    known : Rates, optional
        One run cannot tell the fixed part of a job from the rest: their proportion is
        taken from these rates, by default the packaged ones, where they have any; else
        nothing is fixed. Either way the run's own jobs come out as long as they were.

    Raises
    ------
    PhantomscopeError
        If the folder is no finished run, or one of its files is broken.
    """
    known = packaged_rates() if known is None else known
    run = open_run(results)
    devices: dict[str, dict[str, Rate]] = defaultdict(dict)
    for key, jobs in measured(run).items():
        device = run.device if jobs.gpu else "cpu"
        seconds = sum(jobs.seconds) / len(jobs.seconds)
        like = known.devices.get(device, {}).get(key)
        if like is not None and like.seconds(jobs.units) > 0:
            factor = seconds / like.seconds(jobs.units)
            parts = (factor * like.seconds_per_unit, factor * like.seconds_fixed)
        else:
            parts = (seconds / jobs.units, 0.0)
        where = f"{results} ({run.where if jobs.gpu else 'CPU'})"
        count, memory = len(jobs.seconds), jobs.max_rss_mb
        devices[device][key] = Rate(*parts, where, count, memory)
    disk = {key: size / units for key, (size, units) in stored_bytes(run).items()}
    return Rates(devices, disk)

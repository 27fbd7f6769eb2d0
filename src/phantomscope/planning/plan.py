"""`phantomscope plan`: jobs, time, memory and disk of a config before it runs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from phantomscope.config.model import Config
from phantomscope.planning.kinds import all_works, described
from phantomscope.planning.rates import Rates
from phantomscope.planning.sharding import resolved
from phantomscope.planning.sources import Images
from phantomscope.planning.work import Work

COLUMNS = (
    "stage", "jobs", "min/job", "core h", "GPU h", "fetch GB", "disk GB", "peak GB",
    "n", "rate",
)  # fmt: skip
NO_RATE = "no measured rate"
CPU_BOUND = (
    "no measured GPU rate: the CPU rate is used as an upper bound; give --rates of a "
    "finished run on your GPU"
)


@dataclass(frozen=True)
class Stage:
    """Jobs that share a rate.

    Attributes
    ----------
    name : str
        Rule, and preset or tool.
    jobs : int
        How many there are.
    unit : str
        What their work is counted in.
    units : float
        Work of all jobs.
    minutes : float or None
        Of one job, on average; None without a rate.
    core_hours, gpu_hours : float
        Of all jobs.
    download_bytes : float
        That all jobs fetch.
    disk_bytes : float or None
        Of all jobs whose output is there at once; None where nobody measured it.
    peak_bytes : float or None
        Memory of one job, at the size that was measured.
    rate : str
        Where the rate comes from.
    n : int
        Jobs that were measured for it.
    """

    name: str
    jobs: int
    unit: str
    units: float
    minutes: float | None
    core_hours: float
    gpu_hours: float
    download_bytes: float
    disk_bytes: float | None
    peak_bytes: float | None
    rate: str
    n: int


@dataclass(frozen=True)
class Plan:
    """What a config costs.

    Attributes
    ----------
    title : str
        What is planned.
    stages : tuple of Stage
        In the order of the workflow.
    wall_minutes : float
        From the first start to the last end.
    jobs_at_once, gpus : int
        On so many cores (or jobs of a cluster) and GPUs.
    notes : tuple of str
        What the reader has to know.
    """

    title: str
    stages: tuple[Stage, ...]
    wall_minutes: float
    jobs_at_once: int
    gpus: int
    notes: tuple[str, ...]

    @property
    def totals(self) -> dict[str, float]:
        """Jobs, core hours, GPU hours, disk and the highest memory of a job."""
        stages = self.stages
        return {
            "jobs": sum(s.jobs for s in stages),
            "core_hours": sum(s.core_hours for s in stages),
            "gpu_hours": sum(s.gpu_hours for s in stages),
            "download_bytes": sum(s.download_bytes for s in stages),
            "disk_bytes": sum(s.disk_bytes or 0.0 for s in stages),
            "peak_bytes": max((s.peak_bytes or 0.0 for s in stages), default=0.0),
        }

    def plain(self) -> dict[str, Any]:
        """Return the plan as plain values, for JSON."""
        return asdict(self) | {"totals": self.totals}


def wall_seconds(
    work: Sequence[Work], seconds: Sequence[float], jobs_at_once: int, gpus: int = 0
) -> float:
    """Return how long work takes when jobs start as soon as they can.

    Parameters
    ----------
    work : sequence of Work
        What a job waits for stands before it; the jobs of one `Work` wait for all
        jobs of those before.
    seconds : sequence of float
        Of one job of each.
    jobs_at_once : int
        Jobs that run side by side.
    gpus : int
        GPUs; 0: no job needs one.
    """
    order = sorted(range(len(work)), key=lambda n: not work[n].first)
    to_start = [one.jobs for one in work]
    to_end = {one.name: one.jobs for one in work}
    running: list[tuple[float, int]] = []
    now, on_gpu = 0.0, 0
    while True:
        for n in order:
            if any(to_end[name] for name in work[n].after):
                continue
            needs = _gpus_of(work[n], gpus)
            while (
                to_start[n] and len(running) < jobs_at_once and on_gpu + needs <= gpus
            ):
                heapq.heappush(running, (now + seconds[n], n))
                to_start[n] -= 1
                on_gpu += needs
        if not running:
            return now
        now, n = heapq.heappop(running)
        to_end[work[n].name] -= 1
        on_gpu -= _gpus_of(work[n], gpus)


def _gpus_of(one: Work, gpus: int) -> int:
    """GPUs that a job takes of those that there are."""
    return min(one.processes, gpus) if one.gpu else 0


def _stage(group: Sequence[Work], rates: Rates, gpus: int) -> Stage:
    first, jobs = group[0], sum(one.jobs for one in group)
    units = sum(one.jobs * one.units for one in group)
    stored = sum(
        (one.jobs if one.kept is None else min(one.kept, one.jobs)) * one.stored
        for one in group
    )
    rate, device = rates.find(first.key, bool(gpus and first.gpu))
    # Rates are of one process.
    seconds = rate.seconds(units / jobs) / first.processes if rate else 0.0
    on_gpu = _gpus_of(first, gpus)
    source = rate.measured_on if rate else NO_RATE
    if rate and on_gpu and device == "cpu":
        source += " (CPU rate as an upper bound)"
    per_unit = rates.disk.get(first.disk_key)
    memory = rate.max_rss_mb if rate else None
    return Stage(
        first.key, jobs, first.unit, units,
        seconds / 60 if rate else None,
        jobs * first.threads * seconds / 3600,
        jobs * on_gpu * seconds / 3600,
        sum(one.jobs * one.download for one in group),
        None if per_unit is None else stored * per_unit,
        None if memory is None else memory * 2**20,
        source,
        rate.n if rate else 0,
    )  # fmt: skip


def make_plan(
    config: Config, rates: Rates, jobs_at_once: int, images: Images, gpus: int = 0
) -> Plan:
    """Estimate what a config costs.

    Parameters
    ----------
    config : Config
        The config; `simulate.shards` may be ``auto``.
    rates : Rates
        Of the package or of a finished run.
    jobs_at_once : int
        Jobs that run side by side: cores of a machine with one thread per job, or the
        jobs that a cluster grants.
    images : Images
        The source images.
    gpus : int
        GPUs that are used at once; 0: jobs that could use one run on the CPU.
    """
    config = resolved(config)
    work = all_works(config, images)
    by_key: dict[str, list[Work]] = {}
    for one in work:
        by_key.setdefault(one.key, []).append(one)
    stages = {key: _stage(group, rates, gpus) for key, group in by_key.items()}
    seconds = [60 * (stages[one.key].minutes or 0.0) for one in work]
    title = (
        f"{config.name}: {described(config)}, from {images.count:,} source images "
        f"({images.pixels / 1e6:,.3g} Mpx)"
    )
    return Plan(
        title, tuple(stages.values()),
        wall_seconds(work, seconds, jobs_at_once, gpus) / 60,
        jobs_at_once, gpus, tuple(_notes(work, stages, rates, gpus)),
    )  # fmt: skip


def _notes(
    work: Sequence[Work], stages: Mapping[str, Stage], rates: Rates, gpus: int
) -> list[str]:
    asking = [one for one in work if one.gpu]
    notes = []
    if gpus and any(rates.find(one.key, True)[1] == "cpu" for one in asking):
        notes.append(CPU_BOUND)
    if asking and not gpus:
        notes.append(
            "jobs that can use a GPU are planned on the CPU; with GPUs give --gpus N"
        )
    without = [name for name, stage in stages.items() if stage.minutes is None]
    if without:
        notes.append(f"{NO_RATE}, left out of all sums: {', '.join(without)}")
    unknown = [name for name, stage in stages.items() if stage.disk_bytes is None]
    if unknown:
        notes.append(f"no measured size, left out of disk: {', '.join(unknown)}")
    if max(one.processes for one in work) > 1:
        notes.append("the processes of a training are planned to share it evenly")
    if max(one.threads // one.processes for one in work) > 1:
        notes.append(
            "rates hold for the threads they were measured with (packaged: 1); with "
            "more threads a job takes less time than this"
        )
    return notes


def _gigabytes(value: float | None) -> str:
    return "?" if value is None else f"{value / 1e9:,.3f}"


def render(plan: Plan) -> str:
    """Return the plan as an aligned table with its sources."""
    sources = list(dict.fromkeys(stage.rate for stage in plan.stages))
    rows = [COLUMNS]
    for stage in plan.stages:
        minutes = "?" if stage.minutes is None else f"{stage.minutes:,.2f}"
        source = f"[{sources.index(stage.rate) + 1}]"
        rows.append(
            (stage.name, f"{stage.jobs:,}", minutes, f"{stage.core_hours:,.3f}",
             f"{stage.gpu_hours:,.3f}", _gigabytes(stage.download_bytes),
             _gigabytes(stage.disk_bytes), _gigabytes(stage.peak_bytes),
             str(stage.n), source)
        )  # fmt: skip
    totals = plan.totals
    rows.append(
        ("total", f"{totals['jobs']:,.0f}", "", f"{totals['core_hours']:,.3f}",
         f"{totals['gpu_hours']:,.3f}", _gigabytes(totals["download_bytes"]),
         _gigabytes(totals["disk_bytes"]), _gigabytes(totals["peak_bytes"]), "", "")
    )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # The first column is text, the others are numbers.
    form = "  ".join([f"{{:<{widths[0]}}}", *(f"{{:>{w}}}" for w in widths[1:])])
    with_gpus = f" and {plan.gpus} GPU(s)" if plan.gpus else ""
    return "\n".join(
        [
            plan.title,
            "",
            *(form.format(*row).rstrip() for row in rows),
            "",
            f"wall time with {plan.jobs_at_once:,} job(s) at once{with_gpus}: "
            f"{_duration(plan.wall_minutes)}",
            "",
            "An estimate: rates were measured on other data and machines, and peak "
            "memory is that of the n measured jobs.",
            *(f"- {note}" for note in plan.notes),
            *(f"[{n}] {source}" for n, source in enumerate(sources, 1)),
        ]
    )


def _duration(minutes: float) -> str:
    for limit, size, unit in ((120, 1, "minutes"), (48 * 60, 60, "hours")):
        if minutes < limit:
            return f"{minutes / size:.1f} {unit}"
    return f"{minutes / 1440:,.1f} days"


def summary(plans: Sequence[Plan]) -> str:
    """Return one line for each of several plans, and their sum.

    They share no job, so all but the wall time add up.
    """
    lines = [
        f"{'experiment':<40}{'jobs':>8}{'core h':>12}{'GPU h':>12}{'fetch GB':>10}"
        f"{'disk GB':>10}"
    ]
    names = ("jobs", "core_hours", "gpu_hours", "download_bytes", "disk_bytes")
    total = dict.fromkeys(names, 0.0)
    for plan in plans:
        found = plan.totals
        total = {name: total[name] + found[name] for name in names}
        lines.append(_summed(plan.title.partition(":")[0], found))
    return "\n".join([*lines, _summed("total", total)])


def _summed(name: str, found: Mapping[str, float]) -> str:
    return (
        f"{name:<40}{found['jobs']:>8,.0f}{found['core_hours']:>12,.1f}"
        f"{found['gpu_hours']:>12,.1f}{found['download_bytes'] / 1e9:>10,.1f}"
        f"{found['disk_bytes'] / 1e9:>10,.1f}"
    )

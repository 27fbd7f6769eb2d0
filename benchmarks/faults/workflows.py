"""Snakemake and its jobs: killed, interrupted, doubled, with clocks that jump."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]
import yaml

from benchmarks.faults.commands import LONGEST, BrokenError, MissedError, claim
from benchmarks.faults.model import Fault, Injection
from benchmarks.faults.world import World, difference
from benchmarks.laboratory import ENVIRONMENT, ROOT
from phantomscope.verify import verify

RESULTS = Path("results/tiny")
OPTIONS = {
    "experiment": "tiny",
    "simulate": {"images": 4, "size": [96, 112], "shards": 1},
    "fit": {"calibration_rounds": 1},
    "network": {"preset": "small"},
    "train": {"steps": 20, "batch_size": 2, "patch": 32, "warmup": 5},
    "start": {"candidates": [100, 300], "max_distance": 1.0, "min_fidelity": 0.1,
              "images": 1},
    "synthesise": {"steps": 4, "tile": 64, "overlap": 8},
    "check": {"max_vanished": 1.0, "max_phantoms": 100, "min_agreement": 0.0},
}  # fmt: skip
TARGETS = (f"{RESULTS}/checked", f"{RESULTS}/camera")
# All that comes before the synthesis, of which every fault begins with a copy.
PREFIX = (f"{RESULTS}/start.json", f"{RESULTS}/camera")
# What the jobs after it need.
NEEDED = ("prepared", "normalisation.json", "sketch.yaml", "start.json",
          "diffusion/model.pt", "sketches/shard-000")  # fmt: skip
# Moments of a run: a shard is half synthesised, and half checked.
MOMENTS = (
    "synthetic/.shard-000.partial/journal.jsonl",
    "checks/.shard-000.lock",
)
DAY = 86400


class Snakemake:
    """A Snakemake with its jobs in a process group of their own.

    Leaving the block kills what is left of the group.

    Parameters
    ----------
    folder : Path
        Where it runs.
    targets : sequence of str
        What it shall make.
    options : str
        Further options.
    """

    def __init__(
        self, folder: Path, *options: str, targets: Sequence[str] = TARGETS
    ) -> None:
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile",
                   "--profile", "none", "--workflow-profile", "none", "--nocolor",
                   "--cores", "2", "--rerun-incomplete", "--configfile", "tiny.yaml",
                   *options, "--", *targets]  # fmt: skip
        self.folder = folder
        self.log = folder / f"snakemake-{time.monotonic_ns()}.log"
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                list(map(str, command)), cwd=folder, env=ENVIRONMENT, stdout=stream,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.group = self.process.pid

    def __enter__(self) -> Self:
        return self

    @property
    def text(self) -> str:
        """What it and its jobs have printed."""
        return self.log.read_text(errors="replace")

    def jobs(self) -> list[int]:
        """Processes of its group that live, without itself."""
        found = []
        for process in psutil.process_iter(["status"]):
            try:
                group = os.getpgid(process.pid)
            except (ProcessLookupError, PermissionError):
                continue
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if group == self.group and process.pid != self.group and alive:
                found.append(process.pid)
        return found

    def watch(self, condition: Callable[[], object]) -> None:
        """Wait until something has come about; `MissedError` if it ends before."""
        end = time.monotonic() + LONGEST
        while not condition():
            if self.process.poll() is not None:
                raise MissedError(self.text)
            claim(time.monotonic() < end, f"it hangs\n{self.text}")
            time.sleep(0.005)

    def watch_results(self, pattern: str) -> None:
        """Wait until a file is there in the results."""
        self.watch(lambda: next((self.folder / RESULTS).glob(pattern), None))

    def wait(self) -> int:
        """Wait for its end; return the exit status."""
        try:
            return self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            raise BrokenError(f"it hangs\n{self.text}") from None

    def wait_for_jobs(self) -> None:
        """Wait until no process of its group is left."""
        end = time.monotonic() + LONGEST
        while self.jobs():
            claim(time.monotonic() < end, f"jobs hang\n{self.text}")
            time.sleep(0.05)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None or self.jobs():
            os.killpg(self.group, signal.SIGKILL)
        self.process.wait()


def run(folder: Path, *options: str, targets: Sequence[str] = TARGETS) -> str:
    """Run Snakemake to its end, which must be a good one; return what it printed."""
    with Snakemake(folder, *options, targets=targets) as snakemake:
        status = snakemake.wait()
        claim(status == 0, f"exit status {status}\n{snakemake.text}")
        return snakemake.text


def reference(world: World) -> tuple[Path, Path]:
    """Return folders of a run before its synthesis, and of the finished run."""

    def build(_: object) -> tuple[Path, Path]:
        finished, before = world.folder / "finished", world.folder / "before"
        finished.mkdir()
        (finished / "tiny.yaml").write_text(yaml.safe_dump(OPTIONS))
        run(finished, targets=PREFIX)
        shutil.copytree(finished, before)
        run(finished)
        report = verify(finished / RESULTS)
        claim(report.ok and not report.unaccounted, report.render())
        return before, finished

    return world.once("workflow", build)


def compared(world: World, folder: Path) -> str:
    """Tell what differs from the undisturbed run, or from its own records."""
    _, finished = reference(world)
    if found := difference(finished, folder, str(RESULTS)):
        return found
    report = verify(folder / RESULTS)
    return "" if report.ok and not report.unaccounted else report.render()


def _begun(world: World, folder: Path) -> None:
    """Copy what comes before the synthesis into a folder."""
    before, _ = reference(world)
    shutil.copytree(before, folder, dirs_exist_ok=True)


def _killed(folder: Path, n: int) -> None:
    """Run until a moment, and kill Snakemake and its jobs."""
    with Snakemake(folder) as snakemake:
        snakemake.watch_results(MOMENTS[n % 2])
        os.killpg(snakemake.group, signal.SIGKILL)
        claim(snakemake.wait() == -signal.SIGKILL, snakemake.text)
    if (folder / RESULTS / "checked").exists():
        raise MissedError


def _kill_all(world: World, folder: Path, n: int) -> Injection:
    _begun(world, folder)
    _killed(folder, n)
    stale = list((folder / ".snakemake/locks").glob("*"))
    claim(stale, "no lock is left: it was not killed in the middle")
    run(folder)
    return Injection(compared(world, folder), "stale locks are removed")


def _kill_alone(world: World, folder: Path, n: int) -> Injection:
    """Its jobs go on, and write the same files as the jobs of the next run."""
    _begun(world, folder)
    with Snakemake(folder) as snakemake:
        snakemake.watch_results(MOMENTS[0])
        # They pause, so that the next run is sure to meet them.
        os.killpg(snakemake.group, signal.SIGSTOP)
        os.kill(snakemake.group, signal.SIGKILL)
        claim(snakemake.wait() == -signal.SIGKILL, snakemake.text)
        if not snakemake.jobs() or (folder / RESULTS / "synthetic/shard-000").exists():
            raise MissedError
        with Snakemake(folder) as again:
            again.watch(lambda: "; waiting" in again.text)
            os.killpg(snakemake.group, signal.SIGCONT)
            claim(again.wait() == 0, again.text)
        snakemake.wait_for_jobs()
    return Injection(compared(world, folder), "the new job waited for the old one")


def _interrupt(world: World, folder: Path, n: int) -> Injection:
    """Ctrl-C in a terminal reaches Snakemake and its jobs."""
    _begun(world, folder)
    with Snakemake(folder) as snakemake:
        snakemake.watch_results(MOMENTS[n % 2])
        os.killpg(snakemake.group, signal.SIGINT)
        if snakemake.wait() == 0:
            raise MissedError
        snakemake.wait_for_jobs()
    claim("Traceback" not in snakemake.text, snakemake.text)
    run(folder)
    return Injection(compared(world, folder))


def _terminate(world: World, folder: Path, n: int) -> Injection:
    _begun(world, folder)
    with Snakemake(folder) as snakemake:
        snakemake.watch_results(MOMENTS[n % 2])
        os.kill(snakemake.group, signal.SIGTERM)
        if snakemake.wait() == 0:
            raise MissedError
        claim(not snakemake.jobs(), "jobs go on after its end")
    run(folder)
    return Injection(compared(world, folder))


def _kill_job(world: World, folder: Path, n: int) -> Injection:
    """A job is killed, as by the system when memory is short."""
    _begun(world, folder)
    with Snakemake(folder) as snakemake:
        snakemake.watch_results(MOMENTS[n % 2])
        # The last process of a job is its script; the others wait for it.
        jobs = snakemake.jobs()
        if not jobs:
            raise MissedError
        os.kill(max(jobs), signal.SIGKILL)
        if snakemake.wait() == 0:
            raise MissedError
    run(folder)
    return Injection(compared(world, folder))


def _two_at_once(world: World, folder: Path, n: int) -> Injection:
    _begun(world, folder)
    with Snakemake(folder) as first:
        first.watch_results(MOMENTS[0])
        # It pauses, so that the second one is sure to meet it, however slow it starts.
        os.killpg(first.group, signal.SIGSTOP)
        if (folder / RESULTS / "checked").exists():
            raise MissedError
        with Snakemake(folder) as second:
            status = second.wait()
            claim(status != 0, f"both run at once\n{second.text}")
        os.killpg(first.group, signal.SIGCONT)
        claim(first.wait() == 0, first.text)
    claim("Directory cannot be locked" in second.text, second.text)
    claim("Nothing to be done" in run(folder), "there was something left to do")
    return Injection(compared(world, folder), "the second one says that it is locked")


def _shift(path: Path, seconds: float) -> None:
    """Move the modification times of a file, or of a folder and all in it."""
    for one in [path, *path.rglob("*")]:
        stat = one.stat()
        os.utime(one, (stat.st_atime, stat.st_mtime + seconds))


def _clock_jumps(seconds: float, world: World, folder: Path, n: int) -> Injection:
    """The clock was wrong while half of the finished outputs were written."""
    _begun(world, folder)
    _killed(folder, n)
    chosen = random.Random(n).sample(NEEDED, len(NEEDED) // 2)
    for name in chosen:
        _shift(folder / RESULTS / name, seconds)
    text = run(folder)
    jobs = len(re.findall(r"^Job \d+:", text, re.M))
    return Injection(compared(world, folder), f"{', '.join(chosen)} moved; {jobs} jobs")


def _delete_needed(world: World, folder: Path, n: int) -> Injection:
    """Outputs that the rest of the run needs are deleted by hand."""
    _begun(world, folder)
    _killed(folder, n)
    chosen = random.Random(n).sample(NEEDED, 2)
    for name in chosen:
        path = folder / RESULTS / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(folder)
    return Injection(compared(world, folder), f"{' and '.join(chosen)} made again")


def _delete_pixels(world: World, folder: Path, n: int) -> Injection:
    """An image of a finished run is deleted: `verify` tells how to mend that."""
    _, finished = reference(world)
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    images = sorted((folder / RESULTS / "synthetic").rglob("*.tif"))
    random.Random(n).choice(images).unlink()
    with chdir(folder):
        (problem,) = verify(RESULTS).problems
    mend = re.search(r"`snakemake ([^`]+)`", problem.fix)
    if mend is None:
        raise BrokenError(f"no mend\n{problem}")
    run(folder, *mend[1].split())
    return Injection(compared(world, folder), f"`verify` says: snakemake {mend[1]}")


FAULTS = [
    Fault("snakemake-killed", "workflows", _kill_alone),
    Fault("snakemake-and-jobs-killed", "workflows", _kill_all),
    Fault("snakemake-interrupted", "workflows", _interrupt),
    Fault("snakemake-terminated", "workflows", _terminate),
    Fault("job-killed", "workflows", _kill_job),
    Fault("two-snakemakes", "workflows", _two_at_once),
    Fault("clock-in-the-future", "workflows", partial(_clock_jumps, DAY)),
    Fault("clock-in-the-past", "workflows", partial(_clock_jumps, -DAY)),
    Fault("needed-outputs-deleted", "workflows", _delete_needed),
    Fault("image-of-a-finished-run-deleted", "workflows", _delete_pixels),
]

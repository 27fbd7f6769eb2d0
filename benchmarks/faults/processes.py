"""Processes that are killed, stopped, paused, or meet another one at their output."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.faults.commands import (
    MissedError,
    Running,
    claim,
    finish,
    operations,
)
from benchmarks.faults.model import Fault, Injection
from benchmarks.faults.world import IMAGES, SAVED_EVERY, STEPS, World, difference
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.interrupt import EXIT_STATUS, TIME_LIMIT

KILLED = -signal.SIGKILL
# So rarely that a process that is killed loses everything.
SELDOM = 10 * STEPS


def state_of(folder: Path) -> Path:
    """Return the training state of a folder."""
    return folder / "model.pt.state/state.pt"


def saved_step(folder: Path) -> int:
    """Return the step of the training state; 0 without one."""
    state = state_of(folder)
    return int(load_checkpoint(state)[1]["step"]) if state.exists() else 0


def begun(folder: Path) -> Callable[[], bool]:
    """Tell whether training has taken up its state and goes on."""
    return (folder / "model.pt.state/metrics.jsonl").exists


def kept_images(folder: Path, name: str) -> list[Path]:
    """List the images that a writer that was stopped has finished."""
    journal = folder / f".{name}.partial/journal.jsonl"
    count = journal.read_bytes().count(b"\n") if journal.exists() else 0
    return sorted((folder / f".{name}.partial/images").glob("[!.]*"))[:count]


def _kill_training(world: World, folder: Path, n: int) -> Injection:
    moment = random.Random(n).uniform(0, world.training_seconds)
    command = world.training(folder)
    with Running(command, folder / "log") as process:
        process.watch(begun(folder))
        time.sleep(moment)
        process.send(signal.SIGKILL)
        if process.wait() != KILLED:
            raise MissedError
    step = saved_step(folder)
    finish(command, folder / "log")
    found = difference(world.reference, folder, "model.pt")
    return Injection(found, f"went on from step {step} of {STEPS}")


def _kill_while_saving(world: World, folder: Path, n: int) -> Injection:
    saves = random.Random(n).randrange(STEPS // SAVED_EVERY)

    def torn() -> list[Path]:
        return list(state_of(folder).parent.glob(".state.pt.*.partial"))

    def being_written() -> bool:
        try:
            return any(path.stat().st_size for path in torn())
        except FileNotFoundError:
            return False  # it has its final name now

    command = world.training(folder)
    with Running(command, folder / "log") as process:
        process.watch(lambda: saved_step(folder) >= saves * SAVED_EVERY)
        process.watch(being_written)
        process.send(signal.SIGKILL)
        if process.wait() != KILLED or not torn():
            raise MissedError
    step, size = saved_step(folder), torn()[0].stat().st_size
    finish(command, folder / "log")
    claim(not torn(), "the torn state is still there")
    found = difference(world.reference, folder, "model.pt")
    return Injection(found, f"{size / 1e6:.1f} MB written; went on from step {step}")


def _terminate_training(world: World, folder: Path, n: int) -> Injection:
    """A process that is asked to stop loses no step; a killed one loses them all."""
    moment = random.Random(n).uniform(0.1, 0.8) * world.training_seconds
    command = world.training(
        folder, world.configured("seldom", checkpoint_every=SELDOM)
    )

    def stopped(number: int) -> tuple[int, str]:
        with Running(command, folder / "log") as process:
            process.watch(begun(folder))
            time.sleep(moment)
            process.send(number)
            return process.wait(), process.text

    if stopped(signal.SIGKILL)[0] != KILLED:
        raise MissedError
    claim(saved_step(folder) == 0, "a state although it was killed")
    # So that it is seen when the next one begins.
    shutil.rmtree(state_of(folder).parent)
    status, text = stopped(signal.SIGTERM)
    if status != EXIT_STATUS:
        raise MissedError  # before it listened, or after its last step
    step = saved_step(folder)
    claim(0 < step < STEPS, f"stopped at step {step}")
    claim("run the same command again" in text, text)
    finish(command, folder / "log")
    found = difference(world.reference, folder, "model.pt")
    return Injection(found, f"0 steps repeated, {step} after SIGKILL at that moment")


def _slices(world: World, folder: Path, n: int) -> Injection:
    share = random.Random(n).uniform(0.15, 0.35)
    # Taking up the state, too, takes part of each slice.
    limit = {TIME_LIMIT: str((share * world.training_seconds + 0.1) / 60)}
    command = world.training(folder)
    steps = [0]
    while True:
        with Running(command, folder / "log", environment=limit) as process:
            status = process.wait()
        if status == 0:
            break
        claim(status == EXIT_STATUS, f"exit status {status}\n{process.text}")
        steps.append(saved_step(folder))
        claim(steps[-1] > steps[-2], f"a slice that did nothing: steps {steps}")
    if len(steps) < 3:
        raise MissedError
    found = difference(world.reference, folder, "model.pt")
    return Injection(found, f"slices ended at steps {steps[1:]} and {STEPS}")


def _pause_training(world: World, folder: Path, n: int) -> Injection:
    moment = random.Random(n).uniform(0.1, 0.8) * world.training_seconds
    with Running(world.training(folder), folder / "log") as process:
        process.watch(begun(folder))
        time.sleep(moment)
        process.send(signal.SIGSTOP)
        time.sleep(0.1)
        before = saved_step(folder)
        time.sleep(0.3)
        if not process.process.is_alive():
            raise MissedError
        claim(saved_step(folder) == before, "it went on while it was stopped")
        process.send(signal.SIGCONT)
        claim(process.wait() == 0, process.text)
    return Injection(difference(world.reference, folder, "model.pt"))


def _stop_synthesis(number: int, world: World, folder: Path, n: int) -> Injection:
    """Images that were finished stay as they are; only the others are made."""
    images = random.Random(n).randrange(1, IMAGES)
    shutil.copytree(world.reference / "sketches", folder / "sketches")
    command = world.synthesis(folder)
    with Running(command, folder / "log") as process:
        process.watch(lambda: len(kept_images(folder, "synthetic")) >= images)
        process.send(number)
        status = process.wait()
    if status not in (KILLED, EXIT_STATUS):
        raise MissedError
    kept = {p.name: p.stat().st_mtime_ns for p in kept_images(folder, "synthetic")}
    claim(kept, "no finished image is left")
    finish(command, folder / "log")
    for name, written in kept.items():
        path = folder / "synthetic/images" / name
        claim(path.stat().st_mtime_ns == written, f"{name} was made again")
    found = difference(world.reference, folder, "synthetic")
    return Injection(found, f"{len(kept)} of {IMAGES} images kept")


def _kill_at_operation(
    stage: str, made: str, world: World, folder: Path, n: int
) -> Injection:
    """Kill a short stage just before one of its file operations."""
    total = operations(world.reference / f"{stage}.log")
    chosen = random.Random(n).randrange(total)
    for name in ("sketches", "synthetic", "checks"):
        if name == made:
            break
        shutil.copytree(world.reference / name, folder / name)
    command = getattr(world, stage)(folder)
    with Running(command, folder / f"{stage}.log", crash_at=chosen) as process:
        claim(process.wait() == KILLED, process.text)
    there = (folder / made).exists()
    if there:
        again = difference(world.reference, folder, made)
        claim(not again, f"a final name for an unfinished result: {again}")
    finish(command, folder / f"{stage}.log")
    found = difference(world.reference, folder, made)
    return Injection(found, f"before file operation {chosen + 1} of {total}")


def _two_writers(world: World, folder: Path, n: int) -> Injection:
    shutil.copytree(world.reference / "sketches", folder / "sketches")
    command = world.synthesis(folder)
    with Running(command, folder / "first.log") as first:
        first.watch((folder / ".synthetic.lock").exists)
        with Running(command, folder / "second.log") as second:
            for process in (first, second):
                claim(process.wait() == 0, process.text)
    if "waiting" not in second.text:
        raise MissedError
    claim(f"process {first.pid} on" in second.text, second.text)
    return Injection(difference(world.reference, folder, "synthetic"))


FAULTS = [
    Fault("training-killed", "processes", _kill_training),
    Fault("training-killed-while-saving", "processes", _kill_while_saving),
    Fault("training-killed-at-a-file", "processes",
          partial(_kill_at_operation, "training", "model.pt")),
    Fault("training-terminated", "processes", _terminate_training),
    Fault("training-in-time-slices", "processes", _slices),
    Fault("training-paused", "processes", _pause_training),
    Fault("synthesis-killed", "processes", partial(_stop_synthesis, signal.SIGKILL)),
    Fault("synthesis-terminated", "processes",
          partial(_stop_synthesis, signal.SIGTERM)),
    Fault("simulate-killed", "processes",
          partial(_kill_at_operation, "simulation", "sketches")),
    Fault("synthesis-killed-at-a-file", "processes",
          partial(_kill_at_operation, "synthesis", "synthetic")),
    Fault("check-killed", "processes",
          partial(_kill_at_operation, "checking", "checks")),
    Fault("gather-killed", "processes",
          partial(_kill_at_operation, "gathering", "gathered")),
    Fault("two-processes-write-one-shard", "processes", _two_writers),
]  # fmt: skip

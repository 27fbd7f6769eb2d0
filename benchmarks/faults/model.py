"""What a fault is, how it is injected, and how its outcome is judged."""

from __future__ import annotations

import shutil
import textwrap
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bad_inputs.model import NotPermittedError
from benchmarks.faults.commands import BrokenError, MissedError
from benchmarks.faults.world import World
from benchmarks.table import Row

# A moment may be missed: the process was quicker. Then the fault is injected again.
ATTEMPTS = 8


@dataclass(frozen=True)
class Injection:
    """What became of one injection after which the same command finished.

    Attributes
    ----------
    difference : str
        From an undisturbed run; empty if there is none.
    note : str
        What was seen, such as how much was kept.
    """

    difference: str
    note: str = ""


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes
    ----------
    name, kind : str
        Fixed names; a kind is one module.
    inject : callable
        ``inject(world, folder, n)`` disturbs a run in an empty folder, runs the same
        command again, and returns an `Injection`; `n` sets the moment. It raises
        `MissedError`, `BrokenError` or `NotPermittedError`.
    """

    name: str
    kind: str
    inject: Callable[[World, Path, int], Injection]


@dataclass
class Outcome:
    """What became of all injections of one fault.

    Attributes
    ----------
    fault : Fault
        Which fault.
    times : int
        How often it hit.
    recovered, equal : int
        How often the same command finished then, and how often all final artefacts
        were equal to those of an undisturbed run.
    seconds : float
        Mean of an injection, with the run after it.
    note : str
        What was wrong, or what was seen.
    skipped : str
        Why it cannot be injected on this machine.
    """

    fault: Fault
    times: int = 0
    recovered: int = 0
    equal: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Whether it hit, and every time nothing was lost."""
        return bool(self.skipped) or 0 < self.times == self.recovered == self.equal

    @property
    def note(self) -> str:
        """What was wrong or seen, each once."""
        return self.skipped or "; ".join(dict.fromkeys(filter(None, self.notes)))


def _attempt(outcome: Outcome, world: World, folder: Path, n: int) -> bool:
    """Inject once; return whether it hit."""
    folder.mkdir(parents=True)
    begin = time.monotonic()
    try:
        found = outcome.fault.inject(world, folder, n)
    except MissedError:
        return False
    except NotPermittedError:
        raise
    except BrokenError as broken:
        outcome.notes.append(f"BROKEN: {broken}")
    except Exception:  # whatever it was: it did not recover
        outcome.notes.append(f"BROKEN: {traceback.format_exc()}")
    else:
        outcome.recovered += 1
        outcome.equal += not found.difference
        note = f"DIFFERS: {found.difference}" if found.difference else found.note
        outcome.notes.append(note)
        shutil.rmtree(folder)
    outcome.times += 1
    outcome.seconds += time.monotonic() - begin
    return True


def inject(fault: Fault, world: World, folder: Path, times: int = 1) -> Outcome:
    """Inject a fault several times, each at another moment.

    Parameters
    ----------
    fault : Fault
        What to inject.
    world : World
        What to disturb, and what would come out undisturbed.
    folder : Path
        Scratch folder; what was broken stays in it.
    times : int
        How often it shall hit.

    Returns
    -------
    Outcome
        Without a hit after eight attempts `times` is lower than asked for.
    """
    outcome = Outcome(fault)
    try:
        for n in range(times):
            for attempt in range(ATTEMPTS):
                place = folder / f"{fault.name}-{n}-{attempt}"
                if _attempt(outcome, world, place, n + times * attempt):
                    break
            else:
                outcome.notes.append(f"did not hit in {ATTEMPTS} attempts")
    except NotPermittedError as reason:
        outcome.skipped = str(reason)
    outcome.seconds /= max(outcome.times, 1)
    return outcome


def table(outcomes: Iterable[Outcome]) -> str:
    """Return a table in Markdown, one row per fault."""
    lines = [
        "| fault | kind | injected | recovered | artefacts equal | s each | note |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for o in outcomes:
        note = textwrap.shorten(o.note.replace("|", "/"), 200)
        numbers = f"{o.times} | {o.recovered} | {o.equal} | {o.seconds:.1f}"
        if o.skipped:
            numbers, note = "skipped | | | ", f"skipped: {note}"
        lines.append(f"| {o.fault.name} | {o.fault.kind} | {numbers} | {note} |")
    return "\n".join(lines) + "\n"


def rows(outcomes: Sequence[Outcome], command: str) -> list[Row]:
    """Return the benchmark rows: the share recovered, and that with equal artefacts."""
    hit = [outcome for outcome in outcomes if outcome.times]
    total = sum(outcome.times for outcome in hit)
    if not total:
        raise ValueError("no fault was injected")
    what = f"{total} injections of {len(hit)} faults after which the same command"
    against = "every stage and the workflow, small model"
    return [
        Row("faults.recovered", f"share of {what} finished", against,
            sum(o.recovered for o in hit) / total, "", "= 1", command),
        Row("faults.artefacts_equal",
            f"share of {what} gave the artefacts of an undisturbed run", against,
            sum(o.equal for o in hit) / total, "", "= 1", command),
    ]  # fmt: skip

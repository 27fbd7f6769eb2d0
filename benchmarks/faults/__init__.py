"""Faults: whatever breaks, the same command again gives what an undisturbed run gives.

Each fault disturbs a run, proves that it hit, runs the same command again, and compares
the final artefacts with those of an undisturbed run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.faults import inputs, network, processes, storage, workflows
from benchmarks.faults.model import Fault, Outcome, inject, rows, table
from benchmarks.faults.world import World
from benchmarks.laboratory import Laboratory

FAULTS = [
    *processes.FAULTS,
    *storage.FAULTS,
    *inputs.FAULTS,
    *network.FAULTS,
    *workflows.FAULTS,
]
KINDS = tuple(dict.fromkeys(fault.kind for fault in FAULTS))

__all__ = ["FAULTS", "KINDS", "Fault", "Outcome", "World", "inject", "injected", "rows",
           "table"]  # fmt: skip


def injected(
    folder: Path, times: int = 1, chosen: Iterable[Fault] = FAULTS
) -> Iterator[Outcome]:
    """Build a small experiment and inject faults, several times each.

    Parameters
    ----------
    folder : Path
        Scratch folder.
    times : int
        How often each fault shall hit, each time at another moment.
    chosen : iterable of Fault
        Which faults.

    Yields
    ------
    Outcome
        As soon as it is known.
    """
    lab = Laboratory(folder / "lab")
    lab.prepare()
    lab.train()
    with World(lab, folder / "world") as world:
        for fault in chosen:
            yield inject(fault, world, folder / fault.kind, times)

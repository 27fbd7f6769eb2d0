"""What each kind of job asks a cluster for, as the rules of the workflow say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Of Snakemake: cores, GPUs, memory in MB and minutes.
NAMES = ("_cores", "gpu", "mem_mb", "runtime")


@dataclass(frozen=True)
class Request:
    """What a job asks for at its first attempt.

    Attributes
    ----------
    cores, gpus : int
    memory_mb, minutes : int
    """

    cores: int = 1
    gpus: int = 0
    memory_mb: int = 0
    minutes: int = 0


def request_of(resources: Mapping[str, Any]) -> Request:
    """Read the resources of a rule; those that grow are evaluated for attempt 1.

    Parameters
    ----------
    resources : Mapping
        Name to resource, as Snakemake has it.
    """
    found = []
    for name in NAMES:
        value = resources.get(name)
        if value is not None:
            # Of no job in particular: there are no wildcards.
            value = value.evaluate({}, attempt=1).value
        found.append(int(value or 0))
    return Request(*found)


def render_requests(rules: Iterable[Any], beginnings: Iterable[str]) -> str:
    """Return a table of what the jobs of some experiments ask for.

    Parameters
    ----------
    rules : iterable
        Rules of Snakemake.
    beginnings : iterable of str
        Of the names of the rules that count; what follows is the name of their kind.
        Of a kind with several requests each has a line.
    """
    begin = tuple(beginnings)
    lines: dict[tuple[str, Request], None] = {}
    for rule in rules:
        for start in begin:
            if rule.name.startswith(start):
                kind = rule.name.removeprefix(start)
                lines[kind, request_of(rule.resources)] = None
    shown = [f"{'each job asks for':<40}{'cores':>8}{'GPUs':>12}{'GB':>12}{'h':>10}"]
    shown += [
        f"{kind:<40}{one.cores:>8}{one.gpus:>12}{one.memory_mb / 1000:>12,.1f}"
        f"{one.minutes / 60:>10,.1f}"
        for kind, one in lines
    ]
    return "\n".join(shown)

"""Running a stage: its GPU, its record, and how it ends."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phantomscope import provenance
from phantomscope.config.model import Config
from phantomscope.devices import claimed_device
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.interrupt import EXIT_STATUS, StopRequestedError
from phantomscope.stages.arguments import arguments

Stage = Callable[..., None]


def perform(
    stage: Stage,
    config: Config,
    keywords: Mapping[str, Any],
    sections: Mapping[str, Any],
    *,
    gpus: int | None = None,
) -> None:
    """Run a stage and write down where its outputs come from.

    Parameters
    ----------
    stage : callable
        See `phantomscope.stages.registry`.
    config : Config
        Everything that shapes the result.
    keywords : Mapping
        Of the stage.
    sections : Mapping
        The parts of the config that shape this stage's outputs, for the record.
    gpus : int, optional
        GPUs that the rule asked for.
    """
    begin, clock = time.time(), time.monotonic()
    with claimed_device(gpus):
        stage(config, **keywords)
    groups: dict[str, dict[str, Any]] = {"input": {}, "output": {}, "value": {}}
    for argument in arguments(stage):
        value = keywords.get(argument.name)
        if value is not None and argument.role in groups:
            groups[argument.role][argument.name] = value
    if "root" in keywords:
        # Read as a whole; the record knows which stage reads what below it.
        groups["input"]["root"] = keywords["root"]
    provenance.record(
        stage.__name__, sections, inputs=groups["input"], outputs=groups["output"],
        arguments=groups["value"], started=begin, seconds=time.monotonic() - clock,
    )  # fmt: skip


def exit_status(work: Callable[[], None], place: str | Path, note: str = "") -> int:
    """Do some work and return the exit status of the process.

    Parameters
    ----------
    work : callable
        The work.
    place : str or Path
        Named in errors of the operating system that nobody else explained.
    note : str
        Appended to an error's message.

    Returns
    -------
    int
        0; 1 for what the user can mend, with one clear message; 2 for our own faults,
        with a traceback; 75 if it was stopped and goes on with the same command.
    """
    try:
        # Files are explained where they are read and written; this is for the rest.
        with explain_os_errors(place):
            work()
    except PhantomscopeError as error:
        print(f"{error}{note}", file=sys.stderr)
        return 1
    except StopRequestedError as stop:
        print(f"{stop}; run the same command again to go on", file=sys.stderr)
        return EXIT_STATUS
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        print(
            f"error: this is a fault of phantomscope, please report it{note}",
            file=sys.stderr,
        )
        return 2
    return 0

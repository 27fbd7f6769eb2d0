"""Glue between a Snakemake rule and the stage of the same name."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from phantomscope.config.load import RUNTIME_OPTIONS, make_config, section_in
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.stages.arguments import arguments, convert
from phantomscope.stages.perform import exit_status, perform


class _Tee:
    """Write to the rule's log and to the terminal, so that progress stays live."""

    def __init__(self, *streams: TextIO) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        """Write to all."""
        for stream in self.streams:
            # A log keeps no carriage returns of a live line.
            stream.write(text if stream.isatty() else text.replace("\r\x1b[2K", "\n"))
            stream.flush()
        return len(text)

    def flush(self) -> None:
        """Flush all."""
        for stream in self.streams:
            stream.flush()

    def isatty(self) -> bool:
        """Whether any of them is a terminal."""
        return any(stream.isatty() for stream in self.streams)

    def fileno(self) -> int:
        """Descriptor of the first, for libraries that ask."""
        return self.streams[0].fileno()


def _keywords(snakemake: Any, stage: Callable[..., None]) -> dict[str, Any]:
    """Match a stage's keywords with inputs, outputs, params and wildcards by name."""
    places = (snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
    keywords: dict[str, Any] = {}
    for argument in arguments(stage):
        for place in places:
            if argument.name in place.keys():
                keywords[argument.name] = convert(argument, place[argument.name])
                break
        else:
            if argument.required:
                raise PhantomscopeError(
                    f"rule {snakemake.rule} does not say `{argument.name}`",
                    where=f"workflow rule {snakemake.rule}",
                    fix="name it among its inputs, outputs, params or wildcards",
                )
    return keywords


def _config(snakemake: Any) -> Config:
    """Sections that shape the result, and options that only shape how it runs.

    The latter are no params, since a change of them must not run a rule again.
    """
    sections = copy.deepcopy(dict(snakemake.params.config))
    for section, name in RUNTIME_OPTIONS:
        given = section_in(snakemake.config, section)
        if name in given and (own := section_in(sections, section)):
            own[name] = given[name]
    return make_config(sections)


def run(snakemake: Any, stage: Callable[..., None]) -> None:
    """Run a stage as the script of a rule.

    ``params.config`` holds the sections of the config that shape the result. What goes
    wrong is written to the log and ends the job: one clear message for what the user
    can mend, a traceback in the log for what we must.
    """
    log = Path(str(snakemake.log[0]))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        sys.stdout = sys.stderr = _Tee(sys.__stderr__, stream)  # type: ignore
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

        def work() -> None:
            perform(
                stage,
                _config(snakemake),
                _keywords(snakemake, stage),
                dict(snakemake.params.config),
                gpus=int(snakemake.resources.get("gpu", 0)),
            )

        note = f"\n  rule:  {snakemake.rule}, log: {log}"
        stop(exit_status(work, snakemake.rule, note))


def stop(code: int) -> None:
    """End the process at once: worker threads of the libraries must not hold it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

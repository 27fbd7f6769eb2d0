"""The keywords of a stage, read off its signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a stage writes, and a folder that is neither read nor written as a whole; every
# other path is an input.
Output = typing.Annotated[Path, "output"]
Place = typing.Annotated[Path, "place"]


@dataclass(frozen=True)
class Argument:
    """A keyword of a stage: its name, plain type, whether a list, and default.

    `role` is ``input``, ``output`` or ``place`` for paths, ``value`` for the rest.
    """

    name: str
    kind: type
    many: bool
    default: Any
    role: str

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty


def arguments(function: Callable[..., None]) -> list[Argument]:
    """List the keywords of a stage, other than the config."""
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "config":
            continue
        hint, many = hints[name], False
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = next(h for h in typing.get_args(hint) if h is not type(None))
        if typing.get_origin(hint) is list:
            hint, many = typing.get_args(hint)[0], True
        role = "input" if hint is Path else "value"
        if typing.get_origin(hint) is typing.Annotated:
            hint, role = typing.get_args(hint)
        found.append(Argument(name, hint, many, parameter.default, role))
    return found


def summary(function: Callable[..., None]) -> str:
    """First line of a stage's docstring."""
    return inspect.getdoc(function).splitlines()[0]  # type: ignore[union-attr]


def convert(argument: Argument, value: Any) -> Any:
    """Turn a value from Snakemake into what the stage expects."""
    # An input that a rule has under some configs only is an empty list otherwise.
    absent = isinstance(value, list) and not value and not argument.many
    if value is None or absent:
        return None
    if argument.many:
        items = [value] if isinstance(value, str | Path) else list(value)
        return [argument.kind(item) for item in items]
    return argument.kind(value)

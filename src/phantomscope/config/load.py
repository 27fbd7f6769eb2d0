"""Reading a config: from YAML or a dictionary to a checked `Config`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError, explain_os_errors


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    PhantomscopeError
        If the file is missing, is no YAML or holds something else than a mapping.
    """
    with explain_os_errors(path):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise PhantomscopeError(
                "this is not a text file", where=path, fix="give a YAML file (UTF-8)"
            ) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PhantomscopeError(
            f"this is no YAML: {' '.join(str(error).split())}",
            where=path,
            fix="mind indentation (spaces, no tabs), colons and quotes",
        ) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise PhantomscopeError(
            f"expected options (key: value), found a {type(content).__name__}",
            where=path,
            fix="start from what `phantomscope init FOLDER` writes",
        )
    return content


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Names of the options in the section that `location` points into."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        info = model.model_fields.get(str(part))
        annotation = info.annotation if info else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _all_options() -> dict[str, str]:
    """Map the name of each option of a section to its full key."""
    return {
        name: f"{section}.{name}"
        for section, info in Config.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        for name in info.annotation.model_fields
    }


def _explain(error: Mapping[str, Any], where: str) -> PhantomscopeError:
    location = tuple(error["loc"])
    # The branches of a union ("auto" or a number) are no part of the key.
    key = ".".join(
        str(part) for part in location if not re.search(r"[\[\]-]", str(part))
    )
    key = key or "(whole config)"
    if error["type"] == "extra_forbidden":
        name = str(location[-1])
        known = _fields_at(location)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        elsewhere = _all_options().get(name)
        if elsewhere and name not in known:
            close = [elsewhere]
        fix = (
            f"did you mean `{close[0]}`?"
            if close
            else f"known here: {', '.join(known)}"
        )
        return PhantomscopeError(f"unknown option `{key}`", where=where, fix=fix)
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    if isinstance(given, str | int | float | bool | None):
        message += f" (given: {given!r})"
    return PhantomscopeError(
        f"bad value of `{key}`: {message}",
        where=where,
        fix="see config/README.md for type, unit and bounds of each option",
    )


def make_config(options: Mapping[str, Any], where: str = "the config") -> Config:
    """Check options and fill in the defaults.

    Parameters
    ----------
    options : Mapping
        Sections and options; what is absent takes its default.
    where : str
        File to name in an error.

    Raises
    ------
    PhantomscopeError
        For unknown keys ("did you mean"), wrong types, values out of bounds and
        combinations that cannot be. All problems are listed.
    """
    try:
        return Config.model_validate(dict(options))
    except ValidationError as error:
        problems = [_explain(item, where) for item in error.errors()]
    if len(problems) == 1:
        raise problems[0]
    first = problems[0]
    others = "\n".join(f"- {item.what}; {item.fix}" for item in problems)
    raise PhantomscopeError(
        f"{len(problems)} options are wrong:\n{others}",
        where=first.where,
        fix=first.fix,
    )


def load_config(path: Path) -> Config:
    """Read and check a config file."""
    return make_config(read_yaml(path), str(path))

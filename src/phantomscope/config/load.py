"""Reading a config: from YAML or a dictionary to a checked `Config`."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError, explain_os_errors

_REFERENCE = "see config/README.md for type, unit and bounds of each option"
_LONGEST_VALUE = 80


class _RepeatedKeyError(yaml.constructor.ConstructorError):
    """A key stands twice in one mapping."""


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys: the first of two would be dropped silently."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, Any]:
        """Build a mapping; a key that stands twice in it is an error."""
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen and key_node.value != "<<":
                    raise _RepeatedKeyError(
                        None,
                        None,
                        f"the key {key_node.value!r} stands here twice",
                        key_node.start_mark,
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    PhantomscopeError
        If the file is missing, is no YAML, has a key twice in one mapping or holds
        something else than a mapping.
    """
    with explain_os_errors(path):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise PhantomscopeError(
                "this is not a text file", where=path, fix="give a YAML file (UTF-8)"
            ) from error
    try:
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: what looks like a date or a number, such as 2026-02-30.
        raise PhantomscopeError(
            f"this is no YAML: {' '.join(str(error).split())}",
            where=path,
            fix="keep one of the two"
            if isinstance(error, _RepeatedKeyError)
            else "mind indentation (spaces, no tabs), colons and quotes",
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


def _section_of(info: FieldInfo | None) -> type[BaseModel] | None:
    """Return the model of a section; None for an option."""
    annotation = info.annotation if info else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _key_and_section(
    location: tuple[int | str, ...],
) -> tuple[str, type[BaseModel] | None]:
    """Return the dotted key of an error and the section that its last part is in.

    What pydantic appends to the location inside an option (the branch of a union)
    is no part of the key; indices of lists are.
    """
    section: type[BaseModel] | None = Config
    holder = section
    parts = []
    for part in location:
        if section is not None:
            holder = section
            section = _section_of(section.model_fields.get(str(part)))
        elif not isinstance(part, int):
            continue
        parts.append(str(part))
    return ".".join(parts), holder


def _full_keys(
    name: str, model: type[BaseModel] = Config, prefix: str = ""
) -> list[str]:
    """Return every full key, such as ``train.steps``, whose last part is `name`."""
    keys = []
    for option, info in model.model_fields.items():
        if option == name:
            keys.append(prefix + option)
        section = _section_of(info)
        if section is not None:
            keys += _full_keys(name, section, f"{prefix}{option}.")
    return keys


def _explain_unknown(location: tuple[int | str, ...], where: str) -> PhantomscopeError:
    key, section = _key_and_section(location)
    name = str(location[-1])
    known = list((section or Config).model_fields)
    plain = name.lower().replace("-", "_")
    beside = key.removesuffix(name)
    similar = difflib.get_close_matches(plain, known, 1, 0.5)
    close = _full_keys(name) or [beside + other for other in similar]
    if close:
        fix = "did you mean " + " or ".join(f"`{other}`" for other in close) + "?"
    else:
        fix = f"known here: {', '.join(known)}"
    return PhantomscopeError(f"unknown option `{key}`", where=where, fix=fix)


def _explain(errors: list[Mapping[str, Any]], where: str) -> PhantomscopeError:
    """Explain what pydantic says about one key (once per branch of a union)."""
    error = errors[0]
    if error["type"] == "extra_forbidden":
        return _explain_unknown(error["loc"], where)
    key = _key_and_section(error["loc"])[0] or "(whole config)"
    if error["type"] == "model_type":
        return PhantomscopeError(
            f"`{key}` is a section: it holds options, not {error['input']!r:.80}",
            where=where,
            fix="write its options below it, indented by two spaces",
        )
    messages = [str(item["msg"]).removeprefix("Value error, ") for item in errors]
    message = ", or: ".join(dict.fromkeys(messages))
    given = error.get("input")
    if not isinstance(given, Mapping | BaseModel):
        text = repr(given)
        if len(text) > _LONGEST_VALUE:
            text = text[:_LONGEST_VALUE] + " ..."
        message += f" (given: {text})"
    return PhantomscopeError(
        f"bad value of `{key}`: {message}", where=where, fix=_REFERENCE
    )


def _prepared(options: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return a copy in which a section without content (all commented out) is empty."""
    copy = dict(options)
    for name, value in options.items():
        section = _section_of(model.model_fields.get(name))
        if section is not None and value is None:
            copy[name] = {}
        elif section is not None and isinstance(value, Mapping):
            copy[name] = _prepared(value, section)
    return copy


def _booleans(
    options: Mapping[str, Any], model: type[BaseModel], prefix: str = ""
) -> Iterator[str]:
    """Yield the keys of numbers given as true or false, which pydantic takes as 1, 0.

    YAML reads `yes`, `no`, `on` and `off` as true and false, too.
    """
    for name, value in options.items():
        info = model.model_fields.get(name)
        section = _section_of(info)
        if section is not None and isinstance(value, Mapping):
            yield from _booleans(value, section, f"{prefix}{name}.")
        elif info is not None and info.annotation is not bool:
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(item, bool) for item in values):
                yield prefix + name


def _problems(options: dict[str, Any], where: str) -> Config | list[PhantomscopeError]:
    """Return the config, or everything that is wrong with the options."""
    keys = list(_booleans(options, Config))
    problems = [
        PhantomscopeError(
            f"bad value of `{key}`: true or false (also written yes, no, on, off) is "
            "no value of this option",
            where=where,
            fix=_REFERENCE,
        )
        for key in keys
    ]
    try:
        config = Config.model_validate(options)
    except ValidationError as error:
        by_key: dict[str, list[Mapping[str, Any]]] = {}
        for item in error.errors():
            by_key.setdefault(_key_and_section(item["loc"])[0], []).append(item)
        return problems + [
            _explain(items, where) for key, items in by_key.items() if key not in keys
        ]
    return problems or config


def make_config(options: Mapping[str, Any], where: str = "the config") -> Config:
    """Check options and fill in the defaults.

    Parameters
    ----------
    options : Mapping
        Sections and options; what is absent takes its default, and so does a section
        without content.
    where : str
        File to name in an error.

    Raises
    ------
    PhantomscopeError
        For unknown keys ("did you mean"), wrong types, values out of bounds and
        combinations that cannot be. All problems are listed.
    """
    result = _problems(_prepared(options, Config), where)
    if isinstance(result, Config):
        return result
    if len(result) == 1:
        raise result[0]
    others = "\n".join(f"- {problem.what}; {problem.fix}" for problem in result)
    raise PhantomscopeError(
        f"{len(result)} options are wrong:\n{others}",
        where=where,
        fix="mend each of them; config/README.md describes every option",
    )


def load_config(path: Path) -> Config:
    """Read and check a config file."""
    return make_config(read_yaml(path), str(path))


# Options that change how a stage runs, but not what it makes.
RUNTIME_OPTIONS = (("train", "checkpoint_every"), ("train", "micro_batch"))


def sections(config: Config, *names: str) -> dict[str, Any]:
    """Return some sections as plain values: the params of a rule.

    Parameters
    ----------
    config : Config
        The whole config.
    *names : str
        Sections (``train``) or options of a section (``segment.stardist``).

    Returns
    -------
    dict
        Nested plain values, without the options that do not shape the result.
    """
    content = config.model_dump(mode="json")
    chosen: dict[str, Any] = {}
    for name in names:
        section, _, option = name.partition(".")
        if option:
            chosen.setdefault(section, {})[option] = content[section][option]
        else:
            chosen[section] = content[section]
    for section, option in RUNTIME_OPTIONS:
        if section in chosen:
            chosen[section].pop(option, None)
    return chosen

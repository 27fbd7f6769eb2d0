"""Reading a config: from YAML or a dictionary to a checked `Config`."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from phantomscope.config.model import Config
from phantomscope.config.plates import RUNTIME_OF_PLATES
from phantomscope.errors import PhantomscopeError, explain_os_errors

_REFERENCE = "see config/README.md for type, unit and bounds of each option"
# A config has a few kB. What is far larger was made to stop programs, or by mistake.
_LARGEST_FILE = 2_000_000
_MOST_VALUES = 100_000
_LONGEST_NUMBER = 100
_LONGEST_VALUE = 80
_LONGEST_MESSAGE = 300
_MOST_PROBLEMS = 20


class _RefusedError(yaml.constructor.ConstructorError):
    """YAML that could be read, but should not be; knows how to mend it."""

    def __init__(self, what: str, fix: str, node: yaml.Node) -> None:
        super().__init__(None, None, what, node.start_mark)
        self.fix = fix


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
                    raise _RefusedError(
                        f"the key {key_node.value!r} stands here twice",
                        "keep one of the two",
                        key_node,
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_document(self, node: yaml.Node) -> Any:
        """Build the content, unless its aliases make it endless."""
        if _count_values(node, {}) > _MOST_VALUES:
            raise _RefusedError(
                f"it has more than {_MOST_VALUES} values, aliases (*name) written out",
                "write options without aliases; none may stand inside what it names",
                node,
            )
        return super().construct_document(node)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Build a number; YAML allows integers of any length."""
        if len(node.value) <= _LONGEST_NUMBER:
            whole = node.tag.endswith(":int")
            construct = self.construct_yaml_int if whole else self.construct_yaml_float
            value: int | float = construct(node)
            if isinstance(value, float) or value.bit_length() <= 64:
                return value
        raise _RefusedError(
            "this number has too many digits", "put text into quotes", node
        )


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def _count_values(node: yaml.Node, known: dict[int, float]) -> float:
    """Count the values below a node as if its aliases were written out."""
    if id(node) not in known:
        known[id(node)] = float("inf")  # an alias of what is not complete yet
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        children = [
            child for item in below
            for child in (item if isinstance(item, tuple) else (item,))
        ]  # fmt: skip
        known[id(node)] = 1 + sum(_count_values(child, known) for child in children)
    return known[id(node)]


def _read_small_text(path: Path) -> str:
    with explain_os_errors(path), path.open("rb") as stream:
        data = stream.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise PhantomscopeError(
            f"this file has more than {_LARGEST_FILE} bytes",
            where=path,
            fix="give a YAML file: a config has a few kB",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PhantomscopeError(
            "this is not a text file", where=path, fix="give a YAML file (UTF-8)"
        ) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    PhantomscopeError
        If the file is missing, is no YAML, has a key twice in one mapping or holds
        something else than a mapping.
    """
    text = _read_small_text(path)
    try:
        content = yaml.load(text, Loader=_Loader)
    except (
        yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError,
        RecursionError,
    ) as error:  # fmt: skip
        # ValueError: what looks like a date or a number, such as 2026-02-30.
        known = isinstance(error, yaml.YAMLError | ValueError | RecursionError)
        reason = str(error) if known else "a value does not fit its tag (!!)"
        raise PhantomscopeError(
            f"this is no YAML: {_cut(' '.join(reason.split()))}",
            where=path,
            fix=error.fix
            if isinstance(error, _RefusedError)
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


def _cut(text: str, longest: int = _LONGEST_MESSAGE) -> str:
    return text if len(text) <= longest else text[:longest] + " ..."


def _shown(value: object) -> str:
    """Return a value as it may stand in a message, whatever its size."""
    short = reprlib.Repr()
    short.maxlevel = 3
    short.maxstring = short.maxother = short.maxlong = _LONGEST_VALUE
    try:
        return _cut(short.repr(value), _LONGEST_VALUE)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of very many digits"


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
    similar = difflib.get_close_matches(plain[:_LONGEST_VALUE], known, 1, 0.5)
    # A slip of the pen is likelier than a key of this very name in another section.
    slips = difflib.get_close_matches(plain[:_LONGEST_VALUE], similar, 1, 0.85)
    close = [beside + other for other in slips] + _full_keys(name)
    close = close or [beside + other for other in similar]
    if close:
        fix = "did you mean " + " or ".join(f"`{other}`" for other in close) + "?"
    else:
        fix = f"known here: {', '.join(known)}"
    return PhantomscopeError(f"unknown option `{_cut(key)}`", where=where, fix=fix)


def _explain(errors: list[Mapping[str, Any]], where: str) -> PhantomscopeError:
    """Explain what pydantic says about one key (once per branch of a union)."""
    error = errors[0]
    if error["type"] == "extra_forbidden":
        return _explain_unknown(error["loc"], where)
    key = _key_and_section(error["loc"])[0] or "(whole config)"
    if error["type"] == "model_type":
        return PhantomscopeError(
            f"`{key}` is a section: it holds options, not {_shown(error['input'])}",
            where=where,
            fix="write its options below it, indented by two spaces",
        )
    messages = [str(item["msg"]).removeprefix("Value error, ") for item in errors]
    message = _cut(", or: ".join(dict.fromkeys(messages)))
    given = error.get("input")
    if not isinstance(given, Mapping | BaseModel):
        message += f" (given: {_shown(given)})"
    return PhantomscopeError(
        f"bad value of `{_cut(key)}`: {message}", where=where, fix=_REFERENCE
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


def _is_writable(text: str) -> bool:
    """Whether a file, or the name of one, can contain this text."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # half of a pair of code units
        return False


def _unfit(
    options: Mapping[str, Any], model: type[BaseModel], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield keys of values that pydantic takes but nobody can use, and why not.

    It takes true and false as 1 and 0; YAML reads `yes`, `no`, `on` and `off` as true
    and false, too.
    """
    for name, value in options.items():
        info = model.model_fields.get(name)
        section = _section_of(info)
        if section is not None and isinstance(value, Mapping):
            yield from _unfit(value, section, f"{prefix}{name}.")
        elif info is not None and info.annotation is not bool:
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(item, bool) for item in values):
                what = "true or false (also written yes, no, on, off) is"
                yield prefix + name, f"{what} no value of this option"
            elif any(isinstance(v, str) and not _is_writable(v) for v in values):
                yield prefix + name, "this text has characters that no file can have"


def _problems(options: dict[str, Any], where: str) -> Config | list[PhantomscopeError]:
    """Return the config, or everything that is wrong with the options."""
    unfit = dict(_unfit(options, Config))
    problems = [
        PhantomscopeError(f"bad value of `{key}`: {why}", where=where, fix=_REFERENCE)
        for key, why in unfit.items()
    ]
    try:
        config = Config.model_validate(options)
    except ValidationError as error:
        by_key: dict[str, list[Mapping[str, Any]]] = {}
        for item in error.errors():
            by_key.setdefault(_key_and_section(item["loc"])[0], []).append(item)
        return problems + [
            _explain(items, where) for key, items in by_key.items() if key not in unfit
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
    lines = [f"- {problem.what}; {problem.fix}" for problem in result[:_MOST_PROBLEMS]]
    if len(result) > _MOST_PROBLEMS:
        lines.append(f"- and {len(result) - _MOST_PROBLEMS} more")
    others = "\n".join(lines)
    raise PhantomscopeError(
        f"{len(result)} options are wrong:\n{others}",
        where=where,
        fix="mend each of them; config/README.md describes every option",
    )


def load_config(path: Path) -> Config:
    """Read and check a config file."""
    return make_config(read_yaml(path), str(path))


# Options that change how a stage runs, but not what it makes.
RUNTIME_OPTIONS = (
    ("train", "checkpoint_every"),
    ("train", "micro_batch"),
    ("train", "devices"),
    ("simulate", "job_minutes"),
    ("source", "downloads"),
    ("source", "mirror"),
    ("source", "registry"),
    *(("translate.plates", name) for name in sorted(RUNTIME_OF_PLATES)),
)


def section_in(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section, or one inside another (``a.b``), of plain values.

    Empty where it is absent; else what is changed in it changes the content.
    """
    found: Any = content
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else {}


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
        section_in(chosen, section).pop(option, None)
    for name in config.source.unused:
        section_in(chosen, "source").pop(name, None)
    return chosen

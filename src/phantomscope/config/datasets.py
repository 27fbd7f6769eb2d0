"""The registry of public data sets: where they are, and how they are laid out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from phantomscope.config.layout import READERS, Layout, Text
from phantomscope.config.option import Section
from phantomscope.errors import PhantomscopeError

REGISTRY = Path("config/datasets.yaml")
# From src/phantomscope/config to the root of a checkout.
CHECKOUT = Path(__file__).resolve().parents[3]


def _plain_name(name: str) -> str:
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise ValueError("not the name of a file: no folder, no dot in front")
    return name


class DatasetFile(Section):
    """One file to download.

    `size` is in bytes; null where the publisher states none. Without `sha256` the hash
    is pinned at the first download. With `ranges` only the members that are needed are
    fetched from a zip, unless ``source.download`` says otherwise.
    """

    name: Annotated[str, AfterValidator(_plain_name)]
    url: Text
    size: Annotated[int, Field(ge=1)] | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    ranges: bool = False

    @field_validator("url")
    @classmethod
    def _on_the_web(cls, url: str) -> str:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("an address begins with https:// or http://")
        return url


class Extent(Section):
    """How much there is, as far as known: for estimates of cost before a download.

    `shape` is ([depth,] height, width) of an image, `groups` the units of statistics,
    `published` the images of the publisher's training and test part.
    """

    images: Annotated[int, Field(ge=1)]
    shape: Annotated[
        list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)
    ]
    groups: Annotated[int, Field(ge=1)] = 1
    dtype: Literal["uint8", "uint16", "float32"] = "uint16"
    published: (
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None
    ) = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.published and sum(self.published) > self.images:
            raise ValueError("`published` has more images than `images`")
        return self


class Dataset(Section):
    """A public data set."""

    title: Text
    files: Annotated[list[DatasetFile], Field(min_length=1)]
    licence: Text
    citation: Text
    homepage: Text
    layout: Layout
    extent: Extent | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            raise ValueError(f"`files` names a file twice: {names}")
        if len(names) > 1 and any(file.ranges for file in self.files):
            raise ValueError("`ranges` needs a set of one file")
        return self

    @model_validator(mode="after")
    def _reader_has_its_files(self) -> Self:
        if (reader := self.layout.reader) is None:
            return self
        wanted = READERS[reader]
        if len(self.files) != len(wanted):
            raise ValueError(
                f"`reader: {reader}` takes {len(wanted)} of `files`, in this order: "
                f"{', then '.join(wanted)}"
            )
        if self.files[0].ranges:
            raise ValueError(f"`ranges`: `reader: {reader}` needs whole files")
        return self


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
_ENTRIES = TypeAdapter(dict[Name, Dataset])


def find_registry(given: str | None = None) -> Path:
    """Return the file of the registry.

    Parameters
    ----------
    given : str, optional
        Option ``source.registry``. Else ``config/datasets.yaml`` is looked for in the
        current directory, then in the checkout of this program.

    Raises
    ------
    PhantomscopeError
        If it is at neither place.
    """
    if given is not None:
        return Path(given)
    for path in (REGISTRY, CHECKOUT / REGISTRY):
        if path.is_file():
            return path
    raise PhantomscopeError(
        f"there is no registry of data sets, neither {REGISTRY} nor "
        f"{CHECKOUT / REGISTRY}",
        where="source.registry",
        fix="run in the folder of the workflow, or name the file",
        example="source:\n  registry: path/to/datasets.yaml",
    )


def load_registry(given: str | None = None) -> dict[str, Dataset]:
    """Read the registry of data sets.

    Parameters
    ----------
    given : str, optional
        As in `find_registry`.

    Returns
    -------
    dict
        Name to data set.

    Raises
    ------
    PhantomscopeError
        If the file is missing, is no YAML, or has unknown keys or bad values.
    """
    path = find_registry(given)
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _read(path.absolute(), changed)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> dict[str, Dataset]:
    """Read a registry; `changed` is when it was, so that an edit is seen."""
    # `load` imports the models of all sections, one of which imports this module.
    from phantomscope.config.load import read_yaml

    try:
        return _ENTRIES.validate_python(read_yaml(path))
    except ValidationError as error:
        problems = [_explain(item, path) for item in error.errors()]
    if len(problems) == 1:
        raise problems[0]
    lines = "\n".join(f"- {problem.what}; {problem.fix}" for problem in problems)
    raise PhantomscopeError(
        f"{len(problems)} entries are wrong:\n{lines}",
        where=path,
        fix="mend each of them; the head of config/datasets.yaml explains the keys",
    )


def suggestion(name: str, known: list[str]) -> str:
    """Say what somebody who wrote `name` may have meant."""
    close = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known here: {', '.join(known)}"


def _explain(error: Mapping[str, Any], path: Path) -> PhantomscopeError:
    """Explain what pydantic says about one key."""
    location = [part for part in error["loc"] if part != "[key]"]
    key = ".".join(map(str, location))
    if error["type"] == "extra_forbidden":
        section: type[BaseModel] = Dataset
        if len(location) > 2:
            section = DatasetFile if location[1] == "files" else Layout
        return PhantomscopeError(
            f"unknown key `{key}`",
            where=path,
            fix=suggestion(str(location[-1]), list(section.model_fields)),
        )
    message = str(error["msg"]).removeprefix("Value error, ")
    given = repr(error["input"])
    if not isinstance(error["input"], Mapping) and len(given) <= 80:
        message += f" (given: {given})"
    return PhantomscopeError(
        f"bad value of `{key}`: {message}",
        where=path,
        fix="the head of config/datasets.yaml explains the keys",
    )

"""Provenance: what a stage made, from what, with which options and versions.

Each stage that succeeded leaves one record beside its first output, such as
``checked.provenance.json`` beside ``checked/``. `phantomscope.verify` reads them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from phantomscope import __version__
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import read_json, write_json
from phantomscope.readings import FIGURES_READ, ROOT_READ

FORMAT: Literal[1] = 1
SUFFIX = ".provenance.json"

Kind = Literal["file", "images", "folder"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Paths = Mapping[str, Path | Sequence[Path]]

_PACKAGES = ("numpy", "torch", "scikit-image", "tifffile", "snakemake")
# TensorFlow is installed under one of two names.
_TOOLS = ("cellpose", "stardist", "csbdeep", "tensorflow", "tensorflow-cpu", "keras")
_STAGES_OF_TOOLS = (
    "train_segmenter", "predict", "train_restorer", "restore", "train_detector",
    "detect",
)  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Artefact(_Strict):
    """A file or folder as it was when its stage ended.

    Attributes
    ----------
    path : str
        Relative to the folder of the record, with ``/``; ``..`` is allowed.
    kind : str
        ``file``, ``images`` (an image set) or ``folder``.
    digest : str
        See `measure`.
    files : dict, optional
        SHA-256 of each file that the digest of an output folder covers.
    """

    path: str
    kind: Kind
    digest: Sha256
    files: dict[str, Sha256] | None = None

    @model_validator(mode="after")
    def _proper(self) -> Self:
        for name in (self.path, *(self.files or ())):
            if not name or "\0" in name or PurePosixPath(name).is_absolute():
                raise ValueError(f"{name!r} is no relative path")
        if any(".." in PurePosixPath(name).parts for name in self.files or ()):
            raise ValueError(f"the files of {self.path} lie outside of it")
        if self.files is not None and self.digest != fingerprint(self.files):
            raise ValueError(f"the digest of {self.path} is not that of its files")
        return self


class Options(_Strict):
    """The sections of the config that shaped the result, and their SHA-256."""

    fingerprint: Sha256
    sections: dict[str, Any]


class Record(_Strict):
    """What is known about one run of one stage."""

    format: Literal[1]
    stage: str
    config: Options
    seed: int | None
    arguments: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    machine: dict[str, str | int]
    started: str
    seconds: float
    inputs: dict[str, list[Artefact]]
    outputs: dict[str, list[Artefact]]

    @model_validator(mode="after")
    def _proper(self) -> Self:
        if self.config.fingerprint != fingerprint(self.config.sections):
            raise ValueError("the fingerprint is not that of the sections")
        made = [artefact for found in self.outputs.values() for artefact in found]
        if not made:
            raise ValueError("there is no output")
        for artefact in made:
            if (artefact.files is None) != (artefact.kind == "file"):
                raise ValueError(f"the files of {artefact.path} are not listed")
        return self


def fingerprint(content: Any) -> str:
    """Return the SHA-256 of JSON-like content, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def kind_of(path: Path) -> Kind:
    """Say what lies there; an image set has a manifest."""
    if not path.is_dir():
        return "file"
    return "images" if (path / "manifest.csv").is_file() else "folder"


def _covered(folder: Path, kind: Kind) -> Iterator[Path]:
    """List what the digest of a folder covers; links to folders are not followed."""
    for place, folders, names in os.walk(folder, onerror=reraise):
        folders[:] = [] if kind == "images" else [n for n in folders if n[0] != "."]
        for name in names:
            if not (name.startswith(".") or name.endswith((".partial", SUFFIX))):
                yield Path(place, name)


def reraise(error: OSError) -> None:
    """For `os.walk`, which would leave out folders that it cannot read."""
    raise error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file, of any size."""
    with explain_os_errors(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def measure(path: Path, kind: Kind | None = None) -> tuple[str, dict[str, str] | None]:
    """Digest a file or folder.

    The digest of a file is the SHA-256 of its bytes; that of a folder is the SHA-256
    of the sorted relative paths and digests of its files. In an image set only the
    files beside its manifest count: the manifest holds the hashes of all pixels, which
    another version of a compression library does not change. Hidden files, partial
    ones and provenance records never count.

    Parameters
    ----------
    path : Path
        File or folder.
    kind : str, optional
        What it is taken for; by default what it is.

    Returns
    -------
    digest : str
    files : dict or None
        Relative path to SHA-256 of each file that counts; None for a file.
    """
    kind = kind or kind_of(path)
    if kind == "file":
        return file_digest(path), None
    with explain_os_errors(path):
        found = sorted(_covered(path, kind))
    files = {file.relative_to(path).as_posix(): file_digest(file) for file in found}
    return fingerprint(files), files


def source_commit(root: Path | None = None) -> str | None:
    """Return the commit of the checkout that this code runs from; None elsewhere.

    Changes that were not committed are not seen.
    """
    here = Path(__file__).resolve().parent
    if root is None and here.parent.name != "src":
        return None  # installed: a repository around it would be another one
    root = root or here.parents[1]
    try:
        folder = root / ".git"
        if folder.is_file():  # a worktree or submodule
            folder = root / folder.read_text().removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text().strip()
        if head.startswith("ref:"):
            head = _resolve(folder, head.removeprefix("ref:").strip())
    except (OSError, UnicodeDecodeError):
        return None
    return head if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", head) else None


def _resolve(folder: Path, name: str) -> str:
    """Return the commit of a branch, or an empty string."""
    pointer = folder / "commondir"
    common = folder / pointer.read_text().strip() if pointer.is_file() else folder
    if (common / name).is_file():
        return (common / name).read_text().strip()
    packed = common / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    found = [line.split()[0] for line in lines if line.split()[1:] == [name]]
    return found[0] if found else ""


def _versions(stage: str) -> dict[str, str]:
    packages = _PACKAGES + (_TOOLS if stage in _STAGES_OF_TOOLS else ())
    found = {"phantomscope": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # each stage has an environment with what it needs
    return found


def _machine() -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count() or 1,
    }
    # Importing torch, or waking a GPU, only to ask would cost more than many a stage.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _absolute(paths: Path | Sequence[Path]) -> list[Path]:
    """As a list of absolute paths; links stay, so that a folder may be moved whole."""
    several = [paths] if isinstance(paths, str | Path) else paths
    return [Path(os.path.abspath(path)) for path in several]


def _read_below(root: Path, stage: str, outputs: Sequence[Path]) -> list[Path]:
    """List what a stage of tables and figures read below the root of an experiment."""
    patterns = set(ROOT_READ[stage])
    names = [path.stem for path in outputs] if stage == "draw_figures" else []
    for name in FIGURES_READ if stage == "report" else names:
        patterns.update(FIGURES_READ[name])
    found = {path for pattern in patterns for path in root.glob(pattern)}
    return sorted(
        path for path in found
        if not path.name.startswith(".") and not path.name.endswith(SUFFIX)
    )  # fmt: skip


def _artefacts(paths: Sequence[Path], folder: Path, *, listed: bool) -> list[Artefact]:
    found = []
    for path in paths:
        kind = kind_of(path)
        digest, files = measure(path, kind)
        name = Path(os.path.relpath(path, folder)).as_posix()
        more = {"files": files} if listed and files is not None else {}
        found.append(Artefact(path=name, kind=kind, digest=digest, **more))
    return found


def record(
    stage: str,
    sections: Mapping[str, Any],
    *,
    inputs: Paths,
    outputs: Paths,
    arguments: Mapping[str, object],
    started: float,
    seconds: float,
) -> Path:
    """Write the record of a stage that has succeeded, atomically.

    Parameters
    ----------
    stage : str
        Name of the stage.
    sections : Mapping
        Sections of the config that shaped the result, as plain values.
    inputs, outputs : Mapping
        Keywords of the stage and their files or folders. In place of an input `root`,
        the folder of an experiment, stands what the stage reads below it.
    arguments : Mapping
        The other keywords of the stage.
    started : float
        When the stage began, in seconds since 1970.
    seconds : float
        How long it took.

    Returns
    -------
    Path
        The record, beside the first output.

    Raises
    ------
    PhantomscopeError
        If an input or output is missing, or the record cannot be written.
    """
    made = {name: _absolute(paths) for name, paths in outputs.items()}
    used = {name: _absolute(paths) for name, paths in inputs.items()}
    every = [path for paths in made.values() for path in paths]
    if "root" in used:
        (root,) = used["root"]
        used["root"] = _read_below(root, stage, every)
    if not every:
        raise ValueError(f"the stage {stage} names no output")
    path = every[0].with_name(every[0].name + SUFFIX)
    options = json.loads(json.dumps(dict(sections)))
    found = Record(
        format=FORMAT,
        stage=stage,
        config=Options(fingerprint=fingerprint(options), sections=options),
        seed=arguments.get("seed", options.get("seed")),  # type: ignore[arg-type]
        arguments=dict(arguments),
        versions=_versions(stage),
        commit=source_commit(),
        machine=_machine(),
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
        seconds=round(seconds, 3),
        inputs={k: _artefacts(v, path.parent, listed=False) for k, v in used.items()},
        outputs={k: _artefacts(v, path.parent, listed=True) for k, v in made.items()},
    )
    content = found.model_dump(mode="json", exclude_unset=True)
    write_json(path, {**content, "sha256": fingerprint(content)})
    return path


def load(path: Path) -> Record:
    """Read a record.

    Raises
    ------
    PhantomscopeError
        If it is missing, damaged, was changed, or is of another format.
    """
    again = f"make {path.name.removesuffix(SUFFIX)} again: this writes its record, too"
    content = read_json(path)
    form = content.get("format") if isinstance(content, dict) else None
    if isinstance(form, int) and form > FORMAT:
        raise PhantomscopeError(
            f"this record has the format {form}, only {FORMAT} is known here",
            where=path,
            fix="verify with the phantomscope that wrote it: see its `versions`",
        )
    if form is None or content.pop("sha256", None) != fingerprint(content):
        raise PhantomscopeError(
            "this provenance record was changed after it was written, or is none",
            where=path,
            fix=again,
        )
    try:
        return Record.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "record"
        raise PhantomscopeError(
            f"this provenance record is broken (`{key}`: {first['msg']})",
            where=path,
            fix=again,
        ) from error

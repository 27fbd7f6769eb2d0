"""Tables of localisations, one's own or of a public data set, to an image set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from phantomscope.acquire.archive import Archive, open_archive
from phantomscope.acquire.dataset import (
    checked_downloads,
    describe_dataset,
    entry_of,
    member_names,
)
from phantomscope.acquire.folder import (
    Findings,
    Item,
    _group_of,
    raise_problems,
    spread,
)
from phantomscope.acquire.listing import natural_key, safe_ids
from phantomscope.acquire.localisations.draw import draw_table
from phantomscope.acquire.samples import find_samples, select
from phantomscope.config.data import Source
from phantomscope.config.layout import TABLES
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress


@dataclass(frozen=True)
class _Table:
    """A table to draw; `open` makes it a file for as long as it is read."""

    item: Item
    group: str | None
    open: Callable[[], AbstractContextManager[Path]]


def _stem(path: Path) -> str:
    name = path.name.lower()
    suffix = max((s for s in TABLES if name.endswith(s)), key=len, default="")
    return path.name[: len(path.name) - len(suffix)]


def list_tables(path: Path) -> tuple[list[Path], Counter[str]]:
    """List the tables of a folder; a file is the only one.

    Returns
    -------
    list of Path
        In natural order; hidden files and subfolders are left out.
    Counter
        Suffix of what was left out, and how many.

    Raises
    ------
    PhantomscopeError
        If it is missing, there is no table, or two have the same name but for the
        suffix: one table in two formats would stand on both sides of the split.
    """
    with explain_os_errors(path):
        if not path.is_dir():
            path.stat()
            return [path], Counter()
        found, ignored = [], Counter[str]()
        for file in path.iterdir():
            if file.is_file() and not file.name.startswith("."):
                if file.name.lower().endswith(TABLES):
                    found.append(file)
                else:
                    ignored[file.suffix.lower() or "no suffix"] += 1
    if not found:
        others = ", ".join(f"{n} x {kind}" for kind, n in sorted(ignored.items()))
        raise PhantomscopeError(
            f"no table in {path}; found: {others or 'nothing'}",
            where="source.path",
            fix=f"name a table, or put tables ({', '.join(TABLES)}) directly into it",
        )
    found.sort(key=natural_key)
    first: dict[str, Path] = {}
    for file in found:
        if (other := first.setdefault(_stem(file), file)) is not file:
            raise PhantomscopeError(
                f"{other.name} and {file.name} have the same name but for the suffix",
                where=path,
                fix="keep one file per table, or rename one",
            )
    return found, ignored


@contextmanager
def _as_it_is(path: Path) -> Iterator[Path]:
    yield path


@contextmanager
def _unpacked(archive: Archive, name: str, scratch: Path) -> Iterator[Path]:
    """Write a member to a file, and name the member in errors about it."""
    path = scratch / f"member{Path(name).suffix.lower()}"
    with explain_os_errors(path), path.open("wb") as stream:
        for chunk in archive.chunks(archive.members[name]):
            stream.write(chunk)
    try:
        yield path
    except PhantomscopeError as error:
        raise PhantomscopeError(
            error.what, where=archive.path / name, fix=error.fix, example=error.example
        ) from error
    finally:
        path.unlink()


def _own(source: Source) -> tuple[list[_Table], dict[str, Any]]:
    """Return one's own tables and what is known of them."""
    paths, ignored = list_tables(Path(source.path or ""))
    identifiers = safe_ids([_stem(path) for path in paths])
    tables = [
        _Table(Item(name, path, None), None, partial(_as_it_is, path))
        for name, path in zip(identifiers, paths, strict=True)
    ]
    tables = [tables[i] for i in spread(len(tables), source.limit)]
    return tables, {
        "source": "localisations",
        "options": source.model_dump(mode="json"),
        "licence": "not stated (tables of the user)",
        "citation": "",
        "files": len(tables),
        "ignored": dict(sorted(ignored.items())),
    }


def _of_data_set(
    source: Source, files: Sequence[Path], stack: ExitStack
) -> tuple[list[_Table], dict[str, Any]]:
    """Return the tables of a public data set and what is known of them."""
    entry = entry_of(source)
    paths, hashes = checked_downloads(source, entry, files)
    scratch = Path(stack.enter_context(TemporaryDirectory()))
    archives = [stack.enter_context(open_archive(path)) for path in paths]
    holder = member_names(archives)
    every = find_samples(
        list(holder), entry.layout, paths[0], whole=not source.in_parts
    )
    samples = select(every, source, paths[0])
    tables = []
    for name, sample in zip(safe_ids([s.stem for s in samples]), samples, strict=True):
        archive, member = holder[sample.image]
        item = Item(name, Path(sample.image), None)
        unpacked = partial(_unpacked, archive, member, scratch)
        tables.append(_Table(item, sample.series or None, unpacked))
    counts = {"files": len(tables), "labelled": 0, "left_out": 0}
    info = describe_dataset(source, entry, hashes, counts)
    info["options"]["localisations"] = source.localisations.model_dump(mode="json")
    return tables, info


def _add(
    writer: ImageSetWriter, source: Source, table: _Table, findings: Findings
) -> None:
    """Draw one table, unless a writer that was killed has drawn the same one."""
    item = table.item
    group = table.group or item.identifier
    if source.group:
        group = _group_of(source, item)
    with table.open() as path:
        with explain_os_errors(path), path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        old = writer.rows.get(item.identifier)
        if old is not None and old["table_sha256"] == digest:
            return
        writer.rows.pop(item.identifier, None)
        drawing = draw_table(path, source.localisations)
    # After the first problem nothing is written, only checked.
    if not findings.problems:
        writer.add(
            item.identifier,
            drawing.image,
            pixel_size=source.voxel_size_um,
            group=group,
            stratum="x".join(map(str, drawing.image.shape)),
            table_sha256=digest,
            **drawing.facts,
        )


def acquire_localisations(
    source: Source, folder: Path, files: Sequence[Path] = ()
) -> None:
    """Make an image set of tables of localisations: one image, one group for each.

    Parameters
    ----------
    source : Source
        Section ``source`` of the config: tables or data set, group, limit, and in
        ``localisations`` how to draw them.
    folder : Path
        Folder of the new set: images (Y, X) of float32, molecules (or photons) per
        pixel. Its manifest tells of each table how many ``localisations`` are in the
        image, of the ``table_rows`` how many were ``dropped`` as impossible,
        ``filtered``, ``linked`` to another one or ``outside`` of the field, where the
        image lies (``left_nm``, ``top_nm``) and the drift that was corrected.
    files : sequence of Path
        Downloaded files of a public data set; empty: those in ``source.downloads``.

    Raises
    ------
    PhantomscopeError
        If there is no table, and, all listed together, for tables that cannot be read
        or drawn, see `draw_table`. Then no set is left.
    """
    findings = Findings()
    with ExitStack() as stack:
        if source.kind == "dataset":
            tables, info = _of_data_set(source, files, stack)
        else:
            tables, info = _own(source)
        with (
            ImageSetWriter(folder, info) as writer,
            Progress("drawing localisations", len(tables), unit="images") as progress,
        ):
            for table in tables:
                try:
                    _add(writer, source, table, findings)
                except PhantomscopeError as problem:
                    findings.note(table.item, problem)
                progress.advance()
            raise_problems(findings, source.path, len(tables))

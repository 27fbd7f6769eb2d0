"""ShareLoc's `.smlm`: a zip of binary tables, which `manifest.json` describes.

Format 0.2, https://github.com/imodpasteur/smlm-file-format (specification.md). Rows are
packed, little-endian; a column may be an array (`shape`); lengths are in nm unless
`units` says otherwise; `offset` of a file is added to its columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope.acquire.archive import DAMAGED, Archive, Member, open_archive
from phantomscope.acquire.localisations.columns import Header
from phantomscope.acquire.localisations.rows import Block
from phantomscope.errors import PhantomscopeError

MANIFEST = "manifest.json"
LONGEST_MANIFEST = 16 << 20
LONGEST_ROW = 1 << 20
DTYPES = {
    "int8": "<i1", "uint8": "<u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4",
    "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "float32": "<f4",
    "float64": "<f8",
}  # fmt: skip
# By the specification, where `units` is absent or empty.
IN_NM = ("x", "y", "z", "uncertainty", "x_precision", "y_precision", "z_precision")
AGAIN = "download it again, or export it again from the program that wrote it"


@dataclass(frozen=True)
class _Table:
    """One table of the archive."""

    header: Header
    member: Member
    dtype: np.dtype[Any]
    offsets: list[float]


@contextmanager
def explain_archive(path: Path) -> Iterator[None]:
    """Say what to do with a damaged archive that nobody downloaded for the user."""
    try:
        yield
    except PhantomscopeError as error:
        if error.fix != DAMAGED and "not an archive" not in error.what:
            raise
        raise PhantomscopeError(
            error.what, where=path, fix=AGAIN.replace("download", "copy or download")
        ) from error


def _wrong(path: Path, what: str) -> PhantomscopeError:
    return PhantomscopeError(f"{MANIFEST}: {what}", where=path, fix=AGAIN)


def _item(holder: Any, key: str, kind: type, path: Path, place: str) -> Any:
    """Return an entry of the manifest that must be there."""
    value = holder.get(key) if isinstance(holder, Mapping) else None
    if not isinstance(value, kind):
        names = {list: "a list", dict: "an object", str: "a text", int: "a number"}
        raise _wrong(path, f"`{place}{key}` must be {names[kind]}, it is {value!r:.60}")
    return value


def _manifest(archive: Archive) -> dict[str, Any]:
    path, member = archive.path, archive.members.get(MANIFEST)
    if member is None:
        found = ", ".join(list(archive.members)[:3]) or "nothing"
        raise PhantomscopeError(
            f"there is no {MANIFEST} in this archive, so it is no .smlm; it holds "
            f"{found}",
            where=path,
            fix="unpack it and give the table inside, or export it as .smlm or CSV",
        )
    if member.size > LONGEST_MANIFEST:
        raise _wrong(path, f"{member.size} bytes are too many")
    try:
        content = json.loads(archive.read(MANIFEST))
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"it is no JSON ({error})") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if not str(version).startswith("0."):
        raise _wrong(path, f"`format_version` is {version!r}, known are 0.1 and 0.2")
    return dict(content)


def _choose(
    manifest: Mapping[str, Any], channel: str | None, path: Path
) -> Mapping[str, Any]:
    """Return the entry of the one table to read."""
    files = _item(manifest, "files", list, path, "")
    tables = [f for f in files if isinstance(f, Mapping) and f.get("type") == "table"]
    if not tables:
        raise _wrong(path, "`files` has no entry of `type: table`")
    names = [f"{f.get('channel', '')} ({f.get('name')})" for f in tables]
    if channel is not None:
        tables = [f for f in tables if channel in (f.get("channel"), f.get("name"))]
    if len(tables) != 1:
        what = f"{len(tables)} tables" if channel is None else f"not one of {channel!r}"
        raise PhantomscopeError(
            f"this file has {what}: there are the channels {', '.join(names[:9])}",
            where=path,
            fix="say which one to read, by its channel or its name",
            example="localisations:\n  channel: alexa647",
        )
    return dict(tables[0])


def _columns(
    layout: Mapping[str, Any], path: Path, place: str
) -> tuple[list[str], np.dtype[Any]]:
    """Return titles with units, and how a row is packed."""
    names = _item(layout, "headers", list, path, place)
    kinds = _item(layout, "dtype", list, path, place)
    shapes, units = layout.get("shape") or [1] * len(names), layout.get("units") or []
    lengths = {len(names), len(kinds), len(shapes), len(units) or len(names)}
    if len(lengths) != 1 or not names:
        raise _wrong(
            path, f"`{place}headers`, `dtype`, `shape` and `units` differ in length"
        )
    cells: list[Any] = []
    for number, (name, kind, shape) in enumerate(
        zip(names, kinds, shapes, strict=True)
    ):
        sides = shape if isinstance(shape, list) else [shape]
        if kind not in DTYPES:
            raise _wrong(path, f"`{place}dtype` of {name!r} is {kind!r}, not one of "
                         f"{', '.join(DTYPES)}")  # fmt: skip
        if not all(type(side) is int and 0 < side <= LONGEST_ROW for side in sides):
            raise _wrong(path, f"`{place}shape` of {name!r} is {shape!r}")
        if math.prod(sides) > LONGEST_ROW:
            raise _wrong(path, f"`{place}shape` of {name!r} is {shape!r}: too large")
        cells.append((f"c{number}", DTYPES[kind], () if sides == [1] else tuple(sides)))
    given = units or [("nm" if name in IN_NM else "") for name in names]
    titles = [
        f"{name} [{unit}]" if unit and unit not in ("1", 1) else str(name)
        for name, unit in zip(names, given, strict=True)
    ]
    return titles, np.dtype(cells)


def _offsets(entry: Mapping[str, Any], names: list[str], path: Path) -> list[float]:
    """Return what is to be added to each column."""
    offset = entry.get("offset") or {}
    good = isinstance(offset, Mapping) and all(
        isinstance(v, (int, float)) and math.isfinite(v) for v in offset.values()
    )
    if not good:
        raise _wrong(path, f"`offset` must be numbers by column, it is {offset!r:.60}")
    return [float(offset.get(name, 0)) for name in names]


def _table(archive: Archive, channel: str | None) -> _Table:
    path, manifest = archive.path, _manifest(archive)
    entry = _choose(manifest, channel, path)
    key = _item(entry, "format", str, path, "files.")
    formats = _item(manifest, "formats", dict, path, "")
    place = f"formats.{key}."
    layout = _item(formats, key, dict, path, "formats.")
    if layout.get("mode") != "binary":
        raise PhantomscopeError(
            f"{MANIFEST}: `{place}mode` is {layout.get('mode')!r}, not 'binary'",
            where=path,
            fix="unpack the archive and give the text table inside",
        )
    titles, dtype = _columns(layout, path, place)
    name = _item(entry, "name", str, path, "files.")
    member = archive.members.get(name.removeprefix("./"))
    if member is None or member.is_folder:
        found = ", ".join(list(archive.members)[:5])
        raise _wrong(path, f"`files` names {name!r}, but the archive holds {found}")
    rows = _item(entry, "rows", int, path, "files.")
    if member.size != rows * dtype.itemsize:
        raise PhantomscopeError(
            f"{name} has {member.size} bytes, but {MANIFEST} says {rows} rows of "
            f"{dtype.itemsize} bytes: it is cut short, or not of this layout",
            where=path,
            fix=AGAIN,
        )
    header = Header(path, 0, titles, ",", "smlm")
    return _Table(header, member, dtype, _offsets(entry, layout["headers"], path))


@contextmanager
def open_smlm(path: Path, channel: str | None) -> Iterator[tuple[Header, Any]]:
    """Open a table of an archive.

    Parameters
    ----------
    path : Path
        The archive; no member of it is unpacked.
    channel : str, optional
        Channel or name of the table, where there are several.

    Yields
    ------
    header : Header
        Titles with units; find the columns before the first block.
    blocks : iterator of Block
        Rows, by about a megabyte.

    Raises
    ------
    PhantomscopeError
        Names the key of the manifest: where the archive is damaged, cut short or
        unsafe, or does not hold what the manifest says.
    """
    with explain_archive(path), open_archive(path) as archive:
        table = _table(archive, channel)
        yield table.header, _blocks(archive, table)


def _blocks(archive: Archive, table: _Table) -> Iterator[Block]:
    size, rest, first = table.dtype.itemsize, b"", 1
    for chunk in archive.chunks(table.member):
        rest += chunk
        count = len(rest) // size
        packed = np.frombuffer(rest, table.dtype, count)
        rest = rest[count * size :]
        if count:
            yield _values(table, packed), np.arange(first, first + count)
        first += count


def _values(table: _Table, packed: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the columns that are needed, in their own units."""
    values = {}
    for name, index in table.header.columns.items():
        column = packed[f"c{index}"]
        if column.ndim > 1:
            raise table.header.error(
                f"each cell is an array of {column.shape[1:]}, not a number",
                "say which column it is (`columns`)",
                column=table.header.titles[index],
            )
        values[name] = column.astype(np.float64) + table.offsets[index]
    return values

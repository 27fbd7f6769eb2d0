"""Joining the tables and sets of shards without holding them in memory."""

from __future__ import annotations

import csv
import heapq
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import (
    atomic_file,
    check_replaceable,
    replace_folder,
    write_json,
)
from phantomscope.locks import only_writer

Row = dict[str, Any]


def _header(path: Path) -> list[str]:
    with explain_os_errors(path), path.open(newline="", encoding="utf-8") as stream:
        return next(csv.reader(stream), [])


def _rows(path: Path) -> Iterator[Row]:
    with explain_os_errors(path), path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if None in row or None in row.values():
                raise PhantomscopeError(
                    "a row of this table has another number of cells than its header",
                    where=path,
                    fix="delete its folder and run the same command again",
                )
            yield row


def join_tables(
    target: Path,
    sources: Sequence[Path],
    *,
    every: int = 1,
    edit: Callable[[Row, Path], Row] | None = None,
    by: str | None = None,
) -> int:
    """Write the rows of several CSV files into one; cells are copied as text.

    Parameters
    ----------
    target : Path
        The new table. Its columns are those of all sources.
    sources : sequence of Path
        In the order that the rows shall have.
    every : int
        Keep only every n-th row.
    edit : callable, optional
        Changes a row; gets the source, too.
    by : str, optional
        Column by which each source is sorted; then the rows of all are.

    Returns
    -------
    int
        Number of rows written.
    """
    columns = list(dict.fromkeys(name for path in sources for name in _header(path)))

    def pairs(path: Path) -> Iterator[tuple[Row, Path]]:
        return ((row, path) for row in _rows(path))

    each = map(pairs, sources)
    rows = heapq.merge(*each, key=lambda pair: pair[0][by]) if by else chain(*each)
    seen = written = 0
    with atomic_file(target) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
            table.writeheader()
            for row, path in rows:
                if seen % every == 0:
                    table.writerow(edit(row, path) if edit else row)
                    written += 1
                seen += 1
    return written


def relative_to(folder: Path) -> Callable[[Row, Path], Row]:
    """Return an edit that makes a manifest's paths relative to another folder."""

    def edit(row: Row, manifest: Path) -> Row:
        prefix = os.path.relpath(manifest.parent, folder)
        for name in ("image", "mask", "target", "tracks", "cells", "others"):
            if row.get(name):
                row[name] = os.path.normpath(f"{prefix}/{row[name]}")
        return row

    return edit


def concatenate(
    partial: Path, final: Path, parts: Sequence[Path], info: Mapping[str, Any],
    by: str | None = None,
) -> int:  # fmt: skip
    """Write a set whose manifest points into other sets; no pixel is copied.

    Parameters
    ----------
    partial, final : Path
        Folder to write into, and the name that it will get.
    parts : sequence of Path
        Folders of the sets, in the order that the manifest shall have.
    info : Mapping
        Content of `info.json`.
    by : str, optional
        Column that gives the order instead, as in `join_tables`.

    Returns
    -------
    int
        Number of images.
    """
    write_json(partial / "info.json", dict(info))
    manifests = [part / "manifest.csv" for part in parts]
    return join_tables(
        partial / "manifest.csv", manifests, edit=relative_to(final), by=by
    )


def join_sets(
    final: Path, parts: Sequence[Path], info: Mapping[str, Any],
    finish: Callable[[Path], None], by: str | None = None,
) -> None:  # fmt: skip
    """Do as `concatenate`, with the final name only when all is written.

    `finish` writes what lies beside the manifest into the folder that it is given, and
    may raise: then there is no set.
    """
    check_replaceable(final)
    partial = final.with_name(f".{final.name}.partial")
    with only_writer(final):
        shutil.rmtree(partial, ignore_errors=True)
        concatenate(partial, final, parts, info, by)
        finish(partial)
        replace_folder(partial, final)

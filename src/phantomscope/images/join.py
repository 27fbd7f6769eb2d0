"""Joining the tables and sets of shards without holding them in memory."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import atomic_file, write_json

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

    Returns
    -------
    int
        Number of rows written.
    """
    columns = list(dict.fromkeys(name for path in sources for name in _header(path)))
    seen = written = 0
    with atomic_file(target) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
            table.writeheader()
            for path in sources:
                for row in _rows(path):
                    if seen % every == 0:
                        table.writerow(edit(row, path) if edit else row)
                        written += 1
                    seen += 1
    return written


def relative_to(folder: Path) -> Callable[[Row, Path], Row]:
    """Return an edit that makes a manifest's paths relative to another folder."""

    def edit(row: Row, manifest: Path) -> Row:
        prefix = os.path.relpath(manifest.parent, folder)
        for name in ("image", "mask", "target", "tracks", "cells"):
            if row.get(name):
                row[name] = os.path.normpath(f"{prefix}/{row[name]}")
        return row

    return edit


def concatenate(
    partial: Path, final: Path, parts: Sequence[Path], info: Mapping[str, Any]
) -> int:
    """Write a set whose manifest points into other sets; no pixel is copied.

    Parameters
    ----------
    partial, final : Path
        Folder to write into, and the name that it will get.
    parts : sequence of Path
        Folders of the sets, in the order that the manifest shall have.
    info : Mapping
        Content of `info.json`.

    Returns
    -------
    int
        Number of images.
    """
    write_json(partial / "info.json", dict(info))
    manifests = [part / "manifest.csv" for part in parts]
    return join_tables(partial / "manifest.csv", manifests, edit=relative_to(final))

"""The bytes and the header of a text table of localisations."""

from __future__ import annotations

import gzip
import io
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from phantomscope.acquire.localisations.columns import Header
from phantomscope.errors import PhantomscopeError, explain_os_errors

LONGEST_LINE = 1 << 20
NUMBER = re.compile(
    r"\s*[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)\s*", re.I | re.A
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_OTHER_FORMATS = {
    b"PK\3\4": ("a ZIP archive or a spreadsheet", "unpack it, or save it as CSV"),
    b"\x89HDF": ("an HDF5 file", "export it as CSV"),
    b"\x1f\x8b": ("compressed twice", "unpack it once"),
    b"%PDF": ("a PDF document", "give the table itself"),
}
_EXAMPLE = "x [nm],y [nm],frame\n7057.7,31837.0,1"


def first_bytes(path: Path, count: int) -> bytes:
    """Return how a file begins; what is no file is refused."""
    with explain_os_errors(path):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise PhantomscopeError(
                "this is a device or a pipe, not a file", where=path, fix="name a file"
            )
        with path.open("rb") as raw:
            return raw.read(count)


@contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """Open a table as text; its content tells what it is, not its name."""
    first_bytes(path, 0)
    with explain_os_errors(path):
        with path.open("rb") as raw:
            packed = raw.peek(2).startswith(b"\x1f\x8b")
            binary = gzip.GzipFile(fileobj=raw) if packed else raw
            with explain_damage(path, 0):
                head = binary.peek(4096)[:4096]
            _refuse_other_formats(head, path)
            encoding = "utf-16" if head.startswith(_UTF16) else "utf-8-sig"
            # Bytes that are no text spoil a cell, which is then named.
            yield io.TextIOWrapper(binary, encoding, errors="replace")


@contextmanager
def explain_damage(path: Path, line: int) -> Iterator[None]:
    """Turn what gzip says about damage after a line into a `PhantomscopeError`."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise PhantomscopeError(
            f"the file is damaged or cut short after line {line} ({error})",
            where=path,
            fix="download, copy or export it again",
        ) from error


def too_long(path: Path, line: int) -> PhantomscopeError:
    """Return the error about a line that no table has."""
    return PhantomscopeError(
        f"line {line} has more than a million characters",
        where=path,
        fix="give a text table with one localisation per line",
    )


def _refuse_other_formats(head: bytes, path: Path) -> None:
    """Say what a file is that is no table; `head` are its first bytes."""
    for magic, (what, fix) in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise PhantomscopeError(
                f"this is {what}, not a table of localisations", where=path, fix=fix
            )
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise PhantomscopeError(
            "this is a web page or XML, not a table of localisations",
            where=path,
            fix="download the file behind that page, not the page",
        )
    if not head.startswith(_UTF16) and re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        raise PhantomscopeError(
            "this is a binary file (or UTF-16 without a mark), not a text table",
            where=path,
            fix="export the localisations as CSV, UTF-8",
        )


def _split(text: str, path: Path, line: int) -> Header:
    """Read a header line, which also tells the delimiter."""
    header = Header(path, line, [], next((d for d in "\t;," if d in text), None))
    header.titles = [title.strip() for title in header.cells(text)]
    # ThunderSTORM names all units in brackets; others glue them on, or leave them out.
    plain = {title.lower() for title in header.titles}
    if {"x [nm]", "y [nm]"} <= plain or {"x [px]", "y [px]"} <= plain:
        header.format = "thunderstorm"
    return header


def read_header(stream: TextIO, path: Path) -> tuple[Header, str]:
    """Find the header, after comments and empty lines.

    Returns
    -------
    header : Header
        Its `line` is the last that was read.
    first : str
        A line of data that was read already, if the header is a comment.
    """
    comment, number = "", 0
    while True:
        with explain_damage(path, number):
            text = stream.readline(LONGEST_LINE)
        if len(text) >= LONGEST_LINE:
            raise too_long(path, number + 1)
        if not text:
            what = "there is no header line" if number else "the file is empty"
            fix = "export or download the table again"
            raise PhantomscopeError(what, where=path, fix=fix, example=_EXAMPLE)
        number += 1
        if text.startswith("#"):
            comment = text.lstrip("# ").rstrip()
        elif text.strip():
            break
    header = _split(text, path, number)
    if not all(NUMBER.fullmatch(title) for title in header.titles):
        return header, ""
    # The data begin here, so the header must be the comment before.
    fields = re.findall(r"<field [^<>]*>", comment)
    if fields:
        header.titles = [_rapidstorm_title(text) for text in fields]
        header.line -= 1
        header.format = "rapidstorm"
        return header, text
    from_comment = _split(comment, path, number - 1)
    if comment and len(from_comment.titles) == len(header.titles):
        return from_comment, text
    raise header.error(
        "there is no header line: the table begins with numbers",
        "add a line that names the columns and their units",
        example=_EXAMPLE,
    )


def _rapidstorm_title(text: str) -> str:
    found = dict(re.findall(r'(identifier|unit)="([^"]*)"', text))
    return f"{found.get('identifier', '')} [{found.get('unit', '')}]"

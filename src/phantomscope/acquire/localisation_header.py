"""What a table of localisations is: its bytes, header, columns and units."""

from __future__ import annotations

import csv
import gzip
import io
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from phantomscope.errors import PhantomscopeError, explain_os_errors

Unit = Literal["nm", "um", "px"]

FIELDS = ("x", "y", "frame", "photons", "uncertainty")
LENGTHS = ("x", "y", "uncertainty")
LONGEST_LINE = 1 << 20
LONGEST_TITLE = 200
NUMBER = re.compile(
    r"\s*[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)\s*", re.I | re.A
)
_NAMES = {
    "x": ("x", "x position", "position x", "position-0-0"),
    "y": ("y", "y position", "position y", "position-1-0"),
    "frame": ("frame", "imagenumber-0-0"),
    "photons": ("photons", "phot", "number photons", "intensity"),
    "uncertainty": ("uncertainty", "uncertainty_xy", "locprec", "precision"),
}
# The last is the micro sign of an old code page, read as UTF-8.
_MICRO = ("um", "µm", "μm", "micrometer", "micrometre", "\ufffdm")
_UNITS: dict[str, Unit] = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), "nm"),
    **dict.fromkeys(_MICRO, "um"),
    **dict.fromkeys(("px", "pix", "pixel", "pixels"), "px"),
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_OTHER_FORMATS = {
    b"PK\3\4": ("a ZIP archive or a spreadsheet", "unpack it, or save it as CSV"),
    b"\x89HDF": ("an HDF5 file", "export it as CSV"),
    b"\x1f\x8b": ("compressed twice", "unpack it once"),
    b"%PDF": ("a PDF document", "give the table itself"),
}
_EXAMPLE = "x [nm],y [nm],frame\n7057.7,31837.0,1"


@dataclass
class Header:
    """How to read a table.

    Attributes
    ----------
    path : Path
        The file.
    line : int
        Line of the header, counted from 1.
    titles : list of str
        Titles of the columns.
    delimiter : str or None
        What separates cells; None is blanks.
    columns : dict
        Field (``x``, ``frame`` ...) to the index of its column.
    nm : dict
        Field to the nm in one unit of its column, for x, y and uncertainty.
    """

    path: Path
    line: int
    titles: list[str]
    delimiter: str | None
    columns: dict[str, int] = field(default_factory=dict)
    nm: dict[str, float] = field(default_factory=dict)

    def cells(self, line: str) -> list[str]:
        """Split a line."""
        if self.delimiter is None:
            return line.split()
        try:
            rows = csv.reader([line], delimiter=self.delimiter, skipinitialspace=True)
            return next(rows, [])
        except csv.Error:
            return line.split(self.delimiter)

    def width(self, line: str) -> int:
        """Count the cells of a line, without regard to quotes."""
        if self.delimiter is None:
            return len(line.split())
        return line.count(self.delimiter) + 1

    def title(self, name: str) -> str:
        """Return the title of the column of a field."""
        return self.titles[self.columns[name]]

    def error(
        self, what: str, fix: str, *, line: int = 0, column: str = "", example: str = ""
    ) -> PhantomscopeError:
        """Return an error that names line and column; the line of the header is 0."""
        place = f"line {line or self.line}" + (f", column `{column}`" if column else "")
        return PhantomscopeError(
            f"{place}: {what}", where=self.path, fix=fix, example=example
        )


@contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """Open a table as text; its content tells what it is, not its name."""
    with explain_os_errors(path):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise PhantomscopeError(
                "this is a device or a pipe, not a file", where=path, fix="name a file"
            )
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


def _name_and_unit(title: str) -> tuple[str, str]:
    """Split ``x [nm]``, ``x (nm)``, ``x_nm`` or ``xnm``; the unit may be absent."""
    plain = title[:LONGEST_TITLE].lower()
    match = re.fullmatch(r"([^\[(]*?)\s*[\[(]\s*([^\])]*?)\s*[\])]", plain)
    match = match or re.fullmatch(r"(x|y|locprec)[ _]?(nm|um|px|pix)", plain)
    return (match[1], match[2]) if match else (plain, "")


def _fits(name: str, title: str) -> bool:
    plain, unit = _name_and_unit(title)
    if name == "photons" and not unit.startswith("photon"):
        # An intensity in counts of the camera is no number of photons.
        return not unit and plain in _NAMES[name] and plain != "intensity"
    return plain in _NAMES[name]


def _find_column(header: Header, name: str, wanted: str | None) -> int | None:
    """Return the index of the column of a field, None if there is none."""
    found = [
        index
        for index, title in enumerate(header.titles)
        if (title == wanted if wanted is not None else _fits(name, title))
    ]
    if len(found) > 1:
        both = " and ".join(repr(header.titles[i]) for i in found[:5])
        raise header.error(
            f"more than one column for {name}: {both}",
            "say which one, or rename the other",
            example=f"columns={{{name!r}: {header.titles[found[0]]!r}}}",
        )
    if not found and (wanted is not None or name in ("x", "y")):
        shown = ", ".join(repr(title[:40]) for title in header.titles[:20])
        what = f"named {wanted!r}" if wanted is not None else f"for {name}"
        raise header.error(
            f"no column {what}; the header has {shown or 'nothing'}",
            "name the columns in the header, separated by commas, semicolons, tabs or "
            "blanks; or say which is which",
            example=f"columns={{{name!r}: {(header.titles or ['x'])[0][:40]!r}}}",
        )
    return found[0] if found else None


def _nm_per_unit(
    header: Header, title: str, given: Unit | None, pixel_size: float | None
) -> float:
    """Return nm in one unit of a column; header and argument must agree."""
    text = _name_and_unit(title)[1]
    stated = _UNITS.get(text)
    if text and stated is None:
        raise header.error(f"unknown unit {text!r}", "use nm, um or px", column=title)
    if given and stated and given != stated:
        raise header.error(
            f"the unit is {stated}, but `unit` says {given}",
            "leave out `unit`, or mend the header",
            column=title,
        )
    unit = stated or given
    if unit is None:
        raise header.error(
            "the unit is not known",
            "give `unit` (nm, um or px), or write it into the header",
            column=title,
            example="unit='nm'; or the header: x [nm],y [nm]",
        )
    if unit == "px" and pixel_size is None:
        raise header.error(
            "these are pixels of the camera, of unknown size",
            "give `pixel_size` in nm",
            column=title,
            example="unit='px', pixel_size=108.0",
        )
    return {"nm": 1.0, "um": 1000.0, "px": pixel_size or 0.0}[unit]


def find_columns(
    header: Header,
    columns: Mapping[str, str],
    unit: Unit | None,
    pixel_size: float | None,
) -> None:
    """Fill `columns` and `nm` of a header; the arguments are `read_localisations`'."""
    strange = sorted(set(columns) - set(FIELDS))
    if strange:
        raise PhantomscopeError(
            f"there is no field {strange[0]!r}",
            where="columns",
            fix=f"use {', '.join(FIELDS)}",
        )
    if unit not in (None, "nm", "um", "px"):
        raise PhantomscopeError(
            f"unknown unit {unit!r}", where="unit", fix="use nm, um or px"
        )
    if pixel_size is not None and not 0 < pixel_size < np.inf:
        raise PhantomscopeError(
            f"a pixel of {pixel_size} nm", where="pixel_size", fix="give its side in nm"
        )
    for name in FIELDS:
        index = _find_column(header, name, columns.get(name))
        if index is not None:
            header.columns[name] = index
    for name in LENGTHS:
        if name in header.columns:
            title = header.title(name)
            if name == "uncertainty" and not _name_and_unit(title)[1]:
                header.nm[name] = header.nm["x"]
            else:
                header.nm[name] = _nm_per_unit(header, title, unit, pixel_size)

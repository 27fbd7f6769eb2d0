"""Localisation tables of single-molecule microscopy: text files of x, y and more.

ThunderSTORM, rapidSTORM, and other tables with a header line. A table may have 10^8
rows: it is read block by block, and `localisation_chunks` never holds more than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.localisation_header import (
    FIELDS,
    LONGEST_LINE,
    NUMBER,
    Header,
    Unit,
    explain_damage,
    find_columns,
    open_table,
    read_header,
    too_long,
)
from phantomscope.errors import PhantomscopeError

Float = NDArray[np.float64]
Int = NDArray[np.int64]

# Width of a field of view in nm: beyond, the unit was most often mixed up.
EXTENT = (300.0, 5e6)
# Median uncertainty in nm, in the same sense.
PRECISION = (0.1, 2000.0)
# A table of fewer rows may be one molecule: its width says nothing.
FEWEST = 100
FARTHEST = 1e9  # nm: a metre from the origin
LAST_FRAME = 2**53
BLOCK = 1 << 22


@dataclass(frozen=True)
class TableSource:
    """Where localisations come from.

    Attributes
    ----------
    path : Path
        The file.
    columns : dict
        Field (``x``, ``frame`` ...) to the title of the column read for it.
    nm : dict
        Field to the nm in one unit of its column, for x, y and uncertainty.
    rows : int
        Rows of the table up to the last of these localisations.
    dropped : int
        How many of these rows were left out (`drop_invalid`).
    """

    path: Path
    columns: dict[str, str]
    nm: dict[str, float]
    rows: int
    dropped: int


@dataclass(frozen=True)
class Localisations:
    """Localised molecules, N of them.

    Attributes
    ----------
    x, y : ndarray, shape (N,)
        float64, nm.
    frame : ndarray or None, shape (N,)
        int64, counted as in the file; None if the table has no such column.
    photons, uncertainty : ndarray or None, shape (N,)
        float64; `uncertainty` is the standard deviation of the position in nm.
    source : TableSource
        File, columns and counts.
    """

    x: Float
    y: Float
    frame: Int | None
    photons: Float | None
    uncertainty: Float | None
    source: TableSource

    def __len__(self) -> int:
        return len(self.x)


def _blocks(
    stream: TextIO, header: Header, first: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of a line and many whole lines from there on."""
    number, rest = header.line + 1, first
    while True:
        with explain_damage(header.path, number - 1):
            text = stream.read(BLOCK)
        lines = (rest + text).split("\n")
        rest = lines.pop() if text else ""
        if len(rest) > LONGEST_LINE:
            raise too_long(header.path, number + len(lines))
        yield number, lines
        number += len(lines)
        if not text:
            return


def _whole_rows(header: Header, lines: list[str], first: int) -> tuple[list[str], Int]:
    """Leave out empty lines and comments; every other must be as wide as the header.

    Returns
    -------
    rows : list of str
    numbers : ndarray
        The line of each.
    """
    width, numbers = len(header.titles), np.arange(first, first + len(lines))
    if all(header.width(line) == width for line in lines):
        return lines, numbers
    kept = [i for i, s in enumerate(lines) if s.strip() and not s.startswith("#")]
    for i in kept:
        found = header.width(lines[i])
        if found != width:
            raise header.error(
                f"{found} cells, but the header names {width} columns",
                "the file may be cut short, or have decimal commas or another "
                "delimiter than its header: export it again",
                line=int(numbers[i]),
            )
    return [lines[i] for i in kept], numbers[kept]


def _numbers(
    header: Header, rows: list[str], lines: Int, decimal: str
) -> dict[str, Float]:
    """Read the cells of the columns that are needed, in the units of the file."""
    if decimal != "." and header.delimiter != decimal:
        rows = [row.replace(decimal, ".") for row in rows]
    try:
        values = np.loadtxt(
            rows, np.float64, None, header.delimiter, None, 0,
            list(header.columns.values()), ndmin=2, quotechar='"',
        )  # fmt: skip
    except ValueError as error:
        raise _no_number(header, rows, lines) from error
    if len(values) != len(rows):  # an open quote swallows the next line
        raise _no_number(header, rows, lines)
    return {name: values[:, i] for i, name in enumerate(header.columns)}


def _no_number(header: Header, rows: list[str], lines: Int) -> PhantomscopeError:
    """Find the first cell that cannot be read."""
    for row, line in zip(rows, lines, strict=True):
        if row.count('"') % 2:
            raise header.error(
                "a quote is not closed", "mend or remove this line", line=int(line)
            )
        cells = header.cells(row)
        for name, index in header.columns.items():
            cell = cells[index] if index < len(cells) else ""
            if NUMBER.fullmatch(cell):
                continue
            comma = "," in cell and header.delimiter != ","
            return header.error(
                f"{cell[:40]!r} is no number" if cell.strip() else "the cell is empty",
                "export with decimal points, or say `decimal=','`"
                if comma
                else "mend or remove this line, or export the table again",
                line=int(line),
                column=header.title(name),
            )
    what = f"this line or one up to {lines[-1]} cannot be read as numbers"
    return header.error(what, "export the table again", line=int(lines[0]))


def _reason(name: str, value: float) -> str:
    """Say what is wrong with a value that was refused."""
    if not np.isfinite(value):
        return f"the value is {value}"
    if name == "frame":
        return f"{value:g} is no number of a frame"
    if name == "photons":
        return f"{value:g} photons"
    if name == "uncertainty":
        return f"an uncertainty of {value:g}"
    return f"{value:g} is more than a metre from the origin"


def _good(name: str, values: Float, nm: float) -> NDArray[np.bool_]:
    """Tell which values are possible; `values` are in the units of the file."""
    good = np.isfinite(values)
    if name == "frame":
        good &= (values >= 0) & (values <= LAST_FRAME) & (values == np.floor(values))
    elif name == "photons":
        good &= values >= 0
    elif name == "uncertainty":
        good &= values > 0
    else:
        good &= np.abs(values) * nm <= FARTHEST
    return good


def _possible(
    header: Header, values: dict[str, Float], lines: Int, drop: bool
) -> NDArray[np.bool_]:
    """Return the rows to keep; an impossible value is an error unless `drop`."""
    good = {n: _good(n, v, header.nm.get(n, 1.0)) for n, v in values.items()}
    keep = np.logical_and.reduce(list(good.values()))
    if not drop and not keep.all():
        row = int(np.argmin(keep))
        name = next(n for n in good if not good[n][row])
        raise header.error(
            _reason(name, float(values[name][row])),
            "mend or remove this line; `drop_invalid=True` leaves out and counts all "
            "such rows",
            line=int(lines[row]),
            column=header.title(name),
        )
    return np.asarray(keep)


@dataclass
class _Scale:
    """The width of what was read, and where its ends are: tells a slip of the unit."""

    header: Header
    rows: int = 0
    fine: int = 0
    coarse: int = 0
    ends: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def add(self, part: Localisations, lines: Int) -> None:
        self.rows += len(part)
        if part.uncertainty is not None:
            self.fine += int((part.uncertainty < PRECISION[0]).sum())
            self.coarse += int((part.uncertainty > PRECISION[1]).sum())
        for name, values in (("x", part.x), ("y", part.y)):
            places = (int(values.argmin()), int(values.argmax()))
            new = [(float(values[i]), int(lines[i])) for i in places]
            old = self.ends.get(name, new)
            self.ends[name] = [min(old[0], new[0]), max(old[1], new[1])]

    def check(self, extent: tuple[float, float]) -> None:
        """Refuse a table that is too wide or too narrow for a field of view."""
        widths = {name: high[0] - low[0] for name, (low, high) in self.ends.items()}
        name = max(widths, key=lambda n: widths[n])
        (low, first), (high, last) = self.ends[name]
        narrow = self.rows >= FEWEST and widths[name] < extent[0]
        if narrow or widths[name] > extent[1]:
            raise self.header.error(
                f"{low:g} nm here and {high:g} nm in line {last}: the field would be "
                f"{widths[name]:g} nm wide, which is hardly possible",
                "check the unit in the header or `unit` (um, px and nm are easily "
                "mixed up) and these lines; if it is right, give `extent`",
                line=first,
                column=self.header.title(name),
            )
        for count, limit in ((self.fine, "below 0.1"), (self.coarse, "above 2000")):
            if self.rows >= FEWEST and 2 * count > self.rows:
                raise self.header.error(
                    f"{count} of {self.rows} values are {limit} nm, which is hardly "
                    "possible",
                    "check the unit in the header or `unit` (um, px and nm are easily "
                    "mixed up)",
                    column=self.header.title("uncertainty"),
                )


def localisation_chunks(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    unit: Unit | None = None,
    pixel_size: float | None = None,
    decimal: str = ".",
    extent: tuple[float, float] = EXTENT,
    drop_invalid: bool = False,
) -> Iterator[Localisations]:
    """Read a table of localisations in parts, a few ten thousand rows at a time.

    Parameters are those of `read_localisations`. The width of the whole table can only
    be judged at its end: trust no part before the last one was read.

    Yields
    ------
    Localisations
        In the order of the file; none is empty.
    """
    with open_table(Path(path)) as stream:
        header, first = read_header(stream, Path(path))
        find_columns(header, columns or {}, unit, pixel_size)
        titles = {name: header.title(name) for name in header.columns}
        scale, rows, dropped = _Scale(header), 0, 0
        for number, text in _blocks(stream, header, first):
            whole, lines = _whole_rows(header, text, number)
            if not whole:
                continue
            values = _numbers(header, whole, lines, decimal)
            keep = _possible(header, values, lines, drop_invalid)
            rows, dropped = rows + len(keep), dropped + int((~keep).sum())
            if not keep.any():
                continue
            found: dict[str, Any] = {
                name: values[name][keep] * header.nm.get(name, 1.0)
                if name in values
                else None
                for name in FIELDS
            }
            if found["frame"] is not None:
                found["frame"] = found["frame"].astype(np.int64)
            source = TableSource(header.path, titles, header.nm, rows, dropped)
            part = Localisations(**found, source=source)
            scale.add(part, lines[keep])
            yield part
        if not scale.rows:
            what = f"none of the {rows} rows below is possible"
            what = what if rows else "there is a header, but no localisation below"
            raise header.error(what, "export or download the table again")
        scale.check(extent)


def read_localisations(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    unit: Unit | None = None,
    pixel_size: float | None = None,
    decimal: str = ".",
    extent: tuple[float, float] = EXTENT,
    drop_invalid: bool = False,
) -> Localisations:
    """Read a table of localisations.

    Cells are separated by commas, semicolons, tabs or blanks. The file may be
    compressed by gzip; its content tells, not its name. Lengths may be in nm, um or
    px. `uncertainty` without a unit has that of x.

    Parameters
    ----------
    path : Path or str
        CSV, TSV or text file, UTF-8 or UTF-16, with a header line.
    columns : Mapping, optional
        Field (``x``, ``y``, ``frame``, ``photons``, ``uncertainty``) to the title of
        its column, where the usual titles do not fit: ``{"uncertainty": "lpx"}``.
    unit : {"nm", "um", "px"}, optional
        Unit of the lengths, if the header does not say it.
    pixel_size : float, optional
        Side of a pixel of the camera in nm, for lengths in px.
    decimal : str
        ``","`` for decimal commas.
    extent : tuple of float
        Smallest (from 100 rows on) and largest width of the field of view in nm.
    drop_invalid : bool
        Leave out rows with NaN, infinite or impossible values and count them in
        `source.dropped`.

    Raises
    ------
    PhantomscopeError
        Names file, line and column: for files of another kind, damaged or empty ones,
        missing or ambiguous columns, ragged lines, cells that are no number, and,
        without `drop_invalid`, values that cannot be: NaN, infinite, negative photons,
        an uncertainty of 0, frames that are no whole numbers. Also for a table whose
        width or uncertainty says that its unit was mixed up.
    """
    pieces: dict[str, list[Any]] = {name: [] for name in FIELDS}
    source: TableSource | None = None
    try:
        for part in localisation_chunks(
            path, columns=columns, unit=unit, pixel_size=pixel_size, decimal=decimal,
            extent=extent, drop_invalid=drop_invalid,
        ):  # fmt: skip
            source = part.source
            for name in FIELDS:
                pieces[name].append(getattr(part, name))
        # One field after the other, so that the parts of each are freed early.
        whole: dict[str, Any] = {
            name: np.concatenate(found) if (found := pieces.pop(name))[0] is not None
            else None
            for name in FIELDS
        }  # fmt: skip
    except MemoryError as error:
        raise PhantomscopeError(
            "the table does not fit into memory",
            where=path,
            fix="cut it into parts, or read it with `localisation_chunks`",
        ) from error
    assert source is not None  # `localisation_chunks` yields or raises
    return Localisations(**whole, source=source)

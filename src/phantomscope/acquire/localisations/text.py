"""Rows of a text table of localisations, many thousand lines at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import repeat
from typing import TextIO

import numpy as np
import pandas as pd

from phantomscope.acquire.localisations.columns import Header
from phantomscope.acquire.localisations.header import (
    LONGEST_LINE,
    NUMBER,
    explain_damage,
    too_long,
)
from phantomscope.acquire.localisations.rows import Block
from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations.table import Float, Int

BLOCK = 1 << 22


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
    if header.delimiter is not None:
        # Without a call of ours for each of 10^8 lines.
        cells = set(map(str.count, lines, repeat(header.delimiter)))
        if cells == {width - 1}:
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
    if (fast := _fast(header, rows)) is not None:
        return fast
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


def _fast(header: Header, rows: list[str]) -> dict[str, Float] | None:
    """Read plain numbers four times as fast; None if any cell is something else."""
    indices = list(header.columns.values())
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(rows)), sep=header.delimiter or r"\s+", header=None,
            usecols=sorted(set(indices)), dtype=np.float64, skipinitialspace=True,
            keep_default_na=False, skip_blank_lines=False, engine="c",
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError, OverflowError):
        return None
    if len(table) != len(rows):
        return None
    return {name: table[i].to_numpy() for name, i in header.columns.items()}


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


def text_blocks(
    stream: TextIO, header: Header, first: str, decimal: str
) -> Iterator[Block]:
    """Yield the rows below a header, block by block.

    Parameters
    ----------
    stream : TextIO
        What is left of the file.
    header : Header
        Its columns are known.
    first : str
        A line of data that was read already.
    decimal : str
        Decimal point of the numbers.
    """
    for number, text in _blocks(stream, header, first):
        rows, lines = _whole_rows(header, text, number)
        if rows:
            yield _numbers(header, rows, lines, decimal), lines

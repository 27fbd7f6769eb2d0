"""Tables of localised molecules, in any of the common formats.

ShareLoc's `.smlm`, Picasso's HDF5, and text: ThunderSTORM, rapidSTORM, SMAP and other
tables with a header line. A table may have 10^8 rows: it is read block by block, and
`localisation_chunks` never holds more than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, Unpack, get_args

from phantomscope.acquire.archive import open_archive
from phantomscope.acquire.localisations.columns import Header, Unit, find_columns
from phantomscope.acquire.localisations.header import (
    first_bytes,
    open_table,
    read_header,
)
from phantomscope.acquire.localisations.picasso import open_picasso
from phantomscope.acquire.localisations.rows import EXTENT, Block, checked_parts
from phantomscope.acquire.localisations.smlm import MANIFEST, open_smlm
from phantomscope.acquire.localisations.text import text_blocks
from phantomscope.config.localisations import Format
from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations.table import Localisations, joined

FORMATS: tuple[str, ...] = get_args(Format)
BINARY = ("smlm", "picasso")


class Options(TypedDict, total=False):
    """How a table is read; see `read_localisations`."""

    format: Format
    columns: Mapping[str, str] | None
    unit: Unit | None
    pixel_size: float | None
    channel: str | None
    decimal: str
    extent: tuple[float, float]
    drop_invalid: bool


def detect_format(path: Path) -> str:
    """Tell the format of a table by its content.

    Returns
    -------
    str
        ``smlm``, ``picasso`` or, of any other file, ``text``.
    """
    head = first_bytes(path, 1 << 16)
    if head.startswith(b"\x89HDF"):
        return "picasso"
    if not head.startswith(b"PK\3\4"):
        return "text"
    # The name helps where the archive is cut short, so that its list is missing.
    if MANIFEST.encode() in head or path.suffix.lower() == ".smlm":
        return "smlm"
    try:
        with open_archive(path) as archive:
            return "smlm" if MANIFEST in archive.members else "text"
    except PhantomscopeError:
        return "text"


@contextmanager
def _opened(
    path: Path, given: Format, options: Options
) -> Iterator[tuple[Header, Iterator[Block]]]:
    """Open a table and find its columns."""
    kind = detect_format(path) if given == "auto" or given not in BINARY else given
    if given not in ("auto", *BINARY) and kind in BINARY:
        raise _other_format(path, kind, given)
    first_bytes(path, 0)
    wanted, unit = options.get("columns") or {}, options.get("unit")
    size = options.get("pixel_size")
    if kind == "smlm":
        with open_smlm(path, options.get("channel")) as (header, blocks):
            find_columns(header, wanted, unit, size)
            yield header, blocks
    elif kind == "picasso":
        with open_picasso(path, size) as (header, blocks, stated):
            find_columns(header, wanted, unit, stated)
            yield header, blocks
    else:
        with open_table(path) as stream:
            header, first = read_header(stream, path)
            # Any text is a table with a header line: `csv` takes all of them.
            if given not in ("auto", "csv", header.format):
                raise _other_format(path, header.format, given)
            find_columns(header, wanted, unit, size)
            decimal = options.get("decimal", ".")
            yield header, text_blocks(stream, header, first, decimal)


def _other_format(path: Path, found: str, given: str) -> PhantomscopeError:
    return PhantomscopeError(
        f"this looks like {found}, but `format` says {given}",
        where=path,
        fix=f"leave out `format`, or say `format: {found}`",
    )


def localisation_chunks(
    path: Path | str, **options: Unpack[Options]
) -> Iterator[Localisations]:
    """Read a table of localisations in parts, a few ten thousand rows at a time.

    Parameters and errors are those of `read_localisations`. The width of the whole
    table can only be judged at its end: trust no part before the last one was read.

    Yields
    ------
    Localisations
        In the order of the file; none is empty.
    """
    given = options.get("format", "auto")
    if given not in FORMATS:
        raise PhantomscopeError(
            f"unknown format {given!r}", where="format", fix=f"use {', '.join(FORMATS)}"
        )
    extent, drop = options.get("extent", EXTENT), options.get("drop_invalid", False)
    with _opened(Path(path), given, options) as (header, blocks):
        yield from checked_parts(header, blocks, extent, drop)


def read_localisations(path: Path | str, **options: Unpack[Options]) -> Localisations:
    """Read a table of localisations.

    Cells of a text table are separated by commas, semicolons, tabs or blanks. It may be
    compressed by gzip; its content tells, not its name. Lengths may be in nm, um or px.
    `uncertainty` without a unit has that of x, z as well, but is never in px. Where the
    precision along x and along y are two columns, the root of their mean square is
    taken.

    Parameters
    ----------
    path : Path or str
        Zip of ShareLoc, HDF5 file of Picasso, or CSV, TSV or text file, UTF-8 or
        UTF-16, with a header line.
    format : {"auto", "smlm", "picasso", "thunderstorm", "rapidstorm", "csv"}
        By default the content tells; another one than that is refused. `csv` is any
        text table, such as those of SMAP.
    columns : Mapping, optional
        Field (``x``, ``y``, ``z``, ``frame``, ``photons``, ``uncertainty``,
        ``background``) to the title of its column, where the usual titles do not fit:
        ``{"uncertainty": "lpx"}``.
    unit : {"nm", "um", "px"}, optional
        Unit of the lengths, if the header does not say it.
    pixel_size : float, optional
        Side of a pixel of the camera in nm, for lengths in px.
    channel : str, optional
        Channel or name of the table in an `.smlm` that has several.
    decimal : str
        ``","`` for decimal commas.
    extent : tuple of float
        Smallest (from 100 rows on) and largest width of the field of view in nm.
    drop_invalid : bool
        Leave out rows with NaN, infinite or impossible values and count them in
        `source.dropped`.

    Returns
    -------
    Localisations
        All rows, in the order of the file; lengths in nm.

    Raises
    ------
    PhantomscopeError
        Names file, line or row and column: for files of another kind, damaged or empty
        ones, missing or ambiguous columns, ragged lines, cells that are no number, and,
        without `drop_invalid`, values that cannot be: NaN, infinite, negative photons,
        an uncertainty of 0, frames that are no whole numbers. Also for a table whose
        width or uncertainty says that its unit was mixed up.
    """
    return joined(localisation_chunks(path, **options))

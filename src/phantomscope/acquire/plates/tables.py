"""The tables of a plate: files of each channel, compounds of wells, cell lines."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phantomscope.acquire.plates.sites import well_name, well_place
from phantomscope.acquire.plates.store import check_name
from phantomscope.config.datasets import suggestion
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError, explain_os_errors

LOAD_DATA = "load_data.csv"
# Plate, well and site of a row, as CellProfiler wants them.
PLATE, WELL, SITE = "Metadata_Plate", "Metadata_Well", "Metadata_Site"
FILE, FOLDER = "FileName_", "PathName_"
GET_AGAIN = "get the file from its publisher again"


@dataclass(frozen=True)
class PlateMap:
    """Which file of a plate is which channel, as one source has it.

    Attributes
    ----------
    source : str
        ``load_data.csv`` or ``Index.idx.xml``.
    path : Path
        The file that was read.
    names : dict
        Key of a channel to its name there; keys differ where names do not.
    files : dict
        (Well, site) to the file name of each key.
    heights : dict
        Key to the height of its plane in um, where it is known.
    pixel_size_um : float, optional
        Side of a pixel.
    """

    source: str
    path: Path
    names: Mapping[str, str]
    files: Mapping[tuple[str, int], Mapping[str, str]]
    heights: Mapping[str, float] = field(default_factory=dict)
    pixel_size_um: float | None = None


def read_rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Read a table with a header: commas, or tabs if the first line has one.

    Parameters
    ----------
    path : Path
        Text in UTF-8, perhaps packed (``.gz``).
    needed : sequence of str
        Columns that must be there.

    Returns
    -------
    list of dict
        Column to text, without spaces around.

    Raises
    ------
    PhantomscopeError
        If a column is missing (with the one that may be meant), a row has another
        number of cells, or it is no such text.
    """
    with explain_os_errors(path):
        try:
            # The same call opens both.
            unpack: Any = gzip.open if path.suffix == ".gz" else open
            with unpack(path, "rt", newline="", encoding="utf-8-sig") as stream:
                first = stream.readline()
                stream.seek(0)
                tabs = "\t" in first
                lines = list(csv.reader(stream, delimiter="\t" if tabs else ","))
        except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError) as error:
            raise PhantomscopeError(
                f"this is no table ({error})", where=path, fix=GET_AGAIN
            ) from error
    header = [name.strip() for name in lines[0]] if lines else []
    for name in needed:
        if name not in header:
            raise PhantomscopeError(
                f"this table has no column {name!r}",
                where=path,
                fix=f"{GET_AGAIN}; {suggestion(name, header or ['nothing'])}",
            )
    rows = []
    for number, cells in enumerate(lines[1:], 2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise PhantomscopeError(
                f"line {number} has {len(cells)} cells, the header has {len(header)}",
                where=path,
                fix=GET_AGAIN,
            )
        rows.append({n: c.strip() for n, c in zip(header, cells, strict=True)})
    return rows


def _place(row: Mapping[str, str], path: Path) -> tuple[str, int]:
    """Return well and site of a row."""
    place = well_place(row[WELL])
    if place is None or not row[SITE].isdecimal():
        raise PhantomscopeError(
            f"there is no well {row[WELL]!r} with a site {row[SITE]!r}",
            where=path,
            fix=f"{GET_AGAIN}: wells are A01 to P24, sites are numbers",
        )
    return well_name(*place), int(row[SITE])


def _check_folder(row: Mapping[str, str], channel: str, plate: str, path: Path) -> None:
    """Make sure that the images are those of this measurement of the plate."""
    folder = row.get(FOLDER + channel, "")
    for part in re.split(r"[/\\]+", folder):
        if part.startswith(f"{barcode_of(plate)}__") and part != plate:
            raise PhantomscopeError(
                f"the images of {channel} are of the measurement {part}, not of "
                f"{plate}",
                where=path,
                fix=f"put {part} into `plates`, or set `channel_map: index`",
            )


def read_load_data(path: Path, plate: str) -> PlateMap:
    """Read CellProfiler's table of the files of a plate.

    Parameters
    ----------
    path : Path
        The table: ``FileName_<channel>`` for each channel, ``Metadata_Well`` and
        ``Metadata_Site``; a row for each site.
    plate : str
        Full name of the plate. Rows of other plates (``Metadata_Plate``) are left out.

    Raises
    ------
    PhantomscopeError
        As `read_rows`; if no column names files or no row is of this plate; if a site
        has two rows, a file is of another measurement, or its name leads elsewhere.
    """
    rows = read_rows(path, [WELL, SITE])
    # Illumination functions have such columns, too; their names begin with Illum.
    channels = [
        name.removeprefix(FILE)
        for name in (rows[0] if rows else {})
        if name.startswith(FILE) and not name.startswith(f"{FILE}Illum")
    ]
    if not channels:
        raise PhantomscopeError(
            f"this table has no column {FILE}... of a channel, or no row",
            where=path,
            fix=GET_AGAIN,
        )
    files: dict[tuple[str, int], dict[str, str]] = {}
    others: set[str] = set()
    for row in rows:
        if row.get(PLATE, barcode_of(plate)) not in (barcode_of(plate), plate):
            others.add(row[PLATE])
            continue
        place = _place(row, path)
        if place in files:
            raise PhantomscopeError(
                f"two rows are of well {place[0]}, site {place[1]}",
                where=path,
                fix=GET_AGAIN,
            )
        for channel in channels:
            _check_folder(row, channel, plate, path)
        files[place] = {
            channel: check_name(row[FILE + channel], path)
            for channel in channels
            if row[FILE + channel]
        }
    if not files:
        raise PhantomscopeError(
            f"no row is of the plate {barcode_of(plate)}, but of {sorted(others)[0]}",
            where=path,
            fix=GET_AGAIN,
        )
    names = {channel: channel for channel in channels}
    return PlateMap(LOAD_DATA, path, names, files)


def compound_of(name: str, options: Plates) -> str:
    """Return the compound that a plate map names; `control` where it names none."""
    if not name:
        return options.control
    found = re.search(options.compound_id, name) if options.compound_id else None
    return str(found[1]) if found and found[1] else name


def read_plate_map(path: Path, options: Plates) -> dict[str, str]:
    """Read the compounds on a plate.

    Parameters
    ----------
    path : Path
        Table with ``well_position`` and the column of compounds.
    options : Plates
        `compound_column`, `compound_id` and `control`.

    Returns
    -------
    dict
        Well to compound.

    Raises
    ------
    PhantomscopeError
        As `read_rows`, for a well that is none, and for one with two rows.
    """
    compounds: dict[str, str] = {}
    for row in read_rows(path, ["well_position", options.compound_column]):
        place = well_place(row["well_position"])
        well = well_name(*place) if place else ""
        if not well or well in compounds:
            raise PhantomscopeError(
                f"{row['well_position']!r} is no well, or there twice",
                where=path,
                fix=GET_AGAIN,
            )
        compounds[well] = compound_of(row[options.compound_column], options)
    return compounds


def plate_map_name(path: Path, plate: str) -> str:
    """Return the name of the plate map of a plate, as barcode_platemap.csv has it."""
    barcode = barcode_of(plate)
    rows = read_rows(path, ["Assay_Plate_Barcode", "Plate_Map_Name"])
    names = {
        row["Plate_Map_Name"] for row in rows if row["Assay_Plate_Barcode"] == barcode
    }
    if len(names) != 1:
        known = sorted({row["Assay_Plate_Barcode"] for row in rows})
        raise PhantomscopeError(
            f"this table names {len(names)} plate maps of the plate {barcode}",
            where=path,
            fix=f"{suggestion(barcode, known or ['nothing'])} or set "
            "`compounds: false`",
        )
    return check_name(names.pop(), path)


def cell_lines(options: Plates) -> dict[str, str]:
    """Return the cell line of each plate by its short name; empty where unknown.

    Raises
    ------
    PhantomscopeError
        If the table of experiments contradicts itself or `cell_lines`, and as
        `read_rows`.
    """
    known = {barcode_of(plate): line for plate, line in options.cell_lines}
    said: dict[str, str] = {}
    if options.experiments is not None:
        path = Path(options.experiments)
        for row in read_rows(path, ["Assay_Plate_Barcode", "Cell_type"]):
            barcode, line = row["Assay_Plate_Barcode"], row["Cell_type"]
            before = said.setdefault(barcode, known.get(barcode, line))
            if before != line:
                raise PhantomscopeError(
                    f"the plate {barcode} has two cell lines, {before} and {line}",
                    where=path,
                    fix="mend the table or `cell_lines`",
                )
    lines = {**known, **said}
    return {
        barcode_of(plate): lines.get(barcode_of(plate), "") for plate in options.plates
    }

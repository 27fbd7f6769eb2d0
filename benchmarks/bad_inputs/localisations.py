"""Bad tables of localisations: the reader is called, as `acquire` calls it."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bad_inputs.building import write
from benchmarks.bad_inputs.model import CANARY, Case, Invocation, Trap
from benchmarks.laboratory import Laboratory
from phantomscope.acquire.localisations import read_localisations

HEADER = '"id","frame","x [nm]","y [nm]","intensity [photon]","uncertainty [nm]"\n'
GOOD = HEADER + "1,1,7057.68,31836.99,4933.5,9.5\n2,7,17271.25,1422.43,148.9,14.6\n"


def table_case(
    name: str, content: str | bytes, *expect: str, file: str = "table.csv",
    **options: Any,
) -> Case:  # fmt: skip
    """Read a table with this content."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        path = write(folder / file, content)
        return Invocation(function=lambda: read_localisations(path, **options))

    return Case(name, "localisations", build, expect)


def cell_case(name: str, old: str, new: str, *expect: str) -> Case:
    """Change one cell of a table that is fine; `expect` begins with the line."""
    assert old in GOOD
    return table_case(name, GOOD.replace(old, new), "table.csv", *expect)


def _reading(make: Any) -> Any:
    def build(folder: Path, lab: Laboratory) -> Invocation:
        path = folder / "table.csv"
        make(path)
        return Invocation(function=lambda: read_localisations(path))

    return build


def _spread(width: float, uncertainty: float) -> str:
    """Return a table of 200 rows over a field of this width."""
    rows = [f"{v:.6g},{v:.6g},{uncertainty}" for v in np.linspace(0, width, 200)]
    return "\n".join(["x [nm],y [nm],uncertainty [nm]", *rows])


def _numpy_objects(path: Path) -> None:
    stream = io.BytesIO()
    objects = np.array([Trap(path.with_name(CANARY))], object)
    np.save(stream, objects, allow_pickle=True)
    write(path, stream.getvalue())


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("table.csv", GOOD)


def _smlm(rows: int = 2, precision: float = 9.5, more: str = "extra.txt") -> bytes:
    """Return a table of ShareLoc that says it has this many rows."""
    names = ["x", "y", "precision"]
    table = np.array([[7057, 1836, 9.5], [7271, 1422, precision]], "<f4")
    layout = {"mode": "binary", "headers": names, "dtype": ["float32"] * 3}
    file = {"name": "table.bin", "type": "table", "format": "f", "rows": rows}
    manifest = {"format_version": "0.2", "formats": {"f": layout}, "files": [file]}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("table.bin", table.tobytes())
        archive.writestr(more, b"x")
    return stream.getvalue()


AGAIN = "export the table again"
SLIP = "um, px and nm are easily mixed up"
DROP = "drop_invalid=True"
PAGE = "<!DOCTYPE html>\n<html><body>Sign in</body></html>"
FILES = [
    Case("table-missing", "localisations", _reading(lambda p: None),
         ("table.csv", "no such file", "check the path")),
    Case("table-is-a-folder", "localisations", _reading(lambda p: p.mkdir()),
         ("table.csv", "it is a folder", "name a file")),
    Case("table-is-a-pipe", "localisations", _reading(lambda p: os.mkfifo(p)),
         ("table.csv", "a pipe", "name a file")),
    Case("table-is-a-zip", "localisations", _reading(_zip),
         ("table.csv", "a ZIP archive or a spreadsheet", "save it as CSV")),
    Case("table-of-numpy-objects", "localisations", _reading(_numpy_objects),
         ("table.csv", "binary file", "as CSV")),
    table_case("table-of-hdf5", b"\x89HDF\r\n\x1a\n", "HDF5", "export it as CSV"),
    table_case("table-empty", "", "table.csv", "the file is empty", "x [nm],y [nm]"),
    table_case("table-blank", "\n\n\n", "no header line", "x [nm],y [nm]"),
    table_case("table-header-only", HEADER, "line 1", "no localisation", "again"),
    table_case("table-is-a-page", PAGE, "table.csv", "a web page", "not the page"),
    table_case("table-binary", bytes(range(256)), "binary file", "UTF-8"),
    table_case("table-utf16-unmarked", GOOD.encode("utf-16-be"),
               "UTF-16 without a mark", "UTF-8"),
    table_case("table-utf16-cut", GOOD.encode("utf-16")[:-5], "line 3",
               "`uncertainty [nm]`", AGAIN),
    table_case("table-gzip-cut", gzip.compress(GOOD.encode())[:-12], "cut short",
               "table.csv.gz", "copy", file="table.csv.gz"),
    table_case("table-gzip-damaged",
               gzip.compress(GOOD.encode())[:-8] + bytes(8), "damaged",
               "table.csv.gz", "copy", file="table.csv.gz"),
    table_case("table-gzip-twice", gzip.compress(gzip.compress(GOOD.encode())),
               "compressed twice", "unpack it once"),
    table_case("table-without-lines", HEADER + "1" * 3_000_000, "line 2",
               "a million characters", "one localisation per line"),
    table_case("table-cut", GOOD[:-14], "line 3", "4 cells", "6 columns", "cut short"),
]  # fmt: skip

COLUMNS = [
    table_case("table-headless", GOOD.removeprefix(HEADER), "line 1",
               "begins with numbers", "names the columns", "x [nm],y [nm]"),
    cell_case("table-without-x", "x [nm]", "z [nm]", "line 1", "no column for x",
              "'z [nm]'", "name the columns"),
    cell_case("table-without-y", "y [nm]", "sigma [nm]", "line 1", "no column for y",
              "name the columns"),
    cell_case("table-two-x", '"id"', '"x [px]"', "line 1", "'x [px]' and 'x [nm]'",
              "say which one"),
    cell_case("table-two-frames", '"id"', '"frame"', "line 1", "'frame' and 'frame'",
              "rename the other"),
    cell_case("table-without-unit", "x [nm]", "x", "line 1", "`x`", "unit",
              "write it into the header"),
    cell_case("table-strange-unit", "x [nm]", "x [inch]", "line 1", "`x [inch]`",
              "unknown unit 'inch'", "use nm, um or px"),
    cell_case("table-in-pixels", "x [nm]", "x [px]", "line 1", "`x [px]`",
              "unknown size", "`pixel_size` in nm"),
    table_case("table-units-disagree", GOOD, "line 1", "`x [nm]`", "`unit` says um",
               "leave out `unit`", unit="um"),
    table_case("table-unknown-field", GOOD, "columns", "'w'", "use x, y, z, frame",
               columns={"w": "id"}),
    table_case("table-unknown-column", GOOD, "line 1", "no column named 'lpx'",
               "'uncertainty [nm]'", "name the columns", columns={"x": "lpx"}),
    table_case("table-other-delimiter", GOOD.replace(",", "|"), "line 1",
               "no column for x", "separated by commas, semicolons, tabs or blanks"),
    table_case("table-two-delimiters",
               HEADER + GOOD.removeprefix(HEADER).replace(",", ";"), "line 2",
               "1 cells", "another delimiter than its header"),
    table_case("table-decimal-commas",
               HEADER + GOOD.removeprefix(HEADER).replace(".", ","), "line 2",
               "10 cells", "decimal commas"),
    table_case("table-semicolons-and-commas",
               GOOD.replace(",", ";").replace(".", ","), "line 2", "`x [nm]`",
               "'7057,68' is no number", "`decimal=','`"),
]  # fmt: skip

CELLS = [
    cell_case("table-short-line", ",14.6", "", "line 3", "5 cells", "6 columns"),
    cell_case("table-long-line", ",14.6", ",14.6,1", "line 3", "7 cells"),
    cell_case("table-words", "148.9", "bright", "line 3", "`intensity [photon]`",
              "'bright' is no number", AGAIN),
    cell_case("table-empty-cell", "148.9", "", "line 3", "`intensity [photon]`",
              "the cell is empty", AGAIN),
    cell_case("table-open-quote", "148.9", '"148.9', "line 3", "quote is not closed",
              "mend or remove this line"),
    cell_case("table-not-text", "148.9", "\0\0", "binary file", "UTF-8"),
    cell_case("table-nan", "1422.43", "NaN", "line 3", "`y [nm]`", "nan", DROP),
    cell_case("table-infinite", "14.6", "Infinity", "line 3", "`uncertainty [nm]`",
              "inf", DROP),
    cell_case("table-overflow", "1422.43", "1e999", "line 3", "`y [nm]`", "inf", DROP),
    cell_case("table-negative-photons", "148.9", "-148.9", "line 3",
              "`intensity [photon]`", "-148.9 photons", DROP),
    cell_case("table-uncertainty-0", "14.6", "0", "line 3", "`uncertainty [nm]`",
              "an uncertainty of 0", DROP),
    cell_case("table-uncertainty-negative", "14.6", "-3", "line 3",
              "`uncertainty [nm]`", "an uncertainty of -3", DROP),
    cell_case("table-half-a-frame", ",7,", ",7.5,", "line 3", "`frame`", "7.5", DROP),
    cell_case("table-negative-frame", ",7,", ",-7,", "line 3", "`frame`", "-7", DROP),
    cell_case("table-huge-frame", ",7,", ",1e30,", "line 3", "`frame`", "1e+30", DROP),
    cell_case("table-far-away", "1422.43", "-3e12", "line 3", "`y [nm]`", "a metre",
              DROP),
    cell_case("table-stray-row", "1422.43", "9e7", "line 3", "`y [nm]`", "hardly",
              SLIP),
    table_case("table-frames-missing", GOOD.replace(",7,", ",,").replace(",1,", ",,"),
               "line 2", "`frame`", "the cell is empty", drop_invalid=True),
    table_case("table-all-dropped", HEADER + "1,1,nan,5,5,5\n", "none of the 1 rows",
               "again", drop_invalid=True),
    table_case("table-um-for-nm", _spread(40.0, 9.5), "line 2", "line 201", "`x [nm]`",
               "40 nm wide", SLIP),
    table_case("table-nm-for-um", _spread(4e7, 9.5), "line 2", "line 201", "`x [nm]`",
               "4e+07 nm wide", SLIP),
    table_case("table-um-for-uncertainty", _spread(4e4, 0.0095), "`uncertainty [nm]`",
               "below 0.1 nm", SLIP),
    table_case("table-pixel-size-0", "x,y\n1,2\n", "pixel_size", "give its side in nm",
               unit="px", pixel_size=0.0),
]  # fmt: skip

SHARELOC = [
    table_case("smlm-cut", _smlm()[:-30], "data.smlm", "damaged or cut short",
               "copy or download", file="data.smlm"),
    table_case("smlm-traversal", _smlm(more="../evil"), "data.smlm", "'../evil'",
               "leads out of the folder", file="data.smlm"),
    table_case("smlm-rows-missing", _smlm(rows=3), "data.smlm", "24 bytes",
               "3 rows of 12 bytes", "download it again", file="data.smlm"),
    table_case("smlm-precision-negative", _smlm(precision=-2), "data.smlm", "row 2",
               "`precision`", "an uncertainty of -2", DROP, file="data.smlm"),
]  # fmt: skip

LOCALISATIONS = [*FILES, *COLUMNS, *CELLS, *SHARELOC]

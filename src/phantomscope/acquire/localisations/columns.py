"""Which column of a table of localisations holds what, and in which unit."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations.table import FIELDS

Unit = Literal["nm", "um", "px"]

LENGTHS = ("x", "y", "z", "uncertainty", "uncertainty_y")
LONGEST_TITLE = 200
_NAMES = {
    "x": ("x", "x position", "position x", "position-0-0"),
    "y": ("y", "y position", "position y", "position-1-0"),
    "z": ("z", "z position", "position z", "position-2-0"),
    "frame": ("frame", "imagenumber-0-0"),
    "photons": ("photons", "phot", "number photons", "intensity"),
    "uncertainty": ("uncertainty", "uncertainty_xy", "locprec", "precision"),
    "background": ("background", "bg", "offset"),
}
# Where the precision along x and along y are two columns, the root of their mean
# square is taken.
_PAIRS = (
    ("lpx", "lpy"),
    ("uncertainty_x", "uncertainty_y"),
    ("x_precision", "y_precision"),
    ("position-0-0-uncertainty", "position-1-0-uncertainty"),
)
# The last is the micro sign of an old code page, read as UTF-8.
_MICRO = ("um", "µm", "μm", "micrometer", "micrometre", "\ufffdm")
_UNITS: dict[str, Unit] = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), "nm"),
    **dict.fromkeys(_MICRO, "um"),
    **dict.fromkeys(("px", "pix", "pixel", "pixels"), "px"),
}


@dataclass
class Header:
    """How to read a table.

    Attributes
    ----------
    path : Path
        The file.
    line : int
        Line of the header, counted from 1; 0 in a binary file.
    titles : list of str
        Titles of the columns.
    delimiter : str or None
        What separates cells; None is blanks.
    format : str
        See `TableSource`.
    columns : dict
        Field (``x``, ``frame`` ...) to the index of its column. ``uncertainty_y`` is
        that along y, if there is one.
    nm : dict
        Field to the nm in one unit of its column, for lengths.
    """

    path: Path
    line: int
    titles: list[str]
    delimiter: str | None
    format: str = "csv"
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

    @property
    def row(self) -> str:
        """What a row is called: its number is that of a line in a text file."""
        return "line" if self.line else "row"

    def error(
        self, what: str, fix: str, *, line: int = 0, column: str = "", example: str = ""
    ) -> PhantomscopeError:
        """Return an error that names row and column; the line of the header is 0."""
        number = line or self.line
        place = [f"{self.row} {number}"] if number else []
        place += [f"column `{column}`"] if column else []
        return PhantomscopeError(
            ": ".join(filter(None, (", ".join(place), what))),
            where=self.path,
            fix=fix,
            example=example,
        )


def name_and_unit(title: str) -> tuple[str, str]:
    """Split ``x [nm]``, ``x (nm)``, ``x_nm`` or ``xnm``; the unit may be absent."""
    plain = title[:LONGEST_TITLE].lower()
    match = re.fullmatch(r"([^\[(]*?)\s*[\[(]\s*([^\])]*?)\s*[\])]", plain)
    match = match or re.fullmatch(r"(x|y|z|locprec)[ _]?(nm|um|px|pix)", plain)
    return (match[1], match[2]) if match else (plain, "")


def _fits(name: str, title: str) -> bool:
    plain, unit = name_and_unit(title)
    if name in ("photons", "background") and not unit.startswith("photon"):
        # An intensity in counts of the camera is no number of photons.
        sure = ("photons", "phot", "number photons", "bg")
        return not unit and plain in _NAMES[name] and plain in sure
    return plain in _NAMES[name]


def _candidates(header: Header, name: str, wanted: str | None) -> list[int]:
    """Return the columns that a field may be; their titles may have a unit."""
    titles = list(enumerate(header.titles))
    if wanted is None:
        return [index for index, title in titles if _fits(name, title)]
    exact = [index for index, title in titles if title == wanted]
    plain = wanted.lower()
    with_unit = [(i, *name_and_unit(title)) for i, title in titles]
    return exact or [i for i, name, unit in with_unit if unit and name == plain]


def _find_column(header: Header, name: str, wanted: str | None) -> int | None:
    """Return the index of the column of a field, None if there is none."""
    found = _candidates(header, name, wanted)
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
    text = name_and_unit(title)[1]
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
            "give `pixel_size` in nm (in a config: `camera_pixel_nm`)",
            column=title,
            example="unit='px', pixel_size=108.0",
        )
    return {"nm": 1.0, "um": 1000.0, "px": pixel_size or 0.0}[unit]


def _check_arguments(
    columns: Mapping[str, str], unit: str | None, pixel_size: float | None
) -> None:
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


def find_columns(
    header: Header,
    columns: Mapping[str, str],
    unit: Unit | None,
    pixel_size: float | None,
) -> None:
    """Fill `columns` and `nm` of a header; the arguments are `read_localisations`'."""
    _check_arguments(columns, unit, pixel_size)
    for name in FIELDS:
        index = _find_column(header, name, columns.get(name))
        if index is not None:
            header.columns[name] = index
    if "uncertainty" not in header.columns:
        plain = [name_and_unit(title)[0] for title in header.titles]
        for along_x, along_y in _PAIRS:
            if plain.count(along_x) == plain.count(along_y) == 1:
                header.columns["uncertainty"] = plain.index(along_x)
                header.columns["uncertainty_y"] = plain.index(along_y)
    for name in LENGTHS:
        if name not in header.columns:
            continue
        title = header.title(name)
        if name in ("x", "y") or name_and_unit(title)[1]:
            header.nm[name] = _nm_per_unit(header, title, unit, pixel_size)
        else:
            header.nm[name] = header.nm["x"]
            # No camera has pixels in depth: Picasso's z is in nm, its x in px.
            in_pixels = "px" in (unit, _UNITS.get(name_and_unit(header.title("x"))[1]))
            if name == "z" and in_pixels:
                header.nm[name] = 1.0

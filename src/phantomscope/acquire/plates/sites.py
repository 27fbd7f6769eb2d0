"""Which sites of which wells of which plates: names, plans and shards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError

# Of a 1080 x 1080 uint16 file of the gallery, by its 50 to 65 GB per plate of 27,648
# files; brightfield and stains differ.
COMPRESSED = 0.89


@dataclass(frozen=True, order=True)
class Site:
    """One field of view.

    Attributes
    ----------
    plate : str
        Full name, with the time of measurement.
    well : str
        Such as ``A01``.
    site : int
        Number in its well.
    """

    plate: str
    well: str
    site: int

    @property
    def barcode(self) -> str:
        """Short name of the plate."""
        return barcode_of(self.plate)

    @property
    def group(self) -> str:
        """Plate and well: the unit of statistics."""
        return f"{self.barcode}_{self.well}"

    @property
    def identifier(self) -> str:
        """Id of its image."""
        return f"{self.group}_s{self.site}"


def well_name(row: int, column: int) -> str:
    """Return the name of a well: row 1, column 1 is ``A01``, row 27 is ``AA``."""
    first, last = divmod(row - 1, 26)
    letters = (chr(ord("A") + first - 1) if first else "") + chr(ord("A") + last)
    return f"{letters}{column:02}"


def well_place(name: str) -> tuple[int, int] | None:
    """Return row and column of a well, counted from 1; None for other names."""
    found = re.fullmatch(r"([A-Z]{1,2})0*(\d{1,2})", name.strip().upper())
    if found is None or int(found[2]) == 0:
        return None
    row = 0
    for letter in found[1]:
        row = 26 * row + ord(letter) - ord("A") + 1
    return row, int(found[2])


def plate_wells(options: Plates) -> list[str]:
    """Return the wells to use, row by row.

    Raises
    ------
    PhantomscopeError
        If one of `wells` is not on a plate of so many rows and columns.
    """
    every = [
        well_name(row, column)
        for row in range(1, options.rows + 1)
        for column in range(1, options.columns + 1)
    ]
    if options.wells is None:
        return every
    on_plate = set(every)
    for well in options.wells:
        if well not in on_plate:
            raise PhantomscopeError(
                f"there is no well {well!r} on a plate of {options.rows} x "
                f"{options.columns} wells ({every[0]} to {every[-1]})",
                where="wells",
                fix="name other wells, or set `rows` and `columns`",
            )
    chosen = set(options.wells)
    return [well for well in every if well in chosen]


def list_sites(options: Plates) -> list[Site]:
    """List the sites that the config asks for; nothing is downloaded.

    Parameters
    ----------
    options : Plates
        `plates`, `wells`, `sites` and the format of a plate.

    Returns
    -------
    list of Site
        In order of plate (as in the config), row, column and number. Sites that a
        plate lacks are in it, too: only its tables say so.

    Raises
    ------
    PhantomscopeError
        As `plate_wells`, and for a number of a site that no well has.
    """
    numbers = options.sites or list(range(1, options.sites_per_well + 1))
    if max(numbers) > options.sites_per_well:
        raise PhantomscopeError(
            f"there is no site {max(numbers)}: a well has {options.sites_per_well}",
            where="sites",
            fix="name other sites, or set `sites_per_well`",
        )
    wells = plate_wells(options)
    return [
        Site(plate, well, number)
        for plate in options.plates
        for well in wells
        for number in sorted(numbers)
    ]


def shard_sites(sites: Sequence[Site], shard: int, shards: int) -> list[Site]:
    """Return the sites of one shard: a block of them, in order.

    Parameters
    ----------
    sites : sequence of Site
        What `list_sites` returns.
    shard, shards : int
        Which one, counted from 0, of how many. Blocks differ by one site at most and
        make up the whole.
    """
    if not 0 <= shard < shards:
        raise PhantomscopeError(
            f"there is no shard {shard}: there are {shards}",
            where="--shard",
            fix=f"shards count from 0 to {shards - 1}",
        )
    total = len(sites)
    return list(sites[shard * total // shards : (shard + 1) * total // shards])


@dataclass(frozen=True)
class Cost:
    """What sites cost, about; in bytes.

    Attributes
    ----------
    sites : int
        How many.
    download : int
        Of the files of the wanted channels, compressed as those of the gallery.
    images : int
        Of the image set, without compression.
    memory : int
        Of one site at a time, in uint16.
    """

    sites: int
    download: int
    images: int
    memory: int


def estimate(options: Plates) -> Cost:
    """Estimate what the sites of a config cost, without any download."""
    count = len(list_sites(options))
    site = 2 * len(options.wanted) * options.size[0] * options.size[1]
    return Cost(count, round(COMPRESSED * site * count), site * count, site)

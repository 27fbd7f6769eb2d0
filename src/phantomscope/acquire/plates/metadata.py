"""What is known of plates before any image is fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass

from phantomscope.acquire.plates.channels import Channels, resolve_channels
from phantomscope.acquire.plates.harmony import INDEX, read_index
from phantomscope.acquire.plates.keys import Keys
from phantomscope.acquire.plates.sites import plate_wells, well_place
from phantomscope.acquire.plates.store import Store
from phantomscope.acquire.plates.tables import (
    LOAD_DATA,
    PlateMap,
    plate_map_name,
    read_load_data,
    read_plate_map,
)
from phantomscope.config.datasets import suggestion
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError

# The gallery has the first, repositories have it packed; the last have illumination
# functions beside the same columns.
TABLES = tuple(
    f"{name}{end}"
    for name in (LOAD_DATA, "load_data_with_illum.csv")
    for end in ("", ".gz")
)


@dataclass(frozen=True)
class Metadata:
    """What the tables of one plate say.

    Attributes
    ----------
    channels : Channels
        Files of the wanted channels.
    pixel_size_um : float
        Side of a pixel.
    flat_fields : dict
        Wanted channel to the key of its illumination function; empty if none are
        wanted.
    hashes : dict
        Key of each file that was read to what tells its content from another.
    """

    channels: Channels
    pixel_size_um: float
    flat_fields: dict[str, str]
    hashes: dict[str, str]


def check_plates(store: Store, options: Plates) -> None:
    """Make sure that all plates are there.

    Raises
    ------
    PhantomscopeError
        For an unknown one, with the one that may be meant.
    """
    start = Keys(options).batch
    known = [key.removeprefix(start) for key in store.entries(start)[1]]
    if not known:
        raise PhantomscopeError(
            f"there is no plate in {start}",
            where=store.place(start),
            fix="check `project` and `batch`",
        )
    for plate in options.plates:
        if plate in known:
            continue
        # A short name is meant to be the plate that begins so.
        like = [name for name in known if name.startswith(f"{barcode_of(plate)}__")]
        raise PhantomscopeError(
            f"there is no plate {plate!r} in the batch {options.batch}",
            where=store.place(start),
            fix=f"did you mean `{like[0]}`?" if like else suggestion(plate, known[:20]),
        )


def _maps(
    store: Store, options: Plates, plate: str
) -> tuple[list[PlateMap], list[str]]:
    """Read the sources of the channel map, and return their keys, too."""
    keys, believed = Keys(options), options.channel_map
    maps: list[PlateMap] = []
    used: list[str] = []
    if believed != "index":
        folder = keys.load_data(plate)
        there = store.entries(folder)[0]
        for key in [folder + name for name in TABLES if folder + name in there][:1]:
            store.fetch(key, there[key])
            maps.append(read_load_data(store.path(key), plate))
            used.append(key)
    needs_size = options.pixel_size_um is None
    if believed != "load_data" or needs_size:
        key = keys.index(plate)
        there = store.entries(key)[0]
        if key in there:
            store.fetch(key, there[key])
            maps.append(read_index(store.path(key)))
            used.append(key)
    return maps, used


def _chosen(maps: list[PlateMap], options: Plates, plate: str) -> list[PlateMap]:
    """Return the sources that are believed."""
    wanted = {"load_data": LOAD_DATA, "index": INDEX, "agree": ""}
    name = wanted[options.channel_map]
    chosen = [one for one in maps if name in ("", one.source)]
    if not chosen:
        gone = name or f"{LOAD_DATA} and no {INDEX}"
        raise PhantomscopeError(
            f"plate {plate}: there is no {gone}, so that nothing says which file is "
            "which channel",
            where="channel_map",
            fix="check `batch`, or set another `channel_map`",
        )
    return chosen


def _flat_fields(store: Store, options: Plates, plate: str) -> dict[str, int]:
    """Return key and size of the illumination function of each wanted channel."""
    start = Keys(options).flat_fields(plate)
    there = store.entries(start)[0]
    found: dict[str, int] = {}
    for name in options.wanted:
        keys = [
            key
            for key in there
            if key.endswith(".npy")
            and re.fullmatch(
                options.expressions[name],
                key.removeprefix(start).removesuffix(".npy"),
                re.IGNORECASE,
            )
        ]
        if len(keys) != 1:
            others = ", ".join(key.rpartition("/")[2] for key in there) or "none"
            raise PhantomscopeError(
                f"plate {plate}: {len(keys)} illumination functions are of {name}; "
                f"there are {others}",
                where=store.place(start),
                fix="set `flat_field: false`, or write into `aliases` what it is "
                "called",
            )
        found[keys[0]] = there[keys[0]]
    return found


def _check_wells(channels: Channels, options: Plates, plate: str) -> None:
    """Make sure that plan and plate have the same format, and named wells exist."""
    there = {well for well, _ in channels.files}
    for well in sorted(there):
        row, column = well_place(well) or (0, 0)
        if row > options.rows or column > options.columns:
            raise PhantomscopeError(
                f"plate {plate} has a well {well}, but {options.rows} x "
                f"{options.columns} wells are planned",
                where="rows, columns",
                fix="set the format of the plate",
            )
    most = max(site for _, site in channels.files)
    if most > options.sites_per_well:
        raise PhantomscopeError(
            f"plate {plate} has a site {most}, but {options.sites_per_well} sites of a "
            "well are planned",
            where="sites_per_well",
            fix=f"set `sites_per_well: {most}`",
        )
    for well in plate_wells(options) if options.wells else ():
        if well not in there:
            raise PhantomscopeError(
                f"plate {plate} has no images of the well {well}",
                where="wells",
                fix=suggestion(well, sorted(there)),
            )


def read_metadata(store: Store, options: Plates, plate: str) -> Metadata:
    """Fetch and read the tables of a plate.

    Parameters
    ----------
    store : Store
        Where they are.
    options : Plates
        What is wanted of them.
    plate : str
        Full name.

    Raises
    ------
    PhantomscopeError
        As `read_load_data`, `read_index` and `resolve_channels`; if there is no table,
        nothing says the size of a pixel, a named well is not there, an illumination
        function is missing, or the plate has another format than the config says.
    """
    maps, used = _maps(store, options, plate)
    channels = resolve_channels(_chosen(maps, options, plate), options, plate)
    sizes = [one.pixel_size_um for one in maps if one.pixel_size_um]
    size = options.pixel_size_um or next(iter(sizes), None)
    if size is None:
        raise PhantomscopeError(
            f"plate {plate}: no Index.idx.xml says the size of a pixel",
            where="pixel_size_um",
            fix="give it",
            example="pixel_size_um: 0.598",
        )
    _check_wells(channels, options, plate)
    flat = _flat_fields(store, options, plate) if options.flat_field else {}
    hashes = {key: store.fetch(key, n, shown=False) for key, n in flat.items()}
    hashes |= {key: store.fetch(key, shown=False) for key in used}
    of_channel = dict(zip(options.wanted, flat, strict=True)) if flat else {}
    return Metadata(channels, size, of_channel, hashes)


def read_compounds(store: Store, options: Plates) -> tuple[dict[str, str], list[str]]:
    """Fetch the plate maps and look up what is in the wells.

    Parameters
    ----------
    store : Store
        Where they are.
    options : Plates
        `plates`, `wells` and how compounds are named.

    Returns
    -------
    compounds : dict
        Group (plate and well) to compound, of all wells that the config asks for; empty
        without `compounds`. Wells that no plate map names are left out.
    keys : list of str
        Files that were read.
    """
    if not options.compounds:
        return {}, []
    start = Keys(options).plate_maps
    table = f"{start}barcode_platemap.csv"
    store.fetch(table, shown=False)
    there = store.entries(f"{start}platemap/")[0]
    wells = plate_wells(options)
    read: dict[str, dict[str, str]] = {}
    compounds: dict[str, str] = {}
    for plate in options.plates:
        name = plate_map_name(store.path(table), plate)
        keys = [f"{start}platemap/{name}{end}" for end in (".txt", ".tsv", ".csv")]
        key = next((key for key in keys if key in there), None)
        if key is None:
            raise PhantomscopeError(
                f"plate {plate}: its plate map {name} is not there",
                where=store.place(keys[0]),
                fix="get it, or set `compounds: false`",
            )
        if key not in read:
            store.fetch(key, there[key], shown=False)
            read[key] = read_plate_map(store.path(key), options)
        for well in wells:
            if well in read[key]:
                compounds[f"{barcode_of(plate)}_{well}"] = read[key][well]
    return compounds, [table, *read]

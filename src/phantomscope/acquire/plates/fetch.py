"""Fetching the files of chosen wells and sites, and the record of what was fetched."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from phantomscope.acquire.folder import Findings, Item, raise_problems
from phantomscope.acquire.plates.keys import Keys
from phantomscope.acquire.plates.metadata import (
    Metadata,
    check_plates,
    read_compounds,
    read_metadata,
)
from phantomscope.acquire.plates.sites import Site, list_sites, shard_sites
from phantomscope.acquire.plates.store import PATIENT, Store, open_store
from phantomscope.acquire.plates.tables import cell_lines
from phantomscope.acquire.ranges import readable_size
from phantomscope.acquire.web import Patience
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import check_targets, write_json
from phantomscope.progress import Progress

A = TypeVar("A")
B = TypeVar("B")
NUCLEI, CELLS = "--nuclei_outlines.png", "--cell_outlines.png"


@dataclass(frozen=True)
class Wanted:
    """The files of one site: keys of its channels in order, and of its outlines."""

    plate: str
    well: str
    site: int
    files: tuple[str, ...]
    nuclei: str = ""
    cells: str = ""

    @property
    def place(self) -> Site:
        """Which site it is."""
        return Site(self.plate, self.well, self.site)

    @property
    def keys(self) -> list[str]:
        """All of them."""
        return [key for key in (*self.files, self.nuclei, self.cells) if key]


def excluded_row(site: Site, reason: str, detail: str) -> dict[str, Any]:
    """Return the row of a site that is left out."""
    return {
        "id": site.identifier,
        "plate": site.barcode,
        "well": site.well,
        "site": site.site,
        "reason": reason,
        "detail": detail,
    }


def _together(
    call: Callable[[A], B], items: Iterable[A], workers: int,
    label: str, total: int, steps: Callable[[A], int], **shown: Any,
) -> dict[A, B]:  # fmt: skip
    """Call a function for many items, some at a time; the first error ends it."""
    results: dict[A, B] = {}
    with (
        Progress(label, total, **shown) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        futures = {pool.submit(call, item): item for item in items}
        try:
            for future in as_completed(futures):
                item = futures[future]
                results[item] = future.result()
                progress.advance(steps(item))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def _list(
    store: Store, prefixes: Iterable[str], options: Plates, label: str
) -> dict[str, int]:
    """List many folders; return key to size."""
    unique = sorted(set(prefixes))
    found = _together(
        lambda prefix: store.entries(prefix)[0], unique, options.connections,
        label, len(unique), lambda _: 1, unit="lists",
    )  # fmt: skip
    return {key: size for files in found.values() for key, size in files.items()}


def _sizes(store: Store, wanted: Sequence[Wanted], options: Plates) -> dict[str, int]:
    """Return the size of each image that is there: one list for each well."""
    wells: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in wanted:
        wells[one.plate, one.well] += [key for key in one.files if key]
    # Not of folders, but of the names in one: r01c01 of Harmony's.
    prefixes = [
        os.path.commonprefix(keys)  # noqa: RUF071
        for keys in wells.values()
        if keys
    ]
    return _list(store, prefixes, options, "listing images")


def _with_outlines(
    store: Store, wanted: Sequence[Wanted], options: Plates
) -> tuple[list[Wanted], dict[str, int]]:
    """Add the outlines that are there, and their sizes."""
    if options.outlines == "none":
        return list(wanted), {}
    keys = Keys(options)
    folders: dict[str, set[str]] = {}
    for plate in dict.fromkeys(one.plate for one in wanted):
        folders[plate] = set(store.entries(keys.analysis(plate))[1])
    homes = [keys.outline_folder(one.place, folders[one.plate]) for one in wanted]
    there = _list(store, filter(None, homes), options, "listing outlines")

    def found(one: Wanted, home: str) -> Wanted:
        start = f"{home}{one.well}_s{one.site}"
        nuclei, cells = start + NUCLEI, start + CELLS
        return Wanted(
            one.plate, one.well, one.site, one.files,
            nuclei if nuclei in there else "", cells if cells in there else "",
        )  # fmt: skip

    return [found(one, home) for one, home in zip(wanted, homes, strict=True)], there


def _choose(
    sites: Sequence[Site], metadata: Mapping[str, Metadata], options: Plates
) -> tuple[list[Wanted], list[dict[str, Any]]]:
    """Return the files of the sites, and rows of those that the plates lack."""
    keys = Keys(options)
    wanted, absent = [], []
    for site in sites:
        channels = metadata[site.plate].channels
        names = channels.files.get((site.well, site.site))
        if names is None:
            absent.append(
                excluded_row(site, "absent", "not in the tables of the plate")
            )
            continue
        start = keys.images(site.plate)
        files = tuple(start + name if name else "" for name in names)
        wanted.append(Wanted(site.plate, site.well, site.site, files))
    if not wanted:
        raise PhantomscopeError(
            f"none of the {len(sites)} sites is on its plate",
            where="wells, sites",
            fix="name other wells or sites",
        )
    return wanted, absent


def _missing(
    wanted: Sequence[Wanted], there: Mapping[str, int], options: Plates, store: Store
) -> dict[str, PhantomscopeError]:
    """Return what is missing, by the id of the site."""
    problems: dict[str, PhantomscopeError] = {}
    for one in wanted:
        gone = [
            key or f"{name}, of which its tables name no file"
            for key, name in zip(one.files, options.wanted, strict=True)
            if key not in there
        ]
        if options.outlines == "required" and not (one.nuclei and one.cells):
            gone.append("outlines of nuclei and cells")
        if gone:
            problems[one.place.identifier] = PhantomscopeError(
                f"there is no {gone[0].rpartition('/')[2]}",
                where=store.place(one.files[0] or Keys(options).images(one.plate)),
                fix="set `broken: exclude` to leave such sites out",
            )
    return problems


def _check_room(store: Store, sizes: Mapping[str, int]) -> None:
    """Make sure that what is to come fits onto the disk."""
    if store.is_local:
        return
    coming = sum(size for key, size in sizes.items() if not store.path(key).exists())
    with explain_os_errors(store.home):
        store.home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(store.home).free
    if coming > free:
        raise PhantomscopeError(
            f"{readable_size(coming)} are to be fetched, {readable_size(free)} are "
            "free",
            where=store.home,
            fix="name fewer wells or sites, or another folder in `downloads`",
        )


def fetch_plates(
    options: Plates, record: Path, *, shard: int = 0, shards: int = 1,
    patience: Patience = PATIENT,
) -> None:  # fmt: skip
    """Fetch the files of the chosen wells and sites, and only these.

    Files of a server come into ``<downloads>/<bucket>/<key>``, once for all
    experiments; one that is there is compared with its hash. Those of a folder stay
    where they are.

    Parameters
    ----------
    options : Plates
        Which plates, wells, sites and channels.
    record : Path
        JSON file to write at the end: what is where, and hashes. `acquire_plates` reads
        it, and needs no server.
    shard, shards : int
        Which part of the sites, of how many.
    patience : Patience
        When to give a connection up.

    Raises
    ------
    PhantomscopeError
        For unknown plates and wells, tables that are missing, contradict each other or
        lead elsewhere; for missing files, all listed together (`broken: refuse`); if
        the disk is too small; and as `download`. Then there is no record.
    """
    check_targets(record)
    sites = shard_sites(list_sites(options), shard, shards)
    store = open_store(options, patience)
    check_plates(store, options)
    compounds, used = read_compounds(store, options)
    metadata = {
        plate: read_metadata(store, options, plate)
        for plate in dict.fromkeys(site.plate for site in sites)
    }
    wanted, excluded = _choose(sites, metadata, options)
    named = options.wells is not None or options.sites is not None
    if excluded and named and options.broken == "refuse":
        first = excluded[0]
        raise PhantomscopeError(
            f"{len(excluded)} of the named sites are not on their plates, such as "
            f"{first['id']}",
            where="wells, sites",
            fix="name sites that are there, or set `broken: exclude`",
        )
    there = _sizes(store, wanted, options)
    wanted, outlines = _with_outlines(store, wanted, options)
    there |= outlines
    problems = _missing(wanted, there, options, store)
    if options.broken == "refuse":
        findings = Findings()
        for identifier, problem in problems.items():
            findings.note(Item(identifier, Path(problem.where), None), problem)
        raise_problems(findings, store.place(""), len(wanted))
    excluded += [
        excluded_row(one.place, "missing", problems[one.place.identifier].what)
        for one in wanted
        if one.place.identifier in problems
    ]
    wanted = [one for one in wanted if one.place.identifier not in problems]
    sizes = {key: there[key] for one in wanted for key in one.keys}
    _check_room(store, sizes)
    hashes = _together(
        lambda key: store.fetch(key, sizes[key], shown=False), sizes,
        options.connections, "fetching sites", max(sum(sizes.values()), 1),
        lambda key: sizes[key], unit="MB", per_step=1e-6,
    )  # fmt: skip
    hashes |= {key: store.fetch(key, shown=False) for key in used}
    for one in metadata.values():
        hashes |= one.hashes
    lines = cell_lines(options)
    write_json(
        record,
        {
            "source": str(store.base),
            "channels": options.wanted,
            "plates": {
                plate: {
                    "pixel_size_um": one.pixel_size_um,
                    "channels": dict(one.channels.origin),
                    "flat_fields": one.flat_fields,
                    "cell_line": lines[barcode_of(plate)],
                }
                for plate, one in metadata.items()
            },
            "cell_lines": lines,
            "compounds": compounds,
            "sites": [asdict(one) for one in wanted],
            "excluded": excluded,
            "hashes": dict(sorted(hashes.items())),
        },
    )

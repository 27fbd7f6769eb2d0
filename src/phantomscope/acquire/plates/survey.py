"""What is on plates, and how large: tables and lists, before any image is fetched."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
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
from phantomscope.acquire.plates.sites import Site, list_sites
from phantomscope.acquire.plates.store import PATIENT, Store, open_store
from phantomscope.acquire.plates.tables import cell_lines
from phantomscope.acquire.web import Patience
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import check_targets, read_json, write_json
from phantomscope.progress import Progress

A = TypeVar("A")
B = TypeVar("B")
NUCLEI, CELLS = "--nuclei_outlines.png", "--cell_outlines.png"


@dataclass(frozen=True)
class Wanted:
    """The files of one site: keys of its channels in order, and of its outlines.

    `sizes` are those of `keys`, in bytes.
    """

    plate: str
    well: str
    site: int
    files: tuple[str, ...]
    nuclei: str = ""
    cells: str = ""
    sizes: tuple[int, ...] = ()

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


def call_together(
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
    found = call_together(
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
        return replace(
            one,
            nuclei=nuclei if nuclei in there else "",
            cells=cells if cells in there else "",
        )

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


def _refuse_absent(absent: Sequence[Mapping[str, Any]], options: Plates) -> None:
    """Who names wells or sites, wants them."""
    named = options.wells is not None or options.sites is not None
    if absent and named and options.broken == "refuse":
        raise PhantomscopeError(
            f"{len(absent)} of the named sites are not on their plates, such as "
            f"{absent[0]['id']}",
            where="wells, sites",
            fix="name sites that are there, or set `broken: exclude`",
        )


def _found(
    store: Store, wanted: Sequence[Wanted], options: Plates
) -> tuple[list[Wanted], list[dict[str, Any]]]:
    """List the files; return the sites that have all, and rows of the others."""
    there = _sizes(store, wanted, options)
    wanted, outlines = _with_outlines(store, wanted, options)
    there |= outlines
    problems = _missing(wanted, there, options, store)
    if options.broken == "refuse":
        findings = Findings()
        for identifier, problem in problems.items():
            findings.note(Item(identifier, Path(problem.where), None), problem)
        raise_problems(findings, store.place(""), len(wanted))
    complete: list[Wanted] = []
    missing: list[dict[str, Any]] = []
    for one in wanted:
        if one.place.identifier in problems:
            what = problems[one.place.identifier].what
            missing.append(excluded_row(one.place, "missing", what))
        else:
            sizes = tuple(there[key] for key in one.keys)
            complete.append(replace(one, sizes=sizes))
    return complete, missing


def survey_plates(
    options: Plates, record: Path, *, patience: Patience = PATIENT
) -> None:
    """Read the tables of plates, and list the files of the chosen wells and sites.

    No image is fetched. All shards go by this one record, so that no two of them can
    take a channel for another; what is missing is told before anything is fetched.

    Parameters
    ----------
    options : Plates
        Which plates, wells, sites and channels.
    record : Path
        JSON file to write: what is where, sizes, compounds and cell lines, and hashes
        of the tables.
    patience : Patience
        When to give a connection up.

    Raises
    ------
    PhantomscopeError
        For unknown plates and wells, tables that are missing, contradict each other or
        lead elsewhere; and for missing files, all listed together (`broken: refuse`).
        Then there is no record.
    """
    check_targets(record)
    sites = list_sites(options)
    store = open_store(options, patience)
    check_plates(store, options)
    compounds, used = read_compounds(store, options)
    metadata = {plate: read_metadata(store, options, plate) for plate in options.plates}
    wanted, absent = _choose(sites, metadata, options)
    _refuse_absent(absent, options)
    wanted, missing = _found(store, wanted, options)
    hashes = {key: store.fetch(key, shown=False) for key in used}
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
            "excluded": [*absent, *missing],
            "hashes": dict(sorted(hashes.items())),
        },
    )


def read_survey(path: Path, options: Plates) -> tuple[dict[str, Any], list[Wanted]]:
    """Read the record of a survey, or of a shard that was fetched by it.

    Returns
    -------
    record : dict
        Its content.
    sites : list of Wanted
        Its sites.

    Raises
    ------
    PhantomscopeError
        If it is of another config.
    """
    record = read_json(path)
    try:
        if record["channels"] != options.wanted:
            raise ValueError(f"its channels are {record['channels']}")
        if gone := set(record["plates"]) - set(options.plates):
            raise ValueError(f"it has the plate {gone.pop()}")
        sites = [
            Wanted(**{
                **site, "files": tuple(site["files"]), "sizes": tuple(site["sizes"])
            })
            for site in record["sites"]
        ]  # fmt: skip
    except (ValueError, LookupError, TypeError) as error:
        raise PhantomscopeError(
            f"this is no record of these plates: {error}",
            where=path,
            fix="make it again with this config",
        ) from error
    return dict(record), sites

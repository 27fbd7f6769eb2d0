"""Fetching the files of a shard of sites, and the record of what was fetched."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from phantomscope.acquire.folder import Findings, Item, raise_problems
from phantomscope.acquire.plates.sites import list_sites, shard_sites
from phantomscope.acquire.plates.store import PATIENT, Store, open_store
from phantomscope.acquire.plates.survey import call_together, read_survey
from phantomscope.acquire.ranges import readable_size
from phantomscope.acquire.web import Patience
from phantomscope.config.plates import Plates
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import check_targets, write_json

# Of so many files that cannot be had, the server is to blame.
MOST_FAILURES = 10


def raw_store(store: Store, raw: Path | None) -> Store:
    """Return the store whose images lie in `raw`; a folder's stay where they are."""
    return store if raw is None or store.is_local else replace(store, home=raw)


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
            fix="name fewer wells or sites, or another folder in `downloads`; "
            "`keep: pairs` with more `shards` needs less",
        )


def _fetch(store: Store, sizes: Mapping[str, int], connections: int) -> dict[str, str]:
    """Fetch files, some at a time; return key to hash, or name those that failed."""
    findings = Findings()

    def fetch(key: str) -> str:
        if len(findings.problems) >= MOST_FAILURES:
            return ""
        try:
            return store.fetch(key, sizes[key], shown=False)
        except PhantomscopeError as problem:
            findings.note(Item(key, Path(problem.where), None), problem)
            return ""

    hashes = call_together(
        fetch, sizes, connections, "fetching sites", max(sum(sizes.values()), 1),
        lambda key: sizes[key], unit="MB", per_step=1e-6,
    )  # fmt: skip
    raise_problems(findings, store.place(""), len(sizes))
    return hashes


def _finish(partial: Path, raw: Path) -> None:
    """Give the folder of fetched files its final name."""
    with explain_os_errors(raw):
        partial.mkdir(parents=True, exist_ok=True)
        if raw.is_dir() and any(raw.iterdir()):
            raise PhantomscopeError(
                "this folder is in the way of fetched files",
                where=raw,
                fix="delete it, or name another one",
            )
        os.replace(partial, raw)


def fetch_plates(
    options: Plates, survey: Path, record: Path, *, raw: Path | None = None,
    shard: int = 0, shards: int = 1, patience: Patience = PATIENT,
) -> None:  # fmt: skip
    """Fetch the files of a shard of the sites, and only these.

    Files of a server come into ``<downloads>/<bucket>/<key>``, once for all
    experiments; one that is there is compared with its hash. Those of a folder stay
    where they are.

    Parameters
    ----------
    options : Plates
        Where the plates are.
    survey : Path
        What `survey_plates` wrote.
    record : Path
        JSON file to write at the end: that of the survey with the sites of the shard
        and the hashes of their files. `acquire_plates` reads it, and needs no server.
    raw : Path, optional
        Folder for the images and outlines of the shard alone, in place of `downloads`.
        It has its name once it is complete; a killed job takes up a hidden one.
    shard, shards : int
        Which part of the sites, of how many.
    patience : Patience
        When to give a connection up.

    Raises
    ------
    PhantomscopeError
        If the survey is of another config, the disk is too small, and for files that
        cannot be had, all listed together up to ten, after which the rest is not tried.
        Then there is no record; what was fetched stays.
    """
    check_targets(record)
    content, wanted = read_survey(survey, options)
    sites = set(shard_sites(list_sites(options), shard, shards))
    names = {site.identifier for site in sites}
    wanted = [one for one in wanted if one.place in sites]
    store = open_store(options, patience)
    partial = raw and raw.with_name(f".{raw.name}.partial")
    images = raw_store(store, partial)
    sizes = {
        key: size
        for one in wanted
        for key, size in zip(one.keys, one.sizes, strict=True)
    }
    _check_room(images, sizes)
    hashes = _fetch(images, sizes, options.connections)
    if raw and partial:
        _finish(partial, raw)
    write_json(
        record,
        {
            **content,
            "shards": shards,
            "survey_sha256": hashlib.sha256(survey.read_bytes()).hexdigest(),
            "sites": [asdict(one) for one in wanted],
            "excluded": [row for row in content["excluded"] if row["id"] in names],
            "hashes": dict(sorted((content["hashes"] | hashes).items())),
        },
    )

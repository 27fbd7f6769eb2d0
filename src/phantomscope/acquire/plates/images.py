"""From fetched plates to an image set, one site in memory at a time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.dataset import read_mask
from phantomscope.acquire.folder import Findings, Item, raise_problems
from phantomscope.acquire.plates.fetch import raw_store
from phantomscope.acquire.plates.flat_field import flatten, read_flat_field
from phantomscope.acquire.plates.sides import (
    choose_sides,
    plate_units,
    split_info,
)
from phantomscope.acquire.plates.store import Store, open_store
from phantomscope.acquire.plates.survey import Wanted, excluded_row, read_survey
from phantomscope.config.plates import RUNTIME_OF_PLATES, Plates
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_array, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress

# Outlines (Y, X) of bool to labels (Y, X) of integers, 0 is background.
ToInstances = Callable[[NDArray[np.bool_]], NDArray[Any]]
EXCLUDED = "excluded.csv"
EXCLUDED_COLUMNS = ("id", "plate", "well", "site", "reason", "detail")
LICENCE = "CC0 1.0 (Cell Painting Gallery)"
CITATION = (
    "Chandrasekaran et al., Three million images and morphological profiles of cells "
    "treated with matched chemical and genetic perturbations, Nature Methods 21, 2024, "
    "doi 10.1038/s41592-024-02241-6; Weisbart et al., Cell Painting Gallery: an open "
    "resource for image-based profiling, Nature Methods 21, 2024, doi "
    "10.1038/s41592-024-02399-z"
)


def read_plane(path: Path, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Read one channel of a site.

    Raises
    ------
    PhantomscopeError
        If it is damaged, not uint16 or of another size.
    """
    array = read_array(path)
    if array.dtype != np.uint16 or array.shape != size:
        raise PhantomscopeError(
            f"the image is {array.shape} of {array.dtype}, not {size} of uint16",
            where=path,
            fix="set `size` to that of the plate, or `broken: exclude` to leave such "
            "sites out",
        )
    return array


def find_black(
    image: NDArray[Any], names: Sequence[str], percentiles: tuple[float, float]
) -> str:
    """Return which channel is black; empty if none is.

    Parameters
    ----------
    image : ndarray, shape (C, Y, X)
        Stains.
    names : sequence of str
        Of the channels.
    percentiles : (float, float)
        A channel is black if it has the same value at both, as an image of one value
        has.
    """
    for name, plane in zip(names, image, strict=True):
        low, high = np.percentile(plane, percentiles)
        if low == high:
            return f"{name} is {low:g} at both percentiles {percentiles}"
    return ""


def write_excluded(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the list of what was left out, sorted by id; also if it is empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, EXCLUDED_COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(sorted(rows, key=lambda row: str(row["id"])))
    write_text(folder / EXCLUDED, text.getvalue())


def make_labels(
    outlines: NDArray[np.bool_], to_instances: ToInstances, where: Path | str
) -> NDArray[Any]:
    """Turn outlines into labels of the smallest type, and check them."""
    labels = np.asarray(to_instances(outlines))
    if labels.shape != outlines.shape or labels.dtype.kind not in "ui":
        raise PhantomscopeError(
            f"outlines of {outlines.shape} became {labels.shape} of {labels.dtype}",
            where=where,
            fix="the conversion has to return integers of the same size",
        )
    return labels.astype(np.uint16 if labels.max(initial=0) <= 65535 else np.uint32)


@dataclass(frozen=True)
class _Plan:
    """The record of what was fetched, and what is made of it."""

    options: Plates
    record: Mapping[str, Any]
    sides: Mapping[str, str]
    units: Mapping[str, str]
    to_instances: ToInstances
    sites: Sequence[Wanted]
    store: Store
    raw: Store

    def flat_fields(self, plate: str) -> list[NDArray[np.float32]]:
        """Return the illumination functions of a plate, in order of the channels."""
        keys = self.record["plates"][plate]["flat_fields"]
        size = self.options.size
        return [
            read_flat_field(self.store.path(keys[name]), size)
            for name in self.options.wanted
            if keys
        ]

    def image(self, site: Wanted) -> NDArray[np.uint16]:
        """Read all channels of a site, (C, Y, X)."""
        image = np.empty((len(site.files), *self.options.size), np.uint16)
        for number, key in enumerate(site.files):
            image[number] = read_plane(self.raw.path(key), self.options.size)
        return image

    def labels(self, key: str) -> NDArray[Any] | None:
        """Return the labels that outlines enclose; None where there are none."""
        if not key or self.options.outlines == "none":
            return None
        path = self.raw.path(key)
        return make_labels(read_mask(path, self.options.size), self.to_instances, path)

    def columns(self, site: Wanted) -> dict[str, Any]:
        """Return what the manifest says of a site."""
        place = site.place
        lines, compounds = self.record["cell_lines"], self.record["compounds"]
        return {
            "split": self.sides[self.units[place.group]],
            "group": place.group,
            "stratum": "x".join(map(str, self.options.size)),
            "plate": place.barcode,
            "well": place.well,
            "site": place.site,
            "compound": compounds.get(place.group, ""),
            "cell_line": lines[place.barcode],
            "channel_names": " ".join(self.options.wanted),
        }


def _info(options: Plates, record: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Everything that shapes the set, and where it comes from."""
    content = json.dumps(record, sort_keys=True).encode()
    return {
        "source": "plates",
        "name": options.batch,
        "origin": f"{record['source']}/{options.project}",
        "licence": LICENCE,
        "citation": CITATION,
        "channels": options.wanted,
        "inputs": options.inputs,
        "stains": options.stains,
        "plates": record["plates"],
        "options": options.model_dump(mode="json", exclude=set(RUNTIME_OF_PLATES)),
        "split": split_info(options, seed),
        "shards": record["shards"],
        "survey_sha256": record["survey_sha256"],
        "record_sha256": hashlib.sha256(content).hexdigest(),
    }


def acquire_plates(
    options: Plates, record: Path, folder: Path, to_instances: ToInstances, seed: int,
    *, raw: Path | None = None,
) -> None:  # fmt: skip
    """Make an image set of fetched plates.

    Parameters
    ----------
    options : Plates
        Channels, flat field, outlines, split.
    record : Path
        What `fetch_plates` wrote; its sites are those of the set.
    folder : Path
        Folder of the new set: images (C, Y, X) of uint16 in the units of the files,
        inputs before stains. ``mask`` are labels (Y, X) of nuclei and ``cells`` those
        of whole cells, where the gallery has outlines. Further columns: ``split``,
        ``group`` (plate and well), ``plate``, ``well``, ``site``, ``compound``,
        ``cell_line``, ``channel_names`` (parted by spaces). `excluded.csv` lists the
        sites that were left out: ``absent`` from the tables, ``missing`` files,
        ``black``, ``broken``, or ``unassigned`` (its plate map has no such well).
    to_instances : callable
        Makes labels (Y, X) of outlines (Y, X) of bool.
    seed : int
        Of the split. It does not depend on shards or on what is left out.
    raw : Path, optional
        Folder that was given to `fetch_plates`.

    Raises
    ------
    PhantomscopeError
        If no site is left (one shard of several may be empty), the record is of another
        config, an illumination function cannot be used, or, all listed together, for
        broken sites (`broken: refuse`). Then there is no set.
    """
    content, wanted = read_survey(record, options)
    units = plate_units(options, content["compounds"], content["cell_lines"])
    sides = choose_sides(units.values(), options.split, seed)
    store = open_store(options)
    images = raw_store(store, raw)
    plan = _Plan(options, content, sides, units, to_instances, wanted, store, images)
    with ImageSetWriter(folder, _info(options, content, seed)) as writer:
        excluded = [*content["excluded"], *_fill(writer, plan)]
        if not writer.rows and content["shards"] == 1:
            raise PhantomscopeError(
                f"none of {len(excluded)} sites is left; the first: "
                f"{excluded[0]['id']} ({excluded[0]['detail']})",
                where=record,
                fix="name other wells or sites",
            )
        write_excluded(writer.partial, excluded)


def _fill(writer: ImageSetWriter, plan: _Plan) -> list[dict[str, Any]]:
    """Write the sites and return rows of those that are left out."""
    findings, excluded = Findings(), []
    sites = plan.sites
    done = sum(site.place.identifier in writer for site in sites)
    plate, flat_fields = "", []
    with Progress("reading sites", len(sites), start=done, unit="sites") as progress:
        for site in sites:
            if site.place.identifier in writer:
                continue
            if site.plate != plate:
                plate, flat_fields = site.plate, plan.flat_fields(site.plate)
            try:
                reason = _add(writer, plan, site, flat_fields, bool(findings.problems))
                if reason:
                    excluded.append(excluded_row(site.place, *reason))
            except PhantomscopeError as problem:
                if plan.options.broken == "refuse":
                    path = Path(problem.where)
                    findings.note(Item(site.place.identifier, path, None), problem)
                where = Path(problem.where).name
                detail = f"{where}: {problem.what}"
                excluded.append(excluded_row(site.place, "broken", detail))
            progress.advance()
    raise_problems(findings, plan.raw.home, len(sites))
    return excluded


def _add(
    writer: ImageSetWriter, plan: _Plan, site: Wanted,
    flat_fields: Sequence[NDArray[np.float32]], only_check: bool,
) -> tuple[str, str] | None:  # fmt: skip
    """Write one site; return why it was left out, if it was."""
    options = plan.options
    if site.place.group not in plan.units:
        return "unassigned", "no plate map says what is in this well"
    image = plan.image(site)
    # Before the division: an image of one value would no longer be one.
    stains = image[len(options.inputs) :]
    if black := find_black(stains, options.stains, options.dark_percentiles):
        return "black", black
    for number, flat_field in enumerate(flat_fields):
        image[number] = flatten(image[number], flat_field)
    nuclei, cells = plan.labels(site.nuclei), plan.labels(site.cells)
    # After the first problem nothing is written, only checked.
    if not only_check:
        writer.add(
            site.place.identifier,
            image,
            nuclei,
            cells=cells,
            channels=len(image),
            pixel_size=plan.record["plates"][site.plate]["pixel_size_um"],
            **plan.columns(site),
        )
    return None


def excluded_of(images: ImageSet) -> list[dict[str, str]]:
    """Return the rows of `excluded.csv` of a set."""
    path = images.folder / EXCLUDED
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))

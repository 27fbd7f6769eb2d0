"""The split into a training and a test part that share no pixel."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy

from phantomscope.acquire.disjoint import WHOLE
from phantomscope.acquire.published import published_groups
from phantomscope.acquire.regions import Box, crop, cut, planes_within
from phantomscope.config.data import Split
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.annotations import (
    cut_rows,
    read_annotations,
    table_names,
    write_tables,
)
from phantomscope.images.axes import VOLUME_COLUMNS, PixelSize, voxel_size
from phantomscope.images.files import replace_folder
from phantomscope.images.imageset import COLUMNS, ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter, write_manifest
from phantomscope.provenance import file_digest

GROUPS_FOR_AUTO = 4


def _stratum(images: ImageSet, identifier: str) -> str:
    """Size of an image, such as ``512x768``, as the manifest has it."""
    return "x".join(map(str, images.shape(identifier)))


def units_of(images: ImageSet) -> dict[str, str]:
    """Map each group to its unit: groups that share an identical image are one unit.

    A copy under another name would otherwise stand on both sides.
    """
    groups = images.table["group"].to_numpy()
    names, group_index = np.unique(groups.astype(str), return_inverse=True)
    _, pixel_index = np.unique(images.table["sha256"].astype(str), return_inverse=True)
    size = len(names) + int(pixel_index.max()) + 1
    edges = (np.ones(len(groups)), (group_index, len(names) + pixel_index))
    graph = scipy.sparse.coo_array(edges, shape=(size, size))
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    first: dict[int, str] = {}
    return {
        str(name): first.setdefault(int(component[i]), str(name))
        for i, name in enumerate(names)
    }


def _strata(images: ImageSet, units: Mapping[str, str], by: str) -> list[list[str]]:
    """Sorted units of each stratum: units whose images have the same sizes."""
    sizes: dict[str, set[str]] = defaultdict(set)
    for identifier in images.ids:
        unit = units[str(images.row(identifier)["group"])]
        sizes[unit].add(_stratum(images, identifier) if by == "shape" else "")
    strata: dict[str, list[str]] = defaultdict(list)
    for unit in sorted(sizes):
        strata["+".join(sorted(sizes[unit]))].append(unit)
    return [strata[name] for name in sorted(strata)]


def draw_units(
    strata: list[list[str]], fraction: float, random: np.random.Generator
) -> set[str]:
    """Draw the training units of each stratum, at least one for each side.

    Parameters
    ----------
    strata : list of list of str
        Sorted units; each stratum is divided in the same proportion. The one unit of
        a stratum is for training.
    fraction : float
        Share for training, 0 ... 1.
    random : numpy.random.Generator
        Where the order comes from.

    Returns
    -------
    set of str
        Units of the training part.
    """
    training: set[str] = set()
    for units in strata:
        if len(units) == 1:
            training.update(units)
            continue
        count = min(max(round(fraction * len(units)), 1), len(units) - 1)
        order = random.permutation(len(units))
        training.update(units[i] for i in order[:count])
    return training


def _named_groups(units: Mapping[str, str], test: Sequence[str]) -> dict[str, str]:
    """Return the side of each group, where the test groups are named."""
    named = {group: "test" if group in test else "train" for group in units}
    if unknown := sorted(set(test) - set(units)):
        raise PhantomscopeError(
            f"there is no group {unknown[0]!r}; there are {', '.join(sorted(units))}",
            where="split.test",
            fix="name groups as they are in the column `group` of the manifest",
        )
    if set(named.values()) != {"test"}:
        for group, unit in units.items():
            if named[group] != named[unit]:
                raise PhantomscopeError(
                    f"the groups {unit!r} and {group!r} share an identical image, but "
                    "`test` names one of them only",
                    where="split.test",
                    fix="name both or none of them, or remove the copy",
                )
        return named
    raise PhantomscopeError(
        f"all groups are for the test ({', '.join(sorted(units))})",
        where="split.test",
        fix="leave at least one for training",
    )


def _choose_groups(images: ImageSet, options: Split, seed: int) -> dict[str, str]:
    """Return the side of each group."""
    units = units_of(images)
    if options.test is not None:
        return _named_groups(units, options.test)
    strata = _strata(images, units, options.stratify)
    if sum(map(len, strata)) < 2:
        raise PhantomscopeError(
            f"there is one group only ({images.row(images.ids[0])['group']}), so it "
            "cannot stand on both sides",
            where="split.by",
            fix="add images, change `source.group`, or cut each image",
            example="split:\n  by: region",
        )
    if all(len(units_of_size) == 1 for units_of_size in strata):
        # Each has a size of its own: sizes cannot be balanced, the share can.
        strata = [sorted(unit for stratum in strata for unit in stratum)]
    training = draw_units(strata, options.train_fraction, generator(seed, "split"))
    return {
        group: "train" if unit in training else "test" for group, unit in units.items()
    }


def _kept_for_training(
    training: Sequence[str], most: int | None, seed: int
) -> set[str]:
    """Return the training groups that are used: fewer are always among more."""
    names = sorted(training)
    if most is None:
        return set(names)
    order = generator(seed, "split", "most_train").permutation(len(names))
    return {names[n] for n in order[:most]}


def region_columns(parent: str, side: str, box: Box) -> dict[str, Any]:
    """Return the columns about a region: begin and end along ([z,] y, x)."""
    columns: dict[str, Any] = {"split": side, "parent": parent}
    for axis, (begin, end) in zip("zyx"[-len(box) :], box, strict=True):
        columns |= {f"{axis}0": begin, f"{axis}1": end}
    return columns


def _info(images: ImageSet, options: Split, by: str, seed: int) -> dict[str, Any]:
    """Everything that shaped the split, and where the images come from."""
    hashes = images.table[["id", "group", "sha256", "mask_sha256"]].to_csv(index=False)
    tables = {name: file_digest(images.folder / name) for name in table_names(images)}
    return {
        **images.info,
        "split": {
            **options.model_dump(mode="json"),
            "by": by,
            "margin": options.margin if by == "region" else 0,
            "seed": seed,
            "images_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
            **({"tables_sha256": tables} if tables else {}),
        },
    }


def _write_groups(
    images: ImageSet, sides: Mapping[str, str], kept: set[str],
    info: Mapping[str, Any], folder: Path,
) -> None:  # fmt: skip
    """Write a manifest that points to the whole images; no pixel is copied."""
    # Resolved, because `..` behind a link does not lead back.
    prefix = os.path.relpath(images.folder.resolve(), folder.resolve())
    rows = []
    for identifier in sorted(images.ids):
        row = images.row(identifier)
        side = sides[str(row["group"])]
        if side == "train" and row["group"] not in kept:
            continue
        box = tuple((0, length) for length in images.shape(identifier))
        row |= region_columns(identifier, side, box)
        row["stratum"] = _stratum(images, identifier)
        row["image"] = f"{prefix}/{row['image']}"
        row["mask"] = f"{prefix}/{row['mask']}" if row["mask"] else ""
        rows.append(row)
    used = images.table["id"].isin([row["id"] for row in rows])
    part = replace(images, table=images.table[used])
    tables = {name: read_annotations(part, name) for name in table_names(images)}
    partial = folder.with_name(f".{folder.name}.partial")
    with explain_os_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    write_manifest(partial, rows, info)
    write_tables(partial, tables)
    replace_folder(partial, folder)


def _write_regions(
    images: ImageSet, options: Split, info: Mapping[str, Any], seed: int, folder: Path
) -> None:
    """Write two crops of each image, and of its labels with their ids."""
    groups = sorted({str(images.row(i)["group"]) for i in images.ids})
    kept = _kept_for_training(groups, options.most_train, seed)
    tables = {name: read_annotations(images, name) for name in table_names(images)}
    with ImageSetWriter(folder, info) as writer:
        for identifier in images.ids:
            trained = str(images.row(identifier)["group"]) in kept
            sides = ("train", "test") if trained else ("test",)
            _write_crops(writer, images, identifier, options, seed, sides)
        regions = [row for _, row in sorted(writer.rows.items())]
        for name, table in tables.items():
            parts = [cut_rows(table[table["id"] == row["parent"]], _box(row), row["id"])
                     for row in regions]  # fmt: skip
            write_tables(writer.partial, {name: pd.concat(parts, ignore_index=True)})


def _box(row: Mapping[str, Any]) -> Box:
    """Return the region (y, x) of a crop in its parent."""
    return tuple((int(row[f"{axis}0"]), int(row[f"{axis}1"])) for axis in "yx")


def _write_crops(
    writer: ImageSetWriter, images: ImageSet, identifier: str, options: Split,
    seed: int, sides: Sequence[str],
) -> None:  # fmt: skip
    """Write the crops of one image for these sides; only this one is in memory."""
    row = images.row(identifier)
    # Drawn by the pixels, not the id: copies of an image are cut alike. So are all
    # frames of a video: objects hardly move from one to the next.
    key = row["sha256"] if pd.isna(row.get("frame", np.nan)) else row["group"]
    coin = generator(seed, "split", key).integers(2)
    name = f"the image {identifier!r}"
    boxes = cut(images.shape(identifier), options, bool(coin), name)
    image = images.channels(identifier)
    mask = images.mask(identifier) if images.has_mask(identifier) else None
    planes = images.annotated_planes(identifier)
    kept = {k: row[k] for k in row if k not in (*COLUMNS, *VOLUME_COLUMNS)}
    kept["channels"] = len(image)
    for side, box in boxes.items():
        if side not in sides or f"{identifier}-{side}" in writer:
            continue
        columns = {"stratum": _stratum(images, identifier), **kept}
        columns |= {"group": row["group"]}
        labels = None if mask is None else crop(mask, box)
        if planes is not None:
            columns["annotated_planes"] = planes_within(planes, box)
            # Without any annotated plane nothing is known of the labels.
            labels = labels if columns["annotated_planes"] else None
        part = crop(image, ((0, len(image)), *box))
        writer.add(
            f"{identifier}-{side}",
            part if len(part) > 1 else part[0],
            labels,
            pixel_size=_size(row),
            **columns | region_columns(identifier, side, box),
        )


def _size(row: Mapping[str, Any]) -> PixelSize | None:
    """Size of a pixel as the writer takes it: of an image one number if it can be."""
    sizes = voxel_size(row)
    if sizes is None or len(sizes) == 3:
        return sizes
    return sizes[0] if sizes[0] == sizes[1] else (1.0, *sizes)


def prepare(images: ImageSet, options: Split, seed: int, folder: Path) -> None:
    """Divide images into a training and a test part.

    Parameters
    ----------
    images : ImageSet
        All images, ([Z,] Y, X), with or without labels.
    options : Split
        Section ``split`` of the config; the margin is in px.
    seed : int
        The same seed makes the same split.
    folder : Path
        Folder of the new set. Its columns ``split`` (``train`` or ``test``),
        ``parent``, ``y0``, ``x0``, ``y1``, ``x1``, of volumes ``z0``, ``z1`` (region
        in the parent, px, end excluded) and ``stratum`` (size of the parent) say what
        lies where. By group
        it points to the files of `images`; by region it holds crops of the same
        dtype and intensities, and the labels keep their numbers: objects cut by the
        border remain as fragments. Tables of points and boxes are divided alike.
        Where the publisher's split is taken, its third part is ``validation``.

    Raises
    ------
    PhantomscopeError
        If there is no image, one group only (``by: group``), or ``split.test`` names
        groups that are not there or all of them; if a region would be thinner than 64
        px, or, along z, than 8 planes; and as `published_groups`.
    """
    if not len(images):
        raise PhantomscopeError(
            "there is no image to divide",
            where=images.folder,
            fix="acquire images first",
        )
    by: str = options.by
    if by == "auto":
        groups = len(set(units_of(images).values()))
        named = options.test is not None
        by = "group" if named or groups >= GROUPS_FOR_AUTO else "region"
    info = _info(images, options, by, seed)
    if by in WHOLE:
        sides = (
            published_groups(images, units_of(images))
            if by == "published"
            else _choose_groups(images, options, seed)
        )
        training = [group for group, side in sides.items() if side == "train"]
        kept = _kept_for_training(training, options.most_train, seed)
        _write_groups(images, sides, kept, info, folder)
    else:
        _write_regions(images, options, info, seed, folder)

"""The split into a training and a test part that share no pixel."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from phantomscope.config.data import Split
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import replace_folder
from phantomscope.images.imageset import COLUMNS, ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter, write_manifest

THINNEST = 64
GROUPS_FOR_AUTO = 4


def _shape(images: ImageSet, identifier: str) -> tuple[int, int]:
    """Height and width of an image, as the manifest has them."""
    row = images.row(identifier)
    return int(row["height"]), int(row["width"])


def _units(images: ImageSet) -> dict[str, str]:
    """Map each group to its unit: groups that share an identical image are one unit.

    A copy under another name would otherwise stand on both sides.
    """
    groups = images.table["group"].to_numpy()
    names, group_index = np.unique(groups.astype(str), return_inverse=True)
    _, pixel_index = np.unique(images.table["sha256"].astype(str), return_inverse=True)
    size = len(names) + int(pixel_index.max()) + 1
    edges = (np.ones(len(groups)), (group_index, len(names) + pixel_index))
    graph = coo_array(edges, shape=(size, size))
    _, component = connected_components(graph, directed=False)
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
        height, width = _shape(images, identifier) if by == "shape" else (0, 0)
        sizes[unit].add(f"{height}x{width}")
    strata: dict[str, list[str]] = defaultdict(list)
    for unit in sorted(sizes):
        strata["+".join(sorted(sizes[unit]))].append(unit)
    return [strata[name] for name in sorted(strata)]


def _draw(
    strata: list[list[str]], fraction: float, random: np.random.Generator
) -> set[str]:
    """Draw the training units of each stratum, at least one for each side."""
    training: set[str] = set()
    for units in strata:
        if len(units) == 1:
            training.update(units)
            continue
        count = min(max(round(fraction * len(units)), 1), len(units) - 1)
        order = random.permutation(len(units))
        training.update(units[i] for i in order[:count])
    return training


def _choose_groups(images: ImageSet, options: Split, seed: int) -> dict[str, str]:
    """Return the side of each group."""
    units = _units(images)
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
    training = _draw(strata, options.train_fraction, generator(seed, "split"))
    return {
        group: "train" if unit in training else "test" for group, unit in units.items()
    }


def _region_columns(parent: str, side: str, box: tuple[int, ...]) -> dict[str, Any]:
    y0, x0, y1, x1 = box
    return {"split": side, "parent": parent, "y0": y0, "x0": x0, "y1": y1, "x1": x1}


def _info(images: ImageSet, options: Split, by: str, seed: int) -> dict[str, Any]:
    """Everything that shaped the split, and where the images come from."""
    hashes = images.table[["id", "group", "sha256", "mask_sha256"]].to_csv(index=False)
    return {
        **images.info,
        "split": {
            **options.model_dump(mode="json"),
            "by": by,
            "margin": options.margin if by == "region" else 0,
            "seed": seed,
            "images_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
        },
    }


def _write_groups(
    images: ImageSet, sides: Mapping[str, str], info: Mapping[str, Any], folder: Path
) -> None:
    """Write a manifest that points to the whole images; no pixel is copied."""
    # Resolved, because `..` behind a link does not lead back.
    prefix = os.path.relpath(images.folder.resolve(), folder.resolve())
    rows = []
    for identifier in sorted(images.ids):
        row = images.row(identifier)
        height, width = _shape(images, identifier)
        side = sides[str(row["group"])]
        row |= _region_columns(identifier, side, (0, 0, height, width))
        row |= {"stratum": f"{height}x{width}", "image": f"{prefix}/{row['image']}"}
        row["mask"] = f"{prefix}/{row['mask']}" if row["mask"] else ""
        rows.append(row)
    partial = folder.with_name(f".{folder.name}.partial")
    with explain_os_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    write_manifest(partial, rows, info)
    replace_folder(partial, folder)


def cut(
    shape: tuple[int, int], options: Split, train_first: bool, name: str = "an image"
) -> dict[str, tuple[int, int, int, int]]:
    """Cut an image along its longer axis.

    Parameters
    ----------
    shape : tuple of int
        Height and width, px.
    options : Split
        Share of the training part and margin, px.
    train_first : bool
        Whether the training part is at the top or left.
    name : str
        What to call the image in an error.

    Returns
    -------
    dict
        ``train`` and ``test`` to (y0, x0, y1, x1), px, end excluded.

    Raises
    ------
    PhantomscopeError
        If a part would be thinner than 64 px.
    """
    length = max(shape)
    train = round((length - options.margin) * options.train_fraction)
    test = length - options.margin - train
    if min(train, test) < THINNEST:
        raise PhantomscopeError(
            f"{name} of {shape[0]} x {shape[1]} px leaves {max(train, 0)} px for "
            f"training and {max(test, 0)} px for test beside a margin of "
            f"{options.margin} px; each needs {THINNEST}",
            where="split.margin",
            fix="choose a smaller margin, another `train_fraction`, larger images, or "
            f"{GROUPS_FOR_AUTO} images and more, which are not cut",
        )
    ends = {
        "train": (0, train) if train_first else (length - train, length),
        "test": (length - test, length) if train_first else (0, test),
    }
    if shape[0] == length:
        return {side: (a, 0, b, shape[1]) for side, (a, b) in ends.items()}
    return {side: (0, a, shape[0], b) for side, (a, b) in ends.items()}


def _crop(array: NDArray[Any], box: tuple[int, int, int, int]) -> NDArray[Any]:
    y0, x0, y1, x1 = box
    return np.ascontiguousarray(array[y0:y1, x0:x1])


def _write_regions(
    images: ImageSet, options: Split, info: Mapping[str, Any], seed: int, folder: Path
) -> None:
    """Write two crops of each image, and of its labels with their ids."""
    with ImageSetWriter(folder, info) as writer:
        for identifier in images.ids:
            row = images.row(identifier)
            image = images.image(identifier)
            mask = images.mask(identifier) if images.has_mask(identifier) else None
            # Drawn by the pixels, not the id: copies of an image are cut alike.
            coin = generator(seed, "split", row["sha256"]).integers(2)
            shape = (image.shape[0], image.shape[1])
            kept = {key: row[key] for key in row if key not in COLUMNS}
            known = row["pixel_size"] == row["pixel_size"]  # NaN is no size
            size = float(row["pixel_size"]) if known else None
            name = f"the image {identifier!r}"
            for side, box in cut(shape, options, bool(coin), name).items():
                if f"{identifier}-{side}" in writer:
                    continue
                columns = {"stratum": f"{shape[0]}x{shape[1]}", **kept}
                columns |= {"group": row["group"]}
                writer.add(
                    f"{identifier}-{side}",
                    _crop(image, box),
                    None if mask is None else _crop(mask, box),
                    pixel_size=size,
                    **columns | _region_columns(identifier, side, box),
                )


def prepare(images: ImageSet, options: Split, seed: int, folder: Path) -> None:
    """Divide images into a training and a test part.

    Parameters
    ----------
    images : ImageSet
        All images, (Y, X), with or without labels.
    options : Split
        Section ``split`` of the config; the margin is in px.
    seed : int
        The same seed makes the same split.
    folder : Path
        Folder of the new set. Its columns ``split`` (``train`` or ``test``),
        ``parent``, ``y0``, ``x0``, ``y1``, ``x1`` (region in the parent, px, end
        excluded) and ``stratum`` (size of the parent) say what lies where. By group
        it points to the files of `images`; by region it holds crops of the same
        dtype and intensities, and the labels keep their numbers: objects cut by the
        border remain as fragments.

    Raises
    ------
    PhantomscopeError
        If there is no image, one group only (``by: group``), or a region would be
        thinner than 64 px.
    """
    if not len(images):
        raise PhantomscopeError(
            "there is no image to divide",
            where=images.folder,
            fix="acquire images first",
        )
    by: str = options.by
    if by == "auto":
        groups = len(set(_units(images).values()))
        by = "group" if groups >= GROUPS_FOR_AUTO else "region"
    info = _info(images, options, by, seed)
    if by == "group":
        _write_groups(images, _choose_groups(images, options, seed), info, folder)
    else:
        _write_regions(images, options, info, seed, folder)


def _gap(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Pixels between two regions along the axis that parts them; < 0 if they overlap.

    Regions that touch have a gap of 0.
    """
    return max(
        int(max(one[f"{a}0"] - other[f"{a}1"], other[f"{a}0"] - one[f"{a}1"]))
        for a in "yx"
    )


def _leak(what: str, where: Path) -> PhantomscopeError:
    return PhantomscopeError(
        what, where=where, fix="delete the folder and run the same command again"
    )


def assert_disjoint(prepared: ImageSet) -> None:
    """Make sure that training and test part share nothing.

    Parameters
    ----------
    prepared : ImageSet
        What `prepare` wrote.

    Raises
    ------
    PhantomscopeError
        If a row is on neither side, a test region overlaps a training region of the
        same parent or is nearer than the margin in `info`, or (by group) a group or
        an identical image is on both sides.
    """
    where = prepared.folder / "manifest.csv"
    options = prepared.info.get("split", {})
    margin = int(options.get("margin", 0))
    rows: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(
        lambda: {"train": [], "test": []}
    )
    for identifier in prepared.ids:
        row = prepared.row(identifier)
        if row["split"] not in ("train", "test"):
            raise _leak(f"{identifier!r} is on the side {row['split']!r}", where)
        rows[str(row["parent"])][row["split"]].append(row)
    for parent, sides in rows.items():
        for one in sides["train"]:
            for other in sides["test"]:
                if (gap := _gap(one, other)) < margin or gap < 0:
                    raise _leak(
                        f"{one['id']} (train) and {other['id']} (test) of {parent} "
                        f"are {gap} px apart; the margin is {margin} px",
                        where,
                    )
    if options.get("by") == "group":
        table = prepared.table
        for column in ("group", "sha256"):
            train, test = (
                set(table.loc[table["split"] == side, column])
                for side in ("train", "test")
            )
            if both := sorted(train & test):
                raise _leak(f"the {column} {both[0]} is on both sides", where)

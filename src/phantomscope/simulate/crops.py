"""Crops of objects, and backgrounds without them, as image sets."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.datasets import suggestion
from phantomscope.config.layers import Crops
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES, POINTS, read_annotations, read_table
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.simulate.crop_find import (
    Cut,
    box_mask,
    cut_boxes,
    cut_labels,
    cut_squares,
    foreground,
    holes,
)

Mask = NDArray[np.bool_]
# What crops and backgrounds have of their image: sides and folds are found by these.
KEPT = ("split", "group", "fold", "well", "site", "control")


def cut_image(
    image: NDArray[Any], options: Crops, *, labels: NDArray[Any] | None = None,
    points: pd.DataFrame | None = None, boxes: pd.DataFrame | None = None,
    rng: np.random.Generator,
) -> tuple[list[Cut], Mask]:  # fmt: skip
    """Cut the objects out of one image.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Intensities.
    options : Crops
        The recipe.
    labels : ndarray, shape (Y, X), optional
        Objects, for the recipe `labels`.
    points, boxes : DataFrame, optional
        Of this image, for these recipes, with the columns of `images.annotations`.
    rng : Generator
        For squares of the other layer.

    Returns
    -------
    list of Cut
        Crops, also those that are not clean.
    ndarray, shape (Y, X)
        What is no background.
    """
    if options.recipe == "boxes" and boxes is not None:
        taken = box_mask(boxes, image.shape)
        found = [*cut_boxes(image, boxes, options),
                 *cut_squares(image, taken, options, rng)]  # fmt: skip
        return found, holes(image, options, taken)
    if options.recipe == "labels":
        if labels is None:
            raise PhantomscopeError(
                "the recipe `labels` needs labelled objects",
                where="crops.recipe",
                fix="give labels, or look for foreground with `threshold`",
            )
        objects = labels > 0
    else:
        objects = foreground(image, options)
        labels, _ = ndimage.label(objects)
    if options.recipe == "points" and points is None:
        raise PhantomscopeError(
            "the recipe `points` needs a table of points", where="crops.recipe",
            fix=f"put a {POINTS} beside the manifest, or use `threshold`",
        )  # fmt: skip
    found = list(cut_labels(image, labels, options, points))
    return found, holes(image, options, objects, points)


def extract_crops(
    images: ImageSet, crops: Path, backgrounds: Path, options: Crops, seed: int
) -> None:
    """Make a set of crops and one of backgrounds out of a set of images.

    Parameters
    ----------
    images : ImageSet
        Images (Y, X), for the recipes `points` and `boxes` with such a table beside
        the manifest.
    crops : Path
        New set: the image of each crop is as it was, its mask is 1 in the object.
        Columns: `parent` (id of its image), `type` (class), `focus`, `area` (px), `y`,
        `x` (place in the image); `KEPT` are those of the image, so that a split by
        image stays one.
    backgrounds : Path
        New set: the images by their ids, whose masks are 1 where objects are.
    options : Crops
        The recipe.
    seed : int
        Seed of the experiment; each image has random numbers of its own.

    Raises
    ------
    PhantomscopeError
        If no crop is found, or a table or labels are missing.
    """
    table = None
    if options.recipe in ("points", "boxes"):
        table = read_annotations(
            images, POINTS if options.recipe == "points" else BOXES
        )
    info = {
        "source": "crops", "options": options.model_dump(mode="json"), "seed": seed,
        "of": images.info, "images": hash_of(images),
    }  # fmt: skip
    count, dropped = 0, 0
    with (
        ImageSetWriter(crops, info, resume=False) as writer,
        ImageSetWriter(
            backgrounds, info | {"source": "backgrounds"}, resume=False
        ) as behind,
    ):
        for identifier in images.ids:
            row, image = images.row(identifier), images.image(identifier)
            own = None if table is None else table[table["id"] == identifier]
            found, hidden = cut_image(
                image, options,
                labels=images.mask(identifier) if options.recipe == "labels" else None,
                points=own if options.recipe == "points" else None,
                boxes=own if options.recipe == "boxes" else None,
                rng=generator(seed, "squares", identifier),
            )  # fmt: skip
            shared = {name: row[name] for name in KEPT if name in row}
            kept = [cut for cut in found if cut.clean]
            for number, cut in enumerate(kept):
                _add(writer, f"{identifier}-{number:04d}", cut, identifier, shared)
            count, dropped = count + len(kept), dropped + len(found) - len(kept)
            mask = hidden.astype(np.uint16)
            behind.add(identifier, image, mask, **shared)
        if not count:
            raise PhantomscopeError(
                f"no object was found in {len(images)} images ({dropped} were not "
                "clean)",
                where="crops",
                fix="look at the images: is `dark` right, is `min_area` too large?",
            )
        writer.info |= {"crops": count, "not_clean": dropped}


def hash_of(images: ImageSet) -> str:
    """Return what changes when any image or label of a set does."""
    rows = images.table[["id", "sha256", "mask_sha256"]].to_csv(index=False)
    return f"{generator(rows).integers(2**63):016x}"


def _add(
    writer: ImageSetWriter, name: str, cut: Cut, parent: str, shared: dict[str, Any]
) -> None:
    writer.add(
        name, np.ascontiguousarray(cut.image), cut.mask.astype(np.uint16),
        parent=parent, type=cut.kind, focus=round(cut.focus, 6), y=cut.y, x=cut.x,
        area=int(cut.mask.sum()), **shared,
    )  # fmt: skip


def read_veto(path: Path, crops: ImageSet) -> set[str]:
    """Return the ids of a CSV (column ``id``) that a person wants dropped.

    Raises
    ------
    PhantomscopeError
        If the file cannot be read, or names a crop that is not there.
    """
    ids = list(read_table(path, ("id",))["id"])
    unknown = [name for name in ids if name not in crops.table.index]
    if unknown:
        raise PhantomscopeError(
            f"there is no crop {unknown[0]!r} ({len(unknown)} such ids)",
            where=path,
            fix=suggestion(unknown[0], crops.ids),
        )
    return set(ids)


def choose_crops(
    crops: ImageSet, kind: str | None = None, parents: Collection[str] | None = None,
    veto: Path | None = None, *, but: bool = False,
) -> ImageSet:  # fmt: skip
    """Return the crops of a class and of some images, without those of a veto.

    Parameters
    ----------
    crops : ImageSet
        Of `extract_crops`.
    kind : str, optional
        The class.
    parents : collection of str, optional
        Ids of the images whose crops are taken.
    veto : Path, optional
        See `read_veto`.
    but : bool
        Take all classes but this one; there may be none then.

    Raises
    ------
    PhantomscopeError
        If there is no such class, or no crop is left.
    """
    table, kinds = crops.table, sorted(set(crops.table["type"]))
    keep = np.ones(len(table), bool)
    if veto is not None:
        keep &= ~table["id"].isin(read_veto(veto, crops)).to_numpy()
    if kind is not None:
        if kind not in kinds:
            raise PhantomscopeError(
                f"no crop is of the class {kind!r}",
                where="filter.targets",
                fix=suggestion(kind, kinds),
            )
        keep &= ((table["type"] == kind) != but).to_numpy()
    if parents is not None:
        keep &= table["parent"].isin(list(parents)).to_numpy()
    if not keep.any() and not but:
        where = "" if parents is None else f" of these {len(parents)} images"
        raise PhantomscopeError(
            f"no crop{where} is left of {len(crops)} (class {kind!r})",
            where=crops.folder,
            fix=f"there are the classes {', '.join(kinds)}; is the veto too long, or "
            "are there too few images on this side?",
        )
    return ImageSet(crops.folder, table[keep], crops.info)


def read_pairs(
    images: ImageSet, scale: float
) -> Iterator[tuple[NDArray[np.float32], Mask]]:
    """Yield image / scale and mask of each crop or background, for packing."""
    for identifier in images.ids:
        image = images.image(identifier).astype(np.float32) / np.float32(scale)
        yield image, images.mask(identifier) > 0

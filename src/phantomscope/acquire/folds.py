"""Which images a training of semantic filtering sees, and which test it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from phantomscope.acquire.split import units_of
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator

ALL = "all"
# What `info.json` of a composed set says of its source.
COMPOSED = "composed"


def _ordered_groups(images: ImageSet) -> list[list[str]]:
    """Return the groups by column `fold`, or by name; those with a common image once.

    An image under two names would otherwise stand on both sides.
    """
    table = images.table
    table = table[table["split"] != "validation"]
    units = units_of(images)
    unit = table["group"].astype(str).map(units)
    fold = pd.to_numeric(
        table["fold"] if "fold" in table else pd.Series(np.nan, table.index),
        errors="coerce",
    )
    known = bool(len(table)) and bool(fold.notna().all())
    first = (fold if known else fold.fillna(0)).groupby(unit).min()
    order = sorted(first.index, key=lambda name: (first[name], name))
    return [sorted(g for g, u in units.items() if u == name) for name in order]


def _of_groups(images: ImageSet, groups: set[str]) -> ImageSet:
    keep = images.table["group"].astype(str).isin(groups)
    keep &= images.table["split"] != "validation"
    return replace(images, table=images.table[keep])


def _part(config: Config, images: ImageSet, fold: int, *, test: bool) -> ImageSet:
    """Return one side of a fold."""
    count = config.filter.folds
    if not 0 <= fold < count:
        raise PhantomscopeError(
            f"there is no fold {fold}",
            where="--fold",
            fix=f"`filter.folds` is {count}: give 0 to {count - 1}",
        )
    side = "test" if test else "train"
    if count == 1:
        found = images.select(split=side)
    else:
        groups = _ordered_groups(images)
        chosen = [g for i, g in enumerate(groups) if (i % count == fold) == test]
        found = _of_groups(images, {name for group in chosen for name in group})
    if not len(found):
        raise PhantomscopeError(
            f"no image of {len(images)} is on the side {side!r} of fold {fold}",
            where=images.folder / "manifest.csv",
            fix="use fewer `filter.folds`, or change `split`: a group of images is on "
            "one side only",
        )
    return found


def training_images(
    config: Config, images: ImageSet, fold: int, number: str = ALL
) -> ImageSet:
    """Return the images that a training sees.

    Parameters
    ----------
    config : Config
        `filter.folds`, and the seed of the order.
    images : ImageSet
        What `prepare` wrote, or the backgrounds of it, with the columns `split` and
        `group`. With one fold `split` decides. With more, the groups in the order of
        their column `fold` (else by name) go to the test part of one fold after the
        other; what is on the side ``validation`` is never used.
    fold : int
        0 to `filter.folds` - 1.
    number : str
        ``all``, or how many groups; where each image is a group of its own, that is
        how many images. Fewer are always among more.

    Returns
    -------
    ImageSet
        A part of `images`, in the same order.

    Raises
    ------
    PhantomscopeError
        If there is no such fold, no image is left, or there are fewer than `number`.
    """
    found = _part(config, images, fold, test=False)
    if number == ALL:
        return found
    groups = sorted(set(found.table["group"].astype(str)))
    wanted = int(number) if number.isdecimal() else 0
    if not 1 <= wanted <= len(groups):
        raise PhantomscopeError(
            f"{number} training images were asked for, there are {len(groups)}",
            where="filter.images",
            fix=f"give {ALL!r}, or 1 to {len(groups)}",
        )
    order = generator(config.seed, "filter", "images").permutation(len(groups))
    return _of_groups(found, {groups[n] for n in order[:wanted]})


def held_out(config: Config, images: ImageSet, fold: int) -> ImageSet:
    """Return the images that no training of this fold sees; see `training_images`."""
    return _part(config, images, fold, test=True)


def tested_images(config: Config, images: ImageSet, fold: int) -> ImageSet:
    """Return the images that a fold is tested on.

    Parameters
    ----------
    config : Config
        `filter.truth` and `filter.folds`.
    images : ImageSet
        What `prepare` wrote, or for the truth ``layers`` what `compose-set` wrote for
        the tests of this fold: all of these are tested.
    fold : int
        0 to `filter.folds` - 1.

    Raises
    ------
    PhantomscopeError
        If there is no such fold or image, or for ``layers`` the set is no composed one.
    """
    if config.filter.truth != "layers":
        return held_out(config, images, fold)
    if images.info.get("source") != COMPOSED or images.info.get("use") != "tests":
        raise PhantomscopeError(
            "the layers of these images are not known",
            where=images.folder,
            fix="give the folder `composed/TARGET/foldN/tests-all`, or compare with "
            "another `filter.truth`",
        )
    return images


def asked_images(config: Config, images: ImageSet, fold: int, part: str) -> ImageSet:
    """Return `tested_images`, or for the part ``all`` every image, as of a plate."""
    return images if part == ALL else tested_images(config, images, fold)

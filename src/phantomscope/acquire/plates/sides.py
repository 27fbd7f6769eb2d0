"""The split of plates into training, validation and test, and the proof of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from phantomscope.acquire.disjoint import gap_between
from phantomscope.acquire.plates.sites import plate_wells
from phantomscope.acquire.regions import Box, cut
from phantomscope.acquire.split import draw_units
from phantomscope.config.data import Split
from phantomscope.config.datasets import suggestion
from phantomscope.config.painting import PlateSplit
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator

# What stays whole, and the column of the manifest that names it.
COLUMNS = {
    "plate": "plate",
    "well": "group",
    "compound": "compound",
    "cell_line": "cell_line",
}
SIDES = ("train", "validation", "test")


def plate_units(
    options: Plates, compounds: Mapping[str, str], lines: Mapping[str, str]
) -> dict[str, str]:
    """Return the unit that each well belongs to.

    Parameters
    ----------
    options : Plates
        Plates, wells and what stays whole.
    compounds : Mapping
        Group (plate and well) to compound.
    lines : Mapping
        Short name of a plate to its cell line.

    Returns
    -------
    dict
        Group to unit, of all wells that the config asks for, not of one shard only.
        By compound, wells that no plate map names are left out.

    Raises
    ------
    PhantomscopeError
        By cell line, if that of a plate is unknown.
    """
    units: dict[str, str] = {}
    for plate in map(barcode_of, options.plates):
        if options.split_by == "cell_line" and not lines.get(plate):
            raise PhantomscopeError(
                f"nothing says which cells are on the plate {plate}",
                where="cell_lines",
                fix="add it",
                example=f"cell_lines: [[{plate}, U2OS]]",
            )
        for well in plate_wells(options):
            group = f"{plate}_{well}"
            if options.split_by != "compound":
                whole = {"plate": plate, "cell_line": lines.get(plate, "")}
                units[group] = whole.get(options.split_by, group)
            elif group in compounds:
                units[group] = compounds[group]
    return units


def choose_sides(
    units: Iterable[str], options: PlateSplit, seed: int
) -> dict[str, str]:
    """Return the side of each unit.

    Parameters
    ----------
    units : iterable of str
        Names; the order does not matter.
    options : PlateSplit
        Sides of some units by name, and shares of the others.
    seed : int
        The same seed draws the same sides.

    Returns
    -------
    dict
        Unit to ``train``, ``validation`` or ``test``.

    Raises
    ------
    PhantomscopeError
        If a named unit is not there, or a side that is asked for would be empty.
    """
    every = sorted(set(units))
    # Plates go by their full name, too.
    named = {barcode_of(name): side for name, side in options.named.items()}
    for name in named:
        if name not in every:
            raise PhantomscopeError(
                f"the split names {name!r}, but there is none",
                where="split",
                fix=suggestion(name, every[:50]),
            )
    rest = [unit for unit in every if unit not in named]
    sides = dict.fromkeys(rest, "train") | named
    drawn = not (options.validation or options.test)
    if drawn and rest:
        test, validation = options.test_fraction, options.validation_fraction
        kept = draw_units([rest], 1 - test, generator(seed, "plates", "test"))
        sides |= {unit: "test" for unit in rest if unit not in kept}
        if validation:
            share = 1 - validation / (1 - test)
            random = generator(seed, "plates", "validation")
            training = draw_units([sorted(kept)], share, random)
            sides |= dict.fromkeys(kept - training, "validation")
    wanted = {"train", *(["test"] if drawn else named.values())}
    if drawn and options.validation_fraction:
        wanted.add("validation")
    if empty := sorted(wanted - set(sides.values())):
        raise PhantomscopeError(
            f"of {len(every)} units ({', '.join(every[:3])} ...) none is left for "
            f"{empty[0]}",
            where="split.by",
            fix="name more plates or wells, or let something smaller stay whole",
            example="split:\n  by: well",
        )
    return sides


def cut_sides(
    shape: tuple[int, ...], options: PlateSplit, coin: bool, name: str
) -> dict[str, Box]:
    """Cut an image into regions, one for each side.

    Parameters
    ----------
    shape : tuple of int
        (Y, X), px.
    options : PlateSplit
        Shares, margin and axis.
    coin : bool
        Whether the training part comes first.
    name : str
        What to call the image in an error.

    Returns
    -------
    dict
        Side to (begin, end) along y and x, px, the end excluded.

    Raises
    ------
    PhantomscopeError
        If a part would be thinner than 64 px.
    """
    how = {"by": "region", "margin": options.margin, "axis": options.axis}
    test, validation = options.test_fraction, options.validation_fraction
    try:
        boxes = cut(shape, Split(train_fraction=1 - test, **how), coin, name)
        if not validation:
            return boxes
        whole = boxes["train"]
        share = Split(train_fraction=1 - validation / (1 - test), **how)
        inner = cut([end - begin for begin, end in whole], share, coin, name)
    except PhantomscopeError as error:
        raise PhantomscopeError(
            error.what,
            where=error.where,
            fix="choose a smaller margin, other shares, larger images, or whole images "
            "on each side (`by: well`)",
        ) from error

    def within(box: Box) -> Box:
        return tuple(
            (begin + low, begin + high)
            for (begin, _), (low, high) in zip(whole, box, strict=True)
        )

    return {
        "train": within(inner["train"]),
        "validation": within(inner["test"]),
        "test": boxes["test"],
    }


def split_info(options: Plates, seed: int) -> dict[str, Any]:
    """Return what `info.json` says about the split."""
    content = options.split.model_dump(mode="json")
    margin = options.split.margin if options.split_by == "region" else 0
    return {**content, "by": options.split_by, "margin": margin, "seed": seed}


def _leak(what: str, images: ImageSet) -> PhantomscopeError:
    return PhantomscopeError(
        what,
        where=images.folder / "manifest.csv",
        fix="delete the folder and run the same command again; if one image is in the "
        "data twice, leave one of its wells out",
    )


def assert_apart(images: ImageSet) -> None:
    """Make sure that training, validation and test share nothing.

    Parameters
    ----------
    images : ImageSet
        A set of `acquire_plates` or `acquire_fields`, or several joined, or pairs made
        of plates: of these the ``field_sha256`` tell of identical images, since scaled
        ones differ from plate to plate.

    Raises
    ------
    PhantomscopeError
        If a row is on no side; if a group (but by region), an identical image or what
        stays whole (plate, compound, cell line) is on two sides; if regions of an
        image are nearer than the margin.
    """
    table = images.table
    split = images.info.get("split", {})
    by = str(split.get("by"))
    strange = sorted(set(table["split"]) - set(SIDES))
    if strange or by not in (*COLUMNS, "region"):
        raise _leak(f"the side {strange or by!r} is none of {SIDES}", images)
    columns = ["sha256"] if by == "region" else ["group", "sha256", COLUMNS[by]]
    columns += [name for name in ["field_sha256"] if name in table]
    for column in dict.fromkeys(columns):
        sides = table.groupby(column)["split"].nunique()
        if both := sorted(sides.index[sides > 1]):
            raise _leak(f"the {column} {both[0]} is on two sides", images)
    if by == "region":
        for parent, rows in table.groupby("parent"):
            _check_gaps(images, str(parent), rows.to_dict("records"), split["margin"])


def _check_gaps(images: ImageSet, parent: str, rows: list[Any], margin: int) -> None:
    for one, other in combinations(rows, 2):
        gap = gap_between(one, other)
        if gap < margin or gap < 0:
            raise _leak(
                f"{one['id']} and {other['id']} of {parent} are {gap} px apart; the "
                f"margin is {margin} px",
                images,
            )

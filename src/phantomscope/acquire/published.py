"""The split that the publisher of a data set made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet

# The first of these columns that is filled says it.
SPLIT_COLUMNS = ("published_split", "split")
# What publishers call the parts.
SIDES = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "validation": "validation", "val": "validation", "valid": "validation",
}  # fmt: skip


def _said(images: ImageSet) -> dict[str, str]:
    """Return what the manifest says of each image."""
    for column in SPLIT_COLUMNS:
        if column in images.table:
            said = images.table[column].fillna("").astype(str).str.strip()
            if (said != "").any():
                break
    else:
        raise PhantomscopeError(
            "nothing says how the publisher divided these images",
            where="split.by",
            fix="divide them by groups",
            example="split:\n  by: group",
        )
    unknown = said[~said.str.lower().isin(SIDES)]
    if len(unknown):
        raise PhantomscopeError(
            f"column `{column}` of the image {unknown.index[0]!r} is "
            f"{unknown.iloc[0]!r} ({len(unknown)} such images)",
            where=images.folder / "manifest.csv",
            fix=f"it is one of {', '.join(SIDES)}; else divide by group",
        )
    return {str(i): SIDES[side.lower()] for i, side in said.items()}


def published_groups(images: ImageSet, units: Mapping[str, str]) -> dict[str, str]:
    """Return the side of each group as its publisher says.

    Parameters
    ----------
    images : ImageSet
        With the column ``published_split`` or ``split``.
    units : Mapping
        Group to unit: groups that share an identical image.

    Returns
    -------
    dict
        Group to ``train``, ``test`` or ``validation``.

    Raises
    ------
    PhantomscopeError
        If nothing is said of an image, a group or copies of an image are on two
        sides, or there is no training or no test part.
    """
    said = _said(images)
    groups: dict[str, str] = {}
    first: dict[str, tuple[str, str]] = {}
    for identifier, group in zip(images.ids, images.table["group"], strict=True):
        side = groups[str(group)] = said[identifier]
        other, where = first.setdefault(units[str(group)], (identifier, side))
        if where != side:
            raise PhantomscopeError(
                f"{other!r} ({where}) and {identifier!r} ({side}) are of one group, or "
                "of groups that share an identical image, but on two sides of the "
                "published split",
                where="split.by",
                fix="divide by groups, or remove one of them",
                example="split:\n  by: group",
            )
    missing = sorted({"train", "test"} - set(groups.values()))
    if missing:
        counts = Counter(said.values())
        parts = ", ".join(f"{n} {side}" for side, n in sorted(counts.items()))
        raise PhantomscopeError(
            f"no image is in the published {' or '.join(missing)} part ({parts})",
            where="split.by",
            fix="raise `source.limit`, or divide by groups",
            example="split:\n  by: group",
        )
    return groups

"""The check that training and test part share nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet

# Splits that leave images whole.
WHOLE = ("group", "published")


def gap_between(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Pixels between two regions along the axis that parts them; < 0 if they overlap.

    Regions that touch have a gap of 0. `one` and `other` are rows of a manifest with
    the columns that `prepare` writes.
    """
    axes = "zyx" if "ZYX" == one["axes"] == other["axes"] else "yx"
    return max(
        int(max(one[f"{a}0"] - other[f"{a}1"], other[f"{a}0"] - one[f"{a}1"]))
        for a in axes
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
        If a row is on neither side (nor in the publisher's validation part), a test
        region overlaps a training region of the
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
        if row["split"] == "validation" and options.get("by") == "published":
            continue
        if row["split"] not in ("train", "test"):
            raise _leak(f"{identifier!r} is on the side {row['split']!r}", where)
        rows[str(row["parent"])][row["split"]].append(row)
    for parent, sides in rows.items():
        for one in sides["train"]:
            for other in sides["test"]:
                if (gap := gap_between(one, other)) < margin or gap < 0:
                    raise _leak(
                        f"{one['id']} (train) and {other['id']} (test) of {parent} "
                        f"are {gap} px apart; the margin is {margin} px",
                        where,
                    )
    if options.get("by") in WHOLE:
        for column in ("group", "sha256"):
            sides_of = prepared.table.groupby(column)["split"].nunique()
            if both := sorted(sides_of.index[sides_of > 1]):
                raise _leak(f"the {column} {both[0]} is on both sides", where)

"""Points and boxes that belong to the images of a set: tables beside its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet

POINTS, BOXES = "points.csv", "boxes.csv"
COLUMNS = {
    POINTS: ("id", "y", "x", "type"),
    BOXES: ("id", "y1", "x1", "y2", "x2", "type"),
}


def read_table(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV that has these columns; `id` and `type` are text.

    A column ``type`` that is not there is empty.

    Raises
    ------
    PhantomscopeError
        If the file is missing, lacks a column or has something else than numbers.
    """
    with explain_os_errors(path):
        try:
            table = pd.read_csv(
                path, dtype={"id": str, "type": str}, keep_default_na=False,
                na_values={n: [""] for n in names if n not in ("id", "type")},
            )  # fmt: skip
        except (ValueError, UnicodeDecodeError) as error:
            raise PhantomscopeError(
                f"this is no table ({error})",
                where=path,
                fix="save it as CSV with a header",
                example=",".join(names),
            ) from error
    if "type" not in table and "type" in names:
        table["type"] = ""
    missing = [name for name in names if name not in table]
    if missing:
        raise PhantomscopeError(
            f"this table lacks the columns {', '.join(missing)}",
            where=path,
            fix=f"give {', '.join(names)}",
            example=",".join(names),
        )
    numbers = [name for name in names if name not in ("id", "type")]
    values = table[numbers].apply(pd.to_numeric, errors="coerce")
    if values.isna().to_numpy().any():
        line = int(values.isna().any(axis=1).to_numpy().nonzero()[0][0]) + 2
        raise PhantomscopeError(
            f"line {line} has something else than numbers",
            where=path,
            fix=f"mend {', '.join(numbers)} there",
        )
    table[numbers] = values
    return table[list(names)]


def table_names(images: ImageSet) -> list[str]:
    """Return the names of the tables that a set has."""
    return [name for name in COLUMNS if (images.folder / name).exists()]


def cut_rows(
    table: pd.DataFrame, box: Sequence[tuple[int, int]], identifier: str
) -> pd.DataFrame:
    """Return the points or boxes within a region, as those of a new image.

    Parameters
    ----------
    table : DataFrame
        Rows of one image, columns of `COLUMNS`.
    box : ((y0, y1), (x0, x1))
        The region, px, ends excluded.
    identifier : str
        Id of the new image.

    Returns
    -------
    DataFrame
        Counted from the corner of the region. As with labels, of a box that the border
        cuts the part within stays.
    """
    new, inside = table.copy(), np.ones(len(table), bool)
    for axis, (begin, end) in zip("yx", box, strict=True):
        if axis in table:
            inside &= ((table[axis] >= begin) & (table[axis] < end)).to_numpy()
            new[axis] = table[axis] - begin
        else:
            low, high = (table[f"{axis}{n}"].clip(begin, end) for n in (1, 2))
            inside &= (high > low).to_numpy()
            new[f"{axis}1"], new[f"{axis}2"] = low - begin, high - begin
    return new[inside].assign(id=identifier)


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the tables of a set, by name, beside its manifest."""
    for name, table in tables.items():
        write_text(folder / name, table.to_csv(index=False))


def read_annotations(images: ImageSet, name: str) -> pd.DataFrame:
    """Return the points (`POINTS`) or boxes (`BOXES`) of the images of a set.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; px, counted from 0, the second corner of a box excluded.

    Raises
    ------
    PhantomscopeError
        If the set has none.
    """
    table = read_table(images.folder / name, COLUMNS[name])
    return table[table["id"].isin(images.ids)].reset_index(drop=True)

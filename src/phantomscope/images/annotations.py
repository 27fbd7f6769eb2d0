"""Points and boxes that belong to the images of a set: tables beside its manifest."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from phantomscope.errors import PhantomscopeError, explain_os_errors
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

"""Tables of localised molecules as files: text of ThunderSTORM, zip of ShareLoc.

The same table is the same file, byte by byte.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.acquire.localisations.smlm import DTYPES, MANIFEST
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import atomic_file
from phantomscope.images.localisations.table import Localisations

SUFFIXES = (".csv", ".csv.gz", ".smlm")
# Titles of ThunderSTORM.
_TITLES = {
    "frame": "frame", "x": "x [nm]", "y": "y [nm]", "z": "z [nm]",
    "photons": "intensity [photon]", "background": "offset [photon]",
    "uncertainty": "uncertainty_xy [nm]",
}  # fmt: skip
_UNITS = dict.fromkeys(("x", "y", "z", "uncertainty"), "nm") | dict.fromkeys(
    ("photons", "background"), "photon"
)
LAYOUT = "smlm-table(binary)"
ROWS = "table.bin"
# Zips have the time of each member; this is the first that there can be.
_NEVER = (1980, 1, 1, 0, 0, 0)


def write_table(path: Path, table: Localisations) -> None:
    """Write a table of localisations, atomically.

    Parameters
    ----------
    path : Path
        ``.csv`` and ``.csv.gz`` are text of ThunderSTORM, in thousandths of its units;
        ``.smlm`` is a zip of ShareLoc, float32.
    table : Localisations
        Columns that it does not have are left out.

    Raises
    ------
    PhantomscopeError
        For another suffix, and if the file cannot be written.
    """
    columns = {
        name: values for name in _TITLES if (values := getattr(table, name)) is not None
    }
    name = path.name.lower()
    if name.endswith(".smlm"):
        content = smlm_bytes(columns)
    elif name.endswith((".csv", ".csv.gz")):
        content = _thunderstorm(columns)
        if name.endswith(".gz"):
            content = gzip.compress(content, 6, mtime=0)
    else:
        raise PhantomscopeError(
            "no table is written with this suffix",
            where=path,
            fix=f"use {', '.join(SUFFIXES)}",
        )
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def _thunderstorm(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Return text with the titles of ThunderSTORM, which are in quotes."""
    table = pd.DataFrame({_TITLES[name]: v for name, v in columns.items()})
    table.insert(0, "id", np.arange(1, len(table) + 1))
    head = ",".join(f'"{title}"' for title in table)
    rows = table.to_csv(index=False, header=False, float_format="%.3f")
    return f"{head}\n{rows}".encode()


def packed_rows(columns: Mapping[str, ArrayLike]) -> NDArray[np.void]:
    """Pack columns as rows of a ShareLoc table, little-endian.

    Parameters
    ----------
    columns : Mapping
        Arrays of one length, of which each row may be an array.

    Returns
    -------
    ndarray, shape (n,)
        A field for each column.
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    row = np.dtype(
        [(n, a.dtype.newbyteorder("<"), a.shape[1:]) for n, a in arrays.items()]
    )
    packed = np.empty(len(next(iter(arrays.values()))), row)
    for name, array in arrays.items():
        packed[name] = array
    return packed


def manifest_of(
    packed: NDArray[np.void], units: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Describe packed rows by the manifest of ShareLoc's format 0.2.

    Parameters
    ----------
    packed : ndarray, shape (n,)
        As `packed_rows` gives them; they become the member `ROWS`.
    units : Mapping, optional
        Column to unit; None leaves all to the format: lengths are in nm.

    Returns
    -------
    dict
        Content of ``manifest.json``.
    """
    names = list(packed.dtype.names or ())
    kinds = [packed.dtype[name] for name in names]
    known = {np.dtype(code): name for name, code in DTYPES.items()}
    layout = {
        "name": LAYOUT, "type": "table", "mode": "binary", "extension": ".bin",
        "columns": len(names), "headers": names,
        "dtype": [known[kind.base] for kind in kinds],
        "shape": [list(kind.shape) or 1 for kind in kinds],
        "units": [] if units is None else [units.get(name, "") for name in names],
    }  # fmt: skip
    plain = [n for n, kind in zip(names, kinds, strict=True) if not kind.shape]
    if not len(packed):
        plain = []
    entry = {
        "name": ROWS, "type": "table", "format": LAYOUT, "channel": "default",
        "rows": len(packed), "offset": {},
        **{
            key: {name: float(found(packed[name])) for name in plain}
            for key, found in (("min", np.min), ("max", np.max), ("avg", np.mean))
        },
    }  # fmt: skip
    return {"format_version": "0.2", "formats": {LAYOUT: layout}, "files": [entry],
            "name": "table", "tags": []}  # fmt: skip


def smlm_bytes(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a ShareLoc zip of columns: floats as float32, frames as uint32."""
    packed = packed_rows(
        {
            name: values.astype(np.uint32 if name == "frame" else np.float32)
            for name, values in columns.items()
        }
    )
    manifest = json.dumps(manifest_of(packed, _UNITS), indent=1)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (
            (MANIFEST, manifest.encode()), (ROWS, packed.tobytes()),
        ):  # fmt: skip
            member = zipfile.ZipInfo(name, _NEVER)
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()

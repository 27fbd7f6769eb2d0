"""Picasso's HDF5: the dataset `locs`, x and y in pixels of the camera.

https://picassosr.readthedocs.io/en/latest/files.html. The size of a pixel stands in the
YAML file beside it (`Pixelsize`, nm), since 0.11 also in the dataset `metadata`; z is
in nm. Photons and background (per pixel) are numbers of photons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from phantomscope.acquire.localisations.columns import Header
from phantomscope.acquire.localisations.rows import Block
from phantomscope.errors import PhantomscopeError, explain_os_errors

ROWS = 1 << 16
IN_PIXELS = ("x", "y", "lpx", "lpy", "sx", "sy")
IN_NM = ("z", "lpz")
MOST_BYTES = 16 << 20


def _damaged(path: Path, error: Exception) -> PhantomscopeError:
    reason = " ".join(str(error).split())
    return PhantomscopeError(
        f"this HDF5 file is damaged or cut short ({reason})",
        where=path,
        fix="copy or download it again, or export it as CSV",
    )


def _pixel_size(entries: Any) -> float | None:
    """Return the last `Pixelsize` of the steps of an analysis."""
    found = None
    for entry in entries if isinstance(entries, list) else [entries]:
        value = entry.get("Pixelsize") if isinstance(entry, dict) else None
        if isinstance(value, (int, float)) and 0 < value < math.inf:
            found = float(value)
    return found


def _stated_pixel_size(path: Path, file: Any) -> float | None:
    """Look into the YAML file first, as Picasso does, then into the file itself."""
    beside = path.with_suffix(".yaml")
    if beside.is_file():
        with explain_os_errors(beside), beside.open("rb") as stream:
            text = stream.read(MOST_BYTES)
        try:
            return _pixel_size(list(yaml.safe_load_all(text)))
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise PhantomscopeError(
                f"this is no YAML ({reason})",
                where=beside,
                fix="mend it, or move it away and give the size of a pixel "
                "(`pixel_size`, in a config `camera_pixel_nm`)",
            ) from error
    if "metadata" not in file:
        return None
    try:
        return _pixel_size(json.loads(file["metadata"][()]))
    except (ValueError, TypeError, RecursionError):
        return None


@contextmanager
def open_picasso(
    path: Path, pixel_size: float | None
) -> Iterator[tuple[Header, Any, float | None]]:
    """Open a table.

    Parameters
    ----------
    path : Path
        HDF5 file.
    pixel_size : float, optional
        Side of a pixel of the camera in nm, instead of what the metadata say.

    Yields
    ------
    header : Header
        Titles with units; find the columns before the first block.
    blocks : iterator of Block
        Rows, 65536 at a time.
    pixel_size : float or None
        As given, or of the metadata.

    Raises
    ------
    PhantomscopeError
        If h5py is missing, the file is damaged, or there is no table `locs` in it.
    """
    try:
        import h5py
    except ImportError as error:
        raise PhantomscopeError(
            "Picasso's files need h5py, which is not installed",
            where=path,
            fix="pip install h5py, or export the table as CSV",
        ) from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from error
    with file:
        table = file.get("locs")
        if (
            not isinstance(table, h5py.Dataset)
            or table.ndim != 1
            or not table.dtype.names
        ):
            raise PhantomscopeError(
                "there is no table `locs` in this HDF5 file; it holds "
                f"{', '.join(list(file)[:5]) or 'nothing'}",
                where=path,
                fix="give a file that Picasso saved, or export the table as CSV",
            )
        titles = [
            f"{n} [px]" if n in IN_PIXELS else f"{n} [nm]" if n in IN_NM else n
            for n in table.dtype.names
        ]
        header = Header(path, 0, titles, ",", "picasso")
        size = pixel_size or _stated_pixel_size(path, file)
        yield header, _blocks(table, header), size


def _blocks(table: Any, header: Header) -> Iterator[Block]:
    names = table.dtype.names
    for first in range(0, len(table), ROWS):
        try:
            part = table[first : first + ROWS]
        except (OSError, RuntimeError, ValueError) as error:
            raise _damaged(header.path, error) from error
        values = {}
        for field, index in header.columns.items():
            column = part[names[index]]
            if column.ndim != 1 or column.dtype.kind not in "iuf":
                raise header.error(
                    f"values of {column.dtype}, not numbers",
                    "say which column it is (`columns`)",
                    column=header.titles[index],
                )
            values[field] = column.astype(np.float64)
        yield values, np.arange(first + 1, first + 1 + len(part))

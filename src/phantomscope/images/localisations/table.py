"""A table of localised molecules in memory, whole or in parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError

Float = NDArray[np.float64]
Int = NDArray[np.int64]

FIELDS = ("x", "y", "z", "frame", "photons", "uncertainty", "background")


@dataclass(frozen=True)
class TableSource:
    """Where localisations come from.

    Attributes
    ----------
    path : Path
        The file.
    columns : dict
        Field (``x``, ``frame`` ...) to the title of the column read for it.
    nm : dict
        Field to the nm in one unit of its column, for x, y, z and uncertainty.
    rows : int
        Rows of the table up to the next part, after the last one all.
    dropped : int
        How many of these rows were left out (`drop_invalid`).
    format : str
        ``smlm``, ``picasso``, ``thunderstorm``, ``rapidstorm`` or ``csv``; empty for
        tables that were not read from a file.
    """

    path: Path
    columns: dict[str, str]
    nm: dict[str, float]
    rows: int
    dropped: int
    format: str = ""


@dataclass(frozen=True)
class Localisations:
    """Localised molecules, N of them.

    Attributes
    ----------
    x, y : ndarray, shape (N,)
        float64, nm.
    frame : ndarray or None, shape (N,)
        int64, counted as in the file; None if the table has no such column.
    photons, uncertainty : ndarray or None, shape (N,)
        float64; `uncertainty` is the precision: the standard deviation of the position
        in nm, along one axis.
    source : TableSource
        File, columns and counts.
    z : ndarray or None, shape (N,)
        float64, nm.
    background : ndarray or None, shape (N,)
        float64, photons per pixel of the camera.
    """

    x: Float
    y: Float
    frame: Int | None
    photons: Float | None
    uncertainty: Float | None
    source: TableSource
    z: Float | None = None
    background: Float | None = None

    def __len__(self) -> int:
        return len(self.x)

    def field(self, name: str, user: str) -> NDArray[Any]:
        """Return a column that `user`, an option or a function, cannot do without.

        Raises
        ------
        PhantomscopeError
            If the table has no such column.
        """
        values = getattr(self, name)
        if values is None:
            known = ", ".join(n for n in FIELDS if getattr(self, n) is not None)
            raise PhantomscopeError(
                f"the table has no column for {name}, which {user} needs; it has "
                f"{known}",
                where=self.source.path,
                fix=f"leave out {user}, or say which column it is (`columns`)",
                example=f"columns: {{{name}: title of the column}}",
            )
        return np.asarray(values)

    def take(self, keep: NDArray[Any]) -> Localisations:
        """Return the rows that a mask or indices name."""
        chosen: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[keep]
            for name in FIELDS
        }
        return replace(self, **chosen)

    def moved(self, x: Float, y: Float) -> Localisations:
        """Return the same molecules at other positions (nm)."""
        return replace(self, x=x, y=y)


def joined(parts: Iterable[Localisations]) -> Localisations:
    """Join the parts of one table; the source is that of the last one.

    Raises
    ------
    PhantomscopeError
        If the table does not fit into memory.
    ValueError
        If there is no part.
    """
    pieces: dict[str, list[Any]] = {name: [] for name in FIELDS}
    source: TableSource | None = None
    try:
        for part in parts:
            source = part.source
            for name in FIELDS:
                pieces[name].append(getattr(part, name))
        if source is None:
            raise ValueError("there is no part of a table to join")
        # One field after the other, so that the parts of each are freed early.
        whole: dict[str, Any] = {
            name: np.concatenate(found) if (found := pieces.pop(name))[0] is not None
            else None
            for name in FIELDS
        }  # fmt: skip
    except MemoryError as error:
        raise PhantomscopeError(
            "the table does not fit into memory",
            where=source.path if source else None,
            fix="cut it into parts, or read it with `localisation_chunks`",
        ) from error
    return Localisations(**whole, source=source)

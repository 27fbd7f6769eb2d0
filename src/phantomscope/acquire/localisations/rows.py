"""Rows of a table of localisations: which are possible, and whether units fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.localisations.columns import Header
from phantomscope.images.localisations.table import (
    FIELDS,
    Float,
    Int,
    Localisations,
    TableSource,
)

# Values by field in the units of the file, and the number of each row.
Block = tuple[dict[str, Float], Int]

# Width of a field of view in nm: beyond, the unit was most often mixed up.
EXTENT = (300.0, 5e6)
# Median uncertainty in nm, in the same sense.
PRECISION = (0.1, 2000.0)
# A table of fewer rows may be one molecule: its width says nothing.
FEWEST = 100
FARTHEST = 1e9  # nm: a metre from the origin
LAST_FRAME = 2**53


def _reason(name: str, value: float) -> str:
    """Say what is wrong with a value that was refused."""
    if not np.isfinite(value):
        return f"the value is {value}"
    if name == "frame":
        return f"{value:g} is no number of a frame"
    if name == "photons":
        return f"{value:g} photons"
    if name.startswith("uncertainty"):
        return f"an uncertainty of {value:g}"
    return f"{value:g} is more than a metre from the origin"


def _good(name: str, values: Float, nm: float) -> NDArray[np.bool_]:
    """Tell which values are possible; `values` are in the units of the file."""
    good = np.isfinite(values)
    if name == "frame":
        good &= (values >= 0) & (values <= LAST_FRAME) & (values == np.floor(values))
    elif name == "photons":
        good &= values >= 0
    elif name.startswith("uncertainty"):
        good &= values > 0
    elif name != "background":  # a fitted background may be below 0
        good &= np.abs(values) * nm <= FARTHEST
    return good


def _possible(
    header: Header, values: dict[str, Float], rows: Int, drop: bool
) -> NDArray[np.bool_]:
    """Return the rows to keep; an impossible value is an error unless `drop`."""
    good = {n: _good(n, v, header.nm.get(n, 1.0)) for n, v in values.items()}
    keep = np.logical_and.reduce(list(good.values()))
    if not drop and not keep.all():
        row = int(np.argmin(keep))
        name = next(n for n in good if not good[n][row])
        raise header.error(
            _reason(name, float(values[name][row])),
            f"mend or remove this {header.row}; `drop_invalid=True` leaves out and "
            "counts all such rows (in a config: `invalid: drop`)",
            line=int(rows[row]),
            column=header.title(name),
        )
    return np.asarray(keep)


@dataclass
class _Scale:
    """The width of what was read, and where its ends are: tells a slip of the unit."""

    header: Header
    rows: int = 0
    fine: int = 0
    coarse: int = 0
    ends: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def add(self, part: Localisations, rows: Int) -> None:
        self.rows += len(part)
        if part.uncertainty is not None:
            self.fine += int((part.uncertainty < PRECISION[0]).sum())
            self.coarse += int((part.uncertainty > PRECISION[1]).sum())
        for name, values in (("x", part.x), ("y", part.y)):
            places = (int(values.argmin()), int(values.argmax()))
            new = [(float(values[i]), int(rows[i])) for i in places]
            old = self.ends.get(name, new)
            self.ends[name] = [min(old[0], new[0]), max(old[1], new[1])]

    def check(self, extent: tuple[float, float]) -> None:
        """Refuse a table that is too wide or too narrow for a field of view."""
        widths = {name: high[0] - low[0] for name, (low, high) in self.ends.items()}
        name = max(widths, key=lambda n: widths[n])
        (low, first), (high, last) = self.ends[name]
        narrow = self.rows >= FEWEST and widths[name] < extent[0]
        if narrow or widths[name] > extent[1]:
            raise self.header.error(
                f"{low:g} nm here and {high:g} nm in {self.header.row} {last}: the "
                f"field would be {widths[name]:g} nm wide, which is hardly possible",
                "check the unit in the header or `unit` (um, px and nm are easily "
                "mixed up) and these rows; if it is right, give `extent`",
                line=first,
                column=self.header.title(name),
            )
        for count, limit in ((self.fine, "below 0.1"), (self.coarse, "above 2000")):
            if self.rows >= FEWEST and 2 * count > self.rows:
                raise self.header.error(
                    f"{count} of {self.rows} values are {limit} nm, which is hardly "
                    "possible",
                    "check the unit in the header or `unit` (um, px and nm are easily "
                    "mixed up)",
                    column=self.header.title("uncertainty"),
                )


def _part(
    header: Header, values: dict[str, Float], keep: NDArray[np.bool_],
    source: TableSource,
) -> Localisations:  # fmt: skip
    """Return the rows to keep, in nm."""
    found: dict[str, Any] = dict.fromkeys(FIELDS)
    found |= {n: v[keep] * header.nm.get(n, 1.0) for n, v in values.items()}
    if (along_y := found.pop("uncertainty_y", None)) is not None:
        square = (found["uncertainty"] ** 2 + along_y**2) / 2
        found["uncertainty"] = np.sqrt(square)
    if found["frame"] is not None:
        found["frame"] = found["frame"].astype(np.int64)
    return Localisations(**found, source=source)


def checked_parts(
    header: Header, blocks: Iterable[Block], extent: tuple[float, float], drop: bool
) -> Iterator[Localisations]:
    """Yield the localisations of blocks of rows; none is empty.

    Parameters
    ----------
    header : Header
        Columns and units.
    blocks : iterable of Block
        Values of all fields of the header, and the number of each row.
    extent, drop
        As `extent` and `drop_invalid` of `read_localisations`.
    """
    titles = {n: header.title(n) for n in header.columns if n in FIELDS}
    scale, total, dropped = _Scale(header), 0, 0
    # The last part waits for the end: then its source counts all rows of the table.
    waiting: Localisations | None = None

    def source() -> TableSource:
        return TableSource(
            header.path, titles, header.nm, total, dropped, header.format
        )

    for values, rows in blocks:
        keep = _possible(header, values, rows, drop)
        if keep.any():
            if waiting is not None:
                yield replace(waiting, source=source())
            waiting = _part(header, values, keep, source())
            scale.add(waiting, rows[keep])
        total, dropped = total + len(keep), dropped + int((~keep).sum())
    if waiting is None:
        what = f"none of the {total} rows below is possible"
        what = what if total else "there is a header, but no localisation below"
        raise header.error(what, "export or download the table again")
    scale.check(extent)
    yield replace(waiting, source=source())

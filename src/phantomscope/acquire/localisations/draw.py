"""From a table of localisations to an image, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.localisations.read import Options, localisation_chunks
from phantomscope.config.localisations import Localisations as Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations.drift import Drift, DriftFinder
from phantomscope.images.localisations.filters import Extent, Limits
from phantomscope.images.localisations.linking import link
from phantomscope.images.localisations.render import Renderer, View
from phantomscope.images.localisations.table import Localisations, joined


@dataclass(frozen=True)
class Drawing:
    """An image of a table.

    Attributes
    ----------
    image : ndarray, shape (Y, X)
        float32; molecules, or photons, per pixel.
    facts : dict
        Columns of the manifest: how many rows the table has, and what became of them;
        where the image lies, and how far the sample drifted, in nm.
    """

    image: NDArray[np.float32]
    facts: dict[str, Any]


class _Table:
    """A table that is read anew for each look at it: so no memory holds it."""

    def __init__(self, path: Path, options: Config) -> None:
        self.path, self.options = path, options
        frames = options.first_frame, options.last_frame
        self.limits = Limits.of(options, frames)
        self.extent, self.rows, self.dropped, self.filtered = Extent(), 0, 0, 0
        self.format = ""
        for part in self._parts():
            kept = self.limits.apply(part)
            self.filtered += len(part) - len(kept)
            self.rows, self.dropped = part.source.rows, part.source.dropped
            self.format = part.source.format
            self.extent.add(kept)
        if not self.extent.count:
            raise PhantomscopeError(
                f"none of its {self.rows - self.dropped} localisations is left by the "
                "filters",
                where=path,
                fix="widen `max_precision_nm`, `min_photons`, `max_photons`, "
                "`first_frame` or `last_frame` (`source.localisations`)",
            )

    def _parts(self) -> Iterator[Localisations]:
        options = self.options
        how: Options = {
            "format": options.format,
            "columns": options.titles,
            "unit": options.unit,
            "pixel_size": options.camera_pixel_nm,
            "channel": options.channel,
            "drop_invalid": options.invalid == "drop",
        }
        return localisation_chunks(self.path, **how)

    def parts(self) -> Iterator[Localisations]:
        """Yield what the filters leave."""
        return (self.limits.apply(part) for part in self._parts())

    def drift(self) -> Drift | None:
        """Find the drift, if it is asked for."""
        options, extent = self.options, self.extent
        if not options.drift_bins:
            return None
        view = View.around(extent.low, extent.high, options.drift_pixel_nm)
        finder = DriftFinder(view, extent.frames, options.drift_bins)
        for part in self.parts():
            finder.add(part)
        return finder.find()


def _view(table: _Table, drift: Drift | None) -> View:
    """Return the field of view: the one asked for, or as far as the table reaches."""
    options = table.options
    if options.field_nm is not None:
        return View.of_field(*options.field_nm, options.pixel_size_nm)
    low, high = np.array(table.extent.low), np.array(table.extent.high)
    if drift is not None:
        first, last = table.extent.frames
        moves = np.array(drift.at(np.arange(first, last + 1)))
        low, high = low - moves.max(axis=1), high - moves.min(axis=1)
    return View.around(tuple(low), tuple(high), options.pixel_size_nm)


def _molecules(table: _Table, drift: Drift | None) -> Iterable[Localisations]:
    """Return what is to be drawn: corrected, and joined."""
    parts = table.parts()
    if drift is not None:
        parts = (drift.correct(part) for part in parts)
    if table.options.link_nm is None:
        return parts
    return [link(joined(parts), table.options.link_nm, table.options.link_gap)]


def draw_table(path: Path, options: Config) -> Drawing:
    """Draw a table of localisations.

    The table is read twice (for its extent; to draw it), with drift correction three
    times. Memory holds the image and some thousand rows; only `link_nm` needs the whole
    table at once.

    Parameters
    ----------
    path : Path
        The table.
    options : Config
        Section ``source.localisations``.

    Raises
    ------
    PhantomscopeError
        As `read_localisations`, `Renderer`, `DriftFinder` and `link`; if the filters or
        the field of view leave nothing, or the image would be too large.
    """
    table = _Table(path, options)
    drift = table.drift()
    view = _view(table, drift)
    renderer = Renderer(
        view, options.render, sigma=options.sigma_nm, weight=options.weight
    )
    for part in _molecules(table, drift):
        renderer.add(part)
    if not renderer.inside:
        (left, top), (right, bottom) = table.extent.low, table.extent.high
        raise PhantomscopeError(
            f"no localisation lies in the field of view; x is {left:.0f} to "
            f"{right:.0f} nm, y {top:.0f} to {bottom:.0f} nm",
            where=path,
            fix="change `source.localisations.field_nm`, or leave it out",
        )
    facts = {
        "localisations": renderer.inside,
        "table_rows": table.rows,
        "dropped": table.dropped,
        "filtered": table.filtered,
        "linked": table.extent.count - renderer.drawn,
        "outside": renderer.drawn - renderer.inside,
        "table_format": table.format,
        "left_nm": view.left,
        "top_nm": view.top,
    }
    if drift is not None:
        facts["drift_nm"] = round(float(np.hypot(drift.x, drift.y).max()), 2)
        facts["drift_residual_nm"] = round(drift.residual, 2)
    return Drawing(renderer.image(), facts)

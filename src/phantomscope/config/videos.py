"""Options of one's own videos."""

from __future__ import annotations

from typing import Literal

from phantomscope.config.option import Section, option


class Videos(Section):
    """How one's own videos are read."""

    part: Literal["full_data", "mask"] = option(
        "full_data",
        "Of HDF5 files of Tierpsy Tracker: `full_data`, one whole frame every few "
        "minutes; `mask`, every frame, with the background set to 0.",
        paper="full_data",
    )
    step: float | None = option(
        None,
        "Time between two frames of a TIFF stack. Empty: unknown, and frames are "
        "counted instead; HDF5 files say it.",
        unit="s",
        gt=0,
    )

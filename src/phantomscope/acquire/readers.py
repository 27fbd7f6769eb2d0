"""Public data sets that have a reader of their own, which the registry names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phantomscope.acquire.annotated import (
    Choice,
    acquire_bbbc026_plate,
    acquire_bbbc026_truth,
    acquire_bbbc042,
)
from phantomscope.acquire.dataset import (
    checked_downloads,
    describe_dataset,
    entry_of,
)
from phantomscope.config.data import Source


def _pixel_size(source: Source) -> float | None:
    size = source.voxel_size_um
    return None if isinstance(size, tuple) else size


def choice_of(source: Source) -> Choice:
    """Return which of one's own annotated images are used, by the config."""
    channel = source.channel
    return Choice(
        limit=source.limit, axes=source.axes,
        channel=None if isinstance(channel, list) else channel,
        pixel_size=_pixel_size(source), group=source.group,
        info={"options": source.model_dump(mode="json")},
    )  # fmt: skip


def acquire_with_reader(source: Source, files: Sequence[Path], folder: Path) -> None:
    """Make an image set of a downloaded data set by ``layout.reader``.

    Parameters
    ----------
    source : Source
        Section ``source`` of the config: data set, pixel size in um and limit.
    files : sequence of Path
        The downloaded files; empty: those in ``source.downloads``.
    folder : Path
        Folder of the new set, as the reader describes it.

    Raises
    ------
    PhantomscopeError
        If a file is missing or not the expected one, and as the reader.
    """
    entry = entry_of(source)
    paths, hashes = checked_downloads(source, entry, files)
    # Without labels: of points or boxes there is a table.
    info = describe_dataset(source, entry, hashes, {"labelled": 0, "left_out": 0})
    choice = Choice(limit=source.limit, pixel_size=_pixel_size(source), info=info)
    match entry.layout.reader:
        case "bbbc026_marks":
            acquire_bbbc026_truth(paths[0], folder, choice=choice)
        case "bbbc026_plate":
            acquire_bbbc026_plate(paths[0], folder, choice)
        case _:
            acquire_bbbc042(paths[0], paths[1], folder, choice)

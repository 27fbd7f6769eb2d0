"""Time series in the layout of the Cell Tracking Challenge.

    01/t000.tif                      image of each frame
    01_GT/SEG/man_seg000.tif         labels of each frame
    01_GT/TRA/man_track000.tif       the same labels
    01_GT/TRA/man_track.txt          label, first frame, last frame, parent

Each run of consecutive frames of a series is a sequence of its own, since the layout
knows no missing frames: a check may have rejected one in between. Tracks are derived
anew from the labels that are left, of which a check may have erased some.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.tracks import (
    Relabelling,
    Track,
    check_tracks,
    read_tracks,
    tracks_of,
    write_tracks,
)

FOLDER = "ctc"


class Place(NamedTuple):
    """Where a frame goes, and the label of its track by each of its labels."""

    sequence: str
    time: str
    labels: Relabelling

    @property
    def image(self) -> str:
        """File of the image, below the published folder."""
        return f"{FOLDER}/{self.sequence}/t{self.time}.tif"

    @property
    def masks(self) -> tuple[str, str]:
        """Files of its labels: those for segmentation, and those for tracking."""
        truth = f"{FOLDER}/{self.sequence}_GT"
        return (
            f"{truth}/SEG/man_seg{self.time}.tif",
            f"{truth}/TRA/man_track{self.time}.tif",
        )


@dataclass(frozen=True)
class Sequences:
    """All sequences of a set.

    Attributes
    ----------
    places : dict
        Of each image by its id.
    tracks : dict
        Of each sequence by its name, such as ``01``.
    """

    places: dict[str, Place]
    tracks: dict[str, list[Track]]

    def write(self, folder: Path) -> list[str]:
        """Write the tables of tracks; return their names below the folder."""
        names = []
        for sequence, tracks in self.tracks.items():
            names.append(f"{FOLDER}/{sequence}_GT/TRA/man_track.txt")
            write_tracks(folder / names[-1], tracks)
        return names


def _runs(images: ImageSet) -> Iterator[list[str]]:
    """Ids of each run of consecutive frames of a series, in order."""
    table = images.table.sort_values(["group", "frame"], kind="stable")
    before: tuple[str, int] | None = None
    run: list[str] = []
    for identifier, group, cell in zip(
        table["id"], table["group"], table["frame"], strict=True
    ):
        frame = int(cell)
        if run and before != (group, frame - 1):
            yield run
            run = []
        run.append(identifier)
        before = group, frame
    if run:
        yield run


def find_sequences(
    images: ImageSet, labels_of: Callable[[str], Collection[int]]
) -> Sequences:
    """Divide a set of time series into sequences, and derive their tracks.

    Parameters
    ----------
    images : ImageSet
        Its rows say `frame` and `tracks`; `group` is the series.
    labels_of : callable
        Id of an image to the labels that it shows.

    Raises
    ------
    PhantomscopeError
        If these are no time series, or have more tracks than the format takes.
    """
    if "tracks" not in images.table or (images.table["tracks"] == "").any():
        raise PhantomscopeError(
            "these images are no time series",
            where="publish.formats: ctc",
            fix="leave `ctc` out, or simulate time series (`simulate.frames`)",
        )
    runs = list(_runs(images))
    digits = max(3, len(str(max(map(len, runs)) - 1)))
    places: dict[str, Place] = {}
    tracks: dict[str, list[Track]] = {}
    for number, run in enumerate(runs, 1):
        name = f"{number:02d}"
        file = images.folder / str(images.row(run[0])["tracks"])
        parents = {t.label: t.parent for t in read_tracks(file) if t.parent}
        present = [labels_of(identifier) for identifier in run]
        tracks[name], tables = tracks_of(present, parents)
        shown = [table.values() for table in tables]
        check_tracks(tracks[name], f"{images.folder} (sequence {name})", shown)
        for time, (identifier, table) in enumerate(zip(run, tables, strict=True)):
            places[identifier] = Place(name, f"{time:0{digits}d}", table)
    return Sequences(places, tracks)

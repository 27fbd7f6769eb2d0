"""Tracks of cells through a time series, as the Cell Tracking Challenge writes them.

`man_track.txt` has a line `L B E P` per track: its label, the first and the last frame
(from 0) in which it is seen, and the label of its parent, or 0. A track is seen in each
frame between the two. Labels are those of the label images of its frames. Source: the
challenge's page on data and annotations, and Maska et al. 2014 (Bioinformatics 30).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import write_text

# Label images of the challenge have 16 bits.
MOST_LABELS = np.iinfo(np.uint16).max
# New label by old one, of one frame.
Relabelling = dict[int, int]


class Track(NamedTuple):
    """One cell from its birth (or first sight) to its division (or last sight)."""

    label: int
    begin: int
    end: int
    parent: int = 0


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    groups = itertools.groupby(enumerate(frames), lambda pair: pair[1] - pair[0])
    runs = [[frame for _, frame in group] for _, group in groups]
    return [(run[0], run[-1]) for run in runs]


def tracks_of(
    present: Sequence[Collection[int]], parents: Mapping[int, int]
) -> tuple[list[Track], list[Relabelling]]:
    """Derive the tracks from what is seen in each frame.

    A cell that is missing in between goes on as a new track, whose parent is the track
    before: the format knows no gaps. A cell whose parent is never seen has none.

    Parameters
    ----------
    present : sequence of collections of int
        Labels (above 0) of each frame; a label is one cell throughout.
    parents : Mapping
        Parent of each label that has one.

    Returns
    -------
    tracks : list of Track
        By label.
    labels : list of dict
        For each frame the label of its track by the label of the cell.
    """
    seen: dict[int, list[int]] = {}
    for frame, labels in enumerate(present):
        for label in labels:
            seen.setdefault(int(label), []).append(frame)
    free = itertools.count(max((*seen, *parents, 0)) + 1)
    pieces: dict[int, list[Track]] = {}
    tables: list[Relabelling] = [{} for _ in present]
    for label in sorted(seen):
        own = pieces[label] = []
        for begin, end in _runs(seen[label]):
            track = Track(label, begin, end)
            if own:
                track = Track(next(free), begin, end, own[-1].label)
            own.append(track)
            for frame in range(begin, end + 1):
                tables[frame][label] = track.label
    for label, own in pieces.items():
        mother = pieces.get(parents.get(label, 0), [])
        ended = [track.label for track in mother if track.end < own[0].begin]
        if ended:
            own[0] = own[0]._replace(parent=ended[-1])
    return sorted(track for own in pieces.values() for track in own), tables


def check_tracks(
    tracks: Sequence[Track], where: Path | str,
    present: Sequence[Collection[int]] | None = None,
) -> None:  # fmt: skip
    """Make sure that tracks obey the rules of the format.

    Parameters
    ----------
    tracks : sequence of Track
        What to check.
    where : Path or str
        To name in an error.
    present : sequence of collections of int, optional
        Labels of each frame: they must be those of the tracks.

    Raises
    ------
    PhantomscopeError
        If a label occurs twice or needs more than 16 bits, a track ends before it
        begins, a parent is unknown or does not end before its child begins, or the
        frames show other labels.
    """
    if (problem := next(_problems(tracks, present), None)) is not None:
        raise PhantomscopeError(
            f"these are no tracks as the Cell Tracking Challenge has them: {problem}",
            where=where,
            fix="run the stage that makes them again; of your own, mend this one",
            example="1 0 4 0\n2 5 9 1\n3 5 9 1",
        )


def _problems(
    tracks: Sequence[Track], present: Sequence[Collection[int]] | None
) -> Iterator[str]:
    known = {track.label: track for track in tracks}
    if len(known) < len(tracks):
        yield "a label occurs twice"
    for track in tracks:
        if not 1 <= track.label <= MOST_LABELS:
            yield f"the label {track.label} is not between 1 and {MOST_LABELS}"
        if not 0 <= track.begin <= track.end:
            yield f"track {track.label} ends before it begins"
        if track.parent and track.parent not in known:
            yield f"track {track.label} has an unknown parent ({track.parent})"
        elif track.parent and known[track.parent].end >= track.begin:
            yield f"track {track.label} begins before its parent's end"
    for frame, labels in enumerate(present or ()):
        expected = {t.label for t in tracks if t.begin <= frame <= t.end}
        if expected != (found := {int(label) for label in labels}):
            other = min(expected ^ found)
            yield f"label {other} of frame {frame} is not both in image and tracks"
    if present is not None and any(t.end >= len(present) for t in tracks):
        yield "a track goes on after the last frame"


def relabelled(
    labels: NDArray[np.integer[Any]], table: Mapping[int, int]
) -> NDArray[Any]:
    """Give objects other numbers; those that the table does not have are erased.

    Parameters
    ----------
    labels : ndarray of integer, any shape
        0 is background.
    table : Mapping
        New number by old one.

    Returns
    -------
    ndarray
        uint16, or uint32 if a number needs it.
    """
    most = max(table.values(), default=0)
    lookup = np.zeros(
        max(int(labels.max(initial=0)), *table, 0) + 1,
        np.uint16 if most <= MOST_LABELS else np.uint32,
    )
    for old, new in table.items():
        lookup[old] = new
    return np.asarray(lookup[labels])


def series_columns(series: str, frame: int) -> dict[str, Any]:
    """Return what the manifest says of a frame: its series, number, file of tracks."""
    return {"group": series, "frame": frame, "tracks": f"tracks/{series}.txt"}


def carry_tracks(row: Mapping[str, Any], source: Path, target: Path) -> dict[str, Any]:
    """Take the tracks of a frame over into another set.

    Parameters
    ----------
    row : Mapping
        Its manifest row.
    source, target : Path
        Folders of the two sets.

    Returns
    -------
    dict
        Columns of the new row; none of an image that is no frame.
    """
    if not row.get("tracks"):
        return {}
    columns = series_columns(str(row["group"]), int(row["frame"]))
    write_tracks(target / columns["tracks"], read_tracks(source / str(row["tracks"])))
    return columns


def write_tracks(path: Path, tracks: Sequence[Track]) -> None:
    """Write `man_track.txt`."""
    write_text(path, "".join(" ".join(map(str, track)) + "\n" for track in tracks))


def read_tracks(path: Path) -> list[Track]:
    """Read and check `man_track.txt`.

    Raises
    ------
    PhantomscopeError
        If it has other lines, or tracks that the format does not allow.
    """
    with explain_os_errors(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    tracks = []
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if len(cells) != 4 or not all(cell.isdecimal() for cell in cells):
            raise PhantomscopeError(
                f"line {number} is not four whole numbers (label, begin, end, parent)",
                where=path,
                fix="run the stage that makes it again",
                example="1 0 4 0",
            )
        tracks.append(Track(*map(int, cells)))
    check_tracks(tracks, path)
    return tracks

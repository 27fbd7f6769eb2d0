"""Frames of videos: which of them make a pair."""

from __future__ import annotations

import pandas as pd

from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet


def pairs_by_lag(
    images: ImageSet, lag: int = 1, column: str = "frame"
) -> list[tuple[str, str]]:
    """Return pairs of ids that are so many frames apart within a video.

    Parameters
    ----------
    images : ImageSet
        Its `group` is the video.
    lag : int
        Difference of the numbers in `column`, at least 1.
    column : str
        Whole numbers that count the frames of a video.

    Returns
    -------
    list of (str, str)
        The earlier id first, in the order of the manifest.

    Raises
    ------
    PhantomscopeError
        If there are no frames, or none is so far apart.
    """
    if lag < 1 or column not in images.table:
        raise PhantomscopeError(
            f"these images do not make pairs of lag {lag} by {column!r}",
            where=images.folder,
            fix="give frames of videos and a lag of at least 1",
        )
    table = images.table[["id", "group", column]]
    numbers = pd.to_numeric(table[column], errors="coerce")
    places = dict(
        zip(zip(table["group"], numbers, strict=True), table["id"], strict=True)
    )
    found = [
        (identifier, places[group, number + lag])
        for (group, number), identifier in places.items()
        if (group, number + lag) in places
    ]
    if not found:
        raise PhantomscopeError(
            f"no two of {len(images)} frames are {lag} apart within a video",
            where=images.folder,
            fix="take a smaller lag, or more frames",
        )
    return found

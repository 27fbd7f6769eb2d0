"""Guess which axis of an image file is which: by its metadata, else by its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phantomscope.config.layout import known_axes
from phantomscope.images.files import stored_axes

# More entries than this are planes of a volume rather than channels.
MOST_CHANNELS = 4


@dataclass
class AxesGuess:
    """A guess of ``source.axes``.

    Attributes
    ----------
    axes : str
        Such as ``CYX`` or ``ZYX``; empty: YX, or nothing that is supported.
    channels : int
        Number of channels.
    reason : str
        Why.
    notes : list of str
        What else the user should know.
    """

    axes: str = ""
    channels: int = 1
    reason: str = ""
    notes: list[str] = field(default_factory=list)


def guess_axes(
    shapes: Mapping[tuple[int, ...], int], examples: Mapping[tuple[int, ...], Path]
) -> AxesGuess:
    """Guess the axes that most files have.

    Parameters
    ----------
    shapes : mapping
        Shape of the files, all axes (px), to how many there are. Those with the most
        common number of axes count.
    examples : mapping
        Shape to one such file: OME and ImageJ write the axes into it.
    """
    dimensions: dict[int, int] = {}
    for shape, count in shapes.items():
        dimensions[len(shape)] = dimensions.get(len(shape), 0) + count
    common = max(dimensions, key=lambda number: dimensions[number])
    shape = max((s for s in shapes if len(s) == common), key=lambda s: shapes[s])
    guess = _of_shape(shape, stored_axes(examples[shape]))
    if len(dimensions) > 1:
        ordered = sorted(dimensions.items(), key=lambda item: -item[1])
        guess.notes.append(
            "files differ in their number of axes: "
            + ", ".join(f"{count} have {number}" for number, count in ordered)
            + "; keep one kind"
        )
    return guess


def _of_shape(shape: tuple[int, ...], stored: str) -> AxesGuess:
    """Guess from one shape, and from the axes in the metadata if they are there."""
    text = " x ".join(map(str, shape))
    if len(shape) == 2:
        return AxesGuess(reason=f"files have two axes ({text})")
    if len(stored) == len(shape) and (told := _told(shape, text, stored)):
        return told
    if len(shape) == 3 and (axes := _by_lengths(shape)):
        if axes == "ZYX":
            return AxesGuess(
                axes,
                reason=f"files are {text}; a guess: {shape[0]} are more than "
                "channels, so the first axis is depth",
                notes=[
                    f"the first axis has {shape[0]} entries: if they are channels, "
                    "write `axes: CYX` and `channel`; if time, export single planes"
                ],
            )
        place = "last" if axes == "YXC" else "first"
        return AxesGuess(
            axes,
            shape[axes.index("C")],
            f"files are {text}; a guess: the {place} axis is short enough for channels",
        )
    return AxesGuess(
        reason=f"files are {text}",
        notes=[
            f"files of {text} are not supported as they are: export single planes "
            "(Y, X), volumes (Z, Y, X), or these with one axis of channels, and name "
            "`source.axes` if the files do not"
        ],
    )


def _told(shape: tuple[int, ...], text: str, stored: str) -> AxesGuess | None:
    """Follow the metadata; None if it names no axes that this program has."""
    if "T" in stored:
        return AxesGuess(
            reason=f"files are {text}, by their metadata {stored}",
            notes=[
                "the metadata names an axis of time: export single planes or volumes"
            ],
        )
    try:
        axes = known_axes(stored)
    except ValueError:
        return None
    channels = shape[axes.index("C")] if "C" in axes else 1
    return AxesGuess(axes, channels, f"files are {text}; their metadata says {axes}")


def _by_lengths(shape: tuple[int, ...]) -> str:
    """Axes of three by their lengths; empty if the middle one looks like channels."""
    if shape[2] <= MOST_CHANNELS:
        return "YXC"
    if shape[0] <= MOST_CHANNELS:
        return "CYX"
    return "" if shape[1] <= MOST_CHANNELS else "ZYX"

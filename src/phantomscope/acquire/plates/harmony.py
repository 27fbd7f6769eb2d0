"""The index of an Opera Phenix or Operetta (Harmony): which file is what, and where."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from phantomscope.acquire.plates.sites import well_name
from phantomscope.acquire.plates.store import check_name, plain_tag
from phantomscope.acquire.plates.tables import GET_AGAIN, PlateMap
from phantomscope.errors import PhantomscopeError, explain_os_errors

INDEX = "Index.idx.xml"
# Lengths are in metres unless they say otherwise.
_UM = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0, "μm": 1.0, "nm": 1e-3}
Values = dict[str, tuple[str, str]]
# Of some thirty things that are said of each of 27,648 images.
NEEDED = frozenset({
    "URL", "Row", "Col", "FieldID", "PlaneID", "ChannelID", "ChannelName", "PositionZ",
    "AbsPositionZ", "ImageResolutionX",
})  # fmt: skip


def _values(element: ElementTree.Element) -> Values:
    """Return the children of an element that are needed: name to text and unit."""
    return {
        name: ((child.text or "").strip(), child.get("Unit", "m"))
        for child in element
        if (name := plain_tag(child)) in NEEDED
    }


def _elements(path: Path) -> Iterator[tuple[str, ElementTree.Element]]:
    """Yield images and channels as they come; a plate has tens of thousands."""
    parents: list[ElementTree.Element] = []
    with path.open("rb") as stream:
        for event, element in ElementTree.iterparse(stream, events=("start", "end")):
            if event == "start":
                parents.append(element)
                continue
            parents.pop()
            kind = plain_tag(element)
            if kind in ("Image", "Entry"):
                yield kind, element
                if parents:
                    parents[-1].remove(element)


def _read(path: Path) -> tuple[list[Values], dict[str, Values]]:
    """Return the images, and of newer versions what is said of each channel."""
    images: list[Values] = []
    channels: dict[str, Values] = defaultdict(dict)
    with explain_os_errors(path):
        with path.open("rb") as stream:
            # What is declared in it could grow without bounds.
            bad = b"<!DOCTYPE" in stream.read(1 << 16)
        try:
            if bad:
                raise ValueError("it declares entities")
            for kind, element in _elements(path):
                values = _values(element)
                if kind == "Entry":
                    channels[element.get("ChannelID", "")] |= values
                elif "URL" in values:
                    images.append(values)
        except (ElementTree.ParseError, ValueError) as error:
            raise PhantomscopeError(
                f"this is no index of Harmony ({error})", where=path, fix=GET_AGAIN
            ) from error
    if not images:
        raise PhantomscopeError("this index names no image", where=path, fix=GET_AGAIN)
    return images, channels


def _length(values: Values, *names: str) -> float | None:
    """Return the first length that is there, in um."""
    for name in names:
        if name in values:
            text, unit = values[name]
            return float(text) * _UM[unit]
    return None


def read_index(path: Path) -> PlateMap:
    """Read which file of a plate is which channel, as the microscope has it.

    Parameters
    ----------
    path : Path
        ``Index.idx.xml`` of any version: the channel's name is with each image, or in
        a list of channels.

    Returns
    -------
    PlateMap
        Keys of channels are ``ChannelID`` or, with several planes of one channel,
        ``ChannelID/PlaneID``. The height of a plane is ``PositionZ``, which counts
        from the focus of the autofocus; the median over its images.

    Raises
    ------
    PhantomscopeError
        If it is no such XML, an image lacks its place or channel, two are of the same,
        pixels have several sizes, or a file name leads elsewhere.
    """
    images, channels = _read(path)
    files: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    heights: dict[str, list[float]] = defaultdict(list)
    names: dict[str, str] = {}
    sizes: set[float] = set()
    planes = {
        (v.get("ChannelID", ("", ""))[0], v.get("PlaneID", ("1", ""))[0])
        for v in images
    }
    several = len({channel for channel, _ in planes}) < len(planes)
    for values in images:
        try:
            number = values["ChannelID"][0]
            both = {**channels.get(number, {}), **values}
            key = f"{number}/{values['PlaneID'][0]}" if several else number
            names[key] = both["ChannelName"][0]
            place = well_name(int(both["Row"][0]), int(both["Col"][0]))
            site = files[place, int(both["FieldID"][0])]
            height = _length(both, "PositionZ", "AbsPositionZ")
            size = _length(both, "ImageResolutionX")
        except (LookupError, ValueError) as error:
            raise PhantomscopeError(
                f"an image of this index has no proper place or channel ({error!r})",
                where=path,
                fix=GET_AGAIN,
            ) from error
        name = check_name(values["URL"][0], path)
        if key in site:
            raise PhantomscopeError(
                f"{site[key]} and {name} are of the same site and channel",
                where=path,
                fix="only single images of a site and channel can be used, not series",
            )
        site[key] = name
        if height is not None:
            heights[key].append(height)
        if size is not None:
            # Written with many digits, which differ at the end.
            sizes.add(round(size, 6))
    if len(sizes) > 1:
        raise PhantomscopeError(
            f"pixels have several sizes: {sorted(sizes)} um",
            where=path,
            fix="these channels cannot be laid over each other",
        )
    middle = {key: median(values) for key, values in heights.items()}
    return PlateMap(INDEX, path, names, dict(files), middle, *sizes)

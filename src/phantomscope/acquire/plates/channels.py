"""Which file is which channel: told per plate by its tables, never by a number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phantomscope.acquire.plates.tables import PlateMap
from phantomscope.config.painting import BRIGHTFIELD
from phantomscope.config.plates import Plates
from phantomscope.errors import PhantomscopeError

PREFER = "set `channel_map: load_data` or `channel_map: index` to believe one of them"


@dataclass(frozen=True)
class Channels:
    """The channels of a plate.

    Attributes
    ----------
    files : dict
        (Well, site) to file names, one for each wanted channel, in their order; empty
        where the site has no file of a channel.
    origin : dict
        Wanted channel to what says so, such as ``OrigDNA in load_data.csv``.
    pixel_size_um : float, optional
        Side of a pixel, if the microscope's index was read.
    """

    files: Mapping[tuple[str, int], tuple[str, ...]]
    origin: Mapping[str, str]
    pixel_size_um: float | None


def _matching(plate_map: PlateMap, expression: str) -> list[str]:
    """Return the keys of channels whose name the whole expression matches."""
    return [
        key
        for key, name in plate_map.names.items()
        if re.fullmatch(expression, name, re.IGNORECASE)
    ]


def _describe(plate_map: PlateMap, key: str) -> str:
    """Name a channel of a source, with its height if it is known."""
    name = plate_map.names[key]
    number = "" if name == key else f"channel {key}, "
    height = plate_map.heights.get(key)
    at = "" if height is None else f", {height:+.1f} um"
    return f"{number}{name}{at} in {plate_map.source}"


def _planes(plate_map: PlateMap, expressions: Mapping[str, str]) -> list[str]:
    """Return the brightfield channels, by any of their names."""
    found = (_matching(plate_map, expressions[name]) for name in BRIGHTFIELD)
    return list(dict.fromkeys(key for keys in found for key in keys))


def _by_height(plate_map: PlateMap, expressions: Mapping[str, str]) -> dict[str, str]:
    """Tell three brightfield planes apart by their heights, if these are known."""
    planes = _planes(plate_map, expressions)
    heights = [plate_map.heights.get(key) for key in planes]
    known = [height for height in heights if height is not None]
    if len(planes) != len(BRIGHTFIELD) or len(set(known)) != len(planes):
        return {}
    planes.sort(key=lambda key: plate_map.heights[key], reverse=True)
    return dict(zip(BRIGHTFIELD, planes, strict=True))


def _resolve(plate_map: PlateMap, options: Plates, plate: str) -> dict[str, str]:
    """Return the key of each wanted channel that this source tells."""
    expressions = options.expressions
    heights = _by_height(plate_map, expressions)
    found: dict[str, str] = {}
    for name in options.wanted:
        keys = _matching(plate_map, expressions[name])
        if len(keys) == 1:
            found[name] = keys[0]
            if heights.get(name, keys[0]) != keys[0]:
                raise PhantomscopeError(
                    f"plate {plate}: {name} is {_describe(plate_map, keys[0])} by its "
                    f"name, but by the heights of the planes it is "
                    f"{_describe(plate_map, heights[name])}",
                    where=plate_map.path,
                    fix="if the names are right, set `channel_map: load_data`; else "
                    "write into `aliases` what is what",
                )
        elif name in heights:
            found[name] = heights[name]
        elif len(keys) > 1 and name not in BRIGHTFIELD:
            both = " and ".join(_describe(plate_map, key) for key in keys[:2])
            raise PhantomscopeError(
                f"plate {plate}: {both} are both {name}",
                where=plate_map.path,
                fix=f"make the expression of {name} in `aliases` narrower",
            )
    taken: dict[str, str] = {}
    for name, key in found.items():
        if (other := taken.setdefault(key, name)) != name:
            what = _describe(plate_map, key)
            raise PhantomscopeError(
                f"plate {plate}: {what} is both {other} and {name}",
                where=plate_map.path,
                fix="make their expressions in `aliases` narrower",
            )
    return found


def _check_found(
    found: Sequence[Mapping[str, str]], maps: Sequence[PlateMap], options: Plates,
    plate: str,
) -> None:  # fmt: skip
    """Make sure that one of the sources tells each wanted channel."""
    for name in options.wanted:
        if not any(name in one for one in found):
            there = "; ".join(
                ", ".join(_describe(one, key) for key in one.names) for one in maps
            )
            why = ""
            if name in BRIGHTFIELD and any(
                _planes(m, options.expressions) for m in maps
            ):
                why = " (neither names nor heights tell the brightfield planes apart)"
            raise PhantomscopeError(
                f"plate {plate}: no channel is {name}{why}; there are {there}",
                where=maps[0].path,
                fix="write into `aliases` what it is called, or leave it out of "
                "`inputs` and `stains`",
                example=f'aliases: [[{name}, "NAME ON THE PLATE"]]',
            )


def _check_agreement(
    found: Sequence[Mapping[str, str]], maps: Sequence[PlateMap], options: Plates,
    plate: str,
) -> None:  # fmt: skip
    """Make sure that two sources name the same files."""
    one, other = maps
    common = sorted(set(one.files) & set(other.files))
    if not common:
        raise PhantomscopeError(
            f"plate {plate}: {one.source} and {other.source} have no site in common",
            where=one.path,
            fix=PREFER,
        )
    for name in options.wanted:
        if any(name not in keys for keys in found):
            continue
        here, there = (keys[name] for keys in found)
        for place in common:
            files = one.files[place].get(here), other.files[place].get(there)
            if files[0] != files[1] and None not in files:
                raise PhantomscopeError(
                    f"plate {plate}, channel {name}, well {place[0]}, site {place[1]}: "
                    f"it is {files[0]} by {_describe(one, here)}, but {files[1]} by "
                    f"{_describe(other, there)}",
                    where=one.path,
                    fix=PREFER,
                )


def resolve_channels(maps: Sequence[PlateMap], options: Plates, plate: str) -> Channels:
    """Find the files of the wanted channels of a plate.

    Parameters
    ----------
    maps : sequence of PlateMap
        One or two sources; where a channel is told by both, the first one is used.
    options : Plates
        Wanted channels and what they are called.
    plate : str
        To name in an error.

    Raises
    ------
    PhantomscopeError
        If no source tells a channel, one tells two, two contradict each other, or names
        of brightfield planes contradict their heights.
    """
    found = [_resolve(one, options, plate) for one in maps]
    _check_found(found, maps, options, plate)
    if len(maps) == 2:
        _check_agreement(found, maps, options, plate)
    first = {
        name: next(number for number, keys in enumerate(found) if name in keys)
        for name in options.wanted
    }
    files = {
        place: tuple(
            maps[n].files.get(place, {}).get(found[n][name], "")
            for name, n in first.items()
        )
        for place in maps[0].files
    }
    origin = {name: _describe(maps[n], found[n][name]) for name, n in first.items()}
    sizes = [one.pixel_size_um for one in maps if one.pixel_size_um is not None]
    return Channels(files, origin, next(iter(sizes), None))

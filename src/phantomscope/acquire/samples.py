"""Which members of archives are images, which are their labels, and which are used."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from phantomscope.acquire.folder import spread
from phantomscope.acquire.listing import natural_key
from phantomscope.config.data import Source
from phantomscope.config.frames import Frames
from phantomscope.config.layout import FIELDS, Layout, fields_of
from phantomscope.errors import PhantomscopeError

_ANY = "[^/]+"
_PARTS = {
    "{id}": f"(?P<id>{_ANY})",
    "{split}": f"(?P<split>{_ANY})",
    "{group}": f"(?P<group>{_ANY})",
    "{frame}": r"(?P<frame>\d+)",
    "{plane}": r"(?P<plane>\d+)",
    "*": "[^/]*",
}
Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Found:
    """A member that matches a pattern, and what its name says about it."""

    name: str
    plane: int | None
    frame: str = ""


@dataclass(frozen=True)
class Sample:
    """One image of a data set: names of the members that belong to it.

    Attributes
    ----------
    stem : str
        What becomes its id.
    split, group : str
        Published split, and what it belongs to (video, plant); empty without.
    image : str
        Name of the member.
    labels : tuple of str
        Names of its label files.
    planes : tuple of int
        Plane of each label file; empty where they are of the whole image.
    frame : int, optional
        Number in its time series.
    """

    stem: str
    split: str
    image: str
    labels: tuple[str, ...]
    group: str = ""
    planes: tuple[int, ...] = ()
    frame: int | None = None

    @property
    def series(self) -> str:
        """Name of its time series: group, in the published split if there is one."""
        return "-".join(filter(None, (self.split, self.group)))


def _compiled(pattern: str) -> re.Pattern[str]:
    """Turn ``{id}/images/*.png`` into a regular expression of whole names."""
    pieces = re.split(r"(\{[a-z]+\}|\*)", pattern)
    return re.compile(
        "".join(_PARTS.get(piece) or re.escape(piece) for piece in pieces)
    )


def _grouped(names: Sequence[str], pattern: str) -> dict[Key, list[Found]]:
    """Members that match, by what their names say for the fields of the pattern."""
    expression = _compiled(pattern)
    fields = [field for field in FIELDS if field in fields_of(pattern)]
    groups: dict[Key, list[Found]] = defaultdict(list)
    for name in sorted(names):
        # Hidden files, such as those that macOS adds, are no data.
        match = expression.fullmatch(name)
        if match and not PurePosixPath(name).name.startswith("."):
            said = match.groupdict()
            plane = int(said["plane"]) if "plane" in said else None
            key = tuple(int(said[f]) if f == "frame" else said[f] for f in fields)
            groups[key].append(Found(name, plane, said.get("frame", "")))
    return groups


def find_samples(
    names: Sequence[str], layout: Layout, where: Path, truth: str = "", *,
    whole: bool = True,
) -> list[Sample]:  # fmt: skip
    """Find images and their labels among the members of the archives.

    Parameters
    ----------
    names : sequence of str
        Members of all archives.
    layout : Layout
        Patterns.
    where : Path
        Archive to name in an error.
    truth : str
        Which labels.
    whole : bool
        Whether all members are listed, so that missing frames are an error.

    Returns
    -------
    list of Sample
        In natural order of split, group and id or frame; labels in the order of
        their names.

    Raises
    ------
    PhantomscopeError
        If a pattern matches nothing; if an image has more than one file or, unless
        each object or plane has a file of its own, more than one label file; if
        frames are missing in between, or labels are of a frame that is not there.
    """
    images = _grouped(names, layout.images)
    _some("images", [layout.images], bool(images), names, where)
    patterns = layout.patterns(truth)
    labels = [(pattern, _grouped(names, pattern)) for pattern in patterns]
    if patterns:
        _some("labels", patterns, any(found for _, found in labels), names, where)
    fields = [field for field in FIELDS if field in fields_of(layout.images)]
    samples: list[Sample] = []
    used: set[str] = set()
    for key, files in images.items():
        said = dict(zip(fields, key, strict=True))
        own = []
        for pattern, found in labels:
            part = tuple(said[f] for f in FIELDS if f in fields_of(pattern))
            own += found.get(part, [])
        used.update(file.name for file in own)
        _check_files(files, own, layout, where)
        samples.append(_sample(said, files[0], own))
    samples.sort(key=_order)
    if layout.by_frame and whole:
        every = {
            file.name for _, found in labels for fs in found.values() for file in fs
        }
        _check_series(samples, sorted(every - used), layout, where)
    return samples


def _some(
    key: str, patterns: Sequence[str], found: bool, names: Sequence[str], where: Path
) -> None:
    if not found:
        like = " or ".join(f"`{pattern}`" for pattern in patterns)
        raise PhantomscopeError(
            f"no member is like {like}; there is {', '.join(names[:3]) or 'nothing'}",
            where=where,
            fix=f"adapt `layout.{key}` of this data set in the registry",
        )


def _check_files(
    images: Sequence[Found], labels: Sequence[Found], layout: Layout, where: Path
) -> None:
    """Make sure that one image has one file, and its labels do not compete."""
    several = [file.name for file in images]
    planes = [file.plane for file in labels]
    apart = None not in planes and len(set(planes)) == len(planes)
    if len(several) == 1 and not (layout.one_mask_per_object or apart):
        several = [file.name for file in labels]
    if len(several) > 1:
        raise PhantomscopeError(
            f"{several[0]} and {several[1]} are of the same image",
            where=where,
            fix="make the patterns of `layout` in the registry narrower",
        )


def _sample(said: Mapping[str, str | int], image: Found, labels: list[Found]) -> Sample:
    group, frame = str(said.get("group", "")), said.get("frame")
    # With the zeros of the file, so that names sort as numbers do.
    of_frame = "-".join(filter(None, (group, f"t{image.frame}")))
    return Sample(
        of_frame if image.frame else str(said["id"]),
        str(said.get("split", "")),
        image.name,
        tuple(file.name for file in labels),
        group,
        tuple(file.plane for file in labels if file.plane is not None),
        None if frame is None else int(frame),
    )


def _order(sample: Sample) -> tuple[object, ...]:
    names = (
        natural_key(Path(sample.group or "-")),
        natural_key(Path(sample.stem or "-")),
    )
    return (sample.split, names[0], sample.frame or 0, names[1], sample.image)


def _check_series(
    samples: Sequence[Sample], orphans: Sequence[str], layout: Layout, where: Path
) -> None:
    """Make sure that no frame is missing: half an archive would look like a whole."""
    for series, frames in _frames(samples).items():
        missing = sorted(set(range(min(frames), max(frames))) - set(frames))
        if missing and not layout.gaps:
            raise PhantomscopeError(
                f"of the series {series!r} {len(missing)} frames are missing, the "
                f"first is {missing[0]}; there are {min(frames)} to {max(frames)}",
                where=where,
                fix="get the archive from its publisher again; if that is how it is, "
                "set `layout.gaps: true` in the registry",
            )
    if orphans:
        raise PhantomscopeError(
            f"{orphans[0]} is the label of a frame that is not there "
            f"({len(orphans)} such files)",
            where=where,
            fix="get the archive from its publisher again",
        )


def _frames(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Numbers of the frames of each time series."""
    series: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        if sample.frame is not None:
            series[sample.series].append(sample.frame)
    return series


def _ranges(numbers: Sequence[int]) -> str:
    """Write numbers as ``0-9, 12, 14-20``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def select(samples: Sequence[Sample], source: Source, where: Path) -> list[Sample]:
    """Choose the images that the section ``source`` asks for.

    A choice out of what was chosen changes nothing: so the same options apply to a
    whole archive and to one of which only these members were fetched.

    Raises
    ------
    PhantomscopeError
        If nothing is left, a frame of ``source.frames.only`` is not there, or no image
        that is left has labels although others have.
    """
    frames = source.frames
    kept = [s for s in samples if s.frame is None or s.frame in frames]
    if frames.only is not None:
        _check_only(samples, frames, where)
    if source.labelled:
        kept = [sample for sample in kept if sample.labels]
    if frames.limit is not None:
        series: dict[str, list[Sample]] = defaultdict(list)
        for sample in kept:
            series[sample.series].append(sample)
        kept = [
            part[i] for part in series.values() for i in spread(len(part), frames.limit)
        ]
    kept = [kept[i] for i in spread(len(kept), source.limit)]
    labelled = [sample for sample in samples if sample.labels]
    if not kept or (labelled and not any(sample.labels for sample in kept)):
        raise _nothing_left(samples, labelled, bool(kept), where)
    return kept


def _check_only(samples: Sequence[Sample], frames: Frames, where: Path) -> None:
    for series, numbers in _frames(samples).items():
        if missing := sorted(set(frames.only or ()) - set(numbers)):
            raise PhantomscopeError(
                f"the series {series!r} has no frame {missing[0]}: there are "
                f"{_ranges(numbers)}",
                where="source.frames.only",
                fix=f"ask for frames that are in {where.name}",
            )


def _nothing_left(
    samples: Sequence[Sample], labelled: Sequence[Sample], some: bool, where: Path
) -> PhantomscopeError:
    what = "none of the images that are left has labels" if some else "no image is left"
    there = _frames(labelled if some else samples)
    text = "; ".join(f"{name}: {_ranges(found)}" for name, found in there.items())
    kind = "frames with labels" if some else "frames"
    return PhantomscopeError(
        f"{what} of the {len(samples)} in {where.name}",
        where="source.frames" if text else "source.limit",
        fix=f"choose other {kind}: there are {text}"
        if text
        else "raise `limit`, or set `labelled: true`",
    )

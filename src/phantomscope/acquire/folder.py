"""A folder of the user's own images, checked as a whole and made into an image set."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.listing import (
    file_stem,
    index_by_stem,
    list_images,
    safe_ids,
)
from phantomscope.config.data import Source
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import pixel_hash, read_image, read_labels
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress

SHOWN = 10


@dataclass(frozen=True)
class Item:
    """One image that is to be read."""

    identifier: str
    image: Path
    label: Path | None


@dataclass
class Findings:
    """What is wrong with the files, and an example of each dtype."""

    problems: list[PhantomscopeError] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)

    def note(self, item: Item, problem: PhantomscopeError) -> None:
        """Keep a problem of one file."""
        self.problems.append(problem)
        self.wrong.add(item.identifier)


def spread(count: int, limit: int | None) -> list[int]:
    """Return `limit` indices evenly spread over 0..count-1, or all of them."""
    if limit is None or limit >= count:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, limit).round()]


def match_labels(
    labels: str | None, root: str | None, images: list[Path]
) -> dict[str, Path]:
    """Map the stem of an image in `root` to its file in the folder of labels."""
    if labels is None:
        return {}
    folder = Path(labels)
    if folder.exists() and folder.resolve() == Path(root or "").resolve():
        raise PhantomscopeError(
            "images and labels are in the same folder",
            where="source.labels",
            fix="put the labels into a folder of their own, under the same names",
        )
    found = index_by_stem(list_images(folder, "source.labels")[0])
    stems = {file_stem(path) for path in images}
    matches = {stem: path for stem, path in found.items() if stem in stems}
    if not matches:
        raise PhantomscopeError(
            f"no label has the name of an image: there is the label "
            f"{next(iter(found.values())).name}, but the image {images[0].name}",
            where="source.labels",
            fix="give each label the name of its image (the suffix may differ)",
        )
    return matches


def group_of(path: Path, expression: str | None) -> str:
    """Return the unit of statistics by the name of a file; empty without expression."""
    if expression is None:
        return ""
    match = re.search(expression, path.name)
    if match is None or not match.group(1):
        raise PhantomscopeError(
            f"the regular expression {expression!r} finds no group in this name",
            where=path,
            fix="change `source.group` so that it fits each file, or rename the file",
        )
    return match.group(1)


def _group_of(source: Source, item: Item) -> str:
    """Return the unit of statistics that an image belongs to."""
    return group_of(item.image, source.group) or item.identifier


def _read(source: Source, item: Item) -> tuple[NDArray[Any], NDArray[Any] | None]:
    image = read_image(item.image, source.axes, source.channel)
    shape = image.shape[1:] if source.channels > 1 else image.shape
    return image, read_labels(item.label, shape) if item.label else None


def raise_problems(findings: Findings, where: str | Path | None, total: int) -> None:
    """Raise one error that lists all problems of `total` images; `where` they are."""
    if len(findings.dtypes) > 1:
        examples = ", ".join(f"{n} is {d}" for d, n in findings.dtypes.items())
        findings.problems.append(
            PhantomscopeError(
                f"the images are of different types: {examples}",
                where=where,
                fix="convert them to one type, so that intensities can be compared",
            )
        )
    if not findings.problems:
        return
    if len(findings.problems) == 1:
        raise findings.problems[0]
    lines = [
        f"- {Path(problem.where).name}: {problem.what}; {problem.fix}"
        for problem in findings.problems[:SHOWN]
    ]
    if len(findings.problems) > SHOWN:
        lines.append(f"- and {len(findings.problems) - SHOWN} more")
    raise PhantomscopeError(
        f"{len(findings.problems)} problems, {len(findings.wrong)} of {total} images "
        "cannot be used:\n" + "\n".join(lines),
        where=where,
        fix="mend or remove these files and run the same command again",
    )


def _add(
    writer: ImageSetWriter,
    item: Item,
    pixels: tuple[NDArray[Any], NDArray[Any] | None],
    group: str,
    source: Source,
) -> None:
    """Write one image unless a writer that was killed has written the same pixels."""
    image, labels = pixels
    old = writer.rows.get(item.identifier)
    if old is not None:
        label_hash = "" if labels is None else pixel_hash(labels)
        if (old["sha256"], old["mask_sha256"]) == (pixel_hash(image), label_hash):
            return
        del writer.rows[item.identifier]  # the file was mended in between
    shape = image.shape[1:] if source.channels > 1 else image.shape
    stratum = "x".join(map(str, shape))
    writer.add(
        item.identifier,
        image,
        labels,
        pixel_size=source.pixel_size_um,
        channels=source.channels,
        group=group,
        stratum=stratum,
    )


def _fill(writer: ImageSetWriter, source: Source, items: list[Item]) -> None:
    """Read, check and write each image; report all problems at the end."""
    findings = Findings()
    with Progress("reading images", total=len(items)) as progress:
        for item in items:
            try:
                group = _group_of(source, item)
            except PhantomscopeError as problem:
                findings.note(item, problem)
                group = ""
            try:
                pixels = _read(source, item)
                findings.dtypes.setdefault(str(pixels[0].dtype), item.image.name)
            except PhantomscopeError as problem:
                findings.note(item, problem)
            # After the first problem nothing is written, only checked.
            if not findings.problems:
                _add(writer, item, pixels, group, source)
            progress.advance()
    raise_problems(findings, source.path, len(items))


def acquire_folder(source: Source, folder: Path) -> None:
    """Make an image set of a folder of TIFF and PNG files.

    Parameters
    ----------
    source : Source
        Section ``source`` of the config: folders, axes, channel, pixel size in um,
        expression of the group and limit.
    folder : Path
        Folder of the new set. Images are ([Z,] Y, X), uint8, uint16 or float32 with
        the intensities of the files; labels are ([Z,] Y, X), uint16 or uint32, 0 is
        background. The column ``stratum`` holds the size, such as ``512x768``.

    Raises
    ------
    PhantomscopeError
        If a folder is missing, empty or a file; if no label fits; and, all listed
        together, for files that cannot be read, are too small, constant, NaN, of
        other axes or types, labels of another shape and names without group. Then
        no set is left.
    """
    root = Path(source.path or "")
    paths, ignored = list_images(root)
    index_by_stem(paths)
    matches = match_labels(source.labels, source.path, paths)
    items = [
        Item(identifier, path, matches.get(file_stem(path)))
        for identifier, path in zip(
            safe_ids([file_stem(path) for path in paths]), paths, strict=True
        )
    ]
    if source.labelled:
        items = [item for item in items if item.label is not None]
    items = [items[i] for i in spread(len(items), source.limit)]
    labelled = sum(item.label is not None for item in items)
    if source.labels is not None and not labelled:
        raise PhantomscopeError(
            f"none of the {len(items)} images that `limit` leaves has a label",
            where="source.limit",
            fix="raise `limit`, or keep only images with labels in the folder",
        )
    names = "\n".join(item.image.name for item in items)
    info = {
        "source": "folder",
        "options": source.model_dump(mode="json"),
        "licence": "not stated (images of the user)",
        "citation": "",
        "files": len(items),
        "labelled": labelled,
        "ignored": dict(sorted(ignored.items())),
        "names_sha256": hashlib.sha256(names.encode()).hexdigest(),
    }
    with ImageSetWriter(folder, info) as writer:
        _fill(writer, source, items)

"""Images with points or boxes to an image set: one's own, BBBC026 and BBBC042."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.acquire.archive import Archive, open_archive
from phantomscope.acquire.folder import group_of, spread
from phantomscope.acquire.listing import (
    file_stem,
    index_by_stem,
    list_images,
    safe_ids,
)
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.annotations import (
    BOXES,
    COLUMNS,
    POINTS,
    read_table,
    write_tables,
)
from phantomscope.images.files import SUFFIXES, read_array, read_image
from phantomscope.images.noise import NoiseField
from phantomscope.images.writer import ImageSetWriter

T = TypeVar("T")
Array = NDArray[Any]
# Marks of BBBC026 as (red, green, blue): 255, and at most 10 of the others.
MARKS = {"hepatocyte": 0, "fibroblast": 1, "debris": 2}
DARK = 10
SITE = re.compile(r"(?P<well>[A-P]\d\d)_s(?P<site>\d+)")
LICENCE = "as on the accession page of the Broad Bioimage Benchmark Collection"


@dataclass(frozen=True)
class Choice:
    """Which images are used, and what is known of them.

    Attributes
    ----------
    limit : int, optional
        Most images, evenly spread.
    axes, channel
        As in `read_image`; of one's own images.
    pixel_size : float, optional
        In um.
    group : str, optional
        Regular expression with one group, searched in names; of one's own images.
    info : Mapping
        Further content of `info.json`, such as licence and citation.
    """

    limit: int | None = None
    axes: str = ""
    channel: int | None = None
    pixel_size: float | None = None
    group: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def of(self, found: Sequence[T]) -> list[T]:
        """Return those within `limit`."""
        return [found[i] for i in spread(len(found), self.limit)]


def _write_rows(writer: ImageSetWriter, name: str, rows: list[tuple[Any, ...]]) -> None:
    table = pd.DataFrame(rows, columns=list(COLUMNS[name]))
    write_tables(writer.partial, {name: table})


def acquire_annotated(
    images: Path, table: Path, folder: Path, choice: Choice = Choice()
) -> None:
    """Make an image set of a folder of images and a table of points or boxes.

    Parameters
    ----------
    images : Path
        Folder of TIFF and PNG images (Y, X).
    table : Path
        CSV: column ``id`` (name of the file, with or without suffix) and ``y``, ``x``
        of points or ``y1``, ``x1``, ``y2``, ``x2`` of boxes, in px; ``type`` if known.
    folder : Path
        New set, with `points.csv` or `boxes.csv` beside the manifest. Images without
        any row stay: nothing is in them.
    choice : Choice
        Which images, and how to read them.

    Raises
    ------
    PhantomscopeError
        If a row names no image, lies outside its image, a file cannot be read or a
        name has no group.
    """
    with explain_os_errors(table), table.open(errors="replace") as stream:
        header = [word.strip(' "\n') for word in stream.readline().split(",")]
    name = BOXES if "y1" in header else POINTS
    rows = read_table(table, COLUMNS[name])
    paths, _ = list_images(images)
    index_by_stem(paths)
    ids = safe_ids([file_stem(path) for path in paths])
    known = dict(zip((p.name for p in paths), ids, strict=True))
    known |= dict(zip(map(file_stem, paths), ids, strict=True))
    unknown = rows["id"][~rows["id"].isin(list(known))]
    if len(unknown):
        raise PhantomscopeError(
            f"{unknown.iloc[0]!r} is no image of {images} ({len(unknown)} such rows)",
            where=table,
            fix=f"write the names of the files, such as {paths[0].name}",
        )
    rows["id"] = rows["id"].map(known)
    used = choice.of(list(zip(ids, paths, strict=True)))
    rows = rows[rows["id"].isin([identifier for identifier, _ in used])]
    info = {"source": "annotated", "table": name, "rows": len(rows),
            "licence": "not stated (images of the user)", "citation": "",
            "files": len(used), **choice.info}  # fmt: skip
    with ImageSetWriter(folder, info, resume=False) as writer:
        for identifier, path in used:
            image = read_image(path, choice.axes, choice.channel)
            _check_inside(rows[rows["id"] == identifier], image.shape, table)
            writer.add(
                identifier, image, pixel_size=choice.pixel_size,
                group=group_of(path, choice.group) or identifier,
            )  # fmt: skip
        _write_rows(writer, name, list(rows.itertuples(index=False, name=None)))


def _check_inside(rows: pd.DataFrame, shape: tuple[int, ...], where: Path) -> None:
    for axis, length in zip("yx", shape, strict=True):
        for column in (c for c in rows.columns if c.startswith(axis)):
            # A point is in a pixel; a box may end behind the last one.
            most = length if len(column) > 1 else length - 1
            bad = rows[(rows[column] < 0) | (rows[column] > most)]
            if len(bad):
                raise PhantomscopeError(
                    f"{column} = {bad.iloc[0][column]:g} is outside the image "
                    f"{bad.iloc[0]['id']!r} of {shape[0]} x {shape[1]} px",
                    where=where,
                    fix="give px counted from 0, y downwards",
                )


@contextmanager
def _members(path: Path) -> Iterator[tuple[Archive, Path]]:
    with open_archive(path) as archive, TemporaryDirectory() as scratch:
        yield archive, Path(scratch)


def _names(archive: Archive, suffixes: tuple[str, ...]) -> list[str]:
    """Return files by suffix, without those that macOS adds."""
    return sorted(
        name for name, member in archive.members.items()
        if not member.is_folder and name.lower().endswith(suffixes)
        and not PurePosixPath(name).name.startswith(".") and "__MACOSX" not in name
    )  # fmt: skip


def _decoded(archive: Archive, name: str, scratch: Path) -> Array:
    path = scratch / f"member{PurePosixPath(name).suffix.lower()}"
    path.write_bytes(archive.read(name))
    try:
        return read_array(path)
    except PhantomscopeError as error:
        where = archive.path / name
        raise PhantomscopeError(error.what, where=where, fix=error.fix) from error


def _none(what: str, path: Path) -> PhantomscopeError:
    return PhantomscopeError(
        f"there is no {what} in this archive", where=path,
        fix="give the publisher's archive as it is",
    )  # fmt: skip


def read_marks(image: Array) -> tuple[Array, NDArray[np.bool_], list[tuple[Any, ...]]]:
    """Split an image with coloured marks into grey image and points.

    Parameters
    ----------
    image : ndarray, shape (Y, X, 3 or 4)
        uint8; a mark is a pixel or a blob of pure red, green or blue.

    Returns
    -------
    grey : ndarray, shape (Y, X)
        uint8, the first channel.
    marked : ndarray, shape (Y, X)
        Pixels of marks, whose grey is unknown.
    points : list of (y, x, type)
        Middle of each blob.
    """
    marked, points = np.zeros(image.shape[:2], bool), []
    for kind, channel in MARKS.items():
        others = [c for c in range(3) if c != channel]
        own = (image[..., channel] == 255) & (image[..., others] <= DARK).all(-1)
        labels, count = ndimage.label(own, np.ones((3, 3)))
        for y, x in ndimage.center_of_mass(own, labels, range(1, count + 1)):
            points.append((float(y), float(x), kind))
        marked |= own
    return image[..., 0], marked, points


def acquire_bbbc026_truth(
    archive: Path, folder: Path, seed: int = 0, choice: Choice = Choice()
) -> None:
    """Make an image set of the annotated images of BBBC026.

    Parameters
    ----------
    archive : Path
        Images with one coloured mark per object; names have well and site.
    folder : Path
        New set with `points.csv` (types hepatocyte, fibroblast, debris). Marked pixels
        are replaced by the median of 11 x 11 px plus noise of standard deviation 2, as
        in Javer & Rittscher. Columns `well`, `site` and `fold` (1, 2, ... by name).
    seed : int
        Of this noise.
    choice : Choice
        Which images.
    """
    info = {"source": "bbbc026", "part": "truth", "seed": seed, "licence": LICENCE,
            "citation": "Logan et al., BBBC026", **choice.info}  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    with _members(archive) as (opened, scratch):
        found = [(n, m) for n in _names(opened, SUFFIXES)
                 if (m := SITE.search(PurePosixPath(n).name))]  # fmt: skip
        if not found:
            raise _none("image named by well and site, such as A03_s1", archive)
        found = choice.of(found)
        info["files"] = len(found)
        with ImageSetWriter(folder, info, resume=False) as writer:
            for fold, (name, match) in enumerate(found, 1):
                image = _decoded(opened, name, scratch)
                if image.ndim != 3:
                    raise PhantomscopeError(
                        f"this image is {image.shape}, so nothing can be marked in "
                        "colour",
                        where=archive / name,
                        fix="give the annotated images of BBBC026",
                    )
                identifier = match[0]
                grey, marked, points = read_marks(image)
                middle = ndimage.median_filter(grey, 11).astype(np.float32)
                noise = NoiseField(seed, identifier, "marks").block((0, 0), grey.shape)
                mended = np.clip(np.rint(middle + 2 * noise), 0, 255).astype(np.uint8)
                writer.add(
                    identifier, np.where(marked, mended, grey),
                    pixel_size=choice.pixel_size, well=match["well"],
                    site=int(match["site"]), fold=fold,
                )  # fmt: skip
                rows += [(identifier, *point) for point in points]
            _write_rows(writer, POINTS, rows)


def acquire_bbbc026_plate(
    archive: Path, folder: Path, choice: Choice = Choice()
) -> None:
    """Make an image set of the plate of BBBC026; `group` is the well.

    Column `control` is ``negative`` in column 01 of the plate and ``positive`` in
    column 23, which is what Z' compares.
    """
    info = {"source": "bbbc026", "part": "plate", "licence": LICENCE,
            "citation": "Logan et al., BBBC026", **choice.info}  # fmt: skip
    controls = {"01": "negative", "23": "positive"}
    with _members(archive) as (opened, scratch):
        found = [(n, m) for n in _names(opened, SUFFIXES)
                 if (m := SITE.search(PurePosixPath(n).name))]  # fmt: skip
        if not found:
            raise _none("image named by well and site, such as A03_s1", archive)
        found = choice.of(found)
        info["files"] = len(found)
        with ImageSetWriter(folder, info, resume=False) as writer:
            for name, match in found:
                image = _decoded(opened, name, scratch)
                grey = image[..., 0] if image.ndim == 3 else image
                well = match["well"]
                writer.add(
                    match[0], grey, pixel_size=choice.pixel_size, group=well,
                    well=well, site=int(match["site"]),
                    control=controls.get(well[1:], ""),
                )  # fmt: skip


def grey_of(image: Array) -> Array:
    """Return inverted grey (0.299 R + 0.587 G + 0.114 B), uint8, shape (Y, X)."""
    grey = image
    if image.ndim == 3:
        weights = np.array([0.299, 0.587, 0.114])
        grey = np.rint(image[..., :3] @ weights)
    return (255 - grey).astype(np.uint8)


def acquire_bbbc042(
    images: Path, positions: Path, folder: Path, choice: Choice = Choice()
) -> None:
    """Make an image set of BBBC042: astrocytes in boxes.

    Parameters
    ----------
    images : Path
        Archive of RGB images whose names end in their number.
    positions : Path
        Archive of text files, parted by spaces, one line per box; columns 4 to 7,
        counted from 0, are x1, y1, x2, y2.
    folder : Path
        New set with `boxes.csv`: inverted grey, so that what absorbs is bright.
        `split` and `published_split` are that of Javer & Rittscher: numbers below
        1000 train, below 1050 validation, others test.
    choice : Choice
        Which images.

    Raises
    ------
    PhantomscopeError
        If an image has no positions, or a line is none.
    """
    info = {"source": "bbbc042", "licence": LICENCE,
            "citation": "Suleymanova et al., BBBC042", **choice.info}  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    with _members(images) as (opened, scratch), _members(positions) as (texts, _):
        lists = {number: n for n in _names(texts, (".txt",))
                 if (number := _last_number(n)) is not None}  # fmt: skip
        found = [(number, n) for n in _names(opened, SUFFIXES)
                 if (number := _last_number(n)) is not None]  # fmt: skip
        if not found:
            raise _none("image whose name ends in a number", images)
        found = choice.of(sorted(found))
        info["files"] = len(found)
        with ImageSetWriter(folder, info, resume=False) as writer:
            for number, name in found:
                if number not in lists:
                    raise PhantomscopeError(
                        f"image {number} has no text file of positions",
                        where=positions,
                        fix="give the publisher's archive as it is",
                    )
                identifier = f"{number:04d}"
                grey = grey_of(_decoded(opened, name, scratch))
                text = texts.read(lists[number]).decode("utf-8", "replace")
                where = positions / lists[number]
                boxes = _read_boxes(text, identifier, grey.shape, where)
                side = "train" if number < 1000 else "validation"
                side = "test" if number >= 1050 else side
                writer.add(
                    identifier, grey, pixel_size=choice.pixel_size, split=side,
                    published_split=side,
                )  # fmt: skip
                rows += boxes
            _write_rows(writer, BOXES, rows)


def _last_number(name: str) -> int | None:
    match = re.search(r"(\d+)$", PurePosixPath(name).stem)
    return int(match[1]) if match else None


def _read_boxes(
    text: str, identifier: str, shape: tuple[int, ...], where: Path
) -> list[tuple[Any, ...]]:
    rows = []
    for line, words in enumerate((t.split() for t in text.splitlines()), 1):
        if not words:
            continue
        try:
            x1, y1, x2, y2 = (float(word) for word in words[4:8])
        except ValueError as error:
            raise PhantomscopeError(
                f"line {line} has no box in columns 4 to 7 ({error})",
                where=where,
                fix="mend this line, or leave this image out",
            ) from error
        y1, y2 = sorted(np.clip((y1, y2), 0, shape[0]))
        x1, x2 = sorted(np.clip((x1, x2), 0, shape[1]))
        if y2 > y1 and x2 > x1:
            rows.append((identifier, y1, x1, y2, x2, "astrocyte"))
    return rows

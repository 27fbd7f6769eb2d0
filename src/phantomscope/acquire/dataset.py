"""Public data sets: from downloaded archives straight to an image set."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.archive import Archive, open_archive
from phantomscope.acquire.download import verify
from phantomscope.acquire.folder import (
    Findings,
    Item,
    _group_of,
    _raise_problems,
    spread,
)
from phantomscope.acquire.listing import natural_key, safe_ids
from phantomscope.config.data import Source
from phantomscope.config.datasets import Dataset, DatasetFile, Layout
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import read_array, read_image, read_labels
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress

T = TypeVar("T")
Array = NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """One image of a data set: names of the members that belong to it."""

    stem: str
    split: str
    image: str
    labels: tuple[str, ...]


def entry_of(source: Source) -> Dataset:
    """Return what the registry says about the data set of a config."""
    if source.entry is None:
        raise PhantomscopeError(
            f"`kind: {source.kind}` has nothing to download",
            where="source.kind",
            fix="name a public data set",
            example="source:\n  kind: dataset\n  dataset: bbbc038",
        )
    return source.entry


def _pattern(text: str) -> re.Pattern[str]:
    """Turn ``{id}/images/*.png`` into a regular expression of whole names."""
    parts = {"{id}": "(?P<id>[^/]+)", "{split}": "(?P<split>[^/]+)", "*": "[^/]*"}
    pieces = re.split(r"(\{id\}|\{split\}|\*)", text)
    return re.compile("".join(parts.get(p) or re.escape(p) for p in pieces))


def _grouped(names: Sequence[str], pattern: str) -> dict[tuple[str, str], list[str]]:
    """Members that match, by published split and id."""
    expression = _pattern(pattern)
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(names):
        # Hidden files, such as those that macOS adds, are no data.
        match = expression.fullmatch(name)
        if match and not PurePosixPath(name).name.startswith("."):
            key = match.groupdict()
            groups[key.get("split") or "", key["id"]].append(name)
    return groups


def find_samples(names: Sequence[str], layout: Layout, where: Path) -> list[Sample]:
    """Find images and their labels among the members of the archives.

    Parameters
    ----------
    names : sequence of str
        Members of all archives.
    layout : Layout
        Patterns.
    where : Path
        Archive to name in an error.

    Returns
    -------
    list of Sample
        In natural order of split and id; labels in the order of their names.

    Raises
    ------
    PhantomscopeError
        If a pattern matches nothing, or an id has more than one image or, unless each
        object has a mask of its own, more than one label image.
    """
    found = {"images": _grouped(names, layout.images), "labels": {}}
    if layout.labels is not None:
        found["labels"] = _grouped(names, layout.labels)
    for key in ("images", "labels"):
        pattern = getattr(layout, key)
        if pattern is not None and not found[key]:
            raise PhantomscopeError(
                f"no member is like `{pattern}`; there is {', '.join(names[:3])}",
                where=where,
                fix=f"adapt `layout.{key}` of this data set in the registry",
            )
    samples = []
    for (split, stem), images in found["images"].items():
        labels = found["labels"].get((split, stem)) or found["labels"].get(("", stem))
        several = images if len(images) > 1 else labels or []
        if len(several) > 1 and not (several is labels and layout.one_mask_per_object):
            raise PhantomscopeError(
                f"{several[0]} and {several[1]} are of the same image",
                where=where,
                fix="make the patterns of `layout` in the registry narrower",
            )
        samples.append(Sample(stem, split, images[0], tuple(labels or ())))
    return sorted(samples, key=lambda s: (s.split, natural_key(Path(s.stem)), s.image))


class _Reader:
    """Reads images out of archives; `scratch` holds one of their files at a time."""

    def __init__(self, archives: Sequence[Archive], layout: Layout, scratch: Path):
        self.layout, self._scratch = layout, scratch
        several = len(archives) > 1
        self._holder = {
            f"{archive.path.name}/{name}" if several else name: (archive, name)
            for archive in archives
            for name, member in archive.members.items()
            if not member.is_folder
        }
        self.names = list(self._holder)

    def _decode(self, name: str, read: Callable[[Path], T]) -> T:
        """Read a member by a function that takes a file; an error names the member."""
        archive, member = self._holder[name]
        path = self._scratch / f"member{PurePosixPath(name).suffix.lower()}"
        content = archive.read(member)
        with explain_os_errors(path):
            path.write_bytes(content)
        try:
            return read(path)
        except PhantomscopeError as error:
            where = archive.path / member
            raise PhantomscopeError(error.what, where=where, fix=error.fix) from error

    def is_kept(self, sample: Sample) -> bool:
        """Whether the image is of the kind that the layout keeps."""
        if self.layout.keep == "all":
            return True
        try:
            return is_fluorescence(self._decode(sample.image, read_array))
        except PhantomscopeError:
            return True  # it is told with all others when it is read

    def image(self, sample: Sample) -> Array:
        """Read an image, (Y, X)."""
        layout = self.layout
        image = self._decode(
            sample.image, lambda path: read_image(path, layout.axes, layout.channel)
        )
        if layout.dtype is None:
            return image
        if not np.can_cast(image.dtype, layout.dtype, "safe"):
            raise PhantomscopeError(
                f"{image.dtype} does not fit into {layout.dtype}",
                where=sample.image,
                fix="choose a wider `layout.dtype`",
            )
        return image.astype(layout.dtype)

    def labels(self, sample: Sample, shape: tuple[int, ...]) -> Array | None:
        """Read or put together the instance labels, (Y, X)."""
        if not sample.labels:
            return None
        if not self.layout.one_mask_per_object:
            return self._decode(sample.labels[0], lambda path: read_labels(path, shape))
        masks = (
            self._decode(name, lambda path: read_mask(path, shape))
            for name in sample.labels
        )
        return number_masks(masks, shape, len(sample.labels))


def is_fluorescence(array: Array) -> bool:
    """Whether an image is grey with a dark background.

    Parameters
    ----------
    array : ndarray, shape (Y, X) or (Y, X, C)
        With three or four channels, the first three are red, green and blue.

    Returns
    -------
    bool
        True if these are equal and the median is in the lower half of the range from
        the 0.1 to the 99.9 percentile: most pixels are then background, and dark.
    """
    if array.ndim == 3:
        if array.shape[2] > 2 and (array[..., :3] != array[..., :1]).any():
            return False
        array = array[..., 0]
    low, middle, high = np.percentile(array, [0.1, 50, 99.9])
    return bool(middle < (low + high) / 2)


def read_mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Read the binary mask of one object; any colour but black is the object."""
    array = read_array(path)
    if array.ndim == 3:
        # The last of two or four channels is opacity.
        array = np.any(array[..., : {2: 1, 4: 3}.get(array.shape[2], 3)], axis=2)
    if array.shape != tuple(shape):
        raise PhantomscopeError(
            f"the mask is {array.shape}, the image is {tuple(shape)}",
            where=path,
            fix="masks need the image's height and width",
        )
    return array > 0


def number_masks(
    masks: Iterator[NDArray[np.bool_]], shape: tuple[int, ...], count: int
) -> Array:
    """Give objects the numbers of their masks; the earlier keeps shared pixels.

    Returns
    -------
    ndarray, shape (Y, X)
        uint16, or uint32 for more than 65535 objects.
    """
    labels = np.zeros(shape, np.uint16 if count <= 65535 else np.uint32)
    for number, mask in enumerate(masks, 1):
        labels[mask & (labels == 0)] = number
    return labels


def _paths(source: Source, entry: Dataset, files: Sequence[Path]) -> list[Path]:
    """Put the downloaded files into the order of the registry."""
    by_name = {path.name: path for path in files or map(Path, source.downloaded)}
    missing = [file.name for file in entry.files if file.name not in by_name]
    missing += [str(path) for path in by_name.values() if not path.exists()]
    if missing:
        raise PhantomscopeError(
            f"files of the data set {source.dataset!r} are missing: "
            f"{', '.join(missing)}",
            where=source.downloads,
            fix="download them first",
            example=f"phantomscope download --config CONFIG "
            f"--target {source.downloaded[0]}",
        )
    return [by_name[file.name] for file in entry.files]


def _info(
    source: Source, entry: Dataset, hashes: Mapping[str, str], counts: Mapping[str, int]
) -> dict[str, Any]:
    """Everything that shapes the set, and where it comes from."""

    def described(file: DatasetFile) -> dict[str, str]:
        return {"name": file.name, "url": file.url, "sha256": hashes[file.name]}

    shaping = {"group", "limit", "pixel_size_um"}
    return {
        "source": "dataset",
        "name": source.dataset,
        "title": entry.title,
        "origin": entry.homepage,
        "downloads": [described(file) for file in entry.files],
        "licence": entry.licence,
        "citation": entry.citation,
        "layout": entry.layout.model_dump(mode="json"),
        "options": source.model_dump(mode="json", include=shaping),
        **counts,
    }


@contextmanager
def _opened(paths: Sequence[Path], layout: Layout) -> Iterator[_Reader]:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        archives = [stack.enter_context(open_archive(path)) for path in paths]
        yield _Reader(archives, layout, scratch)


def acquire_dataset(source: Source, files: Sequence[Path], folder: Path) -> None:
    """Make an image set of a downloaded data set; archives are not unpacked.

    Parameters
    ----------
    source : Source
        Section ``source`` of the config: data set, pixel size in um, group, limit.
    files : sequence of Path
        The downloaded files; empty: those in ``source.downloads``.
    folder : Path
        Folder of the new set: images (Y, X) as in `acquire_folder`. The column
        ``stratum`` holds the size, such as ``512x768``, and ``published_split`` the
        split that the publisher made, if any.

    Raises
    ------
    PhantomscopeError
        If a file is missing, is not the expected one or no good archive; if the layout
        does not fit; and, all listed together, for images and labels that cannot be
        used. Then no set is left.
    """
    entry = entry_of(source)
    paths = _paths(source, entry, files)
    hashes = {
        file.name: verify(path, size=file.size, sha256=file.sha256)
        for file, path in zip(entry.files, paths, strict=True)
    }
    with _opened(paths, entry.layout) as reader:
        every = find_samples(reader.names, entry.layout, paths[0])
        samples = _kept(reader, every)
        left_out = len(every) - len(samples)
        samples = [samples[i] for i in spread(len(samples), source.limit)]
        labelled = sum(bool(sample.labels) for sample in samples)
        counts = {"files": len(samples), "labelled": labelled, "left_out": left_out}
        with ImageSetWriter(folder, _info(source, entry, hashes, counts)) as writer:
            _fill(writer, source, reader, samples)


def _kept(reader: _Reader, samples: Sequence[Sample]) -> list[Sample]:
    """Leave out images of other kinds than the layout keeps."""
    kept = []
    with Progress("looking at images", len(samples), unit="images") as progress:
        for sample in samples:
            if reader.is_kept(sample):
                kept.append(sample)
            progress.advance()
    if not kept:
        raise PhantomscopeError(
            f"none of {len(samples)} images is kept by `keep: {reader.layout.keep}`",
            where=samples[0].image,
            fix="adapt `layout.keep` of this data set in the registry",
        )
    return kept


def _fill(
    writer: ImageSetWriter, source: Source, reader: _Reader, samples: Sequence[Sample]
) -> None:
    """Read, check and write each image; report all problems at the end."""
    findings = Findings()
    identifiers = safe_ids([sample.stem for sample in samples])
    with Progress("reading images", len(samples), unit="images") as progress:
        for identifier, sample in zip(identifiers, samples, strict=True):
            item = Item(identifier, Path(sample.image), None)
            try:
                _add(writer, source, reader, item, sample, findings)
            except PhantomscopeError as problem:
                findings.note(item, problem)
            progress.advance()
    try:
        _raise_problems(findings, source, len(samples))
    except PhantomscopeError as error:
        raise PhantomscopeError(
            error.what,
            where=error.where or f"the data set {source.dataset}",
            fix=f"{error.fix}; or adapt `layout` of {source.dataset} in the registry",
        ) from error


def _add(
    writer: ImageSetWriter, source: Source, reader: _Reader, item: Item,
    sample: Sample, findings: Findings,
) -> None:  # fmt: skip
    """Write one image, unless a writer that was killed has written it."""
    old = writer.rows.get(item.identifier)
    if old is not None:
        findings.dtypes.setdefault(old["dtype"], item.image.name)
        return
    group = _group_of(source, item)
    image = reader.image(sample)
    findings.dtypes.setdefault(str(image.dtype), item.image.name)
    labels = reader.labels(sample, image.shape)
    columns = {"group": group, "stratum": f"{image.shape[0]}x{image.shape[1]}"}
    if sample.split:
        columns["published_split"] = sample.split
    # After the first problem nothing is written, only checked.
    if not findings.problems:
        writer.add(
            item.identifier, image, labels, pixel_size=source.pixel_size_um, **columns
        )

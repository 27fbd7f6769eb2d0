"""Public data sets: from downloaded archives straight to an image set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
    raise_problems,
)
from phantomscope.acquire.listing import safe_ids
from phantomscope.acquire.samples import Sample, find_samples, select
from phantomscope.config.data import Source
from phantomscope.config.datasets import Dataset, DatasetFile
from phantomscope.config.layout import Layout
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import read_array, read_image, read_labels
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress

T = TypeVar("T")
Array = NDArray[Any]


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


def member_names(archives: Sequence[Archive]) -> dict[str, tuple[Archive, str]]:
    """Return where the files of a data set are: names as layouts have them."""
    several = len(archives) > 1
    return {
        f"{archive.path.name}/{name}" if several else name: (archive, name)
        for archive in archives
        for name, member in archive.members.items()
        if not member.is_folder
    }


class _Reader:
    """Reads images out of archives; `scratch` holds one of their files at a time."""

    def __init__(self, archives: Sequence[Archive], layout: Layout, scratch: Path):
        self.layout, self._scratch = layout, scratch
        self._holder = member_names(archives)
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
        """Read an image, ([Z,] Y, X)."""
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
        """Read or put together the instance labels, ([Z,] Y, X)."""
        if not sample.labels:
            return None
        if self.layout.one_mask_per_object:
            masks = (
                self._decode(name, lambda path: read_mask(path, shape))
                for name in sample.labels
            )
            return number_masks(masks, shape, len(sample.labels))
        if sample.planes:
            labels = self._sparse(sample, shape)
        else:
            labels = self._decode(
                sample.labels[0], lambda path: read_labels(path, shape)
            )
        if self.layout.background:
            labels[labels == self.layout.background] = 0
        return labels

    def _sparse(self, sample: Sample, shape: tuple[int, ...]) -> Array:
        """Put the planes that are annotated into a volume; all others are 0."""
        labels = np.zeros(shape, np.uint16)
        for name, plane in zip(sample.labels, sample.planes, strict=True):
            if plane >= shape[0]:
                raise PhantomscopeError(
                    f"it is the label of plane {plane}, but its volume has planes 0 to "
                    f"{shape[0] - 1}",
                    where=self._holder[name][0].path / name,
                    fix="get the archive from its publisher again, or adapt "
                    "`layout.labels` in the registry",
                )
            found = self._decode(name, lambda path: read_labels(path, shape[1:]))
            labels = labels.astype(np.promote_types(labels.dtype, found.dtype))
            labels[plane] = found
        return labels


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
    names = [source.local_name(file) for file in entry.files]
    by_name = {path.name: path for path in files or map(Path, source.downloaded)}
    missing = [name for name in names if name not in by_name]
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
    return [by_name[name] for name in names]


def checked_downloads(
    source: Source, entry: Dataset, files: Sequence[Path]
) -> tuple[list[Path], dict[str, str]]:
    """Return the downloaded files, in the order of the registry, and their hashes."""
    paths = _paths(source, entry, files)
    hashes = {
        # Of a part, size and hash stand in the record beside it.
        file.name: verify(path)
        if source.in_parts
        else verify(path, size=file.size, sha256=file.sha256)
        for file, path in zip(entry.files, paths, strict=True)
    }
    return paths, hashes


def describe_dataset(
    source: Source, entry: Dataset, hashes: Mapping[str, str], counts: Mapping[str, int]
) -> dict[str, Any]:
    """Everything that shapes the set, and where it comes from."""

    def described(file: DatasetFile) -> dict[str, str]:
        return {"name": file.name, "url": file.url, "sha256": hashes[file.name]}

    shaping = {"group", "limit", "labelled", "truth", "frames", "pixel_size_um"}
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
        Folder of the new set: images ([Z,] Y, X) as in `acquire_folder`. The column
        ``stratum`` holds the size, such as ``512x768``; where they are known,
        ``published_split`` the split that the publisher made, ``frame`` the number in
        a time series, ``truth`` which labels these are, and ``annotated_planes`` the
        planes of a volume whose labels are known: in all others they are 0.

    Raises
    ------
    PhantomscopeError
        If a file is missing, is not the expected one or no good archive; if the layout
        does not fit; and, all listed together, for images and labels that cannot be
        used. Then no set is left.
    """
    entry = entry_of(source)
    paths, hashes = checked_downloads(source, entry, files)
    with _opened(paths, entry.layout) as reader:
        every = find_samples(
            reader.names, entry.layout, paths[0], source.chosen_truth,
            whole=not source.in_parts,
        )  # fmt: skip
        samples = _kept(reader, every)
        left_out = len(every) - len(samples)
        samples = select(samples, source, paths[0])
        labelled = sum(bool(sample.labels) for sample in samples)
        counts = {"files": len(samples), "labelled": labelled, "left_out": left_out}
        info = describe_dataset(source, entry, hashes, counts)
        with ImageSetWriter(folder, info) as writer:
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
        raise_problems(findings, source.path, len(samples))
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
    group = item.identifier
    if source.group or sample.group:
        group = _group_of(source, item) if source.group else sample.series
    image = reader.image(sample)
    findings.dtypes.setdefault(str(image.dtype), item.image.name)
    labels = reader.labels(sample, image.shape)
    # After the first problem nothing is written, only checked.
    if not findings.problems:
        writer.add(
            item.identifier,
            image,
            labels,
            pixel_size=source.voxel_size_um,
            group=group,
            stratum="x".join(map(str, image.shape)),
            **_known(sample, source),
        )


def _known(sample: Sample, source: Source) -> dict[str, Any]:
    """Return the columns about what is known of an image, if it is."""
    known = {
        "published_split": sample.split,
        "frame": sample.frame,
        "truth": source.chosen_truth if sample.labels else "",
        "annotated_planes": " ".join(map(str, sorted(sample.planes))),
    }
    return {name: value for name, value in known.items() if value not in ("", None)}

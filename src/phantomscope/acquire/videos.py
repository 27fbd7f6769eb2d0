"""Videos to image sets, a frame an image: TIFF stacks, and HDF5 of Tierpsy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from phantomscope.acquire.folder import match_labels, spread
from phantomscope.acquire.listing import (
    file_stem,
    index_by_stem,
    natural_key,
    safe_ids,
)
from phantomscope.config.data import Source
from phantomscope.config.frames import Frames
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import read_array, read_labels
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress

HDF5 = (".hdf5", ".h5")
STACKS = (".tif", ".tiff")
Part = Literal["full_data", "mask"]


@dataclass(frozen=True)
class Video:
    """An open video; frames are read one by one where the format allows it.

    Attributes
    ----------
    frames : array-like, shape (T, Y, X)
        An array, or a data set of an open file.
    step : float
        Time between two frames, in `unit`.
    unit : str
        ``s``, or ``frame`` where nobody says how long one is.
    every : int
        How many recorded frames lie between two of these.
    pixel_size : float, optional
        In um.
    """

    frames: Any
    step: float = 1.0
    unit: str = "frame"
    every: int = 1
    pixel_size: float | None = None


def _number(value: Any) -> float | None:
    """Return a positive number that an attribute holds; -1 and NaN mean unknown."""
    try:
        found = float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError):
        return None
    return found if np.isfinite(found) and found > 0 else None


def _attribute(nodes: Sequence[Any], *names: str) -> float | None:
    for name in names:
        for node in nodes:
            if name in node.attrs and (found := _number(node.attrs[name])):
                return found
    return None


@contextmanager
def open_tierpsy(path: Path, part: Part = "full_data") -> Iterator[Video]:
    """Open a masked video of Tierpsy Tracker.

    Parameters
    ----------
    path : Path
        HDF5 with ``/mask``, every frame with the background set to 0, and
        ``/full_data``, one whole frame in ``save_interval``.
    part : {"full_data", "mask"}
        Which of them.

    Raises
    ------
    PhantomscopeError
        If h5py is missing, the file is damaged or has no such frames.
    """
    try:
        import h5py
    except ImportError as error:
        raise PhantomscopeError(
            "videos of Tierpsy need h5py, which is not installed",
            where=path,
            fix="pip install h5py, or export the frames as a TIFF stack",
        ) from error
    with explain_os_errors(path):
        path.stat()
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise PhantomscopeError(
            f"this HDF5 file is damaged or is none ({error})",
            where=path,
            fix="copy or download it again",
        ) from error
    with file:
        frames = file.get(part)
        if not isinstance(frames, h5py.Dataset) or frames.ndim != 3 or not len(frames):
            raise PhantomscopeError(
                f"there are no frames `/{part}` (T, Y, X) in this file; it holds "
                f"{', '.join(list(file)[:8]) or 'nothing'}",
                where=path,
                fix="give a masked video of Tierpsy Tracker, or take the other part",
            )
        nodes = [node for name in (part, "mask", "full_data")
                 if (node := file.get(name)) is not None]  # fmt: skip
        every = 1
        if part == "full_data":
            interval = _attribute(nodes, "save_interval")
            if interval is None:
                raise PhantomscopeError(
                    "`/full_data` does not say its `save_interval`, so the time "
                    "between its frames is unknown",
                    where=path,
                    fix="set this attribute, or take the part `mask`",
                )
            every = round(interval)
        rate = _attribute(nodes, "fps", "expected_fps")
        yield Video(
            frames, every / rate if rate else float(every), "s" if rate else "frame",
            every, _attribute(nodes, "microns_per_pixel"),
        )  # fmt: skip


def _check_stack(shape: tuple[int, ...], path: Path) -> None:
    if len(shape) != 3:
        raise PhantomscopeError(
            f"this file is {shape}, no stack of frames (T, Y, X)",
            where=path,
            fix="export one channel of the video as a stack",
        )


@contextmanager
def open_stack(path: Path, step: float | None = None) -> Iterator[Video]:
    """Open a TIFF stack (T, Y, X); `step` is the time between frames in s, if known."""
    array = read_array(path)
    _check_stack(array.shape, path)
    yield Video(array, step or 1.0, "s" if step else "frame")


def _frame(video: Video, number: int, path: Path) -> NDArray[Any]:
    try:
        frame = np.asarray(video.frames[number])
    except OSError as error:  # h5py decodes when it reads
        raise PhantomscopeError(
            f"frame {number} cannot be read ({error})",
            where=path,
            fix="copy or download this file again",
        ) from error
    if frame.dtype not in (np.uint8, np.uint16):
        frame = frame.astype(np.float32)
        if not np.isfinite(frame).all():
            raise PhantomscopeError(
                f"frame {number} has NaN or infinite values", where=path,
                fix="replace them, or leave this frame out",
            )  # fmt: skip
    return frame


def list_videos(path: Path) -> list[Path]:
    """Return the videos of a folder in natural order; a file is the only one."""
    with explain_os_errors(path):
        if not path.is_dir():
            path.stat()
            return [path]
        found = [
            p for p in path.iterdir()
            if p.suffix.lower() in HDF5 + STACKS and not p.name.startswith(".")
        ]  # fmt: skip
    if not found:
        raise PhantomscopeError(
            "there is no video in this folder",
            where=path,
            fix=f"put files into it that end in {', '.join(HDF5 + STACKS)}",
        )
    return sorted(found, key=natural_key)


def _numbers(video: Video, frames: Frames, path: Path) -> list[int]:
    count = len(video.frames)
    numbers = [number for number in range(count) if number in frames]
    if not numbers:
        raise PhantomscopeError(
            f"this video has {count} frames, none of which is used",
            where=path,
            fix="choose other `source.frames`; they are counted from 0",
        )
    return numbers


def _check_dtype(writer: ImageSetWriter, dtype: Any, path: Path) -> None:
    """Refuse a frame of another type than the first one that was written."""
    first = next(iter(writer.rows.values()), {"dtype": str(dtype), "group": ""})
    if first["dtype"] != str(dtype):
        raise PhantomscopeError(
            f"the videos are of different types: {first['group']} is "
            f"{first['dtype']}, this one {dtype}",
            where=path,
            fix="convert them to one type, so that intensities can be compared",
        )


def _labels_of(paths: Sequence[Path], labels: Path | None) -> dict[Path, Path]:
    """Map each video that is used to its label stack, as far as it has one."""
    root = paths[0].parent
    found = match_labels(str(labels) if labels else None, str(root), list(paths))
    return {p: found[file_stem(p)] for p in paths if file_stem(p) in found}


def shape_of(path: Path, part: Part = "full_data") -> tuple[tuple[int, ...], str]:
    """Return shape (T, Y, X) and dtype of a video; no frame of a stack is decoded."""
    if path.suffix.lower() not in STACKS:
        with open_tierpsy(path, part) as video:
            return tuple(video.frames.shape), str(video.frames.dtype)
    try:
        with explain_os_errors(path), tifffile.TiffFile(path) as file:
            series = file.series[0]
            _check_stack(series.shape, path)
            return tuple(series.shape), str(series.dtype)
    except (ValueError, IndexError) as error:  # tifffile's errors are ValueErrors
        raise PhantomscopeError(
            f"this TIFF file cannot be read ({error})",
            where=path,
            fix="copy or download it again",
        ) from error


def acquire_videos(
    path: Path, folder: Path, *, part: Part = "full_data", step: float | None = None,
    frames: Frames | None = None, limit: int | None = None,
    pixel_size: float | None = None, labels: Path | None = None,
    labelled: bool = False, info: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Make an image set of the frames of videos.

    Parameters
    ----------
    path : Path
        A video, or a folder of them.
    folder : Path
        New set. `group` is the video; further columns: `frame` (counts the frames that
        are used, so that neighbours differ by 1), `recorded` (number in the video),
        `time` and `time_unit` (``s``, or ``frame``).
    part : {"full_data", "mask"}
        Of HDF5 files, see `open_tierpsy`.
    step : float, optional
        Time between frames of stacks, in s.
    frames : Frames, optional
        First, last and every how many-th frame is used; all by default.
    limit : int, optional
        Most videos, evenly spread.
    pixel_size : float, optional
        In um; else as the file says.
    labels : Path, optional
        Folder of TIFF stacks with the names of videos, (T, Y, X): instance labels of
        each frame.
    labelled : bool
        Whether to leave out videos without labels.
    info : Mapping, optional
        Further content of `info.json`.

    Raises
    ------
    PhantomscopeError
        As `open_tierpsy` and `open_stack`, if videos are of different types, none has
        the frames or labels that are asked for, or labels are of another size. Then
        there is no set.
    """
    frames = frames or Frames()
    paths = list_videos(path)
    index_by_stem(paths)
    matches = _labels_of(paths, labels)
    if labelled:
        paths = [p for p in paths if p in matches]
    paths = [paths[i] for i in spread(len(paths), limit)]
    if labels is not None and not any(p in matches for p in paths):
        raise PhantomscopeError(
            f"none of the {len(paths)} videos that `limit` leaves has labels",
            where="source.limit",
            fix="raise `limit`, or set `labelled: true`",
        )
    names = safe_ids([file_stem(p) for p in paths])
    about = {
        "source": "videos", "part": part, "step": step,
        "frames": frames.model_dump(mode="json"), "pixel_size_um": pixel_size,
        "licence": "not stated (images of the user)", "citation": "",
        "files": len(paths), "labelled": sum(p in matches for p in paths),
        "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        **(info or {}),
    }  # fmt: skip
    with (
        ImageSetWriter(folder, about, resume=False) as writer,
        Progress("reading videos", len(paths), unit="videos") as progress,
    ):
        for name, file in zip(names, paths, strict=True):
            is_stack = file.suffix.lower() in STACKS
            opened = open_stack(file, step) if is_stack else open_tierpsy(file, part)
            with opened as video:
                _add_frames(writer, name, file, video, matches.get(file),
                            frames, pixel_size)  # fmt: skip
            progress.advance()


def _add_frames(
    writer: ImageSetWriter, name: str, path: Path, video: Video, labels: Path | None,
    frames: Frames, pixel_size: float | None,
) -> None:  # fmt: skip
    """Write the frames of one video that are used, with their labels."""
    masks = None
    if labels is not None:
        masks = read_labels(labels, tuple(video.frames.shape), "video")
    for count, number in enumerate(_numbers(video, frames, path)):
        frame = _frame(video, number, path)
        _check_dtype(writer, frame.dtype, path)
        writer.add(
            f"{name}-t{number:05d}", frame, None if masks is None else masks[number],
            pixel_size=pixel_size or video.pixel_size, group=name, frame=count,
            recorded=number * video.every, time=round(number * video.step, 6),
            time_unit=video.unit,
        )  # fmt: skip


def acquire_own_videos(source: Source, folder: Path) -> None:
    """Make an image set of ``source: {kind: videos}``, see `acquire_videos`."""
    size = source.pixel_size_um
    acquire_videos(
        Path(source.path or ""), folder, part=source.videos.part,
        step=source.videos.step, frames=source.frames, limit=source.limit,
        pixel_size=None if isinstance(size, tuple) else size,
        labels=Path(source.labels) if source.labels else None,
        labelled=source.labelled, info={"options": source.model_dump(mode="json")},
    )  # fmt: skip

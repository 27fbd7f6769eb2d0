"""Videos to image sets, a frame an image: TIFF stacks, and HDF5 of Tierpsy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.folder import spread
from phantomscope.acquire.listing import file_stem, natural_key, safe_ids
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import read_array
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


@contextmanager
def open_stack(path: Path, step: float | None = None) -> Iterator[Video]:
    """Open a TIFF stack (T, Y, X); `step` is the time between frames in s, if known."""
    array = read_array(path)
    if array.ndim != 3:
        raise PhantomscopeError(
            f"this file is {array.shape}, no stack of frames (T, Y, X)",
            where=path,
            fix="export one channel of the video as a stack",
        )
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


def acquire_videos(
    path: Path, folder: Path, *, part: Part = "full_data", step: float | None = None,
    every: int = 1, limit: int | None = None, pixel_size: float | None = None,
    licence: str = "not stated (images of the user)", citation: str = "",
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
    every : int
        Use one frame in so many.
    limit : int, optional
        Most videos, evenly spread.
    pixel_size : float, optional
        In um; else as the file says.

    Raises
    ------
    PhantomscopeError
        As `open_tierpsy` and `open_stack`. Then there is no set.
    """
    if every < 1:
        raise PhantomscopeError(f"bad `every`: {every}", fix="give 1 or more")
    paths = list_videos(path)
    paths = [paths[i] for i in spread(len(paths), limit)]
    names = safe_ids([file_stem(p) for p in paths])
    info = {
        "source": "videos", "part": part, "step": step, "every": every,
        "pixel_size_um": pixel_size, "files": [p.name for p in paths],
        "licence": licence, "citation": citation,
    }  # fmt: skip
    with (
        ImageSetWriter(folder, info, resume=False) as writer,
        Progress("reading videos", len(paths), unit="videos") as progress,
    ):
        for name, file in zip(names, paths, strict=True):
            is_stack = file.suffix.lower() in STACKS
            opened = open_stack(file, step) if is_stack else open_tierpsy(file, part)
            with opened as video:
                for number in range(0, len(video.frames), every):
                    writer.add(
                        f"{name}-t{number:05d}", _frame(video, number, file),
                        pixel_size=pixel_size or video.pixel_size, group=name,
                        frame=number // every, recorded=number * video.every,
                        time=round(number * video.step, 6), time_unit=video.unit,
                    )  # fmt: skip
            progress.advance()

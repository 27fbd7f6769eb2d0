"""Image files: reading TIFF and PNG, writing OME-TIFF, atomic writes."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import tifffile
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.axes import PixelSize, ome_sizes, to_image

SUFFIXES = (".tif", ".tiff", ".png")
SMALLEST_SIDE = 16
# One of them is in every folder that a stage makes and may replace.
OWN_FILES = ("manifest.csv", "training.json", "simulation.json")

# tifffile logs each damaged tag; the error that follows says it once.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes `path` only when the block succeeds."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a broken one is a `PhantomscopeError`."""
    with explain_os_errors(path):
        text = path.read_bytes()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PhantomscopeError(
            f"this JSON file is broken ({error})",
            where=path,
            fix="delete it and run the same command again",
        ) from error


def check_pages(file: tifffile.TiffFile) -> None:
    """Make sure that all pixels of a TIFF are stored; a `ValueError` says what is not.

    What is not stored would be read as zeros: gigabytes of them if the size in the
    header is damaged.
    """
    seen: set[int] = set()
    for offset in (page.offset for page in file.pages):
        if offset in seen:  # tifffile would follow it for ever
            raise ValueError("its pages run in a circle")
        seen.add(offset)
    for page in file.series[0].pages if file.series else ():
        if page is None:
            continue
        parts = math.prod(page.chunked)
        stored = sum(count > 0 for count in page.databytecounts)
        if stored < parts:
            raise ValueError(f"{parts - stored} of {parts} parts are missing")


def _read_tiff(path: Path) -> NDArray[Any]:
    with tifffile.TiffFile(path) as file, np.errstate(all="ignore"):
        check_pages(file)
        return np.asarray(file.asarray())


def _decode(path: Path) -> NDArray[Any]:
    try:
        if path.suffix.lower() == ".png":
            # By name: other plugins print to the terminal when the first one fails.
            return np.asarray(imageio.imread(path, plugin="pillow"))
        return _read_tiff(path)
    except OSError:
        raise
    except MemoryError as error:
        raise PhantomscopeError(
            f"the image does not fit into memory ({error})",
            where=path,
            fix="its header may be damaged: export it again; else cut it into parts",
        ) from error
    except Exception as error:
        # Decoders raise anything from struct.error to SyntaxError on broken files.
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error


def _unreadable(path: Path, reason: str) -> PhantomscopeError:
    return PhantomscopeError(
        f"cannot be read as an image ({' '.join(reason.split())})",
        where=path,
        fix="the file is damaged or no TIFF/PNG: export or copy it again",
    )


def read_array(path: Path) -> NDArray[Any]:
    """Read a TIFF or PNG file as it is.

    Returns
    -------
    ndarray
        All axes and the dtype of the file.

    Raises
    ------
    PhantomscopeError
        If the file is missing, of another kind, empty, truncated or damaged.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PhantomscopeError(
            f"{path.suffix or 'a file without suffix'} is not a supported image format",
            where=path,
            fix=f"convert it to one of {', '.join(SUFFIXES)}",
        )
    with explain_os_errors(path):
        if path.stat().st_size == 0:
            raise PhantomscopeError(
                "the file is empty", where=path, fix="export or copy it again"
            )
        try:
            array = _decode(path)
        except OSError as error:
            if error.errno is not None:
                raise
            # Pillow reports damaged files as an OSError without a number.
            raise _unreadable(path, str(error)) from error
    if array.size == 0:
        raise PhantomscopeError(
            "the image has no pixels", where=path, fix="export or copy it again"
        )
    return array


def stored_axes(path: Path) -> str:
    """Return the axes that OME or ImageJ wrote into a TIFF, such as ``ZYX``.

    Axes of one entry are left out and samples of a pixel are channels, ``C``. Empty
    where nobody wrote any: other programs say no more than "pages".
    """
    if path.suffix.lower() == ".png":
        return ""
    with explain_os_errors(path):
        try:
            with tifffile.TiffFile(path) as file:
                if not (file.is_ome or file.is_imagej):
                    return ""
                axes = file.series[0].axes.upper().replace("S", "C")
        except Exception as error:  # as in `_decode`
            if isinstance(error, OSError) and error.errno is not None:
                raise
            return ""
    return axes if set(axes) <= set("TCZYX") else ""


def read_image(
    path: Path, axes: str = "YX", channel: int | Sequence[int] | None = None
) -> NDArray[Any]:
    """Read one grey image or volume and make sure that it can be used.

    Parameters
    ----------
    path : Path
        TIFF or PNG file.
    axes : str
        Axes of the file: ``YX``, ``CYX``, ``YXC``, or of a volume ``ZYX``, ``CZYX``,
        ``ZCYX``, ``ZYXC``; an empty string is ``YX``.
    channel : int or sequence of int, optional
        Channel to take when `axes` has a ``C``, or channels.

    Returns
    -------
    ndarray, shape ([Z,] Y, X), or (C, [Z,] Y, X) with a sequence of channels
        uint8, uint16 or float32, as in the file (wider types become float32).

    Raises
    ------
    PhantomscopeError
        For unreadable files, other axes, NaN or infinite values, constant images
        and images under 16 pixels in y or x.
    """
    array = to_image(read_array(path), axes, channel, path)
    if min(array.shape[-2:]) < SMALLEST_SIDE:
        raise PhantomscopeError(
            f"the image is only {array.shape[-2]} x {array.shape[-1]} pixels",
            where=path,
            fix=f"remove it; each side needs at least {SMALLEST_SIDE} pixels",
        )
    if array.dtype == bool or array.dtype.kind not in "uif":
        raise PhantomscopeError(
            f"images of type {array.dtype} are not supported",
            where=path,
            fix="export it as 8 or 16 bit integers or 32 bit float",
        )
    if array.dtype not in (np.uint8, np.uint16):
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise PhantomscopeError(
                f"{count} pixels are NaN or infinite",
                where=path,
                fix="replace them, for example by the median of their neighbours",
            )
    if array.min() == array.max():
        raise PhantomscopeError(
            f"all pixels have the same value ({array.flat[0]})",
            where=path,
            fix="remove this image: nothing can be learnt from it",
        )
    return np.ascontiguousarray(array)


def read_labels(path: Path, shape: tuple[int, ...], of: str = "") -> NDArray[Any]:
    """Read an instance label image: 0 is background, each object one integer.

    Parameters
    ----------
    path : Path
        TIFF or PNG file of integers.
    shape : tuple of int
        Shape ([Z,] Y, X) of the image that it belongs to.
    of : str
        What that is, such as ``video`` for (T, Y, X); else by its shape.

    Returns
    -------
    ndarray, shape ([Z,] Y, X)
        uint16, or uint32 when labels exceed 65535.
    """
    array = read_array(path)
    if array.shape != tuple(shape):
        of = of or ("volume" if len(shape) == 3 else "image")
        first = {"volume": "depth, ", "video": "frames, "}.get(of, "")
        raise PhantomscopeError(
            f"the labels are {array.shape}, the {of.replace('volume', 'image')} is "
            f"{tuple(shape)}",
            where=path,
            fix=f"labels need the {of}'s {first}height and width and no other axis",
        )
    if array.dtype.kind not in "ui":
        raise PhantomscopeError(
            f"labels of type {array.dtype} are not instance labels",
            where=path,
            fix="save integers: 0 for background and one number per object",
        )
    if array.min() < 0:
        raise PhantomscopeError(
            "there are negative labels", where=path, fix="use 0 for background"
        )
    if array.max() > np.iinfo(np.uint32).max:
        raise PhantomscopeError(
            f"the label {array.max()} is too large",
            where=path,
            fix="number the objects from 1",
        )
    return array.astype(np.uint16 if array.max() <= 65535 else np.uint32)


def write_ome_tiff(
    path: Path,
    array: NDArray[Any],
    *,
    axes: str = "YX",
    pixel_size: PixelSize | None = None,
) -> None:
    """Write a lossless OME-TIFF atomically.

    Parameters
    ----------
    path : Path
        Ends with ``.ome.tif``.
    array : ndarray
        uint8, uint16, uint32 or float32.
    axes : str
        Axes of the array.
    pixel_size : float or (z, y, x), optional
        Physical size of a pixel in um; one number is that along all axes.
    """
    metadata = {"axes": axes, **ome_sizes(pixel_size, axes)}
    with atomic_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            array,
            ome=True,
            photometric="minisblack",
            compression="zlib",
            metadata=metadata,
        )


def pixel_hash(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array: its dtype, shape and pixels, not its file."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str}{little.shape}".encode())
    digest.update(little.tobytes())
    return digest.hexdigest()


def check_targets(*paths: Path) -> None:
    """Make sure that these files can be written, before hours are spent on them."""
    for path in paths:
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise PhantomscopeError(
                    "a folder is in the way of this output file",
                    where=path,
                    fix="move it away, or choose another output file",
                )


def check_replaceable(folder: Path) -> None:
    """Make sure that `folder` may be replaced: it is absent, empty or one of ours.

    An output path that names a folder of the user's images must not erase them.
    """
    if not folder.is_dir():
        if folder.exists():
            raise PhantomscopeError(
                "a file is in the way of this output folder",
                where=folder,
                fix="move it away, or choose another output folder",
            )
        return
    ours = any((folder / name).exists() for name in OWN_FILES)
    if not ours and any(folder.iterdir()):
        raise PhantomscopeError(
            "the output folder holds files that are not of this program; nothing was "
            "changed",
            where=folder,
            fix="choose another output folder, or move these files away",
        )


def replace_folder(partial: Path, final: Path) -> None:
    """Put a finished folder under its final name, in place of an older one."""
    with explain_os_errors(final):
        check_replaceable(final)
        if final.exists():
            shutil.rmtree(final)
        os.replace(partial, final)

"""Volumes on disk, read and written by planes: memory does not grow with the depth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.axes import PixelSize, ome_sizes
from phantomscope.images.files import atomic_file, check_pages

Shape = tuple[int, int, int]


class PlaneReader:
    """Reads planes of a volume in a TIFF file, one page per plane.

    Parameters
    ----------
    path : Path
        As `write_volume` writes it.
    shape : tuple of int
        (Z, Y, X) that the file must have.
    channels : int
        Volumes that the file has one after the other; the first is read.

    Attributes
    ----------
    shape : tuple of int
        (Z, Y, X).
    dtype : dtype
        Of the file.

    Raises
    ------
    PhantomscopeError
        If the file is missing, damaged or of another shape.
    """

    def __init__(self, path: Path, shape: Shape, channels: int = 1) -> None:
        self.path, self.shape, self._channels = path, shape, channels
        with explain_os_errors(path):
            try:
                self._file = tifffile.TiffFile(path)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise self._broken(error) from error
            except tifffile.TiffFileError as error:
                raise self._broken(error) from error
        try:
            found = self._look()
            if found != shape:
                raise PhantomscopeError(
                    f"the volume is {found}, the manifest records {shape}",
                    where=path,
                    fix="put it back, or run the stage that makes it again",
                )
        except BaseException:
            self._file.close()
            raise

    def _look(self) -> tuple[int, ...]:
        """Check all pages and return the shape of the volume."""
        try:
            check_pages(self._file)
            first = self._file.pages[0]
            self.dtype = np.dtype(first.dtype)
            depth, rest = divmod(len(self._file.pages), self._channels)
            return (0 if rest else depth, *first.shape)
        except Exception as error:  # decoders raise anything on broken files
            raise self._broken(error) from error

    def __enter__(self) -> Self:
        return self

    def _broken(self, error: Exception) -> PhantomscopeError:
        reason = " ".join(str(error).split())
        return PhantomscopeError(
            f"cannot be read as a volume ({type(error).__name__}: {reason})",
            where=self.path,
            fix="the file is damaged: put it back, or run the stage that makes it "
            "again",
        )

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Return planes first ... stop - 1, shape (stop - first, Y, X)."""
        try:
            planes = [self._file.pages[z].asarray() for z in range(first, stop)]
        except Exception as error:  # decoders raise anything on broken files
            raise self._broken(error) from error
        return np.stack(planes)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for z in range(self.shape[0]):
            yield self.read(z, z + 1)[0]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def write_volume(
    path: Path, planes: Iterable[NDArray[Any]], shape: Shape, dtype: np.dtype[Any], *,
    pixel_size: PixelSize | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write a lossless OME-TIFF atomically, plane by plane.

    Parameters
    ----------
    path : Path
        Ends with ``.ome.tif``.
    planes : iterable of ndarray, shape (Y, X)
        Z of them, of this dtype.
    shape, dtype : tuple of int, dtype
        (Z, Y, X), and uint8, uint16, uint32 or float32.
    pixel_size : float or (z, y, x), optional
        Physical size of a voxel in um; one number is that along all axes.

    Returns
    -------
    dict
        low and high: the range of the values; sha256: as `pixel_hash` gives it.
    """
    little = np.dtype(dtype).newbyteorder("<")
    digest = hashlib.sha256(f"{little.str}{tuple(shape)}".encode())
    limits = [np.inf, -np.inf]

    def noted() -> Iterator[NDArray[Any]]:
        for plane in planes:
            flat = np.ascontiguousarray(plane, dtype=little)
            digest.update(flat.tobytes())
            limits[0] = min(limits[0], float(flat.min()))
            limits[1] = max(limits[1], float(flat.max()))
            yield flat

    metadata = {"axes": "ZYX", **ome_sizes(pixel_size, "ZYX")}
    with atomic_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            noted(),
            shape=tuple(shape),
            dtype=little,
            ome=True,
            photometric="minisblack",
            compression="zlib",
            metadata=metadata,
        )
    return {"low": limits[0], "high": limits[1], "sha256": digest.hexdigest()}

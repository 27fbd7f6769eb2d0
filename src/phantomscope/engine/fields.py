"""Values over an image, read and written by rows: in memory, or in a file.

Rows run along the first axis of space: lines of an image, planes of a volume. The
states of a sampler are such fields, so that a volume of any depth passes through a
memory of fixed size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.errors import explain_os_errors

Float = NDArray[np.float32]
Shape = tuple[int, ...]


class Field(Protocol):
    """Values (C, [Z,] Y, X), float32; rows are those of the first axis of space."""

    channels: int
    shape: Shape

    def read(self, first: int, stop: int) -> Tensor:
        """Return rows first ... stop - 1, shape (C, stop - first, ...)."""

    def write(self, first: int, rows: Tensor) -> None:
        """Write rows from `first` on."""


class MemoryField:
    """A field in the memory of a device.

    Parameters
    ----------
    channels : int
        Channels C.
    shape : tuple of int
        Size in space.
    device : torch.device
        Where its values are.
    """

    def __init__(
        self, channels: int, shape: Sequence[int], device: torch.device
    ) -> None:
        self.channels, self.shape = channels, tuple(shape)
        self.values = torch.empty((channels, *self.shape), device=device)

    def read(self, first: int, stop: int) -> Tensor:
        """Return rows first ... stop - 1, shape (C, stop - first, ...)."""
        return self.values[:, first:stop]

    def write(self, first: int, rows: Tensor) -> None:
        """Write rows from `first` on."""
        self.values[:, first : first + rows.shape[1]] = rows


class RowsField:
    """A field that is asked for its rows: nothing of it is kept, nothing written.

    Parameters
    ----------
    rows : callable
        ``rows(a, b)`` gives rows a ... b - 1, shape (C, b - a, ...), float32.
    channels, shape, device
        As in `MemoryField`.
    """

    def __init__(
        self, rows: Callable[[int, int], Float], channels: int, shape: Sequence[int],
        device: torch.device,
    ) -> None:  # fmt: skip
        self._rows, self.channels, self.shape = rows, channels, tuple(shape)
        self.device = device

    def read(self, first: int, stop: int) -> Tensor:
        """Return rows first ... stop - 1, shape (C, stop - first, ...)."""
        rows = np.ascontiguousarray(self._rows(first, stop), np.float32)
        return torch.from_numpy(rows).to(self.device)

    def write(self, first: int, rows: Tensor) -> None:
        """Refuse."""
        raise TypeError("this field is only read")


class FileField:
    """A field in a file of raw float32 numbers, rows first: (Z, C, Y, X).

    It is read and written by the system's plain calls: mapped memory would count as
    memory of the process.

    Parameters
    ----------
    path : Path
        The file; made with its full size where it is missing.
    channels, shape : int, tuple of int
        As in `MemoryField`.
    device : torch.device
        Where rows are brought to.

    Attributes
    ----------
    fresh : bool
        Whether it was made now, and holds nothing yet.
    """

    def __init__(
        self, path: Path, channels: int, shape: Sequence[int], device: torch.device
    ) -> None:
        self.path, self.channels, self.shape = path, channels, tuple(shape)
        self.device = device
        self._row = 4 * channels * math.prod(self.shape[1:])
        size = self._row * self.shape[0]
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.fresh = not path.exists() or path.stat().st_size != size
            if self.fresh:
                with path.open("wb") as stream:
                    stream.truncate(size)

    def read(self, first: int, stop: int) -> Tensor:
        """Return rows first ... stop - 1, shape (C, stop - first, ...)."""
        rows = np.empty((stop - first, self.channels, *self.shape[1:]), np.float32)
        with explain_os_errors(self.path), self.path.open("rb", buffering=0) as stream:
            stream.seek(first * self._row)
            left = rows.reshape(-1).view(np.uint8).data
            while left:
                count = stream.readinto(left)
                if not count:
                    raise OSError(f"{self.path} ends too early")
                left = left[count:]
        return torch.from_numpy(rows).to(self.device).movedim(0, 1)

    def write(self, first: int, rows: Tensor) -> None:
        """Write rows from `first` on."""
        values = rows.movedim(1, 0).to("cpu", torch.float32).contiguous().numpy()
        with explain_os_errors(self.path):
            with self.path.open("r+b", buffering=0) as stream:
                stream.seek(first * self._row)
                left = values.reshape(-1).view(np.uint8).data
                while left:
                    left = left[stream.write(left) :]

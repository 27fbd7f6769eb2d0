"""The noise of an image: streams of the noise field, as tensors on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from phantomscope.images.noise import NoiseField
from phantomscope.images.tiles import Tile


@dataclass(frozen=True)
class Streams:
    """Gives the noise of blocks of an image.

    Attributes
    ----------
    seed : int
        Of the noise field.
    channels : int
        Of the image; each has a stream of its own.
    device : torch.device
        Where the noise is needed.
    of_tiles : bool
        Whether tiles that overlap have different noise there, as in the released code
        of Eschweiler & Stegmaier.
    """

    seed: int
    channels: int
    device: torch.device
    of_tiles: bool = False

    def block(
        self, identifier: str, stream: str, origin: Sequence[int],
        shape: Sequence[int], step: int,
    ) -> Tensor:  # fmt: skip
        """Return noise (C, ...) of a block: standard normal, float32."""
        blocks = [
            NoiseField(self.seed, identifier, f"{stream}/{c}" if c else stream).block(
                tuple(origin), tuple(shape), step
            )
            for c in range(self.channels)
        ]
        return torch.from_numpy(np.stack(blocks)).to(self.device)

    def tiles(
        self, identifier: str, stream: str, tiles: Sequence[Tile],
        side: Sequence[int], step: int, *, channels: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Return noise (N, C, ...) of tiles of one size, each perhaps with its own."""
        known = self if channels is None else replace(self, channels=channels)
        blocks = []
        for tile in tiles:
            place = "@" + ",".join(map(str, tile.origin)) if self.of_tiles else ""
            blocks.append(
                known.block(identifier, stream + place, tile.origin, side, step)
            )
        return torch.stack(blocks)

    def rows(
        self, identifier: str, stream: str, size: Sequence[int], first: int, stop: int,
        step: int,
    ) -> Tensor:  # fmt: skip
        """Return noise (C, stop - first, ...) of rows of an image of this size."""
        origin = (first, *(0 for _ in size[1:]))
        return self.block(identifier, stream, origin, (stop - first, *size[1:]), step)

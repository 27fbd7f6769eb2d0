"""The noise field: random numbers as a pure function of place.

Every normal number is a function of (seed, image id, stream, step, global voxel
coordinate), through the counter-based generator Philox4x32-10 (Salmon et al., SC 2011).
So noise is the same for any tile size, batch, shard or order, and overlapping tiles
agree where they overlap.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def derive_key(*parts: object) -> int:
    """Hash names and numbers to a 64-bit key; different parts never collide in text."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(
        hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"
    )


def generator(*parts: object) -> np.random.Generator:
    """Return numpy's Philox generator keyed by names and numbers."""
    return np.random.Generator(np.random.Philox(key=derive_key(*parts)))


@dataclass(frozen=True)
class NoiseField:
    """The noise of one image.

    Parameters
    ----------
    seed : int
        Seed of the experiment.
    image : str
        Image id.
    stream : str
        What the noise is for (``start``, ``step``, ``channel``): independent fields.
    """

    seed: int
    image: str
    stream: str = ""

    def block(
        self, origin: tuple[int, ...], shape: tuple[int, ...], step: int = 0
    ) -> NDArray[np.float32]:
        """Return standard normal noise of a block, 2D (Y, X) or 3D (Z, Y, X).

        Parameters
        ----------
        origin : tuple of int
            Global coordinates of the first voxel; may be negative.
        shape : tuple of int
            Size of the block.
        step : int
            Step of the sampler.
        """
        from phantomscope.images.philox import fill

        padded = (1,) * (3 - len(shape)) + tuple(shape)
        z0, y0, x0 = (0,) * (3 - len(origin)) + tuple(origin)
        out = np.empty(padded, np.float32)
        key = np.uint64(derive_key(self.seed, self.image, self.stream))
        fill(out, z0, y0, x0, step, key)
        return out.reshape(shape)

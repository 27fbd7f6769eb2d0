"""Training patches: which pixels a step sees is a pure function of (seed, step)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation
from phantomscope.images.tiles import reflect_index

Float = NDArray[np.float32]


def dihedral(image: NDArray[np.generic], element: int) -> NDArray[np.generic]:
    """Apply one of the eight symmetries of the square to the last two axes.

    Parameters
    ----------
    image : ndarray, shape (..., Y, X)
        Image; Y = X, unless the element keeps the axes.
    element : int
        0 to 7: quarter turns (`element` % 4) after a flip (`element` >= 4).
    """
    if element >= 4:
        image = image[..., ::-1]
    return np.rot90(image, element % 4, axes=(-2, -1))


class PatchSource:
    """Random patches of the training images or volumes, in the network's range.

    Volumes are turned and flipped in their planes only: depth is no direction like the
    others, since resolution and light change along it.

    Parameters
    ----------
    images : ImageSet
        Training images; their masks are never read.
    normalisation : Normalisation, optional
        Fitted on them; of no use beside `read`.
    patch : sequence of int
        Size of a patch in px, ([Z,] Y, X), with Y = X. Smaller images are reflected at
        their edges.
    seed : int
        Seed of the experiment.
    augment : bool
        Apply symmetries of the square.
    symmetries : {"all", "flip"}
        All eight of them, or a flip along x only.
    memory : int
        Bytes of normalised images to keep.
    condition : callable, optional
        ``condition(identifier)`` gives what the network sees beside an image, shape
        (C', [Z,] Y, X): network values. It is cut and turned as the image is.
    read : callable, optional
        ``read(identifier)`` gives network values of an image with its condition, shape
        (C, [Z,] Y, X), in place of all this.
    """

    def __init__(
        self,
        images: ImageSet,
        normalisation: Normalisation | None,
        patch: Sequence[int],
        seed: int,
        *,
        augment: bool = True,
        symmetries: Literal["all", "flip"] = "all",
        memory: int = 2 << 30,
        condition: Callable[[str], Float] | None = None,
        read: Callable[[str], Float] | None = None,
    ) -> None:
        self.images = images.without_masks()
        if normalisation is None and read is None:
            raise ValueError("patches need a normalisation, or a way to read images")
        self.normalisation, self._read = normalisation, read
        self.patch, self.seed = tuple(patch), seed
        # Multiples of this of the eight are taken, the others are those next below.
        self._every = 8 if not augment else 4 if symmetries == "flip" else 1
        self._condition = condition
        self._ids = self.images.ids
        self._memory, self._cache = memory, dict[str, Float]()
        self._shapes = [self.images.shape(i) for i in self._ids]
        sizes = [float(math.prod(shape)) for shape in self._shapes]
        # Each pixel has the same chance, whatever the size of its image.
        self._chance = np.asarray(sizes) / np.sum(sizes)

    def _image(self, identifier: str) -> Float:
        """Return an image and what the network sees beside it, (C, [Z,] Y, X)."""
        if identifier in self._cache:
            return self._cache[identifier]
        if self._read:
            image = self._read(identifier)
        elif self.normalisation:
            raw = self.images.channels(identifier)
            image = self.normalisation.forward_channels(raw, identifier)
            if self._condition:
                image = np.concatenate([image, self._condition(identifier)])
        if image.nbytes <= self._memory:
            self._memory -= image.nbytes
            self._cache[identifier] = image
        return image

    def _crop(self, which: int, index: Sequence[NDArray[np.intp]]) -> Float:
        """Cut a patch; of volumes that are not kept, only its planes are read."""
        identifier, shape = self._ids[which], self._shapes[which]
        scale = self.normalisation
        fits = identifier in self._cache or 4 * math.prod(shape) <= self._memory
        if (
            fits
            or scale is None
            or len(shape) == 2
            or self._condition
            or scale.channels > 1
        ):
            image = self._image(identifier)
        else:
            first = int(index[0].min())
            with self.images.planes(identifier) as planes:
                raw = planes.read(first, int(index[0].max()) + 1)
            image = scale.forward(raw, identifier)[None]
            index = [index[0] - first, *index[1:]]
        return image[np.ix_(np.arange(len(image)), *index)]

    def batch(self, step: int, size: int) -> Float:
        """Return the patches of one optimiser step.

        Returns
        -------
        ndarray, shape (size, C, *patch)
            float32; the image, then its condition.
        """
        rng = generator(self.seed, "patches", step)
        chosen = rng.choice(len(self._ids), size, p=self._chance)
        places = rng.random((size, len(self.patch)))
        elements = rng.integers(8, size=size)
        out = []
        for which, place, element in zip(chosen, places, elements, strict=True):
            index = []
            sides = zip(self._shapes[which], self.patch, place, strict=True)
            for length, side, fraction in sides:
                start = int(fraction * (max(length - side, 0) + 1))
                index.append(reflect_index(start, start + side, length))
            crop = self._crop(which, index)
            out.append(dihedral(crop, int(element) // self._every * self._every))
        return np.stack(out)

"""Crops and backgrounds of any sizes in arrays that compiled code can read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.layers import Compose
from phantomscope.errors import PhantomscopeError

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Packed:
    """Arrays of any sizes, one after the other.

    Attributes
    ----------
    values : ndarray, shape (pixels,)
        float32 intensities; NaN are holes of backgrounds.
    cover : ndarray, shape (pixels,)
        float32 opacity of crops, 0 to 1; of backgrounds empty.
    starts, sizes : ndarray, shape (n,), (n, 2)
        First pixel, and (height, width), of each.
    bases : ndarray, shape (n, 2)
        float64, least and greatest base of each crop; of backgrounds empty.
    """

    values: Float
    cover: Float
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    bases: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def identity(self) -> str:
        """SHA-256 of all that is in it."""
        digest = hashlib.sha256()
        for array in (self.values, self.cover, self.sizes, self.bases):
            digest.update(array.tobytes())
        return digest.hexdigest()


def _pack(
    arrays: Sequence[Float], covers: Sequence[Float], bases: Sequence[Sequence[float]]
) -> Packed:
    sizes = np.array([a.shape for a in arrays], np.int64).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(sizes.prod(1))[:-1]]).astype(np.int64)
    joined = [
        np.concatenate([np.ravel(a) for a in part]).astype(np.float32)
        if part else np.empty(0, np.float32)
        for part in (arrays, covers)
    ]  # fmt: skip
    ends = np.array(bases, np.float64).reshape(-1, 2)
    return Packed(joined[0], joined[1], starts[: len(sizes)], sizes, ends)


def pack_crops(crops: Iterable[tuple[NDArray[Any], Mask]], options: Compose) -> Packed:
    """Get crops ready to be placed.

    Parameters
    ----------
    crops : iterable of (image, mask)
        Intensities in the units of `options.limits`, and which pixels are the object,
        both of shape (Y, X). What is around it is used by soft edges and, for
        `multiply`, to find full light.
    options : Compose
        Mode, percentiles of the base, and width of the edge (px).

    Raises
    ------
    PhantomscopeError
        If a crop has no object, intensities that are no numbers, or for `multiply` no
        light.
    """
    images, covers, bases = [], [], []
    for number, (image, mask) in enumerate(crops):
        mask = np.asarray(mask, bool)
        if image.shape != mask.shape or not mask.any() or not np.isfinite(image).all():
            raise PhantomscopeError(
                f"crop {number} has no object, or intensities that are no numbers",
                fix="drop this crop, or give image and mask of one shape",
            )
        inside = image if options.mode == "multiply" else image[mask]
        base = np.percentile(inside, options.base)
        if options.mode == "multiply" and base[0] <= 0:
            raise PhantomscopeError(
                f"crop {number} has no light at percentile {options.base[0]:g}, so "
                "nothing can be absorbed",
                fix="take higher percentiles, such as those of the bright surroundings",
                example="base: [90, 100]",
            )
        cover = mask.astype(np.float32)
        if options.edge > 0:
            # Distance to the outline: it runs half a pixel from the nearest centres.
            far = [ndimage.distance_transform_edt(np.pad(m, 1))[1:-1, 1:-1] - 0.5
                   for m in (mask, ~mask)]  # fmt: skip
            # Where the object fills its crop, nothing is beyond it.
            signed = np.where(mask, far[0], -far[1])
            cover = np.clip(0.5 + signed / options.edge, 0, 1).astype(np.float32)
        images.append(np.asarray(image, np.float32))
        covers.append(cover)
        bases.append([float(b) for b in base])
    return _pack(images, covers, bases)


def pack_backgrounds(
    images: Iterable[tuple[NDArray[Any], Mask | None]],
) -> Packed:
    """Get backgrounds ready to be used.

    Parameters
    ----------
    images : iterable of (image, holes)
        Intensities in the units of `Compose.limits`, and where objects were, shape
        (Y, X); None: nowhere.

    Raises
    ------
    PhantomscopeError
        If nothing is left of an image.
    """
    arrays = []
    for number, (image, holes) in enumerate(images):
        known = np.asarray(image, np.float32).copy()
        if holes is not None:
            known[np.asarray(holes, bool)] = np.nan
        if np.isnan(known).all():
            raise PhantomscopeError(
                f"background {number} is one hole", fix="leave this image out"
            )
        arrays.append(known)
    return _pack(arrays, [], [])

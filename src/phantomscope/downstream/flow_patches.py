"""Patches of volumes with their flows: what a step sees is a function of its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.downstream.common import Array, jitter
from phantomscope.downstream.examples import Example
from phantomscope.downstream.flows import (
    diffusion_flows,
    tanh_flows,
    turned_flows,
)
from phantomscope.engine.patches import dihedral
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.tiles import reflect_index

Float = NDArray[np.float32]
PERCENTILES = (1.0, 99.0)
# Diffusion flows are kept as whole numbers: in 127ths.
STEPS = 127


def unit_limits(image: Array) -> tuple[float, float]:
    """Return the intensities that become 0 and 1: the 1st and 99th percentile."""
    # Of large volumes a part tells them as well.
    flat = image.ravel()[:: max(1, image.size // 10**7)]
    low, high = (float(value) for value in np.percentile(flat, PERCENTILES))
    if not high > low:
        low, high = float(flat.min()), float(flat.max())
    return low, high if high > low else low + 1.0


def to_unit(image: Array, limits: tuple[float, float]) -> Float:
    """Scale intensities so that the limits become 0 and 1; nothing is clipped."""
    low, high = limits
    unit: Float = ((image.astype(np.float32) - low) / (high - low)).astype(np.float32)
    return unit


class _Source:
    """One example: kept in memory, or read by the planes of each patch."""

    def __init__(self, example: Example, flows: str, keep: bool) -> None:
        self.example, self.flows = example, flows
        whole = example.images.image(example.identifier)
        # Of the whole image, as in prediction, even if only a part is annotated.
        self.limits = unit_limits(whole)
        self.table = example.objects
        self.kept: list[Array] | None = None
        if keep or flows == "diffusion":
            # A copy: a part must not hold the whole image in memory.
            image = whole if example.box is None else whole[example.box].copy()
            self.kept = [image, np.ascontiguousarray(example.labels())]
        if flows == "diffusion":
            found = diffusion_flows(self.kept[1])  # type: ignore[index]
            self.kept += [np.rint(STEPS * found).astype(np.int8)]  # type: ignore

    def cut(self, index: Sequence[NDArray[np.intp]]) -> tuple[Float, Array, Float]:
        """Return a part: intensities, labels and flows; `index` per axis."""
        block = np.ix_(*index)
        if self.kept is None:
            image, labels, block = self._read(index)
        else:
            image, labels = self.kept[0], self.kept[1]
        labels = labels[block]
        unit = to_unit(image[block], self.limits)
        if self.flows == "diffusion":
            kept = self.kept[2]  # type: ignore[index]
            flows = kept[np.ix_(np.arange(len(kept)), *index)] / STEPS
        else:
            flows = tanh_flows(labels, self.table, index)
        return unit, labels, self._mirrored(flows, index)

    def _read(
        self, index: Sequence[NDArray[np.intp]]
    ) -> tuple[Array, Array, tuple[NDArray[Any], ...]]:
        """Read the planes that a part needs."""
        first, last = int(index[0].min()), int(index[0].max())
        box = self.example.box or tuple(slice(0, n) for n in self.example.shape)
        begin = box[0].start
        parts = []
        for column in ("image", "mask"):
            images: ImageSet = self.example.images
            with images.planes(self.example.identifier, column) as planes:
                read = planes.read(begin + first, begin + last + 1)
            parts.append(read[:, *box[1:]])
        return parts[0], parts[1], np.ix_(index[0] - first, *index[1:])

    @staticmethod
    def _mirrored(flows: Array, index: Sequence[NDArray[np.intp]]) -> Float:
        """Turn the flows around where the index runs backwards: beyond an edge."""
        flows = np.array(flows, np.float32)
        for axis, places in enumerate(index):
            if len(places) < 2:
                continue
            back = np.gradient(places.astype(float)) < 0
            shape = [1] * (flows.ndim - 1)
            shape[axis] = len(places)
            flows[axis] *= np.where(back, -1, 1).reshape(shape)
        return flows


class FlowPatches:
    """Random patches of annotated volumes: image, foreground and flows.

    Parameters
    ----------
    examples : sequence of Example
        Annotated volumes or parts of them.
    patch : sequence of int
        Size of a patch, ([Z,] Y, X), with Y = X. Smaller volumes are reflected.
    seed : int
        Of places, orientations and intensities.
    chance : ndarray, shape (n,)
        How often each example is seen, as shares of 1.
    flows : {"tanh", "diffusion"}
        See `tanh_flows` and `diffusion_flows`.
    on_objects : float
        Share of the patches that are placed on an object.
    augment : bool
        Turn and flip in the planes, and change intensities.
    memory : int
        Bytes of images and labels to keep; others are read by planes.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        patch: Sequence[int],
        seed: int,
        *,
        chance: NDArray[np.float64],
        flows: str = "tanh",
        on_objects: float = 0.0,
        augment: bool = True,
        memory: int = 4 << 30,
    ) -> None:
        self.examples, self.patch, self.seed = list(examples), tuple(patch), seed
        self.chance, self.flows = chance, flows
        self.on_objects, self.augment = on_objects, augment
        self._memory, self._sources = memory, dict[int, _Source]()

    def _source(self, which: int) -> _Source:
        if which not in self._sources:
            example = self.examples[which]
            # As float32 at most, and labels as uint32 at most.
            need = 8 * example.pixels
            keep = need <= self._memory
            self._memory -= need if keep else 0
            self._sources[which] = _Source(example, self.flows, keep)
        return self._sources[which]

    def _start(self, source: _Source, rng: np.random.Generator) -> list[int]:
        """Choose where a patch begins."""
        shape = source.example.shape
        room = [max(n - side, 0) for n, side in zip(shape, self.patch, strict=True)]
        fractions, shifts = rng.random(len(shape)), rng.random(len(shape))
        on_object = rng.random() < self.on_objects
        number = rng.random()
        if not on_object or not len(source.table.numbers):
            return [int(f * (r + 1)) for f, r in zip(fractions, room, strict=True)]
        centre = source.table.centres[int(number * len(source.table.numbers))]
        starts = np.rint(centre - shifts * np.array(self.patch)).astype(int)
        return [int(np.clip(s, 0, r)) for s, r in zip(starts, room, strict=True)]

    def _patch(self, which: int, rng: np.random.Generator) -> Float:
        source = self._source(which)
        index = [
            reflect_index(start, start + side, length)
            for start, side, length in zip(
                self._start(source, rng), self.patch, source.example.shape, strict=True
            )
        ]
        unit, labels, flows = source.cut(index)
        foreground = (labels > 0).astype(np.float32)
        element = int(rng.integers(8)) if self.augment else 0
        if self.augment:
            unit = jitter(unit, rng)
        return np.concatenate([
            dihedral(unit, element)[None],
            dihedral(foreground, element)[None],
            turned_flows(flows, element),
        ]).astype(np.float32)  # fmt: skip

    def batch(self, step: int, size: int) -> Float:
        """Return the patches of one optimiser step.

        Returns
        -------
        ndarray, shape (size, 2 + dims, *patch)
            float32; the image, about 0 to 1; the foreground, 0 or 1; the flows.
        """
        rng = generator(self.seed, "flow patches", step)
        chosen = rng.choice(len(self.examples), size, p=self.chance)
        return np.stack([self._patch(int(which), rng) for which in chosen])

"""What a tool is trained on: annotated images, whole or in part, of several sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.downstream.common import Array
from phantomscope.downstream.flows import ObjectTable
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Example:
    """An annotated image of a set, or a part of it.

    Attributes
    ----------
    images : ImageSet
        The set.
    identifier : str
        Id of the image.
    kind : str
        What it is: ``synthetic``, ``annotated`` or ``sketch``.
    box : tuple of slice, optional
        The part that counts as annotated; the whole image without one.
    planes : tuple of int, optional
        The planes of a volume that are annotated; all without it.
    """

    images: ImageSet
    identifier: str
    kind: str
    box: Box | None = None
    planes: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the part."""
        if self.box is None:
            return self.images.shape(self.identifier)
        return tuple(side.stop - side.start for side in self.box)

    @property
    def pixels(self) -> int:
        """Number of pixels of the part."""
        return int(np.prod(self.shape, dtype=np.int64))

    def image(self) -> Array:
        """Read the image, as stored."""
        return self._part(self.images.image(self.identifier))

    def labels(self) -> Array:
        """Read the labels; objects that the part cuts are there as far as it goes."""
        return self._part(self.images.mask(self.identifier))

    def _part(self, array: Array) -> Array:
        return array if self.box is None else array[self.box]

    @cached_property
    def objects(self) -> ObjectTable:
        """Where the objects of the part are; reads the labels once."""
        return ObjectTable.of(self.labels())

    def record(self) -> dict[str, Any]:
        """Return what was used, for `training.json`."""
        sides = self.box and [[side.start, side.stop] for side in self.box]
        return {"id": self.identifier, "box": sides}


def annotated_planes(row: Mapping[str, Any]) -> list[int] | None:
    """Return the planes of a volume whose labels are known; None for all.

    A manifest may name them in `annotated_planes`, such as ``5 9 12``.
    """
    cell = row.get("annotated_planes", "")
    # A column with single planes only is read as numbers, an empty cell as NaN.
    text = "" if pd.isna(cell) else str(cell)
    return [int(float(part)) for part in text.split()] or None


def whole_images(images: ImageSet, kind: str, *, sparse: bool = False) -> list[Example]:
    """Return every image of a set that has labels.

    Volumes of which single planes are annotated are left out with a line that says so,
    unless `sparse`.
    """
    found = []
    for identifier in images.ids:
        if images.has_mask(identifier):
            planes = annotated_planes(images.row(identifier))
            known = None if planes is None else tuple(planes)
            found.append(Example(images, identifier, kind, planes=known))
    whole = [example for example in found if example.planes is None]
    if sparse or len(whole) == len(found):
        return found
    print(
        f"{len(found) - len(whole)} of {len(found)} volumes are annotated in single "
        "planes only: nothing is trained on them."
    )
    return whole


def annotated_share(
    images: ImageSet, percent: float, seed: int, *, sparse: bool = False
) -> list[Example]:
    """Return a part of the annotation: so many percent of the annotated objects.

    Images are taken in an order that depends on the seed, whole as long as their
    objects are not too many. What is left of the share is a box of the next image: it
    grows around one of its objects, with the proportions of the image, until it holds
    the centres of enough of them. So a smaller share is a part of a larger one, as
    when somebody goes on annotating.

    Parameters
    ----------
    images : ImageSet
        Annotated images.
    percent : float
        Over 0, up to 100.
    seed : int
        Chooses the order and the object.
    sparse : bool
        As in `whole_images`.

    Raises
    ------
    PhantomscopeError
        If there is no labelled object.
    """
    examples = whole_images(images, "annotated", sparse=sparse)
    if percent >= 100:
        return examples
    counts = [len(example.objects.numbers) for example in examples]
    if not sum(counts):
        raise PhantomscopeError(
            f"none of the {len(images)} training images has a labelled object",
            where=images.folder / "manifest.csv",
            fix="give `source.labels`, or leave out arms that need annotation",
        )
    left = max(1, round(percent / 100 * sum(counts)))
    order = generator(seed, "annotated share").permutation(len(examples))
    chosen = []
    for k in (int(k) for k in order):
        if not left:
            break
        if not counts[k]:
            continue
        if counts[k] <= left:
            chosen.append(examples[k])
            left -= counts[k]
        else:
            chosen.append(_part(examples[k], left, seed))
            left = 0
    return chosen


def _part(example: Example, count: int, seed: int) -> Example:
    """Return the box around one object that holds the centres of `count` objects."""
    centres, shape = example.objects.centres, np.array(example.shape)
    rng = generator(seed, "annotated part", example.identifier)
    middle = centres[int(rng.integers(len(centres)))]
    # The size at which each centre comes in, as a part of the image's.
    reach = (2 * np.abs(centres - middle) / shape).max(axis=1)
    half = np.sort(reach)[count - 1] * shape / 2
    # One object alone comes whole, with a rim of its surroundings.
    own = int(np.argmin(reach))
    sides = np.maximum(
        middle - example.objects.first[own], example.objects.stop[own] - middle
    )
    half = np.maximum(half, 1.25 * sides)
    first = np.floor(middle - half).astype(int)
    stop = np.ceil(middle + half).astype(int) + 1
    first, stop = np.maximum(first, 0), np.minimum(stop, shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    return Example(example.images, example.identifier, example.kind, box)


def within_memory(examples: Sequence[Example], megavoxels: int) -> list[Example]:
    """Return as many examples as memory may hold, evenly spread over each kind.

    Few annotated images must not get lost among many others: they are thinned out only
    if they take more than half of the memory, or are alone.
    """
    budget = megavoxels * 10**6
    real = [example for example in examples if example.kind == "annotated"]
    others = [example for example in examples if example.kind != "annotated"]
    real = _thinned(real, budget // 2 if others else budget)
    return [
        *_thinned(others, budget - sum(example.pixels for example in real)),
        *real,
    ]


def _thinned(examples: list[Example], pixels: int) -> list[Example]:
    """Keep every n-th example, so that they have so many pixels or fewer."""
    total = sum(example.pixels for example in examples)
    return examples if total <= pixels else examples[:: -(-total // pixels)]


def chances(examples: Sequence[Example], sampling: str) -> NDArray[np.float64]:
    """Return how often each example shall be seen, as shares of 1.

    Parameters
    ----------
    examples : sequence of Example
        Training images.
    sampling : {"mixture", "balanced"}
        All alike; or half of it for the annotated ones, where there are others.
    """
    real = np.array([example.kind == "annotated" for example in examples])
    chance = np.full(len(examples), 1 / len(examples))
    if sampling == "balanced" and real.any() and not real.all():
        chance[real], chance[~real] = 0.5 / real.sum(), 0.5 / (~real).sum()
    return chance

"""Boxes to learn from, and boxes that were found: all that needs no torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.detectors import Detectors, FasterRcnn
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES, read_annotations
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.measure.detection import box_iou, check_boxes

Floats = NDArray[np.float64]
Kinds = NDArray[np.int64]
CORNERS = ["y1", "x1", "y2", "x2"]
# Of a box that the border of a crop cuts, at least this share has to be left: less
# hardly shows an object, but to leave out more would teach that halves are background.
LEAST_SEEN = 0.25


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image.

    Attributes
    ----------
    corners : ndarray, shape (n, 4)
        (y1, x1, y2, x2), px, the second corner excluded.
    kinds : ndarray, shape (n,)
        Number of the class: 1 is the target, others follow.
    scores : ndarray, shape (n,)
        Of boxes that were found, 0 to 1; else 1.
    """

    corners: Floats
    kinds: Kinds
    scores: Floats

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, which: Any) -> Boxes:
        return Boxes(self.corners[which], self.kinds[which], self.scores[which])

    @classmethod
    def of(cls, corners: Any, kinds: Any, scores: Any = None) -> Boxes:
        """Return such boxes; without scores they are sure."""
        made = np.asarray(corners, np.float64).reshape(-1, 4)
        sure = np.ones(len(made)) if scores is None else np.asarray(scores, np.float64)
        return cls(made, np.asarray(kinds, np.int64).reshape(-1), sure)

    def within(self, shape: tuple[int, ...]) -> Boxes:
        """Return the parts within an image of this shape; some may have no area."""
        corners = np.clip(self.corners, 0, [*shape, *shape])
        return Boxes(corners, self.kinds, self.scores)

    @property
    def areas(self) -> Floats:
        """Areas, px."""
        found: Floats = (self.corners[:, 2:] - self.corners[:, :2]).prod(1)
        return found


def read_boxes(images: ImageSet, target: str) -> tuple[dict[str, Boxes], list[str]]:
    """Read the boxes beside a set.

    Parameters
    ----------
    images : ImageSet
        With `boxes.csv` beside the manifest.
    target : str
        The class to find; a box without a type shows it, too.

    Returns
    -------
    dict of Boxes
        By image id, cut to their image; images without any are there, too.
    list of str
        Classes, the target first.

    Raises
    ------
    PhantomscopeError
        If there is no table, no box of the target, a box has no area or lies outside.
    """
    table, where = read_annotations(images, BOXES), images.folder / BOXES
    kinds = table["type"].replace("", target)
    classes = [target, *sorted(set(kinds) - {target})]
    if target not in set(kinds):
        there = ", ".join(classes[1:]) or "no box at all"
        raise PhantomscopeError(
            f"no box of {len(images)} images shows the class {target!r}",
            where=where,
            fix=f"name a class of the column `type` in `filter.targets`: {there}",
        )
    numbers = kinds.map({name: n for n, name in enumerate(classes, 1)})
    found = {}
    for name in images.ids:
        own = (table["id"] == name).to_numpy()
        given = f"boxes of the image {name!r}"
        corners = check_boxes(table.loc[own, CORNERS].to_numpy(float), given)
        boxes = Boxes.of(corners, numbers[own]).within(images.shape(name))
        outside = (boxes.corners[:, 2:] <= boxes.corners[:, :2]).any(1)
        if outside.any():
            raise PhantomscopeError(
                f"the box {corners[outside][0].tolist()} is outside the image {name!r} "
                f"of {' x '.join(map(str, images.shape(name)))} px",
                where=where,
                fix="give px counted from 0, y downwards",
            )
        found[name] = boxes
    return found, classes


def augmented(
    image: NDArray[np.float32], boxes: Boxes, options: FasterRcnn,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], Boxes]:  # fmt: skip
    """Return a random crop of an image, mirrored by chance, and the boxes in it.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        An image smaller than the crop stays whole.
    boxes : Boxes
        Cut ones stay if a quarter of them is left.
    options : FasterRcnn
        `crop` and `flip`.
    rng : Generator
        Gives four numbers, whatever the options are.
    """
    draws = rng.random(4)
    sides = [min(options.crop or n, n) for n in image.shape]
    first = [
        int(d * (n - s + 1))
        for d, n, s in zip(draws[:2], image.shape, sides, strict=True)
    ]
    part = image[first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]]
    moved = Boxes(boxes.corners - [*first, *first], boxes.kinds, boxes.scores)
    seen = moved.within(part.shape)
    seen = seen[seen.areas >= LEAST_SEEN * moved.areas]
    corners = seen.corners.copy()
    for axis in (0, 1):
        if options.flip and draws[2 + axis] < 0.5:
            part = np.flip(part, axis)
            low, high = corners[:, axis].copy(), corners[:, axis + 2].copy()
            corners[:, axis] = sides[axis] - high
            corners[:, axis + 2] = sides[axis] - low
    return np.ascontiguousarray(part), Boxes(corners, seen.kinds, seen.scores)


@dataclass(frozen=True)
class Schedule:
    """Which images each step sees, and how fast it learns: functions of the step alone.

    Attributes
    ----------
    images : int
        Number of training images; each is seen once in an epoch.
    options : FasterRcnn
        Epochs, batch, learning rate and its fall.
    seed : int
        Of the order.
    """

    images: int
    options: FasterRcnn
    seed: int

    @property
    def steps(self) -> int:
        """Number of steps; the last one may begin another epoch to be full."""
        return -(-self.options.epochs * self.images // self.options.batch_size)

    def batch(self, step: int) -> list[int]:
        """Return the numbers of the images of a step."""
        first = step * self.options.batch_size
        return [self._image(first + k) for k in range(self.options.batch_size)]

    def _image(self, place: int) -> int:
        epoch, number = divmod(place, self.images)
        order = generator(self.seed, "detector", "order", epoch).permutation(
            self.images
        )
        return int(order[number])

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a tenth after so many epochs."""
        epoch = step * self.options.batch_size // self.images
        falls = epoch // self.options.decay_every if self.options.decay_every else 0
        return float(self.options.learning_rate * 0.1**falls)


def chosen_boxes(
    found: Boxes, shape: tuple[int, ...], options: Detectors
) -> tuple[Boxes, int]:
    """Return the boxes of the target, the surest first, and how many others there are.

    A detector drops what overlaps within a class; what it calls two things at once is
    here what it is surer of.

    Parameters
    ----------
    found : Boxes
        Of all classes; may reach out of the image.
    shape : tuple of int
        Of the image.
    options : Detectors
        Least score, greatest overlap, most boxes.
    """
    seen = found.within(shape)
    sides = seen.corners[:, 2:] - seen.corners[:, :2]
    seen = seen[(sides > 0).all(1) & (seen.scores >= options.score)]
    seen = seen[np.argsort(-seen.scores, kind="stable")]
    if len(seen):
        iou, kept = box_iou(seen.corners, seen.corners), list[int]()
        for number in range(len(seen)):
            if not (iou[number, kept] > options.overlap).any():
                kept.append(number)
        seen = seen[kept]
    targets = seen[seen.kinds == 1]
    return targets[slice(options.most)], len(seen) - len(targets)


def box_labels(boxes: Boxes, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Return boxes as label image: number n + 1 is box n; earlier ones lie on top."""
    labels = np.zeros(shape, np.uint16)
    for number in range(len(boxes) - 1, -1, -1):
        y1, x1 = np.floor(boxes.corners[number, :2]).astype(int)
        y2, x2 = np.ceil(boxes.corners[number, 2:]).astype(int)
        labels[y1:y2, x1:x2] = number + 1
    return labels

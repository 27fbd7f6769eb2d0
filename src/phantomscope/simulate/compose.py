"""Images composed of crops of objects and of background, in pairs that share a layer.

Javer & Rittscher 2019 (arXiv 1909.00691), section 2.2: two images that have nothing in
common but their target layer teach a network to keep targets and to drop the rest. Each
pair is a function of (seed, index) alone, and its layers are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.layers import MOST_CROPS, Compose
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import derive_key, generator
from phantomscope.images.normalise import log_unit
from phantomscope.simulate.compose_pack import Packed, pack_backgrounds, pack_crops
from phantomscope.simulate.compose_place import (
    BACKGROUND_DRAWS,
    CROP_DRAWS,
    MODES,
    PLACE_DRAWS,
    RECORD,
    combine,
    lay_background,
    place,
)

__all__ = [
    "Composed",
    "Compositor",
    "Packed",
    "pack_backgrounds",
    "pack_crops",
]

Float = NDArray[np.float32]
Labels = NDArray[np.uint16]


def in_threads(
    make: Callable[[int, Any], object], numbers: Sequence[int], places: Iterable[Any],
    threads: int,
) -> None:  # fmt: skip
    """Call ``make(number, place)`` for each; the order is of no matter."""
    if threads == 1:
        for number, place in zip(numbers, places, strict=True):
            make(number, place)
        return
    with ThreadPoolExecutor(threads, "compose") as pool:
        list(pool.map(make, numbers, places))


@dataclass(frozen=True, eq=False)
class Composed:
    """An image, and what it consists of, each of shape (Y, X).

    Attributes
    ----------
    image : ndarray
        float32. Unless it was clipped, it is target + other + background, or for
        `multiply` their product; with `Compose.log_limits` the logarithm of that.
    target, other, background : ndarray
        float32 layers, linear. For `blend` what is seen of each.
    target_labels, other_labels : ndarray
        uint16 objects of either layer; a later one lies on an earlier one.
    placed : DataFrame
        A row for each crop: `layer`, `crop` (its number among those given), `y`, `x`
        (first pixel, may be outside), `height`, `width`, `pixels` (within the image,
        covered or not) and `label`.
    """

    image: Float
    target: Float
    other: Float
    background: Float
    target_labels: Labels
    other_labels: Labels
    placed: pd.DataFrame


@dataclass(eq=False)
class _Layer:
    """A layer in work: light, opacity, labels and what was placed."""

    light: Float
    opaque: Float
    labels: Labels
    record: NDArray[np.int64]
    count: int = 0

    def copy(self) -> _Layer:
        """Return a copy, for the second image of a pair."""
        return _Layer(
            self.light.copy(), self.opaque, self.labels, self.record, self.count
        )


class Compositor:
    """Pairs of composed images.

    Parameters
    ----------
    targets, others : Packed
        Crops of the target layer and of the other one, of `pack_crops`.
    backgrounds : Packed
        Of `pack_backgrounds`.
    options : Compose
        How many crops, and how they are changed.
    seed : int
        Seed of the experiment.

    Raises
    ------
    PhantomscopeError
        If there are no backgrounds, or no crops of a layer that is to have some.

    Notes
    -----
    What the two images share is placed first; what is drawn anew is placed round it,
    for each of them (Compose.carry_over: the second one keeps off the first's, too).
    """

    def __init__(
        self, targets: Packed, others: Packed, backgrounds: Packed, options: Compose,
        seed: int,
    ) -> None:  # fmt: skip
        for name, crops, wanted in (
            ("crops of the target layer", targets, options.targets[1]),
            ("crops of the other layer", others, options.others[1]),
            ("backgrounds", backgrounds, 1),
        ):
            if wanted and not len(crops):
                raise PhantomscopeError(
                    f"there are no {name}",
                    fix="extract some, or let none be asked for",
                )
        self.targets, self.others, self.backgrounds = targets, others, backgrounds
        self.options, self.seed = options, derive_key(seed, "compose")
        self._mode = MODES[options.mode]
        self._rules = np.array([
            self._mode, *options.factor, options.factor_law == "log", *options.angle,
            *options.zoom, options.flip, options.outside, options.max_overlap,
            *options.limits,
        ], np.float64)  # fmt: skip

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides what pairs look like, JSON-like."""
        return {
            "options": self.options.model_dump(mode="json"),
            "targets": self.targets.identity,
            "others": self.others.identity,
            "backgrounds": self.backgrounds.identity,
        }

    def pair(self, index: int) -> tuple[Composed, Composed]:
        """Return the two images of a pair with all that is known of them.

        `background` of both is the same array where they share it.
        """
        first, second = self._layers(index)
        return self._whole(*first), self._whole(*second)

    def images(self, index: int, out: Float | None = None) -> Float:
        """Return the two images of a pair, shape (2, Y, X), float32, as `pair` does.

        They are written into `out` if it is given.
        """
        side = self.options.size
        out = np.empty((2, side, side), np.float32) if out is None else out
        for layers, image in zip(self._layers(index), out, strict=True):
            self._compose(*layers, image)
        return out

    def layered(self, index: int, out: Float | None = None) -> Float:
        """Return both images of a pair, each above its layers, as `pair` does.

        Returns
        -------
        ndarray, shape (2, 4, Y, X)
            float32: image, target, other, background. Written into `out` if given.
        """
        side = self.options.size
        out = np.empty((2, 4, side, side), np.float32) if out is None else out
        for layers, part in zip(self._layers(index), out, strict=True):
            target, other, background = layers
            self._compose(*layers, part[0])
            part[1], part[2], part[3] = target.light, other.light, background
        return out

    def batch(self, step: int, size: int, threads: int = 1) -> Float:
        """Return the pairs of one optimiser step, shape (size, 2, Y, X), float32.

        They are numbers step * size to (step + 1) * size - 1, whatever `threads` is.
        """
        side = self.options.size
        out = np.empty((size, 2, side, side), np.float32)
        numbers = range(step * size, (step + 1) * size)
        in_threads(self.images, numbers, out, threads)
        return out

    def _layers(self, index: int) -> list[tuple[_Layer, _Layer, Float]]:
        """Place all crops of a pair: (targets, others, background) of either image."""
        options, rng = self.options, generator(self.seed, index)
        most = max(options.targets[1], options.others[1])
        # Always as many numbers, so that an option changes nothing but what it says.
        counts, draws, behind = (
            rng.random(shape) for shape in
            (3, (3, most, CROP_DRAWS + PLACE_DRAWS * options.tries),
             (2, BACKGROUND_DRAWS))
        )  # fmt: skip
        side = options.size
        used = np.zeros((side, side), np.uint64)
        known = np.zeros(MOST_CROPS, np.int64)
        by_target = options.share == "target"
        shared = self._fill(by_target, counts[0], draws[0], used, known, 0)
        grounds = [self._ground(draw) for draw in behind[: 1 + by_target]]
        number, pairs = shared.count, []
        for member in range(2):
            carried = options.carry_over or member == 1
            tracker = (used, known) if carried else (used.copy(), known.copy())
            own = self._fill(
                not by_target, counts[1 + member], draws[1 + member], *tracker, number
            )
            if options.carry_over:
                number += own.count
            held = shared if member else shared.copy()
            # What is seen of a background is noted in place.
            ground = grounds[member] if by_target else grounds[0].copy()
            pairs.append((held, own, ground) if by_target else (own, held, ground))
        return pairs

    def _fill(
        self, is_target: bool, count: float, draws: NDArray[np.float64],
        used: NDArray[np.uint64], known: NDArray[np.int64], first: int,
    ) -> _Layer:  # fmt: skip
        """Place the crops of one layer."""
        options, shape = self.options, (self.options.size, self.options.size)
        crops = self.targets if is_target else self.others
        low, high = options.targets if is_target else options.others
        fresh = np.ones if options.mode == "multiply" else np.zeros
        made = _Layer(
            fresh(shape, np.float32),
            # Only what is laid over something needs to say how opaque it is.
            np.zeros(shape if options.mode == "blend" else (0, 0), np.float32),
            np.zeros(shape, np.uint16),
            np.zeros((len(draws), len(RECORD)), np.int64),
        )
        wanted = min(low + int(count * (high - low + 1)), high)
        made.count = place(
            crops.values, crops.cover, crops.starts, crops.sizes, crops.bases,
            draws, wanted, first, self._rules, made.light, made.opaque, made.labels,
            used, known, made.record,
        ) - first  # fmt: skip
        return made

    def _ground(self, draw: NDArray[np.float64]) -> Float:
        options, found = self.options, self.backgrounds
        layer = np.empty((options.size, options.size), np.float32)
        lay_background(
            found.values, found.starts, found.sizes, draw, np.array(options.angle),
            options.flip, np.array(options.fill), layer,
        )  # fmt: skip
        return layer

    def _compose(
        self, target: _Layer, other: _Layer, background: Float, image: Float
    ) -> None:
        low, high = self.options.limits
        combine(
            self._mode, low, high, target.light, target.opaque, other.light,
            other.opaque, background, image,
        )  # fmt: skip
        if self.options.log_limits:
            image[:] = log_unit(image, self.options.log_limits)

    def _whole(self, target: _Layer, other: _Layer, background: Float) -> Composed:
        image = np.empty_like(background)
        self._compose(target, other, background, image)
        tables = []
        for name, layer in (("target", target), ("other", other)):
            table = pd.DataFrame(layer.record, columns=list(RECORD))
            table = table[table["label"] > 0]
            table.insert(0, "layer", name)
            tables.append(table)
        placed = pd.concat(tables, ignore_index=True)
        return Composed(
            image, target.light, other.light, background, target.labels, other.labels,
            placed,
        )  # fmt: skip

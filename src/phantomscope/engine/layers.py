"""Training on pairs of images that share a layer, and on layers that are known.

Javer & Rittscher 2019 (arXiv 1909.00691): a network that is to predict one image of a
pair from the other can predict no more than what both have in common. In the terms of
`process` that is regression in one step, from the image that is seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.engine.objective import ERRORS, WHOLE, ErrorName, Items
from phantomscope.engine.patches import PatchSource
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.light import Light
from phantomscope.images.noise import generator
from phantomscope.images.normalise import unit_to_network
from phantomscope.simulate.compose import Compositor, in_threads

Float = NDArray[np.float32]
# Layers of an image: target, other, background.
LAYERS = 3
# Pairs from which the light is measured that training adds.
MEASURED = 64


@dataclass(frozen=True)
class Separating:
    """Predict from an image what it shares with another one, or its layers.

    The last channel of each patch is what the network sees, once for each channel that
    it predicts: the start state of regression is the condition itself, so nothing is
    shown beside it.

    Attributes
    ----------
    error : {"mse", "mae", "smooth_l1"}
        Of what the network predicts.
    light : Light, optional
        How layers make an image. Without it they are not composed.
    consistency : float
        Weight of the error of the composed layers, compared with what is seen.
    """

    error: ErrorName = "mse"
    light: Light | None = None
    consistency: float = 0.0

    def draw(self, x0: Tensor, rng: torch.Generator, part: slice = WHOLE) -> Items:
        """Divide patches into what is seen and what is wanted; nothing is random."""
        wanted, seen = x0[part, :-1], x0[part, -1:]
        x = seen.expand(-1, wanted.shape[1], *seen.shape[2:]).contiguous()
        target = wanted if self.light is None else x0[part]
        return x, torch.ones(len(x), dtype=torch.long), target

    def loss(self, output: Tensor, t: Tensor, target: Tensor) -> Tensor:
        """Mean error, and that of the composed layers."""
        error = ERRORS[self.error]
        if self.light is None:
            return error(output, target)
        wanted, seen = target[:, :-1], target[:, -1:]
        units = (output + 1) / 2
        joined = self.light.join([units[:, n : n + 1] for n in range(units.shape[1])])
        return error(output, wanted) + self.consistency * error(2 * joined - 1, seen)


@dataclass(frozen=True, eq=False)
class ComposedPairs:
    """Composed pairs: the second image is wanted, the first is seen.

    Attributes
    ----------
    compositor : Compositor
        Composes them, each by its number alone.
    epoch : int
        Pairs after which they repeat; 0: never.
    threads : int
        Of no effect on the result.
    """

    compositor: Compositor
    epoch: int = 0
    threads: int = 1

    def batch(self, step: int, size: int) -> Float:
        """Return the pairs of one optimiser step, network values (size, 2, Y, X)."""
        side = self.compositor.options.size
        out = np.empty((size, 2, side, side), np.float32)
        numbers = _numbers(step, size, self.epoch)
        in_threads(self._fill, numbers, out, self.threads)
        return out

    def _fill(self, number: int, out: Float) -> None:
        self.compositor.images(number, out[::-1])
        _to_network(out)


def _numbers(step: int, size: int, epoch: int) -> list[int]:
    """Return the numbers of the images of a step, which repeat after an epoch."""
    numbers = range(step * size, (step + 1) * size)
    return [n % epoch if epoch else n for n in numbers]


def _to_network(unit: Float) -> None:
    """Do as `unit_to_network`, in place."""
    unit *= 2
    unit -= 1


@dataclass(frozen=True, eq=False)
class ComposedLayers:
    """Composed images with their layers: these are wanted, the image is seen.

    Both images of a pair are used. For `light` see `Separating`, for the rest
    `ComposedPairs`.
    """

    compositor: Compositor
    light: Light
    epoch: int = 0
    threads: int = 1

    def batch(self, step: int, size: int) -> Float:
        """Return images of one optimiser step, network values (size, 4, Y, X)."""
        side = self.compositor.options.size
        out = np.empty((size, LAYERS + 1, side, side), np.float32)
        places: dict[int, list[tuple[int, Float]]] = defaultdict(list)
        for number, part in zip(_numbers(step, size, 2 * self.epoch), out, strict=True):
            places[number // 2].append((number % 2, part))
        in_threads(self._fill, list(places), places.values(), self.threads)
        return out

    def _fill(self, pair: int, places: Sequence[tuple[int, Float]]) -> None:
        made = self.compositor.layered(pair)
        for member, out in places:
            out[:LAYERS] = self.light.layers_to_unit(made[member, 1:])
            out[LAYERS] = made[member, 0]
            _to_network(out)


def steady_light(
    compositor: Compositor, light: Light, error: ErrorName
) -> float | None:
    """Return what training on pairs adds to what they share.

    Where nothing is shared, the best prediction is the mean (for the mean absolute
    error the median) of what is drawn anew: light of others and background where no
    target is, or that of all targets.

    Returns
    -------
    float or None
        From 0 to 1, see `Light`. None: it is no constant (scenes that are shared, in
        the logarithm or where targets cover them).

    Raises
    ------
    PhantomscopeError
        If targets leave nothing free.
    """
    options = compositor.options
    scene = options.share == "scene"
    if scene and (light.log_limits or light.mode == "blend"):
        return None
    found = []
    for number in range(MEASURED):
        made = compositor.layered(number)
        image, target = made[:, 0], made[:, 1]
        found.append(np.ravel(target) if scene else image[target == light.empty])
    values = np.concatenate(found)
    if not values.size:
        raise PhantomscopeError(
            "targets cover all of each composed image",
            where="filter.compose.targets",
            fix="compose fewer of them, or larger images (`filter.compose.size`)",
        )
    return float(np.median(values) if error == "mae" else np.mean(values))


class FramePairs:
    """Two frames of a video: what moved is not in both.

    Parameters
    ----------
    images : ImageSet
        Frames: `group` is the video, `frame` counts.
    lag : int
        Frames between the two.
    light : Light
        What intensities mean.
    patch : sequence of int
        Size of a patch, (Y, X), in px; the same place of both.
    seed : int
        Seed of the experiment.
    augment : bool
        Turn and flip both alike.
    symmetries : {"all", "flip"}
        See `PatchSource`.
    memory : int
        Bytes of frames to keep.

    Raises
    ------
    PhantomscopeError
        If no two frames are so far apart, or frames of a video differ in size.
    """

    def __init__(
        self, images: ImageSet, lag: int, light: Light, patch: Sequence[int],
        seed: int, *, augment: bool = True, symmetries: str = "all",
        memory: int = 4 << 30,
    ) -> None:  # fmt: skip
        table = images.having("frame", "group").table
        key = list(zip(table["group"], table["frame"].astype(int), strict=True))
        name = pd.Series(table["id"].to_numpy(), pd.MultiIndex.from_tuples(key))
        self.later = {
            first: str(name[group, frame + lag])
            for (group, frame), first in name.items()
            if (group, frame + lag) in name.index
        }
        if not self.later:
            raise PhantomscopeError(
                f"no two frames of {len(images)} are {lag} apart",
                where=images.folder / "manifest.csv",
                fix="use a smaller `filter.lag`, or more frames of each video",
            )
        for first, second in self.later.items():
            if images.shape(first) != images.shape(second):
                raise PhantomscopeError(
                    f"the frames {first!r} and {second!r} differ in size",
                    where=images.folder / "manifest.csv",
                    fix="give each video a `group` of its own",
                )
        self.images, self.light, self.seed = images, light, seed
        keep = table["id"].isin(list(self.later))
        firsts = ImageSet(images.folder, table[keep], images.info)
        self.patches = PatchSource(
            firsts, None, patch, seed, augment=augment,
            symmetries="flip" if symmetries == "flip" else "all", memory=memory,
            read=self._both,
        )  # fmt: skip

    def _both(self, identifier: str) -> Float:
        """Read a frame and the one after it as they are stored: a quarter of floats."""
        frames = [self.images.image(i) for i in (identifier, self.later[identifier])]
        return np.stack(frames)

    def batch(self, step: int, size: int) -> Float:
        """Return pairs of one optimiser step in any order, (size, 2, Y, X)."""
        pairs = self.patches.batch(step, size)
        swapped = generator(self.seed, "order", step).random(size) < 0.5
        pairs[swapped] = pairs[swapped][:, ::-1]
        return unit_to_network(self.light.to_unit(pairs), "linear")

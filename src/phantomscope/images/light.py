"""Intensities as numbers from 0 to 1, and how layers of an image come together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.images.normalise import log_unit

Float = NDArray[np.float32]
Mode = Literal["add", "multiply", "blend"]
# An array, or a tensor: both know these operations.
Values = Any


@dataclass(frozen=True)
class Light:
    """What intensities mean to the networks of semantic filtering.

    Attributes
    ----------
    divisor : float
        Intensity that becomes 1. Of no effect with `log_limits`.
    mode : {"add", "multiply", "blend"}
        How layers are composed.
    log_limits : tuple of float, optional
        Intensities that become 0 and 1 of log(1 + intensity).
    """

    divisor: float = 255.0
    mode: Mode = "add"
    log_limits: tuple[float, float] | None = None

    @property
    def scale(self) -> float:
        """What crops and backgrounds are divided by before they are composed."""
        return 1.0 if self.log_limits else self.divisor

    @property
    def empty(self) -> float:
        """Value of a layer of objects where there is none."""
        return 1.0 if self.mode == "multiply" else 0.0

    def to_unit(self, image: NDArray[Any], percentile: float | None = None) -> Float:
        """Turn intensities into numbers from 0 to 1.

        Parameters
        ----------
        image : ndarray
            As stored.
        percentile : float, optional
            This percentile of the image itself becomes 1, whatever `divisor` is.

        Raises
        ------
        PhantomscopeError
            If this percentile is 0, though the image is not.
        """
        values = np.asarray(image, np.float32)
        if percentile is not None and (values > 0).any():
            own = float(np.percentile(values, percentile))
            if own <= 0:
                raise PhantomscopeError(
                    f"percentile {percentile:g} of an image is {own:g}, though it is "
                    "not black",
                    where="filter.scale.test_percentile",
                    fix="take a higher percentile, or none",
                )
            top = self.log_limits[1] if self.log_limits else self.divisor
            values = values * np.float32(top / own)
        if self.log_limits:
            return log_unit(values, self.log_limits)
        unit: Float = np.clip(values / np.float32(self.divisor), 0, 1)
        return unit

    def layers_to_unit(self, layers: Float) -> Float:
        """Turn composed layers, shape (..., 3, Y, X), into numbers from 0 to 1.

        They are target, other and background; as composed, that is, linear.
        """
        if self.log_limits is None:
            return np.clip(layers, 0, 1)
        if self.mode != "multiply":
            return log_unit(layers, self.log_limits)
        # Shares of light have no unit.
        made = np.clip(layers, 0, 1)
        made[..., 2, :, :] = log_unit(layers[..., 2, :, :], self.log_limits)
        return made

    def join(self, layers: Sequence[Values]) -> Values:
        """Compose layers (numbers from 0 to 1), the background last, to an image."""
        if self.mode == "multiply":
            light = self._linear(layers[-1])
            for layer in layers[:-1]:
                light = light * layer
        else:
            light = sum(self._linear(layer) for layer in layers)
        return self._unit(light)

    def without(self, image: Values, part: Values) -> Values:
        """Take a layer, or the mean of what is drawn anew, out of an image.

        All are numbers from 0 to 1: a difference, or for `multiply` a quotient.
        """
        if self.mode == "multiply":
            # A grey value: what is darker tells nothing. Most of a logarithm is dark.
            least = 1e-6 if self.log_limits else 1 / 255
            found = self._linear(image) / self._linear(part).clip(least)
            return found.clip(0, 1)
        return self._unit(self._linear(image) - self._linear(part))

    def _linear(self, unit: Values) -> Values:
        """Undo the logarithm: light above the lower limit, in shares of the range."""
        if self.log_limits is None:
            return unit
        low, high = self._logs
        # Beyond its limits an untrained network would give astronomical light.
        scaled = unit.clip(0, 1) * (high - low)
        light = np.expm1(scaled) if isinstance(scaled, np.ndarray) else scaled.expm1()
        return light / math.expm1(high - low)

    def _unit(self, light: Values) -> Values:
        light = light.clip(0, 1)
        if self.log_limits is None:
            return light
        low, high = self._logs
        scaled = light * math.expm1(high - low)
        made = np.log1p(scaled) if isinstance(light, np.ndarray) else scaled.log1p()
        return made / (high - low)

    @property
    def _logs(self) -> tuple[float, float]:
        if self.log_limits is None:
            raise ValueError("these intensities have no logarithm")
        low, high = self.log_limits
        return math.log1p(low), math.log1p(high)


@dataclass(frozen=True, eq=False)
class Parted:
    """An image told apart; all from 0 to 1.

    Attributes
    ----------
    kept : ndarray, shape (C, Y, X)
        What the method gives.
    layer : ndarray, shape (Y, X)
        Target layer, objects bright.
    scene : ndarray, shape (Y, X)
        The image without it.
    """

    kept: Float
    layer: Float
    scene: Float


def part_image(
    image: Float, output: Float, light: Light, share: str, *,
    level: float | None = None, dark: bool = False,
) -> Parted:  # fmt: skip
    """Tell the target layer and the scene from what a network gave.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        What the network saw, 0 to 1.
    output : ndarray, shape (C, Y, X)
        What it gave, 0 to 1: what pairs share, or with three channels the layers.
    light : Light
        How layers make an image.
    share : {"target", "scene"}
        What pairs share.
    level : float, optional
        Light that the network adds to what pairs share; it is taken off.
    dark : bool
        Where pairs share the scene: targets are darker than it.
    """
    output = np.clip(output, 0, 1)
    if len(output) > 1:
        target, scene = output[0], light.join(list(output[1:]))
        return Parted(output, _bright(target, light), scene)
    kept = output[0]
    if level is not None:
        kept = light.without(kept, np.full_like(kept, level))
    if share == "target":
        return Parted(kept[None], _bright(kept, light), light.without(image, kept))
    pair = (kept, image) if dark and light.mode != "multiply" else (image, kept)
    return Parted(kept[None], _bright(light.without(*pair), light), kept)


def _bright(target: Float, light: Light) -> Float:
    """Turn a layer that lets light through into one that takes it."""
    return np.asarray(1 - target if light.mode == "multiply" else target, np.float32)

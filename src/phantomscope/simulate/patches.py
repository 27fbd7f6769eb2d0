"""Sketches as training patches: pure functions of (seed, step), drawn on demand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.simulation import DIVISION, Simulate
from phantomscope.images.noise import derive_key
from phantomscope.images.normalise import unit_to_network
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.sketch import simulate_sketch


class SketchPatches:
    """Small sketches that are none of the experiment's own.

    Parameters
    ----------
    parameters : SketchParameters
        Fitted parameters.
    options : Simulate
        How to draw; number, size and division of the experiment's sketches are no
        matter.
    transform : str
        From unit intensities to the network's range.
    patch : int or tuple of int
        Side in px, or ([Z,] Y, X).
    seed : int
        Seed of the experiment.
    """

    def __init__(
        self,
        parameters: SketchParameters,
        options: Simulate,
        transform: str,
        patch: int | tuple[int, ...],
        seed: int,
    ) -> None:
        self.parameters, self.transform = parameters, transform
        size = (patch, patch) if isinstance(patch, int) else patch
        self.options = options.model_copy(update={"size": size})
        self.seed = derive_key(seed, "sketch patches")

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides what they look like, JSON-like."""
        return {
            "parameters": self.parameters.model_dump(mode="json"),
            "options": self.options.model_dump(mode="json", exclude=set(DIVISION)),
            "transform": self.transform,
        }

    def batch(self, step: int, size: int) -> NDArray[np.float32]:
        """Return the sketches of one optimiser step.

        Returns
        -------
        ndarray, shape (size, C, [Z,] Y, X)
            float32, network values.
        """
        drawn = [
            simulate_sketch(self.parameters, self.options, self.seed, number)[0]
            for number in range(step * size, (step + 1) * size)
        ]
        patches = np.stack(drawn)
        if len(self.options.channels) == 1:
            patches = patches[:, None]
        return unit_to_network(patches, self.transform)

"""Seams: the gradient across the borders of tiles, compared with elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.invariance import synthesise_once
from benchmarks.laboratory import Laboratory
from phantomscope.images.tiles import even_tile
from phantomscope.measure.seams import gradient_excess, gradient_excess_noise


def tile_borders(size: int, tile: int, overlap: int) -> list[int]:
    """Pixels at which the cores of neighbouring tiles meet."""
    core = even_tile(size, tile, overlap, 8) - 2 * overlap
    return list(range(core, size, core))


def seam_excess(lab: Laboratory, size: int = 1024, **options: Any) -> dict[str, float]:
    """Synthesise a large image and compare the gradient at borders with elsewhere.

    Returns
    -------
    dict
        excess: power of the gradient across borders relative to elsewhere, minus 1;
        expected, sd: the same for borders at all other offsets (chance).
    """
    config = lab.config.synthesise.model_copy(update=options)
    image: NDArray[Any] = synthesise_once(lab, (size, size), **options)
    edges = tile_borders(size, config.tile, config.overlap)
    found = gradient_excess(image, edges, edges)
    chance = gradient_excess_noise(image, edges, edges)
    return {
        "excess": float(found),
        "expected": float(np.asarray(chance)[0]),
        "sd": float(np.asarray(chance)[1]),
    }

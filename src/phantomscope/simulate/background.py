"""Background and edges: what turns drawn light into a sketch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.simulate.parameters import SketchType
from phantomscope.simulate.shapes import smooth_field


def finished(
    light: NDArray[np.floating[Any]], kind: SketchType, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Add the fitted background to light and blur the edges.

    Parameters
    ----------
    light : ndarray, shape ([Z,] Y, X)
        Unit intensities above the background.
    kind : SketchType
        Fitted parameters; of volumes for a volume.
    rng : Generator
        Source of the slow change of the background.

    Returns
    -------
    ndarray, shape ([Z,] Y, X)
        float32 unit intensities without noise.
    """
    background = kind.background
    image = np.full(light.shape, background.level, light.dtype)
    if background.variation > 0:
        # Over four radii, of planes accordingly fewer.
        scale = 4 * kind.radius[3]
        scales: tuple[float, ...] = (scale, scale)
        if kind.volume is not None:
            z, _, x = kind.volume.spacing
            scales = (scale / z, scale, scale / x)
        image += background.variation * smooth_field(rng, light.shape, scales)
    image += light
    return np.asarray(ndimage.gaussian_filter(image, kind.blur), np.float32)

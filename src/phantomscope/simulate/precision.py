"""How precisely a fluorophore is localised, from its photons."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.config.superresolution import Formula
from phantomscope.errors import PhantomscopeError


def localisation_precision(
    photons: ArrayLike, *, sigma: ArrayLike, pixel: float,
    background: ArrayLike = 0.0, excess: float = 1.0, formula: Formula = "mortensen",
) -> NDArray[np.float64]:  # fmt: skip
    """Return the standard deviation of a fitted position along one axis.

    With N photons, a spot of standard deviation s, pixels of side a, b^2 the variance
    of the background in a pixel, s_a^2 = s^2 + a^2 / 12 and
    tau = 2 pi s_a^2 b^2 / (N a^2):

    - ``thompson``: s_a^2 / N + 8 pi s^4 b^2 / (a^2 N^2)
      (Thompson, Larson & Webb, Biophys J 82, 2775, 2002, eq. 17);
    - ``mortensen``: s_a^2 / N (16 / 9 + 4 tau), fit by least squares
      (Mortensen et al., Nat Methods 7, 377, 2010);
    - ``rieger``: s_a^2 / N (1 + 4 tau + sqrt(2 tau / (1 + 4 tau))), fit by maximum
      likelihood (Rieger & Stallinga, ChemPhysChem 15, 664, 2014).

    Parameters
    ----------
    photons : array_like
        N, above 0.
    sigma : array_like
        s, nm.
    pixel : float
        a, nm.
    background : array_like
        b^2 in photons^2: for Poisson noise the mean background per pixel in photons,
        plus the variance of the read noise.
    excess : float
        Factor of the variance: 2 for electron multiplication.
    formula : {"thompson", "mortensen", "rieger"}
        Which of them.

    Returns
    -------
    ndarray
        float64, nm, in the shape to which the arguments broadcast.

    Raises
    ------
    PhantomscopeError
        If there are no photons, or a negative background.
    """
    count, b2 = np.asarray(photons, float), np.asarray(background, float)
    if not (count > 0).all() or not (b2 >= 0).all():
        raise PhantomscopeError(
            "a localisation needs photons above 0 and a background of 0 or more",
            where="photons",
            fix="leave out rows without photons",
        )
    s2 = np.asarray(sigma, float) ** 2
    wide = s2 + pixel**2 / 12
    tau = 2 * np.pi * wide * b2 / (count * pixel**2)
    factor: Any
    if formula == "thompson":
        factor = 1 + 8 * np.pi * s2**2 * b2 / (pixel**2 * count * wide)
    elif formula == "mortensen":
        factor = 16 / 9 + 4 * tau
    else:
        factor = 1 + 4 * tau + np.sqrt(2 * tau / (1 + 4 * tau))
    return np.asarray(np.sqrt(excess * wide / count * factor))

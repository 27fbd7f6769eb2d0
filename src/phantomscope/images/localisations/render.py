"""Images of localised molecules: counts per pixel, or Gaussians of their precision.

A Gaussian is integrated over the area of each pixel, not sampled at its centre, so that
its sum is 1 for any size of the pixels. Molecules are added one after the other in
double precision: an image is the same, bit for bit, however a table is cut into parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numba
import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations.table import Localisations

Kind = Literal["histogram", "gaussian"]
Weight = Literal["count", "photons"]

# Standard deviations to which a Gaussian reaches; beyond lie 6e-7 of it. What is drawn
# is scaled up by that, so that nothing is lost.
REACH = 5.0
# 2 GiB of double precision.
MOST_PIXELS = 1 << 28
NONE = np.empty(0)


@dataclass(frozen=True)
class View:
    """A field of view and its pixels.

    Attributes
    ----------
    left, top : float
        Outer corner of the first pixel, nm.
    height, width : int
        Pixels along y and x.
    pixel_size : float
        Side of a pixel, nm.
    """

    left: float
    top: float
    height: int
    width: int
    pixel_size: float

    def __post_init__(self) -> None:
        if not 0 < self.pixel_size < math.inf:
            raise PhantomscopeError(
                f"a pixel of {self.pixel_size} nm",
                where="pixel_size_nm",
                fix="give the side of a pixel of the image in nm, such as 20",
            )
        if self.height < 1 or self.width < 1:
            raise PhantomscopeError(
                f"a field of view of {self.height} x {self.width} pixels",
                where="field_nm",
                fix="give left, top, right and bottom in nm, with left < right and "
                "top < bottom",
                example="field_nm: [0, 0, 20000, 20000]",
            )
        if self.height * self.width > MOST_PIXELS:
            raise PhantomscopeError(
                f"an image of {self.height} x {self.width} pixels is too large",
                where="pixel_size_nm",
                fix=f"choose larger pixels or a smaller field; {MOST_PIXELS} pixels "
                "are the most",
            )

    @classmethod
    def of_field(
        cls, left: float, top: float, right: float, bottom: float, pixel_size: float
    ) -> Self:
        """Return the pixels that cover a field (nm); the last ones may stick out."""
        sides = [(bottom - top) / pixel_size, (right - left) / pixel_size]
        # 20000 nm of 27.3 nm pixels need no further one because of rounding.
        height, width = (math.ceil(round(side, 6)) for side in sides)
        return cls(left, top, height, width, pixel_size)

    @classmethod
    def around(
        cls, low: tuple[float, float], high: tuple[float, float], pixel_size: float
    ) -> Self:
        """Return the pixels around molecules from `low` to `high`, (x, y) in nm.

        Borders are multiples of the pixel size, so that pixels of several tables and
        parts of a table lie on one grid.
        """
        (left, top), (last_x, last_y) = (
            [math.floor(value / pixel_size) for value in corner]
            for corner in (low, high)
        )
        return cls(
            left * pixel_size, top * pixel_size, last_y - top + 1, last_x - left + 1,
            pixel_size,
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along y and x."""
        return self.height, self.width


@numba.njit(cache=True, nogil=True)
def _count(x, y, weights, left, top, size, out):  # type: ignore[no-untyped-def]
    """Add molecules to the pixels that they lie in; return how many lie inside."""
    rows, columns = out.shape
    inside = 0
    for i in range(len(x)):
        u, v = (x[i] - left) / size, (y[i] - top) / size
        # A pixel has its left and upper border, not the others.
        if 0.0 <= u < columns and 0.0 <= v < rows:
            out[int(v), int(u)] += weights[i] if len(weights) else 1.0
            inside += 1
    return inside


@numba.njit(cache=True, nogil=True)
def _half_erf(edge, centre, scale, reach):  # type: ignore[no-untyped-def]
    """Integral from the centre of a Gaussian, which ends at its reach, to an edge."""
    return 0.5 * math.erf(scale * min(max(edge - centre, -reach), reach))


@numba.njit(cache=True, nogil=True)
def _spread(  # type: ignore[no-untyped-def]
    x, y, sigma, weights, left, top, size, along, out
):
    """Add Gaussians, integrated over each pixel; return how many centres lie inside.

    `sigma` has one value for all, or one for each; `along` is room for a row.
    """
    rows, columns = out.shape
    whole = math.erf(REACH / math.sqrt(2.0)) ** 2
    inside = 0
    for i in range(len(x)):
        u, v = (x[i] - left) / size, (y[i] - top) / size
        spread = sigma[i if len(sigma) > 1 else 0] / size
        reach, scale = REACH * spread, 1.0 / (spread * math.sqrt(2.0))
        if 0.0 <= u < columns and 0.0 <= v < rows:
            inside += 1
        # Compared before they become integers: a molecule may be far away.
        if u + reach < 0 or v + reach < 0 or u - reach >= columns or v - reach >= rows:
            continue
        first_column = int(max(0.0, math.floor(u - reach)))
        last_column = int(min(columns - 1.0, math.floor(u + reach)))
        first_row = int(max(0.0, math.floor(v - reach)))
        last_row = int(min(rows - 1.0, math.floor(v + reach)))
        weight = (weights[i] if len(weights) else 1.0) / whole
        low = _half_erf(first_column, u, scale, reach)
        for column in range(first_column, last_column + 1):
            high = _half_erf(column + 1, u, scale, reach)
            along[column - first_column] = (high - low) * weight
            low = high
        low = _half_erf(first_row, v, scale, reach)
        for row in range(first_row, last_row + 1):
            high = _half_erf(row + 1, v, scale, reach)
            share = high - low
            low = high
            for column in range(first_column, last_column + 1):
                out[row, column] += share * along[column - first_column]
    return inside


class Renderer:
    """Draws a table part by part.

    Parameters
    ----------
    view : View
        Field of view.
    kind : {"histogram", "gaussian"}
        Count molecules per pixel, or draw each as a Gaussian of sum 1, integrated over
        the pixels: ``(erf(b) - erf(a)) / 2`` along each axis, where a and b are the
        borders of the pixel in units of sqrt(2) sigma.
    sigma : float, optional
        Standard deviation of all Gaussians in nm; by default each has that of its
        molecule's precision.
    weight : {"count", "photons"}
        Whether a molecule counts as 1 or by its photons.

    Attributes
    ----------
    drawn, inside : int
        Molecules so far, and those in the field of view.

    Examples
    --------
    >>> renderer = Renderer(View(0, 0, 64, 64, 20.0))
    >>> renderer.add(table)  # doctest: +SKIP
    >>> renderer.image().shape
    (64, 64)
    """

    def __init__(
        self, view: View, kind: Kind = "gaussian", *, sigma: float | None = None,
        weight: Weight = "count",
    ) -> None:  # fmt: skip
        if sigma is not None and not 0 < sigma < math.inf:
            raise PhantomscopeError(
                f"a standard deviation of {sigma} nm",
                where="sigma_nm",
                fix="give a positive one, or leave it out",
            )
        self.view, self.kind, self.sigma, self.weight = view, kind, sigma, weight
        self.drawn = self.inside = 0
        self._sum = np.zeros(view.shape)
        self._along = np.empty(view.width)

    def add(self, part: Localisations) -> None:
        """Draw molecules.

        Raises
        ------
        PhantomscopeError
            If the table lacks precision or photons and they are needed.
        """
        weights = NONE
        if self.weight == "photons":
            weights = part.field("photons", "`weight: photons`")
        where = (self.view.left, self.view.top, self.view.pixel_size)
        self.drawn += len(part)
        if self.kind == "histogram":
            self.inside += _count(part.x, part.y, weights, *where, self._sum)
            return
        if self.sigma is None:
            sigma = part.field("uncertainty", "`render: gaussian` without `sigma_nm`")
        else:
            sigma = np.array([self.sigma])
        if len(part) and not sigma.min() > 0:
            raise PhantomscopeError(
                f"a precision of {sigma.min():g} nm cannot be drawn",
                where=part.source.path,
                fix="leave out such rows, or give `sigma_nm`",
            )
        if len(part) == 1:
            sigma = sigma[:1]
        self.inside += _spread(
            part.x, part.y, sigma, weights, *where, self._along, self._sum
        )

    def image(self) -> NDArray[np.float32]:
        """Return what was drawn, (Y, X): molecules, or photons, per pixel."""
        return self._sum.astype(np.float32)


def render(
    parts: Localisations | Iterable[Localisations], view: View,
    kind: Kind = "gaussian", *, sigma: float | None = None, weight: Weight = "count",
) -> NDArray[np.float32]:  # fmt: skip
    """Draw a table, whole or in parts.

    Parameters and errors are those of `Renderer`.

    Returns
    -------
    ndarray, shape (Y, X)
        float32; molecules, or photons, per pixel. Their sum is the number of molecules
        whose Gaussians lie inside. y grows downwards.
    """
    renderer = Renderer(view, kind, sigma=sigma, weight=weight)
    for part in [parts] if isinstance(parts, Localisations) else parts:
        renderer.add(part)
    return renderer.image()

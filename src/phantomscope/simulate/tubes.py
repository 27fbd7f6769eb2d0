"""Lines and tubes as images: exact length per pixel, labels, projected matter."""

from __future__ import annotations

import math
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.simulate.polylines import Polylines

Profile = Literal["volume", "surface"]


def grid_of(field: tuple[float, float], pixel: float) -> tuple[int, int]:
    """Return the pixels (height, width) of a field in nm, which must be whole.

    Raises
    ------
    PhantomscopeError
        If the field is no whole number of pixels.
    """
    sides = [side / pixel for side in field]
    whole = round(sides[0]), round(sides[1])
    if min(whole) < 1 or any(abs(s - w) > 1e-6 * w for s, w in zip(sides, whole)):  # noqa: B905
        raise PhantomscopeError(
            f"a field of {field[0]:g} x {field[1]:g} nm has {sides[0]:g} x "
            f"{sides[1]:g} pixels of {pixel:g} nm",
            where="pixel",
            fix="use a field of whole pixels",
            example=f"field=({max(1, whole[0])} * {pixel:g}, "
            f"{max(1, whole[1])} * {pixel:g})",
        )
    return whole


@numba.njit(cache=True, nogil=True)
def _lengths(first, points, pixel, out):  # type: ignore[no-untyped-def]
    """Add the length of each segment to the pixels that it passes through."""
    height, width = out.shape
    for i in first:
        y, x = points[i, 0] / pixel, points[i, 1] / pixel
        dy, dx = points[i + 1, 0] / pixel - y, points[i + 1, 1] / pixel - x
        length = pixel * math.sqrt(dy * dy + dx * dx)
        # From one pixel border to the next; t runs from 0 to 1 over the segment.
        t = 0.0
        v, u = math.floor(y), math.floor(x)
        up, right = 1 if dy > 0 else -1, 1 if dx > 0 else -1
        ty = (v + (up > 0) - y) / dy if dy != 0.0 else math.inf
        tx = (u + (right > 0) - x) / dx if dx != 0.0 else math.inf
        gap_y = abs(1.0 / dy) if dy != 0.0 else math.inf
        gap_x = abs(1.0 / dx) if dx != 0.0 else math.inf
        while t < 1.0:
            end = min(ty, tx, 1.0)
            if 0 <= v < height and 0 <= u < width:
                out[v, u] += (end - t) * length
            t = max(t, end)
            if ty <= tx:
                v += up
                ty += gap_y
            else:
                u += right
                tx += gap_x


def length_map(
    lines: Polylines, field: tuple[float, float], pixel: float
) -> NDArray[np.float32]:
    """Return how much line each pixel holds.

    Parameters
    ----------
    lines : Polylines
        In nm.
    field : tuple of float
        Height and width, nm; whole pixels.
    pixel : float
        Side of a pixel, nm.

    Returns
    -------
    ndarray, shape (Y, X)
        float32, nm per pixel, 0 or more; the sum is the length within the field.

    Raises
    ------
    PhantomscopeError
        If the field is no whole number of pixels.
    """
    out = np.zeros(grid_of(field, pixel))
    _lengths(lines.segments(), lines.points, float(pixel), out)
    return out.astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _stamp(first, points, radii, ids, pixel, nearest, wide, labels):  # type: ignore[no-untyped-def]
    """Find the nearest centre line of each pixel within a tube or half a pixel more."""
    height, width = labels.shape
    for n in range(len(first)):
        i = first[n]
        ay, ax = points[i, 0] / pixel, points[i, 1] / pixel
        by, bx = points[i + 1, 0] / pixel, points[i + 1, 1] / pixel
        ra, rb = radii[i] / pixel, radii[i + 1] / pixel
        reach = max(ra, rb) + 0.5
        dy, dx = by - ay, bx - ax
        squared = max(dy * dy + dx * dx, 1e-12)
        for v in range(
            max(0, math.floor(min(ay, by) - reach)),
            min(height, math.ceil(max(ay, by) + reach)),
        ):
            for u in range(
                max(0, math.floor(min(ax, bx) - reach)),
                min(width, math.ceil(max(ax, bx) + reach)),
            ):
                py, px = v + 0.5 - ay, u + 0.5 - ax
                t = min(1.0, max(0.0, (py * dy + px * dx) / squared))
                gap = math.sqrt((py - t * dy) ** 2 + (px - t * dx) ** 2)
                radius = ra + t * (rb - ra)
                if gap >= radius + 0.5 or gap >= nearest[v, u] * radius:
                    continue
                nearest[v, u] = gap / radius
                wide[v, u] = radius
                if gap <= radius:
                    labels[v, u] = ids[n]


def _depth(
    nearest: NDArray[np.float64], radius: NDArray[np.float64], surface: bool
) -> NDArray[np.float64]:
    """Matter that is seen through each pixel, in pixels, from where it lies in a tube.

    The mean over the width of a pixel across the tube, so that walls are finite.
    """
    half = 0.5 / radius
    low, high = np.clip(nearest - half, -1, 1), np.clip(nearest + half, -1, 1)
    if surface:
        return np.asarray(2 * radius * (np.arcsin(high) - np.arcsin(low)))

    def area(u: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(u * np.sqrt(1 - u * u) + np.arcsin(u))

    return np.asarray((area(high) - area(low)) * radius**2)


def _nearest(
    lines: Polylines, field: tuple[float, float], pixel: float, radius: float | None
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Labels, distance to the nearest centre line by its radius, and radius in px."""
    shape = grid_of(field, pixel)
    first = lines.segments()
    owner = lines.ids[np.searchsorted(lines.starts, first, side="right") - 1]
    many = lines.ids.max(initial=0) > np.iinfo(np.uint16).max
    labels = np.zeros(shape, np.uint32 if many else np.uint16)
    nearest, thick = np.full(shape, np.inf), np.ones(shape)
    radii = lines.radii if radius is None else np.full(len(lines.radii), float(radius))
    _stamp(
        first, lines.points, np.maximum(radii, 1e-3), owner, float(pixel), nearest,
        thick, labels,
    )  # fmt: skip
    return labels, nearest, thick


def tube_labels(
    lines: Polylines, field: tuple[float, float], pixel: float,
    radius: float | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Return which tube each pixel shows.

    Parameters
    ----------
    lines, field, pixel
        As in `tube_maps`.
    radius : float, optional
        Of all tubes, nm, in place of theirs: for lines that are thinner than a pixel.

    Returns
    -------
    ndarray, shape (Y, X)
        The labels of `tube_maps`.

    Raises
    ------
    PhantomscopeError
        If the field is no whole number of pixels.
    """
    return _nearest(lines, field, pixel, radius)[0]


def tube_maps(
    lines: Polylines, field: tuple[float, float], pixel: float, *,
    profile: Profile = "volume",
) -> tuple[NDArray[Any], NDArray[np.float32]]:  # fmt: skip
    """Draw lines as round tubes.

    Parameters
    ----------
    lines : Polylines
        In nm, with their radii.
    field : tuple of float
        Height and width, nm; whole pixels.
    pixel : float
        Side of a pixel, nm.
    profile : {"volume", "surface"}
        Whether `matter` is the thickness of the tube, or the area of its wall. The
        nearest centre line counts, so that a branched tube is one body.

    Returns
    -------
    labels : ndarray, shape (Y, X)
        uint16, or uint32 for ids above 65535: the id of the tube whose centre line is
        nearest, in units of its radius; 0 is background. Ids that are not seen are
        left out: numbers need not be without gaps.
    matter : ndarray, shape (Y, X)
        float32: the thickness in nm (up to the diameter), or the area of wall per
        area of the image (2 in the middle, more at the rim). 0 outside; the mean over
        the width of a pixel across the tube.

    Raises
    ------
    PhantomscopeError
        If the field is no whole number of pixels.
    """
    labels, nearest, thick = _nearest(lines, field, pixel, None)
    surface = profile == "surface"
    matter = _depth(nearest, thick, surface) * (1.0 if surface else pixel)
    return labels, matter.astype(np.float32)

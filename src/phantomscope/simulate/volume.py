"""Volumes with fitted parameters: nuclei as turned ellipsoids that touch and overlap.

The same rules as for images (`sketch.draw_sketch`): a nucleus stands anywhere, or
beside another one; it may cover, and be covered, up to a share; where nuclei overlap
light adds up and the later label wins. Distances are in space: px of y.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from phantomscope.config.simulation import Simulate
from phantomscope.simulate.background import finished
from phantomscope.simulate.parameters import SketchType, Volume, quantile
from phantomscope.simulate.raster import label_type
from phantomscope.simulate.shapes import foreground_region, smooth_field

TRIES = 40
# Labels of fewer pixels are slivers that an edge or an overlap left.
SLIVER = 5


def without_slivers(labels: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """Renumber the labels 1 ... n; slivers left by an edge or an overlap are erased."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = np.flatnonzero(sizes >= SLIVER)
    table = np.zeros(len(sizes), label_type(len(kept)))
    table[kept] = np.arange(1, len(kept) + 1)
    return np.asarray(table[labels])


@numba.njit(cache=True, nogil=True)
def _bounds(centre, axes, shape):  # type: ignore[no-untyped-def]
    """First and last voxel that a turned ellipsoid may reach, and whether it fits."""
    first, stop = np.empty(3, np.int64), np.empty(3, np.int64)
    fits = True
    widest = max(axes[1], axes[2])
    for axis in range(3):
        half = axes[0] if axis == 0 else widest
        first[axis] = int(np.floor(centre[axis] - half))
        stop[axis] = int(np.ceil(centre[axis] + half)) + 1
        fits = fits and first[axis] >= 0 and stop[axis] <= shape[axis]
    return first, stop, fits


@numba.njit(cache=True, nogil=True)
def _within(offset, axes, spacing, cosine, sine):  # type: ignore[no-untyped-def]
    """Value of equation 1 for an offset in voxels; semi-axes are in px of y."""
    dz, dy, dx = (
        offset[0] * spacing[0], offset[1] * spacing[1], offset[2] * spacing[2],
    )  # fmt: skip
    v, u = cosine * dy + sine * dx, cosine * dx - sine * dy
    return (dz / axes[0]) ** 2 + (v / axes[1]) ** 2 + (u / axes[2]) ** 2


@numba.njit(cache=True, nogil=True)
def _covered(  # type: ignore[no-untyped-def]
    labels, centre, axes, spacing, cosine, sine, first, stop, sizes, hits
):
    """Largest share of the new or of an old nucleus that would be covered."""
    total, shared, most = 0, 0, 0.0
    for z in range(first[0], stop[0]):
        for y in range(first[1], stop[1]):
            for x in range(first[2], stop[2]):
                offset = (z - centre[0], y - centre[1], x - centre[2])
                if _within(offset, axes, spacing, cosine, sine) <= 1.0:
                    total += 1
                    other = labels[z, y, x]
                    if other > 0:
                        shared += 1
                        hits[other] += 1
                        most = max(most, hits[other] / sizes[other])
    if shared > 0:
        for z in range(first[0], stop[0]):
            for y in range(first[1], stop[1]):
                for x in range(first[2], stop[2]):
                    hits[labels[z, y, x]] = 0
        most = max(most, shared / total)
    return most


@numba.njit(cache=True, nogil=True)
def _add(  # type: ignore[no-untyped-def]
    labels, light, number, centre, axes, spacing, cosine, sine, first, stop, grey, dark
):
    """Draw a nucleus and return its voxels."""
    count = 0
    for z in range(first[0], stop[0]):
        for y in range(first[1], stop[1]):
            for x in range(first[2], stop[2]):
                offset = (z - centre[0], y - centre[1], x - centre[2])
                if _within(offset, axes, spacing, cosine, sine) <= 1.0:
                    count += 1
                    labels[z, y, x] = number
                    value = grey
                    for m in range(len(dark)):
                        away = 0.0
                        for axis in range(3):
                            step = offset[axis] * spacing[axis] - dark[m, axis]
                            away += step * step
                        if away <= dark[m, 3] ** 2:
                            value *= dark[m, 4]
                    light[z, y, x] += value
    return count


@numba.njit(cache=True, nogil=True)
def _place(  # type: ignore[no-untyped-def]
    labels, light, allowed, nuclei, radius, clustered, greys, dark, spacing, overlap,
    apart, tries, rng,
):  # fmt: skip
    shape = np.array(labels.shape)
    count = len(nuclei)
    centres, sizes = np.zeros((count + 1, 3)), np.ones(count + 1)
    hits, which = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    longest = nuclei.max()
    placed = 0
    centre = np.empty(3)
    for n in range(count):
        axes = nuclei[n]
        turn = rng.random() * np.pi
        cosine, sine = np.cos(turn), np.sin(turn)
        in_voxels = np.empty(3)
        for axis in range(3):
            in_voxels[axis] = axes[axis] / spacing[axis]
        # Turned: either axis of the plane may lie along y or x.
        in_voxels[1] = max(axes[1], axes[2]) / min(spacing[1], spacing[2])
        in_voxels[2] = in_voxels[1]
        beside = clustered[n] and not apart
        for _ in range(tries):
            if beside and placed > 0:
                old = int(rng.random() * placed) + 1
                other = which[old]
                # A direction on the sphere, stretched as the nuclei are.
                up = 2 * rng.random() - 1
                around = rng.random() * 2 * np.pi
                reach = 0.75 + 0.35 * rng.random()
                flat = np.sqrt(1 - up * up)
                across = np.sqrt(axes[1] * axes[2]) + np.sqrt(
                    nuclei[other, 1] * nuclei[other, 2]
                )
                step = (
                    (axes[0] + nuclei[other, 0]) * up,
                    across * flat * np.sin(around),
                    across * flat * np.cos(around),
                )
                for axis in range(3):
                    centre[axis] = np.floor(
                        centres[old, axis] + reach * step[axis] / spacing[axis] + 0.5
                    )
            else:
                for axis in range(3):
                    centre[axis] = int(rng.random() * shape[axis])
            first, stop, fits = _bounds(centre, in_voxels, shape)
            if not fits or not allowed[int(centre[1]), int(centre[2])]:
                continue
            if apart:
                nearest = np.inf
                for old in range(1, placed + 1):
                    away = 0.0
                    for axis in range(3):
                        step = (centres[old, axis] - centre[axis]) * spacing[axis]
                        away += step * step
                    nearest = min(nearest, away)
                if nearest < 4 * longest * longest:
                    continue
            limit = overlap if beside else 0.0
            share = _covered(
                labels, centre, axes, spacing, cosine, sine, first, stop, sizes, hits
            )
            if share <= limit:
                placed += 1
                centres[placed] = centre
                which[placed] = n
                sizes[placed] = _add(
                    labels, light, placed, centre, axes, spacing, cosine, sine, first,
                    stop, greys[n], dark[n],
                )  # fmt: skip
                break
    return placed


def semi_axes(
    radius: NDArray[np.float64], elongation: NDArray[np.float64], volume: Volume
) -> NDArray[np.float64]:
    """Semi-axes (z, minor, major) of ellipsoids, in px of y.

    Parameters
    ----------
    radius : ndarray, shape (n,)
        Of the ball of the same volume, px of y.
    elongation : ndarray, shape (n,)
        Major by minor axis in the plane.
    volume : Volume
        Says the semi-axis along z relative to those across.
    """
    across = radius / np.cbrt(volume.axial)
    return np.stack(
        [across * volume.axial, across / np.sqrt(elongation),
         across * np.sqrt(elongation)], axis=1,
    )  # fmt: skip


def _nucleoli(
    axes: NDArray[np.float64], options: Simulate, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Dark balls (z, y, x from the centre, radius, factor), shape (n, m, 5)."""
    low, high = options.nucleoli
    n = len(axes)
    there = np.arange(high) < rng.integers(low, high + 1, n)[:, None]
    direction = rng.standard_normal((n, high, 3))
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    # Within half of the way to the surface, evenly over the volume.
    place = 0.5 * np.cbrt(rng.uniform(size=(n, high, 1))) * direction
    least = np.stack([axes[:, 0], axes[:, 1], axes[:, 1]], axis=1)
    ball = np.cbrt(axes.prod(axis=1))[:, None, None]
    size = np.where(there[..., None], ball * rng.uniform(0.12, 0.22, (n, high, 1)), -1)
    factor = rng.uniform(*options.nucleolus_contrast, (n, high, 1))
    # A radius of 0 leaves the voxel in the middle: far away it meets none.
    place = np.where(there[..., None], place * least[:, None], 1e9)
    return np.concatenate([place, np.maximum(size, 0), factor], axis=2)


def draw_volume(
    kind: SketchType, options: Simulate, shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[Any]]:  # fmt: skip
    """Draw one labelled volume with fitted parameters.

    Parameters
    ----------
    kind : SketchType
        Fitted to volumes.
    options : Simulate
        Placement, foreground (the same in each plane), nucleoli, texture. Nuclei are
        not deformed.
    shape : tuple of int
        (Z, Y, X).
    rng : Generator
        Source of everything random.

    Returns
    -------
    sketch : ndarray, shape (Z, Y, X)
        float32, unit intensities, with soft edges and without noise.
    labels : ndarray, shape (Z, Y, X)
        uint16 or uint32, 1 ... n without gaps.
    """
    assert kind.volume is not None
    spacing = np.array(kind.volume.spacing)
    largest = semi_axes(
        np.array(kind.radius[-1:]), np.array(kind.elongation[-1:]), kind.volume
    )[0]
    widest = np.array([largest[0], largest[2], largest[2]]) / spacing
    margin = np.ceil(widest).astype(int) + 2
    full = tuple(int(s + 2 * m) for s, m in zip(shape, margin, strict=True))
    labels, light = np.zeros(full, np.int32), np.zeros(full, np.float32)
    allowed = foreground_region(
        rng, (full[1], full[2]), options.foreground, kind.radius[3]
    )
    density = float(quantile(kind.density, rng.uniform()))
    # Where centres come to lie: nuclei are whole within the margins.
    usual = semi_axes(
        np.array(kind.radius[3:4]), np.array(kind.elongation[3:4]), kind.volume
    )[0]
    room = np.array(full) - 2 * np.array([usual[0], usual[2], usual[2]]) / spacing
    voxels = float(np.prod(np.maximum(room, shape)) * allowed.mean())
    count = max(int(rng.poisson(density * voxels / 1e6)), 1)
    radius, elongation, intensity = kind.draw(rng, count).T
    if options.intensity_jitter:
        intensity *= np.exp(options.intensity_jitter * rng.standard_normal(count))
    axes = semi_axes(radius, elongation, kind.volume)
    _place(
        labels, light, allowed, axes, radius, rng.uniform(size=count) < kind.clustering,
        intensity, _nucleoli(axes, options, rng), spacing,
        options.largest_overlap(kind.overlap),
        options.placement == "non_overlapping", TRIES, rng,
    )  # fmt: skip
    if options.texture > 0:
        scale = tuple(np.maximum(2.0, kind.radius[3] / 2 / spacing))
        field = options.texture * smooth_field(rng, full, scale)
        light = np.maximum(light * (1 + field), 0)
    inner = tuple(slice(m, m + s) for m, s in zip(margin, shape, strict=True))
    drawn = finished(light, kind, rng)[inner]
    return np.ascontiguousarray(drawn), without_slivers(labels[inner])

"""Boundaries of instances as an image, and instances from such an image."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import skimage
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from phantomscope.errors import PhantomscopeError
from phantomscope.images.labels import compact_labels
from phantomscope.measure.basins import Lines, divide, enclosed

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Variant = Literal["basins", "published"]
Border = Literal["closed", "open"]

SMALLEST_AREA = 12
# Around the image lies background: numbered 1 there, two pixels wide.
FRAME = 2
# A solid lump that touches objects along more than this share is where they meet.
MEETING = 0.1


def boundary_map(labels: ArrayLike, width: int = 1) -> NDArray[np.float32]:
    """Draw the boundary of each object.

    A pixel of an object is boundary if one of its four neighbours is not of this
    object, as in CellProfiler's outlines. Outside the image is nothing, so that the
    boundary of an object that the image cuts runs along the image's border. Objects
    that touch keep their own boundaries: together they are two pixels thick.

    Parameters
    ----------
    labels : array_like of integer, shape (Y, X)
        Instance labels, 0 is background.
    width : int
        In px, odd; above 1 the boundary is dilated by a square of this side.

    Returns
    -------
    ndarray, shape (Y, X)
        float32: 1 on boundaries, -1 elsewhere.

    Raises
    ------
    PhantomscopeError
        If the width is not odd and positive, or the labels are no integer image.
    """
    labels, width = np.asarray(labels), _odd(width)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise PhantomscopeError(
            f"labels of shape {labels.shape} and type {labels.dtype} are no image of "
            "instances",
            fix="give integers of shape (Y, X)",
        )
    inner = skimage.segmentation.find_boundaries(np.pad(labels, 1), mode="inner")[
        1:-1, 1:-1
    ]
    if width > 1:
        inner = ndimage.binary_dilation(inner, np.ones((width, width)))
    return np.where(inner, np.float32(1), np.float32(-1))


def _odd(width: int) -> int:
    if width < 1 or width % 2 == 0:
        raise PhantomscopeError(
            f"a boundary is {width} px wide, which is not odd and positive",
            fix="use 1, or 3",
        )
    return width


def decode_boundaries(
    boundaries: ArrayLike,
    width: int = 1,
    *,
    seeds: Labels | None = None,
    border: Border = "closed",
    level: float = 0.0,
    certainty: float = 0.5,
    reach: float = 12.0,
    smallest: int = SMALLEST_AREA,
    variant: Variant = "basins",
) -> Labels:
    """Find the objects that boundaries enclose.

    The image is divided into basins by the watershed of the distance from boundaries,
    whose loose ends are bridged for this. Neighbouring basins are then merged, weakest
    line first, until every line between two is mostly boundary. What lies inside
    follows from the thickness of boundaries (see `basins.enclosed`), since each object
    has one of its own. A lump of boundary without an inside is an object, too.

    Parameters
    ----------
    boundaries : array_like, shape (Y, X)
        Boundary above `level`, as of `boundary_map`: about -1 to 1 and perhaps noisy,
        or bool.
    width : int
        Of the boundaries, px: that of `boundary_map`.
    seeds : ndarray of integer, shape (Y, X), optional
        One piece of each object, such as the nuclei of cells. Exactly these objects
        are found, under their numbers.
    border : {"closed", "open"}
        Whether boundaries of objects that the image cuts run along its border. If
        ``closed``, what reaches the border without a boundary is background.
    level : float
        What counts as boundary.
    certainty : float
        Share of boundary, 0 to 1, from which a line divides.
    reach : float
        Longest bridge over a gap, px. A bridge is where a line may be, no evidence.
    smallest : int
        Smaller objects are left out, px.
    variant : {"basins", "published"}
        ``published``: threshold, closing by 3 x 3, outer contours filled and numbered,
        as in the helper of CellResDM's released code (Xing et al.). Needs no other
        option than `level`.

    Returns
    -------
    ndarray, shape (Y, X)
        Labels from 1 without gaps, or those of the seeds; 0 is background.

    Raises
    ------
    PhantomscopeError
        If the width is not odd and positive, the map is no image or not finite, or the
        seeds have another shape.
    """
    values, width = np.asarray(boundaries), _odd(width)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise PhantomscopeError(
            f"boundaries of shape {values.shape} are no image of finite numbers",
            fix="give one channel of shape (Y, X)",
        )
    if values.dtype == bool:
        values = np.where(values, 1, -1)
    if variant == "published":
        return _published(values > level)
    if seeds is not None and seeds.shape != values.shape:
        raise PhantomscopeError(
            f"seeds have shape {seeds.shape}, boundaries {values.shape}",
            fix="give both on the same grid",
        )
    # Two or three pixels alone are noise.
    solid = skimage.morphology.remove_small_objects(
        values > level, max_size=2 * width, connectivity=2
    )
    strength = (np.clip(values, -1, 1).astype(np.float32) + 1) / 2
    # A pixel that was noise is no boundary.
    strength = np.where(solid, strength, np.minimum(strength, 0.5))
    solid, strength, marks = _framed(solid, strength, seeds, width, border)
    parts, lines = divide(strength, solid, marks, width, certainty, reach)
    objects = _objects(parts, lines, marks, border)
    found = _grown(parts, solid, objects)
    if seeds is None:
        found = np.where(found > 0, found, _lumps(solid, found, width))
    margin = FRAME + width // 2
    found = found[margin:-margin, margin:-margin]
    sizes = np.bincount(found.ravel())
    found = np.where(sizes[found] >= smallest, found, 0)
    if seeds is None:
        return compact_labels(found)
    numbers = np.append([0, 0], np.unique(seeds[seeds > 0]))
    return np.asarray(numbers[found], seeds.dtype)


def _published(solid: Mask) -> Labels:
    """Close, fill and number as the published code does."""
    square = np.ones((3, 3))
    # As in OpenCV, closing takes what is outside the image for neither.
    closed = ndimage.binary_erosion(
        ndimage.binary_dilation(solid, square), square, border_value=1
    )
    return compact_labels(ndimage.label(ndimage.binary_fill_holes(closed), square)[0])


def _framed(
    solid: Mask, strength: Image, seeds: Labels | None, width: int, border: Border
) -> tuple[Mask, Image, Labels]:
    """Lay background around an image, and mark it and the seeds."""
    # A wide boundary goes on beyond the border.
    margin = FRAME + width // 2
    solid = np.pad(np.pad(solid, width // 2, "edge"), FRAME)
    strength = np.pad(np.pad(strength, width // 2, "edge"), FRAME)
    if border == "open":
        wall = np.zeros_like(solid)
        wall[1:-1, 1:-1] = True
        wall[2:-2, 2:-2] = False
        solid, strength = solid | wall, np.where(wall, 1, strength)
    marks = np.zeros(solid.shape, np.int32)
    if seeds is not None:
        numbers = np.append(0, np.unique(seeds[seeds > 0]))
        place = np.searchsorted(numbers, seeds)
        inner = np.where(seeds > 0, place + 1, 0)
        marks[margin:-margin, margin:-margin] = inner
    marks[[0, -1]] = 1
    marks[:, [0, -1]] = 1
    return solid, strength, marks


def _objects(parts: Labels, lines: Lines, marks: Labels, border: Border) -> set[int]:
    """Choose the basins that are objects."""
    if marks.max() > 1:
        return set(range(2, int(marks.max()) + 1))
    sizes = np.bincount(parts.ravel())
    first = {a: (0.0, float(sizes[a])) for a in lines}
    if border == "open":
        # The border is no evidence, but background is likelier to lie at it.
        for a, line in lines.pop(1, {}).items():
            del lines[a][1]
            first[a] = (line.length, float(sizes[a]))
        return enclosed(lines, {a for a, row in lines.items() if not row}, first)
    return enclosed(lines, {1}, first)


def _grown(parts: Labels, solid: Mask, objects: set[int]) -> Labels:
    """Let objects have what of their walls is no nearer to something else."""
    chosen = np.zeros(int(parts.max()) + 1, bool)
    chosen[list(objects)] = True
    core = chosen[parts] & ~solid
    apart, place = ndimage.distance_transform_cdt(
        ~core, "chessboard", return_indices=True
    )
    away = ndimage.distance_transform_cdt(solid | core, "chessboard")
    if not core.any():
        return np.zeros_like(parts)
    own = core | (solid & (apart <= away))
    return np.where(own, parts[tuple(place)], 0)


def _lumps(solid: Mask, found: Labels, width: int) -> Labels:
    """Find objects that are all boundary: too thin to have an inside."""
    free = ndimage.binary_opening(solid & (found == 0), np.ones((width + 1,) * 2))
    free = ndimage.binary_erosion(free, np.ones((width, width)))
    lumps, count = ndimage.label(free)
    if not count:
        return np.zeros_like(found)
    numbers = np.arange(count + 1)
    depth = ndimage.distance_transform_cdt(free, "chessboard")
    thick = ndimage.maximum(depth, lumps, numbers)
    ring = np.where(free, 0, ndimage.maximum_filter(lumps, 2 * width + 1)).ravel()
    around = np.bincount(ring, minlength=count + 1)
    shared = np.bincount(ring, found.ravel() > 0, count + 1)
    keep = (thick <= width) & (shared <= MEETING * around) & (numbers > 0)
    return np.where(keep[lumps], lumps + int(found.max(initial=0)), 0)


def instances_from_outlines(outlines: ArrayLike) -> Labels:
    """Fill outlines of objects, as CellProfiler draws and saves them.

    Its outlines do not run along the border of the image.

    Parameters
    ----------
    outlines : array_like, shape (Y, X) or (Y, X, 3 or 4)
        Binary, in one colour (also over a grey image), or each outline in the number
        of its object.

    Returns
    -------
    ndarray, shape (Y, X)
        Labels, 0 is background: from 1, or the numbers of the outlines, so that an
        object in pieces keeps one. Without numbers, thin ends that an outline ties off
        are objects of their own if they have 12 px or more.

    Raises
    ------
    PhantomscopeError
        If the shape is that of no image.
    """
    values = np.asarray(outlines)
    if values.ndim == 3 and values.shape[-1] in (3, 4):
        colour = values[..., :3].astype(float)
        saturation = np.ptp(colour, axis=-1)
        shown = saturation if saturation.any() else colour.max(axis=-1)
        values = shown > shown.max(initial=0) / 2
    if values.ndim != 2:
        raise PhantomscopeError(
            f"outlines of shape {values.shape} are no image",
            fix="give one of shape (Y, X), or (Y, X, 3) in colour",
        )
    numbered = values.dtype.kind in "iu" and len(np.unique(values)) > 2
    found = decode_boundaries(
        values > 0, border="open", smallest=1 if numbered else SMALLEST_AREA
    )
    return _numbered(found, values) if numbered else found


def _numbered(found: Labels, outlines: Labels) -> Labels:
    """Give each object the number that most of its outline has."""
    on = (outlines > 0) & (found > 0)
    pairs, counts = np.unique(
        np.stack([found[on], outlines[on]]), axis=1, return_counts=True
    )
    numbers = np.zeros(int(found.max(initial=0)) + 1, outlines.dtype)
    order = np.argsort(counts, kind="stable")
    numbers[pairs[0, order]] = pairs[1, order]
    return np.where(outlines > 0, outlines, numbers[found])

"""Basins between the walls of a boundary map, merged where no wall divides them."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import skimage
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

# Weight of narrow passages in the order of merging: wide ones are crossed first, since
# the space in an object and between objects is wider than most gaps.
PASSAGE = 0.5
# Share of pairs with a thick wall: below it is one object's wall, above it that of two.
# Where walls meet they are thick, too, and the ends of a line lie there.
DOUBLE = (0.5, 0.9)


@dataclass
class Line:
    """Where two basins meet, summed over pairs of neighbouring pixels.

    Attributes
    ----------
    length : float
        Pairs of pixels.
    wall : float
        Sum of the strength of the wall, 0 to 1 in each pair.
    covered : float
        Pairs of which at least one pixel is wall.
    double : float
        Pairs whose wall is thicker than that of one object, by a pixel or more.
    passage : float
        Greatest distance to a wall, px.
    """

    length: float
    wall: float
    covered: float
    double: float
    passage: float

    def __add__(self, other: Line) -> Line:
        return Line(
            self.length + other.length,
            self.wall + other.wall,
            self.covered + other.covered,
            self.double + other.double,
            max(self.passage, other.passage),
        )

    def strength(self, ends: float) -> float:
        """Share of the line that is wall, 0 to 1.

        A line across a passage ends in the walls beside it: so many pairs at its ends
        say nothing. Where there is no passage at all, the wall is whole.
        """
        if self.covered == self.length:
            return self.wall / self.length
        inner = self.length - min(ends, self.covered)
        return max(0.0, self.wall - min(ends, self.covered)) / inner


Lines = dict[int, dict[int, Line]]


def bridges(solid: Mask, reach: float) -> Mask:
    """Draw straight lines from the loose ends of walls to the nearest other ends.

    Parameters
    ----------
    solid : ndarray of bool, shape (Y, X)
        What counts as wall.
    reach : float
        Longest line, px.

    Returns
    -------
    ndarray of bool, shape (Y, X)
        The lines, without the walls.
    """
    drawn = solid.copy()
    # Short ones first, so that a gap of a pixel is no end for a longer one.
    for longest in reach / 2.0 ** np.arange(2, -1, -1):
        for a, b in _loose_ends(drawn, longest):
            drawn[skimage.draw.line(*a, *b)] = True
    return drawn & ~solid


def _loose_ends(solid: Mask, reach: float) -> list[tuple[Any, Any]]:
    """Pair ends of lines, the nearest first, each with one other."""
    thin = skimage.morphology.skeletonize(solid)
    crowd = scipy.ndimage.convolve(thin.astype(np.uint8), np.ones((3, 3), np.uint8))
    ends = np.argwhere(thin & (crowd <= 2))
    if len(ends) < 2:
        return []
    pairs = scipy.spatial.cKDTree(ends).query_pairs(reach, output_type="ndarray")
    apart = np.hypot(*(ends[pairs[:, 0]] - ends[pairs[:, 1]]).T)
    used = np.zeros(len(ends), bool)
    found = []
    for a, b in pairs[np.lexsort((pairs[:, 1], pairs[:, 0], apart))]:
        if not (used[a] or used[b]):
            used[[a, b]] = True
            found.append((ends[a], ends[b]))
    return found


def divide(
    wall: Floats, solid: Mask, marks: Labels, width: int, certainty: float,
    reach: float,
) -> tuple[Labels, Lines]:  # fmt: skip
    """Divide an image where there are walls.

    Parameters
    ----------
    wall : ndarray, shape (Y, X)
        Strength of the wall, 0 to 1.
    solid : ndarray of bool, shape (Y, X)
        What counts as wall.
    marks : ndarray of integer, shape (Y, X)
        Basins that are known and stay apart, numbered from 1.
    width : int
        Thickness of the wall of one object, px.
    certainty : float
        A line with at least this share of wall divides.
    reach : float
        Longest gap that is bridged, px.

    Returns
    -------
    parts : ndarray, shape (Y, X)
        int32 numbers of basins, each pixel in one; marked ones keep theirs.
    lines : dict of dict of Line
        Between neighbouring basins, by the two numbers in either order.
    """
    # Bridges are places where a line may run; as wall they count nothing.
    depth = scipy.ndimage.distance_transform_edt(~(solid | bridges(solid, reach)))
    parts = _basins(wall, solid, depth, marks)
    lines = _lines_between(parts, wall, solid, depth, width)
    peaks = scipy.ndimage.maximum(depth, parts, np.arange(parts.max() + 1))
    ends = 2.0 * (width + 1)
    owner = _merge(lines, np.asarray(peaks), certainty, ends, int(marks.max()))
    return owner[parts], lines


def _basins(wall: Floats, solid: Mask, depth: Floats, marks: Labels) -> Labels:
    """Watershed of the distance from walls, from all its maxima and from the marks."""
    # Neighbours over edges only: over corners one looks through a thin wall.
    cross = scipy.ndimage.generate_binary_structure(2, 1)
    highest = scipy.ndimage.maximum_filter(depth, footprint=cross)
    markers, _ = scipy.ndimage.label((depth == highest) & (depth > 0))
    markers[markers > 0] += int(marks.max())
    markers[marks > 0] = marks[marks > 0]
    # Walls are flooded last, the strongest part at the very end.
    heights = np.where(solid, wall, -depth)
    return np.asarray(skimage.segmentation.watershed(heights, markers), np.int32)


def _lines_between(
    parts: Labels, wall: Floats, solid: Mask, depth: Floats, width: int
) -> Lines:
    """Measure the lines between all neighbouring basins."""
    inner = scipy.ndimage.distance_transform_cdt(solid, "chessboard")
    found = []
    for axis in (0, 1):
        a, b = np.moveaxis(parts, axis, 0)[:-1], np.moveaxis(parts, axis, 0)[1:]
        where = a != b
        ones, others = (
            [np.moveaxis(v, axis, 0)[use][where] for v in (wall, solid, inner, depth)]
            for use in (slice(None, -1), slice(1, None))
        )
        found.append(
            np.stack([
                np.minimum(a, b)[where], np.maximum(a, b)[where],
                np.maximum(ones[0], others[0]), ones[1] | others[1],
                ones[2] + others[2] > width, np.minimum(ones[3], others[3]),
            ])
        )  # fmt: skip
    pairs = np.concatenate(found, axis=1)
    base = int(parts.max()) + 1
    codes, place = np.unique(
        pairs[0].astype(np.int64) * base + pairs[1].astype(np.int64),
        return_inverse=True,
    )
    passage = np.zeros(len(codes))
    np.maximum.at(passage, place, pairs[5])
    sums = [np.bincount(place, weights, len(codes)) for weights in (None, *pairs[2:5])]
    lines: Lines = {number: {} for number in np.unique(parts).tolist()}
    for code, values in zip(codes.tolist(), np.stack([*sums, passage], 1), strict=True):
        low, high = divmod(code, base)
        lines[low][high] = lines[high][low] = Line(*values.tolist())
    return lines


def _merge(
    lines: Lines, peaks: Floats, certainty: float, ends: float, fixed: int
) -> Labels:
    """Merge neighbours again and again, first those with the least wall between them.

    Two basins up to number `fixed` stay apart. The lines become those between what is
    left, and the result is the number of each basin's basin: the lowest that is in it.
    """
    peaks = peaks.astype(float).copy()
    owner = np.arange(len(peaks))
    heap: list[tuple[float, int, int, int, Line]] = []

    count = itertools.count()

    def push(a: int, b: int) -> None:
        a, b = min(a, b), max(a, b)
        line = lines[a][b]
        strength = line.strength(ends)
        if strength < certainty and b > fixed:
            narrow = 1 - line.passage / max(1.0, min(peaks[a], peaks[b]))
            heapq.heappush(heap, (strength + PASSAGE * narrow, a, b, next(count), line))

    for a in sorted(lines):
        for b in sorted(lines[a]):
            if a < b:
                push(a, b)
    while heap:
        _, a, b, _, line = heapq.heappop(heap)
        # A line that has grown since is elsewhere in the heap.
        if lines.get(a, {}).get(b) is not line:
            continue
        owner[b], peaks[a] = a, max(peaks[a], peaks[b])
        for other, far in lines.pop(b).items():
            del lines[other][b]
            if other == a:
                continue
            near = lines[a].get(other)
            joined = far if near is None else near + far
            lines[a][other] = lines[other][a] = joined
            push(a, other)
    # The owner of an owner has a lower number still.
    for number in range(len(owner)):
        owner[number] = owner[owner[number]]
    return owner


def enclosed(
    lines: Lines, outside: set[int], first: dict[int, tuple[float, float]]
) -> set[int]:
    """Tell objects from the space between them by the thickness of their walls.

    Each object has a wall of its own. Where two touch, the wall between them is
    thicker by one pixel than between one of them and the background, and there is
    never background on both sides. All are objects at first; what contradicts its
    neighbours most becomes the other of object and background, until nothing does.

    Parameters
    ----------
    lines : dict of dict of Line
        Between basins.
    outside : set of int
        Basins that are known to be background.
    first : dict of tuple
        Of several that contradict as much, that with the largest value changes.

    Returns
    -------
    set of int
        The objects.
    """
    costs = {
        (a, b): _costs(line) for a, row in lines.items() for b, line in row.items()
    }
    objects = set(lines) - outside

    def gain(a: int) -> float:
        """Return what is won if a basin becomes the other."""
        total = 0.0
        for b in lines[a]:
            mixed, objects_both, empty_both = costs[a, b]
            if b in objects:
                total += objects_both - mixed
            else:
                total += mixed - empty_both
        return total if a in objects else -total

    free = set(lines) - outside
    gains = {a: gain(a) for a in sorted(free)}
    # Each change lowers the total cost, so that this ends.
    while gains:
        best = max(gains, key=lambda a: (gains[a], first[a], -a))
        if gains[best] <= 1e-6:
            break
        objects ^= {best}
        for a in ({best} | set(lines[best])) & free:
            gains[a] = gain(a)
    return objects


def _costs(line: Line) -> tuple[float, float, float]:
    """Cost of a line between object and background, two objects, two backgrounds."""
    if not line.covered:
        return 0.0, 0.0, 0.0
    low, high = DOUBLE
    share = (line.double / line.covered - low) / (high - low)
    double = min(max(share, 0.0), 1.0)
    return line.wall * double, line.wall * (1 - double), line.wall

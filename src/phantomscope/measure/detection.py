"""Points, boxes and masks that were found, against the true ones.

Two rules of counting stand beside each other: one true object to one found one, and
that of Javer & Rittscher 2019 (released code), where two true points in one found
object both count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.matching import Matching, Rates, assign, threshold_keys

Floats = NDArray[np.float64]
BOX_THRESHOLDS: tuple[float, ...] = (0.01, 0.1, 0.25, 0.5)


@dataclass(frozen=True)
class Counts(Rates):
    """True positives, false positives and false negatives, and what follows.

    Under the published rule `fp` may be negative: two points in one object are two
    true positives of one object. Scores of 0/0 are 1.0 if there was nothing to find
    and nothing was found, else 0.0, as in `Matching`.
    """

    tp: int
    fp: int
    fn: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)


def pool_counts(counts: Sequence[Counts | Matching]) -> Counts:
    """Add the counts of images up: scores of the sum are pooled scores."""
    total = Counts(0, 0, 0)
    for part in counts:
        total = total + Counts(part.tp, part.fp, part.fn)
    return total


def _points(points: ArrayLike, name: str = "points") -> Floats:
    found = np.asarray(points, np.float64).reshape(-1, 2)
    if not np.isfinite(found).all():
        raise PhantomscopeError(
            f"some of the {name} are no numbers", fix="leave them out"
        )
    return found


def labels_at(points: ArrayLike, labels: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """Return the label under each point (y, x); 0 where there is none.

    Raises
    ------
    PhantomscopeError
        If a point is outside the image.
    """
    at = np.rint(_points(points)).astype(np.intp)
    outside = (at < 0).any(1) | (at >= np.array(labels.shape)).any(1)
    if outside.any():
        raise PhantomscopeError(
            f"the point {tuple(at[outside][0].tolist())} is outside the image "
            f"{labels.shape}",
            fix="give points as (y, x) in px, counted from 0",
        )
    return np.asarray(labels[at[:, 0], at[:, 1]], np.intp)


def points_in_objects(
    points: ArrayLike, labels: NDArray[np.integer[Any]]
) -> dict[str, Counts]:
    """Count true points that lie in found objects, under both rules.

    Parameters
    ----------
    points : array_like, shape (n, 2)
        True points (y, x), px.
    labels : ndarray, shape (Y, X)
        Found objects; 0 is background.

    Returns
    -------
    dict
        ``one_to_one``: an object is found with one of its points, further points in it
        are missed. ``published``: each point with an object under it is found; false
        ones are the objects less these points (Javer & Rittscher, released code).
    """
    under = labels_at(points, labels)
    objects = int(np.unique(labels[labels > 0]).size)
    hit, total = int((under > 0).sum()), len(under)
    own = int(np.unique(under[under > 0]).size)
    return {
        "one_to_one": Counts(own, objects - own, total - own),
        "published": Counts(hit, objects - hit, total - hit),
    }


def match_points(truth: ArrayLike, found: ArrayLike, most: float) -> Counts:
    """Match points one to one: as many pairs as possible within a distance.

    Parameters
    ----------
    truth, found : array_like, shape (n, 2), (m, 2)
        Points (y, x).
    most : float
        Greatest distance of a pair, in the unit of the points.
    """
    a, b = _points(truth, "true points"), _points(found, "found points")
    if not most > 0:
        raise PhantomscopeError(
            f"bad distance: {most}", fix="give one above 0, such as half a cell"
        )
    if not len(a) or not len(b):
        return Counts(0, len(b), len(a))
    near = np.linalg.norm(a[:, None] - b[None], axis=2) <= most
    pairs = int((maximum_bipartite_matching(coo_array(near).tocsr()) >= 0).sum())
    return Counts(pairs, len(b) - pairs, len(a) - pairs)


def check_boxes(boxes: ArrayLike, name: str = "boxes") -> Floats:
    """Return boxes (y1, x1, y2, x2), the second corner excluded, shape (n, 4).

    Raises
    ------
    PhantomscopeError
        If a box has no area.
    """
    found = np.asarray(boxes, np.float64).reshape(-1, 4)
    bad = ~((found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1]))
    if bad.any():
        raise PhantomscopeError(
            f"{bad.sum()} of {len(found)} {name} have no area, the first is "
            f"{found[bad][0].tolist()}",
            fix="give boxes as (y1, x1, y2, x2) with y1 < y2 and x1 < x2",
        )
    return found


def box_iou(truth: ArrayLike, found: ArrayLike) -> Floats:
    """Return the intersection over union of each true with each found box.

    Boxes are (y1, x1, y2, x2), the second corner excluded; shape (n, m).
    """
    a, b = check_boxes(truth, "true boxes"), check_boxes(found, "found boxes")
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    iou: Floats = shared / union
    return iou


def match_boxes(
    truth: ArrayLike, found: ArrayLike, thresholds: Sequence[float] = BOX_THRESHOLDS
) -> list[Matching]:
    """Match boxes one to one at each IoU threshold (Hungarian algorithm).

    As many pairs with IoU >= threshold as possible; ties go to the larger sum of IoU.
    Unlike objects of a label image, boxes overlap each other, so that at any threshold
    a box might match two.

    Parameters
    ----------
    truth, found : array_like, shape (n, 4), (m, 4)
        Boxes (y1, x1, y2, x2), the second corner excluded.
    thresholds : sequence of float
        In (0, 1].
    """
    threshold_keys(thresholds)
    iou = box_iou(truth, found)
    made = []
    for threshold in thresholds:
        rows, columns = assign(iou, threshold, disjoint=False)
        total = float(iou[rows, columns].sum())
        made.append(Matching(
            float(threshold), rows.size, iou.shape[1] - rows.size,
            iou.shape[0] - rows.size, total,
        ))  # fmt: skip
    return made


def mask_counts(truth: ArrayLike, found: ArrayLike) -> Counts:
    """Count the pixels of two masks of one shape: shared, false and missed."""
    a, b = np.asarray(truth, bool), np.asarray(found, bool)
    if a.shape != b.shape:
        raise PhantomscopeError(
            f"masks of shapes {a.shape} and {b.shape} do not go together",
            fix="compare masks of the same image",
        )
    shared = int((a & b).sum())
    return Counts(shared, int(b.sum()) - shared, int(a.sum()) - shared)


def pixel_iou(counts: Counts) -> float:
    """Intersection over union of what `mask_counts` found; 1.0 of two empty masks.

    Of pooled counts it is the sum of intersections over that of unions, which is what
    the paper calls mIoU; the mean over images is another figure.
    """
    union = counts.tp + counts.fp + counts.fn
    return counts.tp / union if union else 1.0

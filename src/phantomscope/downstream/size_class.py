"""The class of a found object by its size, for tools that find those of all classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import read_table
from phantomscope.images.files import read_json, write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.labels import compact_labels

OBJECTS = "objects.csv"
TARGET, OTHER = "target", "other"
FILE = "class.json"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SizeRule:
    """Which objects are of the target class.

    Attributes
    ----------
    threshold : float or None
        Area (px) that parts the classes. None: they are not parted, all are kept.
    larger : bool
        Whether targets are those above it.
    accuracy : float
        Balanced accuracy on the objects that it was fitted to: the mean of the shares
        of either class that are told right; 0.5 is no better than chance.
    targets, others : int
        How many these were.
    """

    threshold: float | None
    larger: bool
    accuracy: float
    targets: int
    others: int

    def wanted(self, areas: ArrayLike) -> NDArray[np.bool_]:
        """Say of each area (px) whether such an object is of the target class."""
        sizes = np.asarray(areas, np.float64)
        if self.threshold is None:
            return np.ones(sizes.shape, bool)
        above: NDArray[np.bool_] = sizes > self.threshold
        return above if self.larger else ~above

    def keep(self, labels: NDArray[Any]) -> tuple[NDArray[Any], int]:
        """Return the objects of the target class, renumbered, and how many others.

        Parameters
        ----------
        labels : ndarray, shape (Y, X)
            Objects of all classes; 0 is background.
        """
        areas = np.bincount(np.ravel(labels))
        kept = self.wanted(areas)
        kept[0] = False
        dropped = int(((areas > 0) & ~kept)[1:].sum())
        return compact_labels(np.where(kept[labels], labels, 0)), dropped

    def save(self, folder: Path) -> None:
        """Write `class.json` into the folder of a model."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> SizeRule:
        """Read what `save` wrote.

        Raises
        ------
        PhantomscopeError
            If it is missing or was damaged.
        """
        content = read_json(folder / FILE)
        try:
            return cls(**content)
        except TypeError as error:
            raise PhantomscopeError(
                f"this is no rule of classes by size ({error})",
                where=folder / FILE,
                fix="delete its folder and run `train-finder` again",
            ) from error


def fit_size_rule(targets: ArrayLike, others: ArrayLike) -> SizeRule:
    """Find the area, and on which side of it targets are, that tells classes best.

    Parameters
    ----------
    targets, others : array_like, shape (n,), (m,)
        Areas of the objects of either class, px.

    Returns
    -------
    SizeRule
        Of the highest balanced accuracy. The threshold is midway between two areas;
        of several that are as good, the middle one. Where all objects have one size,
        there is none.

    Raises
    ------
    PhantomscopeError
        If there are no targets.
    """
    own, rest = (np.sort(np.asarray(a, np.float64).ravel()) for a in (targets, others))
    if not own.size:
        raise PhantomscopeError(
            "there is no object of the target class",
            fix="compose images of crops of this class: is `filter.targets` right?",
        )
    sizes = np.unique(np.concatenate([own, rest]))
    if not rest.size:
        return SizeRule(None, True, 1.0, own.size, 0)
    if sizes.size == 1:
        return SizeRule(None, True, 0.5, own.size, rest.size)
    middles = (sizes[:-1] + sizes[1:]) / 2
    # Whole numbers, so that ties are ties: both shares times both counts.
    whole = own.size * rest.size
    above = (own.size - np.searchsorted(own, middles)) * rest.size
    value = above + np.searchsorted(rest, middles) * own.size
    best = max(int(value.max()), 2 * whole - int(value.min()))
    larger = int(value.max()) == best
    ties = np.flatnonzero(value == (best if larger else 2 * whole - best))
    threshold = float(middles[ties[(len(ties) - 1) // 2]])
    return SizeRule(threshold, larger, best / (2 * whole), own.size, rest.size)


def taught_areas(images: ImageSet) -> tuple[Floats, Floats]:
    """Return the areas (px) of target and of other objects of a composed set.

    Parameters
    ----------
    images : ImageSet
        With labels of all objects, and `objects.csv` beside the manifest: `id` of the
        image, `label`, `type` (``target`` or ``other``).

    Raises
    ------
    PhantomscopeError
        If there is no such table, it has another type, names an object twice, or lacks
        one that is labelled.
    """
    where = images.folder / OBJECTS
    table = read_table(where, ("id", "label", "type"))
    unknown = sorted(set(table["type"]) - {TARGET, OTHER})
    if unknown:
        raise PhantomscopeError(
            f"the type {unknown[0]!r} is neither {TARGET!r} nor {OTHER!r}",
            where=where,
            fix="give a folder that `compose-set` writes",
        )
    kinds = {
        (str(name), int(label)): kind
        for name, label, kind in table[["id", "label", "type"]].itertuples(index=False)
    }
    found: dict[str, list[int]] = {TARGET: [], OTHER: []}
    for name in images.ids:
        areas = np.bincount(np.ravel(images.mask(name)))
        for label in np.flatnonzero(areas[1:]) + 1:
            kind = kinds.get((name, int(label)))
            if kind is None or len(kinds) < len(table):
                raise _mixed(name, int(label), kind is None, where)
            found[kind].append(int(areas[label]))
    return _floats(found[TARGET]), _floats(found[OTHER])


def _floats(values: Sequence[int]) -> Floats:
    return np.asarray(values, np.float64)


def _mixed(name: str, label: int, missing: bool, where: Path) -> PhantomscopeError:
    what = (
        f"the object {label} of the image {name!r} has no row in this table"
        if missing
        else "this table names an object twice"
    )
    return PhantomscopeError(
        what, where=where,
        fix="delete the folder of the set and run `compose-set` again",
    )  # fmt: skip

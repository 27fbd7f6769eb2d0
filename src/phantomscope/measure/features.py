"""Morphological features of objects in stained images, by CellProfiler's definitions.

The eight categories of Table 2 of CellResDM (Xing et al.) and ``AreaShape``, which is
measured there but absent from the table. Settings are those of the pipeline of
guided-I2I (Cross-Zamirski et al.). It measures all but Intensity on images that it has
rescaled; here every feature is of the image as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import checks
from phantomscope.measure.features_intensity import (
    centres,
    correlation,
    intensity,
    location,
)
from phantomscope.measure.features_objects import CATEGORIES, Columns, Objects
from phantomscope.measure.features_space import (
    Rings,
    distances,
    neighbours,
    radial,
    shape,
)
from phantomscope.measure.features_texture import granularity, texture

Kind = Literal["nuclei", "cells"]
KINDS: dict[Kind, str] = {"nuclei": "Nuclei", "cells": "Cells"}
# Measured, but not in the published table.
UNPUBLISHED = ("AreaShape",)


def object_features(
    image: ArrayLike,
    labels: ArrayLike,
    channels: Sequence[str],
    kind: Kind = "nuclei",
    keep: ArrayLike | None = None,
) -> pd.DataFrame:
    """Measure each object in each channel.

    Parameters
    ----------
    image : array_like, shape (C, Y, X)
        Stains, 0 ... 1: what 1 means is up to the caller, and the same for all images.
    labels : array_like of integer, shape (Y, X)
        Objects of all the image, 0 is background.
    channels : sequence of str
        Names of the stains, without underscores.
    kind : {"nuclei", "cells"}
        Which neighbours count: within 1 px for nuclei; within 5 px, and those that
        touch, for cells.
    keep : array_like of integer, optional
        Which labels to return; others are only neighbours. The pipeline leaves out
        nuclei at the border of the image, and their cells: see `inner_labels`.

    Returns
    -------
    pandas.DataFrame
        One row per object in the order of labels: ``label``, then float64 columns
        ``<Category>_<Feature>[_<channel>...]`` named as in CellProfiler; NaN where a
        feature is not defined.

    Raises
    ------
    PhantomscopeError
        If the image is not finite, not of 0 ... 1, or does not go with its names or
        the labels.
    """
    stains = _checked(image, channels)
    numbers = checks.labels(labels, "labels")
    checks.same_shape(stains[0], numbers, ("a channel of the image", "labels"))
    objects = Objects.of(numbers)
    found = shape(objects) | centres(objects)
    for distance in distances(kind):
        found |= neighbours(objects, distance)
    rings = Rings(objects)
    for stain, name in zip(stains, channels, strict=True):
        found |= _of_channel(objects, rings, stain, name)
    for (a, first), (b, second) in combinations(zip(stains, channels, strict=True), 2):
        found |= correlation(objects, (a, b), (first, second))
    names = sorted(found, key=lambda name: (category_of(name), name))
    table = pd.DataFrame(
        {"label": objects.numbers.astype(np.int64)} | {n: found[n] for n in names}
    )
    if keep is None:
        return table
    return table[table["label"].isin(np.asarray(keep))].reset_index(drop=True)


def _of_channel(
    objects: Objects, rings: Rings, stain: NDArray[Any], name: str
) -> Columns:
    return (
        intensity(objects, stain, name)
        | location(objects, stain, name)
        | granularity(objects, stain, name)
        | radial(rings, stain, name)
        | texture(objects, stain, name)
    )


def _checked(image: ArrayLike, channels: Sequence[str]) -> NDArray[np.float64]:
    stains = checks.finite(image, "the image", ndim=(3,))
    if len(stains) != len(channels) or len(set(channels)) != len(channels):
        raise PhantomscopeError(
            f"{len(stains)} channels cannot have the names {list(channels)}",
            fix="give each channel a name of its own",
        )
    if any("_" in name or not name for name in channels):
        raise PhantomscopeError(
            f"a channel of {list(channels)} has an underscore or no name",
            fix="underscores divide the parts of feature names: use none",
            example="channels=['DNA', 'ER']",
        )
    if stains.min() < 0 or stains.max() > 1:
        raise PhantomscopeError(
            f"the image spans {stains.min():g} to {stains.max():g}, not 0 to 1",
            fix="divide by the largest possible value, such as 65535",
        )
    return stains


def inner_labels(labels: ArrayLike) -> NDArray[np.int64]:
    """Return the labels, ascending, of objects that do not touch the image's border."""
    numbers = checks.labels(labels, "labels")
    border = np.concatenate([numbers[[0, -1]].ravel(), numbers[:, [0, -1]].ravel()])
    return np.setdiff1d(numbers[numbers > 0], border).astype(np.int64)


def category_of(column: str) -> str:
    """Return the category of a feature by its name, with or without its object's.

    Raises
    ------
    PhantomscopeError
        If the name is that of no feature.
    """
    parts = column.split("_")
    if parts[0] in KINDS.values():
        parts = parts[1:]
    if len(parts) < 2 or parts[0] not in CATEGORIES + UNPUBLISHED:
        raise PhantomscopeError(
            f"{column!r} is the name of no feature",
            fix="features are named <Category>_<Feature>",
            example="Intensity_MeanIntensity_DNA",
        )
    return parts[0]


def feature_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that are features, in their order."""
    known = (*CATEGORIES, *UNPUBLISHED)
    prefixes = tuple(f"{name}_" for name in known) + tuple(
        f"{kind}_{name}_" for kind in KINDS.values() for name in known
    )
    return [str(c) for c in table.columns if str(c).startswith(prefixes)]


def site_features(objects: pd.DataFrame, kind: Kind | None = None) -> pd.Series[Any]:
    """Summarise the objects of a site.

    Parameters
    ----------
    objects : pandas.DataFrame
        Of `object_features`; of several sites at once for a larger unit.
    kind : {"nuclei", "cells"}, optional
        Names then start with ``Nuclei_`` or ``Cells_``, so that both fit one row.

    Returns
    -------
    pandas.Series
        The median of each feature over objects where it is defined, NaN for none, and
        ``Count_Objects``.
    """
    row = objects[feature_columns(objects)].median()
    row["Count_Objects"] = float(len(objects))
    return row if kind is None else row.add_prefix(f"{KINDS[kind]}_")

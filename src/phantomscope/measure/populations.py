"""How alike two populations of objects are: sizes, shapes, distances, brightness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import spatial

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.distribution import wasserstein
from phantomscope.measure.edges import Spacing
from phantomscope.measure.morphology import object_table

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Pair = tuple[Labels, Image]

PROPERTIES = {
    "radius": "px",
    "elongation": "",
    "nearest_neighbour": "px",
    "intensity": "unit intensity",
}
HALVES = 20


def nearest_neighbours(
    labels: Labels, spacing: Spacing | None = None
) -> NDArray[np.float64]:
    """Distance of each object's centroid to the nearest other one.

    Parameters
    ----------
    labels : ndarray, shape ([Z,] Y, X)
        Instance labels.
    spacing : tuple of float, optional
        Voxel along z, y and x.

    Returns
    -------
    ndarray, shape (n,)
        In the order of the labels, px of y; infinity for a single object.
    """
    places = np.nonzero(labels)
    found, which = np.unique(labels[places], return_inverse=True)
    if not len(found):
        return np.empty(0)
    voxel = (1.0, 1.0) if labels.ndim == 2 else spacing or (1.0, 1.0, 1.0)
    count = np.bincount(which)
    centroids = np.stack(
        [
            np.bincount(which, p) / count * side
            for p, side in zip(places, voxel, strict=True)
        ],
        axis=1,
    )
    distances, _ = spatial.cKDTree(centroids).query(centroids, k=2)
    return np.asarray(distances[:, 1])


def population(pairs: Sequence[Pair], spacing: Spacing | None = None) -> pd.DataFrame:
    """Measure the objects of some labelled images.

    Parameters
    ----------
    pairs : sequence of (labels, image)
        Of shape ([Z,] Y, X) each; unit intensities.
    spacing : tuple of float, optional
        Voxel along z, y and x of volumes.

    Returns
    -------
    pandas.DataFrame
        One row per object that no edge cuts: image (its number), radius,
        nearest_neighbour (px of y), elongation, intensity (median above the median of
        what has no label).
    """
    tables = []
    for number, (labels, image) in enumerate(pairs):
        if not labels.any():
            continue
        table = object_table(labels, image, spacing)
        outside = labels == 0
        if outside.any():
            table["intensity"] -= float(np.median(image[outside]))
        table["nearest_neighbour"] = nearest_neighbours(labels, spacing)
        table["image"] = number
        tables.append(table[~table["border"]])
    columns = ["image", *PROPERTIES]
    if not tables:
        return pd.DataFrame(columns=columns, dtype=float)
    return pd.concat(tables, ignore_index=True)[columns]


def compare_populations(
    real: pd.DataFrame, simulated: pd.DataFrame, seed: int = 0
) -> pd.DataFrame:
    """Compare the distribution of each property of two populations.

    Parameters
    ----------
    real, simulated : DataFrame
        As `population` gives them.
    seed : int
        Of the halves.

    Returns
    -------
    pandas.DataFrame
        One row per property: property, unit, n_real, n_simulated, median_real,
        median_simulated, wasserstein (first distance, in the unit), relative (in
        standard deviations of the real ones), chance (the same between two random
        halves of the real objects, mean of 20: what no simulator can be expected to
        be below).

    Raises
    ------
    PhantomscopeError
        If either has fewer than four whole objects.
    """
    for name, table in (("real", real), ("simulated", simulated)):
        if len(table) < 4:
            raise PhantomscopeError(
                f"there are only {len(table)} whole {name} objects to compare",
                fix="give more or larger images",
            )
    rng = np.random.default_rng(seed)
    rows = []
    for name, unit in PROPERTIES.items():
        first, second = (
            values[np.isfinite(values)]
            for values in (table[name].to_numpy(float) for table in (real, simulated))
        )
        # One object per image has no neighbour.
        apart, chance = np.nan, np.nan
        if len(first) > 3 and len(second):
            apart = wasserstein(first, second)
            chance = float(np.mean([_halves(first, rng) for _ in range(HALVES)]))
        spread = max(float(first.std()), 1e-12) if len(first) else np.nan
        rows.append(
            {
                "property": name,
                "unit": unit,
                "n_real": len(first),
                "n_simulated": len(second),
                "median_real": float(np.median(first)) if len(first) else np.nan,
                "median_simulated": float(np.median(second)) if len(second) else np.nan,
                "wasserstein": apart,
                "relative": apart / spread,
                "chance": chance / spread,
            }
        )
    return pd.DataFrame(rows)


def _halves(values: NDArray[np.float64], rng: np.random.Generator) -> float:
    mixed = rng.permutation(values)
    return wasserstein(mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :])

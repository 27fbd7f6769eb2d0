"""How alike two populations of objects are: sizes, shapes, distances, brightness."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from phantomscope.measure.distribution import count_bins, wasserstein
from phantomscope.measure.edges import Spacing
from phantomscope.measure.morphology import object_table
from phantomscope.measure.statistics import (
    FEWEST_GROUPS,
    check_bootstrap,
    percentiles,
)

Floats = NDArray[np.float64]
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
# Of fewer objects no distribution can be told.
FEWEST_OBJECTS = 4


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
    distances, _ = scipy.spatial.cKDTree(centroids).query(centroids, k=2)
    return np.asarray(distances[:, 1])


def population(
    pairs: Iterable[Pair], spacing: Spacing | None = None, *, cut: bool = False
) -> pd.DataFrame:
    """Measure the objects of some labelled images.

    Parameters
    ----------
    pairs : iterable of (labels, image)
        Of shape ([Z,] Y, X) each; unit intensities. Taken one at a time.
    spacing : tuple of float, optional
        Voxel along z, y and x of volumes.
    cut : bool, optional
        Whether objects that an edge cuts are there as well; `border` tells them.

    Returns
    -------
    pandas.DataFrame
        One row per object: image (its number), radius, nearest_neighbour (px of y),
        elongation, intensity (median above the median of what has no label); with
        `cut` also border.
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
        tables.append(table if cut else table[~table["border"]])
    columns = ["image", *PROPERTIES, *(["border"] if cut else [])]
    if not tables:
        return pd.DataFrame(columns=columns, dtype=float)
    return pd.concat(tables, ignore_index=True)[columns]


class _TwoSamples:
    """Distances of two samples whose values have weights: resampling without sorting.

    Parameters
    ----------
    first, second : ndarray, shape (n,) and (m,)
        Finite values in one unit.
    """

    def __init__(self, first: Floats, second: Floats) -> None:
        pooled = np.concatenate([first, second])
        self.order = np.argsort(pooled, kind="stable")
        self.split = len(first)
        # Distribution functions are compared where a run of equal values ends.
        self.gaps = np.diff(pooled[self.order])

    def distances(self, first: Floats, second: Floats) -> tuple[float, float]:
        """Return the first Wasserstein distance, and that of Kolmogorov and Smirnov.

        Parameters
        ----------
        first, second : ndarray, shape (n,) and (m,)
            How often each value counts; NaN if nothing counts.
        """
        if not (first.any() and second.any()):
            return np.nan, np.nan
        steps = np.concatenate([first / first.sum(), -second / second.sum()])
        apart = np.abs(np.cumsum(steps[self.order]))[:-1]
        area = float(apart @ self.gaps)
        return area, float(apart[self.gaps > 0].max(initial=0.0))


def _units(table: pd.DataFrame) -> tuple[NDArray[np.intp], int, bool]:
    """Return the resampled unit of each object, their number, and if it is a group.

    Groups are resampled where there are enough of them, else single objects.
    """
    groups = table["group"] if "group" in table else table["image"]
    codes, names = pd.factorize(groups)
    if len(names) >= FEWEST_GROUPS:
        return codes, len(names), True
    return np.arange(len(table)), len(table), False


def _resampled(units: tuple[NDArray[np.intp], int, bool], rng: Any) -> Floats:
    """Draw as many units as there are; return how often each object counts."""
    codes, count, _ = units
    drawn = np.bincount(rng.integers(count, size=count), minlength=count)
    return np.asarray(drawn[codes], float)


def compare_populations(
    real: pd.DataFrame, simulated: pd.DataFrame, *, resamples: int = 1000,
    confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Compare the distribution of each property of two populations.

    Parameters
    ----------
    real, simulated : DataFrame
        As `population` gives them. A column `group` names the unit of statistics of
        each object; by default that is its image.
    resamples, confidence, seed
        Of the bootstrap: groups of both populations are drawn with replacement, or
        objects where a population has fewer than three groups. A resample holds fewer
        different objects, so where both are nearly alike its own noise lifts the
        interval above the value.

    Returns
    -------
    pandas.DataFrame
        One row per property: property, unit, n_real, n_simulated, of both the median
        and the quartiles (``median_real``, ``q25_real``, ``q75_real`` ...);
        wasserstein (first Wasserstein distance, in the unit), relative (the same by
        the interquartile range of the real objects) with its interval
        (``relative_low``, ``relative_high``), chance (`relative` between two random
        halves of the real objects, mean of 20: what no simulator can be expected to be
        below), ks (largest difference of the distribution functions, Kolmogorov and
        Smirnov, 0 to 1) with its interval; units_real and units_simulated (how many
        were resampled), unit_of_n (which of the real ones). Distances are NaN where a
        population has fewer than four objects with this property.
    """
    check_bootstrap(resamples, confidence)
    rng = np.random.default_rng(seed)
    units = [_units(table) for table in (real, simulated)]
    rows, samples = [], {}
    for name, unit in PROPERTIES.items():
        values = [table[name].to_numpy(float) for table in (real, simulated)]
        # One object per image has no neighbour.
        there = [np.isfinite(one) for one in values]
        kept = [one[inside] for one, inside in zip(values, there, strict=True)]
        row = {"property": name, "unit": unit, **_described(kept[0], kept[1])}
        if min(map(len, kept)) >= FEWEST_OBJECTS:
            pair = _TwoSamples(kept[0], kept[1])
            samples[name] = (pair, there)
            row |= _apart(kept[0], kept[1], pair, _spread(row), rng)
        rows.append(row)
    drawn = np.full((len(rows), 2, resamples), np.nan)
    for n in range(resamples if samples else 0):
        weights = [_resampled(one, rng) for one in units]
        for k, row in enumerate(rows):
            if row["property"] in samples:
                pair, there = samples[row["property"]]
                own = (w[inside] for w, inside in zip(weights, there, strict=True))
                drawn[k, :, n] = pair.distances(*own)
    for row, (areas, largest) in zip(rows, drawn, strict=True):
        scale = _spread(row)
        for name, found in (("relative", areas / scale), ("ks", largest)):
            row[f"{name}_low"], row[f"{name}_high"] = percentiles(found, confidence)
        row.update(
            units_real=units[0][1], units_simulated=units[1][1],
            unit_of_n=_unit_name(real, units[0][2]),
        )  # fmt: skip
    return pd.DataFrame(rows)


def _described(first: Floats, second: Floats) -> dict[str, Any]:
    """Count both, with median and quartiles, and make room for the distances."""
    row: dict[str, Any] = {}
    for side, values in (("real", first), ("simulated", second)):
        row[f"n_{side}"] = len(values)
        found = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [np.nan] * 3
        for name, value in zip(("q25", "median", "q75"), found, strict=True):
            row[f"{name}_{side}"] = float(value)
    return row | dict.fromkeys(
        ("wasserstein", "relative", "relative_low", "relative_high", "chance", "ks",
         "ks_low", "ks_high"), np.nan,
    )  # fmt: skip


def _spread(row: dict[str, Any]) -> float:
    """Interquartile range of the real objects; NaN if they are all the same."""
    spread = float(row["q75_real"] - row["q25_real"])
    return spread if spread > 0 else np.nan


def _apart(
    first: Floats, second: Floats, pair: _TwoSamples, scale: float,
    rng: np.random.Generator,
) -> dict[str, float]:  # fmt: skip
    area, largest = pair.distances(np.ones(len(first)), np.ones(len(second)))
    chance = float(np.mean([_halves(first, rng) for _ in range(HALVES)]))
    return {"wasserstein": area, "relative": area / scale, "chance": chance / scale,
            "ks": largest}  # fmt: skip


def _halves(values: Floats, rng: np.random.Generator) -> float:
    mixed = rng.permutation(values)
    return wasserstein(mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :])


def _unit_name(real: pd.DataFrame, grouped: bool) -> str:
    """Say what `units_real` counts, in the words of all tables."""
    if grouped:
        return "image group"
    images = int(real["image"].nunique())
    return f"object of {'one image' if images == 1 else f'{images} images'}"


def property_histograms(
    real: pd.DataFrame, simulated: pd.DataFrame, most_bins: int = 24
) -> dict[str, dict[str, list[float]]]:
    """Return the histogram of each property of two populations, over the same bins.

    Parameters
    ----------
    real, simulated : DataFrame
        As `population` gives them.
    most_bins : int
        Equal bins between the 0.5 and the 99.5 percentile of both together; fewer
        where there are few objects. What lies outside counts in the outermost ones.

    Returns
    -------
    dict
        Property to ``edges`` (bins + 1, in its unit), ``real`` and ``simulated``
        (bins; shares of the objects). A property that nobody has is left out.
    """
    found = {}
    for name in PROPERTIES:
        both = [table[name].to_numpy(float) for table in (real, simulated)]
        both = [values[np.isfinite(values)] for values in both]
        pooled = np.concatenate(both)
        if not len(pooled):
            continue
        low, high = (float(v) for v in np.percentile(pooled, [0.5, 99.5]))
        high = max(high, low + 1e-6)
        bins = int(np.clip(2 * np.sqrt(min(map(len, both))), 6, most_bins))
        shares = [
            (count_bins(v, low, high, bins) / max(len(v), 1)).tolist() for v in both
        ]
        found[name] = {
            "edges": np.linspace(low, high, bins + 1).tolist(),
            "real": shares[0],
            "simulated": shares[1],
        }
    return found

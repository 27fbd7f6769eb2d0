"""How well features of synthetic stains follow those of the real ones."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.features import feature_columns, site_features
from phantomscope.measure.matching import assign_pairs, threshold_keys
from phantomscope.measure.moments_by_group import Moments, category_correlations
from phantomscope.measure.overlap import overlap_table
from phantomscope.measure.statistics import check_bootstrap

Unit = Literal["object", "site", "group"]
Segmentation = Literal["shared", "own"]


def matched_pairs(
    real: ArrayLike, synthetic: ArrayLike, threshold: float = 0.5
) -> pd.DataFrame:
    """Match objects that were found on real stains with those on synthetic ones.

    Parameters
    ----------
    real, synthetic : array_like of integer, shape (Y, X)
        Label images of one site.
    threshold : float
        Least IoU of a pair, in (0, 1].

    Returns
    -------
    pandas.DataFrame
        ``real`` and ``synthetic``, the labels of each pair.

    Raises
    ------
    PhantomscopeError
        For bad label images or a bad threshold.
    """
    threshold_keys([threshold])
    table = overlap_table(real, synthetic)
    kept = assign_pairs(table, threshold)
    names = {}
    for name, labels, index in (
        ("real", real, table.rows), ("synthetic", synthetic, table.columns),
    ):  # fmt: skip
        numbers = np.unique(np.asarray(labels))
        names[name] = numbers[numbers > 0][index[kept]].astype(np.int64)
    return pd.DataFrame(names)


def feature_correlations(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    unit: Unit = "group",
    *,
    segmentation: Segmentation = "shared",
    pairs: pd.DataFrame | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlate each feature over units, and average over each category.

    Pearson's correlation; CellResDM does not state its unit, nor how it correlates.

    Parameters
    ----------
    real, synthetic : pandas.DataFrame
        One row per object, of `object_features`, with the columns ``site`` and
        ``group`` (the well, or what else is independent) besides.
    unit : {"object", "site", "group"}
        What is a point of the correlation: an object, or the medians (and the count) of
        a site's or a group's objects. A site that only one frame knows counts 0 objects
        in the other.
    segmentation : {"shared", "own"}
        Whether one segmentation was laid on both image sets, so that labels agree, or
        objects were found on each by itself (as in the paper). With a shared one,
        ``Count``, ``Neighbors``, ``AreaShape`` and the centres are equal by definition
        and their correlation of 1 says nothing.
    pairs : pandas.DataFrame, optional
        ``site``, ``real``, ``synthetic``: labels of objects that belong together, as
        of `matched_pairs`. Needed for objects with their own segmentation.
    resamples, confidence, seed
        Of the percentile bootstrap over groups, see `bootstrap_interval`.

    Returns
    -------
    pandas.DataFrame
        One row per category: ``category``, ``value`` (mean over its features), ``low``
        and ``high`` (NaN for a single group), ``n_features`` in the mean,
        ``n_left_out`` (constant in either set, or with under 3 units where both are
        defined), ``n`` units, ``n_groups``, ``unit``, ``segmentation``.

    Raises
    ------
    PhantomscopeError
        If the frames lack columns, have other features, or objects do not pair.
    """
    check_bootstrap(resamples, confidence)
    _check(real, synthetic)
    if unit == "object":
        first, second, groups = _objects(real, synthetic, segmentation, pairs)
    else:
        first, second, groups = _summaries(real, synthetic, unit)
    found = category_correlations(
        [Moments.of(first, second, groups)], resamples=resamples,
        confidence=confidence, seed=seed,
    )  # fmt: skip
    return found.assign(unit=unit, segmentation=segmentation)


def _check(real: pd.DataFrame, synthetic: pd.DataFrame) -> None:
    for name, table in (("real", real), ("synthetic", synthetic)):
        lacking = {"site", "group", "label"} - set(table.columns)
        if lacking or not len(table):
            raise PhantomscopeError(
                f"the {name} objects lack {sorted(lacking) or 'rows'}",
                fix="give the table of object_features with its site and group",
            )
    if set(feature_columns(real)) != set(feature_columns(synthetic)):
        raise PhantomscopeError(
            "real and synthetic objects have different features",
            fix="measure both with the same channels and the same kind of object",
        )


def _objects(
    real: pd.DataFrame, synthetic: pd.DataFrame, segmentation: Segmentation,
    pairs: pd.DataFrame | None,
) -> tuple[pd.DataFrame, pd.DataFrame, NDArray[Any]]:  # fmt: skip
    """Lay paired objects side by side."""
    if segmentation == "own" and pairs is None:
        raise PhantomscopeError(
            "objects of two segmentations have no pairs",
            fix="match them site by site with matched_pairs",
        )
    first, second = (t.set_index(["site", "label"]) for t in (real, synthetic))
    if not (first.index.is_unique and second.index.is_unique):
        raise PhantomscopeError(
            "a site has two objects of one label",
            fix="give nuclei and cells by themselves, and sites names of their own",
        )
    if pairs is None:
        if set(first.index) != set(second.index):
            raise PhantomscopeError(
                "objects of a shared segmentation differ between real and synthetic",
                fix="measure both image sets with the same labels, or give pairs",
            )
        at_first = at_second = first.index
    else:
        at_first, at_second = (
            pd.MultiIndex.from_frame(pairs[["site", name]])
            for name in ("real", "synthetic")
        )
        known = at_first.isin(first.index) & at_second.isin(second.index)
        at_first, at_second = at_first[known], at_second[known]
        if not known.any():
            raise PhantomscopeError(
                "no pair of objects is in both tables", fix="see matched_pairs"
            )
    columns = feature_columns(real)
    first, second = first.loc[at_first], second.loc[at_second]
    return first[columns], second[columns], first["group"].to_numpy()


def _summaries(
    real: pd.DataFrame, synthetic: pd.DataFrame, unit: Unit
) -> tuple[pd.DataFrame, pd.DataFrame, NDArray[Any]]:
    """Summarise the objects of each site or group, in both sets."""
    both = pd.concat([real[["site", "group"]], synthetic[["site", "group"]]])
    known = both.drop_duplicates().sort_values(["group", "site"])
    if known["site"].duplicated().any():
        raise PhantomscopeError(
            "a site is in two groups", fix="give sites names of their own"
        )
    names = known[unit].drop_duplicates()
    tables = [
        pd.DataFrame({key: site_features(part) for key, part in t.groupby(unit)})
        .T.reindex(names).fillna({"Count_Objects": 0.0})
        for t in (real, synthetic)
    ]  # fmt: skip
    groups = known.drop_duplicates(unit)["group"].to_numpy()
    return tables[0], tables[1][tables[0].columns], groups

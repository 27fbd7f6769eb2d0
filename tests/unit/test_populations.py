"""Simulated against real objects: the distances, and the stage that measures them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.populations import (
    PROPERTIES,
    compare_populations,
    population,
    property_histograms,
)
from phantomscope.simulate.parameters import (
    LEVELS,
    SketchParameters,
    SketchType,
    Tissue,
    Volume,
)
from phantomscope.stages.populations import (
    ANNOTATED,
    CLASSICAL,
    CUT,
    _windows,
    measure_populations,
)
from phantomscope.tables.artefacts import origin
from phantomscope.tables.figures import FIGURES
from phantomscope.tables.figures_populations import source_of, table_rows
from phantomscope.tables.headline import cautions


def objects(count, groups, seed, shift=0.0):
    """Made-up objects whose elongation takes few values, so that there are ties."""
    rng = np.random.default_rng(seed)
    image = np.arange(count) % groups
    return pd.DataFrame({
        "image": image, "group": [f"g{n}" for n in image],
        "radius": rng.normal(10 + shift, 2, count),
        "elongation": 1 + rng.integers(0, 4, count) / 4,
        "nearest_neighbour": rng.gamma(4, 5, count),
        "intensity": rng.uniform(0.2, 0.8, count),
    })  # fmt: skip


def test_distances_are_those_of_scipy():
    real, drawn = objects(90, 5, 0), objects(140, 7, 1, shift=1.5)
    found = compare_populations(real, drawn, resamples=5).set_index("property")
    for name in PROPERTIES:
        a, b = real[name], drawn[name]
        row = found.loc[name]
        assert row["wasserstein"] == pytest.approx(stats.wasserstein_distance(a, b))
        assert row["ks"] == pytest.approx(stats.ks_2samp(a, b).statistic)
        low, middle, high = np.quantile(a, [0.25, 0.5, 0.75])
        assert row["relative"] == pytest.approx(row["wasserstein"] / (high - low))
        assert row["median_real"] == pytest.approx(middle)
        assert row["q75_simulated"] == pytest.approx(np.quantile(b, 0.75))
    assert found.loc["radius", "wasserstein"] == pytest.approx(1.5, abs=0.7)


def test_groups_are_resampled_where_there_are_enough():
    real, drawn = objects(120, 6, 0), objects(120, 6, 1, shift=3.0)
    groups = compare_populations(real, drawn, resamples=200, seed=3)
    assert set(groups["unit_of_n"]) == {"image group"}
    assert set(groups["units_real"]) == {6}
    few = objects(120, 2, 0)
    single = compare_populations(few, drawn, resamples=200, seed=3)
    assert set(single["unit_of_n"]) == {"object of 2 images"}
    assert set(single["units_real"]) == {120}
    for table in (groups, single):
        row = table.set_index("property").loc["radius"]
        assert row["relative_low"] < row["relative"] < row["relative_high"]
        assert row["ks_low"] < row["ks_high"] <= 1
        # Three standard deviations of 2 px apart by 3 px: far beyond chance.
        assert row["relative_low"] > row["chance"]
    pd.testing.assert_frame_equal(
        groups, compare_populations(real, drawn, resamples=200, seed=3)
    )
    with pytest.raises(PhantomscopeError, match="bad bootstrap"):
        compare_populations(real, drawn, confidence=1.5)


def test_too_few_or_equal_objects_have_no_distance():
    real, drawn = objects(40, 4, 0), objects(3, 1, 1)
    found = compare_populations(real, drawn, resamples=5)
    assert (found["n_simulated"] == 3).all()
    assert found[["wasserstein", "relative", "ks", "ks_high"]].isna().all(axis=None)
    same = real.assign(elongation=1.0)
    found = compare_populations(same, same, resamples=5).set_index("property")
    assert np.isnan(found.loc["elongation", "relative"])  # without a spread no scale
    assert found.loc["elongation", "ks"] == 0
    assert found.loc["radius", "relative"] == 0


def test_histograms_share_their_bins():
    found = property_histograms(objects(900, 3, 0), objects(500, 3, 1))
    assert set(found) == set(PROPERTIES)
    for one in found.values():
        assert len(one["edges"]) == 25
        for side in ("real", "simulated"):
            assert sum(one[side]) == pytest.approx(1)
    few = property_histograms(objects(25, 3, 0), objects(500, 3, 1))
    assert len(few["radius"]["edges"]) == 11
    assert not property_histograms(population([]), population([]))


@pytest.mark.parametrize(
    ("shape", "size", "windows"),
    [((100, 70), (40, 64), 2), ((30, 30), (64, 64), 1), ((8, 90, 64), (8, 30, 30), 6)],
)
def test_windows_lie_side_by_side_in_the_image(shape, size, windows):
    seen = np.zeros(shape, int)
    parts = list(_windows(shape, size))
    for part in parts:
        seen[part] += 1
    assert len(parts) == windows
    assert seen.max() == 1
    assert {seen[part].shape for part in parts} == {
        tuple(min(pair) for pair in zip(shape, size, strict=True))
    }


# The stage


def balls(shape, radius, seed, every=26):
    """Balls (discs) on a jittered grid: raw image and labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    places = np.indices(shape)
    grids = [np.arange(every // 2, length, every) for length in shape]
    centres = np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, len(shape))
    for n, centre in enumerate(centres, 1):
        middle = centre + rng.uniform(-2, 2, len(shape))
        size = radius * rng.uniform(0.85, 1.15)
        away = sum((p - m) ** 2 for p, m in zip(places, middle, strict=True))
        labels[away < size**2] = n
    light = ndimage.gaussian_filter((labels > 0) * 600.0, 1.0) + 100
    return rng.poisson(light).astype(np.uint16), labels


def write_experiment(
    root, shape, *, labelled=True, planes="", tissue=False, radius=7.0
):
    """Three real groups, three synthetic images with larger objects."""
    count, dims = 3, len(shape)
    with ImageSetWriter(root / "prepared", {}) as writer:
        for split in ("train", "test"):
            for n in range(count):
                raw, labels = balls(shape, 7.0, n)
                more = {"annotated_planes": planes} if dims == 3 else {}
                writer.add(
                    f"{split}{n}", raw, labels if labelled else None, split=split,
                    group=f"g{split}{n}", stratum="all", **more,
                )  # fmt: skip
    limits = {
        f"{s}{n}": (100.0, 700.0) for s in ("train", "test") for n in range(count)
    }
    Normalisation("dataset", "sqrt", limits, "uint16").save(root / "normalisation.json")
    with ImageSetWriter(root / "checked", {}) as writer:
        for n in range(count):
            raw, labels = balls(shape, radius, 10 + n)
            writer.add(f"sketch-{n:06d}", raw, labels, split="train", type="all",
                       limits="train0")  # fmt: skip
    volume = Volume(spacing=(1.0, 1.0, 1.0)) if dims == 3 else None
    quantiles = [float(7 + n) for n in range(len(LEVELS))]
    kind = SketchType(
        name="all", radius=quantiles, elongation=quantiles, intensity=quantiles,
        density=quantiles, clustering=0.0, volume=volume,
        tissue=Tissue(cell_diameter=14.0) if tissue else None,
    )  # fmt: skip
    SketchParameters(types=[kind]).save(root / "sketch.yaml")
    config = make_config({"evaluate": {"resamples": 50}})
    measure_populations(
        config, prepared=root / "prepared", normalisation=root / "normalisation.json",
        sketch=root / "sketch.yaml", checked=root / "checked",
        populations=root / "tables/populations.csv",
        histograms=root / "populations.json",
    )  # fmt: skip
    FIGURES["populations"][0](root, config, root / "figures/populations.png")
    assert (root / "figures/populations.png").stat().st_size > 1000
    table = pd.read_csv(root / "tables/populations.csv").set_index("quantity")
    return table, json.loads((root / "populations.json").read_text())


def test_larger_objects_are_told_in_images(tmp_path):
    table, content = write_experiment(tmp_path, (120, 120), radius=9.0)
    assert list(table.index) == list(PROPERTIES)
    radius = table.loc["radius"]
    assert radius["median_real"] == pytest.approx(7, abs=0.6)
    assert radius["median_simulated"] == pytest.approx(9, abs=0.6)
    assert radius["wasserstein"] == pytest.approx(2, abs=0.4)
    assert radius["relative_low"] > radius["chance"]
    assert table.loc["nearest_neighbour", "wasserstein"] < 1
    assert set(table["real_objects"]) == {ANNOTATED} == {content["real"]}
    assert set(table["unit_of_n"]) == {"image group"}
    assert set(table["data_kind"]) == {"real"}
    shown = table_rows(tmp_path)
    assert shown[0]["quantity"] == "size: radius"
    assert "[" in shown[0]["relative"]
    assert source_of(tmp_path)["units"] == "6 (image group)"


def test_volumes_are_measured_in_space(tmp_path):
    table, content = write_experiment(tmp_path, (78, 78, 78))
    assert table.loc["radius", "median_real"] == pytest.approx(7, abs=0.5)
    assert table.loc["radius", "wasserstein"] < 0.5
    assert table.loc["nearest_neighbour", "median_real"] == pytest.approx(25, abs=2)
    assert content["window"] == [78, 78, 78]
    assert not content["single_planes"]


def test_where_few_objects_are_whole_cut_ones_count_on_both_sides(tmp_path):
    # One plane of balls, which the last plane cuts: all of them are cut.
    table, content = write_experiment(tmp_path, (16, 78, 78))
    assert content["real"] == ANNOTATED + CUT
    assert content["simulated"].endswith(CUT)
    assert table.loc["radius", "n_real"] == 2 * 3 * 9
    assert table.loc["radius", "relative"] < 1
    assert table.loc["radius", "median_real"] < 7


def test_of_single_annotated_planes_the_cells_are_cut_on_both_sides(tmp_path):
    table, content = write_experiment(tmp_path, (40, 78, 78), planes="13 14")
    assert content["single_planes"]
    # Cross-sections, some of them of caps.
    assert 4 < table.loc["radius", "median_real"] < 8.1
    # Three images of either part, two planes each.
    assert table.loc["radius", "n_real"] == 2 * 3 * 2 * 9
    assert table.loc["radius", "n_simulated"] > 0


def test_without_annotation_both_sides_are_segmented_alike(tmp_path):
    table, content = write_experiment(tmp_path, (120, 120), labelled=False, radius=9.0)
    assert set(table["real_objects"]) == {CLASSICAL} == {content["real"]}
    assert table.loc["radius", "wasserstein"] == pytest.approx(2, abs=0.6)


def test_membranes_without_annotation_are_not_measured(tmp_path):
    table, content = write_experiment(
        tmp_path, (40, 60, 60), labelled=False, tissue=True
    )
    assert not len(table)
    assert content["absent"] == "membranes without labels"
    assert not table_rows(tmp_path)


@pytest.mark.parametrize(
    ("kind", "word"),
    [("real", "real"), ("stand-in", "stand-in"), ("simulated", "simulated source")],
)
def test_source_images_are_called_what_they_are(kind, word, tmp_path):
    config = make_config({"appearance": {"organism": "hela", "data_kind": kind}})
    assert origin(config) == word
    assert origin(make_config({"appearance": {"data_kind": kind}})) == "real"
    said = " ".join(cautions(tmp_path, config, []))
    assert ("computed" in said) == (kind == "simulated")
    assert ("stand in" in said) == (kind == "stand-in")

"""Volumes: moments, measuring, fitting and drawing in three dimensions."""

import numpy as np
import pytest

from phantomscope.config.simulation import Fit, Simulate
from phantomscope.images.noise import generator
from phantomscope.measure import morphology
from phantomscope.measure.edges import axial_distance
from phantomscope.measure.populations import (
    compare_populations,
    nearest_neighbours,
    population,
)
from phantomscope.simulate.fit import fit_parameters
from phantomscope.simulate.parameters import SketchParameters, SketchType, Volume
from phantomscope.simulate.shapes import smooth_field
from phantomscope.simulate.sketch import camera, simulate_sketch
from phantomscope.simulate.volume import draw_volume, semi_axes

SPACING = (2.5, 1.0, 1.0)


def kind(**changes) -> SketchType:
    values = {
        "name": "deep",
        "radius": [6.0, 6.4, 6.8, 7.2, 7.6, 8.0, 8.4],
        "elongation": [1, 1.1, 1.2, 1.3, 1.4, 1.6, 2],
        "intensity": [0.3, 0.35, 0.4, 0.5, 0.6, 0.65, 0.7],
        "density": [120.0] * 7,
        "clustering": 0.1,
        "edge": 1.2,
        "background": {"level": 0.1, "read_noise": 0.02},
        "volume": Volume(spacing=SPACING, axial=1.2, edge=0.6).model_dump(),
    }
    return SketchType.model_validate(values | changes)


def drawn(parameters, size, seed=0, **options):
    return simulate_sketch(
        SketchParameters(types=[parameters]), Simulate(size=size, **options), seed, 1
    )


def test_moments_of_an_ellipsoid_are_its_axes():
    axes = np.array([12.0, 8.0, 16.0])
    z, y, x = (
        np.indices((15, 60, 60), float) - np.array([7, 30, 30])[:, None, None, None]
    )
    turn = np.deg2rad(30)
    v, u = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    inside = (z * 2 / axes[0]) ** 2 + (v / axes[1]) ** 2 + (u / axes[2]) ** 2 <= 1
    labels = inside.astype(np.uint16)
    table = morphology.object_table(labels, 0.5 * inside, (2.0, 1.0, 1.0))
    (row,) = table.to_dict("records")
    assert row["radius"] == pytest.approx(np.cbrt(axes.prod()), rel=0.01)
    assert row["elongation"] == pytest.approx(2.0, rel=0.02)
    assert row["axial"] == pytest.approx(12 / np.sqrt(8 * 16), rel=0.03)
    assert row["solidity"] > 0.97
    assert row["intensity"] == 0.5
    assert not row["border"]
    two = np.concatenate([labels, 0 * labels[:1], labels])
    assert morphology.object_table(two, 0.5 * (two > 0))["solidity"][0] < 0.9


def test_axial_distance_counts_planes():
    labels = np.zeros((9, 3, 3), int)
    labels[3:6, 1, 1] = 1
    column = axial_distance(labels)[:, 1, 1]
    assert np.array_equal(column, [2.5, 1.5, 0.5, -0.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert axial_distance(labels)[:, 0, 0].min() > 9


def test_volume_measures_what_was_drawn():
    parts = [drawn(kind(clustering=0), (24, 140, 150), seed) for seed in range(3)]
    counts = [labels.max() for _, labels, _ in parts]
    # Nuclei that the edges cut count as well.
    voxels = np.prod(np.array([24, 140, 150]) + 2 * np.array([3, 7, 7]))
    assert np.mean(counts) == pytest.approx(120 * voxels / 1e6, rel=0.25)
    table = population([(labels, sketch) for sketch, labels, _ in parts], SPACING)
    assert table["radius"].median() == pytest.approx(7.2, rel=0.05)
    assert table["elongation"].median() == pytest.approx(1.3, rel=0.1)
    sketch, labels, _ = parts[0]
    assert sketch.dtype == np.float32
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    softness = morphology.edge_softness(sketch, labels, spacing=SPACING)
    assert softness == pytest.approx(1.3, abs=0.4)


def test_volume_is_a_pure_function_of_seed_and_index():
    first, again = drawn(kind(), (12, 64, 70)), drawn(kind(), (12, 64, 70))
    other = drawn(kind(), (12, 64, 70), seed=1)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_overlap_and_placement_are_obeyed():
    dense = kind(density=[900.0] * 7, clustering=0.9, edge=0)
    lit = []
    for overlap in (0.0, 0.5):
        options = {"overlap": overlap, "nucleoli": (0, 0)}
        sketch, labels, _ = drawn(
            dense.model_copy(update={"intensity": [0.5] * 7}), (20, 90, 90), **options
        )
        lit.append((sketch > 0.8).sum() / (labels > 0).sum())
    # Light adds up where nuclei overlap.
    assert lit[0] == 0
    assert lit[1] > 0.02
    apart = drawn(dense, (20, 90, 90), placement="non_overlapping")[1]
    assert not len(morphology.touching_labels(apart))
    touching = drawn(dense, (20, 90, 90))[1]
    assert len(morphology.touching_labels(touching)) > 0.5 * touching.max()


def test_semi_axes_keep_the_volume():
    volume = Volume(spacing=SPACING, axial=1.5)
    axes = semi_axes(np.array([7.0]), np.array([1.8]), volume)[0]
    assert axes.prod() == pytest.approx(7.0**3)
    assert axes[2] / axes[1] == pytest.approx(1.8)
    assert axes[0] / np.sqrt(axes[1] * axes[2]) == pytest.approx(1.5)


def test_texture_and_nucleoli_change_the_light_inside_only():
    plain = kind(edge=0, intensity=[0.5] * 7, clustering=0)
    plain = plain.model_copy(
        update={"volume": plain.volume.model_copy(update={"edge": 0.0})}
    )
    flat, labels = draw_volume(
        plain, Simulate(nucleoli=(0, 0)), (12, 80, 80), generator(1)
    )
    dark, same = draw_volume(
        plain, Simulate(nucleoli=(1, 2), nucleolus_contrast=(0.3, 0.4)), (12, 80, 80),
        generator(1),
    )  # fmt: skip
    rough, _ = draw_volume(
        plain, Simulate(nucleoli=(0, 0), texture=0.3), (12, 80, 80), generator(1)
    )
    assert labels.max() > 3
    assert np.ptp(flat[labels > 0]) < 1e-6
    share = (dark[same > 0] < 0.5).mean()
    assert 0.001 < share < 0.1
    assert rough[labels > 0].std() > 0.05


def test_smooth_field_of_a_volume():
    field = smooth_field(np.random.default_rng(0), (40, 120, 130), (3.0, 8.0, 8.0))
    assert field.shape == (40, 120, 130)
    assert field.std() == pytest.approx(1, abs=0.15)
    assert np.abs(np.diff(field, axis=1)).mean() < 0.2


def test_fit_recovers_a_volume():
    truth = kind()
    images = [
        camera(drawn(truth, (20, 130, 130), seed)[0], truth, generator("camera", seed))
        for seed in range(3)
    ]
    options = Fit(spacing=SPACING, calibration_rounds=1)
    results, _ = fit_parameters({"a": images}, {"a": 1.0}, options, Simulate(), 0)
    found = results[0].kind
    assert found.volume.spacing == SPACING
    assert found.radius[3] == pytest.approx(7.2, rel=0.1)
    assert found.elongation[3] == pytest.approx(1.3, rel=0.15)
    assert found.volume.axial == pytest.approx(1.2, rel=0.15)
    assert found.intensity[3] == pytest.approx(0.5, rel=0.15)
    assert found.density[3] == pytest.approx(140, rel=0.3)
    assert found.edge == pytest.approx(1.2, abs=0.5)
    assert found.background.level == pytest.approx(0.1, abs=0.01)
    assert found.background.read_noise == pytest.approx(0.02, rel=0.3)


def test_parameters_of_volumes_round_trip(tmp_path):
    parameters = SketchParameters(types=[kind()])
    parameters.save(tmp_path / "sketch.yaml")
    assert SketchParameters.load(tmp_path / "sketch.yaml") == parameters
    assert kind().blur == (0.6, 1.2, 1.2)
    for spacing in ((1, 2, 1), (0, 1, 1)):
        with pytest.raises(ValueError, match="relative to y"):
            Volume(spacing=spacing)
    with pytest.raises(ValueError, match="relative to y"):
        Fit(spacing=(1, 2, 1))


def test_nearest_neighbours_are_measured_in_space():
    labels = np.zeros((9, 20, 20), int)
    labels[1, 5, 5], labels[5, 5, 5], labels[5, 14, 5] = 1, 2, 3
    assert np.allclose(nearest_neighbours(labels), [4, 4, 9])
    assert np.allclose(nearest_neighbours(labels, (3.0, 1, 1)), [12, 9, 9])
    assert np.isinf(nearest_neighbours(labels == 1)[0])
    assert not len(nearest_neighbours(np.zeros((4, 4), int)))


def test_populations_differ_by_what_was_changed():
    first, second, larger = (
        population(
            [drawn(k, (20, 130, 130), seed)[1::-1] for seed in seeds], SPACING
        )
        for k, seeds in (
            (kind(), (0, 1)), (kind(), (2, 3)),
            (kind(radius=[8.0, 8.4, 8.8, 9.2, 9.6, 10, 10.4]), (4, 5)),
        )
    )  # fmt: skip
    same = compare_populations(first, second).set_index("property")
    other = compare_populations(first, larger).set_index("property")
    assert (same["relative"] < 5 * same["chance"] + 0.1).all()
    assert other.loc["radius", "wasserstein"] == pytest.approx(2.0, abs=0.4)
    assert other.loc["radius", "relative"] > 5 * same.loc["radius", "relative"]
    assert other.loc["intensity", "relative"] < 1
    nobody = compare_populations(first, population([]), resamples=10)
    assert (nobody["n_simulated"] == 0).all()
    assert nobody[["wasserstein", "relative", "ks", "ks_low"]].isna().all(axis=None)

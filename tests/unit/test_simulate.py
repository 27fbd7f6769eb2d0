"""Sketches: shapes, placement, labels, parameters and their fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.config.simulation import Fit, Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.measure import morphology
from phantomscope.simulate.fit import fit_parameters
from phantomscope.simulate.parameters import (
    Background,
    Correlation,
    SketchParameters,
    SketchType,
    quantile,
)
from phantomscope.simulate.shapes import foreground_region, nucleus_mask, smooth_field
from phantomscope.simulate.sketch import camera, draw_sketch, simulate_sketch


def kind(**changes) -> SketchType:
    values = {
        "name": "a",
        "radius": [8, 9, 10, 11, 12, 13, 14],
        "elongation": [1, 1.1, 1.2, 1.3, 1.4, 1.6, 2],
        "intensity": [0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8],
        "density": [500.0] * 7,
        "clustering": 0.3,
        "edge": 1.5,
        "background": {"level": 0.1, "read_noise": 0.02},
    }
    return SketchType.model_validate(values | changes)


@given(st.floats(3, 30), st.floats(1, 3), st.floats(0, 0.1), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_nucleus_has_the_area_of_its_radius(radius, elongation, deformation, seed):
    mask = nucleus_mask(np.random.default_rng(seed), radius, elongation, deformation)
    area = np.pi * radius**2
    # A deformed nucleus keeps its area up to what the control points move.
    tolerance = 0.12 + 6 * deformation + 3 / radius
    assert abs(mask.sum() - area) <= tolerance * area
    assert not (mask[0].any() or mask[-1].any()) or deformation > 0
    assert mask[mask.shape[0] // 2, mask.shape[1] // 2]


def test_undeformed_ellipse_has_its_elongation():
    mask = nucleus_mask(np.random.default_rng(1), 20, 2.0, 0.0)
    table = morphology.object_table(mask.astype(int), mask.astype(float))
    assert table["elongation"][0] == pytest.approx(2.0, rel=0.03)
    assert table["radius"][0] == pytest.approx(20, rel=0.02)


def test_foreground_regions():
    rng = np.random.default_rng(0)
    assert foreground_region(rng, (60, 80), "image", 5).all()
    ellipse = foreground_region(rng, (200, 300), "ellipse", 5)
    assert ellipse.mean() == pytest.approx(np.pi * 0.09, rel=0.02)
    assert 0.1 < foreground_region(rng, (700, 1100), "discs", 15).mean() < 0.95


def test_smooth_field_has_unit_spread():
    field = smooth_field(np.random.default_rng(0), (400, 400), 8)
    assert field.std() == pytest.approx(1, abs=0.12)
    assert abs(np.diff(field, axis=0)).std() < 0.4


def test_sketch_is_a_pure_function_of_seed_and_index():
    parameters = SketchParameters(types=[kind()])
    options = Simulate(size=(120, 150))
    a = simulate_sketch(parameters, options, 3, 7)
    b = simulate_sketch(parameters, options, 3, 7)
    c = simulate_sketch(parameters, options, 3, 8)
    assert np.array_equal(a[0], b[0])
    assert np.array_equal(a[1], b[1])
    assert not np.array_equal(a[1], c[1])
    assert a[0].shape == a[1].shape == (120, 150)
    assert a[0].dtype == np.float32
    assert a[1].dtype == np.uint16


@pytest.mark.parametrize("placement", ["fitted", "non_overlapping"])
def test_labels_are_numbered_without_gaps_and_are_brighter(placement):
    options = Simulate(size=(256, 256), placement=placement, nucleoli=(0, 0))
    sketch, labels = draw_sketch(kind(), options, (256, 256), generator(0, placement))
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert labels.max() > 5
    outside = morphology.signed_distance(labels) > 6
    inner = (slice(24, -24),) * 2  # light of nuclei beyond the edge reaches in
    assert sketch[inner][outside[inner]].max() < 0.15
    for n in range(1, labels.max() + 1):
        if (labels == n).sum() > 150:
            assert np.median(sketch[labels == n]) > 0.2


def test_non_overlapping_nuclei_do_not_touch():
    options = Simulate(size=(300, 300), placement="non_overlapping", deformation=0)
    dense = kind(density=[3000.0] * 7, elongation=[1.0] * 7)
    _, labels = draw_sketch(dense, options, (300, 300), generator(1))
    assert labels.max() > 20
    assert len(morphology.touching_labels(labels)) == 0


def test_clustering_makes_nuclei_touch():
    def touching(clustering):
        found = total = 0
        for seed in range(3):
            _, labels = draw_sketch(
                kind(clustering=clustering), Simulate(), (400, 400), generator(seed)
            )
            found += len(morphology.touching_labels(labels))
            total += labels.max()
        return found / total

    assert touching(0.9) > 0.5 > 0.2 > touching(0.0)


def test_density_is_met():
    counts = [
        draw_sketch(kind(clustering=0), Simulate(), (400, 400), generator(s))[1].max()
        for s in range(4)
    ]
    # Nuclei cut by the edge count as well: somewhat more than 500 per megapixel.
    assert 70 <= np.mean(counts) <= 125


def test_camera_noise_has_the_stated_variance():
    background = Background(level=0, read_noise=0.03, shot_noise=0.002)
    photographed = kind(background=background.model_dump())
    flat = np.full((300, 300), 0.5, np.float32)
    noisy = camera(flat, photographed, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(0.5, abs=1e-3)
    assert noisy.var() == pytest.approx(0.03**2 + 0.002 * 0.5, rel=0.03)


def test_draw_follows_quantiles_and_correlation():
    correlated = kind(correlation=Correlation(radius_intensity=-0.7).model_dump())
    drawn = correlated.draw(np.random.default_rng(0), 20_000)
    assert np.median(drawn[:, 0]) == pytest.approx(11, abs=0.1)
    assert np.quantile(drawn[:, 2], 0.9) == pytest.approx(0.6, abs=0.01)
    rank = np.corrcoef(np.argsort(np.argsort(drawn[:, 0])),
                       np.argsort(np.argsort(drawn[:, 2])))[0, 1]  # fmt: skip
    assert rank == pytest.approx(-0.68, abs=0.03)
    assert quantile(correlated.radius, 0.5) == 11


def test_parameter_file_round_trip_and_errors(tmp_path):
    parameters = SketchParameters(types=[kind()])
    path = tmp_path / "sketch.yaml"
    parameters.save(path)
    assert path.read_text().startswith("# Sketch parameters")
    assert SketchParameters.load(path) == parameters
    text = path.read_text()
    for old, new, message in [
        ("clustering: 0.3", "clustering: 1.3", "types.0.clustering"),
        ("clustering:", "clusterin:", "clusterin"),
        ("8.0, 9.0", "9.5, 9.0", "quantiles must rise"),
        ("[8.0, 9.0,", "[9.0,", "at least 7 items"),
        ("radius_elongation: 0.0", "radius_elongation: 2.0", "radius_elongation"),
    ]:
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(PhantomscopeError, match=message) as caught:
            SketchParameters.load(path)
        assert str(path) in str(caught.value)


def pure_noise():
    return np.random.default_rng(0).normal(0.5, 0.1, (128, 128)).astype(np.float32)


def test_fit_recovers_what_was_drawn():
    """Sketches of known parameters, fitted without their labels."""
    truth = kind(clustering=0.1, density=[450.0] * 7)
    images = []
    for seed in range(4):
        sketch, _ = draw_sketch(truth, Simulate(), (400, 400), generator(seed))
        images.append(camera(sketch, truth, np.random.default_rng(seed)))
    results, skipped = fit_parameters(
        {"a": images, "noise": [pure_noise()]}, {"a": 0.8, "noise": 0.2}, Fit(),
        Simulate(), 0,
    )  # fmt: skip
    assert list(skipped) == ["noise"]
    found = results[0].kind
    assert found.weight == 0.8
    assert found.radius[3] == pytest.approx(truth.radius[3], rel=0.1)
    assert found.elongation[3] == pytest.approx(truth.elongation[3], rel=0.12)
    assert found.intensity[3] == pytest.approx(truth.intensity[3], rel=0.15)
    assert found.density[3] == pytest.approx(450, rel=0.25)
    assert found.edge == pytest.approx(1.5, abs=0.6)
    assert found.background.level == pytest.approx(0.1, abs=0.01)
    assert found.background.read_noise == pytest.approx(0.02, rel=0.3)
    assert min(results[0].distances) <= results[0].distances[0]


def test_images_without_objects_are_refused():
    one, two = {"a": [pure_noise()]}, {"a": [pure_noise()], "b": [pure_noise()]}
    with pytest.raises(PhantomscopeError, match="no object stands out"):
        fit_parameters(one, {"a": 1}, Fit(), Simulate(), 0)
    with pytest.raises(PhantomscopeError, match="no type of image could be fitted"):
        fit_parameters(two, {"a": 0.5, "b": 0.5}, Fit(), Simulate(), 0)

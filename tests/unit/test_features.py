"""Features of cells against what is known of simple images."""

import numpy as np
import pytest

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.features import (
    category_of,
    feature_columns,
    inner_labels,
    object_features,
    site_features,
)
from phantomscope.measure.features_intensity import correlation, intensity, location
from phantomscope.measure.features_objects import CATEGORIES, Objects
from phantomscope.measure.features_space import Rings, neighbours, radial, shape
from phantomscope.measure.features_texture import granularity, texture

Y, X = np.mgrid[:96, :96]
RADIUS = np.hypot(Y - 48, X - 48)


def block(*, height=20, width=40, top=10, left=12, size=96):
    labels = np.zeros((size, size), np.int32)
    labels[top : top + height, left : left + width] = 5
    return labels


def one(columns, name):
    (value,) = columns[name]
    return value


def test_a_constant_disc():
    labels = (RADIUS <= 20).astype(int)
    found = intensity(Objects.of(labels), 0.5 * labels, "A")
    assert one(found, "Intensity_IntegratedIntensity_A") == 0.5 * labels.sum()
    for name in ("Min", "Mean", "Max", "LowerQuartile", "Median", "UpperQuartile"):
        assert one(found, f"Intensity_{name}Intensity_A") == 0.5
    for name in ("StdIntensity", "MADIntensity", "MassDisplacement"):
        assert one(found, f"Intensity_{name}_A") == pytest.approx(0, abs=1e-9)


def test_quartiles_lie_at_n_q():
    labels = np.zeros((3, 12), int)
    labels[1, 1:11] = 1
    image = np.zeros((3, 12))
    image[1, 1:11] = np.random.default_rng(0).permutation(10) / 10
    found = intensity(Objects.of(labels), image, "A")
    assert one(found, "Intensity_LowerQuartileIntensity_A") == pytest.approx(0.25)
    assert one(found, "Intensity_MedianIntensity_A") == pytest.approx(0.5)
    assert one(found, "Intensity_UpperQuartileIntensity_A") == pytest.approx(0.75)
    # Distances from 0.5, sorted: 0, .1, .1, .2, .2, .3 at place 5, ...
    assert one(found, "Intensity_MADIntensity_A") == pytest.approx(0.3)


def test_the_edge_alone():
    labels = block()
    image = np.where(labels > 0, 0.2, 0)
    image[11:29, 13:51] = 0.8
    found = intensity(Objects.of(labels), image, "A")
    assert one(found, "Intensity_MaxIntensityEdge_A") == 0.2
    assert one(found, "Intensity_IntegratedIntensityEdge_A") == pytest.approx(
        0.2 * (2 * 40 + 2 * 18)
    )
    # An object that fills the image has no edge.
    full = intensity(Objects.of(np.ones((4, 4), int)), np.ones((4, 4)), "A")
    assert np.isnan(one(full, "Intensity_MinIntensityEdge_A"))


def test_a_linear_gradient():
    labels, width = block(), 40
    image = np.where(labels > 0, (X - 12) / 100, 0)
    objects = Objects.of(labels)
    where = location(objects, image, "A")
    # Sum of x^2 by that of x, from 0 to 39.
    mass = (2 * width - 1) / 3
    assert one(where, "Location_CenterMassIntensity_X_A") == pytest.approx(12 + mass)
    assert one(where, "Location_CenterMassIntensity_Y_A") == pytest.approx(19.5)
    assert one(where, "Location_MaxIntensity_X_A") == 51
    assert one(where, "Location_MaxIntensity_Y_A") == 10
    moved = intensity(objects, image, "A")
    assert one(moved, "Intensity_MassDisplacement_A") == pytest.approx((width + 1) / 6)


def test_channels_that_are_the_same_opposite_or_apart():
    objects = Objects.of(block())
    a = np.random.default_rng(1).uniform(0.3, 1, (96, 96))
    same = correlation(objects, (a, a), ("A", "B"))
    names = ("Correlation", "Overlap", "K", "Manders", "RWC")
    assert [one(same, f"Correlation_{n}_A_B") for n in names] == pytest.approx([1] * 5)
    assert one(
        correlation(objects, (a, 1.3 - a), ("A", "B")), "Correlation_Correlation_A_B"
    ) == pytest.approx(-1)
    left = (X < 30).astype(float)
    apart = correlation(objects, (left, 1 - left), ("A", "B"))
    assert one(apart, "Correlation_Manders_A_B") == 0
    assert np.isnan(one(apart, "Correlation_Overlap_A_B"))
    still = correlation(objects, (np.full_like(a, 0.1), a), ("A", "B"))
    assert np.isnan(one(still, "Correlation_Correlation_A_B"))


def test_manders_overlap_and_ranks_by_hand():
    labels = np.zeros((1, 6), int)
    labels[0, 1:5] = 1
    a = np.array([[0, 0.8, 0.4, 0.2, 0.1, 0]])
    b = np.array([[0, 0.5, 0.05, 1.0, 0.0, 0]])
    found = correlation(Objects.of(labels), (a, b), ("A", "B"))
    # At least 0.12 in A: three pixels; 0.15 in B: the first and the third.
    assert one(found, "Correlation_Manders_A_B") == pytest.approx(1.0 / 1.4)
    assert one(found, "Correlation_Manders_B_A") == pytest.approx(1)
    assert one(found, "Correlation_K_A_B") == pytest.approx(0.6 / 0.68)
    assert one(found, "Correlation_Overlap_A_B") == pytest.approx(
        0.6 / np.sqrt(0.68 * 1.25)
    )
    # Ranks 3, 2, 1, 0 and 2, 1, 3, 0: weights 3/4 and 2/4.
    assert one(found, "Correlation_RWC_A_B") == pytest.approx((0.6 + 0.1) / 1.4)


def test_a_constant_has_no_texture_and_a_small_object_none_at_all():
    labels = block() + block(height=4, width=4, top=60)
    labels[60:64] = np.where(labels[60:64] > 0, 9, 0)
    found = texture(Objects.of(labels), np.full((96, 96), 0.5), "A")
    for name, value in {
        "Contrast": 0, "AngularSecondMoment": 1, "Entropy": 0, "Variance": 0,
        "InverseDifferenceMoment": 1, "Correlation": 1, "SumAverage": 256,
    }.items():  # fmt: skip
        large, small = found[f"Texture_{name}_A_5_00_256"]
        assert large == pytest.approx(value)
        assert np.isnan(small)
    assert not np.isnan(found["Texture_Contrast_A_3_00_256"]).any()


def test_the_texture_of_stripes():
    labels = block()
    image = np.where(X % 2 == 0, 10, 40) / 255
    found = texture(Objects.of(labels), image, "A")

    def at(name, scale, direction):
        return one(found, f"Texture_{name}_A_{scale}_{direction:02d}_256")

    # Three and five pixels aside is the other stripe, ten is the same.
    for scale in (3, 5):
        assert at("Contrast", scale, 0) == pytest.approx(900)
        assert at("Correlation", scale, 0) == pytest.approx(-1)
        assert at("SumVariance", scale, 0) == pytest.approx(0)
        assert at("SumAverage", scale, 0) == pytest.approx(50)
        assert at("AngularSecondMoment", scale, 0) == pytest.approx(0.5)
        assert at("Entropy", scale, 0) == pytest.approx(1)
        # One bit each, and one for both together: all is shared.
        assert at("InfoMeas1", scale, 0) == pytest.approx(-1)
        assert at("InfoMeas2", scale, 0) == pytest.approx(np.sqrt(1 - np.exp(-2)))
        # One difference of the 41 that are possible has all the probability.
        assert at("DifferenceVariance", scale, 0) == pytest.approx(1 / 41 - 1 / 41**2)
    assert at("Contrast", 10, 0) == at("Contrast", 3, 2) == 0
    assert at("Variance", 10, 0) == pytest.approx(225)
    assert at("Contrast", 3, 1) == at("Contrast", 3, 3) == pytest.approx(900)


@pytest.mark.parametrize("radius", [6, 12, 20])
def test_granularity_finds_the_size_of_discs(radius):
    labels = (RADIUS <= 40).astype(int)
    image = (RADIUS <= radius) * 0.9
    found = granularity(Objects.of(labels), image, "A")
    spectrum = np.array([one(found, f"Granularity_{k}_A") for k in range(1, 17)])
    # A diamond of half the radius still fits into the halved disc, no larger one.
    assert spectrum[radius // 2] > 85
    assert abs(spectrum).sum() - spectrum[radius // 2] < 15


def test_granularity_leaves_a_wide_background():
    labels = (RADIUS <= 10).astype(int)
    found = granularity(Objects.of(labels), np.full((96, 96), 0.4), "A")
    # All of it goes with the background, at the first step.
    assert one(found, "Granularity_1_A") == pytest.approx(100)
    assert one(found, "Granularity_2_A") == pytest.approx(0, abs=1e-9)


def test_rings_of_a_flat_disc_and_of_a_cone():
    objects = Objects.of((RADIUS <= 44).astype(int))
    rings = Rings(objects)
    flat = radial(rings, np.ones((96, 96)), "A")
    cone = radial(rings, np.clip(1 - RADIUS / 44, 0, 1), "A")
    u = np.arange(5) / 4
    for k in range(4):
        area = one(flat, f"RadialDistribution_FracAtD_A_{k + 1}of4")
        # Ways over pixels are up to 8% longer than straight ones.
        assert area == pytest.approx(u[k + 1] ** 2 - u[k] ** 2, abs=0.05)
        assert one(flat, f"RadialDistribution_MeanFrac_A_{k + 1}of4") == pytest.approx(
            1
        )
        assert one(flat, f"RadialDistribution_RadialCV_A_{k + 1}of4") == pytest.approx(
            0, abs=1e-9
        )
        stain = np.diff(3 * u**2 - 2 * u**3)[k]
        assert one(cone, f"RadialDistribution_FracAtD_A_{k + 1}of4") == pytest.approx(
            stain, abs=0.05
        )
    total = sum(one(cone, f"RadialDistribution_FracAtD_A_{k}of4") for k in range(1, 5))
    assert total == pytest.approx(1)


def test_half_a_disc_of_stain_is_uneven():
    rings = Rings(Objects.of((RADIUS <= 30).astype(int)))
    found = radial(rings, (X > 48).astype(float), "A")
    # Four wedges with 1 and four with nearly 0.
    assert one(found, "RadialDistribution_RadialCV_A_4of4") == pytest.approx(1, abs=0.1)


def squares(gap):
    labels = np.zeros((30, 60), int)
    for i in range(3):
        labels[10:20, 5 + i * (10 + gap) :][:, :10] = 3 - i
    return Objects.of(labels)


def test_neighbours_of_touching_squares():
    found = neighbours(squares(0), None)
    assert found["Neighbors_NumberOfNeighbors_Adjacent"].tolist() == [1, 2, 1]
    # Ten of 36 pixels of the outline are at each neighbour.
    assert found["Neighbors_PercentTouching_Adjacent"] == pytest.approx(
        [1000 / 36, 2000 / 36, 1000 / 36]
    )
    assert found["Neighbors_FirstClosestDistance_Adjacent"] == pytest.approx([10] * 3)
    assert found["Neighbors_SecondClosestDistance_Adjacent"] == pytest.approx(
        [20, 10, 20]
    )
    angles = found["Neighbors_AngleBetweenNeighbors_Adjacent"]
    assert angles == pytest.approx([0, 180, 0], abs=1e-4)


def test_neighbours_within_a_distance():
    assert not neighbours(squares(1), None)[
        "Neighbors_NumberOfNeighbors_Adjacent"
    ].any()
    # With a gap of 4 px the next pixel is 5 px away.
    for gap, number in ((4, [1, 2, 1]), (5, [0, 0, 0])):
        found = neighbours(squares(gap), 5)
        assert found["Neighbors_NumberOfNeighbors_5"].tolist() == number
    alone = neighbours(Objects.of(block()), 1)
    assert np.isnan(one(alone, "Neighbors_FirstClosestDistance_1"))
    assert one(alone, "Neighbors_PercentTouching_1") == 0


def test_the_shape_of_a_rectangle():
    found = shape(Objects.of(block()))
    assert one(found, "AreaShape_Area") == one(found, "AreaShape_ConvexArea") == 800
    assert one(found, "AreaShape_MaximumRadius") == 10
    assert one(found, "AreaShape_Extent") == one(found, "AreaShape_EulerNumber") == 1


@pytest.fixture(scope="module")
def scene():
    labels = np.zeros((96, 96), np.int64)
    labels[30:50, 20:40], labels[30:50, 40:60], labels[80:, 10:30] = 4, 11, 90000
    image = np.random.default_rng(2).uniform(0, 1, (3, 96, 96))
    return image, labels


@pytest.fixture(scope="module")
def table(scene):
    return object_features(*scene, ["DNA", "ER", "AGP"], "cells")


def test_all_categories_are_measured(table):
    assert table["label"].tolist() == [4, 11, 90000]
    measured = {category_of(name) for name in table.columns[1:]}
    assert measured | {"Count"} == {*CATEGORIES, "AreaShape"}
    assert feature_columns(table) == list(table.columns[1:])
    # Of each channel 15 + 4 + 16 + 12 + 3 x 4 x 13, of each pair 8; once 2 centres,
    # 14 shapes and 5 of each kind of neighbour.
    assert len(feature_columns(table)) == 3 * 203 + 3 * 8 + 2 + 14 + 10
    assert np.isfinite(table.drop(columns="label").to_numpy()).all()


def test_an_object_does_not_depend_on_the_others(scene, table):
    image, labels = scene
    # Granularity and neighbours apart, which look around.
    alone = object_features(
        image, np.where(labels == 11, 3, 0), ["DNA", "ER", "AGP"], "cells"
    )
    own = [
        name for name in feature_columns(table)
        if category_of(name) not in ("Neighbors", "Granularity")
    ]  # fmt: skip
    # Its edge to the other square is one either way.
    assert alone[own].iloc[0].to_numpy() == pytest.approx(table[own].iloc[1].to_numpy())


def test_kept_objects_are_those_inside(scene, table):
    image, labels = scene
    assert inner_labels(labels).tolist() == [4, 11]
    found = object_features(
        image, labels, ["DNA", "ER", "AGP"], "cells", keep=inner_labels(labels)
    )
    assert found.equals(table.iloc[:2])


def test_no_objects_give_all_columns(scene, table):
    empty = object_features(
        scene[0], np.zeros((96, 96), int), ["DNA", "ER", "AGP"], "cells"
    )
    assert list(empty.columns) == list(table.columns)
    assert not len(empty)
    assert site_features(empty)["Count_Objects"] == 0


def test_a_site_has_medians_and_a_count(table):
    row = site_features(table, "cells")
    assert row["Cells_Count_Objects"] == 3
    assert row["Cells_AreaShape_Area"] == 400
    assert category_of("Cells_Count_Objects") == "Count"


@pytest.mark.parametrize(
    ("image", "channels", "message"),
    [
        (np.ones((2, 8, 8)), ["A"], "cannot have the names"),
        (np.ones((1, 8, 8)), ["A_B"], "underscore"),
        (np.full((1, 8, 8), 7.0), ["A"], "not 0 to 1"),
        (np.ones((1, 8, 9)), ["A"], "has shape"),
        (np.full((1, 8, 8), np.nan), ["A"], "NaN"),
    ],
)
def test_bad_images_are_refused(image, channels, message):
    with pytest.raises(PhantomscopeError, match=message):
        object_features(image, np.ones((8, 8), int), channels)


def test_other_columns_are_no_features():
    with pytest.raises(PhantomscopeError, match="no feature"):
        category_of("Metadata_Well")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (33, 17)])
def test_tiny_full_and_dark_images_have_no_infinities(shape):
    each = np.arange(1, np.prod(shape) + 1).reshape(shape)
    for labels in (np.ones(shape, int), each):
        for image in (np.zeros((2, *shape)), np.ones((2, *shape))):
            found = object_features(image, labels, ["A", "B"], "cells")
            assert len(found) == labels.max()
            assert not np.isinf(found.to_numpy(float)).any()

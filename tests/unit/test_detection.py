"""Points, boxes and masks against truths that can be counted by hand; assays."""

import numpy as np
import pytest
from scipy import stats

from phantomscope.config.filtering import Objects
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.measure.assay import compare_controls, sum_by_well, z_prime
from phantomscope.measure.detection import (
    BOX_THRESHOLDS,
    Counts,
    box_iou,
    mask_counts,
    match_boxes,
    match_points,
    pixel_iou,
    points_in_objects,
    pool_counts,
)
from phantomscope.measure.foreground import (
    bounding_boxes,
    by_area,
    closed,
    ellipse,
    find_objects,
    layer_boxes,
    object_table,
    opened,
    otsu_mask,
    removed_objects,
    split_objects,
)


def discs(shape, centres, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.max([(y - a) ** 2 + (x - b) ** 2 <= radius**2 for a, b in centres], 0)


def test_two_points_in_one_object_count_as_each_rule_says():
    labels = np.zeros((30, 30), int)
    labels[2:12, 2:12], labels[20:25, 20:25] = 1, 2
    points = [(3, 3), (9, 9), (28, 2)]  # two in object 1, one in nothing
    found = points_in_objects(points, labels)
    assert found["one_to_one"] == Counts(tp=1, fp=1, fn=2)
    assert found["published"] == Counts(tp=2, fp=0, fn=1)
    assert found["published"].precision == 1
    assert found["one_to_one"].precision == 0.5
    assert found["one_to_one"].f1 == pytest.approx(2 / 5)
    # Three points in one object: more found than there are objects.
    odd = points_in_objects([(3, 3), (9, 9), (5, 5)], labels * (labels == 1))
    assert odd["published"] == Counts(3, -2, 0)
    assert odd["published"].precision == 3
    assert odd["one_to_one"] == Counts(1, 0, 2)
    with pytest.raises(PhantomscopeError, match="outside"):
        points_in_objects([(30, 1)], labels)


def test_nothing_to_find_and_nothing_found_is_right():
    empty = points_in_objects(np.empty((0, 2)), np.zeros((20, 20), int))
    assert empty["one_to_one"].f1 == empty["published"].recall == 1
    assert Counts(0, 3, 0).precision == Counts(0, 0, 2).recall == 0
    assert pool_counts([]) == Counts(0, 0, 0)


def test_points_pair_up_as_often_as_they_can():
    truth, found = [(0, 0), (0, 3)], [(0, 2), (0, 5), (9, 9)]
    # (0, 2) is nearest to (0, 3), but then (0, 0) would have nothing.
    assert match_points(truth, found, 2.0) == Counts(2, 1, 0)
    assert match_points(truth, found, 1.0) == Counts(1, 2, 1)
    assert match_points(truth, [], 1.0) == Counts(0, 0, 2)
    with pytest.raises(PhantomscopeError, match="distance"):
        match_points(truth, found, 0.0)


def test_boxes_by_hand():
    truth = [(0, 0, 10, 10), (0, 20, 10, 30)]
    found = [(0, 0, 10, 5), (0, 25, 10, 35), (50, 50, 60, 60)]
    iou = box_iou(truth, found)
    np.testing.assert_allclose(iou, [[0.5, 0, 0], [0, 50 / 150, 0]])
    counts = [(m.tp, m.fp, m.fn) for m in match_boxes(truth, found)]
    assert BOX_THRESHOLDS == (0.01, 0.1, 0.25, 0.5)
    assert counts == [(2, 1, 0), (2, 1, 0), (2, 1, 0), (1, 2, 1)]
    pooled = pool_counts([match_boxes(truth, found, [0.5])[0], Counts(1, 0, 0)])
    assert pooled == Counts(2, 2, 1)


def test_boxes_match_one_to_one_at_high_thresholds_too():
    # Both found boxes have an IoU above 0.5 with the one true box.
    twice = match_boxes([(0, 0, 10, 10)], [(0, 0, 10, 9), (0, 1, 10, 10)], [0.6])
    assert (twice[0].tp, twice[0].fp, twice[0].fn) == (1, 1, 0)
    # The better pair must not cost the other one.
    truth = [(0, 0, 10, 10), (0, 6, 10, 16)]
    found = [(0, 2, 10, 12), (0, 7, 10, 17)]
    (both,) = match_boxes(truth, found, [0.4])
    assert both.tp == 2
    for bad in ([(0, 0, 0, 4)], [(5, 5, 4, 9)]):
        with pytest.raises(PhantomscopeError, match="no area"):
            match_boxes(bad, found)


def test_pooled_and_mean_iou_differ():
    large, small = np.ones((20, 20), bool), np.zeros((20, 20), bool)
    small[:2, :2] = True
    half = small.copy()
    half[1] = False
    parts = [mask_counts(large, large), mask_counts(small, half)]
    assert [pixel_iou(p) for p in parts] == [1, 0.5]
    assert pixel_iou(pool_counts(parts)) == pytest.approx(402 / 404)
    assert pixel_iou(mask_counts(~large, ~large)) == 1
    with pytest.raises(PhantomscopeError, match="shapes"):
        mask_counts(large, small[:3])


def test_z_prime_of_known_values():
    # Means 10 and 2, population deviations 1 and 1: 1 - 6 / 8.
    assert z_prime([9, 11], [1, 3]) == pytest.approx(0.25)
    assert z_prime([1, 3], [9, 11]) == pytest.approx(0.25)
    assert z_prime([5, 5], [5, 5]) == float("-inf")
    interval, tests = compare_controls([9, 11, 10, 10], [1, 3, 2, 2])
    deviation = 3 * 2 * np.sqrt(0.5)
    assert interval.value == pytest.approx(1 - deviation / 8)
    assert interval.low <= interval.value <= interval.high <= 1
    assert interval.n == 8
    expected = stats.ttest_ind([9, 11, 10, 10], [1, 3, 2, 2]).pvalue
    assert tests["student_t"] == pytest.approx(expected)
    assert tests["difference"] == 8
    assert np.isnan(compare_controls([5, 5], [5, 5])[1]["student_t"])
    with pytest.raises(PhantomscopeError, match="spread"):
        z_prime([1], [2, 3])


def test_sites_add_up_to_wells():
    assert sum_by_well([1, 2, 4], ["B1", "A1", "B1"]) == {"B1": 5, "A1": 2}
    with pytest.raises(PhantomscopeError, match="wells"):
        sum_by_well([1, 2], ["A1"])


def test_discs_are_those_of_opencv():
    assert ellipse(3).astype(int).tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert ellipse(5).sum(1).tolist() == [1, 5, 5, 5, 1]
    assert ellipse(11).sum(1).tolist() == [1, 7, 9, 11, 11, 11, 11, 11, 9, 7, 1]
    assert ellipse(1).tolist() == [[True]]


def test_opening_removes_specks_and_keeps_the_border():
    mask = np.zeros((40, 40), bool)
    mask[:20, :20] = mask[30, 30] = True
    kept = opened(mask, 3, 2)
    assert not kept[30, 30]
    assert kept[0, 0]
    assert kept[:18, :18].all()
    mask[5, 5] = False
    assert closed(mask, 3)[5, 5]
    assert not closed(mask, 3)[25, 25]


def test_touching_objects_are_split_and_small_ones_dropped():
    mask = discs((120, 120), [(40, 40), (40, 66)], 15)
    mask |= discs((120, 120), [(100, 100)], 6)
    labels = split_objects(0.1 + mask * 0.8)
    assert labels.max() == 2
    assert labels[40, 35] != labels[40, 71]
    assert labels[100, 100] == 0
    assert split_objects(0.1 + mask * 0.8, least=50).max() == 3
    assert split_objects(0.1 + mask * 0.8, least=50, most=300).max() == 1
    assert split_objects(np.zeros((40, 40))).max() == 0
    table = object_table(labels)
    assert sorted(table["x"]) == pytest.approx([39.6, 66.6], abs=0.5)
    assert by_area(np.array([[1, 1, 3]]), 2).tolist() == [[1, 1, 0]]


def test_boxes_of_a_layer():
    layer = np.zeros((80, 90))
    layer[10:30, 20:50] = 2.0
    layer[15:20, 30:35] = 0.0  # a hole counts as area
    layer[60:70, 60:70] = 2.0  # 100 px: too small
    assert layer_boxes(layer).tolist() == [[10, 20, 30, 50]]
    assert len(layer_boxes(layer, least=99)) == 2
    assert layer_boxes(np.ones((20, 20))).shape == (0, 4)
    assert bounding_boxes(np.zeros((3, 3), int)).shape == (0, 4)
    assert not otsu_mask(np.ones((9, 9))).any()


def test_objects_of_noise_are_dropped_by_their_light():
    rule = Objects(rule="otsu", min_area=1)
    empty = 0.01 * np.abs(generator("empty").normal(size=(40, 40)))
    assert find_objects(empty, empty, empty, rule).max() > 5
    least = rule.model_copy(update={"min_light": 0.1})
    assert not find_objects(empty, empty, empty, least).any()
    layer = empty.copy()
    layer[10:20, 10:20] += 0.5
    found = find_objects(layer, layer, layer, least)
    assert found.max() == 1
    assert (found > 0).sum() == 100


def test_an_object_belongs_to_the_layer_that_has_most_of_its_light():
    one, other = discs((60, 60), [(15, 15)], 6), discs((60, 60), [(40, 40)], 6)
    image = 0.2 + 0.5 * one + 0.8 * other
    # Half of the bright one's light would be 0.4, which is as much as the dim one has.
    layer, rest = 0.45 * one + 0.3 * other, 0.05 * one + 0.5 * other
    for values, whole in ((layer, one), (rest, other)):
        rule = Objects(rule="otsu", min_area=10, min_share=0.5, otsu_factor=0.5)
        found = find_objects(values, image, image, rule)
        np.testing.assert_array_equal(found > 0, whole > 0)
    every = Objects(rule="otsu", min_area=10, otsu_factor=0.5)
    assert find_objects(layer, image, image, every).max() == 2


@pytest.mark.parametrize("rule", ["split", "boxes", "removed", "otsu"])
def test_a_part_of_otsus_threshold_takes_dim_edges_in(rule):
    bright, dim = discs((60, 60), [(30, 30)], 8), discs((60, 60), [(30, 30)], 14)
    layer = 0.2 * dim + 0.8 * bright
    none, scene = np.zeros_like(layer), layer
    given = {"rule": rule, "min_area": 10, "step": None}
    for factor, whole in ((1.0, bright), (0.5, dim)):
        found = find_objects(layer, none, scene, Objects(otsu_factor=factor, **given))
        assert found.max() == 1
        wrong = ((found > 0) != whole).sum()
        assert wrong <= 0.1 * whole.sum(), (factor, wrong)


def test_worms_are_what_became_lighter():
    image = np.full((20, 20), 0.6)
    image[5:9, 5:9] = 0.2
    cleaned = np.full((20, 20), 0.6)
    cleaned[15, 15] += 9 / 255
    assert removed_objects(image, cleaned).sum() == 16
    # Noise of more than the step: Otsu's threshold is above it.
    noisy = image + generator("camera").normal(0, 15 / 255, image.shape)
    assert removed_objects(noisy, cleaned).sum() > 60
    assert removed_objects(noisy, cleaned, step=None).sum() == 16
    with pytest.raises(PhantomscopeError, match="shapes"):
        removed_objects(image, cleaned[1:])

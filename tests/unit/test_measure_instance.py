"""Instance measures against closed forms, stardist, and invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.testing import assert_allclose
from stardist.matching import matching as stardist_matching

from phantomscope.errors import PhantomscopeError
from phantomscope.measure import instance, matching, overlap

LABELS = npst.arrays(np.uint16, (7, 8), elements=st.integers(0, 5))


def square(shift=0, size=40, side=10, label=1, dtype=np.uint16):
    image = np.zeros((size, size), dtype)
    image[10 : 10 + side, 10 + shift : 10 + shift + side] = label
    return image


def noisy_pair(seed, shape):
    """Blocks as truth; the prediction moves, splits and drops some."""
    random = np.random.default_rng(seed)
    truth = np.zeros(shape, np.int32)
    prediction = np.zeros(shape, np.int32)
    for label in range(1, 25):
        corner = [random.integers(0, n - 8) for n in shape]
        side = [random.integers(3, 8) for _ in shape]
        here = tuple(slice(c, c + s) for c, s in zip(corner, side, strict=True))
        truth[here] = 3 * label
        move = tuple(
            slice(max(0, c + random.integers(-1, 2)), c + s)
            for c, s in zip(corner, side, strict=True)
        )
        if random.random() > 0.15:
            prediction[move] = 2 * label + 100
    return truth, prediction


@pytest.mark.parametrize("shift", range(0, 12, 2))
def test_shifted_squares_have_the_closed_form_iou(shift):
    shared = max(0, 10 - shift)
    iou = instance.iou_matrix(square(), square(shift))
    assert_allclose(iou, [[shared / (20 - shared)]])
    assert_allclose(
        instance.dice_per_object(square(), square(shift)), [shared / 10], atol=1e-12
    )
    seg = shared / (20 - shared) if shared > 5 else 0
    assert instance.ctc_seg(square(), square(shift)) == pytest.approx(seg)


def test_overlap_table_of_labels_with_gaps():
    truth = np.array([[0, 7, 7, 900000]])
    prediction = np.array([[5, 5, 2, 2]])
    table = instance.overlap_table(truth, prediction)
    assert table.dense(table.counts).tolist() == [[1, 1], [1, 0]]
    assert table.true_sizes.tolist() == [2, 1]
    assert table.pred_sizes.tolist() == [2, 2]


def test_table_without_background_and_with_large_labels():
    big = np.array([10**9, 10**9 + 5, 10**9 + 5], np.int64)
    table = instance.overlap_table(big, big)
    assert table.dense(table.counts).tolist() == [[1, 0], [0, 2]]
    assert table.true_sizes.tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(48, 60), (14, 30, 33)])
def test_match_agrees_with_stardist(seed, shape):
    truth, prediction = noisy_pair(seed, shape)
    thresholds = (0.1, 0.3, *instance.THRESHOLDS)
    ours = instance.match(truth, prediction, thresholds)
    theirs = stardist_matching(truth, prediction, thresh=thresholds)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.tp, a.fp, a.fn) == (b.tp, b.fp, b.fn)
        assert_allclose(
            [a.precision, a.recall, a.f1, a.average_precision, a.panoptic_quality],
            [b.precision, b.recall, b.f1, b.accuracy, b.panoptic_quality],
            rtol=1e-5,
        )
    assert 0 < ours[2].tp < len(np.unique(truth)) - 1


@settings(max_examples=60, deadline=None)
@given(LABELS, LABELS)
def test_match_agrees_with_stardist_on_any_labels(truth, prediction):
    thresholds = (0.2, 0.5, 0.6, 0.75)
    ours = instance.match(truth, prediction, thresholds)
    theirs = stardist_matching(truth, prediction, thresh=thresholds)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.tp, a.fp, a.fn) == (b.tp, b.fp, b.fn)
        if a.tp + a.fp + a.fn:
            assert a.panoptic_quality == pytest.approx(b.panoptic_quality, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(LABELS, LABELS, st.permutations(range(1, 6)))
def test_relabelling_changes_nothing(truth, prediction, order):
    table = np.array([0, *[37 * label for label in order]])
    before = instance.score_image(truth, prediction, (0.5, 0.75))
    after = instance.score_image(table[truth], table[prediction], (0.5, 0.75))
    assert_allclose(list(after.values()), list(before.values()), equal_nan=True)


@settings(max_examples=50, deadline=None)
@given(LABELS, LABELS)
def test_symmetry_and_bounds(truth, prediction):
    iou = instance.iou_matrix(truth, prediction)
    assert_allclose(iou, instance.iou_matrix(prediction, truth).T)
    assert np.all((iou >= 0) & (iou <= 1))
    there, back = (
        instance.match(a, b) for a, b in ((truth, prediction), (prediction, truth))
    )
    for a, b in zip(there, back, strict=True):
        assert (a.tp, a.fp, a.fn) == (b.tp, b.fn, b.fp)
        assert a.precision == b.recall
        for score in (a.f1, a.average_precision, a.panoptic_quality):
            assert 0 <= score <= 1
    tps = [found.tp for found in there]
    assert tps == sorted(tps, reverse=True)
    splits, merges = instance.split_merge_counts(truth, prediction)
    assert (merges, splits) == instance.split_merge_counts(prediction, truth)


def test_a_threshold_met_exactly_is_a_match_however_it_was_rounded():
    truth, prediction = np.ones(10, int), np.array([1] * 7 + [0] * 3)
    for threshold in (0.7, 0.5 + 4 * 0.05, 0.7000000000000002):
        assert instance.match(truth, prediction, [threshold])[0].tp == 1
    assert instance.match(truth, prediction, [0.7001])[0].tp == 0


def test_two_halves_give_one_pair_at_one_half():
    truth, prediction = np.ones(8, int), np.array([1] * 4 + [2] * 4)
    (found,) = instance.match(truth, prediction, [0.5])
    assert (found.tp, found.fp, found.fn) == (1, 1, 0)
    assert instance.ctc_seg(truth, prediction) == 0  # half is not more than half


def test_nothing_to_find():
    empty = np.zeros((4, 4), int)
    (both,) = instance.match(empty, empty, [0.5])
    assert both.average_precision == both.precision == both.panoptic_quality == 1
    (missed,) = instance.match(square(), 0 * square(), [0.5])
    assert missed.average_precision == missed.precision == missed.recall == 0
    (invented,) = instance.match(0 * square(), square(), [0.5])
    assert (invented.fp, invented.recall, invented.f1) == (1, 0, 0)
    assert np.isnan(instance.ctc_seg(empty, empty))


def test_seg_per_object_by_hand():
    truth = np.array([1] * 4 + [2] * 4 + [3] * 2)
    prediction = np.array([1] * 3 + [0] + [2] * 4 + [2] * 2)
    assert_allclose(instance.seg_per_object(truth, prediction), [3 / 4, 4 / 6, 2 / 6])
    assert_allclose(instance.dice_per_object(truth, prediction), [6 / 7, 8 / 10, 4 / 8])


def test_splits_and_merges_by_hand():
    truth = np.array([1] * 6 + [0] * 2 + [2] * 3 + [3] * 3 + [4] * 4)
    prediction = np.array([1] * 3 + [2] * 3 + [0] * 2 + [3] * 6 + [4] * 4)
    assert instance.split_merge_counts(truth, prediction) == (1, 1)
    # A predicted object that reaches half out of the true one is no fragment of it.
    prediction = np.array([1] * 3 + [2] * 6 + [3] * 9)
    assert instance.split_merge_counts(truth[:18], prediction)[0] == 0


def test_pool_of_one_image_is_its_matching():
    truth, prediction = noisy_pair(1, (48, 60))
    pooled = instance.pool([instance.score_image(truth, prediction)])
    found = instance.match(truth, prediction)
    assert pooled["ap_0.50"] == found[0].average_precision
    assert pooled["pq_0.95"] == pytest.approx(found[-1].panoptic_quality)
    assert pooled["ap_mean"] == pytest.approx(
        np.mean([one.average_precision for one in found])
    )
    assert pooled["seg"] == pytest.approx(instance.ctc_seg(truth, prediction))
    assert pooled["n_images"] == 1


def test_pool_weighs_objects_not_images():
    two = np.array([1, 1, 0, 2, 2])
    rows = [
        instance.score_image(two, two),
        instance.score_image(two, 0 * two),
        instance.score_image(np.array([1, 1, 0, 0, 0]), 0 * two),
        instance.score_image(0 * two, 0 * two),
    ]
    pooled = instance.pool(rows)
    assert pooled["ap_0.50"] == pooled["seg"] == pooled["dice"] == 2 / 5
    assert pooled["precision_0.50"] == 1
    assert pooled["n_true"] == 5
    assert pooled["n_images"] == 4
    assert np.isnan(instance.pool(rows[3:])["seg"])


def test_object_records_add_up_to_the_matching():
    truth, prediction = noisy_pair(2, (48, 60))
    records = instance.object_records(truth, prediction, 0.5)
    (found,) = instance.match(truth, prediction, [0.5])
    assert records[["tp", "fp", "fn"]].sum().tolist() == [found.tp, found.fp, found.fn]
    assert (records[["tp", "fp", "fn"]].sum(axis=1) == 1).all()
    assert records["iou"].sum() == pytest.approx(found.iou_sum)
    assert (records.loc[records.tp == 0, "iou"] == 0).all()


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (np.ones((4, 4)), "truth has dtype float64"),
        (np.ones((4, 4), bool), "truth has dtype bool"),
        (np.full((4, 4), np.nan), "truth has dtype float64"),
        (np.ones((4, 5), int), r"truth has shape \(4, 5\) but prediction has shape"),
        (-np.ones((4, 4), int), "truth holds negative labels"),
        (np.ones((0, 4), int), "truth is empty"),
    ],
)
def test_bad_labels_are_refused(truth, message):
    with pytest.raises(PhantomscopeError, match=message):
        instance.score_image(truth, np.ones((4, 4), int))


@pytest.mark.parametrize("thresholds", [[], [0.0], [1.1], [0.5, 0.501], [np.nan]])
def test_bad_thresholds_are_refused(thresholds):
    with pytest.raises(PhantomscopeError, match="bad IoU thresholds"):
        instance.match(square(), square(), thresholds)


def test_bad_rows_and_fraction_are_refused():
    with pytest.raises(PhantomscopeError, match="no rows to pool"):
        instance.pool([])
    row = instance.score_image(square(), square(), [0.5])
    with pytest.raises(PhantomscopeError, match="lacks the column tp_0"):
        instance.pool([row], [0.75])
    with pytest.raises(PhantomscopeError, match=r"fraction is 0\.2"):
        instance.split_merge_counts(square(), square(), 0.2)


def test_pairs_are_matched_as_in_the_dense_matrix():
    for seed in range(8):
        truth, prediction = noisy_pair(seed, (20, 24))
        table = instance.overlap_table(truth, prediction)
        for threshold in (0.05, 0.2, 0.5, 0.6):
            rows, columns = matching.assign(table.dense(table.iou), threshold)
            pairs = matching.assign_pairs(table, threshold)
            assert table.rows[pairs].tolist() == rows.tolist()
            assert table.columns[pairs].tolist() == columns.tolist()


def test_runs_that_cross_a_chunk_are_counted_whole(monkeypatch):
    truth, prediction = noisy_pair(3, (12, 20, 30))
    whole = instance.overlap_table(truth, prediction)
    monkeypatch.setattr(overlap, "CHUNK", 7)
    for a, b in zip(whole, instance.overlap_table(truth, prediction), strict=True):
        assert a.tolist() == b.tolist()


def test_the_table_of_many_objects_stays_small():
    side = 8
    truth = np.arange(40**3, dtype=np.int32).reshape(40, 40, 40) + 1
    truth = truth.repeat(side, axis=2)  # 64,000 objects: a matrix would take 33 GB
    table = instance.overlap_table(truth, truth)
    assert table.counts.tolist() == [side] * 40**3
    scored = instance.score_image(truth, truth, [0.5, 0.75])
    assert scored["tp_0.50"] == scored["tp_0.75"] == 40**3
    assert scored["dice_mean"] == 1


def test_spread_of_dice_and_dice_of_the_foreground():
    truth = np.array([1] * 4 + [2] * 4 + [0] * 4)
    rows = [
        instance.score_image(truth, np.array([1] * 4 + [0] * 8)),
        instance.score_image(truth, np.array([1] * 2 + [0] * 6 + [3] * 4)),
    ]
    dice = [1, 0, 2 / 3, 0]
    pooled = instance.pool(rows)
    assert pooled["dice"] == pytest.approx(np.mean(dice))
    assert pooled["dice_sd"] == pytest.approx(np.std(dice))
    assert pooled["dice_foreground"] == pytest.approx(2 * 6 / (8 + 4 + 8 + 6))
    records = instance.object_records(truth, np.array([1] * 2 + [0] * 6 + [3] * 4))
    assert records["dice"].tolist()[:2] == pytest.approx(dice[2:])
    assert records["seg"].tolist()[:2] == [0, 0]
    assert np.isnan(records["dice"][2])

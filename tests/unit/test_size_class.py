"""Classes of objects by their size, against truths that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from phantomscope.downstream.size_class import (
    OBJECTS,
    SizeRule,
    fit_size_rule,
    taught_areas,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter


def taught(folder, table):
    """Two images: objects of 4 and 9 px, and of 16 px; an object 2 that is hidden."""
    first, second = np.zeros((20, 20), np.uint16), np.zeros((20, 20), np.uint16)
    first[:2, :2], first[5:8, 5:8], second[10:14, 10:14] = 1, 3, 1
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        writer.add("007", first, first)
        writer.add("b", second, second)
        if table:
            (writer.partial / OBJECTS).write_text(table)
    return ImageSet.open(folder)


TABLE = "id,label,type\n007,1,other\n007,2,target\n007,3,target\nb,1,target\n"


def test_classes_apart_are_parted_in_the_middle():
    rule = fit_size_rule([100, 120], [10, 20, 30])
    assert rule == SizeRule(65.0, True, 1.0, 2, 3)
    assert rule.wanted([65, 65.5, 10]).tolist() == [False, True, False]
    small = fit_size_rule([10, 20, 30], [100, 120])
    assert small == SizeRule(65.0, False, 1.0, 3, 2)
    assert small.wanted([65, 66]).tolist() == [True, False]


def test_classes_that_overlap_have_the_best_balanced_accuracy():
    # Above 2.5 are all targets and half of the others.
    rule = fit_size_rule([3, 5, 6], [1, 2, 3, 9])
    assert rule == SizeRule(2.5, True, 0.75, 3, 4)
    # A rare class counts as much as a frequent one.
    rare = fit_size_rule([10], [9] * 500 + [11] * 400)
    assert (rare.threshold, rare.larger) == (9.5, True)
    assert rare.accuracy == pytest.approx((1 + 5 / 9) / 2)


def test_equal_thresholds_give_the_middle_one():
    # 2.5, 5.5 and 7.5 tell three of four right.
    rule = fit_size_rule([3, 6, 8, 9], [1, 2, 5, 7])
    values = [
        (np.mean(np.array([3, 6, 8, 9]) > t) + np.mean(np.array([1, 2, 5, 7]) < t)) / 2
        for t in (2.5, 5.5, 7.5)
    ]
    assert values == [0.75, 0.75, 0.75]
    assert rule == SizeRule(5.5, True, 0.75, 4, 4)


def test_nothing_to_part():
    assert fit_size_rule([3, 4], []) == SizeRule(None, True, 1.0, 2, 0)
    alike = fit_size_rule([7, 7], [7])
    assert alike == SizeRule(None, True, 0.5, 2, 1)
    assert alike.wanted([1, 700]).all()
    with pytest.raises(PhantomscopeError, match="no object of the target class"):
        fit_size_rule([], [3])


def test_only_targets_stay_and_the_others_are_counted(tmp_path):
    labels = np.zeros((12, 12), np.uint16)
    labels[:2, :2], labels[4:8, 4:8], labels[10:, 10:] = 1, 5, 9
    rule = SizeRule(10.0, True, 1.0, 1, 1)
    kept, dropped = rule.keep(labels)
    assert dropped == 2
    assert (kept == (labels == 5)).all()
    assert SizeRule(10.0, False, 1.0, 1, 1).keep(labels)[1] == 1
    assert SizeRule(None, True, 1.0, 1, 0).keep(labels)[1] == 0
    assert SizeRule(10.0, True, 1.0, 1, 1).keep(np.zeros((4, 4), int))[1] == 0
    rule.save(tmp_path)
    assert SizeRule.load(tmp_path) == rule
    (tmp_path / "class.json").write_text('{"limit": 3}')
    with pytest.raises(PhantomscopeError, match="no rule of classes"):
        SizeRule.load(tmp_path)


def test_areas_are_those_that_are_seen(tmp_path):
    targets, others = taught_areas(taught(tmp_path / "set", TABLE))
    assert targets.tolist() == [9, 16]
    assert others.tolist() == [4]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "no such file"),
        (TABLE.replace("b,1,target\n", ""), "object 1 of the image 'b' has no row"),
        (TABLE.replace("other", "cell"), "'cell' is neither"),
        (TABLE + "b,1,other\n", "names an object twice"),
        ("id,type\nb,target\n", "lacks the columns label"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, table, message):
    with pytest.raises(PhantomscopeError, match=message):
        taught_areas(taught(tmp_path / "set", table))

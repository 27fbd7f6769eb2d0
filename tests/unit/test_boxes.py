"""Boxes to learn from, and found ones, against truths that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from phantomscope.config.detectors import Detectors, FasterRcnn, RetinaNet
from phantomscope.downstream.boxes import (
    Boxes,
    Schedule,
    augmented,
    box_labels,
    chosen_boxes,
    read_boxes,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter

TABLE = """id,y1,x1,y2,x2,type
007,2,3,10,9,cell
007,15,18,24,30,
b,1,1,5,5,dirt
"""


def boxed(folder, table=TABLE):
    """Three images of 20 x 24 px, the last one without a box."""
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for name in ("007", "b", "c"):
            writer.add(name, np.ones((20, 24), np.uint8))
        if table:
            (writer.partial / BOXES).write_text(table)
    return ImageSet.open(folder)


def test_boxes_are_cut_to_their_image_and_the_target_comes_first(tmp_path):
    boxes, classes = read_boxes(boxed(tmp_path / "set"), "cell")
    assert classes == ["cell", "dirt"]
    # A box without a type shows the target.
    assert boxes["007"].kinds.tolist() == [1, 1]
    assert boxes["007"].corners.tolist() == [[2, 3, 10, 9], [15, 18, 20, 24]]
    assert boxes["b"].kinds.tolist() == [2]
    assert boxes["c"].corners.shape == (0, 4)
    assert read_boxes(boxed(tmp_path / "b"), "dirt")[1] == ["dirt", "cell"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "no such file"),
        (TABLE + "c,20,2,25,6,cell\n", "is outside the image 'c' of 20 x 24 px"),
        (TABLE + "c,-9,-9,0,4,cell\n", "is outside the image 'c'"),
        (TABLE + "c,7,2,7,6,cell\n", "of the image 'c' have no area"),
        (TABLE + "c,7,2,x,6,cell\n", "line 5 has something else than numbers"),
        (TABLE.replace("cell", "dirt").replace("30,", "30,dirt"), "class 'cell'"),
        ("id,y1,x1,y2,x2\n", "no box of 3 images shows the class 'cell'"),
    ],
)
def test_tables_that_cannot_be_learnt_from_are_refused(tmp_path, table, message):
    with pytest.raises(PhantomscopeError, match=message):
        read_boxes(boxed(tmp_path / "set", table), "cell")


def test_crops_and_their_boxes_show_the_same():
    image = np.zeros((40, 50), np.float32)
    image[10:18, 20:26] = 1
    boxes = Boxes.of([[10, 20, 18, 26]], [1])
    options = FasterRcnn(crop=24)
    seen, cut = 0, 0
    for number in range(40):
        part, found = augmented(image, boxes, options, generator(number))
        assert part.shape == (24, 24)
        share = part.sum() / 48
        assert len(found) == (share >= 0.25)
        cut += 0 < share < 0.25
        for y1, x1, y2, x2 in found.corners.astype(int):
            seen += 1
            assert part[y1:y2, x1:x2].all()
            assert (y2 - y1) * (x2 - x1) == part.sum()
    assert 0 < seen < 40
    assert cut


def test_whole_images_stay_as_they_are():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    boxes = Boxes.of([[0, 0, 1, 2]], [1])
    part, found = augmented(image, boxes, RetinaNet(), generator(0))
    assert (part == image).all()
    assert found.corners.tolist() == [[0, 0, 1, 2]]
    turned = {
        tuple(map(tuple, augmented(image, boxes, FasterRcnn(), generator(k))[0]))
        for k in range(20)
    }
    assert len(turned) == 4
    empty = Boxes.of([], [])
    assert len(augmented(image, empty, FasterRcnn(), generator(0))[1]) == 0


def test_each_epoch_has_each_image_once():
    plan = Schedule(5, FasterRcnn(epochs=4, batch_size=2, decay_every=2), seed=1)
    assert plan.steps == 10
    seen = [number for step in range(plan.steps) for number in plan.batch(step)]
    epochs = [seen[k : k + 5] for k in range(0, 20, 5)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(5))] * 4
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert plan.batch(3) == Schedule(5, plan.options, seed=1).batch(3)
    rates = [plan.rate(step) for step in range(10)]
    np.testing.assert_allclose(rates, [5e-3] * 5 + [5e-4] * 5)
    forever = Schedule(5, FasterRcnn(decay_every=0), seed=1)
    assert forever.rate(10**6) == 5e-3
    assert Schedule(3, FasterRcnn(epochs=1, batch_size=2), seed=0).steps == 2


def test_published_recipes_are_the_defaults():
    options = Detectors()
    first, second = options.faster_rcnn, options.retinanet
    assert (first.crop, first.flip, first.optimiser) == (512, True, "sgd")
    assert (first.learning_rate, first.weight_decay) == (5e-3, 5e-4)
    assert (first.decay_every, first.batch_size) == (250, 16)
    assert (second.crop, second.flip, second.optimiser) == (0, False, "adam")
    assert (second.learning_rate, second.decay_every) == (1e-4, 40)
    assert (second.batch_size, options.score, first.weights) == (4, 0.5, None)
    # Options that are given leave the others at their own defaults.
    partly = Detectors.model_validate({"retinanet": {"epochs": 3}}).retinanet
    assert (partly.epochs, partly.batch_size) == (3, 4)


def test_sure_boxes_of_the_target_remain():
    found = Boxes.of(
        [
            [0, 0, 10, 10],
            [1, 0, 10, 10],  # the same object, another class: less sure
            [20, 20, 30, 30],
            [20, 21, 30, 31],  # a second object that overlaps, surer
            [5, 30, 15, 45],  # ends outside the image
            [50, 50, 60, 60],  # beyond it
            [0, 20, 10, 30],
        ],
        [1, 2, 2, 1, 1, 1, 2],
        [0.9, 0.8, 0.6, 0.7, 0.5, 0.9, 0.49],
    )
    kept, dropped = chosen_boxes(found, (40, 40), Detectors())
    assert kept.scores.tolist() == [0.9, 0.7, 0.5]
    assert kept.corners[2].tolist() == [5, 30, 15, 40]
    assert dropped == 0
    kept, dropped = chosen_boxes(found, (40, 40), Detectors(score=0.2, overlap=0.95))
    assert (len(kept), dropped) == (3, 3)
    assert len(chosen_boxes(found, (40, 40), Detectors(most=2))[0]) == 2
    none, dropped = chosen_boxes(found, (40, 40), Detectors(score=0.95))
    assert (len(none), dropped) == (0, 0)


def test_boxes_become_labels_with_the_surest_on_top():
    boxes = Boxes.of([[1, 1, 3, 3], [2.5, 2.5, 4.5, 4.2]], [1, 1], [0.9, 0.8])
    labels = box_labels(boxes, (6, 6))
    assert labels[2, 2] == labels[1, 1] == 1
    assert labels[4, 4] == labels[3, 3] == 2
    assert (labels > 0).sum() == 4 + 9 - 1
    assert not box_labels(boxes[[]], (6, 6)).any()

"""Instances of translation: scores, their rows, and StarDist on pairs."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from phantomscope.config.load import make_config
from phantomscope.config.translation import Translate
from phantomscope.downstream.run import predict_tool, train_tool
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.translation import object_row
from phantomscope.planning.rates import packaged_rates
from phantomscope.planning.sources import Images
from phantomscope.planning.translation import translation_works
from phantomscope.stages.detection import evaluate_detection, open_detected
from phantomscope.tables.instances import (
    Instances,
    by_image,
    definitions,
    instance_lines,
    instance_ratios,
    instance_rows,
    parse_metric,
    pooled,
    scores,
)
from phantomscope.tables.translation import TITLES, RowMaker

SIZE = (64, 96)
# tp, fp, fn, sum of IoU, true objects.
COUNTS = np.array([[[3, 1, 0, 2.4, 3], [1, 1, 3, 0.6, 4], [0, 0, 0, 0, 0]]], float)
EVERY = np.ones((1, 3))


def config(**options):
    fields = {"path": "here", "images": "{id}.tif"}
    plates = {"kind": "fields", "fields": fields}
    translate = {"methods": ["cellresdm", "unet"], "plates": plates, **options}
    return make_config({"translate": translate, "evaluate": {"resamples": 40}})


def test_pooled_scores_by_hand():
    found = {k: float(v[0]) for k, v in pooled(COUNTS, EVERY).items()}
    assert found == pytest.approx({
        "precision": 4 / 6, "recall": 4 / 7, "f1": 8 / 13, "ap": 4 / 9,
        "mean_matched": 3 / 4, "mean_true": 3 / 7, "pq": 3 / 6.5,
    })  # fmt: skip


def test_means_over_images_by_hand():
    """The empty image is left out; the first counts twice in the second resample."""
    found = by_image(COUNTS, np.array([[1, 1, 1], [2, 1, 5]], float))
    first = {"precision": 0.75, "recall": 1, "f1": 6 / 7, "ap": 0.75,
             "mean_matched": 0.8, "mean_true": 0.8, "pq": 2.4 / 3.5}  # fmt: skip
    second = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "ap": 0.2,
              "mean_matched": 0.6, "mean_true": 0.15, "pq": 0.2}  # fmt: skip
    for name, values in found.items():
        a, b = first[name], second[name]
        assert values == pytest.approx([(a + b) / 2, (2 * a + b) / 3]), name


def test_an_image_without_a_match_counts_as_zero():
    counts = np.array([[[1, 0, 0, 0.9, 1], [0, 2, 1, 0, 1]]], float)
    assert math.isnan(scores(counts)["mean_matched"][0, 1])
    assert by_image(counts, np.ones((1, 2)))["mean_matched"] == pytest.approx(0.45)


def squares(*places, side=10):
    labels = np.zeros(SIZE, np.uint16)
    for number, (y, x) in enumerate(places, 1):
        labels[y : y + side, x : x + side] = number
    return labels


def made_up():
    """Three images of three wells; each object is found with an IoU of 2/3 or 1."""
    true = [squares((4, 4), (4, 40)), squares((20, 20)), squares((30, 8), (8, 60))]
    off = [squares((4, 6), (4, 40)), squares((20, 22)), squares((30, 8))]
    return true, off


@pytest.mark.parametrize("single", [False, True])
def test_scores_are_those_of_stardist(single):
    matching = pytest.importorskip("stardist.matching")
    true, off = made_up()
    table = [object_row(a, b) for a, b in zip(true, off, strict=True)]
    one = Instances("unet", "nuclei", frame(table), "here")
    for key in ("0.50", "0.70", "0.90"):
        theirs = matching.matching_dataset(
            true, off, float(key), by_image=single, show_progress=False
        )
        counts = one.counts(key)
        ours = (by_image if single else pooled)(counts, EVERY)
        for name, values in ours.items():
            named = {"ap": "accuracy", "pq": "panoptic_quality",
                     "mean_matched": "mean_matched_score",
                     "mean_true": "mean_true_score"}.get(name, name)  # fmt: skip
            # Theirs is 0 where nothing matches.
            value = float(np.nan_to_num(values[0]))
            assert value == pytest.approx(getattr(theirs, named)), name


def frame(rows, seed=0):
    about = {"id": list("abc"), "group": ["p", "q", "r"], "seed": seed}
    return pd.DataFrame(rows).assign(**about)


@pytest.fixture(scope="module")
def rows():
    true, off = made_up()
    perfect = frame([object_row(a, a) for a in true])
    worse = pd.concat(
        frame([object_row(a, b) for a, b in zip(true, off, strict=True)], seed)
        for seed in (0, 1)
    )
    found = [
        Instances("cellresdm", "nuclei", perfect, "ours"),
        Instances("stardist_brightfield", "nuclei", worse, "theirs"),
    ]
    return instance_rows(RowMaker(config()), found)


def test_rows_hold_all_scores(rows):
    assert len({row.id for row in rows}) == len(rows)
    by = {(row.method, row.metric): row for row in rows}
    ours, theirs = by["cellresdm", "f1_0.50"], by["stardist_brightfield", "f1_0.50"]
    assert (ours.value, ours.n, ours.unit_of_n) == (1, 3, "well")
    # Four of five objects; two of them at an IoU of 2/3.
    assert theirs.value == pytest.approx(8 / 9)
    assert by["stardist_brightfield", "f1_0.70"].value == pytest.approx(4 / 9)
    assert theirs.ci_low < theirs.value <= theirs.ci_high
    matched = by["stardist_brightfield", "mean_matched_0.50"].value
    assert matched == pytest.approx((1 + 1 + 2 / 3 + 2 / 3) / 4)
    assert by["stardist_brightfield", "recall_0.50_by_image"].value == pytest.approx(
        (1 + 1 + 0.5) / 3
    )
    for row in rows:
        assert row.metric in definitions()
        assert parse_metric(row.metric)


def test_ratios_are_paired(rows):
    [row] = [row for row in rows if row.metric == "f1_0.50_ratio"]
    assert row.condition == "nuclei cellresdm / stardist_brightfield"
    assert row.value == pytest.approx(9 / 8)
    # Every image is found at least as well: so is every resample.
    assert 1 <= row.ci_low < row.ci_high
    [line] = instance_ratios(rows, TITLES)
    assert line["rival"] == "StarDist on brightfield"
    assert line["F1: ours / rival"].startswith("1.12")


def test_tables_have_a_line_for_each_iou_and_method(rows):
    for averaging in ("", "_by_image"):
        lines = instance_lines(rows, averaging, TITLES)
        assert [(x["IoU"], x["method"]) for x in lines] == [
            (iou, TITLES[name])
            for iou in ("0.50", "0.70", "0.90")
            for name in ("cellresdm", "stardist_brightfield")
        ]
        assert all(len(line) == 3 + 7 for line in lines)


def test_other_images_cannot_be_compared():
    true, _ = made_up()
    table = frame([object_row(a, a) for a in true])
    found = [
        Instances("cellresdm", "nuclei", table, "one"),
        Instances("unet", "nuclei", table.assign(id=list("abd")), "other"),
    ]
    with pytest.raises(PhantomscopeError, match="different images") as error:
        instance_rows(RowMaker(config()), found)
    assert "other, one" in str(error.value)


def test_two_wells_have_no_interval():
    true, off = made_up()
    table = frame([object_row(a, b) for a, b in zip(true, off, strict=True)])
    one = Instances("unet", "cells", table.assign(group=["p", "q", "q"]), "here")
    for row in instance_rows(RowMaker(config()), [one]):
        assert row.n == 2
        assert math.isnan(row.ci_low)
        assert math.isnan(row.ci_high)


# Pairs


@pytest.fixture
def pairs(tmp_path):
    """Five stains and a plane: nuclei are bright in DNA alone, cells in RNA."""
    with ImageSetWriter(tmp_path / "pairs", {}) as writer:
        for name, split in (("a", "train"), ("b", "test")):
            nuclei = squares((8, 8), (40, 60))
            cells = squares((4, 4), (36, 56), side=18)
            image = np.full((6, *SIZE), 4000, np.uint16)
            image[5][nuclei > 0] = 60000
            image[3][cells > 0] = 50000
            writer.add(name, image, nuclei, cells=cells, channels=6, split=split)
    return tmp_path / "pairs"


def test_a_detector_sees_one_channel_and_one_kind_of_labels(pairs):
    own = config()
    whole = ImageSet.open(pairs)
    for detector, kind, channel, labels in (
        ("brightfield", "nuclei", 0, "mask"), ("fluorescence", "nuclei", 5, "mask"),
        ("fluorescence", "cells", 3, "cells"),
    ):  # fmt: skip
        images = open_detected(own, pairs, "train", detector, kind)
        assert images.ids == ["a"]
        np.testing.assert_array_equal(images.image("a"), whole.channels("a")[channel])
        np.testing.assert_array_equal(images.mask("a"), getattr(whole, labels)("a"))
        images.verify()


def test_missing_labels_are_told(pairs):
    table = pd.read_csv(pairs / "manifest.csv")
    table.drop(columns=["cells", "cells_sha256"]).to_csv(
        pairs / "manifest.csv", index=False
    )
    with pytest.raises(PhantomscopeError, match="no labels of cells") as error:
        open_detected(config(), pairs, "test", "brightfield", "cells")
    assert "translate.detected" in str(error.value)
    with pytest.raises(PhantomscopeError, match="no image is on the side"):
        open_detected(config(), pairs, "validation", "brightfield", "nuclei")


@pytest.mark.parametrize(("blocks", "ids"), [
    (None, ["b"]), (48, ["b-block0-0", "b-block0-1"]),
])  # fmt: skip
def test_what_is_found_is_measured(pairs, tmp_path, blocks, ids):
    """By a tool that needs no training to find bright squares."""
    own = config(blocks=blocks)
    seen = {
        split: open_detected(own, pairs, split, "fluorescence", "cells")
        for split in ("train", "test")
    }
    for split in seen:
        tool = ("otsu_watershed", tmp_path / "model")
        if split == "train":
            train_tool(tool[0], seen[split], own.segment, folder=tool[1], seed=0)
        else:
            predict_tool(*tool, seen[split], own.segment, tmp_path / "detected")
    found = ImageSet.open(tmp_path / "detected")
    found.verify()
    assert found.image("b").shape == SIZE
    evaluate_detection(
        own, pairs=pairs, detected=tmp_path / "detected", scores=tmp_path / "scores",
        detector="fluorescence", objects="cells",
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "scores/objects.csv")
    assert list(table["id"]) == ids
    assert set(table["objects"]) == {"cells"}
    assert table["tp_0.50"].sum() == table["n_true"].sum() == 2
    assert table["fp_0.50"].sum() == 0
    assert (table["group"] == table["id"]).all()


@pytest.mark.parametrize(("options", "said"), [
    ({"methods": []}, "rivals of `methods`"),
    ({"detector_stains": {"nuclei": "Hoechst"}}, "'Hoechst', which is none"),
    ({"detector_stains": {}}, "'', which is none"),
    ({"detected": ["cells", "cells"]}, "names something twice"),
])  # fmt: skip
def test_impossible_detectors_are_refused(options, said):
    given = {
        "methods": ["unet"], "detectors": ["fluorescence"],
        "plates": {"fields": {"path": "here"}}, **options,
    }  # fmt: skip
    with pytest.raises(ValidationError, match=said):
        Translate(**given)


def test_detectors_are_planned():
    own = config(
        detectors=["brightfield", "fluorescence"], detected=["nuclei", "cells"],
        seeds=[0, 1], size=512,
    )  # fmt: skip
    images = Images(Counter({(1080, 1080): 100}), "uint16", 10)
    work = translation_works(own, images)
    known = packaged_rates()
    found = {one.name: one for one in work}
    for rule, unit in (("train_detector", 800 * 4 * 96**2), ("detect", 25 * 512**2),
                       ("evaluate_detection", 25 * 512**2)):  # fmt: skip
        jobs = [one for one in work if one.rule == rule]
        assert [one.jobs for one in jobs] == [2] * 4
        assert all(one.units == unit for one in jobs)
        assert known.find(jobs[0].key, gpu=False)[0] is not None
    for one in work:
        assert set(one.after) <= set(found)
    assert (
        "evaluate_detection.fluorescence.cells" in found["tabulate_translation"].after
    )

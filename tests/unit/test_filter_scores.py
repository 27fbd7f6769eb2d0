"""Scores of semantic filtering: known counts, masks and layers give known rows."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.filtering import (
    Shown,
    culture,
    filter_config,
    layered,
    pointed,
    squares,
    worms,
    write_found,
    write_plate,
    write_run,
    write_tested,
)

from phantomscope.errors import PhantomscopeError
from phantomscope.stages.filter_scores import evaluate_filter, tabulate_filter
from phantomscope.tables.filter_metrics import define, main_rule
from phantomscope.tables.filter_text import (
    control_lines,
    filtering_cautions,
    filtering_notes,
    filtering_table,
    headline,
    ratio_lines,
)
from phantomscope.tables.filtering import filtering_rows

RUN = "filter_scores/cell/filter/all/fold0/seed0"


def by_metric(rows, method="filter", condition="cell"):
    return {r.metric: r for r in rows if (r.method, r.condition) == (method, condition)}


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    root = tmp_path_factory.mktemp("points")
    config = filter_config(
        "points",
        folds=3,
        methods=["filter", "stardist"],
        seeds=[0, 1],
        plate="bbbc026_plate",
    )
    images = pointed()
    write_tested(root / "prepared", config, images)
    folds = [{name: images[name]} for name in "abc"]
    write_run(root, config, "filter", folds)
    # StarDist finds one of two in each image with two objects, and nothing false.
    found = {"a": squares((4, 4)), "b": squares((4, 4)), "c": squares()}
    rival = {n: replace(images[n], found=f, layer="none") for n, f in found.items()}
    write_run(root, config, "stardist", [{name: rival[name]} for name in "abc"])
    wells = {"B01": 2, "C01": 4, "B23": 10, "C23": 12, "B12": 7}
    write_plate(root, config, wells)
    return root, config


def test_points_are_counted_by_three_rules(points):
    table = pd.read_csv(points[0] / RUN / "objects.csv")
    counts = table.set_index("rule")[
        ["true_positives", "false_positives", "false_negatives"]
    ]
    assert counts.loc["points_published"].tolist() == [2, 0, 1]
    assert counts.loc["points_one_to_one"].tolist() == [1, 1, 2]
    # The centre of the first object is near two points, but has one partner only.
    assert counts.loc["points_within"].tolist() == [1, 1, 2]
    assert set(table["fold"]) == {0}
    assert set(table["well"]) == {"A01"}
    # Nothing is known of pixels: the table has a header all the same.
    assert pd.read_csv(points[0] / RUN / "pixels.csv").empty


def test_pooled_scores_and_means_over_folds_differ_as_by_hand(points):
    found = by_metric(filtering_rows(*points))
    assert found["f1_points_one_to_one"].value == pytest.approx(6 / 10)
    mean = found["f1_points_one_to_one_by_fold"]
    assert mean.value == pytest.approx((2 / 5 + 1 + 0) / 3)
    assert (mean.n, mean.unit_of_n) == (3, "fold")
    assert 0 <= mean.ci_low < mean.value < mean.ci_high <= 1
    assert found["f1_points_published"].value == pytest.approx(8 / (8 + 0 + 2))
    assert found["precision_points_published"].value == 1
    assert found["recall_points_published"].value == pytest.approx(4 / 6)
    row = found["recall_points_one_to_one"]
    assert row.value == pytest.approx(3 / 6)
    assert (row.n, row.unit_of_n, row.data_kind) == (3, "image", "real")
    assert row.ci_low <= row.value <= row.ci_high


def test_ratios_are_paired(points):
    rows = filtering_rows(*points)
    ours = by_metric(rows)["f1_points_one_to_one"].value
    theirs = by_metric(rows, "stardist")["f1_points_one_to_one"].value
    assert theirs == pytest.approx(2 * 2 / (2 * 2 + 0 + 4))
    ratio = by_metric(rows, condition="cell: filter / stardist")
    assert list(ratio) == ["f1_points_one_to_one_ratio"]
    row = ratio["f1_points_one_to_one_ratio"]
    assert row.value == pytest.approx(ours / theirs)
    assert row.ci_low <= row.value <= row.ci_high
    ((what, text),) = ratio_lines(rows)
    assert what == "cell: filter (one layer) by StarDist"
    assert text.startswith("1.20 [")


def test_controls_of_a_plate(points):
    rows = filtering_rows(*points)
    found = by_metric(rows, condition="cell, controls")
    assert found["z_prime"].value == pytest.approx(1 - 3 * (1 + 1) / 8)
    assert (found["z_prime"].n, found["z_prime"].unit_of_n) == (4, "well")
    assert found["control_difference"].value == 8
    # Both variances are 2, of two wells each; then the t of two degrees of freedom.
    t = 8 / math.sqrt(2)
    p = 1 - t / math.sqrt(2 + t**2)
    assert found["p_student_t"].value == pytest.approx(p)
    ((line),) = control_lines(rows)
    assert line["Z'"].startswith("0.25 [")
    assert line["p (Student's t)"] == "0.03"


def test_tables_are_written(points, tmp_path):
    root, config = points
    csv, md = tmp_path / "filtering.csv", tmp_path / "filtering.md"
    tabulate_filter(config, root=root, csv=csv, md=md)
    table = pd.read_csv(csv)
    assert table["id"].is_unique
    assert all(define(metric) for metric in table["metric"])
    text = md.read_text()
    for words in ("| cell | filter (one layer) | 0.60 [", "mean over folds",
                  "two points in one object both", "by StarDist: 1.20"):  # fmt: skip
        assert words in text
    rows = filtering_rows(root, config)
    first, second = filtering_table(rows, config)
    assert first["F1 by the paper's rule"].startswith("0.80 [")
    assert second["method"] == "StarDist"
    assert "filter (one layer) is best, F1 0.60" in headline(rows, config)
    (few, seeds) = filtering_cautions(rows, config)
    assert "3 independent units (image)" in few
    assert "trained 2 times" in seeds
    assert any("drawn over folds" in note for note in filtering_notes(rows, config))


def test_a_perfect_method_gives_ones(tmp_path):
    config = filter_config("layers", folds=2, tests=3)
    names = ("p", "q", "r")
    # The same names in both folds: other images all the same.
    write_run(tmp_path, config, "filter", [layered(*names), layered(*names)])
    rows = filtering_rows(tmp_path, config)
    found = by_metric(rows)
    for metric in (
        "f1_instances_0.50", "pq_instances_0.50", "ap_instances_0.50", "mask_iou",
        "mask_iou_by_image", "f1_instances_0.50_by_fold",
    ):  # fmt: skip
        assert found[metric].value == 1
    assert found["f1_instances_0.50"].n == 6
    assert math.isnan(found["f1_instances_0.50_by_fold"].ci_low)  # of two folds
    assert {r.data_kind for r in rows} == {"composed"}
    layer = by_metric(rows, condition="cell, target layer")
    assert layer["layer_ssim"].value == pytest.approx(1)
    # Without any error there is no PSNR.
    assert math.isnan(layer["layer_psnr"].value)
    assert layer["layer_psnr"].n == 0


def test_psnr_of_layers_is_that_of_a_known_error(tmp_path):
    config = filter_config("layers", methods=["filter", "layers"])
    names = ("p", "q", "r")
    write_run(tmp_path, config, "layers", [layered(*names, error=0.01)])
    made = {
        name: replace(one, kept=one.kept[:1], layer="target")
        for name, one in layered(*names, error=0.1).items()
    }
    write_run(tmp_path, config, "filter", [made])
    rows = filtering_rows(tmp_path, config)
    for layer in ("target", "other", "background"):
        found = by_metric(rows, "layers", f"cell, {layer} layer")
        assert found["layer_psnr"].value == pytest.approx(40, abs=0.01)
    found = by_metric(rows, condition="cell, target layer")
    assert found["layer_psnr"].value == pytest.approx(20, abs=0.01)
    assert not by_metric(rows, condition="cell, other layer")
    # The image as it is: other layer and background are the error.
    one = layered(*names)["p"].image
    error = ((one[0] - one[1]) ** 2).mean()
    found = by_metric(rows, "input", "cell, target layer")
    assert found["layer_psnr"].value == pytest.approx(-10 * np.log10(error), abs=0.01)
    # Nothing at all: all of the layer is the error.
    found = by_metric(rows, "empty", "cell, target layer")
    light = -10 * np.log10((one[1] ** 2).mean())
    assert found["layer_psnr"].value == pytest.approx(light, abs=0.01)
    ratios = [r.condition for r in rows if r.metric.endswith("_ratio")]
    assert ratios == ["cell: layers / filter"] * 2
    line = filtering_table(rows, config)[0]
    assert line["PSNR of the layer (dB)"].startswith("20")
    assert "composed of crops" in filtering_cautions(rows, config)[0]


@pytest.fixture(scope="module")
def removed(tmp_path_factory):
    root = tmp_path_factory.mktemp("removed")
    config = filter_config(
        "masks", methods=["filter", "median"], pairs="video",
        objects={"rule": "removed", "min_area": 20.0}, compose={"share": "scene"},
    )  # fmt: skip
    frames = worms("f", "g", "h")
    write_tested(root / "prepared", config, frames)
    write_run(root, config, "filter", [frames])
    # The median keeps a worm that does not move: nothing is removed.
    still = {
        name: replace(one, found=np.zeros_like(one.found), kept=one.image[None] / 255)
        for name, one in frames.items()
    }
    write_run(root, config, "median", [still])
    return root, config


def test_iou_by_the_step_is_known(removed):
    rows = filtering_rows(*removed)
    found = {
        (r.method, r.condition): r.value for r in rows if r.metric == "removed_iou"
    }
    assert found["filter", "cell, step 2/255"] == pytest.approx(80 / 100)
    assert found["filter", "cell, step 10/255"] == pytest.approx(40 / 80)
    assert found["filter", "cell, step 56/255"] == pytest.approx(40 / 80)
    assert found["median", "cell, step 10/255"] == 0
    steps = [c for m, c in found if m == "median"]
    assert len(steps) == len(set(steps)) == 12
    (row,) = [r for r in rows if r.metric == "f1_boxes_0.50" and r.method == "filter"]
    assert (row.value, row.unit_of_n) == (1, "video")
    # Against 0 there is no ratio.
    ratio = by_metric(rows, condition="cell: filter / median")
    assert math.isnan(ratio["f1_boxes_0.50_ratio"].value)


def test_small_true_objects_are_no_boxes(tmp_path):
    config = filter_config("masks", objects={"min_area": 20.0})
    both, large = squares((4, 4)), squares((4, 4))
    both[40, 40:44] = 2
    images = {"a": Shown(culture("a"), large, both)}
    write_tested(tmp_path / "prepared", config, images)
    write_run(tmp_path, config, "filter", [images])
    table = pd.read_csv(tmp_path / RUN / "objects.csv").set_index("rule")
    names = ["true_positives", "false_positives", "false_negatives"]
    assert table.loc["boxes", names].tolist() == [1, 0, 0]
    assert table.loc["instances", names].tolist() == [1, 0, 1]
    pixels = pd.read_csv(tmp_path / RUN / "pixels.csv")
    assert pixels[["intersection", "union"]].to_numpy().tolist() == [[64, 68]]


def test_classes_by_size_are_compared_with_their_own(tmp_path):
    config = filter_config(
        "masks", targets=["small", "large"], crops={"size_limit": 30}
    )
    labels = squares((4, 4))
    labels[30:34, 30:34] = 2
    images = {"a": Shown(culture("a"), labels, labels)}
    write_tested(tmp_path / "prepared", config, images)
    write_run(tmp_path, config, "filter", [images])
    names = ["true_positives", "false_positives", "false_negatives"]
    for target, union in (("small", 80), ("large", 80)):
        folder = tmp_path / RUN.replace("cell", target)
        table = pd.read_csv(folder / "objects.csv").set_index("rule")
        assert table.loc["instances", names].tolist() == [1, 1, 0]
        assert pd.read_csv(folder / "pixels.csv")["union"].tolist() == [union]


def test_boxes_of_detectors_are_their_own(tmp_path):
    config = filter_config("boxes", methods=["filter", "retinanet"], iou=[0.01, 0.5])
    labels = squares((4, 4))
    marks = [(4, 4, 12, 12, "cell"), (30, 30, 40, 40, "cell"), (0, 0, 9, 9, "other")]
    images = {"a": Shown(culture("a"), labels, marks=marks)}
    write_tested(tmp_path / "prepared", config, images)
    write_run(tmp_path, config, "filter", [images])
    # 4 of 10 rows of the second: an IoU of 0.4.
    boxes = [(4.0, 4.0, 12.0, 12.0), (30.0, 30.0, 34.0, 40.0)]
    write_run(
        tmp_path, config, "retinanet", [{"a": replace(images["a"], boxes=boxes)}]
    )  # fmt: skip
    rows = filtering_rows(tmp_path, config)
    ours, theirs = by_metric(rows), by_metric(rows, "retinanet")
    assert ours["f1_boxes_0.01"].value == pytest.approx(2 / 3)
    assert theirs["f1_boxes_0.01"].value == 1
    assert theirs["f1_boxes_0.50"].value == pytest.approx(1 / 2)
    assert math.isnan(ours["f1_boxes_0.50"].ci_low)  # of one image
    assert main_rule(config.filter) == "boxes_0.50"


def test_a_curve_has_a_row_for_each_number_of_images(tmp_path):
    config = filter_config("boxes", images=[5, 1], methods=["filter", "stardist"])
    marks = [(4, 4, 12, 12, "cell")]
    good = {n: Shown(culture(n), squares((4, 4)), marks=marks) for n in "abc"}
    write_tested(tmp_path / "prepared", config, good)
    write_run(tmp_path, config, "filter", [good], "5")
    bad = {n: replace(one, found=squares()) for n, one in good.items()}
    write_run(tmp_path, config, "filter", [{**good, "a": bad["a"]}], "1")
    for number in ("1", "5"):
        write_run(tmp_path, config, "stardist", [good], number)
    rows = filtering_rows(tmp_path, config)
    found = {
        (r.method, r.condition): r.value
        for r in rows if r.metric.startswith("f1_boxes_0.50")
        and " / " not in r.condition
    }  # fmt: skip
    assert found == {
        ("filter", "cell, 1 images"): pytest.approx(4 / 5),
        ("filter", "cell, 5 images"): 1,
        ("stardist", "cell, 1 images"): 1,
        ("stardist", "cell, 5 images"): 1,
    }
    # Methods are compared at the same number.
    ratios = {r.condition: r.value for r in rows if " / " in r.condition}
    assert ratios == {
        "cell, 1 images: filter / stardist": pytest.approx(4 / 5),
        "cell, 5 images: filter / stardist": 1,
    }
    lines = filtering_table(rows, config)
    assert sorted(line["training images"] for line in lines) == ["1", "1", "5", "5"]
    assert headline(rows, config).startswith("cell (5 images): filter")


def test_sets_that_do_not_belong_together_are_refused(points, removed, tmp_path):
    root, config = points
    images = pointed()
    write_found(tmp_path / "found", {"a": images["a"], "b": images["b"]})
    common = {"found": tmp_path / "found", "scores": tmp_path / "s", "fold": 0}
    with pytest.raises(PhantomscopeError, match=r"in one set only, such as 'b'"):
        evaluate_filter(
            config, tested=root / "prepared", target="cell", method="filter", **common
        )
    with pytest.raises(PhantomscopeError, match="of the class 'nucleus'"):
        evaluate_filter(
            config, tested=root / "prepared", target="nucleus", method="filter",
            **common,
        )  # fmt: skip
    shutil.copytree(removed[0] / "filter_scores", tmp_path / "filter_scores")
    path = tmp_path / RUN.replace("filter/", "median/") / "objects.csv"
    path.write_text(path.read_text().replace("f,video0", "z,video0"))
    with pytest.raises(PhantomscopeError, match="median and filter were measured on"):
        filtering_rows(tmp_path, removed[1])
    path.unlink()
    with pytest.raises(PhantomscopeError, match=r"objects\.csv"):
        filtering_rows(tmp_path, removed[1])


def test_a_plate_that_nobody_counted_is_an_error(points, tmp_path):
    root, config = points
    shutil.copytree(root / "filter_scores", tmp_path / "filter_scores")
    with pytest.raises(PhantomscopeError, match="nobody counted"):
        filtering_rows(tmp_path, config)


@pytest.mark.parametrize(("metric", "words"), [
    ("f1_points_published", "two points in one object count twice"),
    ("precision_boxes_0.01", "at an IoU of 0.01; counts pooled"),
    ("recall_instances_0.50_by_fold", "mean over the folds"),
    ("f1_points_within_ratio", "within a distance; pooled, ours by"),
    ("pq_instances_0.50", "PQ, summed IoU"),
    ("z_prime", "population standard deviations"),
])  # fmt: skip
def test_metrics_are_defined(metric, words):
    assert words in define(metric)
    assert not define("f1_phantoms")

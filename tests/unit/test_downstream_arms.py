"""Arms, shares of the annotation, and the stages that train on and measure them."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from phantomscope.config.arms import arm_description, arm_rank, parse_arm
from phantomscope.config.load import make_config
from phantomscope.downstream import examples, run
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.instance import pool
from phantomscope.stages import analysis

CONFIG = make_config({})


def scattered(seed, count=100, side=200):
    """Squares at irregular places, so that a growing box takes them one by one."""
    rng, labels = np.random.default_rng(seed), np.zeros((side, side), np.uint16)
    for n in range(count):
        y, x = (rng.integers(20, size=2) * side // 20).tolist()
        while labels[y : y + 10, x : x + 10].any():
            y, x = (rng.integers(20, size=2) * side // 20).tolist()
        a, b = rng.integers(2, 5, 2)
        labels[y + a : y + a + 5, x + b : x + b + 5] = n + 1
    return labels


def grid_of_squares(rows, columns, side=8, depth=0):
    labels = np.zeros((rows * side, columns * side), np.uint16)
    for n in range(rows * columns):
        y, x = side * (n // columns), side * (n % columns)
        labels[y + 2 : y + side - 2, x + 2 : x + side - 2] = n + 1
    return np.repeat(labels[None], depth, axis=0) if depth else labels


def write_set(folder, labels, split="train", **columns):
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for number, label in enumerate(labels):
            image = np.where(label > 0, 900, 100).astype(np.uint16)
            extra = {name: values[number] for name, values in columns.items()}
            writer.add(f"i{number}", image, label, split=split, **extra)
    return ImageSet.open(folder)


def objects_of(chosen):
    """Ids of the objects whose centre lies in a share."""
    found = set()
    for one in chosen:
        labels = one.images.mask(one.identifier)
        table = examples.ObjectTable.of(labels)
        box = one.box or tuple(slice(0, n) for n in labels.shape)
        for number, centre in zip(table.numbers, table.centres, strict=True):
            places = zip(box, centre, strict=True)
            if all(side.start <= c < side.stop for side, c in places):
                found.add((one.identifier, int(number)))
    return found


def test_arms_say_what_they_are_made_of():
    assert parse_arm("synthetic").sets == ("synthetic",)
    assert not parse_arm("sketch").needs_annotation
    assert parse_arm("annotated").percent == parse_arm("annotated-100").percent == 100
    mixed = parse_arm("mixed-5")
    assert (mixed.sets, mixed.percent) == (("synthetic", "annotated"), 5)
    assert parse_arm("annotated-0.5").percent == 0.5
    assert arm_description("mixed-5") == (
        "synthetic images and 5 % of the real annotation"
    )
    assert arm_description("annotated-10") == "10 % of the real annotation"
    order = ["synthetic", "mixed-100", "mixed-5", "annotated", "annotated-10",
             "annotated-1", "sketch", "none", "unknown"]  # fmt: skip
    assert sorted(reversed(order), key=arm_rank) == order


@pytest.mark.parametrize("arm", ["mixed", "mixed-0", "mixed-101", "sketch-5", "real"])
def test_other_arms_are_refused(arm):
    with pytest.raises(PhantomscopeError, match="there is no arm"):
        parse_arm(arm)
    with pytest.raises(PhantomscopeError, match="there is no arm"):
        make_config({"segment": {"arms": [arm]}})


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotated") / "set"
    return write_set(folder, [scattered(n) for n in range(5)])


@pytest.mark.parametrize("percent", [1, 5, 10, 20, 50, 99])
def test_a_share_has_so_many_of_the_objects(annotated, percent):
    chosen = examples.annotated_share(annotated, percent, seed=3)
    assert chosen == examples.annotated_share(annotated, percent, seed=3)
    count = len(objects_of(chosen))
    # The whole pixels of the box may take in one more.
    assert 5 * percent <= count <= 5 * percent + 3
    whole = [one for one in chosen if one.box is None]
    assert len(whole) == 5 * percent // 100
    assert examples.annotated_share(annotated, 100, 3) == examples.whole_images(
        annotated, "annotated"
    )


def test_smaller_shares_are_parts_of_larger_ones(annotated):
    found = [
        objects_of(examples.annotated_share(annotated, percent, seed=8))
        for percent in (1, 5, 10, 30, 70)
    ]
    assert all(a < b for a, b in itertools.pairwise(found))
    other = objects_of(examples.annotated_share(annotated, 5, seed=9))
    assert other != found[1]


def test_one_object_is_taken_with_its_surroundings(tmp_path):
    images = write_set(tmp_path / "v", [grid_of_squares(4, 4, depth=6)])
    (one,) = examples.annotated_share(images, 1, seed=0)
    assert len(objects_of([one])) == 1
    sizes = one.objects.sizes
    assert sizes.max() == 4 * 4 * 6
    assert one.image().shape == one.labels().shape == one.shape


def test_balanced_chances_give_real_images_half():
    class One:
        def __init__(self, kind):
            self.kind = kind

    kinds = [One("synthetic")] * 9 + [One("annotated")]
    assert examples.chances(kinds, "mixture").tolist() == [0.1] * 10
    balanced = examples.chances(kinds, "balanced")
    assert balanced[9] == 0.5
    assert balanced[:9] == pytest.approx(0.5 / 9)
    assert examples.chances(kinds[:9], "balanced").sum() == pytest.approx(1)


def test_memory_takes_images_evenly(annotated):
    whole = examples.whole_images(annotated, "annotated")
    assert examples.within_memory(whole, 1) == whole
    many = [examples.Example(whole[0].images, "i0", "synthetic")] * 100
    assert sum(one.pixels for one in many) == 4_000_000
    # 0.2 million are annotated, so that every fifth of the others fits beside them.
    found = examples.within_memory([*whole, *many], 1)
    assert found == [*many[:20], *whole]
    assert len(examples.within_memory(whole * 10, 1)) == 25


def test_a_mixture_is_recorded(annotated, tmp_path):
    synthetic = write_set(tmp_path / "s", [grid_of_squares(3, 3)] * 4, split="")
    folder = tmp_path / "models/seed0"
    analysis.train_segmenter(
        CONFIG, training=synthetic.folder, annotated=annotated.folder, folder=folder,
        tool="otsu_watershed", arm="mixed-5", seed=2,
    )  # fmt: skip
    record = json.loads((folder / "training.json").read_text())
    sources = record["sources"]
    assert sources["synthetic"] == {"images": 4, "objects": 36, "chance": 0.8}
    real = sources["annotated"]
    assert real["images"] == 1
    assert real["used"][0]["box"] is not None
    assert record["images"] == 5
    assert record["objects"] == 36 + real["objects"]


def test_an_arm_needs_its_sets(annotated, tmp_path):
    for arm, more in (("mixed-5", None), ("synthetic", annotated.folder)):
        with pytest.raises(PhantomscopeError, match="is made of the image sets"):
            analysis.train_segmenter(
                CONFIG, training=annotated.folder, annotated=more,
                folder=tmp_path / "m", tool="otsu_watershed", arm=arm,
            )  # fmt: skip


def test_volumes_of_single_planes_are_not_trained_on(tmp_path, capsys):
    labels = [grid_of_squares(2, 2, depth=4)] * 2
    images = write_set(tmp_path / "v", labels, annotated_planes=["1 3", ""])
    assert [one.identifier for one in examples.whole_images(images, "x")] == ["i1"]
    assert "1 of 2 volumes" in capsys.readouterr().out


@pytest.mark.parametrize("planes", ["2", "0 2"])
def test_scores_count_annotated_planes_only(planes, tmp_path):
    truth = grid_of_squares(3, 3, depth=4)
    known = [int(plane) for plane in planes.split()]
    found = truth.copy()
    others = [plane for plane in range(4) if plane not in known]
    found[others] = 5  # nobody knows whether that is right
    sparse = truth.copy()
    sparse[others] = 0
    write_set(tmp_path / "t", [sparse], split="test", annotated_planes=[planes])
    write_set(tmp_path / "p", [found], split="test")
    analysis.evaluate(
        CONFIG, prepared=tmp_path / "t", predictions=tmp_path / "p",
        scores=tmp_path / "s",
    )  # fmt: skip
    rows = analysis.pd.read_csv(tmp_path / "s/images.csv").to_dict("records")
    pooled = pool(rows, CONFIG.evaluate.thresholds)
    assert pooled["ap_0.50"] == pooled["dice"] == pooled["dice_foreground"] == 1
    assert pooled["n_true"] == 9


def test_planes_that_are_not_there_are_refused(tmp_path):
    labels = [grid_of_squares(2, 2, depth=3)]
    write_set(tmp_path / "t", labels, split="test", annotated_planes=["1 7"])
    with pytest.raises(PhantomscopeError, match="names"):
        analysis.evaluate(
            CONFIG, prepared=tmp_path / "t", predictions=tmp_path / "t",
            scores=tmp_path / "s",
        )  # fmt: skip


def test_stardist_repeats_the_rarer_images(annotated):
    shown = examples.whole_images(annotated, "synthetic")[:4]
    shown += examples.whole_images(annotated, "annotated")[4:]
    options = CONFIG.segment.model_copy(update={"sampling": "balanced"})
    job = run.make_job("stardist", shown, options, 0, annotated.folder)
    assert job.chance.tolist() == [0.125] * 4 + [0.5]
    assert job.weights == [1, 1, 1, 1, 4]

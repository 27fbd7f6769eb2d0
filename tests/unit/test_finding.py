"""Rivals of semantic filtering, untrained; see end_to_end/test_finders.py."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from phantomscope.config.load import make_config
from phantomscope.downstream import detector_models, detectors
from phantomscope.downstream.boxes import Boxes
from phantomscope.downstream.detector_models import check_torchvision
from phantomscope.downstream.size_class import SizeRule
from phantomscope.engine.pairs import to_stored
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES, read_annotations
from phantomscope.images.files import write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import finding


def config_of(method, truth="layers", **options):
    video = {"pairs": "video"} if truth == "masks" else {}
    chosen = {"methods": [method], "targets": ["cell"], "truth": truth, **video}
    return make_config({"filter": {**chosen, **options}})


def drawn(shape=(48, 64), small=((8, 8), (8, 40)), large=((30, 20), (30, 48))):
    """Discs of radius 4 (numbers 1, 2) and 8 (3, 4)."""
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint16)
    for number, (cy, cx) in enumerate((*small, *large), 1):
        radius = 4 if number <= len(small) else 8
        labels[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = number
    return labels


def composed(folder, use, count=2):
    """Images whose large discs are the target, as `compose-set` writes them."""
    labels = drawn()
    target = np.where(labels > 2, 0.6, 0)
    other = np.where((labels > 0) & (labels <= 2), 0.5, 0)
    layers = np.stack([target + other + 0.1, target, other, np.full(labels.shape, 0.1)])
    rows = []
    with ImageSetWriter(folder, {"source": "composed", "use": use}) as writer:
        for number in range(count):
            name = f"i{number}"
            writer.add(
                name, to_stored(2 * layers - 1), labels, channels=4, fold=0,
                split="train" if use == "taught" else "test",
            )  # fmt: skip
            rows += [(name, n, "target" if n > 2 else "other") for n in range(1, 5)]
        table = pd.DataFrame(rows, columns=["id", "label", "type"])
        table.to_csv(writer.partial / "objects.csv", index=False)
    return folder


@pytest.fixture
def tool(monkeypatch):
    """A tool that finds whatever is bright, and notes what it was given."""
    from scipy import ndimage

    seen = {"trained": [], "images": []}

    def train(tool, examples, options, *, folder, seed):
        seen["trained"].append((tool, len(examples), seed))
        seen["images"].append(examples[0].image())
        folder.mkdir(parents=True)
        write_json(folder / "training.json", {"tool": tool})

    def load(folder, options):
        def segment(image):
            seen["images"].append(image)
            if seen.get("stop") == len(seen["images"]):
                raise KeyboardInterrupt
            return ndimage.label(image > 0.3)[0].astype(np.uint16)

        return segment

    monkeypatch.setattr(finding, "train_tool", train)
    monkeypatch.setattr(finding, "load_tool", load)
    return seen


def trained(config, tmp_path, method="stardist", **changes):
    given = {
        "prepared": tmp_path / "prepared", "composed": tmp_path / "taught",
        "folder": tmp_path / "finder", "target": "cell", "method": method,
        "images": "all", "fold": 0, "seed": 2,
    }  # fmt: skip
    finding.train_finder(config, **(given | changes))
    return tmp_path / "finder"


def test_a_tool_that_segments_keeps_objects_of_the_targets_size(tmp_path, tool):
    config = config_of("stardist")
    composed(tmp_path / "taught", "taught", 3)
    folder = trained(config, tmp_path)
    assert tool["trained"] == [("stardist", 3, config.seed + 2)]
    # It saw the image, which is the first of the channels.
    assert tool["images"][0].shape == (48, 64)
    rule = json.loads((folder / "class.json").read_text())
    areas = np.bincount(drawn().ravel())
    assert rule["threshold"] == (areas[1] + areas[3]) / 2
    assert (rule["larger"], rule["accuracy"]) == (True, 1)
    assert (rule["targets"], rule["others"]) == (6, 6)

    tests = composed(tmp_path / "tests", "tests")
    finding.find_objects(
        config, tested=tests, folder=folder, found=tmp_path / "found", target="cell",
        method="stardist", fold=0,
    )  # fmt: skip
    found = ImageSet.open(tmp_path / "found")
    found.verify()
    assert found.ids == ["i0", "i1"]
    assert set(found.table["layer"]) == {"none"}
    assert found.table["dropped"].tolist() == [2, 2]
    assert found.table["fold"].tolist() == [0, 0]
    assert ((found.mask("i0") > 0) == (drawn() > 2)).all()
    assert found.mask("i0").max() == 2
    image = found.image("i0")
    assert image.dtype == np.float32
    np.testing.assert_allclose(np.unique(image), [0.1, 0.6, 0.7], atol=1e-4)
    assert found.info["class"]["threshold"] == rule["threshold"]
    assert not (found.folder / BOXES).exists()


def test_finding_goes_on_where_it_was_killed(tmp_path, tool):
    config = config_of("cellpose")
    composed(tmp_path / "taught", "taught")
    folder = trained(config, tmp_path, "cellpose")
    given = {
        "tested": composed(tmp_path / "tests", "tests", 4), "folder": folder,
        "target": "cell", "method": "cellpose", "fold": 0,
    }  # fmt: skip
    finding.find_objects(config, found=tmp_path / "whole", **given)
    tool["images"].clear()
    tool["stop"] = 3
    with pytest.raises(KeyboardInterrupt):
        finding.find_objects(config, found=tmp_path / "found", **given)
    assert not (tmp_path / "found").exists()
    tool["images"].clear()
    tool["stop"] = 0
    finding.find_objects(config, found=tmp_path / "found", **given)
    assert len(tool["images"]) == 2
    texts = [(tmp_path / n / "manifest.csv").read_text() for n in ("found", "whole")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"composed": None}, "learns from composed images"),
        ({"images": "10"}, "crops of all training images, not of 10"),
        ({"composed": "tests"}, "not composed to be learnt from"),
        ({"method": "median"}, "'median' is no rival"),
        ({"method": "none"}, "'none' is no rival"),
    ],
)
def test_a_training_that_cannot_be_is_refused(tmp_path, tool, changes, message):
    composed(tmp_path / "taught", "taught")
    if changes.get("composed"):
        changes = {"composed": composed(tmp_path / "tests", "tests")}
    with pytest.raises(PhantomscopeError, match=message):
        trained(config_of("stardist"), tmp_path, **changes)
    assert not tool["trained"]


@pytest.mark.parametrize("lost", ["objects.csv", "target"])
def test_classes_have_to_be_known(tmp_path, tool, lost):
    table = composed(tmp_path / "taught", "taught") / "objects.csv"
    if lost == "target":
        table.write_text(table.read_text().replace("target", "other"))
    else:
        table.unlink()
    message = "no object of the target" if lost == "target" else "no such file"
    with pytest.raises(PhantomscopeError, match=message) as raised:
        trained(config_of("stardist"), tmp_path)
    assert "taught" in raised.value.where
    assert not tool["trained"]


def test_a_model_of_another_kind_is_refused(tmp_path, tool):
    config = config_of("stardist")
    composed(tmp_path / "taught", "taught")
    folder = trained(config, tmp_path)
    given = {
        "tested": composed(tmp_path / "tests", "tests"), "found": tmp_path / "found",
        "target": "cell", "fold": 0,
    }  # fmt: skip
    for method, path, message in (
        ("cellpose", folder, "a model of 'stardist', not of 'cellpose'"),
        ("stardist", None, "has to be trained first"),
        ("stardist", tmp_path / "nowhere", "no such file"),
        ("layers", folder, "'layers' is no rival"),
    ):
        with pytest.raises(PhantomscopeError, match=message):
            finding.find_objects(config, method=method, folder=path, **given)
    (folder / "class.json").unlink()
    with pytest.raises(PhantomscopeError, match="no such file") as raised:
        finding.find_objects(config, method="stardist", folder=folder, **given)
    assert raised.value.where.endswith("class.json")


def boxed(folder):
    """Images with boxes: two for training, two for tests, bright by 100 of 255."""
    y1, x1, y2, x2 = 10, 12, 26, 32
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for number in range(4):
            image = np.full((40, 50), 50, np.uint8)
            image[y1:y2, x1:x2] = 150
            split = "train" if number < 2 else "test"
            writer.add(f"i{number}", image + np.uint8(number), split=split)
        rows = [(f"i{n}", y1, x1, y2, x2, "cell") for n in range(4)]
        table = pd.DataFrame(rows, columns=["id", "y1", "x1", "y2", "x2", "type"])
        table.to_csv(writer.partial / BOXES, index=False)
    return folder


@pytest.fixture
def detector(monkeypatch):
    """A detector that sees a box of each class wherever it is bright."""
    seen = {"images": []}

    def load(folder, options, threads):
        def detect(image):
            seen["images"].append(image)
            if seen.get("stop") == len(seen["images"]):
                raise KeyboardInterrupt
            boxes = [[10, 12, 26, 32], [0, 0, 5, 60], [30, 1, 38, 20], [0, 1, 9, 9]]
            scores = [0.9, 0.7, 0.8, 0.3]
            if seen.get("nothing"):
                return Boxes.of([], [], [])
            return Boxes.of(boxes, [1, 1, 2, 1], scores)

        return detect

    monkeypatch.setattr(detectors, "load", load)
    return seen


@pytest.mark.parametrize("nothing", [False, True])
def test_found_boxes_have_scores(tmp_path, detector, nothing):
    config = config_of("faster_rcnn", "boxes", scale={"divisor": 200})
    folder = tmp_path / "finder"
    folder.mkdir()
    training = {"tool": "faster_rcnn", "classes": ["cell"]}
    write_json(folder / "training.json", training)
    given = {
        "tested": boxed(tmp_path / "prepared"), "folder": folder, "target": "cell",
        "found": tmp_path / "found", "method": "faster_rcnn", "fold": 0,
    }  # fmt: skip
    detector["nothing"] = nothing
    # Killed at the second image: the boxes of the first one stay.
    detector["stop"] = 2
    with pytest.raises(KeyboardInterrupt):
        finding.find_objects(config, **given)
    detector["stop"] = 0
    finding.find_objects(config, **given)
    with pytest.raises(PhantomscopeError, match="finds 'cell', not 'dirt'"):
        finding.find_objects(config, **(given | {"target": "dirt"}))
    assert len(detector["images"]) == 3
    assert detector["images"][0].max() == pytest.approx(152 / 200)
    found = ImageSet.open(tmp_path / "found")
    assert found.ids == ["i2", "i3"]
    table = read_annotations(found, BOXES)
    if nothing:
        assert table.empty
        assert not found.mask("i2").any()
        return
    assert table["id"].tolist() == ["i2"] * 2 + ["i3"] * 2
    assert table[["y1", "x1", "y2", "x2"]].to_numpy().tolist() == [
        [10, 12, 26, 32], [0, 0, 5, 50]
    ] * 2  # fmt: skip
    assert set(table["type"]) == {"cell"}
    scores = pd.read_csv(found.folder / BOXES)["score"]
    assert scores.tolist() == [0.9, 0.7] * 2
    assert (found.mask("i3")[10:26, 12:32] == 1).all()
    assert (found.mask("i3") > 0).sum() == 16 * 20 + 5 * 50
    assert found.table["dropped"].tolist() == [1, 1]
    assert not (found.folder / "boxes").exists()


def test_a_detector_learns_from_the_boxes_of_training_images(tmp_path, monkeypatch):
    given = {}

    def train(method, lessons, shared, **others):
        given.update(others, method=method, lessons=lessons, shared=shared)

    monkeypatch.setattr(detectors, "train", train)
    monkeypatch.setattr(detector_models, "check_torchvision", lambda: None)
    config = config_of(
        "retinanet", "boxes", scale={"divisor": 200, "test_percentile": 60},
        detectors={"retinanet": {"epochs": 3}},
    )  # fmt: skip
    changes = {"prepared": boxed(tmp_path / "prepared"), "composed": None}
    trained(config, tmp_path, "retinanet", **changes)
    lessons, identity = given["lessons"], given["identity"]
    assert (given["method"], given["seed"]) == ("retinanet", config.seed + 2)
    assert given["state"] == tmp_path / "finder.state"
    assert given["shared"].retinanet.epochs == 3
    assert lessons.names == ["i0", "i1"]
    assert lessons.classes == ["cell"]
    assert lessons.boxes["i1"].corners.tolist() == [[10, 12, 26, 32]]
    # Training images have the scale of all, whatever that of tests is.
    assert lessons.read("i1").max() == pytest.approx(151 / 200)
    # Other boxes are another training.
    path = tmp_path / "prepared" / BOXES
    path.write_text(path.read_text().replace("i1,10", "i1,11"))
    trained(config, tmp_path, "retinanet", **changes)
    assert given["identity"] != identity
    trained(config, tmp_path, "retinanet", **changes, images="1")
    assert len(given["lessons"].names) == 1


def test_without_torchvision_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(PhantomscopeError, match="not installed") as raised:
        trained(
            config_of("retinanet", "boxes"), tmp_path, "retinanet",
            prepared=boxed(tmp_path / "prepared"), composed=None,
        )  # fmt: skip
    assert "pip install .[detection]" in raised.value.fix
    assert not (tmp_path / "finder").exists()
    with pytest.raises(PhantomscopeError, match="need torchvision"):
        check_torchvision()


def moving(folder, frames=5, sizes=None):
    """A video of two dark discs: one runs, one moves by a pixel in four frames."""
    y, x = np.indices((60, 120))
    truth = []
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for t in range(frames):
            runner = (y - 15) ** 2 + (x - 12 - 22 * t) ** 2 < 64
            sleeper = (y - 45) ** 2 + (x - 50 - t // 4) ** 2 < 64
            image = np.where(runner | sleeper, 80, 200).astype(np.uint8)
            truth.append((runner, sleeper))
            cut = slice(None, sizes[t] if sizes else None)
            writer.add(f"v-t{t:05d}", image[:, cut], np.uint8(runner)[:, cut],
                       group="v", frame=t, split="test")  # fmt: skip
    return folder, truth


def median_config(**options):
    rule = {"rule": "removed", "min_area": 20}
    compose = {"share": "scene"}
    return config_of("median", "masks", objects=rule, compose=compose, **options)


def test_the_median_finds_what_moves_and_not_what_hardly_does(tmp_path):
    tested, truth = moving(tmp_path / "prepared")
    finding.find_objects(
        median_config(), tested=tested, found=tmp_path / "found", target="cell",
        method="median", fold=0,
    )  # fmt: skip
    found = ImageSet.open(tmp_path / "found")
    assert set(found.table["layer"]) == {"scene"}
    assert found.table["frame"].tolist() == list(range(5))
    for name, (runner, sleeper) in zip(found.ids, truth, strict=True):
        mask = found.mask(name) > 0
        assert (mask & runner).sum() == runner.sum()
        # The paper's point: where it hardly moves, the median is of the object itself.
        assert not (mask & sleeper).any()
        scene = found.image(name)
        assert scene.dtype == np.float32
        assert scene[15, 12] == pytest.approx(200 / 255)
        assert scene[45, 50] == pytest.approx(80 / 255)


@pytest.mark.parametrize(
    ("frames", "sizes", "message"),
    [(2, None, "has 2 frames"), (4, [120, 120, 90, 120], "differ in size")],
)
def test_videos_without_a_median_are_refused(tmp_path, frames, sizes, message):
    tested, _ = moving(tmp_path / "prepared", frames, sizes)
    with pytest.raises(PhantomscopeError, match=message):
        finding.find_objects(
            median_config(), tested=tested, found=tmp_path / "found", target="cell",
            method="median", fold=0,
        )  # fmt: skip
    assert not (tmp_path / "found").exists()


def test_the_median_counts_no_images():
    filters = config_of("filter", "boxes", images=[10, 5]).filter
    for method in ("filter", "retinanet", "stardist", "cellpose"):
        assert filters.sizes_of(method) == ["5", "10"]
    assert filters.sizes_of("median") == ["all"]
    assert SizeRule(None, True, 1.0, 1, 0).wanted([3]).all()

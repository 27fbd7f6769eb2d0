"""Crops: each recipe on images in which one knows what is to be found."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from phantomscope.config.layers import Compose, Crops, preset
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES, POINTS
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.simulate.compose import Compositor, pack_backgrounds, pack_crops
from phantomscope.simulate.crop_find import focus_image, foreground
from phantomscope.simulate.crops import (
    choose_crops,
    cut_image,
    extract_crops,
    read_pairs,
)

SQUARES = ((10, 10, 14), (10, 60, 14), (60, 10, 24), (60, 60, 24), (0, 100, 12))


def scene(shape=(128, 128), light=180):
    """Dark background with five bright squares, the last one at the border."""
    labels = np.zeros(shape, np.uint16)
    for number, (y, x, side) in enumerate(SQUARES, 1):
        labels[y : y + side, x : x + side] = number
    noise = generator("scene").integers(10, 20, shape)
    return np.where(labels > 0, light + noise, noise).astype(np.uint8), labels


def whole(folder, files=None, labels=True):
    """A set of two such images, of two groups and splits."""
    image, mask = scene()
    with ImageSetWriter(folder, {"source": "test"}) as writer:
        for name, split in (("a", "train"), ("b", "test")):
            writer.add(name, image, mask if labels else None, split=split,
                       group=f"plate {name}")  # fmt: skip
        for file, text in (files or {}).items():
            write_text(writer.partial / file, text)
    return ImageSet.open(folder)


def cut(options, **given):
    image, _ = scene()
    return cut_image(image, options, rng=generator(0), **given)


def test_labels_become_crops_with_their_images_split(tmp_path):
    images = whole(tmp_path / "images")
    options = Crops(size_limit=300, margin=3)
    extract_crops(images, tmp_path / "crops", tmp_path / "behind", options, 0)
    crops = ImageSet.open(tmp_path / "crops")
    assert len(crops) == 8  # the one at the border is not whole
    assert crops.ids[:2] == ["a-0000", "a-0001"]
    crops.verify()
    first = crops.row("a-0000")
    assert (first["parent"], first["split"], first["group"]) == (
        "a",
        "train",
        "plate a",
    )
    assert (first["type"], first["area"], first["y"], first["x"]) == (
        "small",
        196,
        7,
        7,
    )
    assert crops.image("a-0000").shape == (20, 20)
    np.testing.assert_array_equal(crops.image("a-0000"), images.image("a")[7:27, 7:27])
    assert crops.mask("a-0000").sum() == 196
    assert set(crops.table["type"]) == {"small", "large"}
    behind = ImageSet.open(tmp_path / "behind")
    np.testing.assert_array_equal(behind.mask("b"), images.mask("b") > 0)
    assert len(choose_crops(crops, "large", ["a"])) == 2


def test_a_veto_drops_crops_and_refuses_names_that_are_not_there(tmp_path):
    extract_crops(whole(tmp_path / "images"), tmp_path / "crops", tmp_path / "behind",
                  Crops(), 0)  # fmt: skip
    crops, veto = ImageSet.open(tmp_path / "crops"), tmp_path / "veto.csv"
    veto.write_text("id,why\na-0001,blurred\n")
    kept = choose_crops(crops, veto=veto)
    assert len(kept) == 7
    assert "a-0001" not in kept.ids
    veto.write_text("id\na-001\n")
    with pytest.raises(PhantomscopeError, match="no crop") as caught:
        choose_crops(crops, veto=veto)
    assert "a-0001" in caught.value.fix
    with pytest.raises(PhantomscopeError, match="class 'objekt'") as caught:
        choose_crops(crops, kind="objekt")
    assert "did you mean `object`" in caught.value.fix
    with pytest.raises(PhantomscopeError, match="no crop of these 1 images is left"):
        choose_crops(crops, "object", ["c"])
    assert len(choose_crops(crops, "object", ["a"], but=True)) == 0


def test_from_crops_to_a_pair(tmp_path):
    extract_crops(whole(tmp_path / "images"), tmp_path / "crops", tmp_path / "behind",
                  Crops(size_limit=300), 0)  # fmt: skip
    crops, options = ImageSet.open(tmp_path / "crops"), Compose(size=96)
    packed = [
        pack_crops(read_pairs(choose_crops(crops, kind, ["a"]), 255), options)
        for kind in ("small", "large")
    ]
    behind = ImageSet.open(tmp_path / "behind").select(split="train")
    ground = pack_backgrounds(read_pairs(behind, 255))
    first, second = Compositor(*packed, ground, options, 0).pair(0)
    assert np.array_equal(first.target, second.target)
    # Objects are holes of the background, so it is dark everywhere.
    assert first.background.max() < 0.1
    assert first.target.max() > 0.02


def test_points_give_classes_and_mixed_objects_are_dropped(tmp_path):
    spots = [("fibroblast", 15, 15), ("fibroblast", 15, 65), ("hepatocyte", 16, 66),
             ("hepatocyte", 70, 20), ("hepatocyte", 75, 25),
             ("debris", 70, 70)]  # fmt: skip
    points = pd.DataFrame(spots, columns=["type", "y", "x"])
    options = Crops(recipe="points", log=True, smooth=1.0)
    found, hidden = cut(options, points=points)
    assert [(c.kind, c.mask.sum() > 100) for c in found] == [
        ("fibroblast", True), ("hepatocyte", True)
    ]  # fmt: skip
    assert not hidden[65:80, 65:80].any()  # debris alone is background
    assert hidden[15, 15]
    assert hidden[15, 65]
    with pytest.raises(PhantomscopeError, match="points"):
        cut(options)
    lines = "".join(f"a,{y},{x},{kind}\n" for kind, y, x in spots)
    images = whole(tmp_path / "images", {POINTS: "id,y,x,type\n" + lines}, labels=False)
    extract_crops(images, tmp_path / "crops", tmp_path / "behind", options, 0)
    crops = ImageSet.open(tmp_path / "crops")
    assert list(crops.table["type"]) == ["fibroblast", "hepatocyte"]
    assert set(crops.table["parent"]) == {"a"}


def test_the_published_recipe_of_bbbc026_runs():
    image, _ = scene((200, 200))
    points = pd.DataFrame({"type": ["hepatocyte"], "y": [70], "x": [70]})
    found, _ = cut_image(image, preset(Crops, "bbbc026"), points=points,
                         rng=generator(0))  # fmt: skip
    assert [c.kind for c in found] == ["hepatocyte"]
    # Smoothing and dilation make it larger, not many times larger.
    assert 24**2 <= found[0].mask.sum() < 3 * 24**2


def test_boxes_have_an_object_in_the_middle(tmp_path):
    rows = [("a", 5, 5, 30, 30, ""), ("a", 55, 55, 90, 90, "astrocyte"),
            ("a", 100, 100, 120, 120, "")]  # fmt: skip
    names = ["id", "y1", "x1", "y2", "x2", "type"]
    boxes = pd.DataFrame(rows, columns=names)
    options = Crops(recipe="boxes", squares=[20, 40], squares_per_image=6, border=True)
    found, hidden = cut(options, boxes=boxes)
    clean = [c for c in found if c.clean and c.kind != "other"]
    assert [c.kind for c in clean] == ["object", "astrocyte"]
    areas = [int(c.mask.sum()) for c in clean]
    assert areas == pytest.approx([14**2, 24**2], rel=0.05)
    squares = [c for c in found if c.kind == "other"]
    assert len(squares) == 6
    for square in squares:
        assert 20 <= square.image.shape[0] == square.image.shape[1] <= 40
        outside = hidden[square.y :, square.x :][: square.mask.shape[0]]
        assert not (square.mask & outside[:, : square.mask.shape[1]]).any()
    text = boxes.to_csv(index=False)
    images = whole(tmp_path / "images", {BOXES: text}, labels=False)
    extract_crops(images, tmp_path / "crops", tmp_path / "behind", options, 0)
    crops = ImageSet.open(tmp_path / "crops")
    assert set(crops.table["type"]) == {"object", "astrocyte", "other"}
    assert crops.info["not_clean"] == sum(not c.clean for c in found)
    again = cut(options, boxes=boxes)[0]
    assert [(c.y, c.x) for c in again] == [(c.y, c.x) for c in found]


def test_the_published_recipe_of_bbbc042_runs():
    image, _ = scene((300, 300))
    boxes = pd.DataFrame(
        [(50, 50, 96, 96, "")], columns=["y1", "x1", "y2", "x2", "type"]
    )
    found, hidden = cut_image(image, preset(Crops, "bbbc042"), boxes=boxes,
                              rng=generator(0))  # fmt: skip
    assert found[0].clean
    assert found[0].mask.sum() == pytest.approx(24**2, rel=0.05)
    assert len(found) == 1 + 50
    assert all(c.image.shape == (128, 128) for c in found[1:])
    assert hidden[70, 70]
    assert not hidden[200, 200]


def test_focus_sorts_sharp_from_blurred_objects():
    shape = (160, 160)
    sharp, soft = np.zeros(shape), np.zeros(shape)
    sharp[20:60, 20:60] = generator(3).random((40, 40)) * 500 + 1000
    soft[90:140, 90:140] = 1200.0
    image = sharp + ndimage.gaussian_filter(soft, 8) + 100
    options = Crops(
        recipe="focus", in_focus=0.05, out_of_focus=0.02, score_limits=[0, 2000]
    )
    found, _ = cut_image(image.astype(np.float32), options, rng=generator(0))
    assert [c.kind for c in found] == ["in_focus", "out_of_focus"]
    assert found[0].focus > 3 * found[1].focus
    published = preset(Crops, "microglia", {"min_area": 100.0, "median_passes": 1})
    assert foreground(image, published).any()
    assert focus_image(image, published).max() <= 8


def test_dark_objects_and_local_thresholds():
    image, labels = scene()
    ramp = np.linspace(0, 60, 128)[None]
    dark = (250 - image.astype(float) - ramp).astype(np.float32)
    mask = foreground(dark, Crops(dark=True))
    assert (mask == (labels > 0)).mean() > 0.99
    local = foreground(image + ramp, Crops(window=81, offset=20))
    assert (local == (labels > 0)).mean() > 0.95


def test_nothing_found_is_said(tmp_path):
    images = whole(tmp_path / "images", labels=False)
    with pytest.raises(PhantomscopeError, match="no object was found"):
        extract_crops(images, tmp_path / "crops", tmp_path / "behind",
                      Crops(recipe="threshold", min_area=5000), 0)  # fmt: skip
    assert not (tmp_path / "crops").exists()
    assert not (tmp_path / "behind").exists()
    with pytest.raises(PhantomscopeError, match="needs labelled"):
        cut(Crops())
    with pytest.raises(ValueError, match="odd"):
        Crops(window=10)
    with pytest.raises(ValueError, match="overlap"):
        Crops(out_of_focus=0.5)

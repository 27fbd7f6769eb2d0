"""Videos, points and boxes, and the archives of the paper, to image sets."""

import h5py
import numpy as np
import pytest
import tifffile
from tests import layers
from tests.archives import png, zipped
from tests.server import Server

from phantomscope.acquire.annotated import (
    acquire_annotated,
    acquire_bbbc026_plate,
    acquire_bbbc026_truth,
    acquire_bbbc042,
    grey_of,
    read_marks,
)
from phantomscope.acquire.download import download
from phantomscope.acquire.videos import acquire_videos
from phantomscope.config.frames import Frames
from phantomscope.config.layers import Crops, preset
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES, POINTS, read_annotations
from phantomscope.images.frames import pairs_by_lag
from phantomscope.images.imageset import ImageSet
from phantomscope.simulate.crops import extract_crops


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The archives, downloaded from a server on this machine."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("there", "here"))
    layers.write_layers(source)
    with Server() as server:
        for path in sorted(source.glob("*.zip")):
            url = server.add(f"bbbc/{path.name}", path.read_bytes())
            download(url, target / path.name)
    (source / "worms").rename(target / "worms")
    return target


def test_marks_of_bbbc026_become_points(published, tmp_path):
    acquire_bbbc026_truth(published / layers.GROUND, tmp_path / "set")
    images = ImageSet.open(tmp_path / "set")
    assert images.ids == list(layers.SITES)
    assert list(images.table["fold"]) == [1, 2, 3, 4, 5]
    points = read_annotations(images, POINTS)
    for name in images.ids:
        plain, spots = layers.culture(name)
        own = points[points["id"] == name]
        assert sorted(own[["y", "x", "type"]].itertuples(index=False, name=None)) == (
            sorted((float(y), float(x), kind) for y, x, kind in spots)
        )
        image = images.image(name)
        _, marked, _ = read_marks(layers.marked(plain, spots))
        assert marked.sum() == len(spots) + 8
        np.testing.assert_array_equal(image[~marked], plain[~marked])
        # No mark is left: it is as bright as what is around it.
        apart = np.abs(image[marked].astype(float) - plain[marked])
        assert np.median(apart) < 10
        assert (image[marked] < 255).all()


def test_the_recipe_finds_both_classes(published, tmp_path):
    acquire_bbbc026_truth(published / layers.GROUND, tmp_path / "set")
    options = preset(Crops, "bbbc026", {"smooth": 1.0, "opening_passes": 1})
    extract_crops(ImageSet.open(tmp_path / "set"), tmp_path / "crops",
                  tmp_path / "behind", options, 0)  # fmt: skip
    crops = ImageSet.open(tmp_path / "crops")
    areas = crops.table.groupby("type")["area"].median()
    assert set(areas.index) == {"hepatocyte", "fibroblast"}
    assert areas["fibroblast"] > 1.5 * areas["hepatocyte"]
    assert set(crops.table["parent"]) <= set(layers.SITES)
    assert len(crops) > 20


def test_the_plate_knows_its_wells_and_controls(published, tmp_path):
    acquire_bbbc026_plate(published / layers.PLATE, tmp_path / "set")
    images = ImageSet.open(tmp_path / "set")
    assert len(images) == len(layers.SITES) + 2 * len(layers.WELLS)
    table = images.table.set_index("id")
    assert table.loc["B23_s2", ["group", "well", "site", "control"]].tolist() == [
        "B23", "B23", 2, "positive"
    ]  # fmt: skip
    assert table.loc["B01_s1", "control"] == "negative"
    assert table.loc["B12_s1", "control"] == ""
    np.testing.assert_array_equal(images.image("D23_s1"), layers.culture("D23_s1")[0])


def test_bbbc042_has_boxes_and_the_published_split(published, tmp_path):
    acquire_bbbc042(
        published / layers.IMAGES, published / layers.POSITIONS, tmp_path / "set"
    )
    images = ImageSet.open(tmp_path / "set")
    splits = dict(zip(images.ids, images.table["split"], strict=True))
    assert splits == {
        "0001": "train", "0002": "train", "0999": "train", "1000": "validation",
        "1049": "validation", "1050": "test", "1117": "test",
    }  # fmt: skip
    boxes = read_annotations(images, BOXES)
    first = boxes[boxes["id"] == "0001"][["y1", "x1", "y2", "x2"]].to_numpy()
    np.testing.assert_array_equal(first, layers.brain(1)[1][:, [1, 0, 3, 2]])
    grey = images.image("0001")
    assert grey[40, 45] > grey[75, 75] + 50  # what absorbs is bright
    assert grey_of(np.array([[[255, 0, 0]]], np.uint8)).item() == 255 - 76
    options = preset(Crops, "bbbc042", {"squares": [32, 32], "squares_per_image": 4})
    extract_crops(images.select(split="train"), tmp_path / "crops",
                  tmp_path / "behind", options, 0)  # fmt: skip
    kinds = ImageSet.open(tmp_path / "crops").table["type"].value_counts()
    assert kinds.to_dict() == {"other": 12, "astrocyte": 6}


def test_broken_archives_leave_no_set(tmp_path):
    image = png(layers.brain(1)[0])
    (tmp_path / "i.zip").write_bytes(zipped({"images/1.png": image}))
    (tmp_path / "p.zip").write_bytes(zipped({"p/1.txt": b"cell 0 0 0 1 2 three 4\n"}))
    (tmp_path / "q.zip").write_bytes(zipped({"p/2.txt": b""}))
    for positions, what in (("p.zip", "line 1"), ("q.zip", "no text file")):
        with pytest.raises(PhantomscopeError, match=what):
            acquire_bbbc042(tmp_path / "i.zip", tmp_path / positions, tmp_path / "set")
    for make in (acquire_bbbc026_truth, acquire_bbbc026_plate):
        with pytest.raises(PhantomscopeError, match="well and site"):
            make(tmp_path / "i.zip", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_frames_of_tierpsy(published, tmp_path):
    acquire_videos(published / "worms", tmp_path / "set")
    images = ImageSet.open(tmp_path / "set")
    assert len(images) == 10
    row = images.row("N2-t00003")
    assert (row["group"], row["frame"], row["recorded"]) == ("N2", 3, 13500)
    # 4500 frames of 25 a second are three minutes.
    assert (row["time"], row["time_unit"], row["pixel_size"]) == (540, "s", 12.5)
    with h5py.File(published / "worms/N2.hdf5") as file:
        np.testing.assert_array_equal(images.image("N2-t00003"), file["full_data"][3])
    pairs = pairs_by_lag(images)
    assert len(pairs) == 8
    assert ("CB4856-t00000", "CB4856-t00001") in pairs
    assert all(a.split("-t")[0] == b.split("-t")[0] for a, b in pairs)
    assert len(pairs_by_lag(images, 4)) == 2
    with pytest.raises(PhantomscopeError, match="5 apart"):
        pairs_by_lag(images, 5)
    acquire_videos(published / "worms", tmp_path / "masked", part="mask",
                   frames=Frames(every=2))  # fmt: skip
    masked = ImageSet.open(tmp_path / "masked")
    assert masked.row("N2-t00004")["time"] == pytest.approx(4 / 25)
    assert len(pairs_by_lag(masked)) == 4
    assert (masked.image("N2-t00004") == 0).mean() > 0.9


def test_files_that_are_no_videos_of_tierpsy(tmp_path):
    path = tmp_path / "a.hdf5"
    with pytest.raises(PhantomscopeError, match=r"no such|not exist|missing"):
        acquire_videos(path, tmp_path / "set")
    path.write_bytes(b"no HDF5")
    with pytest.raises(PhantomscopeError, match="damaged"):
        acquire_videos(path, tmp_path / "set")
    with h5py.File(path, "w") as file:
        file["trajectories"] = np.zeros((3, 2))
    with pytest.raises(PhantomscopeError, match="it holds trajectories"):
        acquire_videos(path, tmp_path / "set")
    with h5py.File(path, "w") as file:
        file["full_data"] = np.zeros((3, 20, 20), np.uint8)
    with pytest.raises(PhantomscopeError, match="save_interval"):
        acquire_videos(path, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_frames_of_a_stack(tmp_path):
    stack = np.arange(4 * 20 * 30, dtype=np.uint16).reshape(4, 20, 30)
    tifffile.imwrite(tmp_path / "cells.tif", stack, photometric="minisblack")
    acquire_videos(tmp_path / "cells.tif", tmp_path / "set", step=1.5, pixel_size=0.3)
    images = ImageSet.open(tmp_path / "set")
    assert list(images.table["time"]) == [0, 1.5, 3, 4.5]
    assert set(images.table["time_unit"]) == {"s"}
    np.testing.assert_array_equal(images.image("cells-t00002"), stack[2])
    images.verify()
    tifffile.imwrite(tmp_path / "cells.tif", stack[0])
    with pytest.raises(PhantomscopeError, match="no stack"):
        acquire_videos(tmp_path / "cells.tif", tmp_path / "other")


def test_folders_with_a_table(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.png").write_bytes(png(layers.culture(name)[0]))
    table = tmp_path / "table.csv"
    table.write_text("id,y,x,type\na.png,3,4,cell\na,159,199,\n")
    acquire_annotated(tmp_path / "in", table, tmp_path / "points")
    images = ImageSet.open(tmp_path / "points")
    assert images.ids == ["a", "b"]
    rows = read_annotations(images, POINTS)
    assert rows.values.tolist() == [["a", 3, 4, "cell"], ["a", 159, 199, ""]]
    assert len(read_annotations(images.select(id="b"), POINTS)) == 0
    table.write_text("id,y1,x1,y2,x2\nb,0,0,160,200\n")
    acquire_annotated(tmp_path / "in", table, tmp_path / "boxes")
    boxes = read_annotations(ImageSet.open(tmp_path / "boxes"), BOXES)
    assert boxes.values.tolist() == [["b", 0, 0, 160, 200, ""]]
    wrong = {
        "id,y,x\na,160,4\n": "outside", "id,y,x\nc,1,1\n": "no image",
        "id,y,x\na,1,left\n": "line 2", "id,y\na,1\n": "lacks",
    }  # fmt: skip
    for text, what in wrong.items():
        table.write_text(text)
        with pytest.raises(PhantomscopeError, match=what):
            acquire_annotated(tmp_path / "in", table, tmp_path / "none")
    assert not (tmp_path / "none").exists()

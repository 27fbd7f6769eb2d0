"""The publisher's split, and tables of points and boxes that are divided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from tests.archives import png

from phantomscope.acquire.disjoint import assert_disjoint
from phantomscope.acquire.source import acquire
from phantomscope.acquire.split import prepare
from phantomscope.config.data import Source, Split
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import POINTS, cut_rows, read_annotations
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter

# The publisher's split


def divided(
    folder: Path, sides: dict[str, str], column: str = "published_split"
) -> Path:
    """Write a set of images that a publisher divided; the name ends in its pixels."""
    with ImageSetWriter(folder / "set", {}) as writer:
        for name, side in sides.items():
            image = np.full((70, 90), 10 + int(name[-1]), np.uint8)
            writer.add(name, image, group=name[0], **{column: side})
    return folder / "set"


@pytest.mark.parametrize("column", ["published_split", "split"])
def test_what_publishers_call_their_parts(column: str, tmp_path: Path) -> None:
    sides = {"a1": "Training", "a2": "train", "b3": "val", "c4": "testing"}
    images = ImageSet.open(divided(tmp_path, sides, column))
    prepare(images, Split(by="published"), 0, tmp_path / "prepared")
    found = ImageSet.open(tmp_path / "prepared")
    assert found.table["split"].tolist() == ["train", "train", "validation", "test"]
    assert_disjoint(found)
    # Nobody else may be on neither side.
    by_group = ImageSet(found.folder, found.table, {"split": {"by": "group"}})
    with pytest.raises(PhantomscopeError, match="on the side 'validation'"):
        assert_disjoint(by_group)


@pytest.mark.parametrize(
    ("sides", "says"),
    [
        ({"a1": "", "b2": ""}, "nothing says how the publisher"),
        ({"a1": "train", "b2": "", "c3": "test"}, "of the image 'b2' is ''"),
        ({"a1": "train", "b2": "holdout"}, "is 'holdout'"),
        ({"a1": "train", "b2": "train"}, "published test part (2 train)"),
        ({"a1": "val", "b2": "test"}, "part (1 test, 1 validation)"),
        ({"a1": "train", "a2": "test"}, "'a1' (train) and 'a2' (test) are of one"),
        ({"a1": "train", "b1": "test", "c3": "train"}, "share an identical image"),
    ],
)
def test_published_splits_that_cannot_be_used(
    sides: dict[str, str], says: str, tmp_path: Path
) -> None:
    images = ImageSet.open(divided(tmp_path, sides))
    with pytest.raises(PhantomscopeError) as caught:
        prepare(images, Split(by="published"), 0, tmp_path / "prepared")
    assert says in str(caught.value)
    assert caught.value.fix
    assert not (tmp_path / "prepared").exists()


# Tables in regions


def test_regions_cut_the_tables_too(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    spots = {"a": [(10, 20), (10, 180), (60, 100)], "b": []}
    image = np.random.default_rng(0).integers(0, 9, (100, 200)).astype(np.uint8)
    for name, own in spots.items():
        marked = image.copy()
        for y, x in own:
            marked[y, x] = 255
        (folder / f"{name}.png").write_bytes(png(marked))
    rows = [f"{n},{y},{x},cell" for n, own in spots.items() for y, x in own]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["id,y,x,type", *rows]))
    source = Source(kind="annotated", path=str(folder), table=str(table))
    acquire(source, tmp_path / "set")
    images = ImageSet.open(tmp_path / "set")
    options = Split(by="region", margin=10, train_fraction=0.5)
    prepare(images, options, 0, tmp_path / "prepared")
    found = ImageSet.open(tmp_path / "prepared")
    assert_disjoint(found)
    points = read_annotations(found, POINTS)
    # Two of three: the one in the margin is nowhere.
    assert sorted(points["id"]) == ["a-test", "a-train"]
    for row in points.itertuples():
        assert found.image(str(row.id))[int(row.y), int(row.x)] == 255
    assert len(pd.read_csv(found.folder / POINTS)) == 2


def test_boxes_that_the_border_cuts_stay_in_part() -> None:
    table = pd.DataFrame(
        [("a", 0, 0, 10, 10, "x"), ("a", 5, 45, 25, 55, "y"), ("a", 0, 60, 9, 70, "z")],
        columns=["id", "y1", "x1", "y2", "x2", "type"],
    )
    found = cut_rows(table, ((0, 20), (5, 50)), "a-train")
    assert found.to_numpy().tolist() == [
        ["a-train", 0, 0, 10, 5, "x"], ["a-train", 5, 40, 20, 45, "y"]
    ]  # fmt: skip


def test_frames_of_a_video_are_cut_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 255, (12, 200, 80), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "v.tif", stack, photometric="minisblack")
    acquire(Source(kind="videos", path=str(tmp_path / "v.tif")), tmp_path / "set")
    images = ImageSet.open(tmp_path / "set")
    prepare(images, Split(), 0, tmp_path / "prepared")
    found = ImageSet.open(tmp_path / "prepared")
    assert found.info["split"]["by"] == "region"
    places = found.table.groupby("split")["y0"].nunique()
    assert places.to_dict() == {"train": 1, "test": 1}

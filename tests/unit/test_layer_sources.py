"""Data of semantic filtering through the stages download, acquire and prepare."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from tests import layers
from tests.archives import png, zipped
from tests.server import serve

from phantomscope.acquire.disjoint import assert_disjoint
from phantomscope.acquire.split import prepare
from phantomscope.cli import main
from phantomscope.config.data import Split
from phantomscope.config.load import make_config, sections
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES, POINTS, read_annotations
from phantomscope.images.imageset import ImageSet
from phantomscope.planning.sources import source_images, split_images
from phantomscope.stages import data as stages


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archives as their publishers have them, and two videos."""
    folder = tmp_path_factory.mktemp("there")
    layers.write_layers(folder)
    return folder


@pytest.fixture(scope="module")
def registry(there: Path) -> Iterator[Path]:
    """A registry that says that they are on a server of this machine."""
    with serve(there, layers.ARCHIVES) as path:
        yield path


def written(folder: Path, **content: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def dataset(name: str, registry: Path, folder: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "dataset", "dataset": name, "registry": str(registry),
            "downloads": str(folder / "data"), **options}  # fmt: skip


def acquired(source: dict[str, Any], folder: Path) -> ImageSet:
    """Download and acquire, as the workflow does."""
    config = make_config({"source": source})
    files = [Path(path) for path in config.source.downloaded]
    for path in files:
        stages.download(config, target=path)
    stages.acquire(config, images=folder / "set", files=files)
    return ImageSet.open(folder / "set")


# Public data sets


def test_bbbc042_by_the_command_line(registry: Path, tmp_path: Path) -> None:
    path = written(
        tmp_path, source=dataset("bbbc042", registry, tmp_path),
        split={"by": "published"},
    )  # fmt: skip
    images, prepared = tmp_path / "images", tmp_path / "prepared"
    config = ["--config", str(path)]
    files = [
        str(tmp_path / "data/bbbc042" / f"{n}.zip") for n in ("images", "positions")
    ]
    for file in files:
        assert main(["download", *config, "--target", file]) == 0
    assert main(["acquire", *config, "--images", str(images), "--files", *files]) == 0
    assert main([
        "prepare", *config, "--images", str(images), "--prepared", str(prepared),
        "--normalisation", str(tmp_path / "n.json"),
    ]) == 0  # fmt: skip

    found = ImageSet.open(prepared)
    assert_disjoint(found)
    assert Counter(found.table["split"]) == {"train": 3, "validation": 2, "test": 2}
    assert found.select(split="test").ids == ["1050", "1117"]
    boxes = read_annotations(found, BOXES)
    assert len(boxes) == 2 * len(layers.NUMBERS)
    np.testing.assert_array_equal(
        boxes.loc[boxes["id"] == "1050", ["x1", "y1", "x2", "y2"]],
        layers.brain(1050)[1],
    )
    info = found.info
    assert (info["source"], info["name"], info["files"]) == ("dataset", "bbbc042", 7)
    assert "bbbc.broadinstitute.org/BBBC042" in info["licence"]
    assert "Suleymanova" in info["citation"]
    assert [len(one["sha256"]) for one in info["downloads"]] == [64, 64]
    assert list(info["split"]["tables_sha256"]) == [BOXES]
    assert str(tmp_path) not in str(info["downloads"])


def test_bbbc026_for_cross_validation(registry: Path, tmp_path: Path) -> None:
    source = dataset("bbbc026", registry, tmp_path)
    assert not make_config({"source": source}).has_labels
    images = acquired(source, tmp_path)
    prepare(images, Split(), 0, tmp_path / "prepared")
    found = ImageSet.open(tmp_path / "prepared")
    assert_disjoint(found)
    assert found.info["split"]["by"] == "group"
    assert dict(zip(found.ids, found.table["fold"], strict=True)) == {
        name: fold for fold, name in enumerate(layers.SITES, 1)
    }
    assert found.row("M19_s6")["well"] == "M19"
    points = read_annotations(found, POINTS)
    assert set(points["id"]) == set(layers.SITES)
    pd.testing.assert_frame_equal(points, read_annotations(images, POINTS))
    # Fewer images take along only their own points.
    prepare(images, Split(most_train=1), 0, tmp_path / "fewer")
    fewer = ImageSet.open(tmp_path / "fewer")
    assert len(fewer) == 3
    assert set(read_annotations(fewer, POINTS)["id"]) == set(fewer.ids)
    assert set(pd.read_csv(tmp_path / "fewer" / POINTS)["id"]) == set(fewer.ids)


def test_the_plate_by_a_mirror(registry: Path, there: Path, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    shutil.copy(there / layers.PLATE, tmp_path / "mirror")
    source = dataset(
        "bbbc026_plate", registry, tmp_path, mirror=str(tmp_path / "mirror"),
        limit=6, pixel_size_um=0.5,
    )  # fmt: skip
    images = acquired(source, tmp_path)
    assert (len(images), images.info["files"]) == (6, 6)
    assert set(images.table["pixel_size"]) == {0.5}
    assert images.table["group"].tolist() == images.table["well"].tolist()
    prepare(images, Split(by="group"), 0, tmp_path / "prepared")
    found = ImageSet.open(tmp_path / "prepared")
    wells = found.table.groupby("well")["control"].first()
    assert {wells[w] for w in wells.index if w.endswith("23")} == {"positive"}


def test_a_changed_archive_is_refused(registry: Path, tmp_path: Path) -> None:
    source = dataset("bbbc042", registry, tmp_path)
    images = acquired(source, tmp_path)
    shutil.rmtree(images.folder)
    archive = tmp_path / "data/bbbc042/positions.zip"
    archive.write_bytes(zipped({"positions/1.txt": b""}))
    with pytest.raises(PhantomscopeError, match=r"positions\.zip\.sha256"):
        stages.acquire(make_config({"source": source}), images=images.folder)
    archive.unlink()
    with pytest.raises(PhantomscopeError, match="are missing"):
        stages.acquire(make_config({"source": source}), images=images.folder)
    assert not images.folder.exists()


def test_a_hash_in_the_registry_counts(registry: Path, tmp_path: Path) -> None:
    entries = yaml.safe_load(registry.read_text())
    entries["bbbc026"]["files"][0]["sha256"] = "0" * 64
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(entries))
    source = dataset("bbbc026", tmp_path / "other.yaml", tmp_path)
    config = make_config({"source": source})
    target = Path(config.source.downloaded[0])
    with pytest.raises(PhantomscopeError, match="hash"):
        stages.download(config, target=target)
    assert not target.exists()


def test_an_image_without_positions(registry: Path, tmp_path: Path) -> None:
    source = dataset("bbbc042", registry, tmp_path)
    (tmp_path / "data/bbbc042").mkdir(parents=True)
    for name, content in (
        ("images", {f"images/{n}.png": png(layers.brain(n)[0]) for n in (1, 2)}),
        ("positions", {"positions/1.txt": b""}),
    ):
        (tmp_path / f"data/bbbc042/{name}.zip").write_bytes(zipped(content))
    with pytest.raises(PhantomscopeError, match="image 2 has no text file"):
        stages.acquire(make_config({"source": source}), images=tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_download_does_not_depend_on_other_options(registry: Path) -> None:
    for name in layers.ARCHIVES:
        source = dataset(name, registry, registry.parent)
        one = make_config({"source": source})
        other = make_config({"source": {**source, "limit": 2}, "seed": 5})
        assert one.source.downloaded == other.source.downloaded
        keys = one.source.download_keys
        assert sections(one, *keys) == sections(other, *keys)


def test_plans_know_the_published_parts(registry: Path, tmp_path: Path) -> None:
    config = make_config({
        "source": dataset("bbbc042", registry, tmp_path), "split": {"by": "published"}
    })  # fmt: skip
    images = source_images(config, tmp_path)
    assert (images.count, images.groups, images.dtype) == (1118, 1118, "uint8")
    train, test = split_images(config, images)
    assert (train.count, test.count) == (1000, 68)
    few = make_config({
        "source": {"kind": "annotated", "path": "p", "table": "t"},
        "split": {"by": "published", "most_train": 4},
    })  # fmt: skip
    train, test = split_images(few, images)
    assert (train.count, test.count) == (4, 447)


# Videos


def stacks(folder: Path, **shapes: tuple[int, ...]) -> Path:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        stack = rng.integers(0, 255, shape, dtype=np.uint8)
        tifffile.imwrite(folder / f"{name}.tif", stack, photometric="minisblack")
    return folder


def test_videos_with_masks_through_prepare(tmp_path: Path) -> None:
    videos = stacks(tmp_path / "v", a=(6, 40, 50), b=(4, 40, 50), c=(5, 40, 50))
    masks = stacks(tmp_path / "m", a=(6, 40, 50), c=(5, 40, 50))
    source = {
        "kind": "videos", "path": str(videos), "labels": str(masks),
        "frames": {"first": 1, "every": 2}, "videos": {"step": 0.5},
        "pixel_size_um": 3.0,
    }  # fmt: skip
    config = make_config({"source": source})
    assert config.has_labels
    images = acquired(source, tmp_path)
    assert images.ids == ["a-t00001", "a-t00003", "a-t00005", "b-t00001", "b-t00003",
                          "c-t00001", "c-t00003"]  # fmt: skip
    np.testing.assert_array_equal(
        images.mask("a-t00003"), tifffile.imread(masks / "a.tif")[3]
    )
    assert not images.has_mask("b-t00001")
    assert images.info["labelled"] == 2
    options = Split(by="group", test=["c"])
    prepare(images, options, 0, tmp_path / "prepared")
    found = ImageSet.open(tmp_path / "prepared")
    assert_disjoint(found)
    row = found.row("a-t00005")
    assert [row[c] for c in ("frame", "recorded", "time", "time_unit")] == [
        2, 5, 2.5, "s"
    ]  # fmt: skip
    assert row["pixel_size"] == 3.0
    assert found.select(split="test").ids == ["c-t00001", "c-t00003"]
    only = acquired({**source, "labelled": True, "limit": 1}, tmp_path)
    assert set(only.table["group"]) == {"a"}
    # What a plan thinks of them.
    planned = source_images(config, tmp_path / "none")
    assert (planned.count, planned.groups, planned.dtype) == (7, 3, "uint8")
    assert planned.shapes == Counter({(40, 50): 7})


def test_tierpsy_through_the_stages(there: Path, tmp_path: Path) -> None:
    source = {"kind": "videos", "path": str(there / "worms")}
    config = make_config({"source": source})
    assert not config.has_labels
    images = acquired(source, tmp_path)
    assert (len(images), set(images.table["group"])) == (10, {"N2", "CB4856"})
    planned = source_images(config, tmp_path / "none")
    assert (planned.count, planned.groups) == (10, 2)
    masked = acquired({**source, "videos": {"part": "mask"}}, tmp_path)
    assert set(masked.table["recorded"]) == set(range(5))
    # One file is a video, too.
    one = {**source, "path": str(there / "worms/N2.hdf5"), "frames": {"last": 1}}
    assert acquired(one, tmp_path).ids == ["N2-t00000", "N2-t00001"]


@pytest.mark.parametrize(
    ("masks", "options", "says"),
    [
        (
            {"a": (6, 40, 51)},
            {},
            "(6, 40, 51), the video is (6, 40, 50)",
        ),
        ({"a": (5, 40, 50)}, {}, "the video's frames, height and width"),
        ({"x": (6, 40, 50)}, {}, "no label has the name of an image"),
        ({"b": (4, 40, 50)}, {"limit": 1}, "none of the 1 videos"),
        (None, {"frames": {"first": 9}}, "none of which is used"),
        (None, {"path": "none"}, "no such file"),
    ],
)
def test_videos_that_do_not_fit(
    masks: dict[str, tuple[int, ...]] | None, options: dict[str, Any], says: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    source = {"kind": "videos", **options}
    if "path" in options:
        source["path"] = str(tmp_path / "none")
    else:
        videos = stacks(tmp_path / "v", a=(6, 40, 50), b=(4, 40, 50))
        source["path"] = str(videos)
    if masks is not None:
        source["labels"] = str(stacks(tmp_path / "m", **masks))
    with pytest.raises(PhantomscopeError) as caught:
        acquired(source, tmp_path)
    assert says in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_videos_of_two_types(tmp_path: Path) -> None:
    videos = stacks(tmp_path / "v", a=(3, 40, 50))
    with h5py.File(videos / "b.hdf5", "w") as file:
        file["mask"] = np.zeros((3, 40, 50), np.uint16)
    source = {"kind": "videos", "path": str(videos), "videos": {"part": "mask"}}
    with pytest.raises(PhantomscopeError, match="a is uint8, this one uint16"):
        acquired(source, tmp_path)
    tifffile.imwrite(videos / "b.tif", np.zeros((40, 50), np.uint8))
    (videos / "b.hdf5").unlink()
    config = make_config({"source": source})
    with pytest.raises(PhantomscopeError, match="no stack of frames"):
        source_images(config, tmp_path / "none")
    (videos / "b.tif").write_bytes(b"no TIFF")
    with pytest.raises(PhantomscopeError, match="cannot be read"):
        source_images(config, tmp_path / "none")


# Own images and a table


def test_annotated_images_through_the_stages(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        colour = np.full((40, 50, 3), 10 * number, np.uint8)
        colour[3, 4, 1] = 200
        (folder / f"p{number // 2}_{number}.png").write_bytes(png(colour))
    table = tmp_path / "boxes.csv"
    table.write_text("id,y1,x1,y2,x2\np0_0,0,0,9,9\np2_5.png,1,1,5,6\n")
    source = {
        "kind": "annotated", "path": str(folder), "table": str(table), "axes": "YXC",
        "channel": 1, "group": r"(p\d)", "pixel_size_um": 0.3,
    }  # fmt: skip
    config = make_config({"source": source})
    assert not config.has_labels
    assert config.arms == ["synthetic", "sketch"]
    images = acquired(source, tmp_path)
    assert images.table["group"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert images.image("p0_1")[3, 4] == 200
    assert set(images.table["pixel_size"]) == {0.3}
    boxes = read_annotations(images, BOXES)
    assert boxes["id"].tolist() == ["p0_0", "p2_5"]
    planned = source_images(config, tmp_path / "none")
    assert planned.shapes == Counter({(40, 50): 6})
    half = acquired({**source, "limit": 2}, tmp_path)
    assert half.ids == ["p0_0", "p2_5"]
    with pytest.raises(PhantomscopeError, match="finds no group"):
        acquired({**source, "group": r"(q\d)"}, tmp_path)
    with pytest.raises(PhantomscopeError, match="no such file"):
        acquired({**source, "table": str(tmp_path / "none.csv")}, tmp_path)
    table.write_text("name,y,x\np0_0,0,0\n")
    with pytest.raises(PhantomscopeError, match="lacks the columns id"):
        acquired(source, tmp_path)


def test_only_their_own_options_shape_a_source() -> None:
    for source in (
        {"kind": "package"}, {"kind": "folder", "path": "p"},
        {"kind": "videos", "path": "p"},
    ):  # fmt: skip
        params = sections(make_config({"source": source}), "source")["source"]
        assert ("videos" in params) == (source["kind"] == "videos")
        assert "localisations" not in params

"""Acquisition: the packaged images, a folder of one's own, and every bad file."""

import importlib.util

import numpy as np
import pytest
import tifffile
from skimage import io as skimage_io

from phantomscope.acquire.folder import acquire_folder, spread
from phantomscope.acquire.listing import file_stem, natural_key, safe_ids
from phantomscope.acquire.package import acquire_package
from phantomscope.acquire.source import acquire
from phantomscope.config.data import Source
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter


def picture(seed=0, shape=(40, 48), dtype=np.uint8):
    random = np.random.default_rng(seed)
    return random.integers(0, 250, shape).astype(dtype)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        skimage_io.imsave(path, array, check_contrast=False)
    else:
        tifffile.imwrite(path, array, photometric="minisblack")
    return path


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def fetch(raw, tmp_path, **options):
    target = tmp_path / "set"
    acquire_folder(Source(kind="folder", path=str(raw), **options), target)
    return ImageSet.open(target)


def failure(raw, tmp_path, **options):
    """The message; and make sure that no set is left."""
    with pytest.raises(PhantomscopeError) as caught:
        fetch(raw, tmp_path, **options)
    assert not (tmp_path / "set").exists()
    return str(caught.value)


# What works


def test_package_has_its_nuclei(tmp_path):
    pytest.importorskip("tifffile")
    if importlib.util.find_spec("stardist") is None:
        pytest.skip("stardist is not installed")
    acquire(Source(), tmp_path / "set")
    images = ImageSet.open(tmp_path / "set")
    assert images.ids == ["nuclei"]
    assert images.image("nuclei").shape == (512, 512)
    assert images.image("nuclei").dtype == np.uint16
    assert len(np.unique(images.mask("nuclei"))) == 126
    assert "BSD-3-Clause" in images.info["licence"]
    assert "Schmidt" in images.info["citation"]
    assert images.row("nuclei")["stratum"] == "512x512"
    images.verify()


def test_package_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PhantomscopeError, match="pip install stardist"):
        acquire_package(tmp_path / "set")


def test_package_without_its_images(tmp_path, monkeypatch):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec)
    with pytest.raises(PhantomscopeError, match=r"lacks img2d\.tif and mask2d\.tif"):
        acquire_package(tmp_path / "set")


def test_folder_round_trip(raw, tmp_path):
    for number, name in enumerate(["a9.tif", "a10.png", "b 1.ome.tif", "é.TIFF"]):
        save(raw / name, picture(number, (40 + number, 48)))
    save(tmp_path / "labels" / "a9.png", np.full((40, 48), 3, np.uint8))
    (raw / "notes.txt").write_text("x")
    (raw / ".DS_Store").write_text("x")
    (raw / "more").mkdir()
    images = fetch(raw, tmp_path, labels=str(tmp_path / "labels"), pixel_size_um=0.25)
    assert images.ids == ["_", "a10", "a9", "b_1"]
    np.testing.assert_array_equal(images.image("a9"), picture(0))
    np.testing.assert_array_equal(images.image("a10"), picture(1, (41, 48)))
    assert [images.has_mask(i) for i in images] == [False, False, True, False]
    assert images.mask("a9").max() == 3
    assert images.row("a10")["stratum"] == "41x48"
    assert images.row("a10")["group"] == "a10"
    assert images.row("a9")["pixel_size"] == 0.25
    assert images.info["ignored"] == {".txt": 1, "folder": 1, "hidden": 1}
    assert (images.info["files"], images.info["labelled"]) == (4, 1)
    images.verify()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels", "raw", "set"]


def test_one_image_is_enough(raw, tmp_path):
    save(raw / "only.tif", picture())
    assert fetch(raw, tmp_path).ids == ["only"]


def test_path_is_relative_to_the_current_directory(raw, tmp_path, monkeypatch):
    save(raw / "a.tif", picture())
    monkeypatch.chdir(tmp_path)
    acquire(Source(kind="folder", path="raw"), tmp_path / "set")
    assert ImageSet.open(tmp_path / "set").ids == ["a"]


@pytest.mark.parametrize("axes", ["CYX", "YXC", "YCX", "XY"])
def test_axes_and_channel(raw, tmp_path, axes):
    plane = picture()
    stack = np.stack([plane + 1, plane, plane + 2])
    order = ["CYX".index(a) for a in axes]
    options = {"axes": axes}
    if "C" in axes:
        save(raw / "a.tif", stack.transpose(order))
        options["channel"] = 1
    else:
        save(raw / "a.tif", plane.T)
    np.testing.assert_array_equal(fetch(raw, tmp_path, **options).image("a"), plane)


def test_groups_and_limit(raw, tmp_path):
    for number in range(10):
        save(raw / f"plate{number // 5}_{number}.tif", picture(number))
    images = fetch(raw, tmp_path, group=r"plate(\d)", limit=4)
    assert images.ids == ["plate0_0", "plate0_3", "plate1_6", "plate1_9"]
    assert list(images.table["group"]) == ["0", "0", "1", "1"]


def test_order_is_natural_and_ids_are_safe(tmp_path):
    names = ["9a.tif", "9b.tif", "10.tif", "x9.tif", "x10.tif"]
    ordered = sorted((tmp_path / name for name in names[::-1]), key=natural_key)
    assert [p.name for p in ordered] == names
    assert safe_ids(["a b", "a/b", "A_B", "..c", "", "ä", "a_b-2"]) == [
        "a_b", "a_b-2", "A_B-3", "c", "_", "_-2", "a_b-2-2",
    ]  # fmt: skip
    assert len(safe_ids(["x" * 250])[0]) == 180
    assert file_stem(tmp_path / "a.v2.OME.tif") == "a.v2"
    assert spread(10, 3) == [0, 4, 9]
    assert spread(3, 10) == spread(3, None) == [0, 1, 2]
    for limit in range(1, 30):
        assert len(set(spread(29, limit))) == limit


def test_mended_files_are_read_again_after_a_failure(raw, tmp_path):
    save(raw / "a.tif", picture(0))
    save(raw / "b.tif", picture(1))
    save(raw / "c.tif", np.zeros((40, 48), np.uint8))
    assert "all pixels have the same value" in failure(raw, tmp_path)
    save(raw / "b.tif", picture(7))
    save(raw / "c.tif", picture(2))
    images = fetch(raw, tmp_path)
    np.testing.assert_array_equal(images.image("b"), picture(7))
    images.verify()
    save(raw / "b.tif", picture(8))
    np.testing.assert_array_equal(fetch(raw, tmp_path).image("b"), picture(8))


def test_files_that_are_written_are_not_written_again(raw, tmp_path, monkeypatch):
    for name in "abc":
        save(raw / f"{name}.tif", picture(ord(name)))
    add, calls = ImageSetWriter.add, []

    def dying(self, identifier, *arguments, **options):
        if identifier == "c" and len(calls) < 3:
            raise KeyboardInterrupt
        add(self, identifier, *arguments, **options)

    def counted(self, identifier, *arguments, **options):
        calls.append(identifier)
        add(self, identifier, *arguments, **options)

    monkeypatch.setattr(ImageSetWriter, "add", dying)
    with pytest.raises(KeyboardInterrupt):
        fetch(raw, tmp_path)
    monkeypatch.setattr(ImageSetWriter, "add", counted)
    assert fetch(raw, tmp_path).ids == ["a", "b", "c"]
    assert calls == ["c"]


# What is wrong with a file


def damaged(kind, raw):
    """Write one bad file."""
    grey = picture(3, (64, 64))
    if kind == "text":
        (raw / "bad.tif").write_text("this is no image")
    elif kind == "png named tif":
        save(raw / "x.png", grey).rename(raw / "bad.tif")
    elif kind == "tif named png":
        save(raw / "x.tif", np.zeros((3, 5, 64, 64))).rename(raw / "bad.png")
    elif kind == "half a tif":
        path = save(raw / "bad.tif", grey)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "half a compressed tif":
        tifffile.imwrite(raw / "bad.tif", grey, tile=(16, 16), compression="zlib")
        content = (raw / "bad.tif").read_bytes()
        (raw / "bad.tif").write_bytes(content[: len(content) // 2])
    elif kind == "head of a tif":
        path = save(raw / "bad.tif", grey)
        path.write_bytes(path.read_bytes()[:40])
    elif kind == "half a png":
        path = save(raw / "bad.png", grey)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "empty":
        (raw / "bad.tif").touch()
    elif kind == "link to nothing":
        (raw / "bad.tif").symlink_to(raw / "gone.tif")
    else:
        arrays = {
            "rgb png": np.stack([grey] * 3, -1),
            "rgba": np.stack([grey] * 4, -1),
            "stack": np.stack([grey] * 9),
            "1x1": np.ones((1, 1), np.uint8),
            "thin": picture(0, (15, 200)),
            "constant": np.full((64, 64), 7, np.uint8),
            "nan": np.where(grey == grey.max(), np.nan, grey).astype(np.float32),
            "infinite": np.where(grey > 9, np.inf, grey).astype(np.float64),
            "complex": grey.astype(np.complex64),
        }
        save(raw / ("bad.png" if "png" in kind else "bad.tif"), arrays[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "cannot be read as an image"),
        ("png named tif", "cannot be read as an image"),
        ("half a tif", "cannot be read as an image"),
        ("half a compressed tif", "cannot be read as an image"),
        ("head of a tif", "cannot be read as an image"),
        ("half a png", "cannot be read as an image"),
        ("empty", "the file is empty"),
        ("link to nothing", "no such file"),
        ("rgb png", "this one is 64 x 64 x 3 (RGB?)"),
        ("rgba", "this one is 64 x 64 x 4 (RGB?)"),
        ("stack", "this one is 9 x 64 x 64"),
        ("1x1", "only 1 x 1 pixels"),
        ("thin", "only 15 x 200 pixels"),
        ("constant", "all pixels have the same value (7)"),
        ("nan", "pixels are NaN or infinite"),
        ("infinite", "pixels are NaN or infinite"),
        ("complex", "images of type complex64 are not supported"),
    ],
)
def test_bad_files_are_named(raw, tmp_path, kind, message):
    save(raw / "a.tif", picture())
    damaged(kind, raw)
    text = failure(raw, tmp_path)
    assert message in text
    assert "bad." in text
    assert "mend:" in text


def test_all_problems_are_told_at_once(raw, tmp_path):
    save(raw / "a.tif", picture())
    for number in range(13):
        (raw / f"bad{number}.tif").touch()
    damaged("nan", raw)
    text = failure(raw, tmp_path)
    assert "14 problems, 14 of 15 images cannot be used" in text
    assert "- bad9.tif: the file is empty" in text
    assert "- and 4 more" in text
    assert "bad12" not in text


def test_colour_needs_a_channel_that_exists(raw, tmp_path):
    save(raw / "a.tif", np.stack([picture()] * 2, -1))
    text = failure(raw, tmp_path)
    assert "axes: YXC" in text
    assert "has 2 channels" in failure(raw, tmp_path, axes="YXC", channel=2)
    assert "does not fit" in failure(raw, tmp_path, axes="XY")


@pytest.mark.parametrize("other", [np.uint16, np.float32])
def test_types_are_not_mixed(raw, tmp_path, other):
    save(raw / "a.tif", picture())
    save(raw / "b.tif", picture(1, dtype=other))
    text = failure(raw, tmp_path)
    assert "a.tif is uint8" in text
    assert f"b.tif is {np.dtype(other)}" in text
    assert "convert them to one type" in text


def test_group_that_is_not_in_a_name(raw, tmp_path):
    save(raw / "plate1.tif", picture())
    save(raw / "well2.tif", picture(1))
    text = failure(raw, tmp_path, group=r"plate(\d+)")
    assert "finds no group" in text
    assert "well2.tif" in text
    assert "finds no group" in failure(raw, tmp_path, group=r"plate(\d+)?|well")


# What is wrong with a folder


def test_folder_that_is_not_there(raw, tmp_path):
    assert "does not exist" in failure(raw, tmp_path)


def test_folder_that_is_a_file(tmp_path):
    path = save(tmp_path / "a.tif", picture())
    assert "is a file, not a folder" in failure(path, tmp_path)


def test_folder_that_is_empty(raw, tmp_path):
    raw.mkdir()
    assert "found: nothing" in failure(raw, tmp_path)
    (raw / "a.czi").touch()
    (raw / "b.CZI").touch()
    (raw / "sub").mkdir()
    (raw / "README").touch()
    text = failure(raw, tmp_path)
    assert "found: 2 x .czi, 1 x folder, 1 x no suffix" in text
    assert ".tif, .tiff, .png" in text


def test_one_image_in_two_formats(raw, tmp_path):
    save(raw / "a.tif", picture())
    save(raw / "a.png", picture())
    assert "a.png and a.tif have the same name" in failure(raw, tmp_path)


# Labels


def label_failure(raw, tmp_path, label, name="a.tif"):
    save(raw / "a.tif", picture())
    if label is not None:
        save(tmp_path / "labels" / name, label)
    return failure(raw, tmp_path, labels=str(tmp_path / "labels"))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            np.zeros((48, 40), np.uint8),
            "the labels are (48, 40), the image is (40, 48)",
        ),
        (np.zeros((40, 48, 3), np.uint8), "the labels are (40, 48, 3)"),
        (np.zeros((40, 48), np.float32), "labels of type float32"),
        (np.full((40, 48), -1, np.int32), "there are negative labels"),
        (None, "does not exist"),
    ],
)
def test_bad_labels(raw, tmp_path, label, message):
    assert message in label_failure(raw, tmp_path, label)


def test_labels_that_fit_no_image(raw, tmp_path):
    text = label_failure(raw, tmp_path, np.zeros((40, 48), np.uint8), "a_mask.tif")
    assert "the label a_mask.tif, but the image a.tif" in text


def test_labels_in_the_folder_of_the_images(raw, tmp_path):
    save(raw / "a.tif", picture())
    assert "same folder" in failure(raw, tmp_path, labels=str(raw))


def test_limit_that_leaves_no_label(raw, tmp_path):
    for number in range(3):
        save(raw / f"{number}.tif", picture(number))
    save(tmp_path / "labels" / "1.tif", np.zeros((40, 48), np.uint8))
    labels = str(tmp_path / "labels")
    text = failure(raw, tmp_path, labels=labels, limit=1)
    assert "none of the 1 images that `limit` leaves has a label" in text
    assert fetch(raw, tmp_path, labels=labels).has_mask("1")

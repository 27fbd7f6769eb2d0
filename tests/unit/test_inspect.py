"""The look into a folder and the config that comes of it."""

import numpy as np
import pytest
import tifffile
from skimage import io as skimage_io

from phantomscope.acquire.inspect import describe, inspect_folder, write_config
from phantomscope.acquire.source import acquire
from phantomscope.config.load import load_config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet


def picture(seed=0, shape=(40, 48), high=250, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        skimage_io.imsave(path, array, check_contrast=False)
    else:
        tifffile.imwrite(path, array, photometric="minisblack")
    return path


def configured(folder, tmp_path):
    """Inspect, write, load, and acquire with what was written."""
    report = inspect_folder(folder)
    text = write_config(report, tmp_path / "config.yaml", force=True)
    config = load_config(tmp_path / "config.yaml")
    acquire(config.source, tmp_path / "set")
    return report, text, config, ImageSet.open(tmp_path / "set")


def test_plain_folder(tmp_path):
    raw = tmp_path / "raw"
    for number in range(5):
        save(raw / f"a{number}.tif", picture(number, (40, 48 + number % 2)))
    save(raw / "b.png", picture(9))
    (raw / "notes.txt").touch()
    report, text, config, images = configured(raw, tmp_path)
    assert report.suffixes == {".tif": 5, ".png": 1}
    assert report.images == report.read == len(images) == 6
    assert report.shapes == {(40, 48): 4, (40, 49): 2}
    assert (report.axes, report.channel, report.channels) == ("", None, 1)
    assert (report.low, report.high) == (0, 249)
    assert "found 6 images, 8-bit, 2 sizes (4 of 40 x 48)" in text
    assert "ignored: 1 x .txt" in text
    assert "labels: none found" in text
    assert text.endswith("config.yaml")
    assert config.source.path == str(raw)
    assert config.source.labels is None
    assert config.normalise.scope == "dataset"


@pytest.mark.parametrize(("order", "axes"), [((0, 1, 2), "CYX"), ((1, 2, 0), "YXC")])
def test_channel_of_most_contrast(tmp_path, order, axes):
    stack = np.stack([picture(0, high=9), picture(1), picture(2, high=30)])
    save(tmp_path / "raw" / "a.tif", stack.transpose(order))
    report, text, config, images = configured(tmp_path / "raw", tmp_path)
    assert (config.source.axes, config.source.channel) == (axes, 1)
    assert f"axes {axes}: files are" in text
    assert "channel 1 has most contrast" in report.axes_reason
    np.testing.assert_array_equal(images.image("a"), picture(1))


def test_grey_saved_as_colour(tmp_path):
    save(tmp_path / "raw" / "a.png", np.stack([picture()] * 3, -1))
    report, _, config, _ = configured(tmp_path / "raw", tmp_path)
    assert (config.source.axes, config.source.channel) == ("YXC", 0)
    assert "look alike" in report.axes_reason


def test_stacks_are_told(tmp_path):
    save(tmp_path / "raw" / "a.tif", picture(0, (9, 40, 48)))
    report, text, config, images = configured(tmp_path / "raw", tmp_path)
    assert (report.axes, report.channel) == ("ZYX", None)
    assert "axes ZYX: files are 9 x 40 x 48; a guess: 9 are more than" in text
    assert "note: the first axis has 9 entries: if they are channels" in text
    assert (config.source.axes, config.source.channel) == ("ZYX", None)
    assert config.simulate.size == (9, 40, 48)
    assert images.shape("a") == (9, 40, 48)
    save(tmp_path / "deep" / "a.tif", picture(0, (3, 9, 40, 48)))
    report = inspect_folder(tmp_path / "deep")
    assert "files of 3 x 9 x 40 x 48 are not supported" in describe(report)
    write_config(report, tmp_path / "deep.yaml")
    load_config(tmp_path / "deep.yaml")


@pytest.mark.parametrize("way", [{"imagej": True}, {"ome": True}])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [("CYX", (9, 40, 48)), ("ZYX", (3, 40, 48)), ("ZCYX", (5, 2, 40, 48))],
)
def test_metadata_comes_before_the_shape(tmp_path, way, axes, shape):
    path = tmp_path / "raw" / "a.tif"
    path.parent.mkdir()
    tifffile.imwrite(
        path, picture(0, shape), metadata={"axes": axes}, photometric="minisblack",
        **way,
    )  # fmt: skip
    _, text, config, images = configured(tmp_path / "raw", tmp_path)
    assert config.source.axes == axes
    assert f"their metadata says {axes}" in text
    assert ("C" in axes) == (config.source.channel is not None)
    assert images.dims == (3 if "Z" in axes else 2)
    assert images.dims == config.dims


def test_time_series_are_not_taken_for_volumes(tmp_path):
    path = tmp_path / "raw" / "a.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, picture(0, (9, 40, 48)), imagej=True,
                     metadata={"axes": "TYX"})  # fmt: skip
    report = inspect_folder(tmp_path / "raw")
    assert report.axes == ""
    assert "an axis of time" in describe(report)


def test_exposure_that_varies(tmp_path):
    for number in range(10):
        high = 40 if number < 5 else 250
        save(tmp_path / "raw" / f"{number}.tif", picture(number, high=high))
    report, text, config, _ = configured(tmp_path / "raw", tmp_path)
    assert config.normalise.scope == "image"
    assert "over 3 the rule is `image`" in report.scope_reason
    assert "normalise.scope image" in text


@pytest.mark.parametrize("place", ["labels", "Masks", "raw_labels", "raw/masks"])
def test_labels_are_found(tmp_path, place):
    raw = tmp_path / "raw"
    for number in range(3):
        save(raw / f"{number}.tif", picture(number))
        if number:
            label = picture(number, high=5, dtype=np.uint16)
            save(tmp_path / place / f"{number}.png", label)
    save(tmp_path / "other_masks" / "x.png", picture())
    (tmp_path / "empty_labels").mkdir()
    report, text, config, images = configured(raw, tmp_path)
    assert report.labelled == 2
    assert config.source.labels == str(tmp_path / place)
    assert [images.has_mask(i) for i in images] == [False, True, True]
    assert "(2 of 3 images)" in text


@pytest.mark.parametrize(
    "label", [np.zeros((40, 47), np.uint8), np.zeros((40, 48), np.float32)]
)
def test_labels_that_do_not_fit_are_left_out(tmp_path, label):
    save(tmp_path / "raw" / "a.tif", picture())
    save(tmp_path / "labels" / "a.tif", label)
    _, text, config, _ = configured(tmp_path / "raw", tmp_path)
    assert config.source.labels is None
    assert "a.tif is no label" in text


def test_labels_of_colour_images(tmp_path):
    save(tmp_path / "raw" / "a.tif", picture(0, (40, 48, 3)))
    save(tmp_path / "labels" / "a.tif", picture(1, high=5))
    assert configured(tmp_path / "raw", tmp_path)[3].has_mask("a")


def test_bad_files_are_listed(tmp_path):
    raw = tmp_path / "raw"
    for number in range(12):
        save(raw / f"{number}.tif", picture(number))
        (raw / f"empty{number}.tif").touch()
    save(raw / "a_nan.tif", np.where(picture() > 99, np.nan, 1).astype(np.float32))
    save(raw / "a_flat.tif", np.full((40, 48), 7, np.uint8))
    save(raw / "a_small.tif", picture(0, (4, 4)))
    save(raw / "a_rgb.tif", picture(0, (40, 48, 3)))
    save(raw / "a_complex.tif", picture().astype(np.complex64))
    save(raw / "a_16.tif", picture(dtype=np.uint16))
    report = inspect_folder(raw)
    assert len(report.unusable) == 17
    assert "NaN" in report.unusable["a_nan.tif"]
    assert "same value" in report.unusable["a_flat.tif"]
    assert "only 4 x 4" in report.unusable["a_small.tif"]
    assert "axes are not YX" in report.unusable["a_rgb.tif"]
    assert "complex64" in report.unusable["a_complex.tif"]
    text = describe(report)
    assert "17 cannot be used; mend or remove:" in text
    assert "and 7 more" in text
    assert "types are mixed" in text
    assert "files differ in their number of axes" in text


def test_large_folders_are_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr("phantomscope.acquire.inspect.MOST_READ", 4)
    for number in range(9):
        save(tmp_path / "raw" / f"{number}.tif", picture(number))
    report = inspect_folder(tmp_path / "raw")
    assert (report.images, report.read) == (9, 4)
    assert "looked at 4 of them" in describe(report)


def test_folders_without_a_readable_image(tmp_path):
    with pytest.raises(PhantomscopeError, match="does not exist"):
        inspect_folder(tmp_path / "raw")
    (tmp_path / "raw").mkdir()
    with pytest.raises(PhantomscopeError, match="no image in"):
        inspect_folder(tmp_path / "raw")
    (tmp_path / "raw" / "a.tif").touch()
    with pytest.raises(PhantomscopeError, match=r"a\.tif: the file is empty"):
        inspect_folder(tmp_path / "raw")


def test_a_config_is_not_written_over(tmp_path):
    save(tmp_path / "raw" / "a.tif", picture())
    report = inspect_folder(tmp_path / "raw")
    target = tmp_path / "new" / "config.yaml"
    write_config(report, target)
    target.write_text("precious")
    with pytest.raises(PhantomscopeError, match="exists already"):
        write_config(report, target)
    assert target.read_text() == "precious"
    write_config(report, target, force=True)
    load_config(target)


@pytest.mark.parametrize(
    "name", ["with space", "colon: #1", "quo'te\"s", "Zürich", "0"]
)
def test_any_name_of_a_folder_can_stand_in_a_config(tmp_path, name):
    save(tmp_path / name / "a.tif", picture())
    config = configured(tmp_path / name, tmp_path)[2]
    assert config.source.path == str(tmp_path / name)

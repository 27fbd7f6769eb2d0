"""Volumes as sources: axes, voxel size, regions, named groups, intensity range."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from phantomscope.acquire.disjoint import assert_disjoint
from phantomscope.acquire.folder import acquire_folder
from phantomscope.acquire.regions import cut
from phantomscope.acquire.split import prepare
from phantomscope.config.data import Normalise, Source, Split
from phantomscope.errors import PhantomscopeError
from phantomscope.images.axes import parse_planes, per_axis, to_image, voxel_size
from phantomscope.images.files import read_image
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import fit_normalisation
from phantomscope.images.writer import ImageSetWriter

SHAPE = (5, 20, 30)
SIZE = (1.5, 0.25, 0.25)


def volume(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Any:
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.uint16)


def save(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, photometric="minisblack")
    return path


def fetch(raw: Path, tmp_path: Path, **options: Any) -> ImageSet:
    source = Source(kind="folder", path=str(raw), **options)
    acquire_folder(source, tmp_path / "set")
    images = ImageSet.open(tmp_path / "set")
    images.verify()
    return images


def failure(raw: Path, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(PhantomscopeError) as caught:
        fetch(raw, tmp_path, **options)
    assert not (tmp_path / "set").exists()
    return str(caught.value)


# Reading


@pytest.mark.parametrize("axes", ["ZYX", "XYZ", "ZXY"])
def test_axes_are_put_in_order(axes: str) -> None:
    array = volume()
    stored = np.transpose(array, ["ZYX".index(letter) for letter in axes])
    np.testing.assert_array_equal(to_image(stored, axes, None, Path("a")), array)


@pytest.mark.parametrize(("axes", "place"), [("CZYX", 0), ("ZCYX", 1), ("ZYXC", 3)])
def test_one_channel_of_a_volume(axes: str, place: int, tmp_path: Path) -> None:
    channels = [volume(seed) for seed in range(3)]
    path = save(tmp_path / "a.tif", np.stack(channels, axis=place))
    np.testing.assert_array_equal(read_image(path, axes, 2), channels[2])
    with pytest.raises(PhantomscopeError, match="the image has 3 channels"):
        read_image(path, axes, 3)


def test_a_folder_of_volumes(tmp_path: Path) -> None:
    labels = (volume(9) % 3).astype(np.uint8)
    for name, seed in (("a", 0), ("b", 1)):
        save(tmp_path / f"raw/{name}.tif", volume(seed))
    save(tmp_path / "labels/b.tif", labels)
    images = fetch(
        tmp_path / "raw", tmp_path, labels=str(tmp_path / "labels"), axes="zyx",
        pixel_size_um=SIZE,
    )  # fmt: skip
    assert images.dims == 3
    assert images.shape("a") == SHAPE
    np.testing.assert_array_equal(images.image("b"), volume(1))
    np.testing.assert_array_equal(images.mask("b"), labels)
    assert not images.has_mask("a")
    assert images.voxel_size("a") == SIZE
    assert images.row("a")["stratum"] == "5x20x30"
    with images.planes("b") as reader:
        np.testing.assert_array_equal(reader.read(2, 4), volume(1)[2:4])
    for column in ("image", "mask"):
        path = images.folder / images.row("b")[column]
        with tifffile.TiffFile(path) as file:
            metadata = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        sizes = tuple(metadata[f"PhysicalSize{axis}"] for axis in "ZYX")
        assert sizes == SIZE
        assert (metadata["SizeZ"], metadata["SizeY"], metadata["SizeX"]) == SHAPE
    only = fetch(
        tmp_path / "raw", tmp_path, labels=str(tmp_path / "labels"), axes="ZYX",
        labelled=True,
    )  # fmt: skip
    assert only.ids == ["b"]
    assert only.voxel_size("b") is None


def test_what_cannot_be_a_volume(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    save(raw / "a.tif", volume())
    assert "of a volume `axes: ZYX`" in failure(raw, tmp_path)
    save(tmp_path / "labels/a.tif", volume(1)[1:])
    text = failure(raw, tmp_path, axes="ZYX", labels=str(tmp_path / "labels"))
    assert "the labels are (4, 20, 30), the image is (5, 20, 30)" in text
    assert "the volume's depth, height and width" in text
    save(raw / "a.tif", volume(0, (9, 12, 40)))
    assert "only 12 x 40 pixels" in failure(raw, tmp_path, axes="ZYX")
    save(raw / "a.tif", volume(0, (20, 30)))
    text = failure(raw, tmp_path, axes="ZYX")
    assert "`source.axes: ZYX` does not fit an image of 20 x 30" in text


# Voxel size


@pytest.mark.parametrize(
    ("size", "dims", "found"),
    [
        (0.5, 2, (0.5, 0.5)), (0.5, 3, (0.5, 0.5, 0.5)), (SIZE, 3, SIZE),
        (SIZE, 2, SIZE[1:]), ((3, 2, 1), 3, (3.0, 2.0, 1.0)),
        ((3, 2, 1), 2, (2.0, 1.0)), (None, 3, None),
    ],
)  # fmt: skip
def test_voxel_size_goes_through_the_manifest(
    size: Any, dims: int, found: Any, tmp_path: Path
) -> None:
    assert per_axis(size, dims) == found
    array = volume()[0] if dims == 2 else volume()
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("a", array, pixel_size=size)
        if dims == 3:
            writer.add_volume("b", iter(array), SHAPE, array.dtype, pixel_size=size)
    images = ImageSet.open(tmp_path / "set")
    assert {images.voxel_size(identifier) for identifier in images} == {found}


def test_an_old_manifest_of_volumes_has_no_z() -> None:
    row = {"axes": "ZYX", "pixel_size": "0.5", "pixel_size_z": float("nan")}
    assert voxel_size(row) == (0.5, 0.5, 0.5)
    assert voxel_size({"axes": "YX", "pixel_size": ""}) is None


def test_annotated_planes_are_numbers_in_order(tmp_path: Path) -> None:
    assert parse_planes("") == []
    assert parse_planes("0 5 12") == [0, 5, 12]
    for bad in ("5 2", "a", "-1", "3 3"):
        with pytest.raises(ValueError, match=r"number|invalid"):
            parse_planes(bad)
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("a", volume(), annotated_planes="4 1")
    with pytest.raises(
        PhantomscopeError, match="annotated planes of 'a' make no sense"
    ):
        ImageSet.open(tmp_path / "set").annotated_planes("a")


# The split


def make(folder: Path, shapes: dict[str, tuple[int, ...]], **columns: Any) -> ImageSet:
    """A set in which every voxel of every volume is another number."""
    with ImageSetWriter(folder, {"source": "test"}) as writer:
        for number, (name, shape) in enumerate(shapes.items()):
            image = np.arange(np.prod(shape)) + number * 1_000_000
            image = image.reshape(shape).astype(np.float32)
            mask = (image % 7).astype(np.uint16)
            writer.add(name, image, mask, pixel_size=SIZE, **columns)
    return ImageSet.open(folder)


def divide(images: ImageSet, folder: Path, **options: Any) -> ImageSet:
    prepare(images, Split(**options), 0, folder)
    prepared = ImageSet.open(folder)
    assert_disjoint(prepared)
    prepared.verify()
    return prepared


@given(
    shape=st.tuples(*[st.integers(60, 300)] * 3),
    axis=st.sampled_from(["longest", "z", "y", "x"]),
    fraction=st.floats(0.3, 0.7),
    margin=st.integers(0, 20),
    first=st.booleans(),
)
def test_two_regions_of_a_volume(
    shape: tuple[int, ...], axis: Any, fraction: float, margin: int, first: bool
) -> None:
    options = Split(axis=axis, train_fraction=fraction, margin=margin)
    try:
        boxes = cut(shape, options, first)
    except PhantomscopeError:
        longest = max(shape[1:]) if axis == "longest" else shape["zyx".index(axis)]
        assert (longest - margin) * 0.3 < 64.5
        return
    along = 1 + int(shape[2] > shape[1]) if axis == "longest" else "zyx".index(axis)
    for other in {0, 1, 2} - {along}:
        assert {box[other] for box in boxes.values()} == {(0, shape[other])}
    one, two = sorted(box[along] for box in boxes.values())
    assert one[0] == 0
    assert two[1] == shape[along]
    assert two[0] - one[1] == margin
    assert (boxes["train"][along][0] == 0) == first
    assert all(
        type(end) is int for box in boxes.values() for ends in box for end in ends
    )


@pytest.mark.parametrize(("axis", "margin"), [("longest", 24), ("y", 10), ("z", 3)])
def test_regions_of_volumes_share_no_voxel(
    axis: str, margin: int, tmp_path: Path
) -> None:
    images = make(tmp_path / "set", {"a": (30, 150, 180)}, annotated_planes="2 14 29")
    prepared = divide(
        images, tmp_path / "split", by="region", axis=axis, margin=margin,
        train_fraction=0.5,
    )  # fmt: skip
    whole, voxels = images.image("a"), {}
    for side in ("train", "test"):
        row = prepared.row(f"a-{side}")
        box = tuple(slice(row[f"{axis}0"], row[f"{axis}1"]) for axis in "zyx")
        image = prepared.image(f"a-{side}")
        np.testing.assert_array_equal(image, whole[box])
        assert row["stratum"] == "30x150x180"
        assert row["depth"] == len(image)
        assert prepared.voxel_size(f"a-{side}") == SIZE
        voxels[side] = set(image.ravel())
        inside = [z - row["z0"] for z in (2, 14, 29) if row["z0"] <= z < row["z1"]]
        assert prepared.annotated_planes(f"a-{side}") == (inside or None)
        assert prepared.has_mask(f"a-{side}") == bool(inside)
    assert not voxels["train"] & voxels["test"]


def test_volumes_whose_regions_overlap_are_told(tmp_path: Path) -> None:
    images = make(tmp_path / "set", {"a": (30, 20, 20)})
    prepared = divide(images, tmp_path / "split", by="region", axis="z", margin=2)
    manifest = tmp_path / "split/manifest.csv"
    table = prepared.table
    table.loc["a-train", ["z0", "z1"]] = [0, 18]
    table.loc["a-test", ["z0", "z1"]] = [19, 30]
    table.to_csv(manifest, index=False)
    with pytest.raises(PhantomscopeError, match="are 1 px apart; the margin is 2 px"):
        assert_disjoint(ImageSet.open(manifest.parent))


def test_flat_volumes_and_images_have_no_depth_to_cut(tmp_path: Path) -> None:
    options = Split(by="region", axis="z", margin=2)
    with pytest.raises(PhantomscopeError, match="each needs 8") as caught:
        cut((15, 200, 200), options, True)
    assert "8 planes for training and 5 planes for test" in str(caught.value)
    with pytest.raises(PhantomscopeError, match="an image is no volume"):
        cut((200, 200), options, True)


def test_named_test_groups(tmp_path: Path) -> None:
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        for number in range(6):
            group = f"{number // 3 + 1:02}"
            writer.add(f"t{number}", volume(number), group=group, frame=number)
    images = ImageSet.open(tmp_path / "set")
    for by in ("group", "auto"):
        prepared = divide(images, tmp_path / by, by=by, test=["02"])
        assert list(prepared.table["split"]) == ["train"] * 3 + ["test"] * 3
        assert prepared.info["split"]["by"] == "group"
    with pytest.raises(PhantomscopeError, match="no group '2'; there are 01, 02"):
        divide(images, tmp_path / "bad", test=["2"])
    with pytest.raises(PhantomscopeError, match=r"all groups are for the test"):
        divide(images, tmp_path / "bad", test=["01", "02"])
    with pytest.raises(ValueError, match="`test` names groups"):
        Split(by="region", test=["02"])


def test_a_copy_in_a_named_group(tmp_path: Path) -> None:
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        for group in ("a", "b"):
            writer.add(group, volume(0), group=group)
        writer.add("c", volume(1), group="c")
    images = ImageSet.open(tmp_path / "set")
    with pytest.raises(PhantomscopeError, match="'a' and 'b' share an identical image"):
        divide(images, tmp_path / "bad", test=["b"])
    prepared = divide(images, tmp_path / "good", test=["a", "b"])
    assert list(prepared.table["split"]) == ["test", "test", "train"]


# The intensity range


@pytest.mark.parametrize("scope", ["dataset", "image"])
def test_limits_of_volumes_one_at_a_time(
    scope: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make(tmp_path / "set", {"a": (3, 20, 20), "b": (4, 30, 20), "c": SHAPE})
    arrays = {identifier: images.image(identifier) for identifier in images}
    alive: list[Any] = []
    read = ImageSet.channels

    def counted(self: ImageSet, identifier: str) -> Any:
        assert all(earlier() is None for earlier in alive)
        array = read(self, identifier)
        # What is given is a view of the pixels.
        alive.append(weakref.ref(array.base))
        return array

    monkeypatch.setattr(ImageSet, "channels", counted)
    options = Normalise(scope=scope, low_percentile=1, high_percentile=99)
    scale = fit_normalisation(images, images.select(id="none"), options)
    for identifier, array in arrays.items():
        of = np.concatenate([v.ravel() for v in arrays.values()])
        values = of if scope == "dataset" else array
        expected = tuple(np.percentile(values, [1, 99]))
        assert scale.limits[identifier] == pytest.approx(expected, rel=1e-6)
    assert len(alive) == len(arrays)

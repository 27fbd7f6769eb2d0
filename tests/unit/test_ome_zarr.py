"""OME-Zarr: what is written is what other readers read, and what the rules ask for."""

import errno
import json
import tracemalloc

import numpy as np
import pytest
import zarr

from phantomscope.errors import PhantomscopeError
from phantomscope.images.ome_zarr import (
    CHUNKS,
    LABELS,
    Planes,
    level_factors,
    shrink,
    write_ome_zarr,
)

VERSIONS = ("0.4", "0.5")
SIZE = (1.0, 0.25, 0.25)


def pair(shape=(35, 270, 300), seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(100, 4000, shape).astype(np.uint16)
    labels = np.zeros(shape, np.uint32)
    labels[..., 20:90, 30:80] = 70_000
    labels[..., 100:201, 101:150] = 3
    return image, labels


def planes(array):
    return Planes(array.shape, array.dtype, array if array.ndim == 3 else [array])


def written(path, image, labels, version="0.4", **options):
    options = {"name": "one", "voxel_size": SIZE[-image.ndim :]} | options
    write_ome_zarr(path, planes(image), planes(labels), version=version, **options)
    return path


def attributes(group):
    """The metadata, wherever this version of the specification has it."""
    found = dict(group.attrs)
    return found.get("ome", found)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(35, 270, 300), (270, 301)])
def test_plain_zarr_reads_exactly_what_was_written(tmp_path, version, shape):
    image, labels = pair(shape)
    path = written(tmp_path / "a.ome.zarr", image, labels, version)
    root = zarr.open_group(path, mode="r")
    assert root.metadata.zarr_format == {"0.4": 2, "0.5": 3}[version]
    np.testing.assert_array_equal(root["0"][:], image)
    np.testing.assert_array_equal(root[f"labels/{LABELS}/0"][:], labels)
    assert root[f"labels/{LABELS}/0"].dtype == np.uint32
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]
    for level in ("0", "1"):
        both = root[level], root[f"labels/{LABELS}/{level}"]
        assert both[0].shape == both[1].shape
        assert (np.array(both[0].chunks) <= CHUNKS[len(shape)]).all()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_independent_reader_finds_image_labels_and_scales(tmp_path, version):
    io = pytest.importorskip("ome_zarr.io")
    reader = pytest.importorskip("ome_zarr.reader")
    image, labels = pair()
    path = written(tmp_path / "a.ome.zarr", image, labels, version,
                   objects={3: 11, 70_000: 5})  # fmt: skip
    nodes = list(reader.Reader(io.parse_url(path))())
    first, last = nodes[0], nodes[-1]
    np.testing.assert_array_equal(np.asarray(first.data[0]), image)
    np.testing.assert_array_equal(np.asarray(last.data[0]), labels)
    assert [axis["name"] for axis in first.metadata["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in first.metadata["axes"]} == {"micrometer"}
    (scale,) = first.metadata["coordinateTransformations"][0]
    assert scale == {"type": "scale", "scale": list(SIZE)}
    assert last.metadata["properties"] == {3: {"voxels": 11}, 70_000: {"voxels": 5}}
    assert first.metadata["name"] == "one"
    low, high = first.metadata["contrast_limits"][0]
    assert 100 <= low < high <= 4000


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(5, 300, 520), (64, 64), (40, 700, 300)])
def test_rules_of_the_specification(tmp_path, version, shape):
    image, labels = pair(shape)
    path = written(tmp_path / "a.ome.zarr", image, labels, version)
    root = zarr.open_group(path, mode="r")
    assert attributes(root["labels"])["labels"] == [LABELS]
    for group in (root, root[f"labels/{LABELS}"]):
        about = attributes(group)
        (scales,) = about["multiscales"]
        stated = scales.get("version", about.get("version"))
        assert stated == version
        axes = scales["axes"]
        assert 2 <= len(axes) <= 5
        assert all(axis["type"] == "space" for axis in axes)
        assert len({axis["name"] for axis in axes}) == len(axes)
        sizes = []
        for dataset in scales["datasets"]:
            array = group[dataset["path"]]
            steps = dataset["coordinateTransformations"]
            assert [s["type"] for s in steps] in (["scale"], ["scale", "translation"])
            assert all(len(s[s["type"]]) == array.ndim == len(axes) for s in steps)
            if version == "0.5":
                assert list(array.metadata.dimension_names) == [a["name"] for a in axes]
            sizes.append(array.shape)
        # From the largest to the smallest, and no level twice.
        assert sizes == sorted(set(sizes), reverse=True)
        assert max(sizes[-1][-2:]) <= 256
    label = attributes(root[f"labels/{LABELS}"])["image-label"]
    assert (path / "labels" / LABELS / label["source"]["image"]).resolve() == path


def test_nested_keys_and_a_compressor_that_every_reader_has(tmp_path):
    path = written(tmp_path / "a.ome.zarr", *pair((40, 64, 64)))
    about = json.loads((path / "0" / ".zarray").read_text())
    assert about["compressor"]["id"] == "zlib"
    assert about["dimension_separator"] == "/"
    assert about["dtype"] == "<u2"
    assert (path / "0/1/0/0").is_file()


def test_levels_even_out_the_voxels():
    assert level_factors((30, 1024, 600), (1.0, 0.25, 0.25), 5) == [
        (1, 1, 1), (1, 2, 2), (1, 4, 4),
    ]  # fmt: skip
    assert level_factors((64, 600, 600), (0.3, 0.25, 0.25), 9)[-1] == (4, 4, 4)
    # An unknown distance of planes counts as that of the pixels.
    assert level_factors((64, 500, 20), (None, 0.25, 0.25), 9)[-1] == (2, 2, 2)
    assert level_factors((1, 2000, 20), (None, None, None), 9)[-1] == (1, 8, 8)
    assert level_factors((300, 300), (None, None), 1) == [(1, 1)]
    assert level_factors((256, 256), (1.0, 1.0), 5) == [(1, 1)]


def test_means_and_first_voxels():
    block = np.array([[1, 2, 9], [2, 2, 9], [5, 6, 3]], np.uint8)
    # Means of 1 2 2 2, of 9 9, of 5 6 and of 3, rounded half up.
    np.testing.assert_array_equal(shrink(block, (2, 2), labels=False), [[2, 9], [6, 3]])
    np.testing.assert_array_equal(shrink(block, (2, 2), labels=True), [[1, 9], [5, 3]])
    full = np.full((3, 4, 5), np.iinfo(np.uint32).max, np.uint32)
    assert (shrink(full, (2, 2, 2), labels=False) == full.max()).all()
    soft = np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    mean = shrink(soft, (4, 4, 4), labels=False)
    assert mean.dtype == np.float32
    assert mean.item() == pytest.approx(0.5)


def test_levels_are_the_means_of_the_whole_also_across_chunks(tmp_path):
    image, labels = pair((70, 300, 260))
    path = written(tmp_path / "a.ome.zarr", image, labels, voxel_size=(1.0, 1.0, 1.0))
    root = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(root["1"][:], shrink(image, (2, 2, 2), labels=False))
    np.testing.assert_array_equal(root[f"labels/{LABELS}/1"][:], labels[::2, ::2, ::2])
    datasets = attributes(root)["multiscales"][0]["datasets"]
    scale, moved = datasets[1]["coordinateTransformations"]
    # The centre of the first mean lies between the first two voxels.
    assert scale["scale"] == [2.0, 2.0, 2.0]
    assert moved["translation"] == [0.5, 0.5, 0.5]


def test_unknown_sizes_have_no_unit(tmp_path):
    path = written(tmp_path / "a.ome.zarr", *pair((4, 64, 64)),
                   voxel_size=(None, 0.5, 0.5))  # fmt: skip
    (scales,) = attributes(zarr.open_group(path, mode="r"))["multiscales"]
    assert ["unit" in axis for axis in scales["axes"]] == [False, True, True]
    (scale,) = scales["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [1.0, 0.5, 0.5]


def test_memory_does_not_grow_with_the_depth(tmp_path):
    def peak(depth):
        plane = np.random.default_rng(0).integers(0, 9, (128, 128)).astype(np.uint16)
        source = Planes((depth, 128, 128), plane.dtype, (plane for _ in range(depth)))
        tracemalloc.start()
        write_ome_zarr(tmp_path / f"{depth}.ome.zarr", source, name="a",
                       voxel_size=(1.0, 1.0, 1.0))  # fmt: skip
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(8)
    # The whole would be 16 MB.
    assert peak(512) < peak(64) + 2_000_000


def test_what_fails_leaves_nothing(tmp_path):
    image, labels = pair((4, 64, 64))

    def broken():
        yield image[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    source = Planes(image.shape, image.dtype, broken())
    with pytest.raises(PhantomscopeError, match="disk is full") as error:
        write_ome_zarr(tmp_path / "a.ome.zarr", source, planes(labels), name="a",
                       voxel_size=SIZE)  # fmt: skip
    assert "a.ome.zarr" in error.value.where
    assert not list(tmp_path.iterdir())

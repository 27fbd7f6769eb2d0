"""The ground floor: noise, tiles, normalisation, files and the image set."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.config.data import Normalise
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import (
    pixel_hash,
    read_array,
    read_image,
    read_json,
    read_labels,
    write_ome_tiff,
    write_text,
)
from phantomscope.images.imageset import ImageSet
from phantomscope.images.join import concatenate, join_tables
from phantomscope.images.normalise import (
    Normalisation,
    fit_normalisation,
    network_to_unit,
    unit_to_network,
)
from phantomscope.images.writer import ImageSetWriter


def some_image(seed=0, shape=(32, 40), dtype=np.uint16, high=4000):
    random = np.random.default_rng(seed)
    return random.integers(0, high, shape).astype(dtype)


# Normalisation


@pytest.mark.parametrize("transform", ["linear", "sqrt"])
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint8", 0, 255),
        ("uint8", 3.7, 91.2),
        ("uint16", 100, 300),
        ("uint16", 0, 65535),
    ],
)
def test_normalisation_is_exactly_invertible_for_integers(transform, dtype, low, high):
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    scale = Normalisation("dataset", transform, {"a": (low, high)}, dtype)
    back = scale.inverse(scale.forward(values, "a"), "a")
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("transform", ["linear", "sqrt"])
@settings(max_examples=50, deadline=None)
@given(unit=st.floats(-2, 3, width=32))
def test_network_range_is_invertible_and_monotonic(transform, unit):
    one = np.array([unit, unit + 0.1])
    network = unit_to_network(one, transform)
    assert network[0] < network[1]
    np.testing.assert_allclose(network_to_unit(network, transform), one, atol=2e-6)


def test_network_range_has_its_ends():
    for transform in ("linear", "sqrt"):
        ends = unit_to_network(np.array([0.0, 1.0]), transform)
        assert ends.tolist() == [-1.0, 1.0]


def make_set(folder, images, **columns):
    with ImageSetWriter(folder, {"source": "test"}) as writer:
        for identifier, image in images.items():
            writer.add(identifier, image, **columns)
    return ImageSet.open(folder)


def test_dataset_limits_come_from_the_training_part_alone(tmp_path):
    train = make_set(tmp_path / "train", {"a": some_image(0), "b": some_image(1)})
    test = make_set(tmp_path / "test", {"c": some_image(2, high=60000)})
    scale = fit_normalisation(train, test, Normalise(scope="dataset"))
    pixels = np.concatenate([train.image(i).ravel() for i in "ab"])
    assert scale.limits["c"] == pytest.approx(np.percentile(pixels, [0.1, 99.9]))
    own = fit_normalisation(train, test, Normalise(scope="image"))
    assert own.limits["c"][1] > 10 * own.limits["a"][1]
    own.save(tmp_path / "n.json")
    assert Normalisation.load(tmp_path / "n.json") == own


def test_limits_of_dark_images_are_finite(tmp_path):
    spot = np.zeros((40, 40), np.uint8)
    spot[3, 3] = 9
    dark = make_set(tmp_path / "a", {"spot": spot, "flat": np.full_like(spot, 5)})
    scale = fit_normalisation(dark, dark, Normalise(scope="image"))
    assert scale.limits["spot"] == (0, 9)
    assert np.isfinite(scale.forward(dark.image("flat"), "flat")).all()


@pytest.mark.parametrize("text", ["{", "{}", '{"limits": 3}', "[1]"])
def test_broken_normalisation_files_are_named(tmp_path, text):
    path = tmp_path / "n.json"
    path.write_text(text)
    with pytest.raises(PhantomscopeError, match=r"n\.json"):
        Normalisation.load(path)


# Files


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_ome_tiff_is_lossless_and_keeps_the_pixel_size(tmp_path, dtype):
    image = some_image(dtype=dtype, high=250)
    path = tmp_path / "deep" / "a.ome.tif"
    write_ome_tiff(path, image, pixel_size=0.325)
    back = read_array(path)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)
    with tifffile.TiffFile(path) as tiff:
        assert 'PhysicalSizeX="0.325"' in tiff.ome_metadata
    assert [p.name for p in path.parent.iterdir()] == ["a.ome.tif"]


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(PhantomscopeError, match=r"file, not a folder|in the way"):
        write_text(_file(tmp_path / "file") / "b.txt", "b")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def _file(path):
    path.write_text("x")
    return path


def test_pixel_hash_sees_dtype_shape_and_pixels_but_not_byte_order():
    image = some_image()
    assert pixel_hash(image) == pixel_hash(image.astype(">u2"))
    assert pixel_hash(image) == pixel_hash(np.asfortranarray(image))
    others = [image.astype(np.uint32), image.reshape(40, 32), image + 1]
    assert len({pixel_hash(image), *map(pixel_hash, others)}) == 4


def test_wide_integers_become_float(tmp_path):
    wide = some_image().astype(np.int32) - 5
    tifffile.imwrite(tmp_path / "a.tif", wide)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, wide)


def test_labels_widen_only_when_needed(tmp_path):
    labels = np.zeros((20, 20), np.int64)
    for value, expected in ((65535, np.uint16), (65536, np.uint32)):
        labels[3, 3] = value
        tifffile.imwrite(tmp_path / "a.tif", labels)
        assert read_labels(tmp_path / "a.tif", (20, 20)).dtype == expected
    for value, message in ((-1, "negative"), (2**40, "too large")):
        labels[3, 3] = value
        tifffile.imwrite(tmp_path / "a.tif", labels)
        with pytest.raises(PhantomscopeError, match=message):
            read_labels(tmp_path / "a.tif", (20, 20))


# The image set


def test_image_set_round_trip(tmp_path):
    image, labels = some_image(), some_image(1, high=9)
    with ImageSetWriter(tmp_path / "set", {"licence": "CC0"}) as writer:
        writer.add("b", image, labels, pixel_size=0.5, split="train", extra=1 / 3)
        writer.add("a", image[:20], split="test", extra=0.5)
    images = ImageSet.open(tmp_path / "set")
    assert images.ids == ["a", "b"]
    assert images.info == {"licence": "CC0"}
    np.testing.assert_array_equal(images.image("b"), image)
    np.testing.assert_array_equal(images.mask("b"), labels)
    assert images.row("b")["extra"] == 1 / 3
    assert images.row("b")["pixel_size"] == 0.5
    assert (images.row("b")["low"], images.row("b")["high"]) == (
        image.min(),
        image.max(),
    )
    assert images.select(split="train").ids == ["b"]
    assert not images.has_mask("a")
    assert not images.without_masks().has_mask("b")
    with pytest.raises(PhantomscopeError, match="no labels"):
        images.mask("a")
    images.verify()


def test_ids_that_look_like_numbers_or_gaps_stay_text(tmp_path):
    names = ["007", "1e5", "NA", "None", "nan", "true"]
    images = {n: some_image(i) for i, n in enumerate(names)}
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        for identifier, image in images.items():
            writer.add(identifier, image, parent=identifier, stratum="001")
    found = ImageSet.open(tmp_path / "set")
    assert found.ids == names
    for name in names:
        row = found.row(name)
        assert (row["id"], row["group"], row["parent"]) == (name, name, name)
        assert row["stratum"] == "001"
        np.testing.assert_array_equal(found.image(name), images[name])


@pytest.mark.parametrize("shape", [(32, 39), (2, 32, 40)])
def test_an_image_of_another_shape_is_refused(shape, tmp_path):
    image = some_image()
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("a", image, image)
    found = ImageSet.open(tmp_path / "set")
    axes = "YX" if len(shape) == 2 else "ZYX"
    for name, read in (("images", found.image), ("labels", found.mask)):
        write_ome_tiff(found.folder / name / "a.ome.tif", np.zeros(shape), axes=axes)
        with pytest.raises(PhantomscopeError, match="the manifest records"):
            read("a")


def kill_after(folder, count, info=None):
    """A writer that dies after `count` images, as by SIGKILL: no exit runs."""
    writer = ImageSetWriter(folder, info or {"n": 1}).__enter__()
    for number in range(count):
        writer.add(f"i{number}", some_image(number), some_image(number, high=3))
    writer._lock.close()  # as the system frees it
    return writer


def folder_hash(folder):
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".csv", ".json")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_writer_is_taken_up(tmp_path, torn):
    writer = kill_after(tmp_path / "set", 3)
    journal = writer.partial / "journal.jsonl"
    if torn:
        journal.write_text(journal.read_text()[:-20])
    assert not (tmp_path / "set").exists()
    kept = 2 if torn else 3
    # Killed a second time: lines after the torn one must survive.
    again = ImageSetWriter(tmp_path / "set", {"n": 1}).__enter__()
    assert len(again.rows) == kept
    again.add(f"i{kept}", some_image(kept), some_image(kept, high=3))
    again._lock.close()
    with ImageSetWriter(tmp_path / "set", {"n": 1}) as last:
        assert len(last.rows) == kept + 1
        for number in range(5):
            if f"i{number}" not in last:
                image = some_image(number)
                last.add(f"i{number}", image, some_image(number, high=3))
    with ImageSetWriter(tmp_path / "whole", {"n": 1}) as whole:
        for number in range(5):
            whole.add(f"i{number}", some_image(number), some_image(number, high=3))
    assert folder_hash(tmp_path / "set") == folder_hash(tmp_path / "whole")
    ImageSet.open(tmp_path / "set").verify()
    assert not list(tmp_path.glob(".*"))


def test_a_killed_writer_of_something_else_is_not_taken_up(tmp_path):
    kill_after(tmp_path / "set", 3, {"n": 1})
    with ImageSetWriter(tmp_path / "set", {"n": 2}) as writer:
        assert not writer.rows
        writer.add("x", some_image())
    assert ImageSet.open(tmp_path / "set").ids == ["x"]


def test_an_id_cannot_be_written_twice(tmp_path):
    def write_twice():
        with ImageSetWriter(tmp_path / "set", {}) as writer:
            writer.add("a", some_image())
            writer.add("a", some_image())

    with pytest.raises(PhantomscopeError, match="'a' occurs twice"):
        write_twice()
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("part", ["images", "labels"])
def test_verify_detects_tampering(tmp_path, part):
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("a", some_image(), some_image(1, high=4))
    images = ImageSet.open(tmp_path / "set")
    images.verify()
    path = tmp_path / "set" / part / "a.ome.tif"
    pixels = read_array(path)
    pixels[5, 5] += 1
    write_ome_tiff(path, pixels)
    with pytest.raises(PhantomscopeError, match="pixels are not those") as caught:
        images.verify()
    assert part in caught.value.where
    path.unlink()
    with pytest.raises(PhantomscopeError, match="no such file"):
        images.verify()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "manifest is broken"),
        (b'id,image\n"a,b', "manifest is broken"),
        (b"\xff\xfe\x00\x81", "manifest"),
        (b"id,image\na,b\n", "lacks the columns mask"),
    ],
)
def test_broken_manifests_are_errors(tmp_path, text, message):
    (tmp_path / "manifest.csv").write_bytes(text)
    with pytest.raises(PhantomscopeError, match=message) as caught:
        ImageSet.open(tmp_path)
    assert "manifest.csv" in caught.value.where


def test_missing_sets_and_doubled_ids_are_errors(tmp_path):
    with pytest.raises(PhantomscopeError, match="no such file"):
        ImageSet.open(tmp_path / "nothing")
    images = make_set(tmp_path / "set", {"a": some_image()})
    manifest = tmp_path / "set" / "manifest.csv"
    pd.concat([images.table] * 2).to_csv(manifest, index=False)
    with pytest.raises(PhantomscopeError, match="'a' occurs twice"):
        ImageSet.open(tmp_path / "set")
    (tmp_path / "set" / "info.json").write_text("{")
    make = json.dumps({"a": 1})
    assert read_json(_json(tmp_path / "x.json", make)) == {"a": 1}
    with pytest.raises(PhantomscopeError, match="JSON file is broken"):
        read_json(tmp_path / "set" / "info.json")


def _json(path, text):
    path.write_text(text)
    return path


def test_concatenated_sets_point_to_the_pixels(tmp_path):
    make_set(tmp_path / "deep" / "one", {"b": some_image(0)})
    make_set(tmp_path / "two", {"a": some_image(1)})
    parts = [tmp_path / "deep" / "one", tmp_path / "two"]
    partial, final = tmp_path / ".both.partial", tmp_path / "both"
    assert concatenate(partial, final, parts, {"of": 2}) == 2
    partial.rename(final)
    both = ImageSet.open(final)
    assert both.ids == ["b", "a"]
    both.verify()
    assert not list((tmp_path / "both").glob("**/*.tif"))


def test_a_sample_of_a_set_is_spread_over_it(tmp_path):
    make_set(tmp_path / "set", {f"{n:02}": some_image(n) for n in range(10)})
    assert ImageSet.open(tmp_path / "set", most=4).ids == ["00", "03", "06", "09"]
    assert ImageSet.open(tmp_path / "set", most=10).ids == [
        f"{n:02}" for n in range(10)
    ]


def test_joined_tables_keep_their_cells_as_text(tmp_path):
    (tmp_path / "a.csv").write_text("id,value\n007,0.10\nx,1e-3\n")
    (tmp_path / "b.csv").write_text('id,note\n"a,b",new\nc,\n')
    sources = [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert join_tables(tmp_path / "all.csv", sources) == 4
    assert (tmp_path / "all.csv").read_text() == (
        'id,value,note\n007,0.10,\nx,1e-3,\n"a,b",,new\nc,,\n'
    )
    assert join_tables(tmp_path / "half.csv", sources, every=2) == 2
    (tmp_path / "b.csv").write_text("id,note\nonly\n")
    with pytest.raises(PhantomscopeError, match="number of cells"):
        join_tables(tmp_path / "all.csv", sources)
    assert "new" in (tmp_path / "all.csv").read_text()

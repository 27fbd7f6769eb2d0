"""Which file of a plate is which channel, and the division by its flat field."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plates import (
    PLATES,
    SIZE,
    Gallery,
    make,
    pixels,
    refused,
)

from phantomscope.acquire.plates import (
    excluded_of,
)
from phantomscope.acquire.plates.flat_field import read_flat_field
from phantomscope.config.plates import barcode_of
from phantomscope.errors import PhantomscopeError

PLATE = PLATES[0]


# Channels


def swap(text: str, one: str, other: str) -> str:
    return text.replace(one, "\0").replace(other, one).replace("\0", other)


def test_maps_that_contradict_each_other(gallery: Gallery, tmp_path: Path) -> None:
    rows = gallery.rows(PLATES[1])
    for row in rows:
        row["FileName_OrigER"], row["FileName_OrigRNA"] = (
            row["FileName_OrigRNA"], row["FileName_OrigER"],
        )  # fmt: skip
    gallery.write_load_data(PLATES[1], rows)
    with pytest.raises(PhantomscopeError) as caught:
        make(gallery.options(), tmp_path)
    text = str(caught.value)
    assert f"plate {PLATES[1]}, channel RNA, well A01, site 1" in text
    assert "r01c01f01p01-ch5sk1fk1fl1.tiff by OrigRNA in load_data.csv" in text
    assert "r01c01f01p01-ch2sk1fk1fl1.tiff by channel 2, 488 long, -4.0 um" in text
    assert "channel_map" in text
    name = f"{barcode_of(PLATES[1])}_A01_s1"
    for believed, first in (("load_data", "ER"), ("index", "RNA")):
        images = make(gallery.options(channel_map=believed), tmp_path, believed)
        third = images.channels(name)[3]
        assert np.array_equal(third, pixels(PLATES[1], "A01", 1, first))


@pytest.mark.parametrize("newer", [False, True])
def test_the_index_alone_is_enough(
    gallery: Gallery, tmp_path: Path, newer: bool
) -> None:
    for plate in PLATES:
        gallery.load_data(plate).unlink()
        gallery.write_index(plate, newer=newer)
    images = make(gallery.options(), tmp_path)
    plate = PLATES[1]
    expected = [pixels(plate, "B02", 1, c) for c in gallery.options().wanted]
    assert np.array_equal(images.channels("BR00116995_B02_s1"), expected)
    assert images.row("BR00116995_B02_s1")["pixel_size"] == pytest.approx(0.59797)


def test_heights_tell_planes_whose_names_do_not(
    gallery: Gallery, tmp_path: Path
) -> None:
    for plate in PLATES:
        index = gallery.index(plate)
        text = index.read_text("utf-8-sig")
        for label in ("Brightfield H", "Brightfield L", "Brightfield CP"):
            text = text.replace(f">{label}<", ">Brightfield<")
        index.write_text(text)
        gallery.load_data(plate).unlink()
    inputs = ["BrightfieldLow", "Brightfield", "BrightfieldHigh"]
    images = make(gallery.options(inputs=inputs), tmp_path)
    plate = PLATES[1]
    for number, name in enumerate(inputs):
        plane = images.channels("BR00116995_A01_s2")[number]
        assert np.array_equal(plane, pixels(plate, "A01", 2, name))
    origin = images.info["plates"][plate]["channels"]["BrightfieldHigh"]
    assert origin == "channel 7, Brightfield, +7.0 um in Index.idx.xml"


def test_names_of_planes_that_contradict_their_heights(
    gallery: Gallery, tmp_path: Path
) -> None:
    index = gallery.index(PLATES[0])
    text = index.read_text("utf-8-sig")
    index.write_text(swap(text, ">Brightfield H<", ">Brightfield CP<"))
    with pytest.raises(PhantomscopeError) as caught:
        make(gallery.options(), tmp_path)
    assert "Brightfield is channel 6, Brightfield CP, +7.0 um" in str(caught.value)
    assert "by the heights of the planes it is channel 8" in str(caught.value)
    # Who does not look at the index, believes the table.
    images = make(gallery.options(channel_map="load_data"), tmp_path)
    plane = images.image("BR00116991_A01_s1")
    assert np.array_equal(plane, pixels(PLATES[0], "A01", 1, "Brightfield"))


def test_neither_names_nor_heights(gallery: Gallery, tmp_path: Path) -> None:
    for plate in PLATES:
        rows = [
            {k: v for k, v in row.items() if "HighZBF" not in k}
            for row in gallery.rows(plate)
        ]
        gallery.write_load_data(plate, rows)
    options = gallery.options(inputs=["BrightfieldHigh"], channel_map="load_data")
    with pytest.raises(PhantomscopeError) as caught:
        make(options, tmp_path)
    text = str(caught.value)
    assert "no channel is BrightfieldHigh" in text
    assert "OrigLowZBF in load_data.csv" in text
    assert 'aliases: [[BrightfieldHigh, "NAME ON THE PLATE"]]' in text
    # By both sources the index tells it.
    images = make(options.model_copy(update={"channel_map": "agree"}), tmp_path)
    plane = images.image("BR00116991_A01_s1")
    assert np.array_equal(plane, pixels(PLATES[0], "A01", 1, "BrightfieldHigh"))


def test_an_alias_replaces_the_names_of_its_channel(
    gallery: Gallery, tmp_path: Path
) -> None:
    aliases = [["DNA", "OrigMito|Alexa 647"], ["Mito", "OrigDNA|HOECHST.*"]]
    images = make(gallery.options(aliases=aliases), tmp_path)
    dna = images.channels("BR00116991_A01_s1")[-1]
    assert np.array_equal(dna, pixels(PLATES[0], "A01", 1, "Mito"))
    both = gallery.options(aliases=[["DNA", "Orig(DNA|Mito)|HOECHST.*"]])
    with pytest.raises(PhantomscopeError, match="are both DNA"):
        make(both, tmp_path, "both")


def test_packed_tables(gallery: Gallery, tmp_path: Path) -> None:
    path = gallery.load_data(PLATES[0])
    packed = path.with_name("load_data_with_illum.csv.gz")
    rows = [
        row | {"FileName_IllumDNA": "BR00116991_IllumDNA.npy"}
        for row in gallery.rows(PLATES[0])
    ]
    gallery.write_load_data(PLATES[0], rows)
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    images = make(gallery.options(channel_map="load_data"), tmp_path)
    dna = images.channels("BR00116991_A01_s1")[-1]
    assert np.array_equal(dna, pixels(PLATES[0], "A01", 1, "DNA"))
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(PhantomscopeError, match="this is no table"):
        make(gallery.options(), tmp_path, "torn")


# Flat fields


def test_flat_fields_are_divided_out(gallery: Gallery, tmp_path: Path) -> None:
    field = np.linspace(1, 3, SIZE[0] * SIZE[1]).reshape(SIZE)
    for plate in PLATES:
        gallery.write_flat_fields(plate, 7 * field)
    gallery.write_image(PLATES[0], "A01", 2, "DNA", np.full(SIZE, 900, np.uint16))
    images = make(gallery.options(flat_field=True), tmp_path)
    assert [row["id"] for row in excluded_of(images)] == ["BR00116991_A01_s2"]
    raw = pixels(PLATES[0], "A01", 1, "AGP")
    expected = np.rint(raw / (field / field.mean()))
    found = images.channels("BR00116991_A01_s1")[2]
    assert found.dtype == np.uint16
    assert np.abs(found - expected).max() <= 1
    assert abs(found.mean() / expected.mean() - 1) < 1e-4


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((9, 9)), r"it is \(9, 9\), the images are \(48, 64\)"),
        (np.ones(SIZE) - np.eye(*SIZE), "48 of its values are NaN"),
        (np.where(np.eye(*SIZE) > 0, np.nan, 1), "48 of its values are NaN"),
        (np.full(SIZE, "x"), "it is no array of numbers"),
    ],
)
def test_a_flat_field_that_is_none(gallery: Gallery, array: Any, message: str) -> None:
    path = gallery.flat_field(PLATE, "DNA")
    np.save(path, array)
    with pytest.raises(PhantomscopeError, match=message):
        read_flat_field(path, SIZE)


def test_pickled_flat_fields_are_not_opened(gallery: Gallery) -> None:
    path = gallery.flat_field(PLATE, "DNA")
    opened: list[int] = []

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (opened.append, (1,))

    np.save(path, np.array([Trap()], object), allow_pickle=True)
    for content in (path.read_bytes(), pickle.dumps([1.0]), b"", b"\x93NUMPY\x01"):
        path.write_bytes(content)
        with pytest.raises(PhantomscopeError, match="no array of numbers"):
            read_flat_field(path, SIZE)
    assert not opened
    with path.open("wb") as stream:
        np.savez(stream, a=np.ones(SIZE))
    with pytest.raises(PhantomscopeError, match="no array of numbers"):
        read_flat_field(path, SIZE)


def test_flat_fields_that_are_missing(gallery: Gallery, tmp_path: Path) -> None:
    gallery.write_flat_fields(PLATE, np.ones(SIZE))
    gallery.flat_field(PLATE, "RNA").unlink()
    text = refused(gallery.options(flat_field=True), tmp_path)
    assert "0 illumination functions are of RNA; there are BR00116991_IllumAGP" in text

"""Plates with wrong names, damaged tables and broken images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError
from tests.plates import (
    PLATES,
    SIZE,
    Gallery,
    make,
    pixels,
    refused,
)

from phantomscope.acquire.plates import (
    acquire_plates,
    excluded_of,
    fetch_plates,
    survey_plates,
)
from phantomscope.acquire.plates.harmony import read_index
from phantomscope.acquire.plates.tables import read_load_data
from phantomscope.errors import PhantomscopeError

PLATE = PLATES[0]


# Names


def test_an_unknown_plate(gallery: Gallery, tmp_path: Path) -> None:
    short = gallery.options(plates=["BR00116991"])
    assert f"did you mean `{PLATE}`?" in refused(short, tmp_path)
    slip = gallery.options(plates=[PLATE.replace("16991", "16992")])
    text = refused(slip, tmp_path)
    assert "there is no plate 'BR00116992__" in text
    assert "did you mean `BR001169" in text
    nowhere = gallery.options(batch="2020_11_04_CPJUMP2")
    assert "check `project` and `batch`" in refused(nowhere, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wells": ["A1"]}, "did you mean `A01`"),
        ({"wells": ["B-2"]}, "'B-2' is no well"),
        ({"wells": ["A01", "A01"]}, "'A01' twice"),
        ({"sites": [0]}, "greater than or equal to 1"),
        ({"plates": ["../secret"]}, "pattern"),
        ({"plates": [PLATE, "BR00116991__later"]}, "'BR00116991' twice"),
        ({"project": "a/../b"}, "pattern"),
        ({"stains": ["DNA", "Actin"]}, "no channel 'Actin'"),
        ({"inputs": ["Brightfeld"]}, "did you mean `Brightfield`?"),
        ({"inputs": ["DNA"]}, "'DNA' twice"),
        ({"aliases": [["DNA", "("]]}, "no regular expression"),
        ({"address": "s3://gallery/folder"}, "are in `project`"),
        ({"address": "https://host/b?x=1"}, "no `?`"),
        ({"endpoint": "http://localhost"}, "belongs to `address: s3"),
        ({"dark_percentiles": [99, 1]}, r"\[low, high\]"),
        ({"outline_folders": ["../{well}"]}, "is no folder with {well}"),
        ({"compound_id": "BRD"}, "needs one group"),
        ({"plates": []}, "needs `plates`"),
        ({"split": {"by": "region"}}, "is of local fields"),
        ({"split": {"by": "compound"}, "compounds": False}, "compounds: true"),
        ({"split": {"train": ["a"], "test": ["a"]}}, "`a` is named twice"),
        ({"split": {"validation_fraction": 0.8}}, "leave nothing"),
        ({"fields": {"path": "x"}}, "belongs to `kind: fields`"),
    ],
)
def test_options_that_cannot_be(
    gallery: Gallery, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        gallery.options(**change)


def test_wells_and_sites_that_are_not_there(gallery: Gallery, tmp_path: Path) -> None:
    text = refused(gallery.options(wells=["C01"]), tmp_path)
    assert "there is no well 'C01' on a plate of 2 x 2 wells (A01 to B02)" in text
    text = refused(gallery.options(wells=["A02"]), tmp_path)
    assert f"plate {PLATE} has no images of the well A02" in text
    assert "there is no site 3" in refused(gallery.options(sites=[3]), tmp_path)
    text = refused(gallery.options(rows=1, wells=["A01"]), tmp_path)
    assert "has a well B02, but 1 x 2 wells are planned" in text
    text = refused(gallery.options(sites_per_well=1), tmp_path)
    assert "set `sites_per_well: 2`" in text


# Tables


def test_load_data_without_a_column(gallery: Gallery, tmp_path: Path) -> None:
    path = gallery.load_data(PLATE)
    path.write_text(path.read_text().replace("Metadata_Well", "Metadata_Wells"))
    text = refused(gallery.options(), tmp_path)
    assert "this table has no column 'Metadata_Well'" in text
    assert str(path) in text
    gallery.write_load_data(PLATE)
    path.write_text(path.read_text().replace("FileName_", "Name_"))
    assert "no column FileName_... of a channel" in refused(gallery.options(), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("r01c01f01p01-ch5sk1fk1fl1.tiff", "../../../secret.tiff", "not the name of"),
        ("r01c01f01p01-ch5sk1fk1fl1.tiff", "..\\\\x.tiff", "not the name of"),
        ("r01c01f01p01-ch5sk1fk1fl1.tiff", ".hidden", "not the name of"),
        (",B02,", ",2B,", "there is no well '2B'"),
        (",B02,2", ",B02,1", "two rows are of well B02, site 1"),
        (",B02,2", ",B02", "line 5 has"),
        ("BR00116991,", "BR9,", "no row is of the plate BR00116991, but of BR9"),
        (
            "19_51_35-M",
            "20_00_00-M",
            "are of the measurement BR00116991__2020-11-05T20",
        ),
    ],
)
def test_a_damaged_load_data(
    gallery: Gallery, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = gallery.load_data(PLATE)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(PhantomscopeError, match=message):
        read_load_data(path, PLATE)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PhantomscopeError, match="this is no table"):
        read_load_data(path, PLATE)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t[:500], "no index of Harmony"),
        (lambda t: "<x/>", "names no image"),
        (lambda t: f'<!DOCTYPE x [<!ENTITY a "b">]>{t[1:]}', "declares entities"),
        (lambda t: t.replace("<Row>1</Row>", "<Row>?</Row>", 1), "no proper place"),
        (lambda t: t.replace("<Row>1</Row>", "", 1), "no proper place"),
        (lambda t: t.replace('Unit="m">7', 'Unit="furlong">7', 1), "no proper place"),
        (lambda t: t.replace("5.9797E-07", "5.9E-07", 1), "pixels have several sizes"),
        (lambda t: t.replace("<URL>r", "<URL>../r", 1), "not the name of"),
        (
            lambda t: t.replace("<FieldID>2<", "<FieldID>1<"),
            "the same site and channel",
        ),
    ],
)
def test_a_damaged_index(
    gallery: Gallery, edit: Callable[[str], str], message: str
) -> None:
    path = gallery.index(PLATE)
    path.write_text(edit(path.read_text("utf-8-sig")))
    with pytest.raises(PhantomscopeError, match=message):
        read_index(path)


def test_tables_that_are_not_there(gallery: Gallery, tmp_path: Path) -> None:
    gallery.index(PLATE).unlink()
    assert "no Index.idx.xml says the size of a pixel" in refused(
        gallery.options(), tmp_path
    )
    gallery.load_data(PLATE).unlink()
    text = refused(gallery.options(pixel_size_um=0.598), tmp_path)
    assert "there is no load_data.csv and no Index.idx.xml" in text
    gallery.write_load_data(PLATE)
    text = refused(gallery.options(channel_map="index"), tmp_path)
    assert "there is no Index.idx.xml, so that nothing says" in text
    images = make(gallery.options(pixel_size_um=0.6), tmp_path)
    assert images.row("BR00116991_A01_s1")["pixel_size"] == 0.6


def test_damaged_plate_maps(gallery: Gallery, tmp_path: Path) -> None:
    folder = next(gallery.root.rglob("barcode_platemap.csv")).parent
    (plate_map,) = (folder / "platemap").iterdir()
    plate_map.rename(folder / "other.txt")
    assert "its plate map JUMP-Target-1_compound_platemap is not" in refused(
        gallery.options(), tmp_path
    )
    (folder / "other.txt").rename(plate_map)
    table = folder / "barcode_platemap.csv"
    whole = table.read_text()
    table.write_text(whole.replace("BR00116995", "BR9"))
    assert "names 0 plate maps of the plate BR00116995" in refused(
        gallery.options(), tmp_path
    )
    table.write_text(whole.replace("JUMP-Target-1", "../JUMP"))
    assert "not the name of a file" in refused(gallery.options(), tmp_path)
    images = make(gallery.options(compounds=False), tmp_path)
    assert set(images.table["compound"]) == {""}


def test_cell_lines_that_contradict(gallery: Gallery, tmp_path: Path) -> None:
    table = tmp_path / "experiment-metadata.tsv"
    table.write_text(
        "Assay_Plate_Barcode\tCell_type\nBR00116991\tA549\nBR00116995\tHeLa\n"
    )
    options = gallery.options(experiments=str(table))
    assert "BR00116995 has two cell lines, U2OS and HeLa" in refused(options, tmp_path)
    images = make(gallery.options(experiments=str(table), cell_lines=[]), tmp_path)
    assert set(images.table["cell_line"]) == {"A549", "HeLa"}


# Images


def truncate(gallery: Gallery) -> None:
    path = gallery.image(PLATE, "A01", 1, "ER")
    path.write_bytes(path.read_bytes()[:-3000])


def other_type(gallery: Gallery) -> None:
    array = pixels(PLATE, "A01", 1, "ER").astype(np.uint8)
    gallery.write_image(PLATE, "A01", 1, "ER", array)


def other_size(gallery: Gallery) -> None:
    gallery.write_image(PLATE, "A01", 1, "ER", np.ones((50, 50), np.uint16))


def colour(gallery: Gallery) -> None:
    array = np.ones((*SIZE, 3), np.uint16)
    tifffile.imwrite(gallery.image(PLATE, "A01", 1, "ER"), array, photometric="rgb")


def empty(gallery: Gallery) -> None:
    gallery.image(PLATE, "A01", 1, "ER").write_bytes(b"")


def no_outline(gallery: Gallery) -> None:
    gallery.outline(PLATE, "A01", 1, "cell").write_bytes(b"no PNG")


def gone(gallery: Gallery) -> None:
    gallery.image(PLATE, "A01", 1, "ER").unlink()


def unnamed(gallery: Gallery) -> None:
    rows = gallery.rows(PLATE)
    rows[0]["FileName_OrigER"] = ""
    gallery.write_load_data(PLATE, rows)


@pytest.mark.parametrize(
    ("harm", "message", "reason"),
    [
        (truncate, "cannot be read as an image", "broken"),
        (other_type, "(48, 64) of uint8, not (48, 64) of uint16", "broken"),
        (other_size, "(50, 50) of uint16, not (48, 64)", "broken"),
        (colour, "(48, 64, 3) of uint16, not", "broken"),
        (empty, "the file is empty", "broken"),
        (no_outline, "cannot be read as an image", "broken"),
        (gone, "there is no r01c01f01p01-ch4sk1fk1fl1.tiff", "missing"),
        (unnamed, "there is no ER, of which its tables name no file", "missing"),
    ],
)
def test_a_broken_site_is_refused_or_listed(
    gallery: Gallery, tmp_path: Path, harm: Callable[[Gallery], None], message: str,
    reason: str,
) -> None:  # fmt: skip
    harm(gallery)
    assert message in refused(gallery.options(), tmp_path)
    images = make(gallery.options(broken="exclude"), tmp_path)
    (row,) = excluded_of(images)
    assert (row["id"], row["reason"]) == ("BR00116991_A01_s1", reason)
    assert message in row["detail"]
    assert len(images) == 7
    assert not list(tmp_path.rglob(".*.partial"))


def test_all_broken_sites_are_told_at_once(gallery: Gallery, tmp_path: Path) -> None:
    truncate(gallery)
    gallery.write_image(PLATE, "B02", 2, "DNA", np.ones((9, 9), np.uint16))
    text = refused(gallery.options(), tmp_path)
    assert "2 problems, 2 of 8 images cannot be used" in text
    for path in gallery.root.rglob("*.tiff"):
        path.write_bytes(b"II*\0")
    text = refused(gallery.options(broken="exclude"), tmp_path)
    assert "none of 8 sites is left" in text


def test_a_conversion_that_is_none(gallery: Gallery, tmp_path: Path) -> None:
    survey_plates(gallery.options(), tmp_path / "survey.json")
    fetch_plates(gallery.options(), tmp_path / "survey.json", tmp_path / "r.json")
    with pytest.raises(PhantomscopeError, match=r"became \(2, 2\) of float64"):
        acquire_plates(
            gallery.options(), tmp_path / "r.json", tmp_path / "set",
            lambda lines: np.ones((2, 2)), seed=0,
        )  # fmt: skip

"""Training, validation and test of plates and of local fields."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from pydantic import ValidationError
from tests.plates import PLATES, Gallery, instances, make, outlines, to_instances

from phantomscope.acquire.plates import (
    acquire_fields,
    assert_apart,
    excluded_of,
)
from phantomscope.acquire.plates.sides import choose_sides, cut_sides
from phantomscope.config.painting import PlateSplit
from phantomscope.config.plates import Plates
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator

PAPER = {
    "train": ["BR00116991", "BR00116992", "BR00116995", "BR00117024"],
    "validation": ["BR00116993", "BR00117025"],
    "test": ["BR00116994", "BR00117026"],
}


def apart(options: Plates, folder: Path) -> ImageSet:
    """A set whose sides share nothing."""
    images = make(options, folder)
    assert_apart(images)
    return images


# By units


def test_the_plates_of_the_paper() -> None:
    plates = [name for names in PAPER.values() for name in names]
    sides = choose_sides(plates, PlateSplit(**PAPER), seed=3)
    assert sides == {name: side for side, names in PAPER.items() for name in names}


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_drawn_sides(validation: float) -> None:
    units = [f"u{n}" for n in range(20)]
    options = PlateSplit(by="compound", validation_fraction=validation)
    sides = choose_sides(units, options, seed=1)
    assert sides == choose_sides(units[::-1], options, seed=1)
    assert sides != choose_sides(units, options, seed=2)
    counts = {side: list(sides.values()).count(side) for side in set(sides.values())}
    others = {"validation": 4} if validation else {}
    assert counts == {"train": 15 - 5 * bool(validation) + bool(validation),
                      "test": 5, **others}  # fmt: skip
    # A compound that is named stays; the others are drawn.
    kept = choose_sides([*units, "DMSO"], PlateSplit(train=["DMSO"]), seed=1)
    assert kept["DMSO"] == "train"
    assert list(kept.values()).count("test") == 5
    # Who names the test part, has named all of it.
    named = choose_sides(units, PlateSplit(test=["u3"]), seed=1)
    assert [unit for unit, side in named.items() if side != "train"] == ["u3"]


def test_sides_that_cannot_be() -> None:
    with pytest.raises(PhantomscopeError, match="did you mean `BR00116992`"):
        choose_sides(["BR00116991", "BR00116992"], PlateSplit(test=["BR0116992"]), 0)
    with pytest.raises(PhantomscopeError, match="none is left for test"):
        choose_sides(["a"], PlateSplit(), 0)
    with pytest.raises(PhantomscopeError, match="none is left for validation"):
        choose_sides(["a", "b"], PlateSplit(validation_fraction=0.2), 0)
    with pytest.raises(PhantomscopeError, match="none is left for train"):
        choose_sides(["a", "b"], PlateSplit(test=["a", "b"]), 0)


@pytest.mark.parametrize(
    ("split", "column"),
    [
        ({"by": "plate", "test": [PLATES[0]]}, "plate"),
        ({"by": "compound", "test": ["DMSO"]}, "compound"),
        ({"by": "cell_line", "test": ["U2OS"]}, "cell_line"),
        ({"by": "well", "test": ["BR00116991_B02"]}, "group"),
    ],
)
def test_what_stays_whole(
    gallery: Gallery, tmp_path: Path, split: dict[str, Any], column: str
) -> None:
    images = apart(gallery.options(split=split), tmp_path)
    table = images.table
    test = split["test"][0].partition("__")[0]
    assert set(table.loc[table["split"] == "test", column]) == {test}
    assert test not in set(table.loc[table["split"] == "train", column])
    assert images.info["split"]["by"] == split["by"]
    # One row on the other side is found.
    row = table.index[table["split"] == "test"][0]
    table.loc[row, "split"] = "train"
    with pytest.raises(PhantomscopeError, match=r"the (group|\w+) \S+ is on two sides"):
        assert_apart(images)
    table.loc[row, "split"] = "nowhere"
    with pytest.raises(PhantomscopeError, match="'nowhere'"):
        assert_apart(images)


def test_a_copy_on_two_sides_is_found(gallery: Gallery, tmp_path: Path) -> None:
    for channel in gallery.options().wanted:
        copy = gallery.image(PLATES[0], "A01", 1, channel).read_bytes()
        gallery.image(PLATES[1], "B02", 2, channel).write_bytes(copy)
    with pytest.raises(PhantomscopeError, match=r"the sha256 \w+ is on two sides"):
        apart(gallery.options(), tmp_path)


def test_wells_without_a_plate_map_and_unknown_cells(
    gallery: Gallery, tmp_path: Path
) -> None:
    plate_map = next(gallery.root.rglob("platemap/*.txt"))
    lines = plate_map.read_text().splitlines()
    # The other well has two batches of the same salt-free compound by then.
    others = ["A02\tBRD-K22222222-001-01-1", "B01\tBRD-K22222222-003-09-9"]
    plate_map.write_text("\n".join([*lines[:2], *others]) + "\n")
    options = gallery.options(split={"by": "compound"})
    with pytest.raises(PhantomscopeError, match="none is left for test"):
        apart(options, tmp_path)
    images = apart(gallery.options(split={"by": "well"}), tmp_path)
    assert set(images.table["compound"]) == {"BRD-K11111111", ""}
    every = gallery.options(split={"by": "compound"}, wells=None)
    images = apart(every, tmp_path)
    reasons = {row["well"]: row["reason"] for row in excluded_of(images)}
    assert reasons == {"A02": "absent", "B01": "absent", "B02": "unassigned"}
    unknown = gallery.options(split={"by": "cell_line"}, cell_lines=[])
    with pytest.raises(PhantomscopeError, match="which cells are on the plate"):
        apart(unknown, tmp_path)


# Local fields

NAMES = ["Brightfield", "Mito", "DNA"]


def write_field(folder: Path, name: str, axes: str = "CYX") -> np.ndarray:
    folder.mkdir(exist_ok=True)
    random = generator("field", name)
    image = random.integers(9, 5000, (3, 240, 320), np.uint16)
    stored = image if axes == "CYX" else np.moveaxis(image, 0, -1)
    tifffile.imwrite(
        folder / f"ch_{name}.tif", stored, compression="zlib", photometric="minisblack"
    )
    nuclei, cells = (np.tile(part, (5, 5)) for part in instances())
    for kind, labels in (("nuclei", nuclei), ("cells", cells)):
        lines = outlines(labels.astype(int)).astype(np.uint8) * 255
        imageio.imwrite(folder / f"{kind}_{name}.png", lines)
    return image


def field_options(folder: Path, **changes: Any) -> Plates:
    fields = {
        "path": str(folder), "images": "ch_{id}.tif", "nuclei": "nuclei_{id}.png",
        "cells": "cells_{id}.png", "channels": NAMES, "cell_line": "HeLa",
    } | changes.pop("fields", {})  # fmt: skip
    content = {"inputs": ["Brightfield"], "stains": ["DNA", "Mito"]}
    content |= {"pixel_size_um": 0.6, "fields": fields}
    return Plates(**{**content, **changes})


def test_a_field_is_cut_into_regions(tmp_path: Path) -> None:
    image = write_field(tmp_path / "in", "a")
    split = {"test_fraction": 0.3, "validation_fraction": 0.3, "margin": 20}
    options = field_options(tmp_path / "in", split=split)
    acquire_fields(options, tmp_path / "set", to_instances, seed=0)
    images = ImageSet.open(tmp_path / "set")
    images.verify()
    assert_apart(images)
    assert sorted(images.table["split"]) == ["test", "train", "validation"]
    for name in images.ids:
        row = images.row(name)
        part = image[[0, 2, 1], row["y0"] : row["y1"], row["x0"] : row["x1"]]
        assert np.array_equal(images.channels(name), part)
        # Each nucleus lies in a cell, and in one only.
        inside = images.mask(name) > 0
        assert inside.any()
        assert images.cells(name)[inside].all()
        assert (row["parent"], row["cell_line"]) == ("a", "HeLa")
    assert images.info["channels"] == ["Brightfield", "DNA", "Mito"]
    again = ImageSet.open(tmp_path / "set")
    again.table.loc[again.ids[0], "x1"] += 30
    again.table.loc[again.ids[0], "y1"] += 30
    again.table["x0"] -= 30
    again.table["y0"] -= 30
    with pytest.raises(PhantomscopeError, match="px apart; the margin is 20 px"):
        assert_apart(again)


def test_regions_are_apart_whatever_the_numbers() -> None:
    random = generator("regions")
    for _ in range(200):
        shape = tuple(int(n) for n in random.integers(500, 900, 2))
        test, validation = random.uniform(0.2, 0.4, 2)
        options = PlateSplit(
            by="region", test_fraction=test, validation_fraction=validation,
            margin=int(random.integers(0, 40)),
        )  # fmt: skip
        boxes = cut_sides(shape, options, bool(random.integers(2)), "it")
        assert set(boxes) == {"train", "validation", "test"}
        for one, other in combinations(boxes.values(), 2):
            gaps = [
                max(a[0] - b[1], b[0] - a[1]) for a, b in zip(one, other, strict=True)
            ]
            assert max(gaps) >= options.margin
        areas = {k: np.prod([e - b for b, e in box]) for k, box in boxes.items()}
        share = areas["test"] / (sum(areas.values()))
        assert share == pytest.approx(test, abs=0.03)


def test_fields_in_groups(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("A01_1", "A01_2", "B02_1", "C03_1"):
        write_field(folder, name, axes="YXC")
    tifffile.imwrite(folder / "ch_D04_1.tif", np.ones((30, 30, 3), np.uint16))
    (folder / "nuclei_B02_1.png").unlink()
    names = {kind: f"{kind}_{{group}}_{{id}}.png" for kind in ("nuclei", "cells")}
    fields = {"images": "ch_{group}_{id}.tif", "axes": "YXC", **names}
    split = {"by": "well", "test": ["B02"]}
    options = field_options(folder, fields=fields, split=split)
    acquire_fields(options, tmp_path / "set", to_instances, seed=0)
    images = ImageSet.open(tmp_path / "set")
    assert_apart(images)
    assert list(images.table["group"]) == ["A01", "A01", "B02", "C03"]
    assert list(images.table["split"]) == ["train", "train", "test", "train"]
    assert not images.has_mask("B02-1")
    assert images.cells("B02-1").any()
    (row,) = excluded_of(images)
    assert (row["id"], row["reason"]) == ("D04-1", "black")
    strict = options.model_copy(update={"outlines": "required"})
    with pytest.raises(PhantomscopeError, match="no annotation of nuclei"):
        acquire_fields(strict, tmp_path / "b", to_instances, seed=0)
    listed = strict.model_copy(update={"broken": "exclude"})
    nothing = options.fields.model_copy(update={"nuclei": None, "cells": None})
    listed = listed.model_copy(update={"fields": nothing})
    with pytest.raises(PhantomscopeError, match="none of 5 images is left"):
        acquire_fields(listed, tmp_path / "b", to_instances, seed=0)
    assert not (tmp_path / "b").exists()


def test_fields_with_instance_labels(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_field(folder, "a")
    labels = np.tile(instances()[0], (5, 5))
    labels[labels > 0] += 500
    tifffile.imwrite(folder / "nuclei_a.tif", labels)
    fields = {"nuclei": "nuclei_{id}.tif", "cells": None, "annotation": "instances"}
    options = field_options(folder, fields=fields)
    acquire_fields(options, tmp_path / "set", to_instances, seed=0)
    images = ImageSet.open(tmp_path / "set")
    assert set(np.unique(images.mask(images.ids[0]))) == {0, 501, 502, 503}
    with pytest.raises(PhantomscopeError, match="no labels of whole cells"):
        images.cells(images.ids[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": [*NAMES, "ER"]}, "3 channels, `fields.channels` names 4"),
        ({"images": "no_{id}.tif"}, "no member is like"),
        ({"nuclei": "no_{id}.png"}, "no member is like"),
        ({"path": "nowhere"}, "does not exist"),
        ({"path": None}, "nothing says where the images are"),
        ({"axes": "YXC"}, "320 channels"),
    ],
)
def test_fields_that_cannot_be_used(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    write_field(tmp_path / "in", "a")
    options = field_options(tmp_path / "in", fields=fields)
    with pytest.raises(PhantomscopeError, match=message) as caught:
        acquire_fields(options, tmp_path / "set", to_instances, seed=0)
    assert "registry" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_options_of_fields_that_cannot_be(tmp_path: Path) -> None:
    for change, message in (
        ({"fields": {"channels": ["a", "a"]}}, "names 'a' twice"),
        ({"fields": {"axes": "ZYX"}}, "use CYX or YXC"),
        ({"fields": {"images": "x.tif"}}, "needs {id}"),
        ({"stains": ["ER"]}, "no channel 'ER'"),
        ({"plates": [PLATES[0]]}, "belong to `kind: gallery`"),
        ({"split": {"by": "plate"}}, "by: region` or `well"),
        ({"split": {"by": "region", "test": ["x"]}}, "regions have no names"),
    ):
        with pytest.raises(ValidationError, match=message):
            field_options(tmp_path, **change)
    assert field_options(tmp_path).split_by == "region"

"""Pairs of plates that are made in shards."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.plates import IMPATIENT, PLATES, WELLS, Gallery
from tests.server import Server, status

from phantomscope.acquire.plates import (
    assert_apart,
    excluded_of,
    fetch_plates,
    list_sites,
    shard_sites,
    survey_plates,
)
from phantomscope.config.load import make_config, sections
from phantomscope.config.model import Config
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import (
    count_intensities,
    intensity_limits,
    limits_of_counts,
)
from phantomscope.planning.sharding import freed_before, shards_of_plates
from phantomscope.stages import plates as stages

PERCENTILES = (0.5, 99.5)
SPLITS = {
    "plate": {"test": [PLATES[0]]},
    "well": {"test": [f"{barcode_of(PLATES[0])}_B02"]},
    "compound": {"test": ["DMSO"]},
    "cell_line": {"test": ["U2OS"]},
}


def config_of(options: Plates, **changes: Any) -> Config:
    translate = {"size": 32, "plates": options.model_dump(mode="json"), **changes}
    return make_config({"translate": translate})


def make_pairs(config: Config, folder: Path) -> ImageSet:
    """Run the stages of all shards, as the workflow does."""
    options = config.translate.plates
    folder.mkdir()
    survey = folder / "plates.json"
    stages.survey_plates(config, survey=survey)
    names = options.shard_names
    fields = [folder / f"fields/shard-{name}" for name in names]
    for number, name in enumerate(names):
        raw = folder / f"raw/shard-{name}" if options.keep == "pairs" else None
        record = folder / f"fetched/shard-{name}.json"
        stages.fetch_plates(
            config, survey=survey, record=record, raw=raw, shard=number,
            shards=options.shards,
        )  # fmt: skip
        stages.acquire_plates(config, fields=fields[number], record=record, raw=raw)
    counts = []
    if config.translate.scope == "plate":
        counts = [folder / f"intensities/shard-{name}.npz" for name in names]
        for own, path in zip(fields, counts, strict=True):
            stages.measure_intensities(config, fields=own, intensities=path)
    scaled = [folder / f"scaled/shard-{name}" for name in names]
    for number, (own, path) in enumerate(zip(fields, scaled, strict=True)):
        needed = [counts[n] for n in shards_of_plates(config, number)] if counts else []
        stages.scale_fields(config, fields=own, scaled=path, intensities=needed)
    stages.pair_fields(config, scaled=scaled, pairs=folder / "pairs")
    return ImageSet.open(folder / "pairs")


def same(one: ImageSet, other: ImageSet) -> None:
    """Every bit but the names of the folders."""
    paths = ["image", "mask", "cells"]
    tables = (found.table.drop(columns=paths) for found in (one, other))
    pd.testing.assert_frame_equal(*tables)
    for name in one.ids:
        assert np.array_equal(one.channels(name), other.channels(name))
        assert np.array_equal(one.cells(name), other.cells(name))
    assert one.info == other.info
    assert excluded_of(one) == excluded_of(other)


# Shards


@pytest.mark.parametrize("scope", ["image", "plate"])
def test_pairs_do_not_depend_on_shards(
    scope: str, gallery: Gallery, tmp_path: Path
) -> None:
    gallery.write_image(PLATES[1], "A01", 2, "ER", np.full((48, 64), 7, np.uint16))
    found = [
        make_pairs(
            config_of(gallery.options(shards=shards), scope=scope),
            tmp_path / f"{shards}",
        )
        for shards in (1, 3)
    ]
    found[1].verify()
    assert len(found[0]) == 7
    assert [row["reason"] for row in excluded_of(found[0])] == ["black"]
    same(*found)
    limits = found[0].table.groupby("plate")["limits"].nunique()
    assert set(limits) == ({1} if scope == "plate" else {3, 4})


def test_limits_of_a_plate_are_those_of_all_its_pixels(
    gallery: Gallery, tmp_path: Path
) -> None:
    config = config_of(gallery.options(shards=5), scope="plate")
    pairs = make_pairs(config, tmp_path / "run")
    fields = [ImageSet.open(path) for path in (tmp_path / "run/fields").iterdir()
              if path.is_dir()]  # fmt: skip
    for plate in map(barcode_of, PLATES):
        images = [
            own.channels(name) for own in fields for name in own.ids
            if own.row(name)["plate"] == plate
        ]  # fmt: skip
        assert len(images) == 4
        exact = np.percentile(np.stack(images), PERCENTILES, axis=(0, 2, 3)).T
        row = pairs.table[pairs.table["plate"] == plate].iloc[0]
        np.testing.assert_allclose(json.loads(row["limits"]), exact, rtol=1e-12)


def test_counts_give_the_percentiles_of_pixels() -> None:
    random = np.random.default_rng(3)
    for pixels in (1, 2, 7, 400):
        for dtype, top in ((np.uint8, 200), (np.uint16, 60_000)):
            image = random.integers(0, top, (1, pixels)).astype(dtype)
            np.testing.assert_allclose(
                limits_of_counts(count_intensities(image), PERCENTILES),
                intensity_limits([image], PERCENTILES), rtol=1e-12,
            )  # fmt: skip
    flat = np.full((4, 4), 9, np.uint16)
    assert limits_of_counts(count_intensities(flat), PERCENTILES) == (9, 10)
    flat[0, 0] = 12
    # Both percentiles are alike: the ends count.
    assert limits_of_counts(count_intensities(flat), (20, 80)) == (9, 12)
    with pytest.raises(ValueError, match="float32"):
        count_intensities(flat.astype(np.float32))


def test_some_shards_may_be_empty(gallery: Gallery, tmp_path: Path) -> None:
    rows = gallery.rows(PLATES[0])
    gallery.write_load_data(PLATES[0], rows[-1:])
    options = gallery.options(wells=None, shards=8, broken="exclude")
    pairs = make_pairs(config_of(options, scope="plate"), tmp_path / "run")
    assert len(pairs) == 5
    assert len(ImageSet.open(tmp_path / "run/fields/shard-000")) == 0
    assert {row["reason"] for row in excluded_of(pairs)} == {"absent"}
    assert len(excluded_of(pairs)) == 11
    for path in gallery.root.rglob("*.tiff"):
        path.write_bytes(b"II*\0")
    with pytest.raises(PhantomscopeError, match="none of 16 images is left"):
        make_pairs(config_of(options), tmp_path / "none")
    assert not (tmp_path / "none/pairs").exists()


def test_shards_that_do_not_belong_together(gallery: Gallery, tmp_path: Path) -> None:
    options = gallery.options(shards=2)
    config = config_of(options, scope="plate")
    make_pairs(config, tmp_path / "one")
    other = config_of(options, scope="plate", high_percentile=90)
    make_pairs(other, tmp_path / "other")
    mixed = [tmp_path / f"{name}/scaled/shard-00{n}"
             for n, name in enumerate(("one", "other"))]  # fmt: skip
    with pytest.raises(PhantomscopeError, match="of other options, percentiles than"):
        stages.pair_fields(config, scaled=mixed, pairs=tmp_path / "pairs")
    with pytest.raises(PhantomscopeError, match="1 shards, but not all of so many"):
        stages.pair_fields(config, scaled=mixed[:1], pairs=tmp_path / "pairs")
    # Of a plate that lies in both shards the counts of one are not enough.
    options = gallery.options(shards=3)
    config = config_of(options, scope="plate")
    make_pairs(config, tmp_path / "three")
    folder = tmp_path / "three"
    shutil.rmtree(folder / "scaled/shard-001")
    counts = [folder / f"intensities/shard-{name}.npz" for name in options.shard_names]
    again = {"fields": folder / "fields/shard-001",
             "scaled": folder / "scaled/shard-001"}  # fmt: skip
    stages.scale_fields(config, **again, intensities=counts[1:])
    scaled = [folder / f"scaled/shard-{name}" for name in options.shard_names]
    with pytest.raises(PhantomscopeError, match=r"BR00116991 by different limits"):
        stages.pair_fields(config, scaled=scaled, pairs=tmp_path / "pairs")
    with pytest.raises(PhantomscopeError, match="how bright the images of the plate"):
        stages.scale_fields(config, **again, intensities=counts[2:])
    counts[0].write_bytes(b"no counts")
    with pytest.raises(PhantomscopeError, match="no counts of intensities"):
        stages.scale_fields(config, **again, intensities=counts)
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize("scope", ["image", "plate"])
def test_which_shards_wait_for_which(scope: str) -> None:
    numbers = itertools.product((1, 3), (1, 2), (1, 2), (1, 2, 5, 13), (1, 3))
    for plates, wells, sites, shards, ahead in numbers:
        options = {
            "kind": "gallery", "plates": [f"P{n}__x" for n in range(plates)],
            "wells": [f"A{n + 1:02}" for n in range(wells)], "shards": shards,
            "sites_per_well": sites, "ahead": ahead,
        }  # fmt: skip
        config = make_config({"translate": {"scope": scope, "plates": options}})
        every = list_sites(config.translate.plates)
        held = [{s.plate for s in shard_sites(every, n, shards)} for n in range(shards)]
        last = -1
        for n in range(shards):
            mine = [m for m in range(shards) if m == n or held[m] & held[n]]
            assert shards_of_plates(config, n) == mine
            freed = freed_before(config, n)
            if scope == "image":
                assert freed == ([n - ahead] if n >= ahead else [])
            # All before are freed as well, and what a shard waits for does not wait
            # for this shard.
            assert freed == list(range(last + 1, last + 1 + len(freed)))
            last += len(freed)
            assert last <= max(n - ahead, -1)
            for one in freed if scope == "plate" else []:
                assert max(shards_of_plates(config, one)) < n


# One survey


def test_all_shards_go_by_one_survey(
    gallery: Gallery, server: Server, tmp_path: Path
) -> None:
    options = gallery.options(address=server.add_bucket(gallery.root), shards=3)
    survey = tmp_path / "plates.json"
    survey_plates(options, survey, patience=IMPATIENT)
    # From now on, the tables say otherwise; nobody asks them, or lists anything.
    for path in gallery.root.rglob("*"):
        if path.suffix in (".csv", ".xml", ".txt"):
            server.add(path.relative_to(gallery.root).as_posix(), b"other")
    before = len(server.requests)
    records = []
    for n in range(3):
        record = tmp_path / f"{n}.json"
        fetch_plates(
            options, survey, record, shard=n, shards=3, patience=IMPATIENT
        )  # fmt: skip
        records.append(json.loads(record.read_text()))
    asked = [r.path for r in server.requests[before:]]
    assert all(path.endswith((".tiff", ".png")) for path in asked)
    assert len(asked) == len(set(asked)) == 8 * 8
    for name in ("plates", "compounds", "cell_lines", "survey_sha256", "channels"):
        assert records[0][name] == records[1][name] == records[2][name]
    sites = [(s["plate"], s["well"], s["site"]) for r in records for s in r["sites"]]
    assert len(sites) == len(set(sites)) == 8
    numbers = {plate: found["channels"]["Brightfield"]
               for plate, found in records[0]["plates"].items()}  # fmt: skip
    assert set(numbers) == set(PLATES)


# Raw files of their own


def test_files_of_a_shard_can_be_freed(
    gallery: Gallery, server: Server, tmp_path: Path
) -> None:
    kept = make_pairs(
        config_of(gallery.options(address=server.add_bucket(gallery.root))),
        tmp_path / "kept",
    )
    address = server.add_bucket(gallery.root, "other")
    changes = {"address": address, "keep": "pairs", "shards": 3}
    options = gallery.options(**changes, downloads=str(tmp_path / "elsewhere"))
    freed = make_pairs(config_of(options), tmp_path / "freed")
    # The address is another one, and so is what the survey says of it.
    for found in (kept, freed):
        found.info.pop("survey_sha256")
    same(kept, freed)
    # Only tables are in the folder that experiments share.
    assert not [p for p in (tmp_path / "elsewhere").rglob("*")
                if p.suffix in (".tiff", ".png")]  # fmt: skip
    images = list((tmp_path / "freed/raw").rglob("*.tiff"))
    assert len(images) == 8 * 6
    with pytest.raises(PhantomscopeError, match="in the way of fetched files"):
        stages.fetch_plates(
            config_of(options), survey=tmp_path / "freed/plates.json",
            record=tmp_path / "r.json", raw=tmp_path / "freed/raw/shard-000", shards=3,
        )  # fmt: skip


def test_failing_files_are_named_and_the_rest_is_taken_up(
    gallery: Gallery, server: Server, tmp_path: Path
) -> None:
    address = server.add_bucket(gallery.root)
    options = gallery.options(address=address, keep="pairs")
    survey, record = tmp_path / "plates.json", tmp_path / "record.json"
    raw = tmp_path / "raw"
    survey_plates(options, survey, patience=IMPATIENT)
    bad = [gallery.image(PLATES[0], "A01", site, "ER") for site in (1, 2)]
    for path in bad:
        key = path.relative_to(gallery.root).as_posix()
        server.fail(key, status(404))
    how: dict[str, Any] = {"raw": raw, "patience": IMPATIENT}
    with pytest.raises(PhantomscopeError) as caught:
        fetch_plates(options, survey, record, **how)
    assert all(path.name in str(caught.value) for path in bad)
    assert "2 problems" in str(caught.value)
    assert not raw.exists()
    assert not record.exists()
    before = len(server.requests)
    fetch_plates(options, survey, record, **how)
    assert len(server.requests) - before == 2
    assert len(list(raw.rglob("*.tiff"))) == 8 * 6


# Splits


@pytest.mark.parametrize("by", SPLITS)
def test_each_split_of_plates_is_apart_in_pairs(
    by: str, gallery: Gallery, tmp_path: Path
) -> None:
    split = {"by": by, **SPLITS[by]}
    options = gallery.options(split=split, shards=3)
    pairs = make_pairs(config_of(options), tmp_path / "run")
    assert_apart(pairs)
    assert set(pairs.table["split"]) == {"train", "test"}
    assert pairs.info["split"]["by"] == by


def test_a_copy_is_found_though_plates_are_scaled_apart(
    gallery: Gallery, tmp_path: Path
) -> None:
    for channel in gallery.options().wanted:
        copy = gallery.image(PLATES[0], "A01", 1, channel).read_bytes()
        gallery.image(PLATES[1], "B02", 2, channel).write_bytes(copy)
    split = {"by": "plate", "test": [PLATES[0]]}
    config = config_of(gallery.options(split=split, shards=8), scope="plate")
    with pytest.raises(PhantomscopeError, match=r"the field_sha256 \w+ is on two side"):
        make_pairs(config, tmp_path / "run")
    assert not (tmp_path / "run/pairs").exists()


# Options


def test_how_plates_are_handled_shapes_no_result(gallery: Gallery) -> None:
    one, other = (
        sections(config_of(gallery.options(**changes)), "translate.plates")
        for changes in ({}, {"shards": 7, "keep": "pairs", "ahead": 2})
    )
    assert one == other
    assert Plates(**{**gallery.options().model_dump(), "wells": WELLS}).shards == 1
    with pytest.raises(ValueError, match="`shards` belong to"):
        Plates(shards=2)

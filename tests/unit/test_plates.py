"""Plates of a small gallery to an image set."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest
from tests.plates import (
    BATCH,
    PLATES,
    PROJECT,
    SITES,
    SIZE,
    WELLS,
    Gallery,
    instances,
    make,
    pixels,
    to_instances,
)

from phantomscope.acquire.plates import (
    acquire_plates,
    assert_apart,
    estimate,
    excluded_of,
    list_sites,
    shard_sites,
)
from phantomscope.acquire.plates.survey import Wanted
from phantomscope.config.painting import PAPER_PLATES
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.join import concatenate

# From plates to a set


def test_a_set_of_plates_has_the_right_pixels(gallery: Gallery, tmp_path: Path) -> None:
    inputs = ["BrightfieldHigh", "Brightfield", "BrightfieldLow"]
    options = gallery.options(inputs=inputs)
    images = make(options, tmp_path)
    images.verify()
    assert_apart(images)
    assert len(images) == len(PLATES) * len(WELLS) * len(SITES)
    nuclei, cells = instances()
    for plate in PLATES:
        for well in WELLS:
            for site in SITES:
                name = f"{barcode_of(plate)}_{well}_s{site}"
                expected = [pixels(plate, well, site, c) for c in options.wanted]
                assert np.array_equal(images.channels(name), expected)
                assert np.array_equal(images.mask(name) > 0, nuclei > 0)
                assert np.array_equal(images.cells(name) > 0, cells > 0)
    row = images.row("BR00116995_B02_s2")
    assert row["group"] == "BR00116995_B02"
    assert (row["plate"], row["well"], row["site"]) == ("BR00116995", "B02", 2)
    assert (row["compound"], row["cell_line"]) == ("DMSO", "U2OS")
    assert images.row("BR00116991_A01_s1")["compound"] == "BRD-K11111111"
    assert row["channel_names"].split() == [*inputs, "Mito", "AGP", "RNA", "ER", "DNA"]
    assert row["pixel_size"] == pytest.approx(0.59797)
    assert row["dtype"] == "uint16"
    assert images.info["channels"] == options.wanted
    assert images.info["plates"][PLATES[1]]["channels"]["Mito"] == (
        "OrigMito in load_data.csv"
    )
    assert excluded_of(images) == []


def test_a_killed_job_takes_up_where_it_was(gallery: Gallery, tmp_path: Path) -> None:
    options = gallery.options()
    whole = make(options, tmp_path, "whole")
    calls = 0

    def stop_at_seven(lines: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return to_instances(lines)

    record = tmp_path / "whole.json"
    with pytest.raises(KeyboardInterrupt):
        acquire_plates(options, record, tmp_path / "set", stop_at_seven, seed=0)
    assert not (tmp_path / "set").exists()
    calls = 100
    acquire_plates(options, record, tmp_path / "set", stop_at_seven, seed=0)
    assert calls == 100 + 2 * (len(whole) - 3)
    pd.testing.assert_frame_equal(ImageSet.open(tmp_path / "set").table, whole.table)


def test_shards_make_up_the_whole(gallery: Gallery, tmp_path: Path) -> None:
    options = gallery.options(split={"by": "well"})
    whole = make(options, tmp_path, "whole")
    parts = [
        make(options, tmp_path, f"part{n}", shard=n, shards=3).folder for n in (0, 1, 2)
    ]
    (tmp_path / "joined").mkdir()
    info = whole.info
    concatenate(tmp_path / "joined", tmp_path / "joined", parts, info)
    joined = ImageSet.open(tmp_path / "joined")
    joined.verify()
    assert_apart(joined)
    paths = ["image", "mask", "cells"]
    one, other = (s.table.sort_index().drop(columns=paths) for s in (whole, joined))
    pd.testing.assert_frame_equal(one, other)
    assert len(joined.cells(joined.ids[-1]))


def test_a_record_is_of_its_config(gallery: Gallery, tmp_path: Path) -> None:
    make(gallery.options(), tmp_path)
    other = gallery.options(inputs=["BrightfieldHigh"])
    with pytest.raises(PhantomscopeError, match="no record of these plates"):
        acquire_plates(other, tmp_path / "set.json", tmp_path / "b", to_instances, 0)
    record = json.loads((tmp_path / "set.json").read_text())
    assert Wanted(**record["sites"][0]).place.identifier == "BR00116991_A01_s1"
    assert record["source"] == str(gallery.root)
    assert os.path.commonpath(list(record["hashes"])) == PROJECT
    assert any(f"metadata/platemaps/{BATCH}" in key for key in record["hashes"])


# Plans


def test_eight_plates_are_planned_in_seconds(tmp_path: Path) -> None:
    options = Plates(kind="gallery", plates=PAPER_PLATES, address="s3://nowhere")
    begin = time.process_time()
    sites = list_sites(options)
    shards = [shard_sites(sites, n, 100) for n in range(100)]
    assert time.process_time() - begin < 20
    assert len(sites) == len(set(sites)) == 27_648
    assert [site for shard in shards for site in shard] == sites
    assert {len(shard) for shard in shards} == {276, 277}
    cost = estimate(options)
    assert cost.sites == 27_648
    assert cost.memory == 6 * 1080 * 1080 * 2
    # 50 to 65 GB for eight channels of a plate.
    assert 50e9 < cost.download / 8 * 8 / 6 < 65e9
    assert sites[0].identifier == "BR00116991_A01_s1"
    assert sites[-1].identifier == "BR00117026_P24_s9"
    assert dict(options.cell_lines).keys() == {site.barcode for site in sites}


# What is left out


def test_black_sites_are_left_out_and_listed(gallery: Gallery, tmp_path: Path) -> None:
    plate = PLATES[0]
    speck = np.full(SIZE, 7, np.uint16)
    # 0.4% of the pixels: beyond the percentiles.
    speck.flat[:12] = 60_000
    gallery.write_image(plate, "A01", 2, "ER", speck)
    # Brightfield is no stain: a plane of one value is no black site.
    gallery.write_image(plate, "B02", 1, "Brightfield", np.full(SIZE, 3, np.uint16))
    images = make(gallery.options(), tmp_path)
    assert len(images) == 7
    (row,) = excluded_of(images)
    assert row["id"] == "BR00116991_A01_s2"
    assert row["reason"] == "black"
    assert row["detail"] == "ER is 7 at both percentiles (0.5, 99.5)"
    everything = make(gallery.options(dark_percentiles=(0, 100)), tmp_path, "all")
    assert len(everything) == 8


def test_sites_that_a_plate_lacks_are_listed(gallery: Gallery, tmp_path: Path) -> None:
    rows = gallery.rows(PLATES[0])
    gallery.write_load_data(PLATES[0], rows[1:])
    images = make(gallery.options(wells=None), tmp_path)
    assert len(images) == 7
    found = {row["id"]: row["reason"] for row in excluded_of(images)}
    others = [f"{p.split('__')[0]}_{w}_s{s}" for p in PLATES for w in ("A02", "B01")
              for s in SITES]  # fmt: skip
    assert found == dict.fromkeys(["BR00116991_A01_s1", *others], "absent")
    # Who names a site, wants it.
    with pytest.raises(PhantomscopeError, match="1 of the named sites are not on"):
        make(gallery.options(), tmp_path, "named")


def test_outlines_are_kept_where_there_are_any(
    gallery: Gallery, tmp_path: Path
) -> None:
    gallery.outline(PLATES[0], "A01", 1, "nuclei").unlink()
    for kind in ("nuclei", "cell"):
        gallery.outline(PLATES[0], "A01", 2, kind).unlink()
    # Those of a plate by well, in colour with opacity, as some versions write.
    for site in SITES:
        for kind in ("nuclei", "cell"):
            old = gallery.outline(PLATES[1], "B02", site, kind)
            new = old.parents[2] / "BR00116995-B02" / "outlines" / old.name
            new.parent.mkdir(parents=True, exist_ok=True)
            grey = imageio.imread(old)
            opaque = np.full_like(grey, 255)
            imageio.imwrite(new, np.dstack([grey, grey, 0 * grey, opaque]))
            old.unlink()
            if not list(old.parent.iterdir()):
                old.parent.rmdir()
                old.parents[1].rmdir()
    images = make(gallery.options(), tmp_path)
    cells, mask = images.table["cells"] != "", images.table["mask"] != ""
    assert list(images.table.index[~mask]) == ["BR00116991_A01_s1", "BR00116991_A01_s2"]
    assert list(images.table.index[~cells]) == ["BR00116991_A01_s2"]
    assert np.array_equal(images.mask("BR00116995_B02_s1") > 0, instances()[0] > 0)
    none = make(gallery.options(outlines="none"), tmp_path, "none")
    assert "cells" not in none.table
    assert not any(none.table["mask"])
    required = gallery.options(outlines="required", broken="exclude")
    strict = make(required, tmp_path, "strict")
    assert [r["reason"] for r in excluded_of(strict)] == ["missing"] * 2
    assert len(strict) == 6

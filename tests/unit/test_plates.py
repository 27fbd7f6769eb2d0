"""Plates of a small gallery: fetched over HTTP as S3, or read from a folder."""

from __future__ import annotations

import gzip
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
    CHANNELS,
    NUMBERS,
    PLATES,
    PROJECT,
    SITES,
    SIZE,
    WELLS,
    Gallery,
    instances,
    pixels,
    to_instances,
)
from tests.server import Server, cut, status

from phantomscope.acquire.plates import (
    acquire_plates,
    assert_apart,
    estimate,
    excluded_of,
    fetch_plates,
    list_sites,
    shard_sites,
)
from phantomscope.acquire.plates.fetch import Wanted
from phantomscope.acquire.plates.store import open_store
from phantomscope.acquire.web import Patience
from phantomscope.config.painting import PAPER_PLATES
from phantomscope.config.plates import Plates, barcode_of
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.join import concatenate
from phantomscope.interrupt import CleanStop, StopRequestedError

# A busy machine is slow to answer.
IMPATIENT = Patience(timeout=30, attempts=4, pause=0.01)


def make(options: Plates, folder: Path, name: str = "set", **how: Any) -> ImageSet:
    """Fetch and acquire."""
    record = folder / f"{name}.json"
    fetch_plates(options, record, patience=IMPATIENT, **how)
    acquire_plates(options, record, folder / name, to_instances, seed=0)
    return ImageSet.open(folder / name)


def objects(server: Server) -> list[str]:
    """Keys of the objects that were asked for, without lists."""
    return [r.path for r in server.requests if "list-type" not in r.path]


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


def test_a_server_and_a_folder_give_the_same_set(
    gallery: Gallery, server: Server, tmp_path: Path
) -> None:
    local = make(gallery.options(), tmp_path, "local")
    # Of eight files of a site and tables, pages of three need many tokens.
    address = server.add_bucket(gallery.root, "bucket", page=3)
    remote = make(gallery.options(address=address), tmp_path, "remote")
    pd.testing.assert_frame_equal(local.table, remote.table)
    assert any("continuation-token" in r.path for r in server.requests)
    asked = objects(server)
    assert len(asked) == len(set(asked))
    # An s3:// address with an endpoint is the same bucket, path style.
    options = gallery.options(address="s3://bucket", endpoint=server.url)
    again = make(options, tmp_path, "again")
    pd.testing.assert_frame_equal(local.table, again.table)
    assert not list(tmp_path.rglob(".*.partial"))


def test_a_subset_costs_what_it_weighs(
    gallery: Gallery, server: Server, tmp_path: Path
) -> None:
    address = server.add_bucket(gallery.root)
    options = gallery.options(
        address=address, plates=[PLATES[0]], wells=["B02"], sites=[2],
        split={"train": [PLATES[0]], "validation": []}, broken="exclude",
    )  # fmt: skip
    with pytest.raises(PhantomscopeError, match="none is left for test"):
        make(options, tmp_path)
    options = options.model_copy(
        update={"split": options.split.model_copy(update={"test": [PLATES[0]],
                                                          "train": []})}
    )  # fmt: skip
    record = tmp_path / "record.json"
    fetch_plates(options, record)
    tiffs = [key for key in objects(server) if key.endswith(".tiff")]
    names = {Path(key).name for key in tiffs}
    numbers = dict(
        zip((name for name, *_ in CHANNELS), NUMBERS[PLATES[0]], strict=True)
    )
    wanted = {f"r02c02f02p01-ch{numbers[c]}sk1fk1fl1.tiff" for c in options.wanted}
    assert names == wanted
    assert sum(key.endswith("outlines.png") for key in objects(server)) == 2
    # All again costs no image: the files are there, and hashes are compared.
    before = len(server.requests)
    fetch_plates(options, tmp_path / "again.json")
    assert all("list-type" in r.path for r in server.requests[before:])
    first, second = (
        json.loads(p.read_text()) for p in (record, tmp_path / "again.json")
    )
    assert first == second
    assert len(first["hashes"]) == 6 + 2 + 2 + 2


def test_a_broken_transfer_goes_on(
    gallery: Gallery, server: Server, tmp_path: Path
) -> None:
    address = server.add_bucket(gallery.root, faults=[status(503), status(429)])
    plate = PLATES[0]
    path = gallery.image(plate, "A01", 1, "DNA").relative_to(gallery.root).as_posix()
    server.fail(path, status(503), cut(2000))
    images = make(gallery.options(address=address), tmp_path)
    asked = [r.range for r in server.requests if r.path == f"/{path}"]
    assert asked == ["", "", "bytes=2000-"]
    name = f"{barcode_of(plate)}_A01_s1"
    assert np.array_equal(images.channels(name)[-1], pixels(plate, "A01", 1, "DNA"))


def test_a_stopped_download_goes_on(
    gallery: Gallery, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = gallery.options(address=server.add_bucket(gallery.root))
    record = tmp_path / "record.json"

    def stop_between_images(watch: CleanStop) -> None:
        if sum(key.endswith(".tiff") for key in objects(server)) > 9:
            raise StopRequestedError("stopped by SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr(CleanStop, "check", stop_between_images)
        with pytest.raises(StopRequestedError):
            fetch_plates(options, record, patience=IMPATIENT)
    assert not record.exists()
    fetched = len(objects(server))
    assert fetched < 40
    fetch_plates(options, record, patience=IMPATIENT)
    # What was on its way came to its end, and nothing is asked for twice.
    asked = objects(server)
    assert len(asked) == len(set(asked)) == 8 * 8 + 2 * 2 + 2


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


# Plans


def test_eight_plates_are_planned_in_seconds(tmp_path: Path) -> None:
    options = Plates(kind="gallery", plates=PAPER_PLATES, address="s3://nowhere")
    begin = time.monotonic()
    sites = list_sites(options)
    shards = [shard_sites(sites, n, 100) for n in range(100)]
    assert time.monotonic() - begin < 5
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


# Flat field


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


# A real implementation of S3


def test_a_real_s3_server(gallery: Gallery, tmp_path: Path) -> None:
    # Heavy, and needed for nothing else: not among our requirements. The server of
    # `tests.server` speaks the same protocol in all other tests.
    pytest.importorskip("moto.server", reason="moto[server,s3] is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(port=0)
    running.start()
    try:
        host, port = running.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        client.create_bucket(Bucket="gallery", ACL="public-read")
        for path in gallery.root.rglob("*"):
            if path.is_file():
                key = path.relative_to(gallery.root).as_posix()
                client.upload_file(
                    str(path), "gallery", key, ExtraArgs={"ACL": "public-read"}
                )
        for number in range(1003):
            client.put_object(Bucket="gallery", Key=f"many/a b+{number:04}", Body=b"x")
        options = gallery.options(address="s3://gallery", endpoint=endpoint)
        files, folders = open_store(options).entries("many/")
        assert (len(files), folders) == (1003, [])
        assert files["many/a b+0007"] == 1
        assert open_store(options).entries("")[1] == [PROJECT.split("/")[0], "many"]
        remote = make(options, tmp_path, "remote")
        local = make(gallery.options(), tmp_path, "local")
        pd.testing.assert_frame_equal(local.table, remote.table)
    finally:
        running.stop()


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

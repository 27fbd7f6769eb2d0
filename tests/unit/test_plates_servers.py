"""Plates that are fetched over HTTP, as S3; servers that fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.plates import (
    CHANNELS,
    IMPATIENT,
    NUMBERS,
    PLATES,
    PROJECT,
    Gallery,
    make,
    pixels,
    refused,
)
from tests.server import Server, cut, instead, status

from phantomscope.acquire.plates import fetch_plates, survey_plates
from phantomscope.acquire.plates.store import open_store
from phantomscope.config.plates import barcode_of
from phantomscope.errors import PhantomscopeError
from phantomscope.interrupt import CleanStop, StopRequestedError

PLATE = PLATES[0]


def objects(server: Server) -> list[str]:
    """Keys of the objects that were asked for, without lists."""
    return [r.path for r in server.requests if "list-type" not in r.path]


# Fetching


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
    survey, record = tmp_path / "survey.json", tmp_path / "record.json"
    before = len(objects(server))
    survey_plates(options, survey)
    assert not any(key.endswith(".tiff") for key in objects(server)[before:])
    fetch_plates(options, survey, record)
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
    survey_plates(options, survey)
    assert all("list-type" in r.path for r in server.requests[before:])
    before = len(server.requests)
    fetch_plates(options, survey, tmp_path / "again.json")
    assert len(server.requests) == before
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
    survey, record = tmp_path / "survey.json", tmp_path / "record.json"
    survey_plates(options, survey)

    def stop_between_images(watch: CleanStop) -> None:
        if sum(key.endswith(".tiff") for key in objects(server)) > 9:
            raise StopRequestedError("stopped by SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr(CleanStop, "check", stop_between_images)
        with pytest.raises(StopRequestedError):
            fetch_plates(options, survey, record, patience=IMPATIENT)
    assert not record.exists()
    fetched = len(objects(server))
    assert fetched < 40
    fetch_plates(options, survey, record, patience=IMPATIENT)
    # What was on its way came to its end, and nothing is asked for twice.
    asked = objects(server)
    assert len(asked) == len(set(asked)) == 8 * 8 + 2 * 2 + 2


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


# Servers that are none


def test_servers_that_are_no_bucket(
    gallery: Gallery, server: Server, tmp_path: Path
) -> None:
    answers = [
        instead(b"<html>please log in</html>"),
        instead(b"<html><p>please log in</html>"),
        instead(b'<!DOCTYPE x [<!ENTITY a "b">]><x/>'),
        instead(
            b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
        ),
        instead(
            b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>"
        ),
    ]
    address = server.add_bucket(gallery.root, faults=answers)
    options = gallery.options(address=address)
    store = open_store(options)
    for answer in ("a html", "no XML", "declares entities", "not which", "'Size'"):
        with pytest.raises(PhantomscopeError, match=answer):
            store.entries("")
    circle = b"<ListBucketResult><NextContinuationToken>a</NextContinuationToken>"
    server.add_bucket(
        gallery.root, faults=[instead(circle + b"</ListBucketResult>")] * 2
    )
    with pytest.raises(PhantomscopeError, match="run in a circle"):
        store.entries("")


def test_servers_that_refuse(gallery: Gallery, server: Server, tmp_path: Path) -> None:
    address = server.add_bucket(gallery.root, faults=[status(403)])
    options = gallery.options(address=address)
    text = refused(options, tmp_path)
    assert "the server answers 403" in text
    assert "a folder with the same layout can be named in `address`" in text
    assert "source.mirror" not in text
    server.add_bucket(gallery.root, faults=[status(503)] * 4)
    assert "failed 4 times, at last: the server answers 503" in refused(
        options, tmp_path
    )
    # Listed, but gone when it is asked for.
    path = gallery.image(PLATE, "A01", 1, "ER").relative_to(gallery.root)
    server.fail(path.as_posix(), status(404))
    text = refused(options, tmp_path)
    assert "there is no such file: the server answers 404" in text
    assert not (tmp_path / "set.json").exists()
    assert "does not exist" in refused(
        gallery.options(address=str(tmp_path / "nowhere")), tmp_path
    )
    assert len(make(options, tmp_path)) == 8


def test_a_disk_that_is_too_small(
    gallery: Gallery, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = gallery.options(address=server.add_bucket(gallery.root))
    full = type("Usage", (), {"free": 100_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    text = refused(options, tmp_path)
    assert "are to be fetched, 100.0 kB are free" in text
    assert not [r for r in server.requests if r.path.endswith(".tiff")]

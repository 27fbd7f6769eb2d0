"""Members fetched out of a zip on a server that gives ranges, or not, or lies."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import archives, downloading
from tests.archives import Files
from tests.server import Fault, File, Server, cut, hang, instead, reset, status

from phantomscope.acquire import ranges, remote_zip
from phantomscope.acquire.download import pin_of
from phantomscope.acquire.remote_zip import fetch_members
from phantomscope.acquire.web import Patience
from phantomscope.errors import PhantomscopeError
from phantomscope.interrupt import StopRequestedError

FAST, HANGING = Patience(**downloading.FAST), Patience(**downloading.HANGING)
NOISE = np.random.default_rng(0).integers(0, 256, 60_000, np.uint8).tobytes()
FILES = {
    "set/": b"", "set/01/t000.tif": NOISE, "set/01/t001.tif": b"x" * 9000 + NOISE[:50],
    "set/01/t002.tif": b"", "set/TRA/é.txt": b"marks" * 40,
}  # fmt: skip


def zipped(files: Files = FILES, packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    return archives.zipped(files, packed)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # So that the end, the list of members and each member are read one by one.
    monkeypatch.setattr(ranges, "TAIL", 100)
    with Server() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "set" / "a.part.zip"


def images(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.endswith(".tif")]


def fetch(url: str, target: Path, **options: Any) -> str:
    return fetch_members(url, target, images, **{"patience": FAST} | options)


def refused(url: str, target: Path, **options: Any) -> str:
    """The message; no file is left under the final name."""
    with pytest.raises(PhantomscopeError) as caught:
        fetch(url, target, **options)
    assert not target.exists()
    assert caught.value.fix
    return str(caught.value)


def check(target: Path) -> None:
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == images(list(FILES))
        assert all(archive.read(name) == FILES[name] for name in archive.namelist())
    names = {path.name for path in target.parent.iterdir()}
    assert names == {target.name, pin_of(target).name}


# What works


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_arrive_and_are_recorded(
    packed: int, server: Server, target: Path
) -> None:
    url = server.add("a.zip", whole := zipped(packed=packed))
    digest = fetch(url, target, size=len(whole))
    check(target)
    record = json.loads(pin_of(target).read_text())
    assert (record["url"], record["sha256"]) == (url, digest)
    assert (record["whole_size"], record["version"]) == (len(whole), '"v1"')
    assert [member["name"] for member in record["members"]] == images(list(FILES))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        for member in record["members"]:
            info = archive.getinfo(member["name"])
            assert (member["crc32"], member["offset"]) == (info.CRC, info.header_offset)
    before = len(server.requests)
    assert fetch(url, target) == digest
    assert len(server.requests) == before


def test_not_asked_for_is_not_fetched(server: Server, target: Path) -> None:
    url = server.add("a.zip", zipped())
    fetch_members(url, target, lambda names: ["set/01/t001.tif"], patience=FAST)
    asked = [
        request.range.removeprefix("bytes=").split("-") for request in server.requests
    ]
    total = sum(int(end) - int(start) + 1 for start, end in asked)
    assert total < 1000 < len(zipped())


def test_a_zip_of_64_bit(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All offsets and sizes beyond 100 bytes go into the extra fields and records.
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    whole = zipped()
    monkeypatch.undo()
    monkeypatch.setattr(ranges, "TAIL", 100)
    assert b"PK\6\6" in whole
    fetch(server.add("a.zip", whole), target)
    check(target)


def test_members_of_unknown_size_before_them(server: Server, target: Path) -> None:
    """A writer that cannot seek puts sizes behind the content."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, chunk: Any, /) -> int:
            self.content += chunk
            return len(chunk)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    fetch(server.add("a.zip", bytes(pipe.content)), target)
    check(target)


def test_something_stands_before_the_zip(server: Server, target: Path) -> None:
    fetch(server.add("a.zip", b"#!/bin/sh\n" * 9 + zipped()), target)
    check(target)


def test_a_folder_is_a_mirror(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped())
    fetch(str(path), target)
    check(target)
    assert "no such file" in refused(str(tmp_path / "b.zip"), target.with_name("b.zip"))


# Trouble that passes


@pytest.mark.parametrize(
    "fault", [status(503), cut(2000), reset(2000), hang(2000), hang(), cut(0)]
)
def test_trouble_that_passes(fault: Fault, server: Server, target: Path) -> None:
    url = server.add("a.zip", zipped())
    fetch(url, target.with_name("ok"))
    count = len(server.requests)
    for number in range(count):
        target.unlink(missing_ok=True)
        faults = [lambda handler: handler.answer(handler.file)] * number
        server.add("a.zip", zipped(), [*faults, fault])
        fetch(url, target, patience=HANGING)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None


def test_half_a_member_is_taken_up(server: Server, target: Path) -> None:
    url = server.add("a.zip", zipped())
    good = [lambda handler: handler.answer(handler.file)] * 3
    server.add("a.zip", zipped(), [*good, *[cut(2000), status(503), status(503)]])
    text = refused(url, target)
    assert "failed 3 times" in text
    assert "2000 bytes are kept" in text
    before = len(server.requests)
    fetch(url, target)
    check(target)
    asked = [r.range for r in server.requests[before:]]
    first = int(asked[3].removeprefix("bytes=").split("-")[0])
    with zipfile.ZipFile(io.BytesIO(zipped())) as archive:
        assert first == archive.getinfo("set/01/t000.tif").header_offset + 2000


def test_a_signal_stops_it_cleanly(server: Server, target: Path) -> None:
    url = server.add("a.zip", zipped())
    good = [lambda handler: handler.answer(handler.file)] * 3

    def stop(handler: Any) -> None:
        handler.answer(handler.file, 2000)
        os.kill(os.getpid(), signal.SIGTERM)
        handler.hang()

    server.add("a.zip", zipped(), [*good, stop])
    with pytest.raises(StopRequestedError):
        fetch(url, target, patience=HANGING)
    assert not target.exists()
    fetch(url, target)
    check(target)


# Trouble that stays


def test_a_server_without_ranges(server: Server, target: Path) -> None:
    url = server.add("a.zip", zipped(), ranges=False)
    text = refused(url, target)
    assert "this server gives no parts of files" in text
    assert f"the whole file, {len(zipped()) / 1000:.1f} kB," in text
    assert "download: whole" in text


def test_another_size_than_registered(server: Server, target: Path) -> None:
    text = refused(server.add("a.zip", zipped()), target, size=5)
    assert f"{len(zipped())} bytes, the registry says 5" in text


@pytest.mark.parametrize("same_size", [True, False])
@pytest.mark.parametrize("tagged", [True, False])
def test_a_file_that_changes_meanwhile(
    same_size: bool, tagged: bool, server: Server, target: Path
) -> None:
    tags: dict[str, str] = {} if tagged else {"etag": "", "modified": ""}
    url = server.add("a.zip", zipped(), **tags)
    other = FILES | {"set/01/t001.tif": b"y" * (9050 if same_size else 90)}

    def change(handler: Any) -> None:
        # Before the answer ends: after it the client may be the faster one.
        before = handler.file
        file = File(zipped(other), etag='"v2"' if tagged else "", modified="")
        handler.server.files["/a.zip"] = file
        handler.answer(before)

    good = [lambda handler: handler.answer(handler.file)] * 3
    server.add("a.zip", zipped(), [*good, change], **tags)
    text = refused(url, target)
    if tagged or len(zipped(other)) != len(zipped()):
        assert "the file on the server has changed" in text
    # What is on the server now is fetched anew, all of it.
    fetch(url, target)
    with zipfile.ZipFile(target) as archive:
        assert archive.read("set/01/t001.tif") == other["set/01/t001.tif"]


def test_another_archive_than_the_first_time(server: Server, target: Path) -> None:
    url = server.add("a.zip", zipped())
    fetch(url, target)
    target.unlink()
    server.add("a.zip", zipped({**FILES, "set/01/t001.tif": b"new"}), etag='"v2"')
    text = refused(url, target)
    assert "the publisher's archive is another one than at the first download" in text
    pin_of(target).unlink()
    fetch(url, target)


def test_a_wrong_checksum(server: Server, target: Path) -> None:
    whole = bytearray(zipped(packed=zipfile.ZIP_STORED))
    whole[whole.index(NOISE[:20]) + 5000] ^= 1
    url = server.add("a.zip", bytes(whole))
    text = refused(url, target)
    assert "'set/01/t000.tif' has the CRC-32" in text
    server.add("a.zip", zipped(packed=zipfile.ZIP_STORED))
    fetch(url, target)
    check(target)


@pytest.mark.parametrize("end", [1, 30, 400, 5000])
def test_half_a_zip(end: int, server: Server, target: Path) -> None:
    text = refused(server.add("a.zip", zipped()[:-end]), target)
    assert "this archive is damaged or no zip" in text


@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>", bytes(5000)])
def test_no_zip(content: bytes, server: Server, target: Path) -> None:
    assert "damaged or no zip" in refused(server.add("a.zip", content), target)


def test_a_login_page(server: Server, target: Path) -> None:
    page = b"<html>Please log in</html>"
    url = server.add("a.zip", zipped(), [instead(page)])
    assert "this server gives no parts of files" in refused(url, target)


def test_a_refusal_is_told_at_once(server: Server, target: Path) -> None:
    assert "404" in refused(server.add("a.zip", zipped(), [status(404)]), target)
    assert len(server.requests) == 1


# Archives that mean harm


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("../../escape.tif", "leads out of the folder"),
        ("/etc/passwd.tif", "has an absolute path"),
        ("C:/x.tif", "has an absolute path"),
        ("a\n.tif", "has a control character"),
    ],
)
def test_names_that_escape(name: str, what: str, server: Server, target: Path) -> None:
    url = server.add("a.zip", zipped({**FILES, name: b"x"}))
    assert what in refused(url, target)


def test_links_are_refused(server: Server, target: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("a.tif")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    url = server.add("a.zip", stream.getvalue())
    assert "is a link or a device" in refused(url, target)


def test_a_name_twice(server: Server, target: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.tif", "one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.tif", "two")
    url = server.add("a.zip", stream.getvalue())
    assert "'a.tif' is listed twice" in refused(url, target)


def entry(whole: bytes, name: bytes) -> int:
    """Where the list of members names a member."""
    return whole.rindex(b"PK\1\2", 0, whole.rindex(name))


def test_members_that_overlap(server: Server, target: Path) -> None:
    whole = bytearray(zipped())
    at = entry(whole, b"set/01/t001.tif")
    struct.pack_into("<I", whole, at + 20, 70_000)
    text = refused(server.add("a.zip", bytes(whole)), target)
    assert "overlaps another" in text


def test_a_name_that_is_another_one_before_the_content(
    server: Server, target: Path
) -> None:
    whole = zipped().replace(b"set/01/t001.tif", b"set/01/t009.tif", 1)
    text = refused(server.add("a.zip", whole), target)
    assert "'set/01/t001.tif' is not where it should be" in text


@pytest.mark.parametrize("size", [100, 9_000_000])
def test_a_size_that_is_another_one(size: int, server: Server, target: Path) -> None:
    whole = bytearray(zipped())
    struct.pack_into("<I", whole, entry(whole, b"set/01/t001.tif") + 24, size)
    text = refused(server.add("a.zip", bytes(whole)), target)
    assert "'set/01/t001.tif' is not of its stated size" in text


def test_an_unknown_packing(server: Server, target: Path) -> None:
    whole = bytearray(zipped())
    struct.pack_into("<H", whole, entry(whole, b"set/01/t001.tif") + 10, 99)
    text = refused(server.add("a.zip", bytes(whole)), target)
    assert "'set/01/t001.tif' is packed by an unknown method" in text


def test_too_much_to_unpack(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.add("a.zip", zipped({"a.tif": bytes(3_000_000)}))
    text = refused(url, target, most_bytes=2_000_000)
    assert "unpack to 3.0 MB, more than 2.0 MB; nothing was fetched" in text
    # Or more than such archives do, however little that is.
    monkeypatch.setattr(remote_zip, "SMALL", 1_000_000)
    assert "unpack to 3.0 MB, more than 1.0 MB" in refused(url, target)


def test_a_list_of_members_that_is_too_long(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "MOST_AT_ONCE", 1000)
    many = {f"{n:050}.tif": b"" for n in range(50)}
    text = refused(server.add("a.zip", zipped(many)), target)
    assert "the list of its members is of" in text


def test_members_that_are_not_there(server: Server, target: Path) -> None:
    url = server.add("a.zip", zipped())

    def choose(_: Sequence[str]) -> list[str]:
        raise PhantomscopeError("frames are missing", fix="x")

    with pytest.raises(PhantomscopeError, match="are missing"):
        fetch_members(url, target, choose, patience=FAST)
    assert not target.exists()

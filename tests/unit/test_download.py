"""Downloads from a server on this machine that cuts, hangs, lies and moves things."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.downloading import (
    CONTENT,
    FAST,
    HASH,
    KNOWN,
    SIZE,
    names,
    partial_of,
    refused,
)
from tests.server import (
    DATE,
    Server,
    cut,
    moved,
)

from phantomscope.acquire import web
from phantomscope.acquire.download import download, pin_of, verify
from phantomscope.errors import PhantomscopeError

# What works


def test_a_file_arrives_and_nothing_else_is_left(server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT)
    assert download(url, target, **KNOWN) == HASH
    assert target.read_bytes() == CONTENT
    assert names(target) == ["a.bin"]


def test_a_file_that_is_there_is_checked_not_fetched(
    server: Server, target: Path
) -> None:
    url = server.add("a.bin", CONTENT)
    download(url, target, **KNOWN)
    download(url, target, **KNOWN)
    assert len(server.requests) == 1
    target.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(PhantomscopeError, match="SHA-256") as caught:
        download(url, target, **KNOWN)
    assert caught.value.where == str(target)
    assert "delete it and run the same command again" in caught.value.fix


def test_an_unpinned_file_is_pinned_and_held_to_it(
    server: Server, target: Path
) -> None:
    url = server.add("a.bin", CONTENT)
    download(url, target)
    pin = json.loads(pin_of(target).read_text())
    assert date.fromisoformat(pin.pop("date"))
    assert pin == {"url": url, "size": SIZE, "sha256": HASH}
    target.unlink()
    server.add("a.bin", CONTENT[::-1])
    text = refused(url, target)
    assert HASH in text
    assert hashlib.sha256(CONTENT[::-1]).hexdigest() in text
    assert "a.bin.sha256 of " in text
    pin_of(target).unlink()
    download(url, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_file_that_somebody_put_there_is_pinned(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    assert verify(target) == HASH
    assert not pin_of(target).exists()
    download(f"{server.url}/never-asked", target)
    assert json.loads(pin_of(target).read_text())["sha256"] == HASH


@pytest.mark.parametrize("pin", ["{}", "[]", '{"sha256": 3}'])
def test_a_pin_without_a_hash_trusts_nothing(target: Path, pin: str) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    pin_of(target).write_text(pin)
    with pytest.raises(PhantomscopeError, match=r"a\.bin\.sha256 of None says"):
        verify(target)


def test_a_redirect_is_followed(server: Server, target: Path) -> None:
    server.add("real.bin", CONTENT)
    url = server.add("a.bin", b"", faults=[moved("real.bin")])
    download(url, target, **KNOWN)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("form", ["path", "file url", "localhost"])
def test_a_mirror_folder(form: str, tmp_path: Path, target: Path) -> None:
    source = tmp_path / "my mirror" / "a.bin"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    url = {
        "path": str(source),
        "file url": source.as_uri(),
        "localhost": source.as_uri().replace("file://", "file://localhost"),
    }[form]
    download(url, target, **KNOWN)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["a.bin"]


def test_a_mirror_without_the_file(tmp_path: Path, target: Path) -> None:
    text = refused(str(tmp_path / "nowhere" / "a.bin"), target)
    assert "no such file" in text
    assert "nowhere" in text


# Resuming


def test_only_what_is_missing_is_asked_for(server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [cut(6000)])
    download(url, target, **KNOWN, **FAST)
    first, second = server.requests
    assert (first.range, first.if_range) == ("", "")
    assert (second.range, second.if_range) == ("bytes=6000-", '"v1"')
    assert target.read_bytes() == CONTENT
    assert names(target) == ["a.bin"]


def test_another_run_goes_on_where_one_gave_up(server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [cut(4000)])
    text = refused(url, target, attempts=1)
    assert "the connection ended after 4000 of 10240 bytes" in text
    assert "4000 bytes are kept" in text
    assert "source.mirror" in text
    assert partial_of(target).read_bytes() == CONTENT[:4000]
    download(url, target, **KNOWN, **FAST)
    assert server.requests[-1].range == "bytes=4000-"
    assert target.read_bytes() == CONTENT


def test_last_modified_serves_where_the_tag_is_weak(
    server: Server, target: Path
) -> None:
    url = server.add("a.bin", CONTENT, [cut(4000)], etag='W/"v1"')
    download(url, target, **KNOWN, **FAST)
    assert server.requests[-1].if_range == DATE
    assert target.read_bytes() == CONTENT


def test_without_a_validator_it_begins_anew(server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [cut(4000)], etag="", modified="")
    download(url, target, **KNOWN, **FAST)
    assert [request.range for request in server.requests] == ["", ""]
    assert target.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges(server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [cut(4000)], ranges=False)
    download(url, target, **KNOWN, **FAST)
    assert server.requests[-1].range == "bytes=4000-"
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_begins_anew(
    server: Server, target: Path
) -> None:
    url = server.add("a.bin", CONTENT, [cut(4000)])
    refused(url, target, attempts=1)
    other = CONTENT[::-1] + b"longer"
    server.add("a.bin", other, etag='"v2"')
    download(url, target, **FAST)
    assert server.requests[-1].if_range == '"v1"'
    assert target.read_bytes() == other


@pytest.mark.parametrize("etag", ['"v2"', '"v1"'])
def test_a_server_that_mixes_versions(etag: str, server: Server, target: Path) -> None:
    """It sends a range of another file: told by the tag, else by the hash."""
    url = server.add("a.bin", CONTENT[::-1], [cut(4000)])
    refused(url, target, attempts=1)
    # What is called the date makes `If-Range` hold.
    server.add("a.bin", CONTENT, etag=etag, modified='"v1"')
    download(url, target, **KNOWN, **FAST)
    assert target.read_bytes() == CONTENT
    assert [request.range for request in server.requests[1:]] == ["bytes=4000-", ""]


@pytest.mark.parametrize("known", [{}, KNOWN])
def test_a_run_that_was_killed_at_the_very_end(
    known: dict[str, Any], server: Server, target: Path
) -> None:
    """All bytes are there: nothing is sent again."""
    url = server.add("a.bin", CONTENT, [cut(4000)])
    refused(url, target, attempts=1)
    partial_of(target).write_bytes(CONTENT)
    download(url, target, **known, **FAST)
    assert target.read_bytes() == CONTENT
    assert [request.range for request in server.requests[1:]] == (
        [] if known else [f"bytes={SIZE}-"]
    )


def test_a_partial_file_that_is_too_long_begins_anew(
    server: Server, target: Path
) -> None:
    url = server.add("a.bin", CONTENT, [cut(4000)])
    refused(url, target, attempts=1)
    partial_of(target).write_bytes(CONTENT * 2)
    download(url, target, **KNOWN, **FAST)
    assert target.read_bytes() == CONTENT


def test_a_torn_note_begins_anew(server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [cut(4000)])
    refused(url, target, attempts=1)
    target.with_name(".a.bin.version.partial").write_text('{"url": "')
    download(url, target, **KNOWN, **FAST)
    assert server.requests[-1].range == ""
    assert target.read_bytes() == CONTENT


def test_attempts_that_move_forward_do_not_count(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "CHUNK", 500)
    monkeypatch.setattr("phantomscope.acquire.download.CHUNK", 500)
    url = server.add("a.bin", CONTENT, [cut(1000) for _ in range(9)])
    download(url, target, **KNOWN, **FAST)
    assert len(server.requests) == 10
    assert target.read_bytes() == CONTENT

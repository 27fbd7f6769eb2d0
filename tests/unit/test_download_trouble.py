"""Servers that fail, lie or hang, and machines on which downloads break."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import resource
import signal
import socket
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.downloading import (
    CONTENT,
    FAST,
    HANGING,
    HASH,
    KNOWN,
    SIZE,
    names,
    partial_of,
    refused,
)
from tests.server import (
    Server,
    cut,
    hang,
    instead,
    reset,
    status,
)

from phantomscope.acquire import web
from phantomscope.acquire.download import download, pin_of
from phantomscope.errors import PhantomscopeError
from phantomscope.interrupt import StopRequestedError
from phantomscope.locks import only_writer

# Trouble that passes


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(503, Retry_After="0"),
        status(429),
        status(408),
        reset(0),
        reset(5000),
        hang(),
        hang(5000),
        cut(0),
    ],
    ids=["500", "503", "429", "408", "reset", "reset-later", "hang", "hang-later",
         "cut"],
)  # fmt: skip
def test_trouble_that_passes(fault: Any, server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [fault])
    download(url, target, **KNOWN, **HANGING)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 2
    assert names(target) == ["a.bin"]


def test_pauses_double_unless_the_server_asks_for_one(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pauses: list[float] = []
    monkeypatch.setattr(web.time, "sleep", pauses.append)
    asked = [status(429, Retry_After="7"), status(500)]
    asked += [status(503, Retry_After=value) for value in ("99999", "soon")]
    faults = [status(500), status(502), *asked]
    url = server.add("a.bin", CONTENT, faults)
    download(url, target, **KNOWN, timeout=5, attempts=9, pause=2)
    assert pauses == [2, 4, 7, 16, web.LONGEST_PAUSE, 64]
    assert "500 Internal Server Error; next attempt in 2 s" in capsys.readouterr().err


def test_trouble_that_stays(server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [status(503)] * 9)
    text = refused(url, target)
    assert "failed 3 times, at last: the server answers 503" in text
    assert "source.mirror" in text
    assert len(server.requests) == 3


def test_a_server_that_hangs_is_given_up(server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [hang()] * 9)
    text = refused(url, target, attempts=2, timeout=0.1)
    assert "the server does not answer (timeout)" in text


def test_nobody_listens(target: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        text = refused(f"http://127.0.0.1:{port}/a.bin", target)
    assert "Connection refused" in text


# Trouble that stays


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451])
def test_a_refusal_is_told_at_once(code: int, server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, [status(code)])
    text = refused(url, target)
    assert str(code) in text
    assert ("there is no such file" in text) == (code in (404, 410))
    assert url in text
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a.bin", "s3://bucket/a.bin", "http://", "https:///a.bin",
        "http://host:port/a.bin", "http://host/a b.bin", "http://[::1/a.bin",
        "file://host/a.bin", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_address(url: str, target: Path) -> None:
    assert "nothing can be downloaded from there" in refused(url, target)


def test_a_redirect_does_not_lead_to_files(
    server: Server, target: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    url = server.add("a.bin", b"", [status(302, Location=secret.as_uri())])
    assert "302" in refused(url, target)


def test_a_wrong_file_is_deleted(server: Server, target: Path) -> None:
    wrong = CONTENT[:-1] + b"x"
    url = server.add("a.bin", wrong)
    text = refused(url, target, **KNOWN)
    assert HASH in text
    assert hashlib.sha256(wrong).hexdigest() in text
    assert names(target) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1])
@pytest.mark.parametrize("length", [True, False])
def test_a_wrong_size(size: int, length: bool, server: Server, target: Path) -> None:
    url = server.add("a.bin", CONTENT, length=length)
    text = refused(url, target, size=size)
    assert str(size) in text
    # Without an announced length a short file looks like one that was cut: it is
    # asked for the rest, and, since parts may not fit together, once more as a whole.
    assert len(server.requests) == (4 if size > SIZE and not length else 1)


def test_more_than_expected_is_not_received(server: Server, target: Path) -> None:
    """A server that announces no length cannot fill the disk."""
    url = server.add("a.bin", bytes(64 << 20), length=False)
    text = refused(url, target, size=1000, timeout=5)
    assert "the registry says 1000" in text
    assert int(text.split("it has ")[1].split()[0]) < 8 << 20


def test_a_login_page(server: Server, target: Path) -> None:
    page = b"<!DOCTYPE html><html><body>Please log in</body></html>"
    url = server.add("a.zip", CONTENT, [instead(page)])
    assert "54 bytes" in refused(url, target, size=SIZE)
    url = server.add("a.zip", CONTENT, [instead(page)])
    assert "SHA-256" in refused(url, target, sha256=HASH)
    url = server.add("a.zip", CONTENT, [instead(page)])
    archive = target.with_name("a.zip")
    text = refused(url, archive)
    assert "this is a web page (HTML), not an archive" in text
    assert not pin_of(archive).exists()
    assert names(target) == []


def test_half_an_archive_is_not_pinned(server: Server, target: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "x" * 1000)
    url = server.add("a.zip", stream.getvalue()[:-30])
    zipped = target.with_name("a.zip")
    assert "damaged or cut short" in refused(url, zipped)
    assert names(target) == []
    server.add("a.zip", stream.getvalue())
    download(url, zipped)
    assert pin_of(zipped).exists()


# The machine


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(self: Path, *arguments: Any, **options: Any) -> Any:
        path = Path("/dev/full") if self == partial_of(target) else self
        return opened(path, *arguments, **options)

    url = server.add("a.bin", CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        text = refused(url, target)
    assert "the disk is full" in text
    assert f"where: {target}\n" in text
    assert len(server.requests) == 1
    download(url, target, **KNOWN, **FAST)
    assert target.read_bytes() == CONTENT


def test_a_limit_on_file_sizes_keeps_what_fits(server: Server, target: Path) -> None:
    content = CONTENT * 300
    url = server.add("a.bin", content)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        text = refused(url, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "ulimit -f" in text
    assert partial_of(target).stat().st_size == 1 << 20
    download(url, target, **FAST)
    assert server.requests[-1].range == f"bytes={1 << 20}-"
    assert target.read_bytes() == content


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "a.bin"
    with pytest.raises(PhantomscopeError, match="a file is in the way"):
        download(server.add("a.bin", CONTENT), target, **FAST)
    assert not server.requests


def test_two_at_once_fetch_it_once(
    server: Server, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.add("a.bin", CONTENT, [hang(5000)])
    found: list[str] = []
    work = [
        threading.Thread(
            target=lambda: found.append(download(url, target, **KNOWN, **HANGING))
        )
        for _ in range(2)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found == [HASH, HASH]
    assert [request.range for request in server.requests] == ["", "bytes=5000-"]
    assert "waiting" in capfd.readouterr().err
    assert names(target) == ["a.bin"]


def test_a_file_system_without_locks(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    download(server.add("a.bin", CONTENT), target, **KNOWN, **FAST)
    assert target.read_bytes() == CONTENT


def test_a_signal_stops_it_cleanly(server: Server, target: Path) -> None:
    partial = partial_of(target)

    def stop(handler: Any) -> None:
        handler.answer(handler.file, 5000)
        # Until the client has them.
        while not (partial.exists() and partial.stat().st_size == 5000):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        handler.hang()

    url = server.add("a.bin", CONTENT, [stop])
    with pytest.raises(StopRequestedError):
        download(url, target, **KNOWN, **HANGING)
    assert partial.read_bytes() == CONTENT[:5000]
    assert not target.exists()
    with only_writer(target):
        pass
    download(url, target, **KNOWN, **FAST)
    assert server.requests[-1].range == "bytes=5000-"

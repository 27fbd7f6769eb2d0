"""Downloads from a server on this machine that fails, lies or sends something else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.server import Fault, Server, cut, hang, instead, moved, reset, status

from benchmarks.bad_inputs.archives import PAGE, ZIP
from benchmarks.bad_inputs.building import write
from benchmarks.bad_inputs.model import Case, Invocation
from benchmarks.laboratory import Laboratory
from phantomscope.acquire.download import download
from phantomscope.errors import PhantomscopeError

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ATTEMPTS = 2


def download_case(
    name: str, faults: Sequence[Fault], *expect: str, content: bytes = CONTENT,
    file: str = "data.bin", times: int = ATTEMPTS, how: dict[str, Any] | None = None,
    **options: Any,
) -> Case:  # fmt: skip
    """Download a file from a server whose first answers are these faults."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        target = folder / file

        def fetch() -> None:
            with Server() as server:
                url = server.add(file, content, list(faults) * times, **(how or {}))
                download(
                    url, target, attempts=ATTEMPTS, pause=0.01, timeout=1.0, **options
                )

        return Invocation(outputs=(target,), function=fetch)

    return Case(name, "download", build, expect)


def address_case(name: str, url: str, *expect: str) -> Case:
    """Download from an address that leads nowhere."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        target = folder / "data.bin"
        return Invocation(
            outputs=(target,),
            function=lambda: download(url, target, attempts=1, timeout=0.3),
        )

    return Case(name, "download", build, (url, *expect))


def _pinned(folder: Path, lab: Laboratory) -> Invocation:
    """Fetch a file without a stated hash twice; it changes in between."""
    target = folder / "data.bin"

    def twice() -> None:
        with Server() as server:
            download(server.add("data.bin", CONTENT), target)
            target.unlink()
            download(server.add("data.bin", CONTENT[::-1]), target)

    return Invocation(outputs=(target,), function=twice)


def _changed_on_disk(folder: Path, lab: Laboratory) -> Invocation:
    target = write(folder / "data.bin", b"somebody's edit")

    def fetch() -> None:
        download("http://127.0.0.1:9/data.bin", target, sha256=SHA256)

    return Invocation(outputs=(target,), function=fetch)


def _after_a_break(folder: Path, lab: Laboratory) -> Invocation:
    """Go on with a broken download of what has become another file."""
    target = folder / "data.bin"

    def fetch() -> None:
        with Server() as server:
            options = {"sha256": SHA256, "attempts": 1, "pause": 0.0}
            with suppress(PhantomscopeError):
                url = server.add("data.bin", CONTENT, [cut(3000)])
                download(url, target, **options)
            server.add("data.bin", CONTENT[::-1])
            download(url, target, **options)

    return Invocation(outputs=(target,), function=fetch)


def _into(place: str) -> Any:
    def build(folder: Path, lab: Laboratory) -> Invocation:
        write(folder / "file", b"precious")
        (folder / "folder").mkdir()
        target = folder / place

        def fetch() -> None:
            with Server() as server:
                download(server.add("data.bin", CONTENT), target, sha256=SHA256)

        return Invocation(outputs=(target, folder / "file"), function=fetch)

    return build


SERVER, OTHER = "http://127.0.0.1", "another file than expected"
MIRROR = "`source.mirror`"
FAILED = ("failed 2 times", SERVER, "check the connection", MIRROR)
DOWNLOADS = [
    download_case("server-404", [status(404)], "there is no such file", "404", SERVER,
                  MIRROR),
    download_case("server-410", [status(410)], "there is no such file", "410", SERVER),
    download_case("server-401", [status(401)], "the server answers 401", MIRROR),
    download_case("server-403", [status(403)], "the server answers 403", MIRROR),
    download_case("server-500", [status(500)], *FAILED, "500"),
    download_case("server-503", [status(503, Retry_After="0")], *FAILED, "503"),
    download_case("server-429", [status(429, Retry_After="0")], *FAILED, "429"),
    download_case("server-cuts", [cut(0)], *FAILED, "0 of 10240 bytes"),
    download_case("server-cuts-in-the-middle", [cut(5000)], *FAILED, "5000 of 10240",
                  how={"ranges": False, "etag": "", "modified": ""}),
    download_case("server-resets", [reset(0)], *FAILED),
    download_case("server-hangs", [hang()], *FAILED, "timeout"),
    download_case("server-hangs-in-the-middle", [hang(100)], *FAILED, "timeout",
                  how={"ranges": False, "etag": "", "modified": ""}),
    download_case("moved-in-a-circle", [moved("data.bin")], SERVER, times=50),
    download_case("moved-to-nowhere", [moved("gone.bin")], "there is no such file",
                  "404", MIRROR),
    download_case("page-instead", [instead(PAGE)], OTHER, f"{len(PAGE)} bytes", SERVER,
                  "login page", size=len(CONTENT), sha256=SHA256),
    download_case("page-instead-of-zip", [instead(PAGE)], OTHER, "a web page (HTML)",
                  "login page", "it was deleted", content=ZIP, file="data.zip"),
    download_case("nothing-instead-of-zip", [], OTHER, "an empty file", SERVER,
                  content=b"", file="data.zip"),
    download_case("cut-zip", [], OTHER, "cut short", SERVER, content=ZIP[:-30],
                  file="data.zip"),
    download_case("other-hash", [], OTHER, SHA256, "0" * 64, "it was deleted",
                  sha256="0" * 64),
    download_case("other-size", [], OTHER, "10240 bytes", "says 999", size=999),
    download_case("other-size-unannounced", [], OTHER, "says 999",
                  how={"length": False}, size=999),
    Case("changed-after-pin", "download", _pinned,
         (OTHER, "data.bin.sha256", "change or delete its hash")),
    Case("changed-on-disk", "download", _changed_on_disk,
         ("not the expected file", "data.bin", "delete it and run")),
    Case("changed-after-a-break", "download", _after_a_break, (OTHER, SHA256)),
    Case("download-over-a-folder", "download", _into("folder"),
         ("/folder", "folder")),
    Case("download-below-a-file", "download", _into("file/data.bin"),
         ("/file", "file is in the way")),
    address_case("address-of-ftp", "ftp://example.org/a", "nothing can be downloaded",
                 "use https://"),
    address_case("address-without-server", "https:///a", "nothing can be downloaded",
                 "use https://"),
    address_case("address-with-blanks", "http://127.0.0.1/a b", "nothing can be",
                 "use https://"),
    address_case("address-with-bad-port", "http://127.0.0.1:port/a", "nothing can be",
                 "use https://"),
    address_case("address-refuses", "http://127.0.0.1:9/a", "refused", MIRROR),
    address_case("address-of-no-file", "/nowhere/data.bin", "no such file",
                 "check the path"),
]  # fmt: skip

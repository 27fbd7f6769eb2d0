"""Hostile and damaged archives: nothing may be written outside, or in part."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs.building import write
from benchmarks.bad_inputs.model import CANARY, Case, Invocation
from benchmarks.laboratory import Laboratory
from phantomscope.acquire.archive import extract

Made = Callable[[Path], bytes]


def archive_case(
    name: str, make: Made | bytes, *expect: str, file: str = "data.zip", **options: Any
) -> Case:
    """Unpack an archive; `make` gets the folder of the case and returns its bytes."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        path = write(folder / "in" / file, make(folder) if callable(make) else make)
        output = folder / "out"
        return Invocation(
            outputs=(output, folder / ".out.partial"),
            function=lambda: extract(path, output, **options),
        )

    return Case(name, "archive", build, (file, *expect))


def zipped(
    *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, rights: int = 0
) -> bytes:
    """Return a zip; `rights` are the Unix mode of each member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile notes that a name is taken
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = rights << 16
            archive.writestr(info, content, method)
    return stream.getvalue()


def tarred(*members: tuple[str, bytes], kind: bytes = b"0", link: str = "") -> bytes:
    """Return a tar; `kind` and `link` are those of each member."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, link
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def edited(data: bytes, *edits: tuple[bytes, int, bytes]) -> bytes:
    """Overwrite bytes at an offset from the last place of a signature."""
    changed = bytearray(data)
    for signature, offset, new in edits:
        place = changed.rindex(signature) + offset
        changed[place : place + len(new)] = new
    return bytes(changed)


FINE = ("images/a.txt", b"content " * 200)
ZIP = zipped(FINE, ("images/b.txt", b"more"))
PACKED = zipped(FINE, method=zipfile.ZIP_DEFLATED)
CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"


def _packed(data: bytes, mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{mode}") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 16
    return bytes(changed)


def _nested(depth: int = 3) -> bytes:
    data = zipped(("zeros", bytes(1 << 26)), method=zipfile.ZIP_DEFLATED)
    for _ in range(depth):
        data = zipped(*((f"{n}.zip", data) for n in range(4)))
    return data


def _unsized(folder: Path) -> bytes:
    """Return a zip whose list says that a member is small, but it is not."""
    data = zipped(("a.txt", bytes(1 << 20)), method=zipfile.ZIP_DEFLATED)
    size = struct.pack("<I", 100)
    return edited(data, (CENTRAL, 24, size), (LOCAL, 22, size))


UNSAFE = ("nothing was unpacked", "do not use this archive")
DAMAGED = ("damaged or cut short", "delete it")
BOMB = ("nothing was unpacked", "it may be made to fill your disk")
PAGE = b"<!DOCTYPE html>\n<html><body>Please sign in</body></html>"
TAR = {"file": "data.tar"}
ESCAPES = [
    archive_case("zip-traversal", zipped(FINE, (f"../{CANARY}", b"x")), *UNSAFE,
                 f"'../{CANARY}'", "leads out"),
    archive_case("zip-traversal-inside", zipped((f"a/../../{CANARY}", b"x")), *UNSAFE,
                 "leads out"),
    archive_case("zip-traversal-of-windows", zipped((f"..\\{CANARY}", b"x")), *UNSAFE,
                 "leads out"),
    archive_case("zip-absolute", lambda f: zipped((str(f / CANARY), b"x")), *UNSAFE,
                 "absolute path"),
    archive_case("zip-drive", zipped(("C:/a.txt", b"x")), *UNSAFE, "absolute path"),
    archive_case("zip-link", zipped(("link", b"/etc/passwd"), rights=0o120777),
                 *UNSAFE, "a link or a device"),
    archive_case("zip-pipe", zipped(("pipe", b""), rights=0o010666), *UNSAFE,
                 "a link or a device"),
    archive_case("zip-control-character", zipped(("a\nb", b"x")), *UNSAFE,
                 "control character"),
    archive_case("tar-traversal", tarred((f"../{CANARY}", b"x")), *UNSAFE, "leads out",
                 **TAR),
    archive_case("tar-absolute", lambda f: tarred((str(f / CANARY), b"x")), *UNSAFE,
                 "absolute path", **TAR),
    archive_case("tar-symbolic-link",
                 tarred(("link", b""), kind=tarfile.SYMTYPE, link="../.."), *UNSAFE,
                 "a link or a device", **TAR),
    archive_case("tar-hard-link",
                 tarred(("link", b""), kind=tarfile.LNKTYPE, link="/etc/passwd"),
                 *UNSAFE, "a link or a device", **TAR),
    archive_case("tar-device", tarred(("disk", b""), kind=tarfile.BLKTYPE), *UNSAFE,
                 "a link or a device", **TAR),
    archive_case("tar-terminal", tarred(("tty", b""), kind=tarfile.CHRTYPE), *UNSAFE,
                 "a link or a device", **TAR),
    archive_case("tar-pipe", tarred(("pipe", b""), kind=tarfile.FIFOTYPE), *UNSAFE,
                 "a link or a device", **TAR),
]  # fmt: skip

BOMBS = [
    archive_case("zip-bomb",
                 lambda f: zipped(("a", bytes(1 << 28)), method=zipfile.ZIP_DEFLATED),
                 *BOMB, "unpacks to more than"),
    archive_case("tar-bomb", lambda f: _packed(bytes(1 << 28), "gz"), *BOMB,
                 "unpacks to more than", file="data.tar.gz"),
    archive_case("zip-of-bombs", lambda f: _nested(), *BOMB, most_bytes=1 << 20),
    archive_case("zip-claims-terabytes",
                 edited(ZIP, (CENTRAL, 24, struct.pack("<I", 0xFFFFFFF0))), *BOMB,
                 "unpacks to more than"),
    archive_case("zip-claims-little", _unsized, *DAMAGED),
    archive_case("zip-of-very-many", zipped(*((f"{n}", b"") for n in range(300))),
                 *BOMB, "more than 200 members", most_members=200),
]  # fmt: skip

BROKEN = [
    archive_case("zip-same-name", zipped(("a.txt", b"1"), ("a.txt", b"2")), *UNSAFE,
                 "stands in it twice"),
    archive_case("zip-file-and-folder", zipped(("a", b"1"), ("a/b", b"2")), *UNSAFE,
                 "a file and a folder"),
    archive_case("zip-encrypted",
                 edited(ZIP, (CENTRAL, 8, b"\1\0"), (LOCAL, 6, b"\1\0")),
                 "is encrypted", "unpack it with its password"),
    archive_case("zip-cut", ZIP[:-30], *DAMAGED),
    archive_case("zip-beginning-lost", LOCAL + ZIP[500:], *DAMAGED),
    archive_case("zip-checksum", _flipped(ZIP, 100), *DAMAGED, "CRC"),
    archive_case("zip-stream-damaged", _flipped(PACKED, 45), *DAMAGED),
    archive_case("zip-names-disagree", edited(ZIP, (LOCAL, 30, b"x")), *DAMAGED),
    archive_case("zip-unknown-method",
                 edited(ZIP, (CENTRAL, 10, b"\x63\0"), (LOCAL, 8, b"\x63\0")),
                 *DAMAGED),
    archive_case("zip-of-nothing", zipped(), "no file in this archive", "nothing"),
    archive_case("zip-without-match", ZIP, "matches *.tif", "'images/a.txt'",
                 "adapt the pattern", members=["*.tif"]),
    archive_case("tar-cut", tarred(FINE, FINE)[:2600], *DAMAGED, **TAR),
    archive_case("tar-gz-cut", _packed(bytes(range(256)) * 9, "gz")[:-40], *DAMAGED,
                 file="data.tgz"),
    archive_case("tar-xz-damaged", _flipped(_packed(bytes(range(256)) * 9, "xz"), 60),
                 *DAMAGED, file="data.tar.xz"),
    archive_case("tar-header-damaged", _flipped(tarred(FINE, ("b", b"")), 2560 + 3),
                 *DAMAGED, **TAR),
    archive_case("page-as-zip", PAGE, "a web page (HTML)", "for a login"),
    archive_case("empty-zip", b"", "an empty file", "use an archive of these kinds"),
    archive_case("words-as-zip", b"no archive", "an unknown format", "of these kinds"),
    archive_case("rar-as-zip", b"Rar!\x1a\7\1\0" + bytes(99), "a RAR archive",
                 "of these kinds"),
]  # fmt: skip


def _missing(folder: Path, lab: Laboratory) -> Invocation:
    path, output = folder / "none.zip", folder / "out"
    return Invocation(outputs=(output,), function=lambda: extract(path, output))


def _over_others(folder: Path, lab: Laboratory) -> Invocation:
    path, output = write(folder / "data.zip", ZIP), folder / "thesis"
    write(output / "chapter.txt", "precious")
    return Invocation(outputs=(output,), function=lambda: extract(path, output))


ARCHIVES = [
    *ESCAPES,
    *BOMBS,
    *BROKEN,
    Case("zip-missing", "archive", _missing, ("none.zip", "no such file", "the path")),
    Case("zip-over-others", "archive", _over_others,
         ("not of this program", "/thesis", "choose another output folder")),
]  # fmt: skip

"""Archives: what is unpacked, what is refused, and that damage never gets through."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.acquire import archive as module
from phantomscope.acquire.archive import extract, members, open_archive
from phantomscope.errors import PhantomscopeError

FILES = {
    "a/images/1.txt": b"one" * 50,
    "a/masks/1.txt": b"",
    "b/images/2.txt": bytes(range(256)) * 9,
}


def make_zip(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def make_tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


MAKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": make_zip,
    "tar": lambda files: make_tar(files, "w:"),
    "tar.gz": lambda files: make_tar(files, "w:gz"),
    "tar.bz2": lambda files: make_tar(files, "w:bz2"),
    "tar.xz": lambda files: make_tar(files, "w:xz"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(content: bytes, place: Path, **options: Any) -> str:
    """The message; nothing is left, and nothing was written outside."""
    place.write_bytes(content)
    with pytest.raises(PhantomscopeError) as caught:
        extract(place, place.with_name("out"), **options)
    assert caught.value.fix
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    return str(caught.value)


# What works


@pytest.mark.parametrize("kind", MAKERS)
def test_round_trip(kind: str, place: Path) -> None:
    place.write_bytes(MAKERS[kind](FILES))
    extract(place, place.with_name("out"))
    assert contents(place.with_name("out")) == FILES
    assert dict(members(place)) == FILES
    assert sorted(path.name for path in place.parent.iterdir()) == ["archive", "out"]


@pytest.mark.parametrize("kind", MAKERS)
def test_a_selection(kind: str, place: Path) -> None:
    place.write_bytes(MAKERS[kind](FILES))
    extract(place, place.with_name("out"), members=["*/images/*"])
    assert set(contents(place.with_name("out"))) == {"a/images/1.txt", "b/images/2.txt"}
    assert [name for name, _ in members(place, ["b/*", "x"])] == ["b/images/2.txt"]
    with pytest.raises(PhantomscopeError, match="no file in this archive matches x/"):
        list(members(place, ["x/*"]))


def test_members_are_read_in_any_order(place: Path) -> None:
    place.write_bytes(make_tar(FILES))
    with open_archive(place) as found:
        for name in reversed(FILES):
            assert found.read(name) == FILES[name]


def test_names_are_made_plain(place: Path) -> None:
    place.write_bytes(make_zip({"./a//b\\c.txt": b"1", "d/": b"", "é .txt": b"2"}))
    extract(place, place.with_name("out"))
    assert contents(place.with_name("out")) == {"a/b/c.txt": b"1", "é .txt": b"2"}
    assert (place.with_name("out") / "d").is_dir()


def test_rights_of_the_archive_are_not_taken(place: Path) -> None:
    info = zipfile.ZipInfo("a.sh")
    info.external_attr = (stat.S_IFREG | 0o4777) << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(info, "x")
    place.write_bytes(stream.getvalue())
    extract(place, place.with_name("out"))
    assert not (place.with_name("out") / "a.sh").stat().st_mode & 0o7111


def test_what_was_left_by_a_killed_process_is_replaced(place: Path) -> None:
    place.write_bytes(make_zip(FILES))
    left = place.with_name(".out.partial")
    left.mkdir()
    (left / "old").touch()
    extract(place, place.with_name("out"))
    assert contents(place.with_name("out")) == FILES
    assert not left.exists()


def test_a_folder_of_somebody_else_is_not_replaced(place: Path) -> None:
    place.write_bytes(make_zip(FILES))
    other = place.with_name("out")
    other.mkdir()
    (other / "mine").touch()
    with pytest.raises(PhantomscopeError, match="nothing was changed"):
        extract(place, other)
    assert [path.name for path in other.iterdir()] == ["mine"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_the_same_member_twice(make: Any, place: Path) -> None:
    place.write_bytes(make({"a": b"1", "./a": b"1"}))
    assert dict(members(place)) == {"a": b"1"}


def test_the_same_folder_twice(place: Path) -> None:
    place.write_bytes(make_zip({"c/": b"", "c//": b"", "c/a": b"1"}))
    assert dict(members(place)) == {"c/a": b"1"}


# Members that lead elsewhere


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil", "leads out of the folder"),
        ("a/../../evil", "leads out of the folder"),
        ("a\\..\\..\\evil", "leads out of the folder"),
        ("..", "leads out of the folder"),
        ("/etc/evil", "has an absolute path"),
        ("\\evil", "has an absolute path"),
        ("C:\\evil", "has an absolute path"),
        ("c:evil", "has an absolute path"),
        ("a\nb", "has a control character"),
    ],
)
def test_names_that_lead_elsewhere(
    kind: str, name: str, message: str, place: Path
) -> None:
    text = refused(MAKERS[kind]({"good": b"1", name: b"2"}), place)
    assert message in text
    assert repr(name) in text


TYPES = {
    "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE,
    "device": tarfile.CHRTYPE, "disk": tarfile.BLKTYPE,
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_special_members_of_a_tar(kind: str, place: Path) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = TYPES[kind], "good"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("good"))
        archive.addfile(info)
    assert "'link' is a link or a device" in refused(stream.getvalue(), place)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_special_members_of_a_zip(kind: int, place: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("good", "x")
        archive.writestr(info, "/etc/passwd")
    assert "'link' is a link or a device" in refused(stream.getvalue(), place)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/b", "./a/b"), "'a/b' stands in it twice, differently"),
        (("a", "a/b"), "'a' is a file and a folder"),
        (("a/b", "a"), "'a' is a file and a folder"),
    ],
)
def test_members_that_contradict(
    make: Any, names: tuple[str, str], message: str, place: Path
) -> None:
    assert message in refused(make(dict(zip(names, (b"1", b"2"), strict=True))), place)


def test_an_encrypted_member(place: Path) -> None:
    content = bytearray(make_zip({"a": b"1"}))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    assert "'a' is encrypted" in refused(bytes(content), place)


# Bombs


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb(kind: str, place: Path) -> None:
    text = refused(MAKERS[kind]({"bomb": bytes(80 << 20)}), place)
    assert "unpacks to more than" in text
    assert "nothing was unpacked" in text


def test_limits(place: Path) -> None:
    archive = make_zip({str(number): b"x" * 100 for number in range(10)})
    assert "unpacks to more than 999 bytes" in refused(archive, place, most_bytes=999)
    assert "more than 9 members" in refused(archive, place, most_members=9)
    extract(place, place.with_name("out"), most_bytes=1000, most_members=10)
    assert len(contents(place.with_name("out"))) == 10


def test_a_member_that_is_larger_than_it_declares(place: Path) -> None:
    """The size in a zip is a claim; what comes out of it is counted."""
    content = bytearray(make_zip({"a": b"x" * 100_000}))
    entry = content.index(b"PK\1\2")
    content[entry + 24 : entry + 28] = struct.pack("<I", 100)
    text = refused(bytes(content), place, most_bytes=1000)
    assert "damaged or cut short" in text


def test_much_behind_the_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 1 << 16)
    place.write_bytes(make_tar(FILES, "w:") + bytes(1 << 15))
    assert dict(members(place)) == FILES
    assert "behind the end" in refused(make_tar(FILES, "w:") + bytes(1 << 17), place)


# Damage


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"hello", "an unknown format"),
        (b"  <!DOCTYPE HTML><html>", "a web page (HTML)"),
        (b"<html lang='en'>", "a web page (HTML)"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07", "a RAR archive"),
        (b"PK\3\4", "damaged or cut short"),
        (b"\x1f\x8b\x08", "damaged or cut short"),
    ],
)
def test_what_is_no_archive(content: bytes, message: str, place: Path) -> None:
    assert message in refused(content, place)


def test_a_missing_archive(place: Path) -> None:
    with pytest.raises(PhantomscopeError, match="no such file"):
        extract(place, place.with_name("out"))


def test_a_damaged_member_leaves_nothing(place: Path) -> None:
    content = bytearray(make_zip(FILES))
    content[content.index(b"b/images") + 40] ^= 0xFF
    assert "damaged or cut short" in refused(bytes(content), place)


@pytest.mark.parametrize("kind", MAKERS)
def test_every_truncation_is_noticed(kind: str, place: Path) -> None:
    content = MAKERS[kind](FILES)
    # The last block of zeros of a plain tar is padding.
    last = len(content) - (tarfile.RECORDSIZE if kind == "tar" else 1)
    end = len(content.rstrip(b"\0")) if kind == "tar" else last
    for length in range(0, min(end, last) + 1, max(1, end // 150)):
        refused(content[:length], place)


SMALL_FILES = {"a/1.txt": b"one" * 50, "a/2.txt": b"", "b/3.txt": bytes(range(99))}
ORIGINALS = {
    "stored": make_zip(SMALL_FILES, zipfile.ZIP_STORED),
    **{kind: make(SMALL_FILES) for kind, make in MAKERS.items() if kind != "tar"},
}


def outcome(place: Path) -> dict[str, bytes] | str:
    """What `extract` leaves, or its error; nothing else is left."""
    folder = place.with_name("out")
    try:
        extract(place, folder)
    except PhantomscopeError as error:
        assert [path.name for path in place.parent.iterdir()] == [place.name]
        return str(error)
    found = contents(folder)
    shutil.rmtree(folder)
    return found


@given(data=st.data(), kind=st.sampled_from(sorted(ORIGINALS)))
@settings(max_examples=300, deadline=None)
def test_damage_gives_the_right_files_or_an_error(
    data: st.DataObject, kind: str
) -> None:
    content = bytearray(ORIGINALS[kind])
    places = st.integers(0, len(content) - 1)
    flips = st.lists(st.tuples(places, st.integers(1, 255)), max_size=4)
    for position, change in data.draw(flips):
        content[position] ^= change
    length = data.draw(st.one_of(st.just(len(content)), places))
    with TemporaryDirectory() as folder:
        place = Path(folder) / "archive"
        place.write_bytes(content[:length])
        found = outcome(place)
    assert found == SMALL_FILES or "mend:" in found


@pytest.mark.parametrize("kind", sorted(ORIGINALS))
def test_every_changed_byte_gives_the_right_files_or_an_error(
    kind: str, place: Path
) -> None:
    """One after the other: what random flips may miss."""
    original, silent = ORIGINALS[kind], []
    for position in range(len(original)):
        content = bytearray(original)
        content[position] ^= 0x41
        place.write_bytes(content)
        try:
            found = dict(members(place))
        except PhantomscopeError:
            continue
        if found != SMALL_FILES:
            silent.append(position)
    assert not silent

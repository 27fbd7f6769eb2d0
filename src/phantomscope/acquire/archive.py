"""Archives (zip, tar): every member is checked before anything is read or written."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, Literal

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import check_replaceable, replace_folder
from phantomscope.locks import only_writer
from phantomscope.progress import Progress

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MOST_BYTES = 500 * 10**9
MOST_MEMBERS = 5_000_000
# Of a whole archive, beyond its first 64 MiB. Label images alone come near to it.
MOST_RATIO = 300
SMALL = 64 << 20
CHUNK = 1 << 20

_TAR_MODES: dict[bytes, Literal["r:gz", "r:bz2", "r:xz"]] = {
    b"\x1f\x8b": "r:gz",
    b"BZh": "r:bz2",
    b"\xfd7zXZ\0": "r:xz",
}
_OTHERS = {b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive", b"%PDF": "a PDF"}
DAMAGED = "delete it and run the same command again: it is downloaded anew"


@dataclass(frozen=True)
class Member:
    """A member of an archive; `name` is a safe relative path with ``/``."""

    name: str
    size: int
    is_folder: bool
    raw: Any = field(repr=False)


def _unsafe(what: str, name: str, path: Path) -> PhantomscopeError:
    return PhantomscopeError(
        f"the member {name!r} {what}; nothing was unpacked",
        where=path,
        fix="do not use this archive: get it from its publisher, or pack it again",
    )


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Explain what decoders raise: anything from `zlib.error` to `IndexError`."""
    try:
        yield
    except PhantomscopeError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PhantomscopeError(
            f"this archive is damaged or cut short ({reason})", where=path, fix=DAMAGED
        ) from error


def safe_name(name: str, path: Path) -> str:
    """Return the name as a relative path; empty for the root itself."""
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or re.match(r"[A-Za-z]:", name):
        raise _unsafe("has an absolute path", name, path)
    if ".." in parts:
        raise _unsafe("leads out of the folder", name, path)
    if re.search(r"[\0-\x1f\x7f]", name):
        raise _unsafe("has a control character in its name", name, path)
    return "/".join(part for part in parts if part not in ("", "."))


def zip_members(
    archive: zipfile.ZipFile, stream: IO[bytes], path: Path, *, compare: bool = True
) -> Iterator[Member]:
    """List the members of a zip; refuse what is encrypted or no file or folder.

    With `compare` the name of each is compared with the one before its content.
    """
    infos = archive.infolist()
    # The end record counts the entries; a damaged directory may hide some.
    stream.seek(-22 - len(archive.comment), 2)
    (count,) = struct.unpack("<10xH10x", stream.read(22))
    if count not in (len(infos), 0xFFFF):
        raise ValueError(f"{len(infos)} members are listed, {count} are counted")
    for info in infos:
        is_folder = info.filename.replace("\\", "/").endswith("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR if is_folder else 0):
            raise _unsafe("is a link or a device", info.filename, path)
        if info.flag_bits & 0x1:
            raise PhantomscopeError(
                f"the member {info.filename!r} is encrypted",
                where=path,
                fix="unpack it with its password, and pack it again without",
            )
        if is_folder and info.file_size:
            raise ValueError(f"the folder {info.filename!r} has content")
        if compare:
            archive.open(info).close()
        name = safe_name(info.filename, path)
        yield Member(name, info.file_size, is_folder, info)


def _tar_members(archive: tarfile.TarFile, path: Path) -> Iterator[Member]:
    """List the members of a tar; refuse links, devices and what lacks its end."""
    for info in archive:
        if not (info.isreg() or info.isdir()):
            raise _unsafe("is a link or a device", info.name, path)
        name = safe_name(info.name, path)
        # Python's own check comes on top; 3.11 has it since 3.11.4.
        if hasattr(tarfile, "data_filter"):
            tarfile.data_filter(info, str(path.parent))
        yield Member(name, info.size, info.isdir(), info)
    # Python takes a damaged header for the end; the true end is a block of zeros.
    stream: Any = archive.fileobj
    stream.seek(archive.offset)
    if stream.read(512) != bytes(512):
        raise ValueError("the end is missing")
    # Checksums of compressed files are compared at their very end.
    rest = 0
    while chunk := stream.read(CHUNK):
        rest += len(chunk)
        if rest > SMALL:
            raise ValueError("there is more behind the end")


@dataclass
class Archive:
    """An archive that passed all checks of its list of members; see `open_archive`."""

    path: Path
    handle: zipfile.ZipFile | tarfile.TarFile
    members: dict[str, Member] = field(default_factory=dict)

    @contextmanager
    def _content(self, member: Member) -> Iterator[IO[bytes]]:
        with _explain_damage(self.path):
            if isinstance(self.handle, zipfile.ZipFile):
                stream: Any = self.handle.open(member.raw)
            else:
                stream = self.handle.extractfile(member.raw)
        with stream:
            yield stream

    def chunks(self, member: Member) -> Iterator[bytes]:
        """Yield the content of a file part by part, never more than it declares."""
        done = 0
        with self._content(member) as stream:
            while True:
                with _explain_damage(self.path):
                    chunk = stream.read(CHUNK)
                    done += len(chunk)
                    if done > member.size or (not chunk and done < member.size):
                        raise ValueError(f"{member.name!r} is not of its stated size")
                if not chunk:
                    return
                yield chunk

    def read(self, name: str) -> bytes:
        """Read one file into memory, by its name in `members`."""
        with _explain_damage(self.path):
            return b"".join(self.chunks(self.members[name]))

    def select(self, patterns: Sequence[str] | None = None) -> list[Member]:
        """Return the members that match any pattern (`fnmatch`), in their order."""
        found = [
            member
            for name, member in self.members.items()
            if patterns is None or any(fnmatchcase(name, p) for p in patterns)
        ]
        if not any(not member.is_folder for member in found):
            names = [repr(name) for name in list(self.members)[:3]]
            raise PhantomscopeError(
                f"no file in this archive matches {', '.join(patterns or ['*'])}; it "
                f"holds {', '.join(names) or 'nothing'}",
                where=self.path,
                fix="adapt the pattern to the names of its members",
            )
        return found

    def _digest(self, member: Member) -> bytes:
        digest = hashlib.sha256()
        for chunk in self.chunks(member):
            digest.update(chunk)
        return digest.digest()

    def _add(self, member: Member) -> None:
        """Add a member; a second one of its name must be the same."""
        other = self.members.setdefault(member.name, member)
        if other is member or (other.is_folder and member.is_folder):
            return
        alike = other.is_folder == member.is_folder and other.size == member.size
        if not alike or self._digest(other) != self._digest(member):
            raise _unsafe("stands in it twice, differently", member.name, self.path)

    def fill(self, found: Iterator[Member], most_bytes: int, most_members: int) -> None:
        """Take the members in; refuse too many, too large ones and contradictions."""
        packed = self.path.stat().st_size
        most = min(most_bytes, max(SMALL, MOST_RATIO * packed))
        total = 0
        for count, member in enumerate(found, 1):
            total += member.size
            if count > most_members:
                raise self._bomb(f"holds more than {most_members} members")
            if total > most:
                raise self._bomb(f"of {packed} bytes unpacks to more than {most} bytes")
            if member.name:
                self._add(member)
        for name in self.members:
            parent = self.members.get(name.rpartition("/")[0])
            if parent is not None and not parent.is_folder:
                raise _unsafe("is a file and a folder", parent.name, self.path)

    def _bomb(self, what: str) -> PhantomscopeError:
        return PhantomscopeError(
            f"this archive {what}; nothing was unpacked",
            where=self.path,
            fix="it may be made to fill your disk: make sure where it is from; unpack "
            "a good one by hand and use it with `source.kind: folder`",
        )


def _tar_mode(path: Path, stream: IO[bytes]) -> str:
    """Return how to open a tar, or an empty string for a zip, by the first bytes."""
    head = stream.read(512)
    stream.seek(0)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return ""
    for magic, mode in _TAR_MODES.items():
        if head.startswith(magic):
            return mode
    if head[257:262] == b"ustar":
        return "r:"
    what = "an unknown format" if head else "an empty file"
    for magic, name in _OTHERS.items():
        what = name if head.startswith(magic) else what
    fix = f"use an archive of these kinds: {', '.join(SUFFIXES)}"
    if re.match(rb"\s*(<!doctype|<html|<\?xml|<head)", head, re.IGNORECASE):
        what = "a web page (HTML)"
        fix = (
            "delete it; the server sent a page instead, perhaps for a login: open the "
        )
        fix += "address in a browser to see it"
    raise PhantomscopeError(f"this is {what}, not an archive", where=path, fix=fix)


@contextmanager
def open_archive(
    path: Path, *, most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS
) -> Iterator[Archive]:
    """Open an archive and check the list of its members.

    Parameters
    ----------
    path : Path
        A zip, or a tar that may be compressed by gzip, bzip2 or xz; known by its first
        bytes. Compressed tars are read as a whole for this check.
    most_bytes : int
        Most bytes that the members may have together; also at most 300 times the size
        of an archive that unpacks to more than 64 MiB.
    most_members : int
        Most members.

    Raises
    ------
    PhantomscopeError
        If it is missing, of another format, damaged, cut short, encrypted or too
        large; if a member is a link or a device, has an absolute path, leads out of
        the folder, or stands in it twice, differently.
    """
    with ExitStack() as stack:
        with explain_os_errors(path):
            stream = stack.enter_context(path.open("rb"))
            mode = _tar_mode(path, stream)
        with _explain_damage(path):
            if mode:
                tar = stack.enter_context(tarfile.open(fileobj=stream, mode=mode))  # type: ignore[call-overload]
                archive, found = Archive(path, tar), _tar_members(tar, path)
            else:
                zipped = stack.enter_context(zipfile.ZipFile(stream))
                archive = Archive(path, zipped)
                found = zip_members(zipped, stream, path)
            archive.fill(found, most_bytes, most_members)
        yield archive


def members(
    path: Path, patterns: Sequence[str] | None = None, *,
    most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS,
) -> Iterator[tuple[str, bytes]]:  # fmt: skip
    """Yield name and content of each file of an archive; nothing is unpacked.

    Parameters and errors are those of `extract`.
    """
    with open_archive(path, most_bytes=most_bytes, most_members=most_members) as found:
        for member in found.select(patterns):
            if not member.is_folder:
                yield member.name, found.read(member.name)


def extract(
    archive: Path, folder: Path, *, members: Sequence[str] | None = None,
    most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS,
) -> None:  # fmt: skip
    """Unpack an archive into a new folder; all of it or nothing.

    Parameters
    ----------
    archive : Path
        See `open_archive`.
    folder : Path
        New folder. Files get the rights that new files have; links are refused.
    members : sequence of str, optional
        Patterns (`fnmatch`, ``*`` also matches ``/``) of what to unpack.
    most_bytes, most_members : int
        See `open_archive`.

    Raises
    ------
    PhantomscopeError
        As `open_archive`; if nothing matches; if content is damaged or larger than
        declared; if the folder cannot be written or holds other files.
    """
    check_replaceable(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    with (
        open_archive(
            archive, most_bytes=most_bytes, most_members=most_members
        ) as found,
        only_writer(folder),
        explain_os_errors(folder),
    ):
        chosen = found.select(members)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            with Progress("unpacking", len(chosen), unit="files") as progress:
                for member in chosen:
                    _unpack(found, member, partial)
                    progress.advance()
            replace_folder(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _unpack(archive: Archive, member: Member, folder: Path) -> None:
    target = folder / member.name
    if member.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Never over another file: names may differ only in case.
    with target.open("xb") as stream:
        for chunk in archive.chunks(member):
            stream.write(chunk)

"""Members of a zip that is elsewhere: a part of it, without all the rest.

The list of members stands at the end of a zip (APPNOTE.TXT of PKWARE, 4.3; its 64 bit
form 4.3.14). Each member is fetched by one range, compared with its checksum, and put
into a smaller zip of the same layout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from phantomscope.acquire.archive import (
    MOST_BYTES,
    MOST_RATIO,
    SMALL,
    safe_name,
    zip_members,
)
from phantomscope.acquire.download import pin_of, verify
from phantomscope.acquire.ranges import RangedFile, Window, readable_size
from phantomscope.acquire.web import CHUNK, Patience
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import read_json, write_json
from phantomscope.locks import only_writer
from phantomscope.progress import Progress

_LOCAL = struct.Struct("<4s5H3I2H")
PATIENCE = Patience()
Choose = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class Entry:
    """A member of the zip, and the bytes that it takes: start ... stop - 1."""

    name: str
    start: int
    stop: int
    info: zipfile.ZipInfo

    @property
    def record(self) -> dict[str, Any]:
        """What identifies the member in its archive."""
        info = self.info
        sizes = {"size": info.file_size, "packed": info.compress_size}
        return {"name": self.name, "offset": self.start, "crc32": info.CRC, **sizes}


@contextmanager
def _explain(url: str) -> Iterator[None]:
    """Explain what decoders raise about bytes that came from elsewhere."""
    try:
        yield
    except (PhantomscopeError, OSError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PhantomscopeError(
            f"this archive is damaged or no zip ({reason})",
            where=url,
            fix="check the address; or download the whole file",
            example="source:\n  download: whole",
        ) from error


def read_directory(file: RangedFile) -> dict[str, Entry]:
    """Read the list of members of a zip.

    Returns
    -------
    dict
        Name to member, without folders. Names are safe relative paths.

    Raises
    ------
    PhantomscopeError
        If the file is no zip or damaged; if a member is a link, a device or encrypted,
        has an absolute path or leads out of the folder, or is listed twice.
    """
    path = Path(file.url.rpartition("/")[2] or "archive.zip")
    with _explain(file.url):
        # `zipfile` only seeks and reads.
        window = cast(IO[bytes], Window(file))
        archive = zipfile.ZipFile(window)
        infos = list(zip_members(archive, window, path, compare=False))
        starts = sorted(member.raw.header_offset for member in infos)
        ends = dict(zip(starts, [*starts[1:], archive.start_dir], strict=True))
    entries: dict[str, Entry] = {}
    for member in infos:
        if member.is_folder:
            continue
        start = member.raw.header_offset
        entry = Entry(member.name, start, ends[start], member.raw)
        least = _LOCAL.size + member.raw.compress_size
        if member.name in entries or entry.stop - start < least:
            raise PhantomscopeError(
                f"the member {member.name!r} is listed twice or overlaps another",
                where=file.url,
                fix="do not use this archive: it contradicts itself",
            )
        entries[member.name] = entry
    return entries


def _check_sizes(entries: Sequence[Entry], most_bytes: int, url: str) -> None:
    """Refuse members that unpack to too much."""
    packed = sum(entry.info.compress_size for entry in entries)
    total = sum(entry.info.file_size for entry in entries)
    most = min(most_bytes, max(SMALL, MOST_RATIO * packed))
    if total > most:
        raise PhantomscopeError(
            f"the members that are asked for unpack to {readable_size(total)}, more "
            f"than {readable_size(most)}; nothing was fetched",
            where=url,
            fix="it may be made to fill your disk: make sure where it is from, or ask "
            "for fewer frames",
        )


def content(path: Path, entry: Entry) -> Iterator[bytes]:
    """Yield the content of a member from its bytes in a zip.

    Parameters
    ----------
    path : Path
        Holds bytes start ... stop - 1 of the zip.
    entry : Entry
        What the list of members says.

    Raises
    ------
    ValueError
        If its header has another name, or size or CRC-32 are not as listed.
    """
    info, done, crc = entry.info, 0, 0
    with path.open("rb") as stream:
        header = _LOCAL.unpack(stream.read(_LOCAL.size))
        name = stream.read(header[9])
        encoding = "utf-8" if header[2] & 0x800 else "cp437"
        if header[0] != b"PK\3\4" or name.decode(encoding) != info.orig_filename:
            raise ValueError(f"{entry.name!r} is not where it should be")
        stream.seek(header[10], 1)
        for chunk in _unpacked(stream, info):
            done += len(chunk)
            crc = zlib.crc32(chunk, crc)
            if done > info.file_size:
                break
            yield chunk
    if done != info.file_size:
        raise ValueError(f"{entry.name!r} is not of its stated size")
    if crc != info.CRC:
        raise ValueError(f"{entry.name!r} has the CRC-32 {crc:08x}, not {info.CRC:08x}")


def _unpacked(stream: Any, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield what the next bytes hold, at most `CHUNK` at once."""
    left = info.compress_size
    inflate = zlib.decompressobj(-15) if info.compress_type else None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename!r} is packed by an unknown method")
    while left:
        chunk = stream.read(min(CHUNK, left))
        if not chunk:
            raise ValueError(f"{info.filename!r} is cut short")
        left -= len(chunk)
        if inflate is None:
            yield chunk
            continue
        while chunk:
            yield inflate.decompress(chunk, CHUNK)
            chunk = inflate.unconsumed_tail
    if inflate is not None:
        yield inflate.flush()


def fetch_members(
    url: str, target: Path, choose: Choose, *, size: int | None = None,
    most_bytes: int = MOST_BYTES, patience: Patience = PATIENCE,
) -> str:  # fmt: skip
    """Make a zip of some members of a zip elsewhere, unless it is there already.

    Parameters
    ----------
    url : str
        Address or local path of the whole zip.
    target : Path
        The smaller zip. ``<target>.sha256`` records its hash, where it comes from, and
        place, sizes and CRC-32 of each member there.
    choose : callable
        From all names to those that are wanted.
    size : int, optional
        Expected size of the whole zip in bytes.
    most_bytes : int
        Most bytes that the members may have together.
    patience : Patience
        When to give a connection up.

    Returns
    -------
    str
        SHA-256 of the smaller zip.

    Raises
    ------
    PhantomscopeError
        If the server gives no ranges; if the file is another than expected, changes
        meanwhile, is no zip or a dangerous one; if a member is damaged. No target is
        left then; whole members are kept for the next attempt.
    """
    with explain_os_errors(target), only_writer(target):
        if target.exists():
            return verify(target)
        file = RangedFile(url, patience)
        if size not in (None, file.size):
            raise PhantomscopeError(
                f"another file than expected: {file.size} bytes, the registry says "
                f"{size}",
                where=url,
                fix="check the address; if the publisher changed the file on purpose, "
                "change its size in the registry",
            )
        entries = read_directory(file)
        chosen = [entries[name] for name in choose(list(entries))]
        _check_sizes(chosen, most_bytes, url)
        folder = _parts(target, file)
        _fetch_all(file, chosen, folder)
        made = _pack(chosen, folder)
        digest = _record(target, file, chosen, made)
        os.replace(made, target)
        shutil.rmtree(folder, ignore_errors=True)
    return digest


def _parts(target: Path, file: RangedFile) -> Path:
    """Return the folder of members that arrived; those of another version are gone."""
    folder = target.with_name(f".{target.name}.partial")
    note = folder / "version.json"
    version = {"url": file.url, "size": file.size, "version": file.version}
    try:
        kept = bool(file.version) and read_json(note) == version
    except (PhantomscopeError, OSError):
        kept = False
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(note, version)
    return folder


def _part(folder: Path, entry: Entry) -> Path:
    return folder / f"{entry.start}.member"


def _fetch_all(file: RangedFile, entries: Sequence[Entry], folder: Path) -> None:
    """Fetch the bytes of each member, and compare its content with its checksum."""
    total = sum(entry.stop - entry.start for entry in entries)
    have = {entry.name: _length(_part(folder, entry)) for entry in entries}
    label = f"fetching {len(entries)} members"
    with Progress(
        label, total, start=sum(have.values()), unit="MB", per_step=1e-6
    ) as progress:
        for entry in entries:
            path = _part(folder, entry)
            with path.open("ab") as sink:
                file.fetch(entry.start, entry.stop, sink, progress.advance)
            try:
                with _explain(file.url):
                    for _ in content(path, entry):
                        pass
            except PhantomscopeError:
                path.unlink()  # so that it is fetched anew
                raise


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _pack(entries: Sequence[Entry], folder: Path) -> Path:
    """Put the members into one zip."""
    made = folder / "archive.zip"
    with zipfile.ZipFile(made, "w") as archive:
        for entry in entries:
            info = zipfile.ZipInfo(safe_name(entry.name, made), entry.info.date_time)
            info.compress_type, info.file_size = (
                zipfile.ZIP_DEFLATED,
                entry.info.file_size,
            )
            # Fast: most of it is TIFF, some of which is packed already.
            info._compresslevel = 1  # type: ignore[attr-defined]
            with archive.open(info, "w") as sink:
                for chunk in content(_part(folder, entry), entry):
                    sink.write(chunk)
    return made


def _record(
    target: Path, file: RangedFile, entries: Sequence[Entry], made: Path
) -> str:
    """Write down where the members come from; an older record must be of the same."""
    members = [entry.record for entry in entries]
    pin = pin_of(target)
    if pin.exists():
        old = read_json(pin)
        known = old.get("members") if isinstance(old, dict) else None
        if known is not None and known != members:
            made.unlink()
            raise PhantomscopeError(
                "the publisher's archive is another one than at the first download: "
                "its members differ",
                where=pin,
                fix="if that is on purpose, delete this record and run the same "
                "command again",
            )
    with made.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    origin = {"url": file.url, "whole_size": file.size, "version": file.version}
    date = datetime.now(UTC).date().isoformat()
    found = {"size": made.stat().st_size, "sha256": digest, "date": date}
    write_json(pin, {**origin, **found, "members": members})
    return digest

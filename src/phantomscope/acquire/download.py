"""Downloads: streamed, resumed, checked, and never half-written under a final name.

What arrives goes to a hidden partial file beside the target, which stays when the
transfer breaks off; the next attempt, also of another process, asks only for the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from phantomscope.acquire.archive import SUFFIXES, open_archive
from phantomscope.acquire.web import (
    CHUNK,
    ELSEWHERE,
    Interrupted,
    Patience,
    keep_trying,
    open_url,
    place_of,
    reason_of,
    request_for,
    start_of,
    version_of,
)
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import read_json, write_json
from phantomscope.locks import only_writer
from phantomscope.progress import Progress


def pin_of(target: Path) -> Path:
    """Return the file in which the hash of an unpinned download is written down."""
    return target.with_name(f"{target.name}.sha256")


def _known_hash(target: Path, sha256: str | None) -> tuple[str | None, str]:
    """Return the expected hash, if any, and who says so: the registry or the pin."""
    pin = pin_of(target)
    if sha256 is not None or not pin.exists():
        return sha256, "the registry"
    content = read_json(pin)
    found = content if isinstance(content, dict) else {}
    return str(found.get("sha256")), f"{pin.name} of {found.get('date')}"


def _check(path: Path, target: Path, size: int | None, sha256: str | None) -> str:
    """Return the SHA-256 of a file; a `ValueError` says what is not as expected."""
    expected, by = _known_hash(target, sha256)
    if size not in (None, found := path.stat().st_size):
        raise ValueError(f"it has {found} bytes, the registry says {size}")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if expected is not None and digest != expected:
        raise ValueError(f"its SHA-256 is {digest}, {by} says {expected}")
    return digest


def verify(target: Path, *, size: int | None = None, sha256: str | None = None) -> str:
    """Return the SHA-256 of a downloaded file, if it is the right one.

    Parameters are those of `download`.

    Raises
    ------
    PhantomscopeError
        If it is missing, or not of this size and hash (without `sha256`: that of
        ``<target>.sha256``, if there is one).
    """
    with explain_os_errors(target):
        try:
            return _check(target, target, size, sha256)
        except ValueError as error:
            raise PhantomscopeError(
                f"this is not the expected file: {error}",
                where=target,
                fix="delete it and run the same command again",
            ) from None


def download(
    url: str, target: Path, *, size: int | None = None, sha256: str | None = None,
    timeout: float = 60.0, attempts: int = 6, pause: float = 1.0, shown: bool = True,
) -> str:  # fmt: skip
    """Download a file, or copy it from a folder, unless it is there already.

    Another process that downloads the same file is waited for.

    Parameters
    ----------
    url : str
        Address (``https``, ``http`` or ``file``) or local path.
    target : Path
        Where to put it. If neither `sha256` nor a pin is known, the hash is written
        into ``<target>.sha256`` and compared from then on.
    size : int, optional
        Expected size in bytes.
    sha256 : str, optional
        Expected hash.
    timeout : float
        Seconds without a byte after which a connection is given up.
    attempts : int
        Attempts without progress after which the download is given up.
    pause : float
        Seconds before the second attempt; doubled from one to the next.
    shown : bool
        Whether to show progress; many small files share one display of the caller's.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    PhantomscopeError
        If the file cannot be had, is another than expected, is no archive although
        its name says so, or cannot be written. No target is left then.
    """
    place = place_of(url)
    with explain_os_errors(target), only_writer(target):
        if target.exists():
            digest = verify(target, size=size, sha256=sha256)
            _pin(target, target, url, digest, sha256)
            return digest
        partial = _Partial(target.with_name(f".{target.name}.partial"), url, shown)
        patience = Patience(timeout, attempts, pause)
        resumed = _fetch(place, partial, size, patience)
        try:
            digest = _accept(partial, target, size, sha256)
        except PhantomscopeError:
            # Parts of two versions may have come together: once more, all of it.
            if not resumed:
                raise
            _fetch(place, partial, size, patience)
            digest = _accept(partial, target, size, sha256)
        _pin(target, partial.path, url, digest, sha256)
        os.replace(partial.path, target)
        partial.forget()
    return digest


def _accept(
    partial: _Partial, target: Path, size: int | None, sha256: str | None
) -> str:
    """Return the hash of what arrived; the wrong file is deleted."""
    try:
        digest = _check(partial.path, target, size, sha256)
        unknown = _known_hash(target, sha256)[0] is None
        if unknown and target.name.lower().endswith(SUFFIXES):
            with open_archive(partial.path):
                pass
    except (ValueError, PhantomscopeError) as error:
        partial.forget()
        what = error.what if isinstance(error, PhantomscopeError) else str(error)
        raise PhantomscopeError(
            f"another file than expected arrived: {what}; it was deleted",
            where=partial.url,
            fix="check the address: it may lead to a login page or another version; if "
            "the publisher changed the file on purpose, change or delete its hash",
        ) from error
    return digest


def _pin(target: Path, path: Path, url: str, digest: str, sha256: str | None) -> None:
    """Write down the hash of a file whose publisher states none."""
    if sha256 is None and not pin_of(target).exists():
        date = datetime.now(UTC).date().isoformat()
        size = path.stat().st_size
        pin = {"url": url, "size": size, "sha256": digest, "date": date}
        write_json(pin_of(target), pin)


@dataclass(frozen=True)
class _Partial:
    """The hidden file that grows, and a note of which version of which file it is."""

    path: Path
    url: str
    shown: bool = True

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.stem}.version.partial")

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def kept(self) -> tuple[int, str]:
        """Length of what may be resumed, and what tells its version from others."""
        try:
            note = json.loads(self._note.read_bytes())
            if note["url"] == self.url:
                return self.length, str(note["version"])
        except (OSError, ValueError, LookupError, TypeError):
            pass  # no note, or a torn one: the file is begun anew
        return 0, ""

    def begin(self, version: str) -> None:
        """Begin anew; without a version it cannot be resumed."""
        self.forget()
        if version:
            write_json(self._note, {"url": self.url, "version": version})

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _fetch(
    place: Path | str, partial: _Partial, size: int | None, patience: Patience
) -> bool:
    """Fill the partial file; return whether some of it is of an earlier attempt."""

    def attempt() -> bool:
        if isinstance(place, Path):
            return _copy(place, partial, size)
        return _attempt(partial, size, patience.timeout)

    return keep_trying(
        attempt,
        lambda: partial.length,
        partial.url,
        patience,
        lambda: partial.kept()[0],
    )


def _copy(source: Path, partial: _Partial, size: int | None) -> bool:
    """Copy a file of a mirror folder, always all of it."""
    partial.begin("")
    with explain_os_errors(source):
        stream = source.open("rb")
    with stream:
        _receive(stream, partial, source.stat().st_size, size)
    return False


def _attempt(partial: _Partial, size: int | None, timeout: float) -> bool:
    """Ask once for what is missing; return whether something was there before."""
    offset, version = partial.kept()
    if offset and offset == size:
        return True
    headers = {"Range": f"bytes={offset}-", "If_Range": version} if offset else {}
    request = request_for(partial.url, **headers)
    with open_url(request, timeout) as response:
        start, now = start_of(response, offset), version_of(response)
        if start == offset > 0 and response.status == 416:
            return True
        if start not in (0, offset) or (start and now not in ("", version)):
            partial.forget()
            raise Interrupted("the file on the server has changed", wait=0)
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        if size is not None and total not in (None, size):
            raise PhantomscopeError(
                f"another file than expected: {total} bytes, the registry says {size}",
                where=partial.url,
                fix=f"check the address: it may lead to a login page; {ELSEWHERE}",
            )
        if start == 0:
            partial.begin(now)
        _receive(response, partial, total, size)
    return start > 0


def _receive(
    stream: Any, partial: _Partial, total: int | None, size: int | None
) -> None:
    """Append what comes to the partial file, up to its end."""
    done, most = partial.length, total or size or 0
    label = f"fetching {partial.path.stem[1:]}"
    progress = Progress(label, most, start=done, unit="MB", per_step=1e-6)
    # Without a total there is no share to show.
    watched = bool(most) and partial.shown
    with progress if watched else nullcontext(), partial.path.open("ab") as file:
        while size is None or done <= size:
            try:
                chunk = stream.read1(CHUNK)
            except (OSError, HTTPException) as error:
                if watched:
                    progress.advance(0)  # ends here if we were asked to stop
                raise Interrupted(reason_of(error)) from error
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            if watched:
                progress.advance(len(chunk))
    if done < most:
        raise Interrupted(f"the connection ended after {done} of {most} bytes")

"""Reading parts of a file on a web server, or of a local one, by byte ranges."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from phantomscope.acquire.web import (
    CHUNK,
    Interrupted,
    Patience,
    keep_trying,
    open_url,
    place_of,
    reason_of,
    request_for,
    version_of,
)
from phantomscope.errors import PhantomscopeError, explain_os_errors

# Read at once from the end, where a zip has its list of members.
TAIL = 1 << 17
# The list of five million members, the most that an archive may have, is of this size.
MOST_AT_ONCE = 1 << 29


def readable_size(size: int) -> str:
    """Write a number of bytes as people do, such as ``22.1 GB``."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"


class RangedFile:
    """A file of which parts can be had.

    Parameters
    ----------
    url : str
        Address (``https``, ``http`` or ``file``) or local path.
    patience : Patience
        When to give a connection up.

    Attributes
    ----------
    size : int
        Of the whole file, in bytes.
    version : str
        What tells this version of it from others; empty if the server says nothing.

    Raises
    ------
    PhantomscopeError
        If the file is not there, or the server gives no ranges.
    """

    def __init__(self, url: str, patience: Patience) -> None:
        self.url, self.patience = url, patience
        self._place = place_of(url)
        if isinstance(self._place, Path):
            with explain_os_errors(self._place):
                found = self._place.stat()
            self.size, self.version = found.st_size, f"{found.st_mtime_ns}"
        else:
            self.size, self.version = keep_trying(self._ask, lambda: 0, url, patience)

    def _ask(self) -> tuple[int, str]:
        """Ask for the first byte: the answer says how many there are."""
        request = request_for(self.url, Range="bytes=0-0")
        with open_url(request, self.patience.timeout) as response:
            content = response.headers.get("Content-Range", "")
            match = re.fullmatch(r"bytes (?:0-0|\*)/(\d+)", content)
            if response.status in (206, 416) and match:
                return int(match[1]), version_of(response)
            length = response.headers.get("Content-Length", "")
        size = f", {readable_size(int(length))}," if length.isdecimal() else ""
        raise PhantomscopeError(
            "this server gives no parts of files, so that single images cannot be "
            "fetched",
            where=self.url,
            fix=f"download the whole file{size} by an option, or put a copy of it into "
            "a folder and name that in `source.mirror`",
            example="source:\n  download: whole",
        )

    def fetch(
        self, start: int, stop: int, sink: IO[bytes],
        noted: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Append what is missing of bytes start ... stop - 1 to `sink`.

        Parameters
        ----------
        start, stop : int
            Bytes of the file, the end excluded.
        sink : binary file
            Begins with what has arrived already, and stands at its end.
        noted : callable
            Told the number of bytes that have come.
        """

        def attempt() -> None:
            if isinstance(self._place, Path):
                self._copy(self._place, start + sink.tell(), stop, sink, noted)
            else:
                self._receive(start + sink.tell(), stop, sink, noted)

        if start + sink.tell() < stop:
            keep_trying(attempt, sink.tell, self.url, self.patience)

    def _copy(
        self, path: Path, start: int, stop: int, sink: IO[bytes],
        noted: Callable[[int], None],
    ) -> None:  # fmt: skip
        with explain_os_errors(path):
            stream = path.open("rb")
        with stream:
            stream.seek(start)
            self._append(stream.read, stop - start, sink, noted)

    def _receive(
        self, start: int, stop: int, sink: IO[bytes], noted: Callable[[int], None]
    ) -> None:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if self.version:
            headers["If_Range"] = self.version
        request = request_for(self.url, **headers)
        with open_url(request, self.patience.timeout) as response:
            content = response.headers.get("Content-Range", "")
            now = version_of(response)
            expected = f"bytes {start}-{stop - 1}/{self.size}"
            if content != expected or now not in ("", self.version):
                raise self._changed(response.status, content)
            self._append(response.read1, stop - start, sink, noted)

    def _changed(self, status: int, content: str) -> PhantomscopeError:
        answer = content or f"the whole file (status {status})"
        return PhantomscopeError(
            "the file on the server has changed while parts of it were fetched: it had "
            f"{self.size} bytes, now there comes {answer}",
            where=self.url,
            fix="run the same command again: what was fetched is dropped, and fetched "
            "anew",
        )

    def _append(
        self, read: Callable[[int], bytes], length: int, sink: IO[bytes],
        noted: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Append so many bytes; what comes beyond is not taken."""
        left = length
        while left:
            try:
                chunk = read(min(CHUNK, left))
            except (OSError, HTTPException) as error:
                raise Interrupted(reason_of(error)) from error
            if not chunk:
                raise Interrupted(f"the connection ended {left} bytes too early")
            sink.write(chunk)
            left -= len(chunk)
            noted(len(chunk))

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes start ... stop - 1."""
        buffer = io.BytesIO()
        self.fetch(start, stop, buffer)
        return buffer.getvalue()


class Window(io.RawIOBase):
    """What `zipfile` needs to read the list of members of a file that is elsewhere."""

    def __init__(self, file: RangedFile) -> None:
        super().__init__()
        self._file, self._at = file, 0
        self._from = max(0, file.size - TAIL)
        self._tail = file.read(self._from, file.size)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from any place."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a byte, counted from the start, from here or from the end."""
        base = (0, self._at, self._file.size)[whence]
        if base + offset < 0:
            raise OSError("before the start of the file")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> Any:
        """Return so many bytes, or all up to the end."""
        end = self._file.size
        stop = end if size is None or size < 0 else min(self._at + size, end)
        start = self._at
        if stop <= start:
            return b""
        if stop - start > MOST_AT_ONCE:
            raise ValueError(f"the list of its members is of {stop - start} bytes")
        self._at = stop
        if start >= self._from:
            return self._tail[start - self._from : stop - self._from]
        return self._file.read(start, stop)

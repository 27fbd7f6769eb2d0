"""What all ways of downloading share: addresses, requests, answers and patience."""

from __future__ import annotations

import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from phantomscope import __version__
from phantomscope.errors import PhantomscopeError

T = TypeVar("T")
CHUNK = 1 << 20
LONGEST_PAUSE = 300.0
# Request timeout and too many requests; all of 5xx are tried again, too.
TRIED_AGAIN = (408, 429)
ELSEWHERE = (
    "or fetch the file by other means, put it into a folder under its name in the "
    "registry, and name that folder in `source.mirror`"
)


class Interrupted(Exception):
    """The transfer broke off and may be tried again; what arrived is kept."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """When to give up.

    Attributes
    ----------
    timeout : float
        Seconds without a byte after which a connection is given up.
    attempts : int
        Attempts without progress after which a download is given up.
    pause : float
        Seconds before the second attempt; doubled from one to the next.
    """

    timeout: float = 60.0
    attempts: int = 6
    pause: float = 1.0


def keep_trying(
    attempt: Callable[[], T], length: Callable[[], int], url: str, patience: Patience,
    kept: Callable[[], int] | None = None,
) -> T:  # fmt: skip
    """Call `attempt` until it is not interrupted, with longer and longer pauses.

    Parameters
    ----------
    attempt : callable
        Raises `Interrupted` for what may be tried again.
    length : callable
        How many bytes have arrived: a long file over a bad line may break off often.
    url : str
        What to name in an error.
    patience : Patience
        When to give up.
    kept : callable, optional
        How many bytes the next attempt need not fetch again; those of `length`.
    """
    failures = 0
    while True:
        before = length()
        try:
            return attempt()
        except Interrupted as broken:
            failures = 1 if length() - before >= CHUNK else failures + 1
            if failures >= patience.attempts:
                raise PhantomscopeError(
                    f"the download failed {failures} times, at last: {broken}",
                    where=url,
                    fix="check the connection and run the same command again "
                    f"({(kept or length)()} bytes are kept); {ELSEWHERE}",
                ) from broken
            doubled = patience.pause * 2 ** (failures - 1)
            wait = min(doubled if broken.wait is None else broken.wait, LONGEST_PAUSE)
            print(f"{url}: {broken}; next attempt in {wait:.3g} s", file=sys.stderr)
        time.sleep(wait)


def place_of(url: str) -> Path | str:
    """Return a local path or the address of a web server."""
    try:
        parts = urlsplit(url)
        on_the_web = parts.scheme in ("http", "https") and parts.hostname
        # Reading the port checks it; spaces would end the request.
        if on_the_web and (parts.port or True) and not re.search(r"[\0- \x7f]", url):
            return url
        if parts.scheme in ("", "file") and parts.netloc in ("", "localhost"):
            path = urllib.request.url2pathname(parts.path)
            return Path(path if parts.scheme else url)
    except ValueError:
        pass  # a port that is no number, or brackets that are no IPv6 address
    raise PhantomscopeError(
        "nothing can be downloaded from there",
        where=url,
        fix="use https://SERVER/..., http://SERVER/..., file:///... or a path",
    )


def request_for(url: str, **headers: str) -> urllib.request.Request:
    """Make a request; ``Range`` and ``If_Range`` are headers."""
    request = urllib.request.Request(url)
    request.add_header("User-Agent", f"phantomscope/{__version__}")
    request.add_header("Accept-Encoding", "identity")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    return request


def open_url(request: urllib.request.Request, timeout: float) -> Any:
    """Send a request; return a response with status 200, 206 or 416."""
    url = request.full_url
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and request.has_header("Range"):
            return error
        error.close()
        answer = f"the server answers {error.code} {error.reason}"
        if error.code >= 500 or error.code in TRIED_AGAIN:
            asked = error.headers.get("Retry-After", "")
            wait = float(asked) if asked.isdecimal() else None
            raise Interrupted(answer, wait) from error
        absent = "there is no such file: " if error.code in (404, 410) else ""
        raise PhantomscopeError(
            absent + answer,
            where=url,
            fix=f"look on the home page of the data set for where it is; {ELSEWHERE}",
        ) from error
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise PhantomscopeError(
                f"the server cannot prove who it is ({cause.verify_message})",
                where=url,
                fix="check this machine's date and proxy; set SSL_CERT_FILE where an "
                "institution has certificates of its own",
            ) from error
        raise Interrupted(reason_of(cause)) from error


def reason_of(error: object) -> str:
    """Say in words why a transfer broke off."""
    if isinstance(error, TimeoutError):
        return "the server does not answer (timeout)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def version_of(response: Any) -> str:
    """Return what tells this version of the file from others; empty if nothing does."""
    tag = response.headers.get("ETag", "")
    # A weak tag stands for files of the same meaning, not of the same bytes.
    return str(tag if tag[:1] == '"' else response.headers.get("Last-Modified", ""))


def start_of(response: Any, offset: int) -> int:
    """Offset of the first byte that the server sends; -1 if it makes no sense."""
    if response.status == 200:
        return 0
    content = response.headers.get("Content-Range", "")
    if response.status == 416:  # nothing is beyond what we have: it is all, or another
        return offset if content == f"bytes */{offset}" else -1
    unit, _, rest = content.partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else -1

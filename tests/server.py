"""A web server on this machine that misbehaves as it is told.

    with Server() as server:
        url = server.add("a.zip", content, faults=[status(500), cut(1000)])
        download(url, target)
        assert server.requests[-1].range == "bytes=1000-"

Each request for a file takes the next of its faults; without one left, the server
behaves: it knows ranges, `If-Range`, and strong validators. As a bucket (`add_bucket`)
it lists its files as S3 does, page by page.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import yaml

from phantomscope.config.datasets import CHECKOUT, REGISTRY

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
# Longest that a hanging answer holds a thread, if nobody closes the server.
LONGEST_HANG = 10.0

Fault = Callable[["Handler"], None]


@dataclass
class File:
    """A file that is served, and how."""

    content: bytes
    etag: str = '"v1"'
    modified: str = DATE
    ranges: bool = True
    length: bool = True
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    path: str
    range: str
    if_range: str


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Http
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *values: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        """Serve a file, or do what its next fault does."""
        wanted = self.headers.get("Range", ""), self.headers.get("If-Range", "")
        self.server.requests.append(Request(self.path, *wanted))
        self.close_connection = True
        address = urlsplit(self.path)
        file = self.server.files.get(unquote(address.path))
        if "list-type=2" in address.query:
            if self.server.list_faults:
                self.server.list_faults.pop(0)(self)
            else:
                self.list_bucket(address.path, parse_qs(address.query))
        elif file is None:
            self.send_error(404)
        elif file.faults:
            file.faults.pop(0)(self)
        else:
            self.answer(file)

    @property
    def file(self) -> File:
        """The file that was asked for."""
        return self.server.files[unquote(urlsplit(self.path).path)]

    def answer(self, file: File, most: int | None = None) -> None:
        """Send the file, or the part asked for; at most so many bytes of it."""
        total = len(file.content)
        start, stop = self._asked(file)
        if start is not None and start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = file.content[start or 0 : stop]
        self.send_response(200 if start is None else 206)
        if start is not None:
            end = start + len(body) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{total}")
        for name, value in (("ETag", file.etag), ("Last-Modified", file.modified)):
            if value:
                self.send_header(name, value)
        if file.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:most])
        self.wfile.flush()

    def _asked(self, file: File) -> tuple[int | None, int | None]:
        """First byte asked for, and the one after the last; None: all of it."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        known = self.headers.get("If-Range", "") in ("", file.etag, file.modified)
        if not (wanted and known and file.ranges):
            return None, None
        return int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else None

    def list_bucket(self, path: str, query: Mapping[str, list[str]]) -> None:
        """Answer ListObjectsV2: files and folders below a prefix, page by page."""
        bucket, prefix = unquote(path), query.get("prefix", [""])[0]
        entries: dict[str, int | None] = {}
        for name, file in sorted(self.server.files.items()):
            key = name.removeprefix(bucket)
            if not name.startswith(bucket) or not key.startswith(prefix):
                continue
            folder, slash, _ = key[len(prefix) :].partition("/")
            if slash and query.get("delimiter") == ["/"]:
                entries[f"{prefix}{folder}/"] = None
            else:
                entries[key] = len(file.content)
        # A token is opaque; this one counts backwards, so that nobody guesses it.
        token = query.get("continuation-token", ["t0"])[0]
        start = -int(token[1:])
        end = start + self.server.page
        text = "".join(
            f"<CommonPrefixes><Prefix>{escape(quote(key))}</Prefix></CommonPrefixes>"
            if size is None
            else f"<Contents><Key>{escape(quote(key))}</Key><Size>{size}</Size>"
            "</Contents>"
            for key, size in list(entries.items())[start:end]
        )
        more = end < len(entries)
        following = f"<NextContinuationToken>t{-end}</NextContinuationToken>"
        answer = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}"
            f"</IsTruncated>{following if more else ''}{text}</ListBucketResult>"
        )
        instead(answer.encode(), "application/xml")(self)

    def hang(self) -> None:
        """Send nothing more until the server closes."""
        self.server.closing.wait(LONGEST_HANG)

    def reset(self) -> None:
        """End the connection at once, without a goodbye."""
        # What the client has not read yet is lost with it.
        time.sleep(0.05)
        now = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self.connection.close()


def status(code: int, **headers: str) -> Fault:
    """Answer with an error; ``Retry_After="1"`` sets ``Retry-After``."""

    def fault(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def cut(after: int) -> Fault:
    """End the connection after so many bytes of what was announced."""
    return lambda handler: handler.answer(handler.file, after)


def reset(after: int) -> Fault:
    """Break the connection (RST) after so many bytes."""

    def fault(handler: Handler) -> None:
        handler.answer(handler.file, after)
        handler.reset()

    return fault


def hang(after: int | None = None) -> Fault:
    """Stop sending after so many bytes; None: before any answer."""

    def fault(handler: Handler) -> None:
        if after is not None:
            handler.answer(handler.file, after)
        handler.hang()

    return fault


def instead(content: bytes, kind: str = "text/html") -> Fault:
    """Answer with other content, as a login page does."""

    def fault(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return fault


def moved(path: str) -> Fault:
    """Lead to another file of this server."""
    return status(302, Location=f"/{path}")


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, File] = {}
        self.requests: list[Request] = []
        self.list_faults: list[Fault] = []
        self.page = 1000
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news."""


class Server:
    """The server; `requests` is what it was asked for, in order."""

    def __init__(self) -> None:
        self._http = _Http()
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        """Base address, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def requests(self) -> list[Request]:
        """What was asked for so far."""
        return self._http.requests

    def add(
        self, path: str, content: bytes, faults: Sequence[Fault] = (), **how: Any
    ) -> str:
        """Serve a file and return its address; `how` are further fields of `File`."""
        self._http.files[f"/{path}"] = File(content, faults=list(faults), **how)
        return f"{self.url}/{path}"

    def add_bucket(
        self, folder: Path, name: str = "", page: int = 1000,
        faults: Sequence[Fault] = (),
    ) -> str:  # fmt: skip
        """Serve a folder as a bucket, and return its address.

        `page` is the most that one list names; `faults` are those of lists.
        """
        for path in folder.rglob("*"):
            if path.is_file():
                key = path.relative_to(folder).as_posix()
                self.add(f"{name}/{key}".lstrip("/"), path.read_bytes())
        self._http.page, self._http.list_faults = page, list(faults)
        return f"{self.url}/{name}".rstrip("/")

    def fail(self, path: str, *faults: Fault) -> None:
        """Give a file further faults."""
        self._http.files[f"/{path}"].faults.extend(faults)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def write_registry(
    folder: Path, url: str, archives: Mapping[str, str | Sequence[str]]
) -> Path:
    """Write a registry that says that archives of shipped data sets are at `url`.

    `archives` maps names in the registry to the name of the file, or those of several.
    """
    shipped = yaml.safe_load((CHECKOUT / REGISTRY).read_text())
    entries = {name: shipped[name] for name in archives}
    for name, entry in entries.items():
        served = archives[name]
        served = [served] if isinstance(served, str) else served
        for file, own in zip(entry["files"], served, strict=True):
            file |= {"url": f"{url}/{own}", "size": None, "sha256": None}
    path = folder / "datasets.yaml"
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    return path


@contextmanager
def serve(folder: Path, archives: Mapping[str, str | Sequence[str]]) -> Iterator[Path]:
    """Serve the archives of a folder on this machine; give their registry."""
    with Server() as server:
        for path in sorted(folder.glob("*.zip")):
            server.add(path.name, path.read_bytes())
        yield write_registry(folder, server.url, archives)

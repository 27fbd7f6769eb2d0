"""Where the files of plates are: a bucket, by anonymous S3 over HTTP, or a folder.

Of the S3 protocol two requests are used: GET of an object, and ListObjectsV2, page by
page. Names of objects are called keys, as there: ``project/batch/file``.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

from phantomscope.acquire.download import download
from phantomscope.acquire.web import (
    Interrupted,
    Patience,
    keep_trying,
    open_url,
    place_of,
    reason_of,
    request_for,
)
from phantomscope.config.plates import Plates
from phantomscope.errors import PhantomscopeError, explain_os_errors

# A page names at most 1000 objects; this is a hundred times what they need.
LONGEST_PAGE = 1 << 26
PATIENT = Patience()
ADVICE = (
    "check `address`, `project` and `batch` and the connection, and run the same "
    "command again; a folder with the same layout can be named in `address`"
)


def check_name(name: str, where: str | Path) -> str:
    """Return the name of a file that a table states, if it leads nowhere else.

    Raises
    ------
    PhantomscopeError
        If it is empty, hidden, or has folders in it.
    """
    if not name or name.startswith(".") or re.search(r"[/\\\0]", name):
        raise PhantomscopeError(
            f"{name!r} is not the name of a file beside the others",
            where=where,
            fix="the table is damaged or not to be trusted: get it from its publisher "
            "again",
        )
    return name


@dataclass(frozen=True)
class Store:
    """The files of the plates.

    Attributes
    ----------
    base : str or Path
        Address of the bucket, without a slash at the end, or a folder.
    home : Path
        Where the files lie on this machine: the folder itself, or that of downloads.
    patience : Patience
        When to give a connection up.
    """

    base: str | Path
    home: Path
    patience: Patience = PATIENT

    @property
    def is_local(self) -> bool:
        """Whether nothing has to be fetched."""
        return isinstance(self.base, Path)

    def path(self, key: str) -> Path:
        """Return where the file of a key lies on this machine, once it is fetched."""
        return self.home / key

    def place(self, key: str) -> str:
        """Return address or path of a key, to fetch it or to name it in an error."""
        if isinstance(self.base, Path):
            return str(self.base / key)
        return f"{self.base}/{quote(key)}"

    def fetch(self, key: str, size: int | None = None, *, shown: bool = True) -> str:
        """Fetch one file, unless it is there; a folder's stays where it is.

        Parameters
        ----------
        key : str
            Its key.
        size : int, optional
            Its size in bytes, as the listing says.
        shown : bool
            Whether to show progress.

        Returns
        -------
        str
            What tells this content from another: SHA-256, or time and size of a file
            in a folder.

        Raises
        ------
        PhantomscopeError
            If it is not there or of another size, and as `download`.
        """
        if isinstance(self.base, Path):
            with explain_os_errors(self.path(key)):
                found = self.path(key).stat()
            return f"{found.st_mtime_ns}-{found.st_size}"
        with _own_advice():
            return download(
                self.place(key), self.path(key), size=size, shown=shown,
                timeout=self.patience.timeout, attempts=self.patience.attempts,
                pause=self.patience.pause,
            )  # fmt: skip

    def entries(self, prefix: str) -> tuple[dict[str, int], list[str]]:
        """List the files and folders whose keys begin with `prefix`.

        Parameters
        ----------
        prefix : str
            ``folder/`` for all in it, ``folder/ab`` for those that begin with ab.

        Returns
        -------
        files : dict
            Key to size in bytes; not those in subfolders.
        folders : list of str
            Keys of folders, without a slash at the end. Both are sorted.

        Raises
        ------
        PhantomscopeError
            If the server does not answer, or not as S3 does. A prefix without any
            file is no error.
        """
        if isinstance(self.base, Path):
            return _local_entries(self.base, prefix)
        files: dict[str, int] = {}
        folders: list[str] = []
        token, seen = "", set()
        with _own_advice():
            while True:
                page = self._page(prefix, token)
                files |= page.files
                folders += page.folders
                token = page.token
                if not token:
                    return dict(sorted(files.items())), sorted(set(folders))
                if token in seen:
                    raise _no_listing(self.base, "its pages run in a circle")
                seen.add(token)

    def _page(self, prefix: str, token: str) -> _Page:
        """Ask for one page of the listing."""
        query = {
            "list-type": "2",
            "delimiter": "/",
            "encoding-type": "url",
            "prefix": prefix,
        }
        if token:
            query["continuation-token"] = token
        url = f"{self.base}/?{urlencode(query)}"

        def attempt() -> bytes:
            with open_url(request_for(url), self.patience.timeout) as response:
                try:
                    content = response.read(LONGEST_PAGE)
                except (OSError, HTTPException) as error:
                    raise Interrupted(reason_of(error)) from error
            return bytes(content)

        content = keep_trying(attempt, lambda: 0, url, self.patience)
        return _read_page(content, url)


@dataclass(frozen=True)
class _Page:
    files: dict[str, int]
    folders: list[str]
    token: str


@contextmanager
def _own_advice() -> Iterator[None]:
    """Replace advice that is about registered data sets."""
    try:
        yield
    except PhantomscopeError as error:
        fix = ADVICE if "source.mirror" in error.fix else error.fix
        raise PhantomscopeError(
            error.what, where=error.where, fix=fix, example=error.example
        ) from error


def _no_listing(url: str | Path, reason: str) -> PhantomscopeError:
    return PhantomscopeError(
        f"this server does not list its files as S3 does: {reason}",
        where=url,
        fix=ADVICE,
    )


def parse_xml(content: bytes) -> ElementTree.Element:
    """Parse XML without entities of its own; a `ValueError` says what is wrong."""
    # What is declared in it could grow without bounds.
    if b"<!DOCTYPE" in content:
        raise ValueError("it declares entities")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"it is no XML ({error})") from error


def plain_tag(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _read_page(content: bytes, url: str) -> _Page:
    """Read what S3 answers to ListObjectsV2."""
    try:
        root = parse_xml(content)
        if plain_tag(root) != "ListBucketResult":
            raise ValueError(f"its answer is a {plain_tag(root)}")
        files, folders = {}, []
        said: dict[str, str] = {}
        for element in root:
            inner = {plain_tag(child): child.text or "" for child in element}
            match plain_tag(element):
                case "Contents":
                    files[inner["Key"]] = int(inner["Size"])
                case "CommonPrefixes":
                    folders.append(inner["Prefix"])
                case name:
                    said[name] = element.text or ""
    except (ValueError, LookupError) as error:
        raise _no_listing(url, str(error)) from error
    if said.get("EncodingType") == "url":
        files = {unquote_plus(key): size for key, size in files.items()}
        folders = [unquote_plus(key) for key in folders]
    token = said.get("NextContinuationToken", "")
    if said.get("IsTruncated") == "true" and not token:
        raise _no_listing(url, "a page says that there are more, but not which")
    # Keys that end in a slash stand for folders.
    files = {key: size for key, size in files.items() if not key.endswith("/")}
    return _Page(files, [key.rstrip("/") for key in folders], token)


def _local_entries(base: Path, prefix: str) -> tuple[dict[str, int], list[str]]:
    """List a folder as S3 would list a bucket."""
    folder, _, beginning = prefix.rpartition("/")
    files: dict[str, int] = {}
    folders: list[str] = []
    with explain_os_errors(base / folder):
        if not (base / folder).is_dir():
            return {}, []
        for path in (base / folder).iterdir():
            if path.name.startswith(".") or not path.name.startswith(beginning):
                continue
            key = f"{folder}/{path.name}" if folder else path.name
            if path.is_dir():
                folders.append(key)
            else:
                files[key] = path.stat().st_size
    return dict(sorted(files.items())), sorted(folders)


def open_store(options: Plates, patience: Patience = PATIENT) -> Store:
    """Return where the files of the plates are.

    Parameters
    ----------
    options : Plates
        `address`, `endpoint` and `downloads`.
    patience : Patience
        When to give a connection up.

    Raises
    ------
    PhantomscopeError
        If the address is none, or names a folder that is not there.
    """
    parts = urlsplit(options.address)
    if parts.scheme == "s3":
        name = parts.netloc
        server = (options.endpoint or "").rstrip("/")
        base = f"{server}/{name}" if server else f"https://{name}.s3.amazonaws.com"
    else:
        place = place_of(options.address)
        if isinstance(place, Path):
            with explain_os_errors(place):
                if not place.is_dir():
                    raise PhantomscopeError(
                        f"the folder {place} does not exist",
                        where="address",
                        fix="name a folder with the gallery's layout, in which the "
                        f"folder {options.project.split('/')[0]} lies",
                    )
            return Store(place, place, patience)
        base = place.rstrip("/")
        # The bucket, of Amazon's addresses.
        name = base.partition("//")[2].removesuffix(".s3.amazonaws.com")
    slug = re.sub(r"[^A-Za-z0-9_.\-]+", "_", name).lstrip(".")
    return Store(base, Path(options.downloads) / slug, patience)

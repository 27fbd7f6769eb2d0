"""Checksums of a folder of files, in the form that ``sha256sum -c`` reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import atomic_file
from phantomscope.provenance import file_digest

CHECKSUMS = "checksums.sha256"


def hash_files(folder: Path, *parts: str) -> dict[str, str]:
    """Hash files below a folder, hidden ones too.

    Parameters
    ----------
    folder : Path
        Names are relative to it.
    *parts : str
        Files, or folders of which all files are meant.

    Returns
    -------
    dict
        Name with ``/`` to SHA-256, sorted within each part.
    """
    found: dict[str, str] = {}
    for part in parts:
        top = folder / part
        files = [top] if top.is_file() else sorted(_below(top))
        found |= {
            file.relative_to(folder).as_posix(): file_digest(file) for file in files
        }
    return found


def _below(top: Path) -> Iterator[Path]:
    with explain_os_errors(top):
        for place, _, names in os.walk(top):
            yield from (Path(place, name) for name in names)


def write_checksums(path: Path, digests: Mapping[str, str]) -> None:
    """Write ``hash  name`` lines, sorted by name.

    GNU coreutils escapes backslashes and line ends in names; such names are refused
    here, since other programs read them otherwise.
    """
    with atomic_file(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            for name in sorted(digests):
                if "\\" in name or "\n" in name or "\r" in name:
                    raise PhantomscopeError(
                        f"the name {name!r} cannot stand in a list of checksums",
                        where=path,
                        fix="rename it: no backslash and no line end",
                    )
                stream.write(f"{digests[name]}  {name}\n")


def read_checksums(path: Path) -> dict[str, str]:
    """Read what `write_checksums` wrote: name to SHA-256.

    Raises
    ------
    PhantomscopeError
        If a line is no checksum.
    """
    found: dict[str, str] = {}
    with explain_os_errors(path):
        # What is no UTF-8 is no checksum either, as the hash of the list tells.
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        digest, separator, name = line.partition("  ")
        if not (separator and name and len(digest) == 64):
            raise PhantomscopeError(
                f"line {number} is no checksum ({line[:80]!r})",
                where=path,
                fix="delete its folder and run the same command again",
            )
        found[name] = digest
    return found

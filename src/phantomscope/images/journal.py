"""The journal of an image set that is being written: one line per finished image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import pixel_hash, read_array


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot stand in a manifest")


def journal_line(row: Mapping[str, Any]) -> str:
    """Return a manifest row as a line, after its SHA-256, which tells torn lines."""
    text = json.dumps(row, default=_plain)
    return f"{_digest(text)} {text}\n"


def whole_rows(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a journal whose line and images are whole.

    A line may be the one that was being written when the process was killed; after a
    power failure there may be lines whose images never reached the disk.

    Parameters
    ----------
    journal : Path
        Lies in the folder of the set; paths of images are relative to this folder.
    """
    for line in journal.read_bytes().splitlines():
        try:
            digest, text = line.decode().split(" ", 1)
            if digest != _digest(text):
                continue
            row: dict[str, Any] = json.loads(text)
            if _has_its_pixels(row, journal.parent):
                yield row
        except (PhantomscopeError, ValueError):
            continue


def _has_its_pixels(row: Mapping[str, Any], folder: Path) -> bool:
    pairs = (
        ("image", "sha256"), ("mask", "mask_sha256"), ("target", "target_sha256"),
    )  # fmt: skip
    return all(
        pixel_hash(read_array(folder / row[name])) == row[sha256]
        for name, sha256 in pairs
        if row.get(name)
    )

"""Which files of a folder are images, in which order, under which names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import SUFFIXES

_FORMATS = ", ".join(SUFFIXES)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts ``img9`` before ``img10``."""
    parts = re.split(r"(\d+)", path.name)
    # Odd places are digits; the first member keeps the order well defined.
    return [
        (1, int(part), part) if number % 2 else (0, 0, part.casefold())
        for number, part in enumerate(parts)
    ]


def file_stem(path: Path) -> str:
    """Return the name without ``.tif``, ``.png`` ... and without ``.ome``."""
    return re.sub(r"\.ome$", "", path.stem, flags=re.IGNORECASE)


def list_images(
    folder: Path, key: str = "source.path"
) -> tuple[list[Path], Counter[str]]:
    """List the image files of a folder; subfolders are not entered.

    Parameters
    ----------
    folder : Path
        Folder to look into.
    key : str
        Config key to name in an error.

    Returns
    -------
    list of Path
        TIFF and PNG files in natural order, hidden ones left out.
    Counter
        What was left out: ``hidden``, ``folder`` or a suffix, and how many.

    Raises
    ------
    PhantomscopeError
        If the folder is missing, is a file, cannot be read or holds no image.
    """
    with explain_os_errors(folder):
        missing = not folder.exists()
    if missing:
        raise PhantomscopeError(
            f"the folder {folder} does not exist",
            where=key,
            fix=f"check the path; it is relative to where you run ({Path.cwd()})",
        )
    if not folder.is_dir():
        raise PhantomscopeError(
            f"{folder} is a file, not a folder",
            where=key,
            fix=f"name the folder that holds the images, such as {folder.parent}",
        )
    images: list[Path] = []
    ignored: Counter[str] = Counter()
    with explain_os_errors(folder):
        for path in folder.iterdir():
            if path.name.startswith("."):
                ignored["hidden"] += 1
            elif path.is_dir():
                ignored["folder"] += 1
            elif path.suffix.lower() in SUFFIXES:
                images.append(path)
            else:
                ignored[path.suffix.lower() or "no suffix"] += 1
    if not images:
        found = ", ".join(f"{n} x {kind}" for kind, n in sorted(ignored.items()))
        raise PhantomscopeError(
            f"no image in {folder}; found: {found or 'nothing'}",
            where=key,
            fix=f"put images ({_FORMATS}) directly into it, or name another folder",
        )
    return sorted(images, key=natural_key), ignored


def index_by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    """Map stem to file.

    Raises
    ------
    PhantomscopeError
        If two files have the same stem: most often one image in two formats, which
        would stand on both sides of the split.
    """
    index: dict[str, Path] = {}
    pairs = []
    for path in paths:
        first = index.setdefault(file_stem(path), path)
        if first is not path:
            pairs.append(f"{first.name} and {path.name}")
    if pairs:
        more = f" (and {len(pairs) - 1} more such pairs)" if len(pairs) > 1 else ""
        raise PhantomscopeError(
            f"{pairs[0]} have the same name but for the suffix{more}",
            where=paths[0].parent,
            fix="keep one file per image, or rename one",
        )
    return index


def safe_ids(stems: Sequence[str]) -> list[str]:
    """Make an id of each stem: letters, digits, ``_``, ``-`` and ``.``, all unique.

    Ids differ by more than upper and lower case, because they become file names.
    """
    taken: set[str] = set()
    ids = []
    for stem in stems:
        # File systems allow 255 bytes; suffixes are added to this.
        base = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).lstrip(".")[:180] or "_"
        identifier, number = base, 1
        while identifier.casefold() in taken:
            number += 1
            identifier = f"{base}-{number}"
        taken.add(identifier.casefold())
        ids.append(identifier)
    return ids

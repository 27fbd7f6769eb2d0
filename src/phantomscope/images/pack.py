"""Packing many files into one, for repositories that take no folders."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from phantomscope.images.files import atomic_file
from phantomscope.progress import Progress

# The first moment that a ZIP file can name: the same files give the same archive.
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o644 << 16


def write_zip(path: Path, folder: Path, names: Sequence[str]) -> None:
    """Pack files into a ZIP archive, atomically and without compression.

    Images are compressed already. Nothing but names and bytes is kept.

    Parameters
    ----------
    path : Path
        The archive.
    folder : Path
        Names are relative to it, in the archive as well.
    names : sequence of str
        Files, with ``/``.
    """
    with (
        atomic_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
        Progress(f"packing {path.name}", len(names), unit="files") as progress,
    ):
        for name in sorted(names):
            about = zipfile.ZipInfo(name, EPOCH)
            about.external_attr = MODE
            about.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(about, "w") as end:
                shutil.copyfileobj(source, end, 1 << 20)
            progress.advance()

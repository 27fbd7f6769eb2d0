"""The one door to all sources of images."""

from __future__ import annotations

from pathlib import Path

from phantomscope.acquire.folder import acquire_folder
from phantomscope.acquire.package import acquire_package
from phantomscope.config.data import Source


def acquire(source: Source, folder: Path) -> None:
    """Make an image set of what the config names.

    Parameters
    ----------
    source : Source
        Section ``source`` of the config.
    folder : Path
        Folder of the new set: images (Y, X) of uint8, uint16 or float32 in the
        units of the files, labels (Y, X) of uint16 or uint32.

    Raises
    ------
    PhantomscopeError
        As `acquire_package` and `acquire_folder`.
    """
    if source.kind == "package":
        acquire_package(folder)
    else:
        acquire_folder(source, folder)

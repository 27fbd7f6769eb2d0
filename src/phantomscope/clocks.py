"""Clocks that jump: files that seem to be from the future.

Snakemake refuses what is made from an input that is newer than now, so a run whose
clock was ahead for a while could not be finished before that time has come.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from phantomscope.errors import explain_os_errors

# Snakemake's time of a folder that a rule makes; nothing below it counts.
_OF_FOLDER = ".snakemake_timestamp"


def _dated(folder: Path) -> Iterator[str]:
    """Yield the files whose times Snakemake compares; it looks into no image set."""
    for place, folders, names in os.walk(folder):
        if _OF_FOLDER in names:
            folders.clear()
            names = [_OF_FOLDER]
        yield from (os.path.join(place, name) for name in names)


def bring_to_present(*folders: Path) -> int:
    """Give files that were modified in the future the present time.

    Which of two files is older stays the same, or they become equally old; so no
    finished job is run again for this.

    Parameters
    ----------
    folders : Path
        Folders of outputs; they need not exist.

    Returns
    -------
    int
        Number of files that were from the future.

    Raises
    ------
    PhantomscopeError
        If such a file cannot be changed.
    """
    now, count = time.time_ns(), 0
    for folder in folders:
        with explain_os_errors(folder):
            for path in _dated(folder):
                try:
                    if os.lstat(path).st_mtime_ns > now:
                        os.utime(path, ns=(now, now), follow_symlinks=False)
                        count += 1
                except FileNotFoundError:
                    continue  # temporary, or removed meanwhile
    if count:
        print(f"files from the future that are of the present now: {count}",
              file=sys.stderr)  # fmt: skip
    return count

"""One GPU per job where nobody else assigns them.

SLURM tells a job its GPUs by ``CUDA_VISIBLE_DEVICES``. On a workstation Snakemake only
counts them (``resources: gpu=4``), so each job locks one for itself.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phantomscope.locks import try_lock, unlock

VISIBLE = "CUDA_VISIBLE_DEVICES"


def count_devices(folder: Path = Path("/dev")) -> int:
    """Count the NVIDIA GPUs of this machine without starting CUDA."""
    if not folder.is_dir():
        return 0
    return sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in folder.iterdir())


def lock_folder() -> Path:
    """Folder of the locks: the same for all users and experiments of a machine."""
    return Path(tempfile.gettempdir()) / "phantomscope-gpus"


def _first_free(folder: Path, count: int) -> tuple[int, Path, int] | None:
    for number in range(count):
        path = folder / f"{number}.lock"
        if (descriptor := try_lock(path)) is not None:
            return number, path, descriptor
    return None


@contextmanager
def _visible(devices: str) -> Iterator[None]:
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = devices
    try:
        yield
    finally:
        del os.environ[VISIBLE]
        if before is not None:
            os.environ[VISIBLE] = before


@contextmanager
def claimed_device(
    wanted: int | None, *, count: int | None = None, folder: Path | None = None
) -> Iterator[str | None]:
    """Make one GPU visible to this process, and to no other job of ours.

    Parameters
    ----------
    wanted : int or None
        GPUs that the rule asks for; 0 hides all of them, so that a job that Snakemake
        counts as one for the CPU stays there. None: unknown, as on the command line.
    count : int, optional
        GPUs of the machine; counted if absent.
    folder : Path, optional
        Folder of the locks.

    Yields
    ------
    str or None
        The new value of ``CUDA_VISIBLE_DEVICES``, None where it was left alone: with
        a scheduler's choice, or with fewer than two GPUs.
    """
    if wanted == 0:
        with _visible(""):
            yield ""
        return
    count = count_devices() if count is None else count
    if VISIBLE in os.environ or count < 2:
        yield None
        return
    folder = folder or lock_folder()
    folder.mkdir(mode=0o777, parents=True, exist_ok=True)
    told = False
    while (found := _first_free(folder, count)) is None:
        if not told:
            print(f"all {count} GPUs are in use by other jobs; waiting",
                  file=sys.stderr)  # fmt: skip
            told = True
        time.sleep(1.0)
    number, path, descriptor = found
    try:
        with _visible(str(number)):
            yield str(number)
    finally:
        unlock(path, descriptor, keep=True)

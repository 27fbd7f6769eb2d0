"""GPUs of its own for each job where nobody else assigns them.

SLURM tells a job its GPUs by ``CUDA_VISIBLE_DEVICES``. On a workstation Snakemake only
counts them (``resources: gpu=4``), so each job locks one for itself, or as many as its
training shares.
"""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from phantomscope.errors import PhantomscopeError
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


def _lock_free(folder: Path, count: int, wanted: int) -> dict[int, int]:
    """Lock so many GPUs, or none: two jobs that each hold one would wait for ever.

    Returns
    -------
    dict
        Number of each GPU and descriptor of its lock.
    """
    held: dict[int, int] = {}
    for number in range(count):
        descriptor = try_lock(_lock_of(folder, number))
        if descriptor is not None:
            held[number] = descriptor
        if len(held) == wanted:
            return held
    _unlock(folder, held)
    return {}


def _lock_of(folder: Path, number: int) -> Path:
    return folder / f"{number}.lock"


def _unlock(folder: Path, held: Mapping[int, int]) -> None:
    for number, descriptor in held.items():
        unlock(_lock_of(folder, number), descriptor, keep=True)


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
    """Make GPUs visible to this process, and to no other job of ours.

    Parameters
    ----------
    wanted : int or None
        GPUs that the rule asks for; 0 hides all of them, so that a job that Snakemake
        counts as one for the CPU stays there. None: unknown, which is one.
    count : int, optional
        GPUs of the machine; counted if absent.
    folder : Path, optional
        Folder of the locks.

    Yields
    ------
    str or None
        The new value of ``CUDA_VISIBLE_DEVICES``, None where it was left alone: with
        a scheduler's choice, or with fewer than two GPUs.

    Raises
    ------
    PhantomscopeError
        If the machine has fewer.
    """
    if wanted == 0:
        with _visible(""):
            yield ""
        return
    count = count_devices() if count is None else count
    if VISIBLE in os.environ or count < 2:
        yield None
        return
    wanted = wanted or 1
    if wanted > count:
        raise PhantomscopeError(
            f"{wanted} GPUs are asked for, this machine has {count}",
            where="train.devices",
            fix=f"ask for at most {count}",
        )
    folder = folder or lock_folder()
    folder.mkdir(mode=0o777, parents=True, exist_ok=True)
    told = False
    while not (held := _lock_free(folder, count, wanted)):
        if not told:
            said = f"all {count} GPUs are in use by other jobs"
            if wanted > 1:
                said = f"fewer than {wanted} of {count} GPUs are free"
            print(f"{said}; waiting", file=sys.stderr)
            told = True
        # Two jobs that look at the same time might do so for ever.
        time.sleep(random.uniform(0.5, 1.5))
    try:
        with _visible(",".join(map(str, held))):
            yield os.environ[VISIBLE]
    finally:
        _unlock(folder, held)

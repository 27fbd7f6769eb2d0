"""Locks between processes: one writer per output, one job per GPU.

The operating system frees a lock when its process ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from phantomscope.errors import explain_os_errors

# File systems without locks: there we go on, as everybody did before.
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def try_lock(path: Path) -> int | None:
    """Lock the file `path`, made if it is missing; None if another process holds it.

    Returns
    -------
    int or None
        Descriptor to give to `unlock`.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return descriptor
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        try:
            # Whoever held it may have removed the file after we opened it.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        os.close(descriptor)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return descriptor


def unlock(path: Path, descriptor: int, *, keep: bool = False) -> None:
    """Free a lock and remove its file, unless it is one that stays."""
    if not keep:
        path.unlink(missing_ok=True)
    os.close(descriptor)


def _owner(path: Path) -> str:
    try:
        return path.read_text().strip() or "another process"
    except OSError:
        return "another process"


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Wait until no other process writes the output `path`, and be its only writer.

    A Snakemake that was killed leaves jobs behind; two of one shard would write into
    each other's files.

    Parameters
    ----------
    path : Path
        File or folder that is to be written; the lock is a hidden file beside it.
    """
    lock = path.with_name(f".{path.name}.lock")
    with explain_os_errors(path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        told = False
        while (descriptor := try_lock(lock)) is None:
            if not told:
                print(f"{_owner(lock)} is writing {path}; waiting", file=sys.stderr)
                told = True
            time.sleep(0.5)
    try:
        yield
    finally:
        unlock(lock, descriptor)


def attend(folder: Path, owned: Sequence[str]) -> int | None:
    """Say that a Snakemake runs here, and free what a killed one left locked.

    Snakemake locks the files of a run, and a killed one leaves them locked, so that the
    same command would need `--unlock` first. Each main process of ours holds a shared
    lock of the system as long as it lives: if nobody else does, such locks are stale.

    Parameters
    ----------
    folder : Path
        Snakemake's own folder, ``.snakemake``.
    owned : sequence of str
        Beginnings of the paths that our rules read and write; locks that name anything
        else belong to another workflow and stay.

    Returns
    -------
    int or None
        Descriptor of the lock, which is free when it is closed; None without locks.
    """
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / "phantomscope.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in sorted((folder / "locks").glob("*.lock")):
            names = path.read_text().splitlines()
            if all(name.startswith(tuple(owned)) for name in names):
                print(f"removing a lock that a killed run left: {path}",
                      file=sys.stderr)  # fmt: skip
                path.unlink()
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            os.close(descriptor)
            return None
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor

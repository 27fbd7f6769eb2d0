"""Disks that are full or read-only for a while, and files that are gone."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bad_inputs.model import NotPermittedError
from benchmarks.faults.commands import claim, finish, refused
from benchmarks.faults.model import Fault, Injection
from benchmarks.faults.processes import kept_images, saved_step
from benchmarks.faults.world import IMAGES, STEPS, World, difference

PAGE = 4096


class Disk:
    """A disk of its own, which only processes see that are told to.

    Attributes
    ----------
    path : Path
        Where they see it.
    mounts : int
        A process that sees it, for `Running`.
    """

    def __init__(self, path: Path, mounts: int) -> None:
        self.path, self.mounts = path, mounts

    @property
    def outside(self) -> Path:
        """Where everybody else sees the same files."""
        return Path(f"/proc/{self.mounts}/root{self.path.resolve()}")

    def copy(self, name: str, folder: Path) -> None:
        """Copy a file or folder to where everybody sees it."""
        # Some readers resolve links, and then look below another root.
        source, target = self.outside / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)

    def remount(self, options: str) -> None:
        """Change its size, or whether it may be written."""
        enter = ["nsenter", "--target", str(self.mounts), "--mount"]
        mount = ["mount", "-o", f"remount,{options}", str(self.path)]
        subprocess.run([*enter, *mount], check=True)


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Disk]:
    """Mount an empty disk in memory, seen by nobody else, gone with the block."""
    tools = ("unshare", "nsenter", "mount")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        raise NotPermittedError(f"mounting needs root and {', '.join(tools)}")
    path = folder / "disk"
    path.mkdir()
    script = f'mount -t tmpfs -o {options} none "{path}" && echo mounted && cat'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as holder:  # fmt: skip
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "mounted\n":
            raise NotPermittedError(f"not permitted: {holder.stderr.read().strip()}")
        yield Disk(path, holder.pid)
        holder.stdin.close()  # ends it, and its mounts with it


def _room_for(share: float, files: Iterator[Path]) -> int:
    """Size of a disk that holds a share of some files."""
    pages = sum(-(-path.stat().st_size // PAGE) for path in files if path.is_file())
    return round(share * pages) * PAGE


def _full_while_training(world: World, folder: Path, n: int) -> Injection:
    state = (world.reference / "model.pt.state/state.pt").stat().st_size
    # Room for the first state, and for part of the second one beside it.
    size = round(state * random.Random(n).uniform(1.1, 1.9))
    with disk(folder, f"size={size}") as full:
        command, how = world.training(full.path), {"mounts": full.mounts}
        refused(command, folder / "log", "disk is full", str(full.path), **how)
        step = saved_step(full.outside)
        claim(0 < step < STEPS, f"the state is of step {step}")
        full.remount("size=64m")
        finish(command, folder / "log", **how)
        full.copy("model.pt", folder)
    found = difference(world.reference, folder, "model.pt")
    return Injection(found, f"went on from step {step} of {STEPS}")


def _full_while_synthesising(world: World, folder: Path, n: int) -> Injection:
    share = random.Random(n).uniform(0.5, 0.9)
    size = _room_for(share, (world.reference / "synthetic").rglob("*"))
    shutil.copytree(world.reference / "sketches", folder / "sketches")
    with disk(folder, f"size={size}") as full:
        (full.outside / "sketches").symlink_to(folder / "sketches")
        command, how = world.synthesis(full.path), {"mounts": full.mounts}
        refused(command, folder / "log", "disk is full", str(full.path), **how)
        claim(not (full.outside / "synthetic").exists(), "an unfinished set")
        kept = len(kept_images(full.outside, "synthetic"))
        full.remount("size=64m")
        finish(command, folder / "log", **how)
        full.copy("synthetic", folder)
    found = difference(world.reference, folder, "synthetic")
    return Injection(found, f"{kept} of {IMAGES} images kept")


def _read_only(world: World, folder: Path, n: int) -> Injection:
    shutil.copytree(world.reference / "sketches", folder / "sketches")
    with disk(folder, "size=64m") as locked:
        (locked.outside / "sketches").symlink_to(folder / "sketches")
        locked.remount("ro")
        command, how = world.synthesis(locked.path), {"mounts": locked.mounts}
        refused(command, folder / "log", "read-only", str(locked.path), **how)
        locked.remount("rw")
        finish(command, folder / "log", **how)
        locked.copy("synthetic", folder)
    return Injection(difference(world.reference, folder, "synthetic"))


def _file_gone(world: World, folder: Path, n: int) -> Injection:
    """A file of a finished shard is deleted: the next stage tells which."""
    for name in ("sketches", "synthetic"):
        shutil.copytree(world.reference / name, folder / name)
    files = sorted((folder / "synthetic").rglob("*.tif"))
    gone = random.Random(n).choice(files)
    gone.unlink()
    refused(world.checking(folder), folder / "log", "no such file", gone.name)
    claim(not (folder / "checks").exists(), "checked all the same")
    finish(world.synthesis(folder), folder / "log")
    finish(world.checking(folder), folder / "log")
    return Injection(difference(world.reference, folder, "synthetic", "checks"))


FAULTS = [
    Fault("disk-full-in-training", "storage", _full_while_training),
    Fault("disk-full-in-synthesis", "storage", _full_while_synthesising),
    Fault("disk-read-only", "storage", _read_only),
    Fault("file-of-a-shard-deleted", "storage", _file_gone),
]

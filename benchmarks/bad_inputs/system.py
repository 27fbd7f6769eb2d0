"""Outputs that cannot be written: things in the way, mounts, limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bad_inputs.building import acquiring, blobs, checking, training, write
from benchmarks.bad_inputs.model import Case, Invocation
from benchmarks.laboratory import SMOKE, Laboratory


def _package(output: Path, **options: Any) -> Invocation:
    argv = ["acquire", "--config", SMOKE, "--images", output]
    return Invocation(argv, (output,), **options)


def _below_a_file(folder: Path, lab: Laboratory) -> Invocation:
    return _package(write(folder / "file", b"x") / "images")


def _file_in_the_way(folder: Path, lab: Laboratory) -> Invocation:
    return _package(write(folder / "images", b"precious"))


def _over_own_images(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "in/a.tif", blobs())
    call = acquiring(folder)
    # The classic slip: the folder of the images given as the output.
    return Invocation([*call.argv[:-1], folder / "in"], (folder / "in",))


def _over_a_folder(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "thesis/chapter.txt", b"precious")
    return checking(folder, lab, checks=folder / "thesis")


def _model_over_a_folder(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "out.pt/file", b"precious")
    return training(folder, lab)


def _below_proc(folder: Path, lab: Laboratory) -> Invocation:
    if not Path("/proc/self").exists():
        return _package(Path("/dev/null/images"))
    return _package(Path("/proc/images"))


def _mounted(options: str, remount: str = "") -> Callable[[Path, Laboratory], Any]:
    def build(folder: Path, lab: Laboratory) -> Invocation:
        disk = folder / "disk"
        disk.mkdir()
        for n in range(4):
            rng = np.random.default_rng(n)
            noise = rng.integers(0, 2**16, (256, 256)).astype(np.uint16)
            write(folder / f"in/{n}.tif", noise)
        call, output = acquiring(folder), disk / "images"
        shell = f'mount -t tmpfs -o {options} none "{disk}"'
        if remount:
            shell += f' && mount -o remount,{remount} "{disk}"'
        argv = [*call.argv[:-1], output]
        return Invocation(argv, (output,), shell=shell, mounts=True)

    return build


def _limited(folder: Path, lab: Laboratory) -> Invocation:
    return _package(folder / "images", shell="trap '' XFSZ; ulimit -f 64")


def _limited_training(folder: Path, lab: Laboratory) -> Invocation:
    call = training(folder, lab)
    outputs = (*call.outputs, folder / "state/state.pt")
    return Invocation(call.argv, outputs, shell="trap '' XFSZ; ulimit -f 64")


OUTPUTS = [
    Case("parent-is-a-file", "output", _below_a_file,
         ("a file is in the way", "/file", "move it away")),
    Case("output-is-a-file", "output", _file_in_the_way,
         ("a file is in the way", "/images", "move it away")),
    Case("output-is-the-input", "output", _over_own_images,
         ("not of this program", "/in", "choose another output folder")),
    Case("output-holds-others", "output", _over_a_folder,
         ("not of this program", "/thesis", "choose another output folder")),
    Case("model-path-is-a-folder", "output", _model_over_a_folder,
         ("out.pt\n", "folder is in the way", "choose another output file")),
    Case("output-below-proc", "output", _below_proc, ("/images\n", "check the path")),
    Case("read-only", "output", _mounted("size=1m", "ro"),
         ("read-only", "disk/images", "choose a folder you may write to")),
    Case("disk-full", "output", _mounted("size=256k"),
         ("the disk is full", "disk/images", "free some space")),
    Case("file-size-limit", "output", _limited,
         ("size limit", "images", "choose another disk")),
    Case("file-size-limit-in-training", "output", _limited_training,
         ("size limit", "state.pt", "choose another disk")),
]  # fmt: skip

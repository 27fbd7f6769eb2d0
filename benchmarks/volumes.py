"""Memory and time of synthesising a volume, from file to file.

`python -m benchmarks.volumes DEPTH SIDE FOLDER STEPS PRESET KIND` makes one volume in
this process and prints a line of JSON; the areas `volumes` (whether memory grows with
depth) and `volume_time` (a volume of the published size) run it in processes of their
own.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.engine_speed import device
from benchmarks.laboratory import ENVIRONMENT, ROOT, run
from benchmarks.peers import Clock
from benchmarks.table import Row
from phantomscope.config.diffusion import Network
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.engine.sample import Sampler
from phantomscope.images.noise import NoiseField
from phantomscope.images.volumes import PlaneReader, write_volume


def _peak_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WARM = (32, 208, 208)
# How a volume is made: for the growth of memory by a sampler that keeps the most, and
# for the time as a student takes its few steps, by larger tiles and compiled.
KINDS = {
    "growth": {"sampler": "dpmpp_2m", "tile_depth": 32, "compile": "never"},
    "time": {"sampler": "ddim", "tile_depth": 64, "compile": "always"},
}


def synthesise(
    depth: int, side: int, folder: Path, steps: int, preset: str, kind: str = "growth"
) -> dict[str, float]:
    """Write a sketch, bring it back, and write the volume; return what it took.

    The network has random weights: what it gives means nothing, what it takes does.
    """
    shape = (depth, side, side)
    network = make_network(Network(preset=preset), 0, 3).eval()
    model = DiffusionModel(
        network, Process.gaussian(cosine_alpha_bar(1000)), (-1.5, 1.5), False,
        {"fingerprint": preset},
    )  # fmt: skip
    with_model = _peak_memory()

    def planes() -> Iterator[NDArray[np.float32]]:
        for z in range(depth):
            yield NoiseField(0, "sketch").block((z, 0, 0), (1, side, side))[0] / 4

    write_volume(folder / "sketch.ome.tif", planes(), shape, np.dtype(np.float32))
    config = Synthesise(
        steps=steps, tile=224, overlap=16, overlap_depth=8, threads=2, micro_batch=1,
        precision="auto", **KINDS[kind],
    )  # fmt: skip
    if kind == "growth":
        # What torch takes for itself, and the activations of one tile, come first.
        with torch.inference_mode():
            network(torch.zeros(1, 1, *WARM), torch.ones(1))
    before, begin = _peak_memory(), time.monotonic()
    sampler = Sampler(model, config, 0)
    sampler.evaluate = clock = Clock(sampler.evaluate)
    with PlaneReader(folder / "sketch.ome.tif", shape) as sketch:
        field = sampler.stream(
            lambda a, b: sketch.read(a, b)[None], shape, "volume", 300,
            folder / "states",
        )  # fmt: skip
        values = (field.read(z, z + 1)[0, 0].numpy() for z in range(depth))
        write_volume(folder / "volume.ome.tif", values, shape, np.dtype(np.float32))
    seconds = time.monotonic() - begin
    shutil.rmtree(folder / "states")
    return {"seconds": seconds, "peak_mb": _peak_memory(), "before_mb": before,
            "model_mb": with_model, "evaluations": clock.calls,
            "evaluation_seconds": clock.seconds}  # fmt: skip


def _command(folder: Path, *arguments: object) -> list[str]:
    folder.mkdir()
    depth, side, *rest = arguments
    command = [sys.executable, "-m", "benchmarks.volumes", depth, side, folder, *rest]
    return [str(part) for part in command]


def _measured(folder: Path, *arguments: object) -> dict[str, float]:
    output = run(_command(folder, *arguments))
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def rows(folder: Path, side: int = 512, steps: int = 1) -> list[Row]:
    """Compare volumes of 64 and 256 planes, with the network of half the width."""
    shallow, deep = (
        _measured(folder / str(depth), depth, side, steps, "small", "growth")
        for depth in (64, 256)
    )
    growth = deep["peak_mb"] / shallow["peak_mb"] - 1
    what = (
        f"peak resident memory of 256 x {side} x {side} over 64 x {side} x {side}, "
        f"minus 1 ({deep['peak_mb']:.0f} and {shallow['peak_mb']:.0f} MB; "
        f"{deep['before_mb']:.0f} MB before the first tile)"
    )
    on = (
        f"network `small` in 3D, random weights, {steps} steps, {deep['seconds']:.0f} s"
    )
    one = 4 * 256 * side * side / 2**20
    return [
        Row("engine.volume_memory_growth", what, on, growth, "", "<= 0.1",
            "python -m benchmarks volumes",
            floor=f"0; a state of 256 planes has {one:.0f} MB, of which there are four")
    ]  # fmt: skip


def published(folder: Path, depth: int = 180, side: int = 512) -> list[Row]:
    """Make a volume of the published size with as few steps as a student takes."""
    command = _command(folder / "published", depth, side, 4, "eschweiler", "time")
    # It takes long: its progress is shown.
    output = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
        check=True,
    ).stdout  # fmt: skip
    found = json.loads(output.splitlines()[-1])
    return published_rows(found, f"{side} x {side} x {depth}")


def published_rows(found: dict[str, float], size: str) -> list[Row]:
    """Return the rows of time and memory."""
    count, inside = found["evaluations"], found["evaluation_seconds"]
    again = "python -m benchmarks volume_time"
    on = "network `eschweiler` in 3D, random weights, tiles of up to 64 x 224 x 224"
    what = (
        f"{size} volume, sketch file to volume file: 4 network evaluations a tile, as "
        "a student of 4 steps takes"
    )
    hour, beyond = 3600.0, found["peak_mb"] - found["model_mb"]
    return [
        Row("engine.volume_512x512x180",
            f"{what}; {hour / found['seconds']:.1f} times as fast as the published "
            "hour, which is of other hardware and takes more steps",
            on, found["seconds"], "s", "<= 3600", again, baseline=hour,
            ratio=hour / found["seconds"], device=device(),
            floor=f"{inside:.0f} s are the {count:.0f} network evaluations, the first "
            "with its compilation"),
        Row("engine.volume_memory",
            f"{what}: peak resident memory ({found['peak_mb']:.0f} MB) beyond that of "
            f"a process that holds the model ({found['model_mb']:.0f} MB)",
            on, beyond, "MB", "<= 2000", again, device=device()),
    ]  # fmt: skip


if __name__ == "__main__":
    depth_, side_, folder_, steps_, preset_, kind_ = sys.argv[1:]
    print(json.dumps(
        synthesise(
            int(depth_), int(side_), Path(folder_), int(steps_), preset_, kind_
        )
    ))  # fmt: skip

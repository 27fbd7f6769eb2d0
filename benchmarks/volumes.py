"""Memory and time of synthesising a volume, from file to file.

`python -m benchmarks.volumes DEPTH SIDE FOLDER STEPS PRESET` makes one volume in this
process and prints a line of JSON; the area `volumes` runs it in processes of their own.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.laboratory import run
from benchmarks.table import Row
from phantomscope.config.diffusion import Network, Synthesise
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.engine.sample import Sampler
from phantomscope.images.noise import NoiseField
from phantomscope.images.volumes import PlaneReader, write_volume


def _peak_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synthesise(depth: int, side: int, folder: Path, steps: int, preset: str) -> dict:
    """Write a sketch, bring it back, and write the volume; return what it took.

    The network has random weights: what it gives means nothing, what it takes does.
    """
    shape = (depth, side, side)

    def planes() -> Iterator[NDArray[np.float32]]:
        for z in range(depth):
            yield NoiseField(0, "sketch").block((z, 0, 0), (1, side, side))[0] / 4

    write_volume(folder / "sketch.ome.tif", planes(), shape, np.dtype(np.float32))
    network = make_network(Network(preset=preset), 0, 3).eval()
    model = DiffusionModel(
        network, Process.gaussian(cosine_alpha_bar(1000)), (-1.5, 1.5), False,
        {"fingerprint": preset},
    )  # fmt: skip
    config = Synthesise(
        sampler="dpmpp_2m", spacing="log_snr", steps=steps, tile=128, overlap=16,
        tile_depth=32, overlap_depth=8, threads=2, micro_batch=1,
    )  # fmt: skip
    # What torch takes for itself, and the activations of one tile, come first.
    with torch.inference_mode():
        network(torch.zeros(1, 1, 32, 128, 128), torch.ones(1))
    before, begin = _peak_memory(), time.monotonic()
    with PlaneReader(folder / "sketch.ome.tif", shape) as sketch:
        field = Sampler(model, config, 0).stream(
            lambda a, b: sketch.read(a, b)[None], shape, "volume", 300,
            folder / "states",
        )  # fmt: skip
        values = (field.read(z, z + 1)[0, 0].numpy() for z in range(depth))
        write_volume(folder / "volume.ome.tif", values, shape, np.dtype(np.float32))
    seconds = time.monotonic() - begin
    shutil.rmtree(folder / "states")
    return {"seconds": seconds, "peak_mb": _peak_memory(), "before_mb": before}


def _measured(folder: Path, *arguments: object) -> dict[str, float]:
    folder.mkdir()
    depth, side, *rest = arguments
    command = [sys.executable, "-m", "benchmarks.volumes", depth, side, folder, *rest]
    output = run([str(part) for part in command])
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def rows(folder: Path, side: int = 512, steps: int = 2) -> list[Row]:
    """Compare volumes of 64 and 256 planes, with the network of half the width."""
    shallow, deep = (
        _measured(folder / str(depth), depth, side, steps, "small")
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


if __name__ == "__main__":
    depth_, side_, folder_, steps_, preset_ = sys.argv[1:]
    print(json.dumps(
        synthesise(int(depth_), int(side_), Path(folder_), int(steps_), preset_)
    ))  # fmt: skip

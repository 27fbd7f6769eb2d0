"""The goals of the engine on one GPU: `python -m benchmarks.gpu`.

It needs nothing but the packages of the engine, and writes `benchmarks/gpu.json`. With
`--list`, and where there is no GPU, it says what it would measure. Networks have random
weights: what they give means nothing, what they take does. Equal quality of few steps
is measured by the area `quality`, on any device.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import engine_speed, synthesis, unconditional, volumes
from benchmarks.table import Row, save
from phantomscope.config.synthesis import Synthesise
from phantomscope.errors import PhantomscopeError

COMMAND = "python -m benchmarks.gpu"
PLAIN = engine_speed.PLAIN


@dataclass(frozen=True)
class Scale:
    """How large the measurements are; the defaults are those of the goals.

    Attributes
    ----------
    preset : str
        Network of all but the unconditional images.
    rounds : int
        Calls of each kind, by turns.
    side : int
        Of the image that is made from a sketch.
    steps : int
        Ancestral steps of the reference that are timed, of 400.
    volume : tuple of int
        Depth and side.
    unconditional : str
        Network of the unconditional images.
    """

    preset: str = "eschweiler"
    rounds: int = 50
    side: int = 1024
    steps: int = 400
    volume: tuple[int, int] = (180, 512)
    unconditional: str = "iddpm"


def _timed(
    name: str, what: str, goal: str, timing: engine_speed.Timing, on: torch.device
) -> Row:
    share = timing.floor / timing.ours
    return Row(
        f"engine.gpu_{name}",
        f"{what}: {timing.ours:.2f} ms an image against {timing.plain:.2f} ms",
        PLAIN, timing.speedup, "times", goal, COMMAND,
        floor=f"{timing.floor:.3f} ms: its FLOP at the rate of a large matrix product "
        f"in the same precision; {share:.0%} of that rate is reached",
        baseline=timing.plain, ratio=timing.speedup, device=engine_speed.device(on),
    )  # fmt: skip


def evaluations(on: torch.device, scale: Scale) -> Iterator[Row]:
    """Network evaluations of one image, of eight, and of a volume."""
    for batch in (1, 8):
        timing = engine_speed.evaluation(
            2, "channel", batch, scale.rounds, scale.preset, on
        )
        what = f"evaluation, 256 x 256 px, channel norm, batch of {batch}"
        yield _timed(f"evaluation_b{batch}", what, ">= 4", timing, on)
    timing = engine_speed.evaluation(3, "instance", 1, scale.rounds, scale.preset, on)
    what = "evaluation, 32 x 128 x 128 px, instance norm, batch of 1"
    yield _timed("evaluation_3d", what, ">= 4", timing, on)


def trainings(on: torch.device, scale: Scale) -> Iterator[Row]:
    """Optimiser steps, whole, with as many images as keep a GPU busy."""
    batch = 32 if on.type == "cuda" else 2
    timing = engine_speed.training("channel", batch, scale.rounds, scale.preset, on)
    what = f"training step, 256 x 256 px, channel norm, ours with batch {batch}"
    yield _timed("training", what, ">= 8", timing, on)


def sketch_to_image(on: torch.device, scale: Scale) -> Iterator[Row]:
    """From a sketch file to an image file, against the way of the reference."""
    model = unconditional.random_model(scale.preset, 1000)
    synthesis.reference_seconds(model, 0, min(scale.steps, 5))  # warms up
    tile, count = synthesis.reference_seconds(model, 0, scale.steps)
    config = Synthesise(compile="always", micro_batch=16, device=on.type)
    with tempfile.TemporaryDirectory() as folder:
        seconds = synthesis.our_seconds(model, config, 0, Path(folder), side=scale.side)
    yield Row(
        "engine.gpu_sketch_to_image",
        f"{scale.side} x {scale.side} sketch to image, file to file: "
        f"{config.sampler}, {config.steps} steps, compiled, {seconds:.2f} s, against "
        f"ancestral 400 steps, fp32, batch 1 ({count} tiles of {synthesis.TILE} px, of "
        f"which one was timed over {scale.steps} steps)",
        "random weights", tile * count / seconds, "times", ">= 200", COMMAND,
        floor=f"{400 / config.steps:.0f} x by the number of steps alone",
        baseline=tile * count, ratio=tile * count / seconds,
        device=engine_speed.device(on),
    )  # fmt: skip


def volume(on: torch.device, scale: Scale) -> Iterator[Row]:
    """Make a volume of the published size from file to file."""
    depth, side = scale.volume
    with tempfile.TemporaryDirectory() as folder:
        found = volumes.synthesise(depth, side, Path(folder), 4, scale.preset, "time")
    memory = torch.cuda.max_memory_allocated() / 2**20 if on.type == "cuda" else 0.0
    yield Row(
        "engine.gpu_volume",
        f"{side} x {side} x {depth} volume, sketch file to volume file, 4 network "
        f"evaluations a tile as a student takes; {memory:.0f} MB on the GPU, "
        f"{found['peak_mb']:.0f} MB in memory",
        "random weights; the published hour is of other hardware and more steps",
        found["seconds"], "s", "<= 20", COMMAND, baseline=3600.0,
        ratio=3600 / found["seconds"], device=engine_speed.device(on),
        floor=f"{found['evaluation_seconds']:.1f} s until the calls of the network "
        "returned",
    )  # fmt: skip


def images_from_noise(on: torch.device, scale: Scale) -> Iterator[Row]:
    """Unconditional images by fifty steps, against two thousand plain ones."""
    steps = 50
    side = 256 if on.type == "cuda" else 64
    found = unconditional.speed(
        "dpmpp_2m", steps, preset=scale.unconditional, side=side,
        rounds=min(scale.rounds, 5),
    )  # fmt: skip
    yield Row(
        "engine.gpu_unconditional",
        f"unconditional {side} x {side} px, {scale.unconditional} network: dpmpp_2m, "
        f"{steps} steps, {found.ours:.2f} s, against 2000 plain ancestral steps, "
        f"{found.reference:.0f} s (timed per step)",
        "random weights", found.reference / found.ours, "times", ">= 100", COMMAND,
        floor=f"{2000 / steps:.0f} x by the number of steps alone; evaluations are "
        f"{found.evaluations:.2f} s of ours",
        baseline=found.reference, ratio=found.reference / found.ours,
        device=engine_speed.device(on),
    )  # fmt: skip


AREAS: tuple[Callable[[torch.device, Scale], Iterator[Row]], ...] = (
    evaluations, trainings, sketch_to_image, images_from_noise, volume,
)  # fmt: skip


def rows(on: torch.device, scale: Scale) -> list[Row]:
    """Measure everything."""
    found = []
    for area in AREAS:
        for row in area(on, scale):
            print(f"{row.id}: {row.value:.4g} {row.unit} (goal {row.goal})", flush=True)
            found.append(row)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure, or say what would be measured."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--list", action="store_true", help="only say what it measures")
    wish = parser.parse_args(arguments)
    if wish.list or not torch.cuda.is_available():
        for area in AREAS:
            print(f"{area.__name__}: {area.__doc__}")
    if wish.list:
        return 0
    if not torch.cuda.is_available():
        error = PhantomscopeError(
            "there is no usable GPU, so nothing was measured",
            where=COMMAND,
            fix="run it on a machine with one",
        )
        print(error, file=sys.stderr)
        return 1
    save("gpu", rows(torch.device("cuda"), Scale()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Network evaluations and training steps against the same network, plain."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.table import Row
from phantomscope.config.diffusion import Train
from phantomscope.engine.accelerate import Evaluator
from phantomscope.engine.networks import build_network, preset_spec
from phantomscope.engine.precision import cpu_bf16, pick_precision
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.engine.train import Trainer
from phantomscope.engine.unet import UNet
from phantomscope.images.noise import generator

CPU = torch.device("cpu")
THREADS = 2
SIZES = {2: (256, 256), 3: (32, 128, 128)}
COMMAND = "python -m benchmarks engine_speed"
PLAIN = "plain PyTorch: fp32, contiguous, not compiled"


@dataclass(frozen=True)
class Timing:
    """Least milliseconds per item of both, and the least that are possible."""

    plain: float
    ours: float
    floor: float

    @property
    def speedup(self) -> float:
        """How many times as fast ours is."""
        return self.plain / self.ours


def least(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run calls by turns and return the least milliseconds of each.

    By turns, and the least of many: other work on the machine hits all of them alike.
    """
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU works on after the call
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begin))
    return best


SIDE = 2048


def _side(on: torch.device) -> int:
    """Side of a matrix that keeps the device busy."""
    return SIDE if on.type == "cpu" else 4 * SIDE


def matmul(precision: str, on: torch.device = CPU) -> Callable[[], torch.Tensor]:
    """Return a large matrix product, to be timed by turns with the rest."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = _side(on)
    a, b = (torch.randn(side, side).to(on, dtype) for _ in range(2))
    return lambda: a @ b


def least_possible(
    operations: int, milliseconds: float, on: torch.device = CPU
) -> float:
    """Milliseconds of so many operations at the rate of that matrix product."""
    return operations * milliseconds / (2 * _side(on) ** 3)


def flops(network: UNet, x: torch.Tensor) -> int:
    """Count the operations of one evaluation of a batch."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, torch.full((len(x),), 300, device=x.device))
    return int(counter.get_total_flops())


def evaluation(
    dims: int, norm: str, batch: int, rounds: int, preset: str = "eschweiler",
    on: torch.device = CPU,
) -> Timing:  # fmt: skip
    """Time network evaluations of one batch."""
    torch.set_num_threads(THREADS)
    precision = pick_precision("auto", on)
    network = build_network(preset_spec(preset, dims, norm=norm), 0).eval().to(on)  # type: ignore[arg-type]
    x = torch.randn(batch, 1, *SIZES[dims], device=on)
    t = torch.full((batch,), 300, device=on)
    ours = Evaluator(network, on, precision, compiled=True)

    def plain() -> torch.Tensor:
        with torch.inference_mode():
            return network(x, t)  # type: ignore[no-any-return]

    calls = {
        "plain": plain,
        "ours": lambda: ours(x, t),
        "matmul": matmul(precision, on),
    }
    for call in calls.values():
        call()
    found = least(calls, rounds)
    floor = least_possible(flops(network, x), found["matmul"], on)
    return Timing(found["plain"] / batch, found["ours"] / batch, floor / batch)


def _reference(network: UNet, x: torch.Tensor) -> Callable[[], None]:
    """Steps as the reference trains: RAdam, one image each, no moving average."""
    optimiser = torch.optim.RAdam(network.parameters(), lr=1e-3)

    def steps() -> None:
        for image in x.split(1):
            optimiser.zero_grad(set_to_none=True)
            output = network(image, torch.full((1,), 300, device=image.device))
            torch.autograd.backward(nn.functional.mse_loss(output, image))
            optimiser.step()

    return steps


def _patches(step: int, size: int) -> np.ndarray:
    rng = generator("engine_speed", step)
    return rng.standard_normal((size, 1, *SIZES[2]), np.float32)


def training(
    norm: str, batch: int, rounds: int, preset: str = "eschweiler",
    on: torch.device = CPU,
) -> Timing:  # fmt: skip
    """Time optimiser steps, whole: ours with batches, moving average and all."""
    torch.set_num_threads(THREADS)
    spec = preset_spec(preset, 2, norm=norm)  # type: ignore[arg-type]
    network = build_network(spec, 0).to(on)
    options = Train(
        steps=1_000_000, batch_size=batch, patch=SIZES[2][0], optimiser="radam",
        device=on.type, compile="always", threads=THREADS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            build_network(spec, 0), Process.gaussian(cosine_alpha_bar(1000)), _patches,
            options, seed=0, noise_channel=False, identity={}, state=Path(folder),
        )  # fmt: skip

        def ours() -> None:
            trainer._step()
            trainer.run.step += 1

        # As many images at a time: long calls are hit by other work more often.
        x = torch.from_numpy(_patches(0, batch)).to(on)
        calls = {
            "plain": _reference(network, x),
            "ours": ours,
            "matmul": matmul(trainer.precision, on),
        }
        for call in calls.values():
            call()
        found = least(calls, rounds)
        trainer._batches.close()
    # The backward pass computes gradients of the input and of the weights.
    floor = least_possible(3 * flops(network, x), found["matmul"], on)
    return Timing(found["plain"] / batch, found["ours"] / batch, floor / batch)


def device(on: torch.device = CPU) -> str:
    """Name what it ran on, and the processor's features that matter."""
    if on.type == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {_version()}"
    kind = cpu_bf16() or "no bf16"
    return f"{platform.machine()} with {kind}, {THREADS} CPU cores, torch {_version()}"


def _version() -> str:
    return torch.__version__.partition("+")[0]


def _row(name: str, what: str, goal: str, timing: Timing) -> Row:
    share = timing.floor / timing.ours
    return Row(
        f"engine.{name}",
        f"{what}: {timing.ours:.0f} ms an image against {timing.plain:.0f} ms",
        PLAIN,
        timing.speedup,
        "times",
        goal,
        COMMAND,
        floor=f"{timing.floor:.0f} ms: its FLOP at the rate of a large matrix product "
        f"in the same precision; {share:.0%} of that rate is reached",
        baseline=timing.plain,
        ratio=timing.speedup,
        device=device(),
    )


def _evaluations(rounds: int) -> Iterable[Row]:
    for norm, suffix in (("instance", ""), ("channel", "_channel_norm")):
        for batch in (1, 8):
            yield _row(
                f"evaluation_speedup_b{batch}{suffix}",
                f"evaluation, 256 x 256 px, {norm} norm, batch of {batch}",
                ">= 2.2",
                evaluation(2, norm, batch, max(rounds // batch, 3)),
            )
    yield _row(
        "evaluation_speedup_3d",
        "evaluation, 32 x 128 x 128 px, instance norm, batch of 1",
        ">= 2.2",
        evaluation(3, "instance", 1, max(rounds // 8, 3)),
    )


def rows(_: Path, rounds: int = 80) -> list[Row]:
    """Measure all; a few minutes, most of them for compilation."""
    found = list(_evaluations(rounds))
    for norm, suffix in (("instance", ""), ("channel", "_channel_norm")):
        found.append(
            _row(
                f"training_speedup{suffix}",
                f"training step, 256 x 256 px, {norm} norm, ours with batch 4",
                ">= 2",
                training(norm, 4, max(rounds // 4, 3)),
            )
        )
    return found

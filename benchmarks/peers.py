"""Seconds per network evaluation with our sampler and with those of the peers.

Each peer drives our network through its own pipeline, as a user runs it: only the
sampling and the way to evaluate the network differ. All take the same DDIM steps of one
image of 256 x 256 px and one channel on two threads, in short turns; the fastest of the
turns counts, so that other work on the machine has to leave each only one in peace. Two
more measure the peers' own networks of about the same size.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peer_pipelines as pipelines
from benchmarks.table import FOLDER, Row
from phantomscope.engine.networks import count_parameters
from phantomscope.images.files import write_text

SIZE, STEPS, TURNS, THREADS = 256, 2, 12, 2
# Enough steps to see the sampling itself, with a network that costs nothing.
BARE_STEPS = 100
COMMAND = f"{pipelines.INSTALL}; python -m benchmarks peers"
TABLE = FOLDER / "results/peers.md"


@dataclass
class Clock:
    """Times and counts the calls of a function."""

    function: Callable[..., Any]
    seconds: float = 0.0
    calls: int = 0

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        begin = time.perf_counter()
        result = self.function(*arguments)
        self.seconds += time.perf_counter() - begin
        self.calls += 1
        return result


@dataclass
class Contender:
    """One way to sample an image.

    Attributes
    ----------
    run : callable
        Samples one image.
    clock : Clock
        Around the network.
    precision : {"fp32", "bf16"}
        What the run is autocast to; an evaluator of ours sees to that by itself.
    parameters : int
        Of the network.
    totals, inside, cpu : list of float
        Seconds of each turn, those within the network, and those of all threads.
    """

    run: Callable[[], Any]
    clock: Clock
    precision: str = "fp32"
    parameters: int = 0
    totals: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def turn(self) -> None:
        """Sample one image and note the time."""
        self.clock.seconds = 0.0
        bf16 = self.precision == "bf16"
        begin, cpu = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            self.run()
        self.totals.append(time.perf_counter() - begin)
        self.cpu.append(time.process_time() - cpu)
        self.inside.append(self.clock.seconds)

    def per_step(self, steps: int) -> tuple[float, float]:
        """Return seconds per step of the fastest turn, and those outside the network.

        The network's share varies by more than all the rest takes, so that the latter
        is the least difference within a turn.
        """
        outside = min(
            total - inside
            for total, inside in zip(self.totals, self.inside, strict=True)
        )
        return min(self.totals) / steps, outside / steps


def take_turns(contenders: dict[str, Contender], turns: int) -> None:
    """Run all in turns, once before that to warm up.

    Each turn has another order: what comes after a network that takes much memory has
    to ask for its own anew.
    """
    order, shuffle = list(contenders.values()), random.Random(0).shuffle
    for number in range(turns + 1):
        shuffle(order)
        for contender in order:
            contender.turn()
            if number == 0:
                for seconds in (contender.totals, contender.inside, contender.cpu):
                    seconds.clear()


def _ours(evaluate: pipelines.Evaluate, steps: int) -> Contender:
    clock, process = Clock(evaluate), pipelines.shared_process()
    planned, _ = pipelines.plan(steps, "ddim")
    noise = torch.Generator().manual_seed(0)

    def run() -> Tensor:
        x = torch.randn((1, 1, SIZE, SIZE), generator=noise)
        return pipelines.ours(clock, process, planned, x, clip=True)

    return Contender(run, clock)


def _diffusers(model: Any, clock: Clock, steps: int, precision: str) -> Contender:
    pipeline = pipelines.ddim_pipeline(model)
    noise = torch.Generator().manual_seed(0)

    def run() -> Any:
        return pipeline(
            generator=noise, num_inference_steps=steps, output_type="np"
        ).images

    return Contender(run, clock, precision)


def _ddpm_pytorch(
    model: nn.Module, clock: Clock, steps: int, precision: str
) -> Contender:
    diffusion = pipelines.gaussian_diffusion(model, SIZE, steps)
    return Contender(lambda: pipelines.ddpm_pytorch_sample(diffusion), clock, precision)


def _driven(function: Callable[..., Tensor], steps: int) -> dict[str, Contender]:
    """Return contenders in which the peers drive a function of ours."""
    found = {}
    for precision in ("fp32", "bf16"):
        clock = Clock(function)
        model = pipelines.diffusers_network(clock, SIZE)
        found[f"diffusers, {precision}"] = _diffusers(model, clock, steps, precision)
        clock = Clock(function)
        found[f"ddpm_pytorch, {precision}"] = _ddpm_pytorch(
            pipelines.Driven(clock), clock, steps, precision
        )
    return found


def _own(model: nn.Module, make: Callable[..., Contender]) -> Contender:
    """Return a contender with a peer's own network, timed within."""
    clock = Clock(model.forward)
    model.forward = clock  # type: ignore[method-assign]
    contender = make(model, clock, STEPS, "fp32")
    contender.parameters = count_parameters(model)
    return contender


def contenders() -> dict[str, Contender]:
    """Return all that are compared."""
    network = pipelines.shared_network()
    found = {
        f"ours, {precision}": _ours(pipelines.evaluator(network, precision), STEPS)
        for precision in ("fp32", "bf16")
    }
    found |= _driven(network, STEPS)
    for contender in found.values():
        contender.parameters = count_parameters(network)
    own = pipelines.own_networks(SIZE)
    found["diffusers, its own network, fp32"] = _own(own["diffusers"], _diffusers)
    found["ddpm_pytorch, its own network, fp32"] = _own(
        own["ddpm_pytorch"], _ddpm_pytorch
    )
    return found


def bare() -> dict[str, Contender]:
    """Return the same samplers with a network that gives its input back."""
    ours = _ours(lambda x, t: x, BARE_STEPS)
    driven = _driven(lambda x, t: x, BARE_STEPS)
    return {"ours, fp32": ours} | {k: c for k, c in driven.items() if "fp32" in k}


def markdown(timed: dict[str, Contender], free: dict[str, Contender], on: str) -> str:
    """Return the table of all contenders."""
    lines = [
        "# Peers",
        "",
        f"One image of {SIZE} x {SIZE} px, {STEPS} DDIM steps, {THREADS} threads, "
        f"fastest of {TURNS} turns; {on}. Sampling alone: a step without a network, "
        f"of {BARE_STEPS}.",
        "",
        "| sampler | parameters | s per step | slowest turn | CPU s per step | "
        "sampling alone, ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, contender in timed.items():
        seconds, _ = contender.per_step(STEPS)
        slowest = max(contender.totals) / STEPS
        alone = "-"
        if name in free:
            alone = f"{1000 * free[name].per_step(BARE_STEPS)[1]:.2f}"
        lines.append(
            f"| {name} | {contender.parameters:,} | {seconds:.3f} | {slowest:.3f} | "
            f"{min(contender.cpu) / STEPS:.3f} | {alone} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(
    row: str, what: str, on: str, theirs: Contender, ours: Contender, steps: int = STEPS
) -> Row:
    """Return the row of seconds per step of theirs over ours."""
    (a, a_outside), (b, b_outside) = theirs.per_step(steps), ours.per_step(steps)
    shown = (
        f"{what}: seconds per step, theirs {a:.4g} ({a_outside:.2g} outside the "
        f"network) over ours {b:.4g} ({b_outside:.2g})"
    )
    return Row(
        f"peers.{row}", shown, on, a / b, "", "> 1", COMMAND, baseline=a, ratio=a / b
    )


def ratios(
    timed: dict[str, Contender], free: dict[str, Contender], on: str
) -> list[Row]:
    """Return the rows of times."""
    rows = []
    for key, name in pipelines.PEERS.items():
        of = {p: timed[f"{key}, {p}"] for p in ("fp32", "bf16")}
        own = timed[f"{key}, its own network, fp32"]
        default = f"{name} in its default fp32, ours with bf16 chosen"
        rows += [
            _ratio(f"{key}_ratio", default, on, of["fp32"], timed["ours, bf16"]),
            *(
                _ratio(f"{key}_ratio_{p}", f"{name}, both in {p}", on, of[p],
                       timed[f"ours, {p}"])
                for p in of
            ),
            _ratio(f"{key}_own_ratio", f"{name} with its own network of "
                   f"{own.parameters:,} parameters (fp32), ours with bf16 chosen",
                   on, own, timed["ours, bf16"]),
            _ratio(f"{key}_sampling_ratio", f"{name}, sampling without a network",
                   f"{SIZE} x {SIZE} px, {BARE_STEPS} DDIM steps",
                   free[f"{key}, fp32"], free["ours, fp32"], BARE_STEPS),
        ]  # fmt: skip
    return rows


def differences() -> list[Row]:
    """Return the rows of the same image by all: same network, noise and times."""
    network, size = pipelines.shared_network(), 64
    on = f"iddpm network, random weights, {size} x {size} px, fp32, "
    steps = (4, 10, 20)
    ddim = [
        pipelines.ddim_difference(network, size, n, clip=clip)
        for n in steps
        for clip in (False, True)
    ]
    spacings = ("uniform", "log_snr", "quadratic")
    dpm = [pipelines.dpmpp_difference(network, size, n, s)
           for n in steps for s in spacings]  # fmt: skip
    peer = [pipelines.ddpm_pytorch_difference(network, size, n) for n in steps]
    shown, goal = ", ".join(map(str, steps)), "<= 0.0001"
    return [
        Row("peers.ddim_difference",
            "largest difference to the image of diffusers' DDIM, over its maximum",
            f"{on}{shown} steps, with clipping and without", max(ddim), "", goal,
            COMMAND),
        Row("peers.dpmpp_difference",
            "largest difference to the image of diffusers' DPM-Solver++(2M), over its "
            "maximum", f"{on}{shown} steps, times {', '.join(spacings)}", max(dpm), "",
            goal, COMMAND),
        Row("peers.ddpm_pytorch_difference",
            "largest difference to the image of denoising-diffusion-pytorch's DDIM, "
            "over the range", f"{on}{shown} steps, with clipping", max(peer), "", goal,
            COMMAND),
    ]  # fmt: skip


def measure() -> list[Row]:
    """Measure everything; the peers must be there."""
    before, load = torch.get_num_threads(), os.getloadavg()[0]
    torch.set_num_threads(THREADS)
    try:
        rows = differences()
        timed, free = contenders(), bare()
        take_turns(free, TURNS)
        take_turns(timed, TURNS)
    finally:
        torch.set_num_threads(before)
    on = f"torch {torch.__version__}, {pipelines.versions()}"
    others = f"load of the machine before {load:.1f}, after {os.getloadavg()[0]:.1f}"
    write_text(TABLE, markdown(timed, free, f"{on}; {others}"))
    here = f"iddpm network, {SIZE} x {SIZE} px, {STEPS} DDIM steps, {on}"
    return ratios(timed, free, here) + rows

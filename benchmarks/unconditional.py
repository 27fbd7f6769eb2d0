"""Unconditional images: the time of one, and how few steps are as good as all.

Speed is that of the `iddpm` network (256 x 256 px, T = 2000, random weights: what it
gives means nothing, what it takes does). How many steps are enough is measured with an
experiment's trained model, which draws images by all of its steps and by few.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.engine_speed import CPU, THREADS, device, least
from benchmarks.laboratory import Laboratory
from benchmarks.quality import FULL, Samplers, real_sample, rounded
from benchmarks.quality_losses import GOAL, Comparison, Outcome, sample
from benchmarks.table import Row
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import build_network, count_parameters, preset_spec
from phantomscope.engine.precision import cpu_bf16, pick_precision
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.engine.sample import Sampler
from phantomscope.engine.samplers import combine, plan_steps
from phantomscope.images.files import write_text
from phantomscope.progress import Progress

COMMAND = "python -m benchmarks unconditional"
TIMESTEPS = 2000
SAMPLERS = ("ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m")
STEPS = (10, 20, 50, 70, 100)
PART = 50


def options(sampler: str, steps: int, tile: int, threads: int = THREADS) -> Synthesise:
    """Return how we sample: bf16 where the machine has it, and compiled."""
    spacing = "log_snr" if sampler.endswith("dpmpp_2m") else "uniform"
    return Synthesise(
        sampler=sampler, steps=steps, spacing=spacing, tile=tile, overlap=0,
        micro_batch=1, precision="auto", compile="always", threads=threads,
    )  # fmt: skip


# --- how many steps ---------------------------------------------------------------


def curve(
    lab: Laboratory, count: int = 12, side: int = 128, steps: Sequence[int] = STEPS,
    samplers: Sequence[str] = SAMPLERS, threads: int = THREADS,
    compiled: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Draw images by the full ancestral chain and by few steps, and compare them.

    All in the same arithmetic. No image is paired with a real one here, so only
    distances between sets are measured.
    """
    model = DiffusionModel.load(lab.model)
    total = model.process.timesteps
    ways = [(FULL, options("ddpm", total, side, threads))]
    ways += [(s, options(s, n, side, threads)) for s in samplers for n in steps]
    real = real_sample(lab, model.value_range)
    names = [str(n).zfill(6) for n in range(count)]
    rows, comparison, makers = [], None, Samplers(compiled)
    work = count * sum(way.steps for _, way in ways)
    with Progress("unconditional", work, unit="evaluations") as progress:
        for name, way in ways:
            sampler, made = makers.make(model, way, lab.config.seed), []
            for identifier in names:
                made.append(sampler.unconditional((side, side), f"free-{identifier}"))
                progress.advance(way.steps, f"{name}, {way.steps} steps")
            outcome = Outcome({}, {}, sample(made, names, model.value_range))
            comparison = comparison or Comparison(real, outcome)
            shape = {"sampler": name, "steps": way.steps, "spacing": way.spacing,
                     "precision": sampler.precision}  # fmt: skip
            rows.append(shape | comparison.values(outcome) | comparison.losses(outcome))
    sizes = {"n_images": count, "side": side, "n_patches": len(outcome.made.owner),
             "n_real": len(real.groups), "n_real_groups": real.n_groups,
             "n_real_patches": len(real.owner)}  # fmt: skip
    return pd.DataFrame(rows).assign(**sizes)


def fewest(table: pd.DataFrame) -> pd.Series:
    """Return the way of fewest steps that is as good as the full chain, or this.

    Values themselves must be as good, whatever their intervals: those of distances
    between small sets are so wide that they would forgive far too few steps. Of several
    with as many steps, that of the least loss.
    """
    equal = table[table[["worst", "raw"]].max(axis=1) <= GOAL]
    return equal.sort_values(["steps", "worst", "raw"]).iloc[0]


# --- how fast ---------------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """Seconds of one image.

    Attributes
    ----------
    reference : float
        Of all steps, plain: one step was timed.
    ours, evaluations : float
        Of the whole image, and of its network evaluations alone.
    first : float
        Of the first image, which compiles.
    """

    reference: float
    ours: float
    evaluations: float
    first: float


def random_model(preset: str, timesteps: int) -> DiffusionModel:
    """Return a model with random weights."""
    network = build_network(preset_spec(preset, timesteps=timesteps), 0).eval()
    process = Process.gaussian(cosine_alpha_bar(timesteps))
    return DiffusionModel(network, process, (-1.0, 1.0), False, {"fingerprint": preset})


def plain_step(
    model: DiffusionModel, side: int, on: torch.device = CPU
) -> Callable[[], Tensor]:
    """Return one ancestral step of the plain kind: eager, fp32, torch's own noise."""
    total = model.process.timesteps
    step = plan_steps(model.process, total, total, "ddpm")[total // 2]
    network = copy.deepcopy(model.network).to(on)
    x = torch.randn(1, 1, side, side, device=on)
    t = torch.tensor([step.t], device=on)

    def run() -> Tensor:
        with torch.inference_mode():
            x0 = model.process.to_x0(network(x, t), x, step.t)
            return combine(step, x, x0.clamp(-1, 1), None, torch.randn_like(x), None)

    return run


def speed(
    sampler: str, steps: int, *, preset: str = "iddpm", timesteps: int = TIMESTEPS,
    side: int = 256, rounds: int = 5, threads: int = THREADS,
) -> Speed:  # fmt: skip
    """Time one image of ours and steps of the plain chain, by turns."""
    torch.set_num_threads(threads)
    model = random_model(preset, timesteps)
    ours = Sampler(model, options(sampler, steps, side, threads), 0)
    plain = plain_step(model, side, ours.device)
    x = torch.randn(1, 1, side, side, device=ours.device)
    t = torch.tensor([timesteps // 2], device=ours.device)

    def image() -> np.ndarray:
        return ours.unconditional((side, side), "image")

    begin = time.perf_counter()
    image()
    first = time.perf_counter() - begin
    plain()
    # Several steps in a turn: the first after other work finds cold caches.
    calls = {f"plain-{n}": plain for n in range(6)}
    found = least(
        {**calls, "evaluation": lambda: ours.evaluate(x, t), "ours": image}, rounds
    )
    step = min(found[name] for name in calls)
    return Speed(
        step * timesteps / 1e3, found["ours"] / 1e3, found["evaluation"] * steps / 1e3,
        first,
    )  # fmt: skip


def rows(lab: Laboratory, on: str, tables: Path) -> list[Row]:
    """Find the fewest steps that are as good as all, and time them."""
    table = curve(lab)
    tables.mkdir(parents=True, exist_ok=True)
    write_text(tables / "unconditional.csv", rounded(table))
    full, chosen = table.iloc[0], fewest(table)
    all_steps = chosen["sampler"] == FULL
    sampler = "ddpm" if all_steps else str(chosen["sampler"])
    steps = TIMESTEPS if all_steps else int(chosen["steps"])
    # A whole chain of ours takes many minutes: a part of it tells.
    timed = PART if all_steps else steps
    found = speed(sampler, timed)
    share = steps / timed
    found = replace(
        found, ours=share * found.ours, evaluations=share * found.evaluations
    )
    return [speed_row(found, sampler, steps, chosen, full, on)]


def speed_row(
    found: Speed, sampler: str, steps: int, chosen: pd.Series, full: pd.Series, on: str
) -> Row:
    """Say what was timed, and what was compared to call it of equal quality."""
    parameters = count_parameters(random_model("iddpm", TIMESTEPS).network) / 1e6
    precision = pick_precision("auto", CPU)
    kind = f"{precision} ({cpu_bf16()})" if precision == "bf16" else "fp32"
    equal = (
        f"that so few are of equal quality was measured with the {on}: "
        f"{chosen['n_images']} images of {chosen['side']} px by {chosen['steps']} of "
        f"its {full['steps']} steps (the number was taken over as it is) against all "
        f"of them, both in {chosen['precision']} compiled, by texture Fréchet and "
        f"kernel distance to real images ({chosen['n_patches']} and "
        f"{chosen['n_real_patches']} patches), intensities and spectrum: the largest "
        f"loss that counts is {chosen['worst']:.3f}, without regard to intervals "
        f"{chosen['raw']:.3f}"
    )
    if chosen["sampler"] == FULL:
        equal = (
            f"with the {on} no fewer steps were of equal quality, so all are taken "
            f"({PART} were timed)"
        )
    what = (
        f"unconditional 256 x 256 px, iddpm network ({parameters:.1f} M parameters, "
        f"random weights): {sampler}, {steps} steps, {kind} compiled, whole image "
        f"{found.ours:.2f} s, against {TIMESTEPS} ancestral steps in eager fp32, timed "
        f"per step: {found.reference:.0f} s; {equal}"
    )
    return Row(
        "engine.unconditional_speedup", what, "plain chain, two threads, batch 1",
        found.reference / found.ours, "times", ">= 40", COMMAND,
        floor=f"{TIMESTEPS / steps:.0f} x by the number of steps alone; network "
        f"evaluations are {found.evaluations:.2f} s of ours; the first image, which "
        f"compiles, took {found.first:.0f} s",
        baseline=found.reference, ratio=found.reference / found.ours, device=device(),
    )  # fmt: skip

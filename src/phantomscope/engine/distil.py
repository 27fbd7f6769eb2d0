"""Few-step students: a network that takes 1 to 4 steps where its teacher takes many.

The way back from t_start is cut into as many segments as the student takes steps, at
the times of the sampler. The teacher's way is deterministic (DDIM or DPM-Solver++), so
each state at the upper end of a segment has one state at its lower end. The student
learns to go there in one DDIM step. This is the target of progressive distillation
(Salimans & Ho 2022, appendix G) with all halvings at once, or knowledge distillation
(Luhman & Luhman 2021) of each segment: a student is trained at the times that its
sampler visits, and at no others.

The ways start where those of synthesis start, from noised sketches. So a student sees
in training what it sees in use, and needs no images: sketches cost little.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phantomscope.config.diffusion import Distil, Train
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.accelerate import to_device
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.objective import WHOLE, Items, of_times
from phantomscope.engine.precision import pick_device
from phantomscope.engine.process import Process
from phantomscope.engine.samplers import (
    Step,
    ddim_steps,
    dpm_steps,
    integrate,
    time_grid,
)
from phantomscope.errors import PhantomscopeError

Solver = Literal["ddim", "dpmpp_2m"]


def segment_times(
    process: Process, start: int, steps: int, teacher_steps: int
) -> list[list[int]]:
    """Choose the times that the teacher visits in each segment.

    Parameters
    ----------
    process : Process
        Whose times to choose from.
    start : int
        t_start.
    steps : int
        Segments: network evaluations of the student.
    teacher_steps : int
        Those of the teacher from t_start to 0, shared evenly and rounded up.

    Returns
    -------
    list of list of int
        Falling times; each segment begins where the one before ended, and all ends are
        those of `time_grid`.
    """
    ends = time_grid(process, start, steps)
    each = math.ceil(teacher_steps / steps)
    found = []
    for t, u in itertools.pairwise(ends):
        times = np.rint(np.linspace(t, u, min(each, t - u) + 1))
        found.append([int(time) for time in times])
    return found


def equivalent_x0(step: Step, x: Tensor, landed: Tensor) -> Tensor:
    """Return the estimate of x_0 with which a first-order step goes where it should.

    Parameters
    ----------
    step : Step
        DDIM from t to u.
    x, landed : Tensor
        State at t, and the wanted state at u.
    """
    return (landed - step.on_x * x) / step.on_x0


def output_of_x0(process: Process, x0: Tensor, x: Tensor, t: int) -> Tensor:
    """Turn an estimate of x_0 at time t into the network's output: undo `to_x0`."""
    a, s = float(process.a[t]), float(process.s[t])
    if process.prediction == "x0":
        return x0
    if process.prediction == "eps":
        return (x - a * x0) / s
    return (a * x - x0) / s


def truncated_snr(process: Process) -> NDArray[np.float64]:
    """Weights of the squared error of the output: max(SNR, 1) for that of x_0.

    Salimans & Ho 2022, section 4. Wherever there is more image than noise, it is the
    plain squared error of ``eps``. For t = 0 ... T, 0 at t = 0.
    """
    a, s = process.a[1:], process.s[1:]
    weights = np.maximum((a / s) ** 2, 1)
    if process.prediction == "eps":
        weights = weights * (s / a) ** 2
    elif process.prediction == "v":
        weights = weights * s**2
    return np.concatenate([[0.0], weights])


@dataclass(frozen=True, eq=False)
class Distillation:
    """Go in one step where the teacher goes in many: an `Objective`.

    Attributes
    ----------
    teacher : nn.Module
        In evaluation mode, on the device of the training.
    process : Process
        What teacher and student undo.
    start : int
        t_start.
    segments : list of list of int
        Times of the teacher; see `segment_times`.
    solver : {"ddim", "dpmpp_2m"}
        How the teacher goes.
    clip : tuple of float, optional
        Range that the teacher's estimates of the image are clipped to.
    noise_channel : bool
        Whether the networks take a second channel of noise. What it holds cannot be
        distilled: the student gets that of the teacher's first step in each segment.
    conditions : int
        1 if the networks see the sketch, too.
    """

    teacher: nn.Module
    process: Process
    start: int
    segments: list[list[int]]
    solver: Solver = "ddim"
    clip: tuple[float, float] | None = None
    noise_channel: bool = False
    conditions: int = 0

    def draw(self, x0: Tensor, rng: torch.Generator, part: slice = WHOLE) -> Items:
        """Follow the teacher from noised sketches; every segment gives one item.

        As many sketches are used as make ``len(x0)`` items.
        """
        device = next(self.teacher.parameters()).device
        count = len(self.segments)
        first, stop, _ = part.indices(len(x0))
        clean = x0[: math.ceil(len(x0) / count)]
        # The sketches that give items of this part, with the noise among all.
        rows = slice(first // count, math.ceil(stop / count))

        def noise() -> Tensor:
            return torch.randn(clean.shape, generator=rng)[rows]

        x = self.process.q_sample(clean[rows], self.start, noise()).to(device)
        inputs, states = self._follow(x, clean[rows].to(device), noise)
        ends = [times[0] for times in self.segments] + [0]
        targets = [
            self._target(states[k], states[k + 1], ends[k], ends[k + 1])
            for k in range(count)
        ]
        t = torch.tensor(ends[:-1]).repeat(len(x))
        own = slice(first - rows.start * count, stop - rows.start * count)
        items = [torch.stack(each, dim=1).flatten(0, 1) for each in (inputs, targets)]
        return items[0][own], t[own], items[1][own]

    def _target(self, x: Tensor, landed: Tensor, t: int, u: int) -> Tensor:
        x0 = equivalent_x0(ddim_steps(self.process, [t, u])[0], x, landed)
        return output_of_x0(self.process, x0, x, t)

    @torch.no_grad()
    def _follow(
        self, x: Tensor, sketch: Tensor, noise: Callable[[], Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return what the network saw at the upper end of each segment, and all ends.

        Float32 throughout: rounding would add up over the steps.
        """
        first = {times[0] for times in self.segments}
        inputs: list[Tensor] = []
        states: list[Tensor] = []

        def predict(state: Tensor, t: int) -> Tensor:
            seen = state
            if self.noise_channel:
                seen = torch.cat([state, noise().to(state.device)], dim=1)
            if self.conditions:
                seen = torch.cat([seen, sketch], dim=1)
            if t in first:
                inputs.append(seen)
                states.append(state)
            times = torch.full((len(state),), t, device=state.device)
            x0 = self.process.to_x0(self.teacher(seen, times).float(), state, t)
            return x0 if self.clip is None else x0.clamp(*self.clip)

        make = ddim_steps if self.solver == "ddim" else dpm_steps
        times = [t for part in self.segments for t in part[:-1]] + [0]
        end = integrate(make(self.process, times), x, predict, torch.zeros)
        return inputs, [*states, end]

    def loss(self, output: Tensor, t: Tensor, target: Tensor) -> Tensor:
        """Squared error of the image, weighted with the truncated SNR."""
        weights = of_times(truncated_snr(self.process), t, output)
        error = (output - target).square().flatten(1).mean(dim=1)
        return (weights * error).mean()


def make_distillation(
    teacher: DiffusionModel, options: Distil, start: int, *, clip: bool, device: str
) -> Distillation:
    """Build the objective that a config asks for.

    Parameters
    ----------
    teacher : DiffusionModel
        The trained model.
    options : Distil
        Steps of both, and the teacher's sampler.
    start : int
        t_start.
    clip : bool
        Clip the teacher's estimates to the range of the training images.
    device : {"auto", "cpu", "cuda"}
        Where to train.
    """
    return Distillation(
        to_device(teacher.network, pick_device(device)),
        teacher.process,
        start,
        segment_times(teacher.process, start, options.steps, options.teacher_steps),
        options.teacher_sampler,
        teacher.value_range if clip else None,
        teacher.noise_channel,
        teacher.conditions,
    )


def student_training(options: Distil, train: Train) -> Train:
    """Return how a student is trained: its own options, the rest as its teacher."""
    own = options.model_dump(
        include={"batch_size", "patch", "learning_rate", "warmup", "decay", "ema"}
    )
    return train.with_own({**own, "steps": options.train_steps})


def student_options(
    meta: Mapping[str, Any], options: Synthesise, start: int
) -> Synthesise:
    """Return the options with which a model is used: a student takes its own steps.

    Parameters
    ----------
    meta : Mapping
        Of the model.
    options : Synthesise
        What the config says; it holds for a model that is no student.
    start : int
        t_start.

    Raises
    ------
    PhantomscopeError
        If a student was trained for another t_start.
    """
    about = meta.get("distilled")
    if about is None:
        return options
    if about["t_start"] != start:
        raise PhantomscopeError(
            f"this student was trained for t_start = {about['t_start']}, not {start}",
            where="start.value",
            fix="run the stage `distil` again",
        )
    own = {
        "steps": about["steps"], "sampler": "ddim", "eta": 0.0, "spacing": "uniform",
    }  # fmt: skip
    return options.model_copy(update=own)

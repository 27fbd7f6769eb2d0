"""The way back: samplers as lists of steps, computed before the network runs.

Every step of every sampler here is one linear combination of the state, the estimate
of the clean image, the estimate of the step before, the condition and fresh noise. A
sampler is the list of its coefficients (float64, for any subset of the times), so the
loop over the steps does no arithmetic of its own and never waits for the device.

| sampler | x0 estimate of the step before | noise | order |
|---|---|---|---|
| ancestral (Ho et al. 2020; residual shift: Yue et al. 2023) | no | yes | 1 |
| DDIM (Song et al. 2021) | no | eta | 1 |
| DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) | yes | no | 2 |
| SDE-DPM-Solver++(2M) (Lu et al. 2022) | yes | yes | 2 |

Orders are those of the convergence to the exact solutions for Gaussian data: of the
state, and of its distribution where there is noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.engine.process import Process, Transition, ancestral, ddim, respace
from phantomscope.errors import PhantomscopeError

SamplerName = Literal["ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m"]
Spacing = Literal["uniform", "log_snr", "quadratic"]
Variance = Literal["small", "large"]
Respacing = Literal["derived", "reference"]

# Cosine schedules fall to lambda = -11 within their last two of a thousand times. The
# authors of DPM-Solver cut there, so that a grid does not spend its steps on nothing.
LOWEST_HALF_LOG_SNR = -5.1


@dataclass(frozen=True)
class Step:
    """One step back from t to u < t.

    x_u = on_x x_t + on_x0 x0 + on_last x0_last + on_condition c + sigma z

    Attributes
    ----------
    t, u : int
        Times before and after.
    on_x, on_x0, on_last : float
        Weights of the state, of the estimate of x_0 from it, and of the estimate that
        the step before made.
    sigma : float
        Standard deviation of the fresh noise.
    on_condition : float
        Weight of the condition.
    """

    t: int
    u: int
    on_x: float
    on_x0: float
    on_last: float
    sigma: float
    on_condition: float = 0.0


def _first_order(process: Process, transition: Transition) -> Step:
    """Collect the terms of x_u = a_u x0 + b_u c + rho (x_t - a_t x0 - b_t c)."""
    t, u, rho = transition.t, transition.u, transition.rho
    on_x0 = float(process.a[u] - rho * process.a[t])
    on_condition = float(process.b[u] - rho * process.b[t])
    if abs(on_condition) < 1e-12:
        # The posterior of the residual shift does without c; rounding must not need it.
        on_condition = 0.0
    return Step(t, u, rho, on_x0, 0.0, transition.sigma, on_condition)


def _pairs(times: Sequence[int]) -> list[tuple[int, int]]:
    pairs = list(itertools.pairwise(times))
    if not pairs or times[-1] < 0 or any(t <= u for t, u in pairs):
        raise ValueError(f"times must fall and not below 0: {list(times)}")
    return pairs


def ancestral_steps(
    process: Process, times: Sequence[int], variance: Variance = "small"
) -> list[Step]:
    """Ancestral sampling by the posterior q(x_u | x_t, x_0).

    Parameters
    ----------
    process : Process
        Any: this is DDPM, the sampler of the residual shift, and the single step of a
        regression.
    times : sequence of int
        Falling, from t_start to 0 (or to a later time, for a part of the way).
    variance : {"small", "large"}
        That of the posterior, or that of the forward step.
    """
    return [
        _first_order(process, ancestral(process, t, u, variance))
        for t, u in _pairs(times)
    ]


def ddim_steps(process: Process, times: Sequence[int], eta: float = 0.0) -> list[Step]:
    """DDIM: deterministic at eta = 0, `ancestral_steps` (small variance) at eta = 1."""
    return [_first_order(process, ddim(process, t, u, eta)) for t, u in _pairs(times)]


def dpm_steps(
    process: Process,
    times: Sequence[int],
    *,
    stochastic: bool = False,
    first_order_last: bool = False,
) -> list[Step]:
    """DPM-Solver++(2M), or SDE-DPM-Solver++(2M).

    The solvers of first order are DDIM and the ancestral sampler. Those of second order
    replace the estimate x0 by its extrapolation to the middle of the step in lambda =
    log(a / s): x0 + (x0 - x0_last) h / (2 h_last). The first step has no estimate
    before it, and a step to the clean image is infinitely long: both are of first
    order, as is one that follows an infinitely long step (from zero terminal SNR).

    Parameters
    ----------
    process : Process
        Gaussian diffusion.
    times : sequence of int
        Falling, from t_start to 0 (or to a later time, for a part of the way).
    stochastic : bool
        Solve the reverse SDE instead of the probability-flow ODE.
    first_order_last : bool
        Take the last step with first order even where it ends above 0.

    Raises
    ------
    PhantomscopeError
        If the process has a condition as its end.
    """
    if process.shifts:
        raise PhantomscopeError(
            "DPM-Solver++ is for Gaussian diffusion, not for a process that ends at a "
            "condition",
            where="synthesise.sampler",
            fix="use `ddpm` or `ddim`",
        )
    eta = 1.0 if stochastic else 0.0
    steps = ddim_steps(process, times, eta)
    lam = process.half_log_snr
    second = range(1, len(steps) - 1 if first_order_last else len(steps))
    for k in second:
        step, before = steps[k], steps[k - 1]
        length, length_before = lam[step.u] - lam[step.t], lam[step.t] - lam[before.t]
        if np.isinf(length):
            continue
        slope = float(step.on_x0 * length / (2 * length_before))
        steps[k] = replace(step, on_x0=step.on_x0 + slope, on_last=-slope)
    return steps


def time_grid(
    process: Process, start: int, steps: int, spacing: Spacing = "uniform"
) -> list[int]:
    """Choose the times of a shortened chain.

    Parameters
    ----------
    process : Process
        Whose times to choose from.
    start : int
        t_start in 1 ... T.
    steps : int
        Network evaluations.
    spacing : {"uniform", "log_snr", "quadratic"}
        Uniform in t; uniform in log(a / s), from `start` to t = 1 (above
        `LOWEST_HALF_LOG_SNR`); or t proportional to the square of the number of steps
        that remain. Rounded to distinct times.

    Returns
    -------
    list of int
        `steps` + 1 falling times, from `start` to 0.

    Raises
    ------
    PhantomscopeError
        If there are more steps than times.
    """
    uniform = [*respace(start, steps), 0]
    if spacing == "uniform" or steps == 1:
        return uniform
    if spacing == "quadratic":
        wanted = start * (np.arange(steps, 0, -1) / steps) ** 2
    else:
        lam = np.maximum(process.half_log_snr[start:0:-1], LOWEST_HALF_LOG_SNR)
        even = np.linspace(lam[0], lam[-1], steps)
        wanted = np.interp(even, lam, np.arange(start, 0, -1))
    return [*_distinct(wanted, start), 0]


def _distinct(wanted: NDArray[np.float64], start: int) -> list[int]:
    """Round falling times to distinct ones from `start` down to 1 or more."""
    times = [start]
    for remaining in range(len(wanted) - 1, 0, -1):
        nearest = round(float(wanted[-remaining]))
        times.append(max(min(nearest, times[-1] - 1), remaining))
    return times


def plan_steps(
    process: Process,
    start: int,
    steps: int,
    sampler: SamplerName = "ddim",
    *,
    spacing: Spacing = "uniform",
    eta: float = 0.0,
    variance: Variance = "small",
    respacing: Respacing = "derived",
) -> list[Step]:
    """List all steps from t_start to 0.

    Parameters
    ----------
    process : Process
        What to undo.
    start : int
        t_start: T to start from noise, or less to start from a noised sketch.
    steps : int
        Network evaluations.
    sampler : {"ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m"}
        Which sampler.
    spacing : {"uniform", "log_snr", "quadratic"}
        See `time_grid`.
    eta : float
        Noise of ``ddim``.
    variance : {"small", "large"}
        Of ``ddpm``.
    respacing : {"derived", "reference"}
        Of ``ddpm``: ``reference`` takes the coefficients of the step from t to t - 1
        for the whole way from t to the next chosen time, as the released code of
        Eschweiler & Stegmaier does with a stride. Too much noise stays: an ablation.
    """
    times = time_grid(process, start, steps, spacing)
    if respacing == "reference":
        single = [ancestral_steps(process, (t, t - 1), variance)[0] for t in times[:-1]]
        return [replace(step, u=u) for step, u in zip(single, times[1:], strict=True)]
    if sampler == "ddim":
        return ddim_steps(process, times, eta)
    if sampler == "ddpm":
        return ancestral_steps(process, times, variance)
    return dpm_steps(process, times, stochastic=sampler == "sde_dpmpp_2m")


def combine(
    step: Step,
    x: Tensor,
    x0: Tensor,
    last: Tensor | None = None,
    noise: Tensor | None = None,
    condition: Tensor | None = None,
) -> Tensor:
    """Take one step.

    Parameters
    ----------
    step : Step
        The coefficients.
    x, x0 : Tensor
        State at t and the estimate of the clean image from it.
    last, noise, condition : Tensor, optional
        The estimate of the step before, standard normal noise and the condition; needed
        only where their coefficients are not 0.

    Returns
    -------
    Tensor
        State at u.
    """
    total = step.on_x0 * x0
    for weight, term in (
        (step.on_x, x),
        (step.on_last, last),
        (step.on_condition, condition),
        (step.sigma, noise),
    ):
        if weight:
            if term is None:
                raise ValueError(f"{step} needs a term that was not given")
            total = total.add(term, alpha=weight)
    return total


def integrate(
    steps: Sequence[Step],
    x: Tensor,
    predict: Callable[[Tensor, int], Tensor],
    noise: Callable[[int], Tensor],
    condition: Tensor | None = None,
) -> Tensor:
    """Take all steps.

    Parameters
    ----------
    steps : sequence of Step
        The sampler.
    x : Tensor
        State at the first time.
    predict : callable
        ``predict(x, t)`` estimates the clean image.
    noise : callable
        ``noise(u)`` gives standard normal noise for the step to u; only called where
        the step needs it.
    condition : Tensor, optional
        The condition c.

    Returns
    -------
    Tensor
        State at the last time.
    """
    last = None
    for step in steps:
        x0 = predict(x, step.t)
        fresh = noise(step.u) if step.sigma else None
        x = combine(step, x, x0, last, fresh, condition)
        last = x0
    return x


def clip_range(x0: Tensor, low: float, high: float) -> Tensor:
    """Clip an estimate to the range of the training images."""
    return x0.clamp(low, high)


def dynamic_threshold(
    x0: Tensor, low: float, high: float, share: float = 0.995
) -> Tensor:
    """Pull an estimate back into a range (Saharia et al. 2022, section 2.3).

    Where the distance from the middle of the range, at the given share of the values,
    exceeds half the range, values are clipped there and shrunk to the range. The
    statistics belong to the item: of tiles of one image they differ.

    Parameters
    ----------
    x0 : Tensor, shape (N, ...)
        Estimates.
    low, high : float
        Range of the training images.
    share : float
        Share of the values, in (0, 1], that need not be clipped.

    Returns
    -------
    Tensor, shape (N, ...)
        Within the range.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    z = (x0 - middle) / half
    flat = z.abs().flatten(1)
    # `torch.quantile` refuses more than 16 million values.
    rank = max(int(np.ceil(share * flat.shape[1])), 1)
    limit = flat.kthvalue(rank, dim=1).values.clamp_min(1.0)
    limit = limit.reshape(-1, *(1,) * (x0.ndim - 1))
    pulled = middle + half * (z.clamp(-limit, limit) / limit)
    return pulled.clamp(low, high)

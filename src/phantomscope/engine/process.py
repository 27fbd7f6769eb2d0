"""One process for all systems: q(x_t | x_0, c) = N(a_t x_0 + b_t c, s_t^2 I).

| system | a_t | b_t | s_t |
|---|---|---|---|
| Gaussian diffusion (Ho et al. 2020) | sqrt(abar_t) | 0 | sqrt(1 - abar_t) |
| residual shift (Yue et al. 2023) | 1 - eta_t | eta_t | kappa sqrt(eta_t) |
| one-step regression | 0 | 1 | 0 |

Times are 1 ... T; index 0 of the tables is the clean image (a = 1, b = 0, s = 0).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.config import diffusion as options
from phantomscope.errors import PhantomscopeError

Prediction = Literal["eps", "x0", "v"]
Table = NDArray[np.float64]


def cosine_alpha_bar(timesteps: int) -> Table:
    """Cosine schedule (Nichol & Dhariwal 2021, eq. 17), beta clipped to 0.9999.

    Returns
    -------
    ndarray, shape (timesteps + 1,)
        abar_t for t = 0 ... T.
    """
    t = np.arange(timesteps + 1) / timesteps
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = np.clip(1 - f[1:] / f[:-1], 0, 0.9999)
    return np.concatenate([[1.0], np.cumprod(1 - beta)])


def linear_alpha_bar(timesteps: int) -> Table:
    """Linear schedule (Ho et al. 2020, section 4), scaled for another length.

    Returns
    -------
    ndarray, shape (timesteps + 1,)
        abar_t for t = 0 ... T.
    """
    scale = 1000 / timesteps
    beta = np.linspace(1e-4 * scale, min(0.02 * scale, 0.9999), timesteps)
    return np.concatenate([[1.0], np.cumprod(1 - beta)])


@dataclass(frozen=True, eq=False)
class Process:
    """The marginals of a corruption process and what the network predicts of it.

    Attributes
    ----------
    a, b, s : ndarray, shape (T + 1,)
        float64 coefficients for t = 0 ... T.
    prediction : {"eps", "x0", "v"}
        ``v`` is a_t eps - s_t x_0 (Salimans & Ho 2022), for Gaussian diffusion.
    """

    a: Table
    b: Table
    s: Table
    prediction: Prediction = "eps"

    @classmethod
    def gaussian(cls, alpha_bar: Table, prediction: Prediction = "eps") -> Process:
        """Gaussian diffusion with the given abar_t, t = 0 ... T."""
        zero = np.zeros_like(alpha_bar)
        return cls(np.sqrt(alpha_bar), zero, np.sqrt(1 - alpha_bar), prediction)

    @classmethod
    def residual_shift(cls, eta: Table, kappa: float) -> Process:
        """Residual shift with eta_t, t = 0 ... T (eta_0 = 0); predicts x_0."""
        return cls(1 - eta, eta.astype(float), kappa * np.sqrt(eta), "x0")

    @classmethod
    def one_step(cls) -> Process:
        """Regression: the start state is the condition, one step back is the image."""
        pair = (np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.zeros(2))
        return cls(*pair, "x0")

    @property
    def timesteps(self) -> int:
        """Length T of the chain."""
        return len(self.a) - 1

    def _at(self, table: Table, t: Tensor | int, like: Tensor) -> Tensor:
        """Coefficients at t, shaped to multiply a batch (N, C, ...)."""
        values = torch.as_tensor(table[np.asarray(t)], dtype=torch.float32)
        shape = (-1,) + (1,) * (like.ndim - 1)
        return values.reshape(shape).to(like.device)

    def q_sample(
        self,
        x0: Tensor,
        t: Tensor | int,
        noise: Tensor,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Corrupt: a_t x_0 + b_t c + s_t noise.

        Parameters
        ----------
        x0, noise, condition : Tensor, shape (N, C, ...)
            Clean images, standard normal noise, and the condition c.
        t : Tensor, shape (N,), or int
            Times in 1 ... T, on the CPU.
        """
        x = self._at(self.a, t, x0) * x0 + self._at(self.s, t, x0) * noise
        if condition is not None:
            x = x + self._at(self.b, t, x0) * condition
        return x

    def target(self, x0: Tensor, t: Tensor | int, noise: Tensor) -> Tensor:
        """Return what the network must predict."""
        if self.prediction == "eps":
            return noise
        if self.prediction == "x0":
            return x0
        return self._at(self.a, t, x0) * noise - self._at(self.s, t, x0) * x0

    def to_x0(self, output: Tensor, x: Tensor, t: int) -> Tensor:
        """Turn the network's output at time t into an estimate of x_0."""
        a, s = float(self.a[t]), float(self.s[t])
        if self.prediction == "x0":
            return output
        if self.prediction == "eps":
            return (x - s * output) / a
        return a * x - s * output


def make_process(config: options.Process) -> Process:
    """Build the Gaussian process that a config asks for."""
    schedules = {"cosine": cosine_alpha_bar, "linear": linear_alpha_bar}
    alpha_bar = schedules[config.schedule](config.timesteps)
    return Process.gaussian(alpha_bar, config.prediction)


def respace(start: int, steps: int) -> list[int]:
    """List the times of a shortened chain: `steps` distinct ones from `start` to 1.

    Raises
    ------
    PhantomscopeError
        If there are more steps than times.
    """
    if steps > start:
        raise PhantomscopeError(
            f"{steps} steps do not fit between t_start = {start} and 0",
            where="synthesise.steps",
            fix=f"use at most {start} steps",
        )
    times = np.rint(np.linspace(start, start / steps, steps)).astype(int)
    return [int(t) for t in times]


@dataclass(frozen=True)
class Transition:
    """One step back from t to u < t: how the new state is put together.

    x_u = a_u x0 + b_u c + rho (x_t - a_t x0 - b_t c) + sigma z

    keeps the marginal of u whenever rho^2 s_t^2 + sigma^2 = s_u^2. Every sampler here
    is a choice of rho and sigma.
    """

    t: int
    u: int
    rho: float
    sigma: float


def ancestral(
    process: Process, t: int, u: int, variance: Literal["small", "large"] = "small"
) -> Transition:
    """Step by the exact posterior q(x_u | x_t, x_0).

    ``small`` is its variance (Ho et al. 2020, eq. 7: beta tilde), ``large`` that of the
    forward step (beta). For the residual shift s^2 = kappa^2 eta, so that rho = eta_u /
    eta_t as in Yue et al. 2023, eq. 7. Both are derived anew for any pair t, u.
    """
    st2, su2 = process.s[t] ** 2, process.s[u] ** 2
    if st2 == 0:
        return Transition(t, u, 0.0, 0.0)
    if process.b[t] > 0:
        # The shift moves by steps that do not rescale the state.
        gain = 1.0
    else:
        gain = process.a[t] / process.a[u]
    rho = gain * su2 / st2
    forward = st2 - gain**2 * su2
    small = su2 * forward / st2
    sigma2 = forward if variance == "large" and u > 0 else small
    return Transition(t, u, float(rho), float(np.sqrt(max(sigma2, 0.0))))


def ddim(process: Process, t: int, u: int, eta: float = 0.0) -> Transition:
    """Step of DDIM (Song et al. 2021, eqs. 12, 16); eta = 1 has the small variance."""
    sigma = eta * ancestral(process, t, u).sigma
    st, su = process.s[t], process.s[u]
    rho = np.sqrt(max(su**2 - sigma**2, 0.0)) / st if st > 0 else 0.0
    return Transition(t, u, float(rho), float(sigma))


def transitions(
    process: Process, start: int, config: options.Synthesise
) -> list[Transition]:
    """All steps from t_start to 0 of the sampler that a config asks for."""
    times = [*respace(start, config.steps), 0]
    steps = []
    for t, u in itertools.pairwise(times):
        if config.sampler == "ddim":
            steps.append(ddim(process, t, u, config.eta))
        else:
            steps.append(ancestral(process, t, u, config.variance))
    return steps

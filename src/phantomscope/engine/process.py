"""One process for all systems: q(x_t | x_0, c) = N(a_t x_0 + b_t c, s_t^2 I).

| system | a_t | b_t | s_t |
|---|---|---|---|
| Gaussian diffusion (Ho et al. 2020) | sqrt(abar_t) | 0 | sqrt(1 - abar_t) |
| residual shift (Yue et al. 2023) | 1 - eta_t | eta_t | kappa sqrt(eta_t) |
| one-step regression | 0 | 1 | 0 |

Times are 1 ... T; index 0 of the tables is the clean image (a = 1, b = 0, s = 0).
Every coefficient of a step is derived from the tables at its two ends, in float64, so
that any subset of the times is a chain of its own. The samplers are in `samplers`.
"""

from __future__ import annotations

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


def _products(beta: Table) -> Table:
    return np.concatenate([[1.0], np.cumprod(1 - beta)])


def cosine_alpha_bar(
    timesteps: int, *, lowest: float = 0.0, highest: float = 0.9999
) -> Table:
    """Cosine schedule (Nichol & Dhariwal 2021, eq. 17).

    Parameters
    ----------
    timesteps : int
        Length T of the chain.
    lowest, highest : float
        Limits of beta_t.

    Returns
    -------
    ndarray, shape (timesteps + 1,)
        abar_t for t = 0 ... T.
    """
    t = np.arange(timesteps + 1) / timesteps
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return _products(np.clip(1 - f[1:] / f[:-1], lowest, highest))


def linear_alpha_bar(timesteps: int, betas: tuple[float, float] | None = None) -> Table:
    """Linear schedule (Ho et al. 2020, section 4).

    Parameters
    ----------
    timesteps : int
        Length T of the chain.
    betas : tuple of float, optional
        beta_1 and beta_T. Without them those of Ho et al. (1e-4 and 0.02 at T = 1000),
        scaled so that the noise at the end is about the same for any length.

    Returns
    -------
    ndarray, shape (timesteps + 1,)
        abar_t for t = 0 ... T.
    """
    scale = 1000 / timesteps
    first, last = betas or (1e-4 * scale, min(0.02 * scale, 0.9999))
    return _products(np.linspace(first, last, timesteps))


def zero_terminal_snr(alpha_bar: Table) -> Table:
    """Shift and scale sqrt(abar_t) to end at 0 (Lin et al. 2024, algorithm 1).

    The state at T is pure noise then, so the network cannot predict ``eps`` of it.

    Takes and gives abar_t for t = 0 ... T, with T > 1; those of 0 and 1 are kept.
    """
    a = np.sqrt(alpha_bar)
    scaled = (a[1:] - a[-1]) * (a[1] / (a[1] - a[-1]))
    # Squaring a root would cost the first value its last bits.
    return np.concatenate([alpha_bar[:2], scaled[1:] ** 2])


def residual_eta(
    timesteps: int, first: float, last: float, power: float = 0.3
) -> Table:
    """Schedule of the residual shift (Yue et al. 2023, section 2.2).

    sqrt(eta_t) is geometric in ((t - 1) / (T - 1))^power.

    Parameters
    ----------
    timesteps : int
        Length T of the chain.
    first, last : float
        eta_1 and eta_T (of a chain of one step: eta_T alone).
    power : float
        p: with a smaller one eta grows earlier.

    Returns
    -------
    ndarray, shape (timesteps + 1,)
        eta_t for t = 0 ... T, with eta_0 = 0.
    """
    if timesteps == 1:
        return np.array([0.0, last])
    exponent = (np.arange(timesteps) / (timesteps - 1)) ** power
    return np.concatenate([[0.0], first * (last / first) ** exponent])


@dataclass(frozen=True, eq=False)
class Process:
    """The marginals of a corruption process and what the network predicts of it.

    Attributes
    ----------
    a, b, s : ndarray, shape (T + 1,)
        float64 coefficients for t = 0 ... T.
    prediction : {"eps", "x0", "v"}
        ``v`` is a_t eps - s_t x_0 (Salimans & Ho 2022), for Gaussian diffusion.
    time_scale : float
        Network time per step: 1, or 1000 / T where the network counts to 1000.

    Raises
    ------
    PhantomscopeError
        If the image cannot be recovered from what the network predicts.
    """

    a: Table
    b: Table
    s: Table
    prediction: Prediction = "eps"
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.prediction == "eps" and not np.all(self.a > 0):
            raise PhantomscopeError(
                "the noise does not tell the image where nothing is left of it (a = 0)",
                where="process.prediction",
                fix="predict `v` or `x0`",
            )
        if self.prediction == "v" and not np.allclose(self.a**2 + self.s**2, 1):
            raise PhantomscopeError(
                "`v` needs a process that keeps the variance (a^2 + s^2 = 1)",
                where="process.prediction",
                fix="predict `x0`",
            )

    @classmethod
    def gaussian(
        cls, alpha_bar: Table, prediction: Prediction = "eps", time_scale: float = 1.0
    ) -> Process:
        """Gaussian diffusion with the given abar_t, t = 0 ... T."""
        a, s = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
        return cls(a, np.zeros_like(a), s, prediction, time_scale)

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

    @property
    def shifts(self) -> bool:
        """Whether the process ends at a condition, or near it, instead of at noise."""
        return bool(np.any(self.b > 0))

    @property
    def half_log_snr(self) -> Table:
        """lambda_t = log(a_t / s_t), falling from infinity at t = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(self.a) - np.log(self.s)

    def _at(self, table: Table, t: Tensor | int, like: Tensor) -> Tensor | float:
        """Coefficients at t, shaped to multiply a batch (N, C, ...)."""
        if not isinstance(t, Tensor):
            return float(table[t])
        dtype = torch.promote_types(like.dtype, torch.float32)
        values = torch.as_tensor(table[t.numpy()], dtype=dtype)
        return values.reshape(-1, *(1,) * (like.ndim - 1)).to(like.device)

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

    def to_x0(
        self,
        output: Tensor,
        x: Tensor,
        t: Tensor | int,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Turn the network's output at time t into an estimate of x_0.

        Parameters
        ----------
        output, x, condition : Tensor, shape (N, C, ...)
            What the network gave, the state it saw, and the condition c.
        t : Tensor, shape (N,), or int
            Times in 1 ... T, on the CPU.
        """
        if self.prediction == "x0":
            return output
        a, s = self._at(self.a, t, x), self._at(self.s, t, x)
        if condition is not None:
            x = x - self._at(self.b, t, x) * condition
        if self.prediction == "eps":
            return (x - s * output) / a
        return a * x - s * output

    def network_time(self, t: Tensor) -> Tensor:
        """Return times in the network's unit."""
        return t * self.time_scale

    def scale_input(self, x: Tensor, t: Tensor | int) -> Tensor:
        """Scale a state to unit variance, as the network wants it.

        For images and conditions of unit variance that go together; this changes
        nothing in Gaussian diffusion, and is 1 / sqrt(1 + kappa^2 eta_t) for the
        residual shift (Yue et al. 2023, released code).
        """
        return x / self._at(np.hypot(self.a + self.b, self.s), t, x)

    def prior(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the start state at T when there is no sketch.

        Gaussian diffusion starts from the noise itself. The others take the condition
        for the image that they do not know yet: c + s_T noise.
        """
        if self.b[-1] == 0:
            return noise
        if condition is None:
            raise ValueError("this process starts from a condition")
        return self.q_sample(condition, self.timesteps, noise, condition)


def make_process(config: options.Process) -> Process:
    """Build the process that a config asks for."""
    if config.kind == "one_step":
        return Process.one_step()
    if config.kind == "residual_shift":
        eta = residual_eta(
            config.timesteps, config.eta_first, config.eta_last, config.eta_power
        )
        return Process.residual_shift(eta, config.kappa)
    if config.schedule == "linear":
        alpha_bar = linear_alpha_bar(config.timesteps, config.betas)
    else:
        alpha_bar = cosine_alpha_bar(config.timesteps)
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

"""What a network is trained for: the items of a step and the loss of its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from phantomscope.engine.perceptual import Perceptual
from phantomscope.engine.process import Process, Table, ancestral
from phantomscope.errors import PhantomscopeError

Items = tuple[Tensor, Tensor, Tensor]
ErrorName = Literal["mse", "mae", "smooth_l1"]
LossWeight = Literal["uniform", "min_snr", "bound"]
WHOLE = slice(None)

ERRORS = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "smooth_l1": functional.smooth_l1_loss,
}


class Objective(Protocol):
    """What `Trainer` asks for at each step."""

    def draw(self, x0: Tensor, rng: torch.Generator, part: slice = WHOLE) -> Items:
        """Make the items of a step from clean patches.

        Parameters
        ----------
        x0 : Tensor, shape (N, C, ...)
            Clean patches of the whole step, on the CPU; what the network sees beside
            them comes last.
        rng : Generator
            Source of everything random; it belongs to the step.
        part : slice
            Only these of the N items are made; they are the same as among all.

        Returns
        -------
        x : Tensor, shape (M, C, ...)
            Inputs of the network.
        t : Tensor, shape (M,)
            Times, on the CPU.
        target : Tensor, shape (M, 1, ...)
            What the network should give.
        """
        ...

    def loss(self, output: Any, t: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of some of the items, as float32."""
        ...


def loss_weights(
    process: Process, kind: LossWeight = "uniform", gamma: float = 5.0
) -> Table:
    """Weights of the squared error of what the network predicts.

    Parameters
    ----------
    process : Process
        Must have noise, unless the weights are uniform.
    kind : {"uniform", "min_snr", "bound"}
        ``uniform``: 1; ``min_snr``: min(SNR, gamma) for the error of x_0 (Hang et al.
        2023); ``bound``: of the variational bound, the divergence of the posteriors
        (Ho et al. 2020, eq. 8). At t = 1 it is infinite, and that of t = 2 is taken.
    gamma : float
        Limit of ``min_snr``.

    Returns
    -------
    ndarray, shape (T + 1,)
        For t = 0 ... T; 0 at t = 0.
    """
    weights = np.concatenate([[0.0], np.ones(process.timesteps)])
    if kind == "uniform":
        return weights
    a, s = process.a[1:], process.s[1:]
    if not np.all(s > 0):
        raise ValueError(f"a process without noise has no {kind!r} weights")
    if kind == "min_snr":
        weights[1:] = np.minimum((a / s) ** 2, gamma)
    else:
        for t in range(2, process.timesteps + 1):
            step = ancestral(process, t, t - 1)
            of_x0 = process.a[t - 1] - step.rho * process.a[t]
            weights[t] = (of_x0 / step.sigma) ** 2 / 2
        weights[1] = weights[min(2, process.timesteps)]
    if process.prediction == "eps":
        weights[1:] *= (s / a) ** 2
    elif process.prediction == "v":
        weights[1:] *= s**2
    return weights


@dataclass(frozen=True)
class Denoising:
    """Predict noise, image or ``v`` at a random time: diffusion (Ho et al. 2020).

    A process that ends at a condition, not at noise, is learnt in the same way: the
    first channels of the condition are its end, and states are scaled to unit variance
    (Yue et al. 2023).

    Attributes
    ----------
    process : Process
        What to undo.
    noise_channel : bool
        Append a channel of fresh noise to the input.
    conditions : int
        How many channels of each patch are no image but its condition, the last ones.
        The network sees them as they are.
    error : {"mse", "mae", "smooth_l1"}
        Of what the network predicts.
    weighting : {"uniform", "min_snr", "bound"}
        See `loss_weights`.
    perceptual : Perceptual, optional
        A perceptual error beside the other one, of predicted 2D images.
    perceptual_weight : float
        Its weight, the same at all times.

    Raises
    ------
    PhantomscopeError
        If there is a perceptual error of something else than images.
    """

    process: Process
    noise_channel: bool = False
    conditions: int = 0
    error: ErrorName = "mse"
    weighting: LossWeight = "uniform"
    perceptual: Perceptual | None = None
    perceptual_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.perceptual is not None and self.process.prediction != "x0":
            raise PhantomscopeError(
                "the perceptual error is one of images, and this process predicts "
                f"`{self.process.prediction}`",
                where="process.prediction",
                fix="predict `x0`, or leave the perceptual error out",
            )

    def draw(self, x0: Tensor, rng: torch.Generator, part: slice = WHOLE) -> Items:
        """Corrupt patches, each to a time of its own."""
        channels = x0.shape[1] - self.conditions
        x0, condition = x0[:, :channels], x0[:, channels:]
        t = torch.randint(1, self.process.timesteps + 1, (len(x0),), generator=rng)
        noise = torch.randn(x0.shape, generator=rng)
        clean, t, noise = x0[part], t[part], noise[part]
        if self.process.shifts:
            x = self.process.q_sample(clean, t, noise, condition[part][:, :channels])
            x = self.process.scale_input(x, t)
        else:
            x = self.process.q_sample(clean, t, noise)
        if self.noise_channel:
            extra = torch.randn(x0[:, :1].shape, generator=rng)
            x = torch.cat([x, extra[part]], dim=1)
        if self.conditions:
            x = torch.cat([x, condition[part]], dim=1)
        return x, t, self.process.target(clean, t, noise)

    def loss(self, output: Tensor, t: Tensor, target: Tensor) -> Tensor:
        """Mean error, weighted by the time, and the perceptual one, if there is one."""
        error = self._error(output, t, target)
        if self.perceptual is None:
            return error
        far: Tensor = self.perceptual.to(output.device)(output, target)
        return error + self.perceptual_weight * far

    def _error(self, output: Tensor, t: Tensor, target: Tensor) -> Tensor:
        if self.weighting == "uniform":
            return ERRORS[self.error](output, target)
        each = ERRORS[self.error](output, target, reduction="none")
        weights = of_times(loss_weights(self.process, self.weighting), t, output)
        return (weights * each.flatten(1).mean(dim=1)).mean()


def of_times(table: Table, t: Tensor, like: Tensor) -> Tensor:
    """Return the entries of a table for the times, on the device of `like`."""
    values = torch.as_tensor(table[t.cpu().numpy()])
    return values.to(like.device, like.dtype)


def as_float(output: Any) -> Any:
    """Return what a network gave, a tensor or several, as float32."""
    if isinstance(output, Tensor):
        return output.float()
    return tuple(part.float() for part in output)

"""What a network is trained for: the items of a step and the loss of its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from phantomscope.engine.process import Process

Items = tuple[Tensor, Tensor, Tensor]
WHOLE = slice(None)


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

    def loss(self, output: Tensor, t: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of some of the items, as float32."""
        ...


@dataclass(frozen=True)
class Denoising:
    """Predict noise, image or ``v`` at a random time: diffusion (Ho et al. 2020).

    Attributes
    ----------
    process : Process
        What to undo.
    noise_channel : bool
        Append a channel of fresh noise to the input.
    conditions : int
        How many channels of each patch are no image but its condition, the last ones.
        The network sees them as they are.
    """

    process: Process
    noise_channel: bool = False
    conditions: int = 0

    def draw(self, x0: Tensor, rng: torch.Generator, part: slice = WHOLE) -> Items:
        """Corrupt patches, each to a time of its own."""
        channels = x0.shape[1] - self.conditions
        x0, condition = x0[:, :channels], x0[:, channels:]
        t = torch.randint(1, self.process.timesteps + 1, (len(x0),), generator=rng)
        noise = torch.randn(x0.shape, generator=rng)
        clean, t, noise = x0[part], t[part], noise[part]
        x = self.process.q_sample(clean, t, noise)
        if self.noise_channel:
            extra = torch.randn(x0[:, :1].shape, generator=rng)
            x = torch.cat([x, extra[part]], dim=1)
        if self.conditions:
            x = torch.cat([x, condition[part]], dim=1)
        return x, t, self.process.target(clean, t, noise)

    def loss(self, output: Tensor, t: Tensor, target: Tensor) -> Tensor:
        """Mean squared error, whatever the times."""
        return nn.functional.mse_loss(output, target)

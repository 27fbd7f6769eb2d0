"""Adversarial training: a critic learns to tell predictions from real images.

Generator and critic are one network with one optimiser, since whose gradients come from
which loss is settled in the graph: the generator is judged by a critic whose weights
are constants there, and the critic sees predictions that are constants. So the trainer
needs to know nothing of it, and states, resuming and averages are the same as always.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from phantomscope.engine.blocks import convolution
from phantomscope.engine.objective import WHOLE, Denoising, Items
from phantomscope.engine.unet import UNet, UNetSpec

Judged = tuple[Tensor, Tensor, Tensor, Tensor]
# Where the averaged weights that a model is made of stand in those of the contest.
GENERATOR = "generator."


class Critic(nn.Sequential):
    """PatchGAN (Isola et al. 2017): real or not, for each patch of 70 pixels.

    Convolutions of 4 px, three of them with stride 2, with leaky ReLU (0.2) and
    instance norm between them; one value for each patch. The original's batch norm
    would make the result depend on the micro-batch.

    Parameters
    ----------
    dims : int
        2 or 3.
    inputs : int
        Channels of the condition and of the image that is judged.
    width : int
        Channels of the first layer; they double up to eight times.
    """

    def __init__(self, dims: int, inputs: int, width: int = 64) -> None:
        conv = convolution(dims)
        norm = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        channels = [inputs, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for level, (i, o) in enumerate(itertools.pairwise(channels)):
            stride = 1 if level == len(channels) - 2 else 2
            layers.append(conv(i, o, 4, stride=stride, padding=1))
            layers += [norm(o)] if level else []
            layers.append(nn.LeakyReLU(0.2))
        super().__init__(*layers, conv(channels[-1], 1, 4, padding=1))


class Contest(nn.Module):
    """A generator and its critic, as one network to train.

    Parameters
    ----------
    generator : UNet
        What is wanted.
    critic : Critic
        Sees the generator's inputs and an image of its outputs.
    """

    def __init__(self, generator: UNet, critic: Critic) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic

    @property
    def spec(self) -> UNetSpec:
        """What shapes the generator."""
        return self.generator.spec

    def forward(self, x: Tensor, t: Tensor) -> Judged:
        """Predict, and judge.

        Parameters
        ----------
        x : Tensor, shape (N, inputs + outputs, ...)
            What the generator sees, then the real images.
        t : Tensor, shape (N,)
            Times.

        Returns
        -------
        predicted : Tensor, shape (N, outputs, ...)
        judged : Tensor
            What the critic, as it is, says of the predictions.
        told, real : Tensor
            What it says of the predictions, as they are, and of the real images.
        """
        seen, images = x[:, : self.spec.inputs], x[:, self.spec.inputs :]
        predicted = self.generator(seen, t)
        return predicted, *judge(
            self.critic,
            torch.cat([seen, predicted], dim=1),
            torch.cat([seen, images], dim=1),
        )


def judge(critic: Critic, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Judge what was made so that each side learns from its own loss.

    Parameters
    ----------
    critic : Critic
        Who judges.
    made, real : Tensor, shape (N, C, ...)
        What a generator gave, and what it should be taken for.

    Returns
    -------
    judged : Tensor
        What the critic, as it is, says of what was made.
    told, real : Tensor
        What it says of this, as it is, and of the real images.
    """
    as_it_is = {name: p.detach() for name, p in critic.named_parameters()}
    judged: Tensor = functional_call(critic, as_it_is, (made,))
    return judged, critic(made.detach()), critic(real)


def make_contest(generator: UNet, seed: int) -> Contest:
    """Put a critic beside a generator, with weights that depend on the seed alone."""
    spec = generator.spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic(spec.dims, spec.inputs + spec.outputs)
    return Contest(generator, critic)


def of_generator(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the generator; of any other network all."""
    if not any(name.startswith(GENERATOR) for name in weights):
        return dict(weights)
    return {
        name.removeprefix(GENERATOR): value
        for name, value in weights.items()
        if name.startswith(GENERATOR)
    }


@dataclass(frozen=True)
class Adversarial(Denoising):
    """Predict the image so that the critic takes it for a real one: an `Objective`.

    The network is a `Contest`. The loss is the error of the prediction, plus `weight`
    times the critic's judgement of it (cross-entropy, as in Isola et al. 2017), plus
    the critic's own loss.

    Attributes
    ----------
    weight : float
        Of the judgement: 0.01 is 100 to 1 for the error, as the authors have it.
    """

    weight: float = 0.01

    def draw(self, x0: Tensor, rng: torch.Generator, part: slice = WHOLE) -> Items:
        """Do as `Denoising`, with the real images behind what the generator sees."""
        x, t, target = super().draw(x0, rng, part)
        return torch.cat([x, target], dim=1), t, target

    def loss(self, output: Judged, t: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
        """Return the sum of the losses of generator and critic."""
        predicted, *judgement = output
        error = super().loss(predicted, t, target)
        return error + contest_loss(*judgement, weight=self.weight)


def contest_loss(
    judged: Tensor, told: Tensor, real: Tensor, *, weight: float
) -> Tensor:
    """Return the losses that a `judge` leads to: the generator's has the weight."""
    own = (_taken_for(told, 0.0) + _taken_for(real, 1.0)) / 2
    return weight * _taken_for(judged, 1.0) + own


def _taken_for(values: Tensor, truth: float) -> Tensor:
    """Cross-entropy of a critic's values against real (1) or not (0)."""
    return functional.binary_cross_entropy_with_logits(
        values, torch.full_like(values, truth)
    )

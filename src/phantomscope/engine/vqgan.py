"""VQ-GAN (Esser et al. 2021): an image as a small grid of vectors from a codebook.

Encoder and decoder are the residual blocks of the U-Nets, without time, and attention
in the middle alone. Facts, confirmed by the parameter count (55,322,782 with the f4
layout of latent diffusion: three channels, width 128, multipliers 1, 2, 4): each level
has one block more on the way up; a 1 x 1 convolution stands on either side of the
codebook; attention has one head.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from phantomscope.engine.adversarial import Critic, contest_loss, judge
from phantomscope.engine.attention import SelfAttention
from phantomscope.engine.blocks import Norm, ResidualBlock, convolution, make_norm
from phantomscope.engine.objective import WHOLE, Items

# Distances to all codes are taken of so many vectors at a time: bounds the memory.
CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class CodecSpec:
    """Everything that shapes a codec.

    Attributes
    ----------
    channels : int
        Of an image.
    width : int
        Channels of the finest level.
    multipliers : sequence of int
        Channels of each level, in widths, finest first.
    blocks : int
        Residual blocks of each level of the encoder.
    embed, codes : int
        Channels of the latents, and vectors of the codebook.
    dims : int
        2 or 3.
    norm : {"channel", "instance", "group", "none"}
        See `make_norm`.
    """

    channels: int
    width: int
    multipliers: Sequence[int]
    blocks: int
    embed: int
    codes: int
    dims: int = 2
    norm: Norm = "group"

    @property
    def factor(self) -> int:
        """How much smaller the sides of the latents are."""
        return 1 << (len(self.multipliers) - 1)

    @property
    def downsampling(self) -> int:
        """As of a `UNetSpec`."""
        return self.factor


class Codebook(nn.Module):
    """Vectors, of which each pixel of the latents becomes the nearest.

    Parameters
    ----------
    codes, embed : int
        How many, and their length.

    Notes
    -----
    They start within 1 / codes of zero and learn by gradients, as in the released code
    of the authors: no moving averages, and unused codes are not revived.
    """

    def __init__(self, codes: int, embed: int) -> None:
        super().__init__()
        start = torch.empty(codes, embed).uniform_(-1 / codes, 1 / codes)
        self.vectors = nn.Parameter(start)

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Return the number of the nearest code of each pixel.

        Parameters
        ----------
        z : Tensor, shape (N, embed, ...)

        Returns
        -------
        Tensor, shape (N, ...)
            int64; of two that are as near the first one.
        """
        last = z.movedim(1, -1).float()
        vectors = self.vectors.float()
        squares = vectors.square().sum(dim=1)
        # bf16 would confuse codes that are near each other.
        with torch.autocast(z.device.type, enabled=False):
            found = [
                (squares - 2 * part @ vectors.t()).argmin(dim=1)
                for part in torch.split(last.reshape(-1, last.shape[-1]), CHUNK)
            ]
        return torch.cat(found).reshape(last.shape[:-1])

    def forward(self, z: Tensor) -> Tensor:
        """Return the nearest code of each pixel, in the shape of `z`."""
        return self.vectors[self.nearest(z)].movedim(-1, 1)


class VQGAN(nn.Module):
    """Encoder, codebook and decoder."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = _encoder(spec)
        self.codebook = Codebook(spec.codes, spec.embed)
        self.decoder = _decoder(spec)

    def encode(self, x: Tensor) -> Tensor:
        """Code images (N, channels, ...) as (N, embed, ...), before the codebook.

        Sides are multiples of `spec.factor`.
        """
        z: Tensor = self.encoder(x)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Take the nearest codes and make images of them."""
        decoded: Tensor = self.decoder(self.codebook(z))
        return decoded

    def forward(
        self, x: Tensor, t: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Code and decode.

        Parameters
        ----------
        x : Tensor, shape (N, channels, ...)
            Images; sides are multiples of `spec.factor`.
        t : Tensor, optional
            Of no matter: what a `Trainer` gives every network.

        Returns
        -------
        decoded : Tensor, shape of `x`
        z, codes : Tensor, shape (N, embed, ...)
            Before the codebook, and the codes that were taken.

        Notes
        -----
        To the encoder the gradient passes the codebook unchanged (straight through).
        """
        z = self.encode(x)
        codes = self.codebook(z)
        through = z + (codes - z).detach()
        return self.decoder(through), z, codes


def _block(spec: CodecSpec, inputs: int, outputs: int) -> ResidualBlock:
    return ResidualBlock(
        spec.dims, inputs, outputs, time_channels=0, norm=spec.norm, film=False
    )


def _middle(spec: CodecSpec, channels: int) -> list[nn.Module]:
    return [
        _block(spec, channels, channels),
        SelfAttention(spec.dims, channels, 1, spec.norm),
        _block(spec, channels, channels),
    ]


def _end(spec: CodecSpec, channels: int, outputs: int) -> list[nn.Module]:
    norm = make_norm(spec.norm, spec.dims, channels, affine=True)
    last = convolution(spec.dims)(channels, outputs, 3, padding=1)
    return [norm, nn.SiLU(), last]


def _encoder(spec: CodecSpec) -> nn.Sequential:
    conv, channels = convolution(spec.dims), spec.width
    layers: list[nn.Module] = [conv(spec.channels, channels, 3, padding=1)]
    for level, multiplier in enumerate(spec.multipliers):
        if level > 0:
            layers.append(conv(channels, channels, 3, stride=2, padding=1))
        sizes = [channels, *[multiplier * spec.width] * spec.blocks]
        layers += [_block(spec, i, o) for i, o in itertools.pairwise(sizes)]
        channels = sizes[-1]
    layers += [*_middle(spec, channels), *_end(spec, channels, spec.embed)]
    return nn.Sequential(*layers, conv(spec.embed, spec.embed, 1))


def _decoder(spec: CodecSpec) -> nn.Sequential:
    conv, channels = convolution(spec.dims), spec.multipliers[-1] * spec.width
    layers: list[nn.Module] = [
        conv(spec.embed, spec.embed, 1),
        conv(spec.embed, channels, 3, padding=1),
        *_middle(spec, channels),
    ]
    for level, multiplier in reversed(list(enumerate(spec.multipliers))):
        sizes = [channels, *[multiplier * spec.width] * (spec.blocks + 1)]
        layers += [_block(spec, i, o) for i, o in itertools.pairwise(sizes)]
        channels = sizes[-1]
        if level > 0:
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            layers.append(conv(channels, channels, 3, padding=1))
    return nn.Sequential(*layers, *_end(spec, channels, spec.channels))


class Reviewed(nn.Module):
    """A codec and its critic, as one network to train (see `adversarial`).

    The critic sees decoded images alone: beside what was coded it would only have to
    compare.
    """

    def __init__(self, generator: VQGAN, critic: Critic) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic

    @property
    def spec(self) -> CodecSpec:
        """What shapes the codec."""
        return self.generator.spec

    def forward(self, x: Tensor, t: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return what the codec gives, and what the critic says of it."""
        decoded, z, codes = self.generator(x)
        return decoded, z, codes, *judge(self.critic, decoded, x)


def make_vqgan(spec: CodecSpec, seed: int) -> VQGAN:
    """Build a codec with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VQGAN(spec)


def make_reviewed(codec: VQGAN, seed: int) -> Reviewed:
    """Put a critic beside a codec, with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Reviewed(codec, Critic(codec.spec.dims, codec.spec.channels))


@dataclass(frozen=True)
class Coding:
    """Give back what was coded: an `Objective`.

    The mean absolute error, plus the squared distance of the codes from what was coded,
    plus `commitment` times that of what was coded from its codes (van den Oord et al.
    2017, eq. 3), plus the losses of a contest where the network is `Reviewed`. The
    authors have a perceptual error as well, whose weights have to be downloaded: it is
    left out. Their code has `commitment` on the other of the two distances, and a
    weight of the critic that adapts to the gradients of both losses.

    Attributes
    ----------
    commitment : float
        See above.
    adversarial : float
        Weight of the critic's judgement.
    """

    commitment: float = 0.25
    adversarial: float = 0.0

    def draw(self, x0: Tensor, rng: torch.Generator, part: slice = WHOLE) -> Items:
        """Take the images as they are."""
        x = x0[part]
        return x, torch.zeros(len(x), dtype=torch.long), x

    def loss(self, output: Any, t: Tensor, target: Tensor) -> Tensor:
        """Return the sum of all losses."""
        decoded, z, codes, *judgement = output
        loss = functional.l1_loss(decoded, target)
        loss = loss + functional.mse_loss(codes, z.detach())
        loss = loss + self.commitment * functional.mse_loss(z, codes.detach())
        if judgement:
            loss = loss + contest_loss(*judgement, weight=self.adversarial)
        return loss

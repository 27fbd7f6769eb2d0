"""What all U-Nets share, and the plain one: convolutions, one skip per level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from phantomscope.engine.blocks import (
    Norm,
    PixelShuffle,
    convolution,
    make_norm,
    over_space,
    time_embedding,
)
from phantomscope.errors import PhantomscopeError


@dataclass(frozen=True, kw_only=True)
class UNetSpec:
    """What shapes any U-Net.

    Attributes
    ----------
    dims : int
        2 or 3.
    inputs, outputs : int
        Channels in (image, extra noise, condition) and out.
    norm : {"channel", "instance", "group", "none"}
        See `make_norm`.
    time_channels : int
        Length of the sinusoidal time embedding; 0 for a network without time.
    timesteps : int
        Length T of the chain.
    rescale_time : bool
        Embed t 1000 / T instead of t.
    """

    dims: int
    inputs: int
    outputs: int
    norm: Norm
    time_channels: int
    timesteps: int = 1000
    rescale_time: bool = False

    @property
    def downsampling(self) -> int:
        """How much coarser than the image the coarsest feature map is."""
        raise NotImplementedError

    @property
    def stride(self) -> int:
        """Sizes of the input must be multiples of this."""
        return self.downsampling

    @property
    def time_scale(self) -> float:
        """Factor between t and what is embedded."""
        return 1000 / self.timesteps if self.rescale_time else 1.0


class UNet(nn.Module):
    """U-Net over (N, C, [Z,] Y, X) with a time per item."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(
        self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Predict.

        Parameters
        ----------
        x : Tensor, shape (N, C, [Z,] Y, X)
            Sizes are multiples of `spec.stride`.
        t : Tensor, shape (N,)
            Times; networks without time take no notice.
        condition : Tensor, shape (N, C', [Z,] Y, X), optional
            More input channels: C + C' = `spec.inputs`.

        Returns
        -------
        Tensor, shape (N, outputs, [Z,] Y, X)

        Raises
        ------
        PhantomscopeError
            If channels, sizes or times do not fit the network.
        """
        return self.predict(*self.prepare(x, t, condition))

    def prepare(
        self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Check what `forward` takes; return all channels and the embedded times."""
        if condition is not None:
            x = torch.cat([x, condition], dim=1)
        self._check(x)
        if not self.spec.time_channels:
            return x, None
        if t is None:
            raise PhantomscopeError("this network needs a time for each image")
        scaled = t.float() * self.spec.time_scale
        return x, time_embedding(scaled, self.spec.time_channels)

    def predict(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Predict from all input channels and embedded times, if there are any."""
        raise NotImplementedError

    def _check(self, x: Tensor) -> None:
        spec, size = self.spec, tuple(x.shape[2:])
        if x.ndim != spec.dims + 2 or x.shape[1] != spec.inputs:
            raise PhantomscopeError(
                f"the network takes {spec.inputs} channels in {spec.dims}D, not a "
                f"batch of shape {tuple(x.shape)}"
            )
        shown = " x ".join(str(s) for s in size)
        if any(s % spec.stride or s == 0 for s in size):
            raise PhantomscopeError(
                f"images of {shown} px do not fit the network",
                fix=f"use sizes that are multiples of {spec.stride}",
            )
        if spec.norm == "instance" and math.prod(size) == spec.downsampling**spec.dims:
            raise PhantomscopeError(
                f"of {shown} px a single one is left at the coarsest level: an "
                "instance norm has nothing to normalise",
                where="network.norm",
                fix="use larger images or tiles, or `norm: channel`",
            )


@dataclass(frozen=True, kw_only=True)
class PlainSpec(UNetSpec):
    """Everything that shapes a plain U-Net.

    Attributes
    ----------
    encoder : sequence of sequence of int
        Channels of the convolutions of each block on the way down; the last block is
        the bottleneck.
    decoder : sequence of sequence of int
        Blocks on the way up, coarsest first.
    head : sequence of int
        Convolutions of 3 px before the last convolution.
    last_kernel : int
        Side of the last convolution, in px.
    leak : float, optional
        Slope of a leaky ReLU; a PReLU per channel where there is none.
    norm_first : bool
        Normalise before the activation instead of after it.
    norm_top : bool
        Normalise in the finest level of the encoder, too.
    skip : {"output", "input"}
        What a level of the encoder hands to the decoder: what its block gives, or
        what it takes (in the finest level the image itself).
    down : {"strided", "pool"}
        Convolution of 4 px with stride 2, activation and norm; or the maximum.
    up : {"shuffle", "transposed", "nearest"}
        1 x 1 convolution and pixel shuffle; transposed convolution of 3 px and 1 x 1
        convolution; or repeated pixels.
    tanh : bool
        Squash the output to -1 ... 1.
    xavier : bool
        Draw weights as Glorot & Bengio 2010 (normal), biases zero.
    """

    encoder: Sequence[Sequence[int]]
    decoder: Sequence[Sequence[int]]
    head: Sequence[int] = ()
    last_kernel: int = 1
    leak: float | None = None
    norm_first: bool = False
    norm_top: bool = True
    skip: Literal["output", "input"] = "output"
    down: Literal["strided", "pool"] = "strided"
    up: Literal["shuffle", "transposed", "nearest"] = "shuffle"
    tanh: bool = False
    xavier: bool = False

    @property
    def downsampling(self) -> int:
        """How much coarser than the image the coarsest feature map is."""
        return 1 << (len(self.encoder) - 1)


def _finish(spec: PlainSpec, channels: int, *, norm: bool = True) -> list[nn.Module]:
    """Activation and norm, in the order of the spec."""
    activation = nn.PReLU(channels) if spec.leak is None else nn.LeakyReLU(spec.leak)
    both = [activation, make_norm(spec.norm if norm else "none", spec.dims, channels)]
    return both[::-1] if spec.norm_first else both


def _block(
    spec: PlainSpec, inputs: int, channels: Sequence[int], *, norm: bool = True
) -> nn.Sequential:
    conv = convolution(spec.dims)
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise((inputs, *channels)):
        layers += [conv(i, o, 3, padding=1), *_finish(spec, o, norm=norm)]
    return nn.Sequential(*layers)


def _down(spec: PlainSpec, channels: int, *, norm: bool) -> nn.Module:
    if spec.down == "pool":
        return nn.MaxPool2d(2) if spec.dims == 2 else nn.MaxPool3d(2)
    strided = convolution(spec.dims)(channels, channels, 4, stride=2, padding=1)
    return nn.Sequential(strided, *_finish(spec, channels, norm=norm))


def _up(spec: PlainSpec, channels: int) -> nn.Sequential:
    conv = convolution(spec.dims)
    if spec.up == "nearest":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"))
    if spec.up == "shuffle":
        layers = [conv(channels, channels, 1), *_finish(spec, channels)]
        return nn.Sequential(*layers, PixelShuffle(spec.dims))
    transposed = nn.ConvTranspose2d if spec.dims == 2 else nn.ConvTranspose3d
    return nn.Sequential(
        transposed(channels, channels, 3, stride=2, padding=1, output_padding=1),
        *_finish(spec, channels),
        conv(channels, channels, 1),
        *_finish(spec, channels),
    )


def _time_network(inputs: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, channels), nn.PReLU(channels), nn.Linear(channels, channels)
    )


def _draw_xavier(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_normal_(parameter)


class PlainUNet(UNet):
    """U-Net of blocks of convolutions; the time is added after each block.

    Names and order of the layers are those of stored models: keep them.
    """

    def __init__(self, spec: PlainSpec) -> None:
        super().__init__(spec)
        self.hands_input = spec.skip == "input"
        self.down_blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        channels = self._build_decoder(spec, self._build_encoder(spec))
        timed = (*spec.encoder, *spec.decoder) if spec.time_channels else ()
        self.times = nn.ModuleList(
            _time_network(spec.time_channels, block[-1]) for block in timed
        )
        block, k = _block(spec, channels, spec.head), spec.last_kernel
        last = (channels, *spec.head)[-1]
        conv = convolution(spec.dims)(last, spec.outputs, k, padding=k // 2)
        self.head = nn.Sequential(block, conv, *([nn.Tanh()] if spec.tanh else []))
        if spec.xavier:
            _draw_xavier(self)

    def _build_encoder(self, spec: PlainSpec) -> list[int]:
        """Build the way down and return the channels of its skip connections."""
        channels, taken = spec.inputs, []
        for level, block in enumerate(spec.encoder):
            norm = spec.norm_top or level > 0
            self.down_blocks.append(_block(spec, channels, block, norm=norm))
            taken.append(channels)
            channels = block[-1]
        for level, block in enumerate(spec.encoder[:-1]):
            norm = spec.norm_top or level > 0
            self.downs.append(_down(spec, block[-1], norm=norm))
        given = [block[-1] for block in spec.encoder]
        return (taken if self.hands_input else given)[:-1]

    def _build_decoder(self, spec: PlainSpec, skips: Sequence[int]) -> int:
        """Build the way up and return the channels that it ends with."""
        channels = spec.encoder[-1][-1]
        for block, skip in zip(spec.decoder, reversed(skips), strict=True):
            self.ups.append(_up(spec, channels))
            left = channels // 2**spec.dims if spec.up == "shuffle" else channels
            self.up_blocks.append(_block(spec, left + skip, block))
            channels = block[-1]
        return channels

    def _add_time(self, level: int, x: Tensor, embedding: Tensor | None) -> Tensor:
        if embedding is None:
            return x
        return x + over_space(self.times[level](embedding), self.spec.dims)

    def predict(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Predict from all input channels and embedded times, if there are any."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down_blocks):
            taken = x
            x = self._add_time(level, block(x), embedding)
            if level < len(self.downs):
                skips.append(taken if self.hands_input else x)
                x = self.downs[level](x)
        for level, (up, block) in enumerate(zip(self.ups, self.up_blocks, strict=True)):
            x = block(torch.cat([up(x), skips.pop()], dim=1))
            x = self._add_time(len(self.down_blocks) + level, x, embedding)
        output: Tensor = self.head(x)
        return output

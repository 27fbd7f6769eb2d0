"""U-Net of residual blocks with attention (Nichol & Dhariwal 2021), for 2D and 3D.

Facts, confirmed by the parameter counts: each level has one residual block more on the
way up than on the way down; the decoder takes up what the stem, each block (after its
attention) and each strided convolution gave; the middle is block, attention, block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from phantomscope.engine.attention import SelfAttention
from phantomscope.engine.blocks import ResidualBlock, convolution, make_norm, zeroed
from phantomscope.engine.swin import SwinLayer
from phantomscope.engine.unet import UNet, UNetSpec


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """Shape of the window attention: see `SwinLayer`."""

    width: int
    heads: int
    window: int
    depth: int


@dataclass(frozen=True, kw_only=True)
class ResidualSpec(UNetSpec):
    """Everything that shapes a residual U-Net.

    Attributes
    ----------
    width : int
        Channels of the stem.
    multipliers : sequence of int
        Channels of each level, in widths, finest first.
    blocks : int
        Residual blocks of each level of the encoder.
    attention_levels : sequence of int
        Levels with attention; 0 is the finest. The middle always has it.
    attention_blocks : {"all", "first"}
        Which blocks of such a level are followed by attention.
    heads : int
        Heads of attention between all pixels.
    windows : WindowSpec, optional
        Attention within shifted windows instead.
    time : {"film", "added"}
        See `ResidualBlock`.
    zero_output : bool
        The last convolution starts at zero.
    told : int
        So many of the inputs, the last ones, are a condition that scales and shifts
        the norms of the decoder instead of entering with the others (SPADE: Park et
        al. 2019; for diffusion: Wang et al. 2022, semantic diffusion models).
    """

    width: int
    multipliers: Sequence[int]
    blocks: int
    attention_levels: Sequence[int]
    attention_blocks: Literal["all", "first"] = "all"
    heads: int = 4
    windows: WindowSpec | None = None
    time: Literal["film", "added"] = "film"
    zero_output: bool = True
    told: int = 0

    @property
    def downsampling(self) -> int:
        """How much coarser than the image the coarsest feature map is."""
        return 1 << (len(self.multipliers) - 1)

    @property
    def stride(self) -> int:
        """Sizes of the input must be multiples of this: windows have to fit, too."""
        return self.downsampling * (self.windows.window if self.windows else 1)

    def attends(self, level: int, number: int) -> bool:
        """Whether a block of a level is followed by attention."""
        wanted = self.attention_blocks == "all" or number == 0
        return level in self.attention_levels and wanted


def _block(spec: ResidualSpec, inputs: int, outputs: int, told: int) -> ResidualBlock:
    return ResidualBlock(
        spec.dims,
        inputs,
        outputs,
        time_channels=4 * spec.width,
        norm=spec.norm,
        film=spec.time == "film",
        told=told,
    )


def _attention(spec: ResidualSpec, channels: int) -> nn.Module:
    if spec.windows is None:
        return SelfAttention(spec.dims, channels, spec.heads, spec.norm)
    return SwinLayer(
        spec.dims,
        channels,
        width=spec.windows.width,
        heads=spec.windows.heads,
        window=spec.windows.window,
        depth=spec.windows.depth,
        norm=spec.norm,
    )


class _Stage(nn.Module):
    """A residual block, attention where the level has it, and the way up at its end."""

    def __init__(
        self, spec: ResidualSpec, inputs: int, outputs: int, *, attends: bool,
        up: bool = False, told: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.block = _block(spec, inputs, outputs, told)
        self.attention = _attention(spec, outputs) if attends else nn.Identity()
        conv = convolution(spec.dims)
        self.up = (
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"),
                conv(outputs, outputs, 3, padding=1),
            )
            if up
            else nn.Identity()
        )

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        output: Tensor = self.up(self.attention(self.block(x, time, condition)))
        return output


class _Down(nn.Module):
    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        conv = convolution(dims)
        self.convolution = conv(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        output: Tensor = self.convolution(x)
        return output


class ResidualUNet(UNet):
    """U-Net of residual blocks with attention."""

    spec: ResidualSpec

    def __init__(self, spec: ResidualSpec) -> None:
        super().__init__(spec)
        conv, width = convolution(spec.dims), spec.width
        self.time = nn.Sequential(
            nn.Linear(spec.time_channels, 4 * width),
            nn.SiLU(),
            nn.Linear(4 * width, 4 * width),
        )
        self.stem = conv(spec.inputs - spec.told, width, 3, padding=1)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        skips = self._build_encoder(spec)
        deepest = skips[-1]
        self.middle = nn.ModuleList(
            _Stage(spec, deepest, deepest, attends=attends) for attends in (True, False)
        )
        channels = self._build_decoder(spec, skips)
        last = conv(channels, spec.outputs, 3, padding=1)
        self.head = nn.Sequential(
            make_norm(spec.norm, spec.dims, channels, affine=True),
            nn.SiLU(),
            zeroed(last) if spec.zero_output else last,
        )

    def _build_encoder(self, spec: ResidualSpec) -> list[int]:
        """Build the way down and return the channels of its skip connections."""
        skips = [spec.width]
        for level, multiplier in enumerate(spec.multipliers):
            if level > 0:
                self.encoder.append(_Down(spec.dims, skips[-1]))
                skips.append(skips[-1])
            for number in range(spec.blocks):
                outputs, attends = multiplier * spec.width, spec.attends(level, number)
                self.encoder.append(_Stage(spec, skips[-1], outputs, attends=attends))
                skips.append(outputs)
        return skips

    def _build_decoder(self, spec: ResidualSpec, skips: Sequence[int]) -> int:
        """Build the way up and return the channels that it ends with."""
        channels, left = skips[-1], list(skips)
        for level, multiplier in reversed(list(enumerate(spec.multipliers))):
            for number in range(spec.blocks + 1):
                inputs, outputs = channels + left.pop(), multiplier * spec.width
                up = level > 0 and number == spec.blocks
                attends = spec.attends(level, number)
                self.decoder.append(
                    _Stage(
                        spec, inputs, outputs, attends=attends, up=up, told=spec.told
                    )
                )
                channels = outputs
        return channels

    def predict(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Predict from all input channels and embedded times."""
        time, condition = self.time(embedding), None
        if self.spec.told:
            own = self.spec.inputs - self.spec.told
            x, condition = x[:, :own], x[:, own:]
        skips = [self.stem(x)]
        for layer in self.encoder:
            skips.append(layer(skips[-1], time))
        x = skips[-1]
        for stage in self.middle:
            x = stage(x, time)
        for stage in self.decoder:
            x = stage(torch.cat([x, skips.pop()], dim=1), time, condition)
        output: Tensor = self.head(x)
        return output

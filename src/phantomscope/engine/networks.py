"""The U-Net builder, for 2D and 3D, and its presets.

Facts of the `eschweiler` preset: `Conv3-PReLU-norm` twice per block (the norm AFTER the
activation), strided convolution, PReLU and norm down (the golden parameter counts tell
of the PReLU), a 1 x 1 convolution and pixel shuffle up, a time vector added after each
block from a small network per level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from phantomscope.config.diffusion import Network
from phantomscope.errors import PhantomscopeError

Norm = Literal["channel", "instance", "none"]


@dataclass(frozen=True)
class UNetSpec:
    """Everything that shapes a U-Net.

    Attributes
    ----------
    dims : int
        2 or 3.
    inputs, outputs : int
        Channels in (image, condition, extra noise) and out.
    encoder : sequence of (middle, out)
        Channels of the two convolutions of each block on the way down; the last is the
        bottleneck.
    decoder : sequence of (middle, out)
        Blocks on the way up, coarsest first.
    norm : {"channel", "instance", "none"}
        See `make_norm`.
    time_channels : int
        Length of the sinusoidal time embedding.
    """

    dims: int
    inputs: int
    outputs: int
    encoder: Sequence[tuple[int, int]]
    decoder: Sequence[tuple[int, int]]
    norm: Norm
    time_channels: int = 128

    @property
    def stride(self) -> int:
        """Sizes of the input must be multiples of this."""
        return 1 << (len(self.encoder) - 1)


class ChannelNorm(nn.Module):
    """Normalise over the channels of each pixel, without affine weights.

    Its statistics belong to one pixel, so the network gives the same value whatever
    the tile: an instance norm does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a batch (N, C, ...)."""
        last = x.movedim(1, -1)
        return functional.layer_norm(last, (x.shape[1],)).movedim(-1, 1)


def make_norm(kind: Norm, dims: int, channels: int) -> nn.Module:
    """Build a norm without weights."""
    if kind == "channel":
        return ChannelNorm()
    if kind == "instance":
        layers = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
        return layers[dims](channels)
    return nn.Identity()


def _conv(dims: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if dims == 2 else nn.Conv3d


def _block(spec: UNetSpec, inputs: int, middle: int, outputs: int) -> nn.Sequential:
    conv = _conv(spec.dims)
    layers: list[nn.Module] = []
    for i, o in ((inputs, middle), (middle, outputs)):
        layers += [
            conv(i, o, 3, padding=1),
            nn.PReLU(o),
            make_norm(spec.norm, spec.dims, o),
        ]
    return nn.Sequential(*layers)


class PixelShuffle(nn.Module):
    """Move channels into space: (N, C r^d, ...) to (N, C, r ...), for 2D and 3D."""

    def __init__(self, dims: int, factor: int = 2) -> None:
        super().__init__()
        self.dims, self.factor = dims, factor

    def forward(self, x: Tensor) -> Tensor:
        """Shuffle a batch."""
        d, r = self.dims, self.factor
        n, c, *size = x.shape
        x = x.reshape(n, c // r**d, *[r] * d, *size)
        order = [0, 1]
        for axis in range(d):
            order += [2 + d + axis, 2 + axis]
        return x.permute(order).reshape(n, c // r**d, *[s * r for s in size])


def time_embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoidal embedding, sines then cosines (Vaswani et al. 2017).

    Parameters
    ----------
    t : Tensor, shape (N,)
        Times.
    channels : int
        Even length of the embedding.

    Returns
    -------
    Tensor, shape (N, channels)
        float32.
    """
    half = channels // 2
    scale = torch.arange(half, device=t.device, dtype=torch.float32)
    angle = t.float()[:, None] * torch.exp(-math.log(1e4) / (half - 1) * scale)[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class UNet(nn.Module):
    """U-Net over (N, C, [Z,] Y, X) with a time per item."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        conv = _conv(spec.dims)
        shuffle = 2**spec.dims
        self.down_blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        channels = spec.inputs
        for middle, out in spec.encoder:
            self.down_blocks.append(_block(spec, channels, middle, out))
            channels = out
        for _, out in spec.encoder[:-1]:
            norm = make_norm(spec.norm, spec.dims, out)
            strided = conv(out, out, 4, stride=2, padding=1)
            self.downs.append(nn.Sequential(strided, nn.PReLU(out), norm))
        self.ups, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips = [out for _, out in spec.encoder[:-1]][::-1]
        for (middle, out), skip in zip(spec.decoder, skips, strict=True):
            up = [
                conv(channels, channels, 1),
                nn.PReLU(channels),
                make_norm(spec.norm, spec.dims, channels),
                PixelShuffle(spec.dims),
            ]
            self.ups.append(nn.Sequential(*up))
            self.up_blocks.append(_block(spec, channels // shuffle + skip, middle, out))
            channels = out
        levels = [out for _, out in (*spec.encoder, *spec.decoder)]
        self.times = nn.ModuleList(
            nn.Sequential(
                nn.Linear(spec.time_channels, c), nn.PReLU(c), nn.Linear(c, c)
            )
            for c in levels
        )
        self.head = nn.Sequential(
            _block(spec, channels, channels, channels), conv(channels, spec.outputs, 1)
        )

    def _add_time(self, level: int, x: Tensor, embedding: Tensor) -> Tensor:
        vector: Tensor = self.times[level](embedding)
        return x + vector.reshape(*vector.shape, *(1,) * self.spec.dims)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict.

        Parameters
        ----------
        x : Tensor, shape (N, inputs, [Z,] Y, X)
            Sizes are multiples of `spec.stride`.
        t : Tensor, shape (N,)
            Times.

        Returns
        -------
        Tensor, shape (N, outputs, [Z,] Y, X)
        """
        embedding = time_embedding(t, self.spec.time_channels)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down_blocks):
            x = self._add_time(level, block(x), embedding)
            if level < len(self.downs):
                skips.append(x)
                x = self.downs[level](x)
        for level, (up, block) in enumerate(zip(self.ups, self.up_blocks, strict=True)):
            x = block(torch.cat([up(x), skips.pop()], dim=1))
            x = self._add_time(len(self.down_blocks) + level, x, embedding)
        output: Tensor = self.head(x)
        return output


def _eschweiler(width: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    f = width
    encoder = [(f // 2, f), (f, 2 * f), (2 * f, 4 * f), (4 * f, 8 * f)]
    return encoder, [(8 * f, 8 * f), (8 * f, 8 * f), (f, f)]


def network_spec(config: Network, dims: int = 2) -> UNetSpec:
    """Return the spec of a preset."""
    width = {"eschweiler": 16, "small": 8}[config.preset]
    encoder, decoder = _eschweiler(width)
    inputs = 2 if config.noise_channel else 1
    return UNetSpec(dims, inputs, 1, encoder, decoder, config.norm)


def make_network(config: Network, seed: int, dims: int = 2) -> UNet:
    """Build a network with weights that depend on the seed alone."""
    if dims not in (2, 3):
        raise PhantomscopeError(f"networks have 2 or 3 dimensions, not {dims}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(network_spec(config, dims))


def count_parameters(network: nn.Module) -> int:
    """Count the weights of a network."""
    return sum(p.numel() for p in network.parameters())

"""Parts that all networks are made of, for 2D and 3D."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["channel", "instance", "group", "none"]
GROUPS = 32  # of the group norm (Nichol & Dhariwal 2021)


def convolution(dims: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """Return the class of convolutions in 2 or 3 dimensions."""
    return nn.Conv2d if dims == 2 else nn.Conv3d


class ChannelNorm(nn.Module):
    """Normalise over the channels of each pixel.

    Its statistics belong to one pixel, so the network gives the same value whatever
    the tile: an instance or group norm does not.

    Parameters
    ----------
    channels : int, optional
        Learn a gain and an offset for so many channels; 0 for none.
    """

    def __init__(self, channels: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if channels else None
        self.bias = nn.Parameter(torch.zeros(channels)) if channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a batch (N, C, ...)."""
        last = x.movedim(1, -1)
        y = functional.layer_norm(last, (x.shape[1],), self.weight, self.bias)
        return y.movedim(-1, 1)


def make_norm(
    kind: Norm, dims: int, channels: int, *, affine: bool = False
) -> nn.Module:
    """Build a norm, with a learnt gain and offset per channel if `affine`.

    A group norm has 32 groups, or the most that divide both 32 and the channels.
    """
    if kind == "channel":
        return ChannelNorm(channels if affine else 0)
    if kind == "instance":
        layers = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
        return layers[dims](channels, affine=affine)
    if kind == "group":
        return nn.GroupNorm(math.gcd(GROUPS, channels), channels, affine=affine)
    return nn.Identity()


def zeroed(layer: nn.Module) -> nn.Module:
    """Set the weights of a layer to zero, so that a residual branch starts silent."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


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


def over_space(vector: Tensor, dims: int) -> Tensor:
    """Shape vectors (N, C) so that they spread over images (N, C, ...)."""
    return vector.reshape(*vector.shape, *(1,) * dims)


class SpatialNorm(nn.Module):
    """A norm that a condition scales and shifts pixel by pixel: SPADE.

    Park et al. 2019, eq. 1: gain and offset come from two convolutions of the
    condition, which is brought to the size of the feature map first. They start at
    zero, so that a fresh layer is its norm.

    Parameters
    ----------
    norm : nn.Module
        Without gain and offset.
    dims : int
        2 or 3.
    channels : int
        Of the feature map.
    told : int
        Channels of the condition.
    hidden : int
        Channels between the two convolutions.
    """

    def __init__(
        self, norm: nn.Module, dims: int, channels: int, told: int, hidden: int = 64
    ) -> None:
        super().__init__()
        conv = convolution(dims)
        self.norm = norm
        self.shared = nn.Sequential(conv(told, hidden, 3, padding=1), nn.ReLU())
        self.both = zeroed(conv(hidden, 2 * channels, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise a batch (N, C, ...) beside a condition (N, C', ...)."""
        size = x.shape[2:]
        if condition.shape[2:] != size:
            # Sizes are whole multiples: means over blocks of pixels.
            sides = [c // s for c, s in zip(condition.shape[2:], size, strict=True)]
            pool = functional.avg_pool2d if len(size) == 2 else functional.avg_pool3d
            condition = pool(condition, sides)
        gain, offset = self.both(self.shared(condition)).chunk(2, dim=1)
        output: Tensor = self.norm(x) * (1 + gain) + offset
        return output


class ResidualBlock(nn.Module):
    """Norm-SiLU-Conv3 twice beside a skip connection, told the time in between.

    Parameters
    ----------
    dims : int
        2 or 3.
    inputs, outputs : int
        Channels; where they differ, the skip connection is a 1 x 1 convolution.
    time_channels : int
        Length of the time vector; 0 for a block without time.
    norm : {"channel", "instance", "group", "none"}
        See `make_norm`; with gain and offset.
    film : bool
        The time scales and shifts the second norm's output (FiLM: Perez et al. 2018);
        else it is added before that norm.
    told : int
        Channels of a condition that scales and shifts both norms (`SpatialNorm`).

    Notes
    -----
    The second convolution starts at zero (Nichol & Dhariwal 2021), so that a fresh
    block is its skip connection.
    """

    def __init__(
        self, dims: int, inputs: int, outputs: int, *, time_channels: int, norm: Norm,
        film: bool, told: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        conv = convolution(dims)
        self.dims, self.film, self.told = dims, film, told

        def normed(channels: int) -> nn.Module:
            if not told:
                return make_norm(norm, dims, channels, affine=True)
            return SpatialNorm(make_norm(norm, dims, channels), dims, channels, told)

        self.first = nn.Sequential(
            normed(inputs), nn.SiLU(), conv(inputs, outputs, 3, padding=1)
        )
        vector = 2 * outputs if film else outputs
        self.time = (
            nn.Sequential(nn.SiLU(), nn.Linear(time_channels, vector))
            if time_channels
            else None
        )
        self.norm = normed(outputs)
        self.second = nn.Sequential(
            nn.SiLU(), zeroed(conv(outputs, outputs, 3, padding=1))
        )
        self.skip = nn.Identity() if inputs == outputs else conv(inputs, outputs, 1)

    def forward(
        self, x: Tensor, time: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Transform a batch (N, inputs, ...) at times (N, time_channels).

        `condition` (N, told, ...) is of any multiple of the size.
        """
        told = (condition,) if self.told else ()
        norm, *rest = self.first
        y: Tensor = norm(x, *told)
        for layer in rest:
            y = layer(y)
        if self.time is None:
            unchanged: Tensor = self.skip(x) + self.second(self.norm(y, *told))
            return unchanged
        vector = over_space(self.time(time), self.dims)
        if self.film:
            scale, shift = vector.chunk(2, dim=1)
            y = self.norm(y, *told) * (1 + scale) + shift
        else:
            y = self.norm(y + vector, *told)
        output: Tensor = self.skip(x) + self.second(y)
        return output

"""Attention within shifted windows (Swin: Liu et al. 2021), for 2D and 3D.

Facts of the layer in the `resshift` preset, confirmed by its parameter count: 1 x 1
convolutions into and out of the layer's own width, biased projections, one table of
position biases per block, and norms with gain and offset before attention and before
the convolutional perceptron. There is no residual connection around the whole layer;
the count cannot tell.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from phantomscope.engine.attention import split_heads
from phantomscope.engine.blocks import Norm, convolution, make_norm


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut (N, *size, C) into (N, windows, window^d, C); sizes are multiples of it."""
    n, *size, c = x.shape
    dims = len(size)
    cut = [part for s in size for part in (s // window, window)]
    whole, inside = range(1, 2 * dims, 2), range(2, 2 * dims + 1, 2)
    x = x.reshape(n, *cut, c).permute(0, *whole, *inside, 2 * dims + 1)
    return x.reshape(n, -1, window**dims, c)


def from_windows(x: Tensor, window: int, size: Sequence[int]) -> Tensor:
    """Undo `to_windows`: (N, windows, window^d, C) to (N, *size, C)."""
    n, c, dims = x.shape[0], x.shape[-1], len(size)
    x = x.reshape(n, *(s // window for s in size), *[window] * dims, c)
    order = [axis for d in range(dims) for axis in (1 + d, 1 + dims + d)]
    return x.permute(0, *order, 2 * dims + 1).reshape(n, *size, c)


def relative_positions(window: int, dims: int) -> Tensor:
    """Return a number for the offset between any two pixels of a window.

    Returns
    -------
    Tensor, shape (window^d, window^d)
        int64 in 0 ... (2 window - 1)^d - 1.
    """
    axes = [torch.arange(window)] * dims
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dims)
    offset = place[:, None] - place[None] + window - 1
    span = 2 * window - 1
    scale = torch.tensor([span**power for power in reversed(range(dims))])
    return (offset * scale).sum(-1)


def neighbours(size: Sequence[int], window: int, device: torch.device) -> Tensor:
    """Tell which pixels of the shifted windows may see each other.

    A shift by half a window rolls the image around its edges; pixels of a window that
    came from opposite edges were no neighbours.

    Returns
    -------
    Tensor, shape (windows, window^d, window^d)
        bool.
    """
    region = torch.zeros((1, *size, 1), dtype=torch.int64, device=device)
    for axis, s in enumerate(size):
        place = torch.arange(s, device=device)
        part = (place >= s - window).long() + (place >= s - window // 2).long()
        region = 3 * region + part.reshape(-1, *(1,) * (len(size) - axis))
    numbers = to_windows(region, window)[0, :, :, 0]
    return numbers[:, :, None] == numbers[:, None, :]


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a bias for each relative position.

    Parameters
    ----------
    dims : int
        2 or 3.
    channels, heads : int
        Channels in and out, a multiple of the number of heads.
    window : int
        Side of the windows, in pixels of the feature map.
    shifted : bool
        Windows begin half a window further on.
    """

    def __init__(
        self, dims: int, channels: int, heads: int, window: int, *, shifted: bool
    ) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.shift = window // 2 if shifted else 0
        self.project = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.empty((2 * window - 1) ** dims, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.positions: Tensor
        self.register_buffer(
            "positions", relative_positions(window, dims), persistent=False
        )

    def _mask(self, size: Sequence[int]) -> Tensor:
        """Biases of all windows, shape (1, windows or 1, heads, tokens, tokens)."""
        bias = self.bias[self.positions].permute(2, 0, 1)[None]
        if self.shift:
            near = neighbours(size, self.window, bias.device)
            bias = bias.masked_fill(~near[:, None], float("-inf"))
        return bias[None]

    def forward(self, x: Tensor) -> Tensor:
        """Transform a batch (N, C, ...) whose sizes are multiples of the window."""
        size, axes = x.shape[2:], list(range(1, x.ndim - 1))
        last = x.movedim(1, -1)
        if self.shift:
            last = last.roll([-self.shift] * len(axes), axes)
        tokens = to_windows(last, self.window)
        windows = tokens.shape[1]
        heads = split_heads(self.project(tokens), self.heads)
        # Windows beside heads: kernels take four axes, and masks differ by window.
        query, key, value = (part.flatten(1, 2) for part in heads)
        mask = self._mask(size).expand(-1, windows, -1, -1, -1).flatten(1, 2)
        seen = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask.to(query.dtype)
        )
        n, _, count, width = seen.shape
        seen = seen.reshape(n, windows, self.heads, count, width)
        seen = seen.transpose(2, 3).flatten(3)
        y = from_windows(self.out(seen), self.window, size)
        if self.shift:
            y = y.roll([self.shift] * len(axes), axes)
        return y.movedim(-1, 1)


class SwinBlock(nn.Module):
    """Window attention, then a perceptron per pixel, each beside a skip connection."""

    def __init__(
        self, dims: int, channels: int, heads: int, window: int, norm: Norm, *,
        shifted: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        conv = convolution(dims)
        self.attention = nn.Sequential(
            make_norm(norm, dims, channels, affine=True),
            WindowAttention(dims, channels, heads, window, shifted=shifted),
        )
        self.perceptron = nn.Sequential(
            make_norm(norm, dims, channels, affine=True),
            conv(channels, 4 * channels, 1),
            nn.GELU(),
            conv(4 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform a batch (N, C, ...)."""
        x = x + self.attention(x)
        output: Tensor = x + self.perceptron(x)
        return output


class SwinLayer(nn.Sequential):
    """Blocks with windows in place and shifted by turns, at a width of their own.

    Parameters
    ----------
    dims : int
        2 or 3.
    channels : int
        Channels in and out.
    width : int
        Channels within, a multiple of `heads`.
    heads, window, depth : int
        Heads, side of the windows, number of blocks.
    norm : {"channel", "instance", "group", "none"}
        See `make_norm`; with gain and offset.
    """

    def __init__(
        self, dims: int, channels: int, *, width: int, heads: int, window: int,
        depth: int, norm: Norm,
    ) -> None:  # fmt: skip
        conv = convolution(dims)
        by_turns = itertools.islice(itertools.cycle((False, True)), depth)
        super().__init__(
            conv(channels, width, 1),
            *(
                SwinBlock(dims, width, heads, window, norm, shifted=shifted)
                for shifted in by_turns
            ),
            conv(width, channels, 1),
        )

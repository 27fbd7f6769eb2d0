"""Self-attention between all pixels of a feature map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from phantomscope.engine.blocks import Norm, make_norm, zeroed


def split_heads(projected: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split (..., tokens, 3 C) into queries, keys and values.

    Returns
    -------
    tuple of Tensor, each of shape (..., heads, tokens, C / heads)
    """
    split = projected.reshape(*projected.shape[:-1], 3, heads, -1)
    query, key, value = split.transpose(-4, -2).unbind(-3)
    return query, key, value


class SelfAttention(nn.Module):
    """Norm, multi-head attention over all pixels, and a residual connection.

    Parameters
    ----------
    dims : int
        2 or 3.
    channels : int
        Channels in and out, a multiple of `heads`.
    heads : int
        Number of heads.
    norm : {"channel", "instance", "group", "none"}
        See `make_norm`; with gain and offset.

    Notes
    -----
    The last projection starts at zero, so that a fresh layer changes nothing. Cost is
    quadratic in the number of pixels: for coarse feature maps.
    """

    def __init__(self, dims: int, channels: int, heads: int, norm: Norm) -> None:
        super().__init__()
        self.heads = heads
        self.norm = make_norm(norm, dims, channels, affine=True)
        self.project = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Transform a batch (N, C, ...)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = split_heads(self.project(tokens), self.heads)
        seen = functional.scaled_dot_product_attention(query, key, value)
        y: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return x + y.transpose(1, 2).reshape(x.shape)

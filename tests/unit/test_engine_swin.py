"""Attention between all pixels and within windows, against the formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from phantomscope.engine.attention import SelfAttention
from phantomscope.engine.blocks import ResidualBlock, make_norm
from phantomscope.engine.swin import (
    SwinLayer,
    WindowAttention,
    from_windows,
    relative_positions,
    to_windows,
)


def softmax_attention(tokens, project, out, heads, bias=None):
    """Attention head by head; tokens (tokens, C), bias (heads, tokens, tokens)."""
    parts = functional.linear(tokens, project.weight, project.bias).chunk(3, dim=-1)
    width = tokens.shape[-1] // heads
    seen = []
    for h in range(heads):
        q, k, v = (part[:, h * width : (h + 1) * width] for part in parts)
        logits = q @ k.T / math.sqrt(width)
        if bias is not None:
            logits = logits + bias[h]
        seen.append(logits.softmax(-1) @ v)
    return functional.linear(torch.cat(seen, -1), out.weight, out.bias)


def rows(x):
    """(1, C, ...) to (pixels, C)."""
    return x[0].flatten(1).T


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("dims", [2, 3])
def test_self_attention_is_the_softmax_formula(dims):
    layer = SelfAttention(dims, 8, 2, "none").double()
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(1, 8, *(3, 4, 2)[:dims], dtype=torch.double)
    expected = rows(x) + softmax_attention(rows(x), layer.project, layer.out, 2)
    torch.testing.assert_close(rows(layer(x)), expected)


def test_self_attention_does_not_know_places():
    layer = SelfAttention(2, 32, 4, "group")
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(2, 32, 6, 5)
    moved = layer(x.roll((2, 1), (2, 3)))
    torch.testing.assert_close(
        moved, layer(x).roll((2, 1), (2, 3)), atol=1e-4, rtol=1e-4
    )


def test_fresh_blocks_change_nothing():
    x = torch.randn(2, 32, 4, 4)
    assert torch.equal(SelfAttention(2, 32, 4, "group")(x), x)
    block = ResidualBlock(2, 32, 32, time_channels=16, norm="group", film=True)
    assert torch.equal(block(x, torch.randn(2, 16)), x)


@pytest.mark.parametrize("film", [True, False])
def test_time_of_a_residual_block(film):
    """FiLM: norm(y) (1 + scale) + shift; else norm(y + time)."""
    block = ResidualBlock(2, 4, 4, time_channels=6, norm="none", film=film)
    torch.nn.init.normal_(block.second[1].weight)
    x, time = torch.randn(2, 4, 5, 5), torch.randn(2, 6)
    told = block.time[1](functional.silu(time))[:, :, None, None]
    y = block.first(x)
    y = y * (1 + told[:, :4]) + told[:, 4:] if film else y + told
    torch.testing.assert_close(block(x, time), x + block.second(y))


@given(
    dims=st.integers(1, 3),
    window=st.integers(1, 4),
    counts=st.lists(st.integers(1, 3), min_size=3, max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_windows_are_cut_and_joined(dims, window, counts):
    size = [n * window for n in counts[:dims]]
    x = torch.arange(2 * math.prod(size) * 3).reshape(2, *size, 3)
    cut = to_windows(x, window)
    assert cut.shape == (2, math.prod(counts[:dims]), window**dims, 3)
    first = (0, *[slice(window)] * dims)
    assert torch.equal(cut[0, 0], x[first].reshape(-1, 3))
    assert torch.equal(from_windows(cut, window, size), x)


def test_relative_positions_number_offsets():
    # One axis of three pixels: offset -2 ... 2 is 0 ... 4.
    assert relative_positions(3, 1).tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    square = relative_positions(8, 2)
    assert square.unique().tolist() == list(range(15**2))
    # Pixels of one offset share a number: (0, 0) to (1, 1), and (2, 3) to (3, 4).
    assert square[0, 9] == square[19, 28] != square[9, 0]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shifted", [False, True])
def test_window_attention_is_masked_attention_over_the_image(dims, shifted):
    """Shifted windows begin at half a window and are cut off at the edges."""
    window, heads = 4, 2
    size = (8, 12, 4)[:dims]
    layer = WindowAttention(dims, 8, heads, window, shifted=shifted).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(1, 8, *size, dtype=torch.double)

    axes = [torch.arange(s) for s in size]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dims)
    which = (place + (window // 2 if shifted else 0)) // window
    same = (which[:, None] == which[None]).all(-1)
    offset = (place[:, None] - place[None]).clamp(1 - window, window - 1)
    table = layer.bias.reshape(*[2 * window - 1] * dims, heads)
    bias = table[tuple((offset + window - 1).unbind(-1))].permute(2, 0, 1)
    bias = bias.masked_fill(~same, float("-inf"))

    expected = softmax_attention(rows(x), layer.project, layer.out, heads, bias)
    torch.testing.assert_close(rows(layer(x)), expected)


def test_swin_layer_shifts_with_the_image_by_whole_windows():
    layer = SwinLayer(2, 6, width=8, heads=2, window=4, depth=2, norm="channel")
    x = torch.randn(1, 6, 24, 24)
    with torch.inference_mode():
        y, moved = layer(x), layer(x.roll((4, -4), (2, 3)))
    middle = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(moved[middle], y.roll((4, -4), (2, 3))[middle])


def test_second_block_carries_beyond_the_window():
    layer = SwinLayer(2, 6, width=8, heads=2, window=4, depth=2, norm="none")
    x = torch.randn(1, 6, 8, 8, requires_grad=True)
    layer(x)[0, :, 0, 0].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    # The shifted window at the corner has 2 px, all within the first window of 4 px.
    assert torch.equal(
        seen,
        torch.zeros(8, 8, dtype=bool).index_fill(0, torch.arange(4), True)
        & (torch.arange(8) < 4),
    )
    x.grad = None
    layer(x)[0, :, 3, 3].sum().backward()
    assert (x.grad[0].abs().sum(0) > 0).all()


def test_group_norm_has_at_most_32_groups():
    assert make_norm("group", 2, 64).num_groups == 32
    assert make_norm("group", 2, 24).num_groups == 8
    y = make_norm("group", 2, 64)(3 + 5 * torch.randn(2, 64, 9, 9))
    groups = y.reshape(2, 32, -1)
    torch.testing.assert_close(groups.mean(-1), torch.zeros(2, 32), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.var(-1), torch.ones(2, 32), atol=1e-2, rtol=0)

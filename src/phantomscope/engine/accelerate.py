"""Fast network evaluation: device, precision, memory layout, compiled kernels.

An `Evaluator` answers as its network does, from a private copy that is laid out for
inference. On a CPU it takes one item at a time: a batch of one stays in the caches, and
the answer for an item is the same, bit for bit, whatever the batch it came in.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from phantomscope.engine.blocks import ChannelNorm, PixelShuffle
from phantomscope.engine.compiling import (
    Compiled,
    missing,
    say_uncompiled,
    should_compile,
)
from phantomscope.engine.unet import UNet

__all__ = [
    "Evaluator",
    "SortedShuffle",
    "channels_last",
    "should_compile",
    "shuffle_order",
    "sort_shuffles",
    "to_channels_last",
    "to_device",
    "with_sorted_shuffles",
]

WHAT = "Network evaluation"

# What may stand between a convolution and a pixel shuffle when channels are sorted.
_PER_CHANNEL = (
    nn.PReLU, nn.LeakyReLU, nn.Identity, nn.InstanceNorm2d, nn.InstanceNorm3d,
    ChannelNorm,
)  # fmt: skip


def channels_last(dims: int) -> torch.memory_format:
    """Return the memory format with channels last for 2D or 3D."""
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def to_channels_last(network: nn.Module) -> nn.Module:
    """Lay the weights of a network's convolutions out with channels last."""
    dims = 3 if any(p.ndim == 5 for p in network.parameters()) else 2
    network.to(memory_format=channels_last(dims))  # type: ignore[call-overload]
    return network


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network, channels last on a GPU (eager CPU kernels are slower there)."""
    network = network.to(device)
    return to_channels_last(network) if device.type == "cuda" else network


class SortedShuffle(nn.Module):
    """Pixel shuffle of channels sorted by their place, copying runs of channels.

    Parameters
    ----------
    dims : int
        2 or 3.

    Notes
    -----
    `PixelShuffle` finds the 2^d values of an output channel side by side; here
    channels come by place first (`shuffle_order`), so that in channels-last memory
    whole runs of channels move and the kernel is vectorised.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        """Shuffle a batch."""
        d = self.dims
        n, c, *size = x.shape
        x = x.movedim(1, -1).reshape(n, *size, *[2] * d, c // 2**d)
        places = [axis for a in range(d) for axis in (1 + a, 1 + d + a)]
        x = x.permute(0, *places, 1 + 2 * d)
        return x.reshape(n, *[2 * s for s in size], c // 2**d).movedim(-1, 1)


def shuffle_order(channels: int, dims: int) -> Tensor:
    """Return the channels of a `PixelShuffle`, in the order of a `SortedShuffle`."""
    places: int = 2**dims
    return torch.arange(channels).reshape(channels // places, places).t().reshape(-1)


def _can_be_sorted(block: nn.Module) -> bool:
    """Tell whether a block is a convolution, layers per channel, and a shuffle.

    Group norms tie neighbouring channels together.
    """
    if not isinstance(block, nn.Sequential) or len(block) < 2:
        return False
    first, *between, last = block
    return (
        isinstance(last, PixelShuffle)
        and last.factor == 2
        and isinstance(first, nn.Conv2d | nn.Conv3d)
        and all(isinstance(layer, _PER_CHANNEL) for layer in between)
    )


def sort_shuffles(network: nn.Module) -> None:
    """Replace pixel shuffles by `SortedShuffle`, sorting the channels before them.

    The network computes the same, from weights in another order: for inference only.
    """
    for block in network.modules():
        if isinstance(block, nn.Sequential) and _can_be_sorted(block):
            parts: list[Any] = list(block)
            first, *between, last = parts
            order = shuffle_order(first.out_channels, last.dims)
            for layer in (first, *between):
                for parameter in layer.parameters(recurse=False):
                    if len(parameter) == len(order):  # not a PReLU's only weight
                        parameter.data = parameter.data[order.to(parameter.device)]
            block[len(block) - 1] = SortedShuffle(last.dims)


class _SortingBlock(nn.Module):
    """A block that ends with a pixel shuffle; it sorts its weights whenever it is used.

    So they can go on learning, in the order in which they are stored.
    """

    def __init__(self, block: nn.Sequential) -> None:
        super().__init__()
        parts: list[Any] = list(block)
        self.first, *between, last = parts
        self.between = nn.ModuleList(between)
        self.shuffle = SortedShuffle(last.dims)
        self.order: Tensor
        order = shuffle_order(self.first.out_channels, last.dims)
        device = next(self.first.parameters()).device
        self.register_buffer("order", order.to(device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        order, first = self.order, self.first
        bias = None if first.bias is None else first.bias[order]
        x = first._conv_forward(x, first.weight[order], bias)
        for layer in self.between:
            weights = {
                name: weight[order] if len(weight) == len(order) else weight
                for name, weight in layer.named_parameters(recurse=False)
            }
            x = torch.func.functional_call(layer, weights, (x,))
        output: Tensor = self.shuffle(x)
        return output


def with_sorted_shuffles(network: nn.Module) -> nn.Module:
    """Return a network with fast shuffles that shares the weights of another.

    What one learns the other knows, in place.
    """
    shared = {id(p): p for p in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    for name, block in list(twin.named_modules()):
        if isinstance(block, nn.Sequential) and _can_be_sorted(block):
            twin.set_submodule(name, _SortingBlock(block))
    return twin


class _Predict(nn.Module):
    """What is compiled: the network after its checks and the time embedding."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        return self.network.predict(x, embedding)


class Evaluator:
    """Evaluates a network as fast as the machine allows; it never learns.

    Parameters
    ----------
    network : UNet
        Trained network; it is copied, and changes to it later have no effect.
    device : torch.device
        Where to evaluate.
    precision : {"fp32", "bf16"}
        Weights and feature maps. Times are embedded, and norms take their statistics,
        in fp32.
    compiled : bool
        Compile kernels for each shape that comes (tens of seconds; torch keeps them on
        the disk for the next process). Where that fails a line on stderr says so, and
        eager kernels do the work.

    Notes
    -----
    On a CPU items are evaluated one by one, so that the answer for an item does not
    depend on the micro-batch, in any bit. It is faster, too: feature maps of a batch
    do not fit the caches. A GPU takes whole batches.
    """

    def __init__(
        self, network: UNet, device: torch.device, precision: str = "fp32",
        compiled: bool = False,
    ) -> None:  # fmt: skip
        self.device = device
        self.spec = network.spec
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        compiled = compiled and not self._lacks_compiler()
        module = _Predict(self._copy(network, compiled))
        self._prepare = module.network.prepare
        self._call = Compiled(module, device, WHAT, frozen=True) if compiled else module

    def _lacks_compiler(self) -> bool:
        """Say it where there is no compiler: eager kernels want another layout."""
        if why := missing(self.device):
            say_uncompiled(WHAT, why)
        return bool(why)

    def _copy(self, network: UNet, compiled: bool) -> UNet:
        """Copy the network in our precision and layout."""
        network = copy.deepcopy(network).eval().requires_grad_(False)
        network = network.to(self.device, self.dtype)
        self._layout = torch.contiguous_format
        if compiled or self.device.type == "cuda":
            # Eager norms and shuffles of the CPU are faster with channels first.
            self._layout = channels_last(self.spec.dims)
            to_channels_last(network)
        if compiled:
            sort_shuffles(network)
        return network

    @property
    def compiled(self) -> bool:
        """Whether compiled kernels do the work."""
        return isinstance(self._call, Compiled) and self._call.works

    @torch.inference_mode()
    def __call__(
        self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Evaluate.

        Parameters
        ----------
        x : Tensor, shape (N, C, [Z,] Y, X)
            As for `UNet.forward`, on any device.
        t : Tensor, shape (N,)
            Times; networks without time take no notice.
        condition : Tensor, shape (N, C', [Z,] Y, X), optional
            More input channels.

        Returns
        -------
        Tensor, shape (N, outputs, [Z,] Y, X)
            float32, on our device.
        """
        x, embedding = self._prepare(x, t, condition)
        x = x.to(self.device)
        if embedding is not None:
            embedding = embedding.to(self.device, self.dtype)
        if self.device.type != "cpu":
            return self._predict(x, embedding)
        parts = [
            self._predict(
                x[i : i + 1], None if embedding is None else embedding[i : i + 1]
            )
            for i in range(len(x))
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _predict(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        # A fresh tensor: compiled kernels are made for strides, too, and slices of
        # batches may have others than whole ones.
        fresh = torch.empty(
            x.shape, dtype=self.dtype, device=self.device, memory_format=self._layout
        )
        output: Tensor = self._call(fresh.copy_(x), embedding)
        return output.to(torch.float32, memory_format=torch.contiguous_format)

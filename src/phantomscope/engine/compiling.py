"""Compiled kernels, and the network's own where they cannot be had."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from phantomscope.engine.memory import out_of_memory

# Measured on two cores with avx512_bf16, `eschweiler`: a cold compilation, and what
# compiled kernels save against eager ones of the same precision (the lesser of 2D with
# instance and channel norm).
COMPILE_SECONDS = 40.0
SAVED_SECONDS_PER_PIXEL = 1.8e-7
# The same for training steps, forwards and backwards.
TRAINING_COMPILE_SECONDS = 60.0
TRAINING_SAVED_SECONDS_PER_PIXEL = 1e-6
# Pixels of a micro-batch of compiled training on a CPU: four times as many take 1.6
# times as long per pixel (a core with avx512_bf16, `eschweiler`).
CACHED_PIXELS = 256 * 256
_SHAPES = 64  # compiled per process; torch gives up after eight by default


def should_compile(evaluations: int, pixels: int) -> bool:
    """Tell whether compilation pays on a CPU.

    Parameters
    ----------
    evaluations : int
        Network evaluations, per item, that one process is going to make.
    pixels : int
        Pixels or voxels of an item.

    Returns
    -------
    bool
        A pure function of the arguments and of constants that were measured once,
        never of a timing or of what a cache holds: compiled and eager kernels round
        differently, and all shards of an experiment have to choose the same. Hence
        give it numbers of the whole experiment's config, not of what is left to do.
    """
    return evaluations * pixels * SAVED_SECONDS_PER_PIXEL > COMPILE_SECONDS


def should_compile_training(patches: int, pixels: int) -> bool:
    """Tell whether compilation pays for a training; see `should_compile`.

    Parameters
    ----------
    patches : int
        Patches of all optimiser steps.
    pixels : int
        Pixels or voxels of a patch.
    """
    saved = patches * pixels * TRAINING_SAVED_SECONDS_PER_PIXEL
    return saved > TRAINING_COMPILE_SECONDS


def cached_micro_batch(whole: int, pixels: int) -> int:
    """Return how many patches at a time caches hold.

    Parameters
    ----------
    whole : int
        Patches; the answer is a divisor, since kernels are compiled for each size.
    pixels : int
        Pixels or voxels of a patch.
    """
    return max(
        n for n in range(1, whole + 1)
        if whole % n == 0 and (n == 1 or n * pixels <= CACHED_PIXELS)
    )  # fmt: skip


def missing(device: torch.device) -> str:
    """Say what compilation lacks on this machine, or nothing."""
    try:
        if device.type == "cpu":
            from torch._inductor.cpp_builder import get_cpp_compiler

            get_cpp_compiler()
        else:
            import triton  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: F401
    except Exception as error:  # torch has errors of its own, others in each version
        return _one_line(error)
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def say_uncompiled(what: str, why: str) -> None:
    """Say on stderr that something goes on without compiled kernels."""
    print(
        f"{what} is not compiled ({why}); it goes on with slower kernels, which round "
        "differently.",
        file=sys.stderr,
    )


@contextlib.contextmanager
def _settings(frozen: bool) -> Iterator[None]:
    """Set torch's compiler up for our kernels only, as long as this lasts."""
    import torch._dynamo.config as dynamo
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor

    limits = {
        name: _SHAPES
        for name in ("recompile_limit", "cache_size_limit")  # its name before torch 2.7
        if hasattr(dynamo, name)
    }
    # The backward pass at once, so that it fails where we can still go without.
    backward = "force_non_lazy_backward_lowering"
    at_once = {backward: True} if hasattr(functorch, backward) else {}
    with (
        inductor.patch(freezing=frozen, fx_graph_cache=True),
        dynamo.patch(limits),
        functorch.patch(at_once),
    ):
        yield


class Compiled:
    """A module with kernels that are compiled for each shape that comes.

    Compilation takes tens of seconds; torch keeps kernels on the disk for the next
    process. Where it fails a line on stderr says so, and the module itself does the
    work from then on.

    Parameters
    ----------
    module : nn.Module
        Called with tensors or None.
    device : torch.device
        Where its weights are.
    what : str
        What it is for, in that line.
    frozen : bool
        The weights never change: kernels take them packed. Only for inference.
    """

    def __init__(
        self, module: nn.Module, device: torch.device, what: str, *, frozen: bool
    ) -> None:
        self.module, self.what = module, what
        self._graphs = frozen and device.type == "cuda"
        # CUDA graphs have the weights in place.
        self._frozen = frozen and not self._graphs
        self._shapes: set[Any] = set()
        self._call: Any = None
        if lacking := missing(device):
            say_uncompiled(what, lacking)
        else:
            mode = "reduce-overhead" if self._graphs else None
            self._call = torch.compile(module, dynamic=False, fullgraph=True, mode=mode)

    @property
    def works(self) -> bool:
        """Whether compiled kernels do the work."""
        return self._call is not None

    def __call__(self, *inputs: Any) -> Any:
        """Call the module."""
        if self._call is None:
            return self.module(*inputs)
        shapes = tuple(None if x is None else x.shape for x in inputs)
        if shapes in self._shapes:
            return self._run(inputs)
        try:
            output = self._run(inputs)
        except Exception as error:
            if out_of_memory(error):
                raise
            say_uncompiled(self.what, _one_line(error))
            self._call = None
            # An error of the module itself comes again.
            return self.module(*inputs)
        self._shapes.add(shapes)
        return output

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        with _settings(self._frozen):
            if not self._graphs:
                return self._call(*inputs)
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            # The next call overwrites what this one gives.
            return self._call(*inputs).clone()

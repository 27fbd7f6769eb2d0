"""Batches ahead of time: the next one is prepared while a step runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]


class Prefetcher:
    """Prepares batches in one background thread, one step ahead.

    Parameters
    ----------
    prepare : callable
        ``prepare(step)`` gives the tensors of a step, a pure function: whether a batch
        was prepared ahead cannot be seen in it. Never called twice at a time.
    steps : int
        No step from this one on is prepared ahead.
    device : torch.device
        For a GPU tensors are copied into pinned memory, so that they can follow
        without stopping the step that runs.
    threads : int
        CPU threads of torch in the background: those of the trainer, since sums depend
        on their number.
    """

    def __init__(
        self, prepare: Callable[[int], Tensors], steps: int, device: torch.device,
        threads: int,
    ) -> None:  # fmt: skip
        self._prepare, self._steps, self._pin = prepare, steps, device.type == "cuda"
        # Threads of torch count per thread of Python, and none outlives the loop.
        self._worker = ThreadPoolExecutor(
            1, "prefetch", lambda: torch.set_num_threads(threads)
        )
        self._next: tuple[int, Future[Tensors]] | None = None

    def _make(self, step: int) -> Tensors:
        tensors = self._prepare(step)
        if not self._pin:
            return tensors
        # A teacher's targets are on the GPU already.
        return tuple(t.pin_memory() if t.device.type == "cpu" else t for t in tensors)

    def get(self, step: int) -> Tensors:
        """Return the tensors of a step and begin with those of the next."""
        ahead, self._next = self._next, None
        if ahead is None or ahead[0] != step:
            ahead = step, self._worker.submit(self._make, step)
        tensors = ahead[1].result()
        if step + 1 < self._steps:
            self._next = step + 1, self._worker.submit(self._make, step + 1)
        return tensors

    def close(self) -> None:
        """Wait for the thread and forget what it prepared."""
        self._next = None
        self._worker.shutdown(cancel_futures=True)

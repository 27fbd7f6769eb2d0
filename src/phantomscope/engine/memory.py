"""Running out of memory: how torch says so."""

from __future__ import annotations

import torch

# What the allocators of torch and oneDNN say in a plain RuntimeError on a CPU.
_SAID = ("not enough memory", "can't allocate memory", "could not allocate memory")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on a GPU or a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in text for said in _SAID)

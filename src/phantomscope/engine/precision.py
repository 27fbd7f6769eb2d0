"""Which device and which arithmetic: what a config asks for and a machine has."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from phantomscope.config.diffusion import Train
from phantomscope.errors import PhantomscopeError

Precision = Literal["fp32", "bf16"]


def pick_device(wish: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``."""
    if wish == "cuda" and not torch.cuda.is_available():
        raise PhantomscopeError(
            "there is no usable GPU",
            where="train.device / synthesise.device",
            fix="use `auto` or `cpu`, or install torch for your GPU's driver",
        )
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wish)


def cpu_bf16() -> str:
    """Name the bf16 instructions of this CPU: ``amx``, ``avx512_bf16`` or nothing."""
    for name, test in (
        ("amx", "_is_amx_tile_supported"),
        ("avx512_bf16", "_is_avx512_bf16_supported"),
    ):
        # Private names of torch: another version may lack them.
        supported = getattr(torch.cpu, test, None)
        if supported is not None and supported():
            return name
    return ""


def pick_precision(wish: str, device: torch.device) -> Precision:
    """Return ``fp32`` or ``bf16``: for ``auto``, bf16 where the hardware has it."""
    if wish != "auto":
        return "bf16" if wish == "bf16" else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if cpu_bf16() else "fp32"


def dims_of(network: nn.Module) -> int:
    """Dimensions of the images that a network sees; 2 where it does not say."""
    return int(getattr(getattr(network, "spec", None), "dims", 2))


def training_precision(
    options: Train, network: nn.Module, device: torch.device
) -> Precision:
    """Return the arithmetic of a training.

    The kernels for gradients of bf16 convolutions on a CPU (oneDNN of torch 2.13) read
    memory that nobody wrote where a volume has exactly two planes. Patches that come
    to be so thin on the way down are trained in fp32, with a line that says so.
    """
    found = pick_precision(options.precision, device)
    if found == "fp32" or device.type != "cpu" or dims_of(network) == 2:
        return found
    halvings = network.spec.downsampling.bit_length()  # type: ignore[union-attr, operator]
    levels = [options.patch_depth >> k for k in range(halvings)]
    if 2 not in levels:
        return found
    print(
        f"Patches of {options.patch_depth} planes become 2 planes thin in the network, "
        "for which bf16 on a CPU gives wrong gradients: fp32 is used. "
        "`train.patch_depth: 32` can be trained in bf16."
    )
    return "fp32"

"""The networks of the four systems as presets, for 2D and 3D.

| preset | network | parameters (2D) | stride |
|---|---|---|---|
| `eschweiler` | Eschweiler & Stegmaier 2023 | 899,409; 3D 2,318,961 | 8 |
| `small` | the same with half the channels | 242,377 | 8 |
| `iddpm` | Saguy et al. 2023: Nichol & Dhariwal 2021, 64 channels | 8,913,793 | 32 |
| `iddpm_upstream` | the same with the multipliers of the latter | 20,971,521 | 32 |
| `resshift` | Xing et al.: Yue et al. 2023, Swin-U-Net | 112,630,505 (5 ch.) | 64 |
| `resshift_small` | the same, 32 channels, one block a level | 3,240,487 (5 ch.) | 64 |
| `resshift_latent` | `resshift`, Swin in three levels | 116,685,143 (3 ch.) | 64 |
| `palette` | Saharia et al. 2022, as in guided-I2I | 58,076,549 (5 + 5 ch.) | 8 |
| `noise2noise` | Javer & Rittscher: Lehtinen et al. 2018 | 988,609 | 32 |
| `cellpose3d` | Eschweiler et al. 2022 (segmentation) | 3D 1,980,980 | 8 |

The parameter counts are those of the original networks (the first two with the noise
channel of the released code); where their descriptions leave
a layer open, the count confirms the layout chosen here. Sizes of images must be
multiples of the stride.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from phantomscope.config.diffusion import Network
from phantomscope.engine.apart import Apart
from phantomscope.engine.blocks import (
    ChannelNorm,
    Norm,
    PixelShuffle,
    make_norm,
    time_embedding,
)
from phantomscope.engine.residual_unet import ResidualSpec, ResidualUNet, WindowSpec
from phantomscope.engine.unet import PlainSpec, PlainUNet, UNet, UNetSpec
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import derive_key

__all__ = [
    "PRESETS",
    "ChannelNorm",
    "PixelShuffle",
    "UNet",
    "UNetSpec",
    "build_network",
    "count_parameters",
    "make_network",
    "make_norm",
    "network_spec",
    "preset_spec",
    "time_embedding",
]


def _eschweiler(dims: int, inputs: int, outputs: int, *, width: int) -> PlainSpec:
    """Norm after PReLU; the count tells of a PReLU after each strided convolution."""
    f = width
    return PlainSpec(
        dims=dims,
        inputs=inputs,
        outputs=outputs,
        norm="instance",
        time_channels=128,
        encoder=[(f // 2, f), (f, 2 * f), (2 * f, 4 * f), (4 * f, 8 * f)],
        decoder=[(8 * f, 8 * f), (8 * f, 8 * f), (f, f)],
        head=(f, f),
    )


def _iddpm(
    dims: int, inputs: int, outputs: int, *, multipliers: tuple[int, ...]
) -> ResidualSpec:
    """Attention in the two coarsest levels: 16 and 8 px of an image of 256 px."""
    return ResidualSpec(
        dims=dims,
        inputs=inputs,
        outputs=outputs,
        norm="group",
        time_channels=64,
        rescale_time=True,
        width=64,
        multipliers=multipliers,
        blocks=1,
        attention_levels=(4, 5),
    )


def _palette(dims: int, inputs: int, outputs: int) -> ResidualSpec:
    """Attention in the middle alone: none of its levels is as coarse as it says.

    Without the dropout of 0.2, whose numbers are no function of (seed, step).
    """
    return ResidualSpec(
        dims=dims,
        inputs=inputs,
        outputs=outputs,
        norm="group",
        time_channels=64,
        width=64,
        multipliers=(1, 2, 4, 8),
        blocks=2,
        attention_levels=(),
    )


def _resshift(
    dims: int, inputs: int, outputs: int, *, width: int = 160, blocks: int = 2,
    windows: int = 192, heads: int = 6, attention: tuple[int, ...] = (3,),
) -> ResidualSpec:  # fmt: skip
    """Swin layers in the coarsest level, after the first block each way, and middle.

    The original has them where feature maps have 64 px or fewer, that is in the
    coarsest of four levels of an image of 512 px. The same layout with Swin layers in
    all levels has the 118,593,583 parameters of the original's own network for 64 px.
    In 3D windows have 4 voxels, since 8 would make 512 tokens.
    """
    return ResidualSpec(
        dims=dims,
        inputs=inputs,
        outputs=outputs,
        norm="group",
        time_channels=width,
        width=width,
        multipliers=(1, 2, 2, 4),
        blocks=blocks,
        attention_levels=attention,
        attention_blocks="first",
        windows=WindowSpec(
            width=windows, heads=heads, window=8 if dims == 2 else 4, depth=2
        ),
        # It predicts the image, for which zero is no better start than any other.
        zero_output=False,
    )


def _noise2noise(dims: int, inputs: int, outputs: int) -> PlainSpec:
    """Five poolings between the finest block and the bottleneck; no norm, no time."""
    return PlainSpec(
        dims=dims,
        inputs=inputs,
        outputs=outputs,
        norm="none",
        time_channels=0,
        encoder=[(48, 48), *[(48,)] * 5],
        decoder=[*[(96, 96)] * 4, (64, 32)],
        last_kernel=3,
        leak=0.1,
        skip="input",
        down="pool",
        up="nearest",
        xavier=True,
    )


def _cellpose3d(dims: int, inputs: int, outputs: int) -> PlainSpec:
    """Norm before activation; the count confirms 1 x 1 convolutions on the way up."""
    f = 16
    return PlainSpec(
        dims=dims,
        inputs=inputs,
        outputs=outputs,
        norm="instance",
        time_channels=0,
        encoder=[(f // 2, f), (f, 2 * f), (2 * f, 4 * f), (4 * f, 8 * f)],
        decoder=[(4 * f, 4 * f), (2 * f, 2 * f), (f, f)],
        head=(f, f),
        leak=0.2,
        norm_first=True,
        norm_top=False,
        up="transposed",
        tanh=True,
    )


PRESETS: dict[str, Callable[[int, int, int], UNetSpec]] = {
    "eschweiler": partial(_eschweiler, width=16),
    "small": partial(_eschweiler, width=8),
    "iddpm": partial(_iddpm, multipliers=(1, 1, 2, 2, 2, 2)),
    "iddpm_upstream": partial(_iddpm, multipliers=(1, 1, 2, 2, 4, 4)),
    "resshift": _resshift,
    "resshift_small": partial(_resshift, width=32, blocks=1, windows=48, heads=3),
    # The same rule for latents of 128 px, of images of 512 px.
    "resshift_latent": partial(_resshift, attention=(1, 2, 3)),
    "palette": _palette,
    "noise2noise": _noise2noise,
    "cellpose3d": _cellpose3d,
}


def preset_spec(
    preset: str, dims: int = 2, *, channels: int = 1, outputs: int | None = None,
    conditions: int = 0, noise_channel: bool = False, norm: Norm | None = None,
    timesteps: int = 1000, told: bool = False,
) -> UNetSpec:  # fmt: skip
    """Return the spec of a preset.

    Parameters
    ----------
    preset : str
        A key of `PRESETS`.
    dims : int
        2 or 3.
    channels : int
        Channels of the images.
    outputs : int, optional
        Channels of the output: as many as the images have, but a foreground and a
        flow per axis with `cellpose3d`.
    conditions : int
        Channels of the condition.
    noise_channel : bool
        One more channel, of fresh noise.
    norm : {"channel", "instance", "group", "none"}, optional
        The norm of the original where none is named.
    timesteps : int
        Length T of the chain, for presets that rescale times.
    told : bool
        The condition scales and shifts the norms of the decoder (SPADE).

    Raises
    ------
    PhantomscopeError
        If there is no such preset, or none for so many dimensions.
    """
    if dims not in (2, 3):
        raise PhantomscopeError(f"networks have 2 or 3 dimensions, not {dims}")
    if preset not in PRESETS:
        raise PhantomscopeError(
            f"there is no network `{preset}`",
            where="network.preset",
            fix=f"choose one of {', '.join(PRESETS)}",
        )
    if outputs is None:
        outputs = 1 + dims if preset == "cellpose3d" else channels
    spec = PRESETS[preset](dims, channels + noise_channel + conditions, outputs)
    spec = replace(spec, norm=norm or spec.norm, timesteps=timesteps)
    if told and isinstance(spec, ResidualSpec):
        spec = replace(spec, told=conditions)
    return spec


def network_spec(
    config: Network, dims: int = 2, *, channels: int = 1, outputs: int | None = None,
    conditions: int = 0, timesteps: int = 1000,
) -> UNetSpec:  # fmt: skip
    """Return the spec that a config asks for; see `preset_spec`."""
    return preset_spec(
        config.preset,
        dims,
        channels=channels,
        outputs=outputs,
        conditions=conditions,
        noise_channel=config.noise_channel,
        norm=config.norm,
        timesteps=timesteps,
        told=config.modulation == "spade",
    )


def build_network(spec: UNetSpec, seed: int) -> UNet:
    """Build a network with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(spec, PlainSpec):
            return PlainUNet(spec)
        if isinstance(spec, ResidualSpec):
            return ResidualUNet(spec)
    raise TypeError(f"no network is made from a {type(spec).__name__}")


def make_network(
    config: Network, seed: int, dims: int = 2, *, channels: int = 1,
    outputs: int | None = None, conditions: int = 0, timesteps: int = 1000,
    parts: int = 1,
) -> UNet:  # fmt: skip
    """Build the network that a config asks for; see `preset_spec`.

    Of several `parts` each sees as many of the channels, and of the conditions, and
    has weights of its own.
    """
    spec = network_spec(
        config,
        dims,
        channels=channels // parts,
        outputs=outputs,
        conditions=conditions // parts,
        timesteps=timesteps,
    )
    if parts == 1:
        return build_network(spec, seed)
    return Apart(
        [build_network(spec, derive_key(seed, "part", n) >> 1) for n in range(parts)]
    )


def count_parameters(network: nn.Module) -> int:
    """Count the weights of a network."""
    return sum(p.numel() for p in network.parameters())

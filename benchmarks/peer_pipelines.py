"""Drive one network through our sampler, `diffusers` and `denoising-diffusion-pytorch`.

The peers are imported here and nowhere else; `pip install .[bench]` installs them.
Their times are 0 ... T - 1 where ours are 1 ... T.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib.metadata import version
from io import StringIO
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from phantomscope.engine.networks import UNet, build_network, preset_spec
from phantomscope.engine.process import Process, linear_alpha_bar
from phantomscope.engine.samplers import (
    SamplerName,
    Spacing,
    Step,
    clip_range,
    integrate,
    plan_steps,
)

Evaluate = Callable[[Tensor, Tensor], Tensor]

TIMESTEPS = 1000
INSTALL = "pip install .[bench]"
PEERS = {"diffusers": "diffusers", "ddpm_pytorch": "denoising-diffusion-pytorch"}
_DECLARED: list[torch.library.Library] = []


def _declare_operators() -> None:
    """Declare what a torchvision without its compiled operators asks for on import.

    A torchvision built for CUDA cannot load them beside a torch for the CPU. They find
    boxes in images, and no sampler calls them.
    """
    print("peers: torchvision has no compiled operators here; only its Python is used")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float limit) -> Tensor")
    _DECLARED.append(library)


def load_peers() -> tuple[dict[str, ModuleType], list[str]]:
    """Import the peers; also say what is missing and why."""
    found, missing = {}, []
    try:
        importlib.import_module("torchvision")
    except ImportError:
        pass
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_operators()
    for key, name in PEERS.items():
        try:
            found[key] = importlib.import_module(name.replace("-", "_"))
        except ImportError as error:
            missing.append(f"{name} cannot be imported ({error}); first `{INSTALL}`")
    return found, missing


def versions() -> str:
    """Name the peers and their versions."""
    return ", ".join(f"{name} {version(name)}" for name in PEERS.values())


# --- what is the same for all -----------------------------------------------------


def shared_network(preset: str = "iddpm", seed: int = 0) -> UNet:
    """Build the network; layers that start at zero get weights, or it would give 0."""
    network = build_network(preset_spec(preset), seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                scale = parameter[0].numel() ** -0.5
                parameter.normal_(0, scale, generator=random)
    return network


def shared_process() -> Process:
    """Gaussian diffusion with the linear schedule, which both peers have."""
    return Process.gaussian(linear_alpha_bar(TIMESTEPS))


# --- ours -------------------------------------------------------------------------


def evaluator(network: nn.Module, precision: str) -> Evaluate:
    """Return what evaluates the network: ``evaluate(x, t)`` gives float32."""

    def evaluate(x: Tensor, t: Tensor) -> Tensor:
        bf16 = precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            output: Tensor = network(x, t)
        return output.float()

    return evaluate


@torch.inference_mode()
def ours(
    evaluate: Evaluate,
    process: Process,
    steps: Sequence[Step],
    x: Tensor,
    *,
    clip: bool,
) -> Tensor:
    """Go the whole way back from a state."""

    def predict(x: Tensor, t: int) -> Tensor:
        output = evaluate(x, torch.full((len(x),), t, device=x.device))
        x0 = process.to_x0(output, x, t)
        return clip_range(x0, -1.0, 1.0) if clip else x0

    def noise(u: int) -> Tensor:
        raise ValueError(f"the step to {u} is deterministic")

    return integrate(steps, x, predict, noise)


# --- diffusers --------------------------------------------------------------------


def diffusers_network(evaluate: Callable[..., Tensor], size: int) -> Any:
    """Wrap what evaluates a network as a model of diffusers."""
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config
    from diffusers.models.unets.unet_2d import UNet2DOutput

    class Wrapped(ModelMixin, ConfigMixin):  # type: ignore[misc]
        @register_to_config
        def __init__(self, sample_size: int, in_channels: int = 1) -> None:
            super().__init__()
            # A pipeline asks the model's weights for their dtype.
            self.dtype_of = nn.Parameter(torch.zeros(()), requires_grad=False)

        def forward(self, sample: Tensor, timestep: Tensor) -> Any:
            t = torch.as_tensor(timestep).expand(len(sample)) + 1
            return UNet2DOutput(sample=evaluate(sample, t))

    return Wrapped(size)


def _ddim_scheduler(clip: bool) -> Any:
    """Linear schedule and times from T on, as ours; it has x_0 itself as its end."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        timestep_spacing="trailing",
        clip_sample=clip,
    )


def ddim_pipeline(model: Any) -> Any:
    """Return the DDIM pipeline of diffusers, which clips."""
    from diffusers import DDIMPipeline

    pipeline = DDIMPipeline(model, _ddim_scheduler(clip=True))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.inference_mode()
def diffusers_ddim(
    evaluate: Evaluate, x: Tensor, times: Sequence[int], *, clip: bool
) -> Tensor:
    """DDIM by the scheduler's loop, from a given state; times are ours."""
    scheduler = _ddim_scheduler(clip)
    scheduler.set_timesteps(len(times) - 1)
    if [int(t) + 1 for t in scheduler.timesteps] != list(times[:-1]):
        raise ValueError(f"its scheduler takes other times than {times}")
    for t in scheduler.timesteps:
        output = evaluate(x, (t + 1).expand(len(x)))
        step = scheduler.step(output, t, x, use_clipped_model_output=clip)
        x = step.prev_sample
    return x


@torch.inference_mode()
def diffusers_dpm(evaluate: Evaluate, x: Tensor, times: Sequence[int]) -> Tensor:
    """DPM-Solver++(2M) by the scheduler's loop, from a given state; times are ours."""
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        algorithm_type="dpmsolver++",
        solver_order=2,
        lower_order_final=True,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(timesteps=[t - 1 for t in times[:-1]])
    for t in scheduler.timesteps:
        output = evaluate(x, (t + 1).expand(len(x)))
        x = scheduler.step(output, t, x).prev_sample
    return x


# --- denoising-diffusion-pytorch --------------------------------------------------


class Driven(nn.Module):
    """What evaluates a network, as `GaussianDiffusion` wants it."""

    def __init__(self, evaluate: Callable[..., Tensor]) -> None:
        super().__init__()
        self.evaluate = evaluate
        self.channels = self.out_dim = 1
        self.self_condition = False

    def forward(self, x: Tensor, t: Tensor, x_self_cond: None = None) -> Tensor:
        """Predict; it passes nothing as the third argument."""
        return self.evaluate(x, t + 1)


def gaussian_diffusion(model: nn.Module, size: int, steps: int) -> Any:
    """Return its sampler: linear schedule, DDIM."""
    from denoising_diffusion_pytorch import GaussianDiffusion

    return GaussianDiffusion(
        model,
        image_size=size,
        timesteps=TIMESTEPS,
        sampling_timesteps=steps,
        objective="pred_noise",
        beta_schedule="linear",
    )


def ddpm_pytorch_sample(diffusion: Any) -> Tensor:
    """Sample one image without its progress bar."""
    with redirect_stderr(StringIO()):
        image: Tensor = diffusion.sample(batch_size=1)
    return image


def own_networks(size: int) -> dict[str, nn.Module]:
    """Build the peers' own networks with about 9 million parameters."""
    from denoising_diffusion_pytorch import Unet
    from diffusers import UNet2DModel

    plain, attention = ("DownBlock2D",) * 4, ("AttnDownBlock2D",) * 2
    theirs = UNet2DModel(
        sample_size=size,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(64, 64, 128, 128, 128, 128),
        down_block_types=plain + attention,
        up_block_types=("AttnUpBlock2D",) * 2 + ("UpBlock2D",) * 4,
    )
    return {
        "diffusers": theirs.eval(),
        "ddpm_pytorch": Unet(dim=32, dim_mults=(1, 2, 4, 8), channels=1).eval(),
    }


# --- the same image ---------------------------------------------------------------


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def plan(
    steps: int, sampler: SamplerName, spacing: Spacing = "uniform"
) -> tuple[list[Step], list[int]]:
    """Return our steps from T to 0 and their times."""
    planned = plan_steps(shared_process(), TIMESTEPS, steps, sampler, spacing=spacing)
    return planned, [planned[0].t, *(step.u for step in planned)]


def start_state(size: int, seed: int) -> Tensor:
    """Draw noise, as the peers do from a generator with this seed."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn((1, 1, size, size), generator=random)


def ddim_difference(network: nn.Module, size: int, steps: int, *, clip: bool) -> float:
    """Largest difference between our DDIM and that of diffusers, over the maximum."""
    evaluate, x = evaluator(network, "fp32"), start_state(size, steps)
    planned, times = plan(steps, "ddim")
    theirs = diffusers_ddim(evaluate, x, times, clip=clip)
    return _relative(ours(evaluate, shared_process(), planned, x, clip=clip), theirs)


def dpmpp_difference(
    network: nn.Module, size: int, steps: int, spacing: Spacing
) -> float:
    """Largest difference between our DPM-Solver++(2M) and theirs, over the maximum."""
    evaluate, x = evaluator(network, "fp32"), start_state(size, steps)
    planned, times = plan(steps, "dpmpp_2m", spacing)
    theirs = diffusers_dpm(evaluate, x, times)
    return _relative(ours(evaluate, shared_process(), planned, x, clip=False), theirs)


def ddpm_pytorch_difference(network: nn.Module, size: int, steps: int) -> float:
    """Largest difference to its DDIM, which clips, over the range of 2."""
    evaluate, x = evaluator(network, "fp32"), start_state(size, steps)
    planned, _ = plan(steps, "ddim")
    image = ours(evaluate, shared_process(), planned, x, clip=True)
    diffusion = gaussian_diffusion(Driven(evaluate), size, steps)
    # It draws the start state from the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(steps)
        theirs = ddpm_pytorch_sample(diffusion)
    return float((image - (2 * theirs - 1)).abs().max()) / 2

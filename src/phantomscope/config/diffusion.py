"""Options of the diffusion model: network, process, training, sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from phantomscope.config.option import Section, option

Step = Annotated[int, Field(ge=1)]
Preset = Literal[
    "eschweiler", "small", "iddpm", "iddpm_upstream", "resshift", "resshift_small",
    "resshift_latent", "palette", "noise2noise",
]  # fmt: skip
# Sides of what a network sees are multiples of its stride.
STRIDES = {
    "eschweiler": 8, "small": 8, "iddpm": 32, "iddpm_upstream": 32, "resshift": 64,
    "resshift_small": 64, "resshift_latent": 64, "palette": 8, "noise2noise": 32,
}  # fmt: skip
# Presets of plain convolutions: no norm that a condition could modulate.
PLAIN = ("eschweiler", "small", "noise2noise")


class Network(Section):
    """The U-Net."""

    preset: Preset = option(
        "eschweiler",
        "`eschweiler`: the paper's network (899,409 parameters in 2D); `small`: half "
        "its channels, for tests; `iddpm`: with attention, Saguy et al. (8,913,793); "
        "`iddpm_upstream`: the same as first published (20,971,521); `resshift`: "
        "Swin-U-Net of CellResDM (112 million); `resshift_small`: the same with a "
        "fifth of its channels; `resshift_latent`: for latents; `palette`: that of "
        "Palette; `noise2noise`: without norm and time, for a `process` of one step. "
        "What they see has sides that are multiples of 32 (`iddpm`, `noise2noise`) or "
        "64 (`resshift`), and `train.patch`, `synthesise.tile` and "
        "`synthesise.overlap` have to be so.",
        paper="eschweiler; iddpm; resshift; palette; noise2noise",
    )
    norm: Literal["channel", "instance", "group", "none"] = option(
        "channel",
        "`instance`: as the reference, but its statistics depend on the tile, which "
        "shows as seams; `channel`: over the channels of each pixel, hence the same "
        "for any tile; `group`: over 32 groups of channels, as `iddpm` and `resshift` "
        "have it, of the tile as well.",
        paper="instance; group",
    )
    noise_channel: bool = option(
        False,
        "A second input channel of fresh noise, as in the released code (the paper "
        "does not mention it). Without it the preset has 72 weights fewer.",
        paper="true (code)",
    )

    modulation: Literal["concatenate", "spade"] = option(
        "concatenate",
        "How the network sees a condition: beside the state; or `spade`: it scales and "
        "shifts the norms of the way up, pixel by pixel (Park et al. 2019).",
        paper="spade (rivals of CellResDM)",
    )

    @property
    def stride(self) -> int:
        """Sides of what the network sees are multiples of this, in px."""
        return STRIDES[self.preset]

    @model_validator(mode="after")
    def _can_be_modulated(self) -> Self:
        if self.modulation == "spade" and self.preset in PLAIN:
            raise ValueError(
                f"`modulation: spade` needs a network of residual blocks, which "
                f"`{self.preset}` is not: use `resshift_small` or `palette`"
            )
        return self


class Process(Section):
    """The forward process."""

    kind: Literal["gaussian", "residual_shift", "one_step"] = option(
        "gaussian",
        "`gaussian`: the image becomes noise; `residual_shift`: it becomes its "
        "condition, with noise (Yue et al. 2023); `one_step`: it becomes its condition "
        "at once, that is, a regression. The last two are for `translate`, the "
        "last one for `filter`, too.",
        paper="gaussian; residual_shift (CellResDM); one_step (Semantic filtering)",
    )
    schedule: Literal["cosine", "linear"] = option(
        "cosine", "Noise schedule of `gaussian`.", paper="cosine; linear (Palette)"
    )
    timesteps: int = option(
        1000,
        "Length T of the chain; at least 10 of `gaussian`, 1 of `one_step`.",
        ge=1,
        paper="1000; 15 (CellResDM; 4 in its code)",
    )
    prediction: Literal["eps", "x0", "v"] = option(
        "eps",
        "What the network predicts of `gaussian`; the others predict the image (x0).",
        paper="eps",
    )
    kappa: float = option(
        2.0, "Noise of `residual_shift`: variance kappa^2 eta_t.", gt=0, le=100,
        paper="2",
    )  # fmt: skip
    eta_first: float = option(
        0.0004,
        "eta_1 of `residual_shift`: how much of the way to the condition the first "
        "step goes.",
        gt=0,
        lt=1,
        paper="unstated; 0.0004 (ResShift, T = 15), 0.01 (code, T = 4)",
    )
    eta_last: float = option(
        0.9801, "eta_T of `residual_shift`.", gt=0, le=1, paper="0.9801 (code)"
    )
    eta_power: float = option(
        0.3, "Power p of `residual_shift`: with a smaller one eta grows earlier.",
        gt=0, le=10, paper="0.3",
    )  # fmt: skip
    betas: tuple[float, float] | None = option(
        None,
        "First and last beta of the `linear` schedule. Empty: 1e-4 and 0.02 for a "
        "thousand steps, scaled to other lengths.",
        paper="1e-6 and 0.01 (Palette)",
    )

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.kind == "gaussian" and self.timesteps < 10:
            raise ValueError(
                f"`timesteps` ({self.timesteps}) must be at least 10 with `kind: "
                "gaussian`"
            )
        if self.kind == "one_step" and self.timesteps != 1:
            raise ValueError(
                f"`timesteps` ({self.timesteps}) must be 1 with `kind: one_step`"
            )
        if self.eta_first >= self.eta_last:
            raise ValueError(
                f"`eta_first` ({self.eta_first}) must be less than `eta_last` "
                f"({self.eta_last})"
            )
        if self.betas is not None:
            first, last = self.betas
            if not 0 < first <= last < 1:
                raise ValueError(
                    f"`betas` ({first}, {last}) must be between 0 and 1 and not fall"
                )
            if self.schedule != "linear":
                raise ValueError("`betas` are those of `schedule: linear`")
        return self


class Condition(Section):
    """What the network sees beside the noised image."""

    kind: Literal["none", "sketch"] = option(
        "none",
        "`sketch`: a channel with a sketch. In training it is the pseudo-sketch of "
        "each unannotated image (its objects as a segmentation finds them, drawn as "
        "sketches are), in synthesis the sketch. Objects stay in place however much "
        "noise is added, so that `start.value` may be as large as `process.timesteps`, "
        "which is pure noise; predict `v` there, since `eps` drifts in brightness.",
        paper="none",
    )
    segmenter: str | None = option(
        None,
        "Folder of a trained segmenter, such as "
        "`results/demo/models/stardist/synthetic/seed0`, that finds the objects of the "
        "pseudo-sketches: one more round. Empty: the classical segmentation.",
    )

    @model_validator(mode="after")
    def _of_use(self) -> Self:
        if self.segmenter and self.kind == "none":
            raise ValueError("`segmenter` is of no use without `kind: sketch`")
        return self


class Train(Section):
    """Training of the diffusion model."""

    steps: int = option(2400, "Optimiser steps.", ge=1, paper="5000 epochs")
    batch_size: int = option(8, "Patches per optimiser step.", ge=1, paper="1")
    micro_batch: int | None = option(
        None,
        "Patches per network evaluation; lowered by itself when memory runs out. "
        "Gradients are accumulated, so the result is the same up to rounding. "
        "`null`: all, but with compiled kernels on a CPU as many as caches hold.",
        ge=1,
    )
    patch: int = option(
        64, "Side of the training patches; a multiple of 8.", unit="px", ge=16,
        multiple_of=8, paper="256",
    )  # fmt: skip
    patch_depth: int = option(
        32, "Depth of the training patches of volumes; a multiple of 8. Of no effect "
        "on images.", unit="px", ge=8, multiple_of=8, paper="32",
    )  # fmt: skip
    optimiser: Literal["radam", "adamw", "adam"] = option(
        "adamw", "Optimiser.", paper="radam"
    )
    learning_rate: float = option(
        1e-3, "Learning rate, after a linear warm-up.", gt=0, le=1, paper="1e-3"
    )
    weight_decay: float = option(
        0.01, "Decoupled decay of the weights, only of `adamw`.", ge=0, le=1,
        paper="0 (Saguy)",
    )  # fmt: skip
    warmup: int = option(100, "Steps of linear warm-up.", ge=0, paper="0")
    decay: float = option(
        0.3,
        "Last share of the steps over which the learning rate falls linearly to zero.",
        ge=0,
        le=1,
        paper="0",
    )
    ema: float = option(
        0.998, "Decay of the moving average of the weights; 0 switches it off.",
        ge=0, lt=1, paper="none",
    )  # fmt: skip
    clip: float = option(
        1.0, "Largest norm of the gradient; 0 switches clipping off.", ge=0
    )
    loss: Literal["mse", "mae", "smooth_l1"] = option(
        "mse",
        "Error of what the network predicts.",
        paper="mse; mae (Semantic filtering; smooth_l1 in its code)",
    )
    weighting: Literal["uniform", "min_snr", "bound"] = option(
        "uniform",
        "Weights of the times: all alike, min(SNR, 5) (Hang et al. 2023), or those of "
        "the variational bound, whose infinite one at t = 1 is that of t = 2.",
        paper="uniform; bound (CellResDM; uniform in its code)",
    )
    adversarial: float = option(
        0.0,
        "Weight of a second network that learns to tell what is predicted from real "
        "images (PatchGAN: Isola et al. 2017), beside the error. 0: none. Only with "
        "`process.kind: one_step`, and best without `clip`, which would tie both "
        "networks together.",
        ge=0,
        le=10,
        paper="0.01 (Pix2Pix)",
    )
    augment: bool = option(True, "Flips and quarter turns of each patch.", paper="none")
    symmetries: Literal["all", "flip"] = option(
        "all",
        "Which `augment` takes: all eight symmetries of the square, or the patch and "
        "its mirror image only, as the notebook of Saguy et al. does by default (an "
        "ablation).",
        paper="all; flip (Saguy, notebook)",
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto",
        "`bf16` trains faster on GPUs and on processors with AMX or AVX512-BF16 (1.5 "
        "times there); weights stay fp32. `auto` uses it where the machine has it, "
        "else `fp32`.",
        paper="fp32",
    )
    compile: Literal["auto", "always", "never"] = option(
        "never",
        "Compile the network (needs a C++ compiler, or Triton on a GPU): 1.4 to 1.6 "
        "times as fast on a CPU, after one to three minutes. `auto`: where the "
        "training is long enough. Part of the result: compiled kernels round "
        "differently. Off by default until killed runs are tested with it a hundred "
        "times.",
        paper="never",
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Where to train; `auto` takes a GPU when there is one."
    )
    devices: Literal["auto"] | Step = option(
        1,
        "GPUs of one machine that share each batch, with one process each (`threads`, "
        "and memory for the images, as often). No part of the result: only sums are "
        "rounded differently, and a training that was stopped goes on with another "
        "number. `auto`: all GPUs that the job may see. On a CPU `auto` is 1.",
    )
    threads: int = option(
        1,
        "CPU threads. Part of the result: sums are ordered differently with another "
        "number. The demo uses one, so that other trainings run beside it.",
        ge=1,
    )
    checkpoint_every: int = option(
        200, "Steps between saved training states (no effect on the result).", ge=1
    )

    def patch_shape(self, dims: int) -> tuple[int, ...]:
        """Return the size of a training patch, ([Z,] Y, X)."""
        return (self.patch_depth, self.patch, self.patch)[-dims:]

    def with_own(self, own: Mapping[str, Any]) -> Train:
        """Return the same with options of its own; what divides a batch is fitted."""
        size = own["batch_size"]
        micro = self.micro_batch and math.gcd(self.micro_batch, size)
        devices = self.devices if self.devices == "auto" else min(self.devices, size)
        return self.model_copy(update={**own, "micro_batch": micro, "devices": devices})

    @model_validator(mode="after")
    def _micro_divides(self) -> Self:
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise ValueError(
                f"`micro_batch` ({self.micro_batch}) must divide `batch_size` "
                f"({self.batch_size})"
            )
        if self.adversarial and self.patch < 32:
            raise ValueError(
                f"`patch` ({self.patch}) must be at least 32 with `adversarial`: of "
                "less the critic has nothing left to judge"
            )
        if self.devices != "auto" and self.devices > self.batch_size:
            raise ValueError(
                f"`devices` ({self.devices}) must not exceed `batch_size` "
                f"({self.batch_size}): each needs a patch"
            )
        return self


class Start(Section):
    """At which time the way back starts."""

    value: Literal["auto"] | Step = option(
        "auto",
        "`auto` chooses from the data; a number fixes it.",
        paper="600, later 400",
    )
    candidates: list[Step] = option(
        lambda: [100, 200, 300, 400, 500, 600, 700, 800],
        "Times to compare.",
        paper="100 ... 1000",
    )
    max_distance: float = option(
        0.001,
        "Largest Bhattacharyya distance between noised images and noised sketches, "
        "beyond that between two halves of the images (the larger of the distances of "
        "intensity and of fine texture).",
        gt=0,
        paper="0.001 at 600",
    )
    min_fidelity: float = option(
        0.85,
        "Least label fidelity after the way back (share of objects found again, F1 "
        "at IoU 0.5), relative to the best candidate.",
        gt=0,
        le=1,
    )
    images: int = option(3, "Sketches to bring back per candidate.", ge=1)


class Distil(Section):
    """A student that takes few steps where the diffusion model takes many."""

    steps: int = option(
        0,
        "Network evaluations of the student from t_start to 0. It then synthesises in "
        "place of the diffusion model, with these steps instead of `synthesise.steps`. "
        "0: no student.",
        ge=0,
        le=4,
    )
    teacher_steps: int = option(
        12,
        "Steps from t_start to 0 of the diffusion model that the student learns from. "
        "More are more exact; training time grows with them.",
        ge=1,
    )
    teacher_sampler: Literal["ddim", "dpmpp_2m"] = option(
        "dpmpp_2m", "How the diffusion model takes them; `dpmpp_2m` needs half as many."
    )
    train_steps: int = option(400, "Optimiser steps.", ge=1)
    batch_size: int = option(
        8,
        "Items per optimiser step: each sketch gives one for each of `steps`.",
        ge=1,
    )
    patch: int = option(
        64, "Side of the sketches that are drawn for training; a multiple of 8.",
        unit="px", ge=16, multiple_of=8,
    )  # fmt: skip
    learning_rate: float = option(
        5e-4, "Learning rate, after a linear warm-up; the student starts from the "
        "weights of the diffusion model.", gt=0, le=1,
    )  # fmt: skip
    warmup: int = option(50, "Steps of linear warm-up.", ge=0)
    decay: float = option(
        0.5,
        "Last share of the steps over which the learning rate falls linearly to zero.",
        ge=0,
        le=1,
    )
    ema: float = option(
        0.99, "Decay of the moving average of the weights; 0 switches it off.",
        ge=0, lt=1,
    )  # fmt: skip

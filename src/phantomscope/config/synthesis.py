"""Options of the synthesis: sampler, tiles, arithmetic."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phantomscope.config.option import Section, option
from phantomscope.config.tiling import check_overlaps

Steps = Annotated[int, Field(ge=1)]


class Synthesise(Section):
    """From sketches to images."""

    sampler: Literal["ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m"] = option(
        "dpmpp_2m",
        "`dpmpp_2m`: DPM-Solver++ of second order, no noise: ten steps are as good as "
        "all; `sde_dpmpp_2m`: the same with noise; both are for Gaussian diffusion; "
        "`ddim`: no noise, of first order: twenty steps lack fine texture; `ddpm`: the "
        "ancestral sampler over the chosen steps.",
        paper="ddpm",
    )
    spacing: Literal["uniform", "log_snr", "quadratic"] = option(
        "log_snr",
        "Which times the steps take: even in the logarithm of the signal to noise "
        "ratio, even in t (as `ddim` and `ddpm` were measured), or denser towards the "
        "clean image.",
        paper="uniform",
    )
    steps: Literal["all"] | Steps = option(
        10,
        "Network evaluations from t_start to 0. Five are nearly as good with "
        "`dpmpp_2m`. `all`: each time, as many as t_start says.",
        paper="all",
    )
    respacing: Literal["derived", "reference"] = option(
        "derived",
        "With fewer steps than times: `derived`: coefficients are derived anew for "
        "the chosen times; `reference`: those of single steps are taken for longer "
        "ones, as the released code does with a stride (wrong; an ablation).",
        paper="reference (code)",
    )
    eta: float = option(
        0.0, "Noise of the DDIM sampler: 0 none, 1 that of the ancestral one.", ge=0,
        le=1,
    )  # fmt: skip
    variance: Literal["small", "large"] = option(
        "small",
        "Variance of the ancestral sampler: that of the posterior, or beta.",
        paper="small (paper), large (code)",
    )
    sketch_blur: float = option(
        0.0, "Gaussian blur of a sketch before it is noised: sigma.", unit="px", ge=0,
        le=20, paper="0 (arXiv), 1 (PLOS)",
    )  # fmt: skip
    sketch_range: Literal["network", "unit"] = option(
        "network",
        "Range in which a sketch enters: that of the training images, or [0, 1] as it "
        "is, which the released code does by default (an ablation).",
        paper="unit (code)",
    )
    noise: Literal["image", "tile"] = option(
        "image",
        "`image`: a voxel has the same noise in all tiles; `tile`: each tile has its "
        "own, as in the released code, which blurs where tiles overlap (an ablation; "
        "needs `fusion: final`).",
        paper="tile (code)",
    )
    series_noise: Literal["shared", "independent"] = option(
        "independent",
        "Noise of the frames of a time series: `independent`: as a camera's, but "
        "texture flickers; `shared`: the same in all frames, so that what stands still "
        "looks the same, while cells move through a fixed pattern.",
        paper="independent",
    )
    clip: bool = option(
        True, "Clip the predicted image to the range of the training images.",
        paper="false (code)",
    )  # fmt: skip
    tile: int = option(
        224, "Largest side of the tiles the network sees; a multiple of 8. More needs "
        "more memory and wastes less on overlaps.", unit="px", ge=16,
        multiple_of=8, paper="256",
    )  # fmt: skip
    overlap: int = option(
        16, "Overlap of neighbouring tiles, on each side; a multiple of 8.", unit="px",
        ge=0, multiple_of=8, paper="20",
    )  # fmt: skip
    tile_depth: int = option(
        32, "Largest depth of the tiles of volumes; a multiple of 8.", unit="px", ge=8,
        multiple_of=8, paper="32",
    )  # fmt: skip
    overlap_depth: int = option(
        8, "Overlap of neighbouring tiles of volumes in depth, on each side; a "
        "multiple of 8.", unit="px", ge=0, multiple_of=8, paper="unstated",
    )  # fmt: skip
    fusion: Literal["per_step", "final"] = option(
        "per_step",
        "`per_step`: the predictions of overlapping tiles are blended at each step; "
        "`final`: finished tiles are blended, as in the paper.",
        paper="final",
    )
    window: Literal["cosine", "edt", "uniform"] = option(
        "cosine", "Blending weights of a tile.", paper="edt"
    )
    micro_batch: int = option(
        4, "Tiles per network evaluation; more is faster on a GPU.", ge=1, paper="1"
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto",
        "Arithmetic of the network; `auto`: bf16 where the machine has it, which is "
        "twice as fast and, measured, as good; `fp32`: the same on every machine up "
        "to rounding.",
        paper="fp32",
    )
    compile: Literal["auto", "always", "never"] = option(
        "auto",
        "Compile the network (needs a C++ compiler, or Triton on a GPU): up to 1.8 "
        "times as fast, after up to half a minute. `auto`: where one job has work "
        "enough. Where it fails, a line says so and the network is used as it is.",
        paper="never",
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Where to synthesise; `auto` takes a GPU when there is one."
    )
    threads: int = option(1, "CPU threads of each shard.", ge=1)

    def evaluations(self, start: int) -> int:
        """Return the number of network evaluations from t_start to 0."""
        return start if self.steps == "all" else self.steps

    @model_validator(mode="after")
    def _noise_of_tiles(self) -> Self:
        if self.noise == "tile" and self.fusion != "final":
            raise ValueError("`noise: tile` needs `fusion: final`: tiles by themselves")
        if self.respacing == "reference" and self.sampler != "ddpm":
            raise ValueError("`respacing: reference` needs `sampler: ddpm`")
        return self

    @model_validator(mode="after")
    def _tile_holds_overlap(self) -> Self:
        check_overlaps(self)
        return self

"""Options of the latent space of translation: the codec, and how it is trained."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from phantomscope.config.option import Section, option

Count = Annotated[int, Field(ge=1)]


class Latent(Section):
    """The codec (VQ-GAN: Esser et al. 2021) in whose latent space a method diffuses."""

    groups: list[list[str]] = option(
        list,
        "Channels that are coded together, by their names (stains, `nuclei "
        "boundaries`, `cells boundaries`), as many in each group. Each group has a "
        "diffusion network of its own; of a channel that several have, the first one "
        "gives the prediction. Empty: all channels at once.",
        paper="Mito, AGP, DNA; RNA, ER, DNA; DNA and both boundaries (5 in its code)",
    )
    brightfield: bool = option(
        True,
        "The codec learns brightfield images beside the stains. It has to code both, "
        "since the way back starts at the coded brightfield image.",
        paper="unstated",
    )
    width: int = option(32, "Channels of the finest level.", ge=1, le=1024, paper="128")
    multipliers: list[Count] = option(
        lambda: [1, 2, 4],
        "Channels of each level, in widths, finest first. Each level after the first "
        "halves the sides: three make latents of a quarter of the side.",
        min_length=1,
        max_length=6,
        paper="1, 2, 4",
    )
    blocks: int = option(
        2, "Residual blocks of each level; one more on the way up.", ge=1, le=8,
        paper="2",
    )  # fmt: skip
    embed: int = option(3, "Channels of the latents.", ge=1, le=256, paper="3")
    codes: int = option(
        1024, "Vectors of the codebook.", ge=2, le=1 << 20, paper="8192"
    )
    commitment: float = option(
        0.25, "Weight of the distance of what is coded from its code.", ge=0, le=10,
        paper="unstated; 0.25 (latent diffusion)",
    )  # fmt: skip
    adversarial: float = option(
        0.0,
        "Weight of a critic that learns to tell decoded images from real ones, beside "
        "the mean absolute error. 0: none.",
        ge=0,
        le=10,
        paper="unstated; adaptive (latent diffusion)",
    )
    steps: int = option(2400, "Optimiser steps.", ge=1, paper="unstated")
    batch_size: int = option(
        8, "Patches per optimiser step.", ge=1, paper="unstated; 8 (latent diffusion)"
    )
    patch: int = option(
        64, "Side of the training patches; a multiple of 8.", unit="px", ge=16,
        multiple_of=8, paper="unstated; 256 (latent diffusion)",
    )  # fmt: skip
    learning_rate: float = option(
        5e-4, "Learning rate, after the warm-up of `train`.", gt=0, le=1,
        paper="unstated; 4.5e-6 per image of a batch (latent diffusion)",
    )  # fmt: skip

    @property
    def factor(self) -> int:
        """How much smaller the sides of the latents are."""
        return 1 << (len(self.multipliers) - 1)

    @model_validator(mode="after")
    def _groups_alike(self) -> Self:
        if len({len(group) for group in self.groups}) > 1 or not all(self.groups):
            raise ValueError(
                "`groups` must be of the same size, since one codec codes all of them"
            )
        if any(len(set(group)) < len(group) for group in self.groups):
            raise ValueError("a group of `groups` names a channel twice")
        return self

    @model_validator(mode="after")
    def _patch_fits(self) -> Self:
        if self.patch % self.factor:
            raise ValueError(
                f"`patch` ({self.patch}) must be a multiple of {self.factor}, by which "
                "`multipliers` divide the sides"
            )
        if self.adversarial and self.patch < 32:
            raise ValueError(
                f"`patch` ({self.patch}) must be at least 32 with `adversarial`"
            )
        return self

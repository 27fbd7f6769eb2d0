"""Options of restoration: from widefield to super-resolution images, by CARE."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from phantomscope.config.option import Section, option
from phantomscope.config.superresolution import Optics, Ratio

RestorationArm = Literal["mathematical", "diffusion", "experimental"]


class PairOptics(Optics):
    """Optics of pairs: light by the signal-to-noise ratio, so that arms match."""

    snr: tuple[Ratio, Ratio] | None = option(
        (5.0, 15.0),
        "Least and largest signal-to-noise ratio, of which each image draws one, the "
        "same for the pair of this number in every arm: mean signal of the brightest "
        "tenth of the pixels by the standard deviation of their noise. Empty: "
        "`photons` are drawn, and arms match only as far as their structures do.",
        paper="matched, numbers unstated",
    )

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        if self.binning != 1:
            raise ValueError(
                "`binning` must be 1: an image is restored on the grid of its truth"
            )
        return self


class Care(Section):
    """Training of CARE (CSBDeep 0.8.2): its own U-Net of 922,977 parameters."""

    steps: int = option(
        2000,
        "Optimiser steps (0.5 s each on one core).",
        ge=1,
        paper="40000 (100 epochs of 400)",
    )
    epochs: int = option(
        100,
        "Parts of equal length that the steps are divided into (rounded up). After "
        "each the held-out pairs are restored: the best weights are kept, and after "
        "ten without progress the learning rate is halved.",
        ge=1,
        paper="100",
    )
    batch_size: int = option(16, "Patches per step.", ge=1, paper="16")
    patch: int = option(
        64,
        "Side of what the network sees of a pair; a multiple of 4.",
        unit="px",
        ge=16,
        multiple_of=4,
        paper="unstated",
    )
    learning_rate: float = option(
        4e-4, "Learning rate at the start (Adam).", gt=0, le=1, paper="4e-4"
    )
    held_out: float = option(
        0.1,
        "Share of the source images whose pairs are held out, one at least.",
        gt=0,
        lt=1,
        paper="0.1",
    )
    tile: int = option(
        512,
        "Largest side of the tiles in which images are restored. Tiles overlap by what "
        "the network sees, so that they leave no seams.",
        unit="px",
        ge=128,
        multiple_of=4,
    )


class Restore(Section):
    """Restoration: widefield images are computed, and a network learns the way back."""

    arms: list[RestorationArm] = option(
        list,
        "What the network is trained on. `mathematical`: sketches; `diffusion`: "
        "synthetic images that passed the check; `experimental`: the training part "
        "of the source. Each is measured on the test part. Empty: no restoration.",
        paper="mathematical, diffusion; the journal adds experimental",
    )
    seeds: list[int] = option(
        lambda: [0], "One training per seed; at least three for a claim.", min_length=1
    )
    pairs: int = option(
        500,
        "Training pairs of each arm.",
        ge=2,
        le=1_000_000,
        paper="5000 (microtubules), 2000 (mitochondria)",
    )
    patch: int = option(
        128,
        "Side of a training pair; a multiple of 4.",
        unit="px",
        ge=16,
        multiple_of=4,
        paper="256",
    )
    threads: int = option(1, "CPU threads of each training.", ge=1)
    optics: PairOptics = option(PairOptics, "From super-resolution to widefield.")
    care: Care = option(Care, "CARE.")

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        for name in ("arms", "seeds"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"`{name}` names something twice: {values}")
        return self

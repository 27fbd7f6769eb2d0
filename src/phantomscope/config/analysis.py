"""Options of what comes after synthesis: checks, segmentation, evaluation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phantomscope.config.option import Section, option

Tool = Literal["cellpose", "stardist"]
Sigma = Annotated[float, Field(ge=0, le=100)]
Arm = Literal["synthetic", "annotated", "sketch"]


class Check(Section):
    """Whether a synthetic image still shows what its label says."""

    min_contrast: float = option(
        1.0,
        "An object has vanished when its brightness above its surroundings is below "
        "this many standard deviations of the background.",
        ge=0,
    )
    max_vanished: float = option(
        0.1, "An image with a larger share of vanished objects is dropped.", ge=0, le=1
    )
    max_phantoms: float = option(
        0.15,
        "An image with more phantom objects (bright, but without a label), relative "
        "to its objects, is dropped.",
        ge=0,
    )
    min_agreement: float = option(
        0.6,
        "An image is dropped when its mean Dice between label and an independent "
        "re-segmentation of the image is lower.",
        ge=0,
        le=1,
    )
    erase_vanished: bool = option(
        True, "Erase the labels of vanished objects in the images that are kept."
    )


class Cellpose(Section):
    """Training of Cellpose 3.1.1.3 from scratch."""

    steps: int = option(400, "Optimiser steps (0.15 to 0.35 s each on one core).", ge=1)
    batch_size: int = option(8, "Patches per step.", ge=1)
    patch: int = option(64, "Side of the training patches.", unit="px", ge=32)
    learning_rate: float = option(0.005, "Highest learning rate.", gt=0)
    diameter: float = option(
        0.0,
        "Object diameter the network works at; images are scaled to it. 0: the mean "
        "of the training labels (no scaling), at most half of `patch`.",
        unit="px",
        ge=0,
    )


class Stardist(Section):
    """Training of StarDist 0.9.2."""

    steps: int = option(800, "Optimiser steps (0.07 s each on one core).", ge=1)
    batch_size: int = option(4, "Patches per step.", ge=1)
    patch: int = option(96, "Side of the training patches; a multiple of 16.",
                        unit="px", ge=32, multiple_of=16)  # fmt: skip
    rays: int = option(32, "Rays of the star-convex polygons.", ge=8)
    filters: int = option(16, "Channels of the first level of the U-Net.", ge=4)
    learning_rate: float = option(
        1e-3, "Highest learning rate; it falls along a cosine to 2 % of it.", gt=0
    )


class Classical(Section):
    """Otsu's threshold and a watershed of the distance transform."""

    sigmas: list[Sigma] = option(
        lambda: [0.5, 1.0, 1.5, 2.0, 3.0, 4.0],
        "Smoothing to try; the best on the annotated training part is taken, which "
        "favours this baseline.",
        unit="px",
        min_length=1,
    )


class Segment(Section):
    """Segmentation tools and what they are trained on."""

    tools: list[Tool] = option(
        lambda: ["cellpose", "stardist"], "Tools to train.", min_length=1
    )
    arms: list[Arm] = option(
        lambda: ["synthetic", "annotated", "sketch"],
        "`synthetic`: the synthetic images; `annotated`: the annotated training part "
        "(needs labels); `sketch`: the sketches with a simple camera model, without "
        "diffusion.",
        min_length=1,
    )
    seeds: list[int] = option(
        lambda: [0], "One training per seed; at least three for a claim.", min_length=1
    )
    generalist: bool = option(
        True,
        "Add the zero-shot Cellpose generalist (cyto3) when its weights are on this "
        "machine; the table says so when they are not.",
    )
    images: int = option(
        2000,
        "At most so many images of a training set are loaded, evenly spread over it. A "
        "short training sees no more.",
        ge=1,
    )
    threads: int = option(1, "CPU threads of each training.", ge=1)
    cellpose: Cellpose = option(Cellpose, "Cellpose.")
    stardist: Stardist = option(Stardist, "StarDist.")
    classical: Classical = option(Classical, "The classical baseline.")

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        for name in ("tools", "arms", "seeds"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"`{name}` names something twice: {values}")
        return self


class Evaluate(Section):
    """Measurement on the real, annotated test part."""

    thresholds: list[float] = option(
        lambda: [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95],
        "IoU thresholds of the average precision.",
        min_length=1,
    )
    resamples: int = option(1000, "Bootstrap resamples of the intervals.", ge=10)
    confidence: float = option(0.95, "Confidence of the intervals.", gt=0.5, lt=1)

    @model_validator(mode="after")
    def _thresholds_in_range(self) -> Self:
        if any(not 0 < value < 1 for value in self.thresholds):
            raise ValueError("`thresholds` are IoU values between 0 and 1")
        if len(set(self.thresholds)) != len(self.thresholds):
            raise ValueError(f"`thresholds` names a value twice: {self.thresholds}")
        if 0.5 not in self.thresholds:
            raise ValueError("`thresholds` must contain 0.5, the headline of the table")
        return self

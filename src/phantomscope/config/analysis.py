"""Options of what comes after synthesis: checks, segmentation, evaluation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phantomscope.config.arms import Arm
from phantomscope.config.option import Section, option
from phantomscope.config.tiling import check_overlaps

Tool = Literal["cellpose", "stardist"]
Sigma = Annotated[float, Field(ge=0, le=100)]


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


class CellposeVolumes(Section):
    """Cellpose for volumes: a 3D network that sees all three axes at once."""

    steps: int = option(1500, "Optimiser steps (1.5 s each on one core).", ge=1,
                        paper="1000 epochs")  # fmt: skip
    batch_size: int = option(2, "Patches per step.", ge=1, paper="1")
    patch: int = option(
        64, "Side of the training patches; a multiple of 8.", unit="px", ge=16,
        multiple_of=8, paper="128",
    )  # fmt: skip
    patch_depth: int = option(
        16, "Depth of the training patches; a multiple of 8.", unit="px", ge=8,
        multiple_of=8, paper="64",
    )  # fmt: skip
    filters: int = option(
        16, "Channels of the finest level; 16 gives 1,980,980 parameters.", ge=2,
        multiple_of=2, paper="16",
    )  # fmt: skip
    norm: Literal["instance", "channel"] = option(
        "instance",
        "`instance`: as published, with statistics of the tile; `channel`: over the "
        "channels of each voxel, hence the same for any tile.",
        paper="instance",
    )
    optimiser: Literal["radam", "adamw", "adam"] = option(
        "adamw", "Optimiser.", paper="radam"
    )
    learning_rate: float = option(
        3e-3, "Learning rate; it falls linearly over the last 30 % of the steps. In "
        "400 steps on real nuclei AdamW came to a loss of 0.14 with it, RAdam with "
        "1e-3 to 0.20.", gt=0, le=1, paper="1e-3",
    )  # fmt: skip
    ema: float = option(
        0.99, "Decay of the moving average of the weights; 0 switches it off.", ge=0,
        lt=1, paper="none",
    )  # fmt: skip
    flows: Literal["tanh", "diffusion"] = option(
        "tanh",
        "What the network predicts besides the foreground. `tanh`: how far each voxel "
        "lies from the centre of its cell along each axis, squashed; `diffusion`: "
        "Cellpose's own unit vectors towards the centre, by diffusion within the cell "
        "(takes minutes for large cells).",
        paper="tanh",
    )
    masks: Literal["cellpose", "paper"] = option(
        "cellpose",
        "How flows become cells. `cellpose`: Cellpose's 3D dynamics; `paper`: 100 "
        "Euler steps of all voxels, closing and the published filters: for tissue "
        "without gaps and long trainings, since the flows of a background that hardly "
        "counted in training carry it along.",
        paper="paper",
    )
    on_objects: float = option(
        0.5,
        "Share of the patches that are placed on an object; the others lie anywhere.",
        ge=0,
        le=1,
        paper="0",
    )
    augment: bool = option(
        True,
        "Flips and quarter turns in the planes, and changes of brightness, contrast "
        "and noise.",
    )
    tile: int = option(
        128, "Largest side of the tiles in prediction; a multiple of 8.", unit="px",
        ge=16, multiple_of=8, paper="128",
    )  # fmt: skip
    tile_depth: int = option(
        32, "Largest depth of the tiles in prediction; a multiple of 8.", unit="px",
        ge=8, multiple_of=8, paper="64",
    )  # fmt: skip
    overlap: int = option(
        16, "Overlap of neighbouring tiles in the planes, on each side; a multiple of "
        "8.", unit="px", ge=0, multiple_of=8,
    )  # fmt: skip
    overlap_depth: int = option(
        8, "Overlap of neighbouring tiles in depth, on each side; a multiple of 8.",
        unit="px", ge=0, multiple_of=8,
    )  # fmt: skip
    min_size: int = option(
        0,
        "Smaller objects are dropped. 0: a tenth of the median of the training "
        "objects.",
        unit="voxels",
        ge=0,
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto",
        "`auto`: bf16 where the machine has it. Patches of 16 planes are trained in "
        "fp32 on a CPU.",
        paper="fp32",
    )

    @model_validator(mode="after")
    def _tile_holds_overlap(self) -> Self:
        check_overlaps(self)
        return self


class Cellpose(Section):
    """Training of Cellpose 3.1.1.3 from scratch; `volumes` is for 3D."""

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
    volumes: CellposeVolumes = option(
        CellposeVolumes, "What holds for volumes instead of the above."
    )


class StardistVolumes(Section):
    """StarDist for volumes: star-convex polyhedra."""

    steps: int = option(
        1500, "Optimiser steps. Volumes need more than images: with 400 on real nuclei "
        "most objects were too small.", ge=1,
    )  # fmt: skip
    batch_size: int = option(2, "Patches per step.", ge=1)
    patch: int = option(48, "Side of the training patches; a multiple of 16.",
                        unit="px", ge=16, multiple_of=16)  # fmt: skip
    patch_depth: int = option(
        32, "Depth of the training patches; a multiple of 8. Rays end where the patch "
        "does, so it should be deeper than an object.", unit="px", ge=8, multiple_of=8,
    )  # fmt: skip
    rays: int = option(64, "Rays of the star-convex polyhedra.", ge=8)
    filters: int = option(16, "Channels of the first level of the U-Net.", ge=4)
    learning_rate: float = option(
        3e-3, "Highest learning rate; it falls along a cosine to 2 % of it.", gt=0
    )


class Stardist(Section):
    """Training of StarDist 0.9.2; `volumes` is for 3D."""

    steps: int = option(800, "Optimiser steps (0.07 s each on one core).", ge=1)
    batch_size: int = option(4, "Patches per step.", ge=1)
    patch: int = option(96, "Side of the training patches; a multiple of 16.",
                        unit="px", ge=32, multiple_of=16)  # fmt: skip
    rays: int = option(32, "Rays of the star-convex polygons.", ge=8)
    filters: int = option(16, "Channels of the first level of the U-Net.", ge=4)
    learning_rate: float = option(
        1e-3, "Highest learning rate; it falls along a cosine to 2 % of it.", gt=0
    )
    volumes: StardistVolumes = option(
        StardistVolumes, "What holds for volumes instead of the above."
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
        lambda: ["cellpose", "stardist"],
        "Tools to train. Empty (`[]`): nothing is segmented.",
    )
    arms: list[Arm] = option(
        lambda: ["synthetic", "annotated", "sketch"],
        "`synthetic`: the synthetic images; `annotated`: the annotated training part "
        "(needs labels); `sketch`: the sketches with a simple camera model, without "
        "diffusion; `annotated-5`: 5 % of the annotated objects; `mixed-5`: these and "
        "all synthetic images (any percentage up to 100: the label-efficiency curve).",
        min_length=1,
    )
    sampling: Literal["mixture", "balanced"] = option(
        "mixture",
        "How mixed arms are drawn from. `mixture`: every image has the same chance, "
        "so that few real ones are seldom seen; `balanced`: half of what is drawn is "
        "real.",
        paper="mixture",
    )
    anisotropy: Literal["auto"] | Annotated[float, Field(gt=0, le=100)] = option(
        "auto",
        "How many times larger a voxel is in z than in y and x; for volumes only. "
        "`auto`: by the voxel sizes where the images tell them, else by the extents "
        "of the training objects.",
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
    megavoxels: int = option(
        400,
        "At most so many million pixels of them are held in memory (10 bytes each).",
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


class Audit(Section):
    """Whether the diffusion model copies: synthetic against training patches."""

    patch: int = option(
        64, "Side of the patches that are compared; smaller where images are.",
        unit="px", ge=16, paper="256",
    )  # fmt: skip
    overlap: float = option(
        0.625,
        "Share of its side by which a training patch overlaps the next. Of a copy that "
        "was cut out between two patches only the part in common counts.",
        ge=0,
        lt=1,
        paper="0.25",
    )
    training: int | None = option(
        600,
        "At most so many training patches are looked at, drawn at random, each under "
        "the eight symmetries of the square. Empty: all (with 50 samples of 256 px, a "
        "minute per 1000 patches on one core).",
        ge=4,
        paper="all",
    )
    samples: int = option(
        40, "At most so many synthetic patches are looked for.", ge=1, paper="50"
    )
    held_out: int = option(
        40,
        "At most so many patches of real images that the model never saw, for "
        "comparison.",
        ge=3,
        paper="10",
    )
    pairs: int = option(
        6, "So many samples, the nearest ones, are shown with their training patch.",
        ge=1, paper="50",
    )  # fmt: skip
    resamples: int = option(1000, "Bootstrap resamples of the gaps.", ge=10)


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

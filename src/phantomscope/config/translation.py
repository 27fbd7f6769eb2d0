"""Options of translation: from brightfield to stains and boundaries, by any process.

The network, its process, training and sampling are the sections of the same names. A
method is a way to fill them in: what it changes stands in `METHODS`, the rest is the
same for all, so that methods compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from pydantic import field_validator, model_validator

from phantomscope.config.latent import Latent
from phantomscope.config.option import Section, option
from phantomscope.config.perceptual import PerceptualError
from phantomscope.config.plates import Plates
from phantomscope.config.study import Study

Method = Literal[
    "cellresdm", "cellresdm_latent", "unet", "pix2pix", "spade", "palette",
    "spade_diffusion",
]  # fmt: skip
Boundaries = Literal["nuclei", "cells"]
Profiled = Literal["found", "true"]
Detector = Literal["brightfield", "fluorescence"]

_ALL_STEPS = {"sampler": "ddpm", "spacing": "uniform", "steps": "all", "eta": 0.0}
_REGRESSION = {"kind": "one_step", "timesteps": 1}
# Isola et al. 2017: 100 to 1 for the mean absolute error. A common limit of the
# gradient would tie both networks together.
_JUDGED = {"loss": "mae", "adversarial": 0.01, "clip": 0.0}
# Guided-I2I, the rival of the paper; a thousand of its steps are taken.
_PALETTE = {
    "process": {
        "kind": "gaussian", "timesteps": 2000, "schedule": "linear",
        "betas": (1e-6, 0.01), "prediction": "eps",
    },
    "synthesise": {**_ALL_STEPS, "steps": 1000},
}  # fmt: skip
METHODS: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType({
    "cellresdm": {
        "process": {"kind": "residual_shift", "timesteps": 15},
        "synthesise": _ALL_STEPS,
    },
    # Latents have no range to clip to.
    "cellresdm_latent": {
        "process": {"kind": "residual_shift", "timesteps": 15},
        "synthesise": {**_ALL_STEPS, "clip": False},
    },
    "unet": {"process": _REGRESSION, "synthesise": _ALL_STEPS},
    "pix2pix": {
        "process": _REGRESSION, "synthesise": _ALL_STEPS, "train": _JUDGED,
    },
    "spade": {
        "network": {"modulation": "spade"}, "process": _REGRESSION,
        "synthesise": _ALL_STEPS, "train": _JUDGED,
    },
    "palette": _PALETTE,
    "spade_diffusion": {**_PALETTE, "network": {"modulation": "spade"}},
})  # fmt: skip
SECTIONS = ("network", "process", "train", "synthesise")
# Diffuses in the latent space of a codec; sizes are those of images all the same.
RESIDUAL = "cellresdm"
LATENT = "cellresdm_latent"


# Options that pairs of brightfield and stains depend on.
PAIRING = tuple(
    f"translate.{name}"
    for name in (
        "plates", "boundaries", "boundary_width", "size", "scope", "low_percentile",
        "high_percentile",
    )
)  # fmt: skip


class Translate(Section):
    """Translation of brightfield images to stains, with boundaries of the cells."""

    methods: list[Method] = option(
        list,
        "What is trained: residual diffusion (`cellresdm`), the same in a latent space "
        "(`cellresdm_latent`), or its rivals: a U-Net by regression, Pix2Pix, SPADE, "
        "Palette and SPADE-Diffusion. Empty: no translation.",
        paper="all",
    )
    seeds: list[int] = option(
        lambda: [0], "One training per seed; at least three for a claim.", min_length=1
    )
    plates: Plates = option(
        Plates, "The images: which channels are given, and which are predicted."
    )
    boundaries: list[Boundaries] = option(
        lambda: ["nuclei", "cells"],
        "Outlines to predict as further channels, from which instances are read. "
        "Empty: stains alone.",
        paper="nuclei, cells",
    )
    boundary_width: int = option(
        1, "Width of the outlines.", unit="px", ge=1, le=9, paper="1"
    )
    size: int | None = option(
        None,
        "Images are made so large, along both sides, before anything else (bilinear). "
        "Empty: they keep their size.",
        unit="px",
        ge=16,
        paper="512",
    )
    scope: Literal["image", "plate"] = option(
        "image",
        "What limits of intensity belong to: each image, which removes absolute "
        "intensity, or all images of a plate, which keeps it.",
        paper="image",
    )
    low_percentile: float = option(
        0.5, "Of the intensities of each channel: -1 of the network.", ge=0, lt=100,
        paper="0.5",
    )  # fmt: skip
    high_percentile: float = option(
        99.5, "Of the intensities of each channel: 1 of the network.", gt=0, le=100,
        paper="99.5",
    )  # fmt: skip
    pairs_from: str | None = option(
        None,
        "Results of another experiment with the same plates and options of pairs, such "
        "as `results/NAME`, whose scaled images are used instead of being made again. "
        "Presets of a paper share theirs by themselves.",
        min_length=1,
    )
    blocks: int | None = option(
        None,
        "Measure test images in blocks of this side, for few large images: blocks take "
        "the place of wells as the unit of statistics, though those of an image are "
        "not independent. Empty: whole images.",
        unit="px",
        ge=32,
    )
    shards: int = option(
        1, "Jobs among which the prediction of the test part is divided.", ge=1, le=1000
    )
    samples: int = option(
        1,
        "Predictions of each test image by the methods with noise; more give the "
        "uncertainty of each pixel.",
        ge=1,
        le=100,
        paper="1",
    )
    averaged: int = option(
        1,
        "How many of the `samples` are averaged into the prediction that is kept and "
        "measured, of the methods with noise that have as many. A mean errs less in "
        "each pixel than one of them, has less texture, and takes as long as all of "
        "its own.",
        ge=1,
        le=100,
        paper="1",
    )
    profiles: list[Profiled] = option(
        lambda: ["found"],
        "On which objects morphological features of predicted stains are measured, to "
        "correlate them with those of the real objects on real stains: `found`, "
        "instances read off the predicted outlines, as the paper finds objects anew "
        "on each image; `true`, the real ones, with which counts, shapes and "
        "neighbours agree by definition. About 0.1 s for each object and way; empty: "
        "no features.",
        paper="found",
    )
    detectors: list[Detector] = option(
        list,
        "StarDist as a rival for the instances, trained on the same pairs: on "
        "`brightfield` (the first of `plates.inputs`), or on `fluorescence` (a real "
        "stain, so that it sees more than the others do). Its options are those of "
        "`segment.stardist`, its seeds those above.",
        paper="brightfield, fluorescence",
    )
    detected: list[Boundaries] = option(
        lambda: ["nuclei"], "What StarDist finds, where there are labels of it.",
        min_length=1, paper="nuclei",
    )  # fmt: skip
    detector_stains: dict[Boundaries, str] = option(
        lambda: {"nuclei": "DNA", "cells": "RNA"},
        "The stain in which `fluorescence` finds them.",
    )
    study: Study = option(Study, "Studies of some test images, if wanted.")
    sampled: list[Method] = option(
        list,
        "Methods with `samples` predictions; the others have one. Empty: all with "
        "noise.",
    )
    perceptual: PerceptualError = option(PerceptualError, "A perceptual error.")
    latent: Latent = option(Latent, "The latent space of `cellresdm_latent`.")
    overrides: dict[Method, dict[str, dict[str, Any]]] = option(
        dict,
        "What a method has of its own, beside what makes it this method: sections "
        "`network`, `process`, `train` or `synthesise`, as in the config itself.",
    )

    @property
    def channels(self) -> list[str]:
        """Names of all predicted channels: stains, then boundaries."""
        return [*self.plates.stains, *(f"{n} boundaries" for n in self.boundaries)]

    @property
    def profiled(self) -> list[Profiled]:
        """Ways of `profiles` that there can be: nothing is found without outlines."""
        return list(self.profiles) if self.boundaries else []

    @property
    def anchors(self) -> list[int]:
        """Which input each predicted channel begins as, with residual diffusion.

        The first one; the last channels take the other planes, as in the released
        code (ch6 five times, then ch7 and ch8).
        """
        others = list(range(1, len(self.plates.inputs)))[: len(self.channels) - 1]
        return [0] * (len(self.channels) - len(others)) + others

    @property
    def groups(self) -> list[list[int]]:
        """Which channels are coded together, by their numbers among `channels`."""
        channels = self.channels
        named = self.latent.groups or [channels]
        return [[channels.index(name) for name in group] for group in named]

    def perceptual_of(self, method: str) -> PerceptualError | None:
        """Return the perceptual error of a method, if it is to have one."""
        own = self.perceptual
        return own if own.weight and method == RESIDUAL else None

    def factor_of(self, method: str) -> int:
        """Return how many pixels along a side one is of what a method diffuses."""
        return self.latent.factor if method == LATENT else 1

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        for name in (
            "methods", "seeds", "boundaries", "profiles", "detectors", "detected",
        ):  # fmt: skip
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"`{name}` names something twice: {values}")
        if self.averaged > self.samples:
            raise ValueError(
                f"`averaged` ({self.averaged}) is more than `samples` ({self.samples})"
            )
        if self.low_percentile >= self.high_percentile:
            raise ValueError("`low_percentile` must be less than `high_percentile`")
        return self

    @field_validator("pairs_from")
    @classmethod
    def _plain_path(cls, folder: str | None) -> str | None:
        if folder is not None and ("{" in folder or "}" in folder):
            raise ValueError("braces are wildcards in a workflow: use another folder")
        return folder

    def samples_of(self, method: str) -> int:
        """Return how often a method predicts an image, if it has noise."""
        return self.samples if method in (self.sampled or ALL_METHODS) else 1

    def averaged_of(self, method: str) -> int:
        """Return how many predictions are averaged: one of a method without noise."""
        if METHODS.get(method, {}).get("process") == _REGRESSION:
            return 1
        return min(self.averaged, self.samples_of(method))

    @property
    def studied(self) -> list[Method]:
        """Methods that translate images with planted artefacts."""
        if not self.study.artefacts:
            return []
        wanted = self.study.methods or self.methods
        return [method for method in self.methods if method in wanted]

    @model_validator(mode="after")
    def _studied_methods_trained(self) -> Self:
        if not self.methods:
            return self
        if self.study.steps and "cellresdm" not in self.methods:
            raise ValueError(
                "`study.steps` is about residual diffusion: name `cellresdm` in "
                "`methods`"
            )
        for method in self.study.methods:
            if method not in self.methods:
                raise ValueError(
                    f"`study.methods` names {method!r}, which is not in `methods`"
                )
        return self

    @model_validator(mode="after")
    def _images_named(self) -> Self:
        of_folder = self.plates.kind == "fields"
        if self.methods and of_folder and self.plates.fields.path is None:
            raise ValueError(
                "`methods` need images: name a folder in `plates.fields.path`, or "
                "plates with `plates.kind: gallery`"
            )
        return self

    @model_validator(mode="after")
    def _detectors_fit(self) -> Self:
        if self.detectors and not self.methods:
            raise ValueError("`detectors` are rivals of `methods`, of which none is")
        for kind in self.detected if "fluorescence" in self.detectors else []:
            stain = self.detector_stains.get(kind, "")
            if stain not in self.plates.stains:
                raise ValueError(
                    f"`detector_stains.{kind}` is {stain!r}, which is none of "
                    f"`plates.stains` ({', '.join(self.plates.stains)})"
                )
        return self

    def detector_channel(self, detector: str, kind: str) -> int:
        """Return which channel of a pair a detector sees, inputs before stains.

        Parameters
        ----------
        detector : {"brightfield", "fluorescence"}
            The detector.
        kind : {"nuclei", "cells"}
            What it finds.
        """
        if detector == "brightfield":
            return 0
        stain = self.detector_stains[kind]  # type: ignore[index]
        return len(self.plates.inputs) + self.plates.stains.index(stain)

    @model_validator(mode="after")
    def _groups_known(self) -> Self:
        grouped = {name for group in self.latent.groups for name in group}
        if grouped and grouped != set(self.channels):
            wrong = sorted(grouped.symmetric_difference(self.channels))
            raise ValueError(
                f"`latent.groups` must hold all channels that are predicted and no "
                f"others ({', '.join(self.channels)}): see {', '.join(wrong)}"
            )
        return self

    @model_validator(mode="after")
    def _overrides_known(self) -> Self:
        for method, own in self.overrides.items():
            for name in own:
                if name not in SECTIONS:
                    raise ValueError(
                        f"`overrides.{method}.{name}`: only the sections "
                        f"{', '.join(SECTIONS)} differ between methods"
                    )
        return self


ALL_METHODS = get_args(Method)
ALL_DETECTORS, ALL_OBJECTS = get_args(Detector), get_args(Boundaries)

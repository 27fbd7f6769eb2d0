"""The whole config: the one source of defaults, schema and reference page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from phantomscope.config.analysis import Audit, Check, Evaluate, Segment
from phantomscope.config.appearance import Appearance
from phantomscope.config.arms import parse_arm
from phantomscope.config.data import Normalise, Source, Split
from phantomscope.config.diffusion import (
    Condition,
    Distil,
    Network,
    Process,
    Start,
    Train,
)
from phantomscope.config.filtering import Filter
from phantomscope.config.localisations import Drawing
from phantomscope.config.option import Section, option
from phantomscope.config.publish import Publish
from phantomscope.config.restoration import Restore
from phantomscope.config.simulation import STRUCTURES, Fit, Simulate
from phantomscope.config.synthesis import Synthesise
from phantomscope.config.translation import METHODS, SECTIONS, Translate
from phantomscope.errors import PhantomscopeError

# One folder or several inside each other: the parts of a paper stand below it.
_FOLDERS = r"\w[\w.-]*(/\w[\w.-]*)*"


class Config(Section):
    """Everything that shapes an experiment.

    `Config()` is the demo; every option has a default.
    """

    experiment: str = option(
        "",
        "Name of the folder under `results/`. Empty: `demo` for the packaged images, "
        "else the name of your folder or of the public data set.",
    )
    scale: Literal["smoke", "demo", "pilot", "paper"] = option(
        "demo", "Printed in every table: how large the run is."
    )
    seed: int = option(0, "Seed of everything.", ge=0, lt=2**63)
    source: Source = option(Source, "Where the images come from.")
    split: Split = option(Split, "Training and test part.")
    normalise: Normalise = option(Normalise, "Intensity range.")
    fit: Fit = option(Fit, "Sketch parameters from unannotated images.")
    simulate: Simulate = option(Simulate, "Labelled sketches.")
    network: Network = option(Network, "The U-Net of the diffusion model.")
    process: Process = option(Process, "The forward process.")
    condition: Condition = option(Condition, "What else the network sees.")
    train: Train = option(Train, "Training of the diffusion model.")
    start: Start = option(Start, "Choice of t_start.")
    distil: Distil = option(Distil, "A student of few steps, if wanted.")
    synthesise: Synthesise = option(Synthesise, "From sketches to images.")
    check: Check = option(Check, "Rejection of bad synthetic images.")
    audit: Audit = option(Audit, "Search for copies of training images.")
    segment: Segment = option(Segment, "Segmentation tools.")
    evaluate: Evaluate = option(Evaluate, "Measurement.")
    restore: Restore = option(Restore, "Restoration of widefield images, if wanted.")
    translate: Translate = option(
        Translate, "Translation of brightfield images to stains, if wanted."
    )
    filter: Filter = option(Filter, "Semantic filtering, if wanted.")
    publish: Publish = option(Publish, "The synthetic set, ready to upload.")
    appearance: Appearance = option(
        Appearance, "Annotated images noised and brought back."
    )

    @property
    def name(self) -> str:
        """Name of the experiment: the folder under ``results/``."""
        if self.experiment:
            return self.experiment
        if self.source.kind == "package":
            return "demo"
        stem = self.source.dataset or Path(self.source.path or "").resolve().name
        return re.sub(r"[^\w.-]+", "_", stem).lstrip(".-") or "experiment"

    @property
    def source_name(self) -> str:
        """Name of the public data set, or of the folder of images; may be empty."""
        plates = self.translate.plates
        if not self.translate.methods:
            return self.source.dataset or ""
        if plates.kind == "gallery":
            return f"{plates.project}/{plates.batch}"
        return Path(plates.fields.path or "").name

    @property
    def has_labels(self) -> bool:
        """Whether annotation is there for the annotated arm and the evaluation."""
        return self.source.has_labels

    @property
    def arms(self) -> list[str]:
        """The arms that can be trained: without labels there is no annotated one."""
        return [
            arm
            for arm in self.segment.arms
            if self.has_labels or not parse_arm(arm).needs_annotation
        ]

    @property
    def scored(self) -> bool:
        """Whether segmentation is measured: that takes tools and annotation."""
        return self.has_labels and bool(self.segment.tools)

    @property
    def data_kind(self) -> str:
        """What the images are: one's own are real, those of a paper may stand in."""
        return self.appearance.data_kind if self.appearance.organism else "real"

    @property
    def dims(self) -> int:
        """Dimensions of the synthetic images: 2, or 3 for volumes."""
        return len(self.simulate.size)

    def of_method(self, method: str) -> Config:
        """Return the config with which one method of translation runs.

        Parameters
        ----------
        method : str
            A key of `METHODS`.
        """
        # It imports this module.
        from phantomscope.config.load import make_config

        own = self.translate.overrides.get(method, {})  # type: ignore[call-overload]
        content = self.model_dump(mode="json")
        for name in SECTIONS:
            for layer in (METHODS[method].get(name, {}), own.get(name, {})):
                content[name].update(layer)
        content["start"] = {"value": 1}  # of no matter: no sketch is noised
        return make_config(content, f"translate.overrides.{method}")

    @property
    def of_filter(self) -> Config:
        """The config with which semantic filtering runs: regression in one step.

        Composed images are seen as a whole, whatever `train.patch` is.
        """
        # It imports this module.
        from phantomscope.config.load import make_config

        content = self.model_dump(mode="json")
        for name, values in METHODS["unet"].items():
            content[name].update(values)
        content["start"] = {"value": 1}  # of no matter: no sketch is noised
        if self.filter.pairs == "composed":
            content["train"]["patch"] = self.filter.compose.size
        return make_config(content, "filter")

    def check_study(self) -> None:
        """Check that residual diffusion can take the steps that are studied.

        Raises
        ------
        PhantomscopeError
            If its chain is shorter.
        """
        most = max(self.translate.study.steps, default=1)
        length = self.of_method("cellresdm").process.timesteps
        if most > length:
            raise PhantomscopeError(
                f"residual diffusion has {length} times: it cannot take {most} steps",
                where="translate.study.steps",
                fix=f"give numbers from 1 to {length}",
            )

    def check_sides(self, factor: int = 1) -> None:
        """Check that sides fit the network; a part of a config cannot tell.

        Parameters
        ----------
        factor : int
            Pixels along a side of what is one pixel to the network.

        Raises
        ------
        PhantomscopeError
            If a patch, a tile or its overlap is no multiple of the network's stride, or
            what CARE sees is larger than a pair.
        """
        stride = factor * self.network.stride
        sides = [
            ("train.patch", self.train.patch),
            ("synthesise.tile", self.synthesise.tile),
            ("synthesise.overlap", self.synthesise.overlap),
        ]
        if self.distil.steps:
            sides.append(("distil.patch", self.distil.patch))
        for name, side in sides:
            if side % stride:
                raise PhantomscopeError(
                    f"{side} px do not fit the network `{self.network.preset}`",
                    where=name,
                    fix=f"use a multiple of {stride}",
                )
        if self.restore.arms and self.restore.care.patch > self.restore.patch:
            raise PhantomscopeError(
                f"{self.restore.care.patch} px do not fit into pairs of "
                f"{self.restore.patch} px",
                where="restore.care.patch",
                fix="take larger pairs (`restore.patch`) or a smaller patch",
            )

    def check_filter(self, tiles: bool = True) -> None:
        """Check that composed images, patches and tiles fit the network of filters.

        Parameters
        ----------
        tiles : bool
            Check the tiles; a training does not depend on them.

        Raises
        ------
        PhantomscopeError
            If a side is no multiple of its stride, or there is no such plate.
        """
        if self.filter.plate:
            self.source.beside(self.filter.plate, "filter.plate")
        composed = self.filter.pairs == "composed"
        sides = {
            "filter.compose.size": self.filter.compose.size if composed else 0,
            "train.patch": 0 if composed else self.train.patch,
            "synthesise.tile": tiles * self.synthesise.tile,
            "synthesise.overlap": tiles * self.synthesise.overlap,
        }
        for name, side in sides.items():
            if side % self.network.stride:
                raise PhantomscopeError(
                    f"{side} px do not fit the network `{self.network.preset}`",
                    where=name,
                    fix=f"use a multiple of {self.network.stride}",
                )

    def check_sketches(self) -> None:
        """Check that sketches are like images, and what is published like sketches.

        A part of a config cannot tell, either.

        Raises
        ------
        PhantomscopeError
            If tracks are asked for, but no time series are simulated, or sketches have
            more or fewer channels than the images.
        """
        if self.process.kind != "gaussian":
            raise PhantomscopeError(
                f"`{self.process.kind}` ends at a condition, but sketches are noised: "
                "this process is for translation",
                where="process.kind",
                fix="use `gaussian`; a method of `translate.methods` sets its own",
            )
        if "ctc" in self.publish.formats and self.simulate.frames == 1:
            raise PhantomscopeError(
                "`ctc` is a format of time series, but each image stands for itself",
                where="publish.formats",
                fix="leave `ctc` out, or give the number of frames",
                example="simulate:\n  frames: 16",
            )
        for where, wrong in (
            ("condition.kind", self.condition.kind == "sketch"),
            ("appearance.organism", bool(self.appearance.organism)),
            ("publish.formats", bool(self.publish.formats)),
            ("restore.arms", bool(self.restore.arms)),
        ):
            if wrong and len(self.simulate.channels) > 1:
                raise PhantomscopeError(
                    "this takes images of one channel, not of several yet",
                    where=where,
                    fix="leave it out, or use one of `simulate.channels`",
                )
        if (drawn := len(self.simulate.channels)) != (real := self.source.channels):
            raise PhantomscopeError(
                f"sketches have {drawn} channels, of the images {real} are used",
                where="simulate.channels / source.channel",
                fix="give the channels of membranes and of nuclei of your own images",
                example="source:\n  axes: CZYX\n  channel: [0, 1]\nsimulate:\n"
                "  organism: meristem\n  channels: [membrane, nuclei]",
            )

        self._check_localised()

    def _check_localised(self) -> None:
        """Refuse localised sketches that are drawn or scaled unlike the images."""
        options, scale = self.simulate.structures, self.normalise
        if (
            self.simulate.organism not in STRUCTURES
            or options.appearance != "localised"
        ):
            return
        percentiles = scale.low_percentile, scale.high_percentile
        pairs: list[tuple[str, Any, str, Any]] = [
            ("scope", options.scope, "normalise.scope", scale.scope),
            ("percentiles", options.percentiles, "normalise", percentiles),
        ]
        if self.source.of_tables:
            real, where = self.source.localisations, "source.localisations"
            pairs.append(
                ("pixel", options.pixel, f"{where}.pixel_size_nm", real.pixel_size_nm)
            )
            pairs += [
                (
                    f"drawing.{name}",
                    getattr(options.drawing, name),
                    f"{where}.{name}",
                    getattr(real, name),
                )
                for name in Drawing.model_fields
            ]
        for name, drawn, place, wanted in pairs:
            if drawn != wanted:
                raise PhantomscopeError(
                    f"localised sketches have {drawn}, the images ({place}) {wanted}: "
                    "they would differ by more than their structure",
                    where=f"simulate.structures.{name}",
                    fix=f"give both the same, or change `{place}`",
                )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.translate.methods and self.filter.methods:
            raise ValueError(
                "`translate.methods` and `filter.methods` are experiments of their "
                "own: give each a config"
            )
        return self

    @model_validator(mode="after")
    def _restores_images(self) -> Self:
        if self.restore.arms and self.dims == 3:
            raise ValueError(
                "`restore.arms` is for images, but `simulate.size` is that of volumes"
            )
        return self

    @model_validator(mode="after")
    def _shape_is_annotated(self) -> Self:
        if self.simulate.learns_shape and not self.has_labels:
            raise ValueError(
                "`simulate.meristem.shape_model: learnt` needs `source.labels`, a "
                "folder of labels; without any use `built_in`"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.experiment and not re.fullmatch(_FOLDERS, self.experiment):
            raise ValueError(
                f"`experiment` ({self.experiment!r}) becomes a folder name: use "
                "letters, digits, '_', '-' and '.', with a letter or digit first, "
                "and '/' between folders"
            )
        timesteps = self.process.timesteps
        if self.start.value != "auto" and self.start.value > timesteps:
            raise ValueError(
                f"`start.value` ({self.start.value}) is beyond `process.timesteps` "
                f"({timesteps})"
            )
        if (
            self.process.kind == "gaussian"
            and self.start.value == "auto"
            and not any(t <= timesteps for t in self.start.candidates)
        ):
            raise ValueError(
                f"no value of `start.candidates` is within `process.timesteps` "
                f"({timesteps})"
            )
        own = Path("results", self.name).resolve()
        if (segmenter := self.condition.segmenter) and Path(
            segmenter
        ).resolve().is_relative_to(own):
            raise ValueError(
                f"`condition.segmenter` ({segmenter}) is a result of this experiment, "
                "which needs it first: give the new round an `experiment` of its own"
            )
        if self.segment.tools and not self.arms:
            raise ValueError(
                f"`segment.arms: [{', '.join(self.segment.arms)}]` needs "
                "`source.labels`, a folder of labels"
            )
        return self

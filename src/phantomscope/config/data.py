"""Options of the images: where they come from, how they are split and scaled."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from phantomscope.config.datasets import (
    Dataset,
    known_axes,
    load_registry,
    suggestion,
)
from phantomscope.config.option import Section, option


class Source(Section):
    """Where the images come from."""

    kind: Literal["package", "folder", "dataset"] = option(
        "package",
        "`package`: the real fluorescence nuclei that come inside the StarDist "
        "package; `folder`: your own TIFF or PNG images; `dataset`: a public data set, "
        "which is downloaded.",
    )
    path: str | None = option(
        None, "Folder of images (only for `folder`); relative to where you run."
    )
    labels: str | None = option(
        None,
        "Folder of instance label images with the same file names. They are used "
        "only by the annotated arm and by the evaluation.",
    )
    registry: str | None = option(
        None,
        "File that lists the public data sets. Empty: `config/datasets.yaml` where you "
        "run, else that of this program.",
    )
    dataset: str | None = option(
        None, "Name of a public data set in the registry (only for `dataset`)."
    )
    mirror: str | None = option(
        None,
        "Folder or base URL to take the data set's files from instead of their "
        "publisher, by the names that they have in the registry: for machines without "
        "internet. Sizes and hashes are checked all the same.",
    )
    downloads: str = option(
        "data",
        "Folder for downloaded files, which experiments share; relative to where you "
        "run.",
        min_length=1,
    )
    axes: str = option(
        "",
        "Axes of each image file, such as `YX`, `CYX` or `YXC`. Empty: `YX`, and a "
        "file with more axes is refused.",
    )
    channel: int | None = option(
        None, "Which channel to use when `axes` has a `C`; counts from 0.", ge=0
    )
    pixel_size_um: float | None = option(
        None, "Size of a pixel, carried into every file.", unit="um", gt=0
    )
    group: str | None = option(
        None,
        "Regular expression with one group, searched in the file name: images with "
        "the same match (plate, animal, video) are one unit of statistics and never "
        "stand on both sides of the split. Empty: each image is its own group.",
    )
    limit: int | None = option(
        None, "Use only this many images, spread evenly over the folder.", ge=1
    )

    @field_validator("axes")
    @classmethod
    def _axes_known(cls, axes: str) -> str:
        return known_axes(axes)

    @field_validator("dataset")
    @classmethod
    def _dataset_known(cls, name: str | None, others: ValidationInfo) -> str | None:
        if name is not None:
            known = list(load_registry(others.data.get("registry")))
            if name not in known:
                raise ValueError(f"no such data set; {suggestion(name, known)}")
        return name

    @field_validator("downloads")
    @classmethod
    def _no_wildcards(cls, downloads: str) -> str:
        if "{" in downloads or "}" in downloads:
            raise ValueError("braces are wildcards in a workflow: use another folder")
        return str(PurePath(downloads))

    @field_validator("group")
    @classmethod
    def _group_compiles(cls, group: str | None) -> str | None:
        if group is not None:
            try:
                groups = re.compile(group).groups
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"not a regular expression: {error}") from error
            if groups != 1:
                raise ValueError(
                    f"needs exactly one group in parentheses, has {groups}; "
                    r"example: 'plate(\d+)'"
                )
        return group

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "folder" and not self.path:
            raise ValueError("`kind: folder` needs `path`, the folder of your images")
        if self.kind != "folder" and (self.path or self.labels):
            raise ValueError("`path` and `labels` belong to `kind: folder`")
        if self.kind == "dataset" and not self.dataset:
            raise ValueError("`kind: dataset` needs `dataset`, the name of a data set")
        if self.kind != "dataset" and (self.dataset or self.mirror):
            raise ValueError("`dataset` and `mirror` belong to `kind: dataset`")
        if self.kind == "dataset" and self.axes:
            raise ValueError("the registry says `axes` and `channel` of a data set")
        if ("C" in self.axes) != (self.channel is not None):
            raise ValueError(
                "`axes` with a `C` and `channel` go together: say which channel to use"
            )
        return self

    @property
    def entry(self) -> Dataset | None:
        """What the registry says about the data set; None for other sources."""
        return load_registry(self.registry)[self.dataset] if self.dataset else None

    @property
    def has_labels(self) -> bool:
        """Whether annotation comes with the images."""
        if self.entry is not None:
            return self.entry.layout.labels is not None
        return self.kind == "package" or self.labels is not None

    @property
    def downloaded(self) -> list[str]:
        """Paths of the data set's files, once downloaded; empty for other sources."""
        files = self.entry.files if self.entry is not None else []
        return [f"{self.downloads}/{self.dataset}/{file.name}" for file in files]


class Split(Section):
    """How images are divided into a training and a test part."""

    by: Literal["auto", "group", "region"] = option(
        "auto",
        "`group`: whole groups on one side; `region`: each image is cut into two "
        "disjoint regions with a margin between them; `auto`: by group when there are "
        "at least four groups, else by region.",
    )
    train_fraction: float = option(
        0.6, "Share of the groups or of the image's area for training.", gt=0, lt=1
    )
    margin: int = option(
        24,
        "Pixels between the training and the test region that nobody sees; more "
        "than the diameter of an object.",
        unit="px",
        ge=0,
    )
    stratify: Literal["shape", "none"] = option(
        "shape",
        "`shape`: images of each size are divided in the same proportion (image "
        "size tells the microscope apart in mixed sets).",
    )


class Normalise(Section):
    """How intensities are brought to the range of the network, and back."""

    scope: Literal["dataset", "image"] = option(
        "dataset",
        "`dataset`: one pair of limits, fitted on the training part; `image`: each "
        "image has its own, for sets of mixed exposure.",
        paper="Eschweiler: dataset",
    )
    low_percentile: float = option(
        0.1, "Intensity percentile that becomes 0.", unit="%", ge=0, lt=50, paper="0"
    )
    high_percentile: float = option(
        99.9, "Intensity percentile that becomes 1.", unit="%", gt=50, le=100,
        paper="100",
    )  # fmt: skip
    transform: Literal["linear", "sqrt"] = option(
        "sqrt",
        "`sqrt` spreads dim intensities and evens out shot noise; `linear` leaves "
        "them. Both are exactly invertible.",
        paper="linear",
    )

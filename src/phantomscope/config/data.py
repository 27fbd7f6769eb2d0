"""Options of the images: where they come from, how they are split and scaled."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from phantomscope.config.datasets import (
    Dataset,
    DatasetFile,
    load_registry,
    suggestion,
)
from phantomscope.config.frames import Frames
from phantomscope.config.layout import Truth, VoxelSize, known_axes
from phantomscope.config.localisations import Localisations
from phantomscope.config.option import Section, option
from phantomscope.config.source_checks import check_source
from phantomscope.config.videos import Videos
from phantomscope.errors import PhantomscopeError

Kind = Literal[
    "package", "folder", "dataset", "localisations", "videos", "annotated"
]  # fmt: skip
Channel = Annotated[int, Field(ge=0)]
Channels = Annotated[list[Channel], Field(min_length=2, max_length=2)]


class Source(Section):
    """Where the images come from."""

    kind: Kind = option(
        "package",
        "`package`: the real fluorescence nuclei that come inside the StarDist "
        "package; `folder`: your own TIFF or PNG images; `dataset`: a public data set, "
        "which is downloaded; `localisations`: your own tables of localised "
        "molecules, each of which is drawn as an image; `videos`: your own videos, "
        "each frame of which is an image; `annotated`: your own images and a table of "
        "points or boxes in them.",
    )
    path: str | None = option(
        None,
        "Folder of images (for `folder` and `annotated`), or a file or a folder of "
        "tables (for `localisations`) or of TIFF stacks and HDF5 files of Tierpsy "
        "Tracker (for `videos`); relative to where you run.",
    )
    table: str | None = option(
        None,
        "CSV of points (columns `id`, `y`, `x`) or boxes (`id`, `y1`, `x1`, `y2`, "
        "`x2`), in px from 0, and `type` if known; `id` is the name of the image file "
        "(only for `annotated`).",
    )
    labels: str | None = option(
        None,
        "Folder of instance label images with the same file names; of `videos` label "
        "stacks, one label image for each frame. They are used only by the annotated "
        "arm and by the evaluation.",
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
        "Axes of each image file, such as `YX`, `CYX` or `YXC`, or of volumes `ZYX`, "
        "`CZYX`, `ZCYX` or `ZYXC`. Empty: `YX`, and a file with more axes is refused.",
    )
    channel: Channel | Channels | None = option(
        None,
        "Which channel to use when `axes` has a `C`; counts from 0. A list of two: "
        "both, as `simulate.channels` has them (of your own folder).",
    )
    pixel_size_um: VoxelSize | None = option(
        None,
        "Size of a pixel, carried into every file; of volumes `[z, y, x]`, where one "
        "number is the size along all three. Empty: what the registry says.",
        unit="um",
    )
    group: str | None = option(
        None,
        "Regular expression with one group, searched in the file name: images with "
        "the same match (plate, animal, video) are one unit of statistics and never "
        "stand on both sides of the split. Empty: each image is its own group.",
    )
    limit: int | None = option(
        None,
        "Use only this many images, of `videos` so many videos, spread evenly over the "
        "folder.",
        ge=1,
    )
    labelled: bool = option(
        False, "Use only images that have labels; many data sets label a few frames."
    )
    truth: Truth | None = option(
        None,
        "Which labels of a data set to use when it has several: `gold`, made by "
        "people, or `silver`, made by programs. Empty: those that the registry lists "
        "first.",
    )
    frames: Frames = option(
        Frames,
        "Which frames of a data set of time series, or of `videos`, to use. By default "
        "all.",
    )
    localisations: Localisations = option(
        Localisations,
        "How tables of localised molecules are read and drawn: for `localisations`, "
        "and data sets of such tables.",
    )
    videos: Videos = option(Videos, "How your own videos are read.")
    download: Literal["auto", "members", "whole"] = option(
        "auto",
        "`members`: fetch only the images and labels that are used out of a zip, by "
        "byte ranges; `whole`: the whole file; `auto`: as the registry says, which "
        "asks for `members` where the file is huge.",
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
        check_source(self)
        return self

    @property
    def channels(self) -> int:
        """Channels of each image that are used."""
        return len(self.channel) if isinstance(self.channel, list) else 1

    @property
    def entry(self) -> Dataset | None:
        """What the registry says about the data set; None for other sources."""
        return load_registry(self.registry)[self.dataset] if self.dataset else None

    @property
    def of_tables(self) -> bool:
        """Whether the images are drawn from tables of localised molecules."""
        entry = self.entry
        return entry.layout.of_tables if entry else self.kind == "localisations"

    @property
    def unused(self) -> list[str]:
        """Sections of other kinds: they are at their defaults and shape nothing."""
        used = {"localisations": self.of_tables, "videos": self.kind == "videos"}
        return [name for name, is_used in used.items() if not is_used]

    @property
    def has_labels(self) -> bool:
        """Whether annotation comes with the images."""
        if self.entry is not None:
            return self.entry.layout.labels is not None
        return self.kind == "package" or self.labels is not None

    @property
    def chosen_truth(self) -> str:
        """Name of the truth to use; empty where it has none."""
        truths = self.entry.layout.truths if self.entry is not None else []
        return self.truth or (truths[0] if truths else "")

    @property
    def voxel_size_um(self) -> VoxelSize | None:
        """Size of a pixel in um, by this section or else by the registry."""
        if self.of_tables:
            return self.localisations.pixel_size_nm / 1000
        if self.pixel_size_um is None and self.entry is not None:
            return self.entry.layout.pixel_size_um
        return self.pixel_size_um

    @property
    def in_parts(self) -> bool:
        """Whether only the members that are used are fetched out of the archive."""
        if self.entry is None or self.download == "whole":
            return False
        return self.download == "members" or self.entry.files[0].ranges

    @property
    def download_keys(self) -> list[str]:
        """Options that shape the downloaded files, for a job that knows no others.

        Of whole files `frames` and the like are none: another choice of images must
        not fetch gigabytes again.
        """
        names = ["kind", "dataset", "registry", "mirror"]
        if self.download != "auto":
            names.append("download")
        if self.in_parts:
            names += ["truth", "labelled", "frames", "limit"]
        return [f"source.{name}" for name in names]

    def local_name(self, file: DatasetFile) -> str:
        """Return the name of a downloaded file; a part tells what it is the part of."""
        if not self.in_parts:
            return file.name
        layout = self.entry.layout if self.entry is not None else None
        # All that decides which members are fetched: others are another file.
        chosen = {
            "images": layout and layout.images,
            "labels": layout and layout.patterns(self.chosen_truth),
            "limit": self.limit,
            "labelled": self.labelled,
            "frames": self.frames.model_dump(),
        }
        key = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
        return f"{PurePath(file.name).stem}.part-{key[:8]}.zip"

    def beside(self, dataset: str, where: str) -> Source:
        """Return another public data set, from where this one has its files.

        Parameters
        ----------
        dataset : str
            Its name in the registry.
        where : str
            Option that names it, for errors.

        Raises
        ------
        PhantomscopeError
            If the registry does not have it.
        """
        if dataset not in (known := list(load_registry(self.registry))):
            raise PhantomscopeError(
                f"there is no data set {dataset!r}",
                where=where,
                fix=suggestion(dataset, known),
            )
        return Source(
            kind="dataset", dataset=dataset, registry=self.registry,
            mirror=self.mirror, downloads=self.downloads,
        )  # fmt: skip

    @property
    def downloaded(self) -> list[str]:
        """Paths of the data set's files, once downloaded; empty for other sources."""
        files = self.entry.files if self.entry is not None else []
        folder = f"{self.downloads}/{self.dataset}"
        return [f"{folder}/{self.local_name(file)}" for file in files]


class Split(Section):
    """How images are divided into a training and a test part."""

    by: Literal["auto", "group", "region", "published"] = option(
        "auto",
        "`group`: whole groups on one side; `region`: each image is cut into two "
        "disjoint regions with a margin between them; `published`: as the publisher "
        "divided them, whose validation part is on neither side; `auto`: by group when "
        "there are at least four groups, else by region.",
    )
    train_fraction: float = option(
        0.6, "Share of the groups or of the image's area for training.", gt=0, lt=1
    )
    margin: int = option(
        24,
        "Pixels (along z: planes) between the training and the test region that "
        "nobody sees; more than the diameter of an object.",
        unit="px",
        ge=0,
    )
    stratify: Literal["shape", "none"] = option(
        "shape",
        "`shape`: images of each size are divided in the same proportion (image "
        "size tells the microscope apart in mixed sets).",
    )
    test: list[str] | None = option(
        None,
        'Groups of the test part by name, such as `["02"]`; all others are for '
        "training. Empty: they are drawn, so that `train_fraction` is met.",
        min_length=1,
    )
    most_train: int | None = option(
        None,
        "Train on at most so many groups (images, if none are named); the others of "
        "the training part are left out, the test part stays. Fewer are always among "
        "more: for a sweep over the size of the training set. Empty: all.",
        ge=1,
    )
    axis: Literal["longest", "z", "y", "x"] = option(
        "longest",
        "Along which axis `region` cuts; `longest` is the longer one of y and x.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.test is not None and self.by in ("region", "published"):
            raise ValueError("`test` names groups: it needs `by: group` or `by: auto`")
        return self


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

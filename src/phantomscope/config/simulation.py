"""Options of the sketches: fitted parameters and simulation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from phantomscope.config.meristem import Channel, Meristem
from phantomscope.config.motion import Motion
from phantomscope.config.option import Section, option
from phantomscope.config.structures import Structures

Size = Annotated[int, Field(ge=16, le=65536)]
Depth = Annotated[int, Field(ge=1, le=65536)]
Shards = Annotated[int, Field(ge=1)]
Objects = Annotated[int, Field(ge=1, le=1_000_000)]
VoxelSide = Annotated[float, Field(gt=0, le=1000)]
Organism = Literal[
    "fitted", "hela", "gowt1", "celegans", "tribolium", "meristem",
    "microtubules", "mitochondria",
]  # fmt: skip
FLAT = ("hela", "gowt1")
# Organisms whose cells can move, and, in images, lie on one another.
MOVING = ("fitted", *FLAT, "celegans")
# Lines and tubes in nm, of super-resolution images.
STRUCTURES = ("microtubules", "mitochondria")


def _kind_of_size(value: Any) -> str:
    """Tell the size of a volume from that of an image, to name the right mistake."""
    return "volume" if isinstance(value, list | tuple) and len(value) > 2 else "image"


ImageSize = tuple[Size, Size]
VolumeSize = tuple[Depth, Size, Size]
Shape = Annotated[
    Annotated[ImageSize, Tag("image")] | Annotated[VolumeSize, Tag("volume")],
    Discriminator(_kind_of_size),
    WithJsonSchema(TypeAdapter(ImageSize | VolumeSize).json_schema()),
]


# Options of `simulate` that say how many and by whom, not what a sketch looks like.
DIVISION = frozenset({"images", "shards", "job_minutes"})


class Fit(Section):
    """How the sketch parameters are fitted to the unannotated training images."""

    parameters: str | None = option(
        None,
        "Your own parameter file (written like `results/<experiment>/sketch.yaml`); "
        "it is checked and used instead of a fit.",
    )
    min_diameter: float | None = option(
        None, "Smallest object; empty: found from the images.", unit="px", gt=0
    )
    max_diameter: float | None = option(
        None, "Largest object; empty: found from the images.", unit="px", gt=0
    )
    calibration_rounds: int = option(
        3,
        "Rounds of simulate, measure the same way, correct: they remove the bias of "
        "measuring touching objects by a classical segmentation.",
        ge=0,
        le=20,
    )
    max_types: int = option(
        6,
        "Image types (by image size) that get parameters of their own; rarer ones "
        "share the last.",
        ge=1,
        le=64,
    )

    spacing: tuple[VoxelSide, VoxelSide, VoxelSide] = option(
        (1.0, 1.0, 1.0),
        "Size of a voxel along z, y and x, as a multiple of its size along y. For "
        "volumes only; sizes in px are then in units of a voxel's y.",
        paper="11.1, 1, 1 (CE)",
    )
    subvolumes: int = option(
        20,
        "Of volumes, so many parts are looked at, evenly spread over them, each a few "
        "tens of objects large.",
        ge=1,
        le=10_000,
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.min_diameter, self.max_diameter
        if low is not None and high is not None and low >= high:
            raise ValueError("`min_diameter` must be below `max_diameter`")
        if self.spacing[1] != 1:
            raise ValueError("`spacing` is relative to y: its second number is 1")
        return self


class Simulate(Section):
    """Labelled sketches of nuclei."""

    images: int = option(
        64,
        "How many synthetic images to make; of time series, how many frames in all.",
        ge=1,
    )
    frames: int = option(
        1,
        "Frames of a time series, in which cells move, grow, divide, enter and leave, "
        "and keep their labels; `images` is a multiple of it. Every series has a file "
        "of its tracks. For `fitted` images, hela, gowt1 and celegans. 1: each image "
        "stands for itself.",
        unit="frames",
        ge=1,
        le=10_000,
        paper="1",
    )
    size: Shape = option(
        (192, 192),
        "Height and width of each; of volumes depth, height and width.",
        unit="px",
        paper="700 x 1100 (HeLa), 1024 x 1024 (GOWT1), 35 x 512 x 708 (CE), "
        "13 x 2450 x 1700 (TRIC)",
    )
    organism: Organism = option(
        "fitted",
        "Whose arrangement of cells is drawn. `fitted`: nuclei that are placed as in "
        "the images, by the options `placement` to `texture` below. The others follow "
        "Eschweiler & Stegmaier, and those options do not touch them: colonies of HeLa "
        "cells, mouse stem cells (`gowt1`), a C. elegans embryo, nuclei of a Tribolium "
        "embryo in cartographic projection, membranes of a meristem. And structures "
        "of super-resolution images: `microtubules`, `mitochondria`.",
        paper="one data set each",
    )
    variant: Literal["paper", "code", "fitted"] = option(
        "paper",
        "For an organism that is not `fitted`: sizes and intensities as in the paper, "
        "as in its released code (which also draws by nearest voxels), or, within its "
        "arrangement, as fitted to the images (with their background and edges).",
        paper="paper",
    )
    objects: Objects | tuple[Objects, Objects] | None = option(
        None,
        "Most nuclei per image, or [fewest, most] of which one number is drawn, for an "
        "organism that is not `fitted`. Empty: the paper's number in proportion to the "
        "size, or with `variant: fitted` the density of the images.",
        paper="450 (HeLa), 30 (GOWT1), 3000 (TRIC), variable (CE)",
    )
    motion: Motion = option(
        Motion, "Of time series: what happens to a cell between two frames."
    )
    meristem: Meristem = option(
        Meristem, "Of `organism: meristem`: the organ, its cells and walls."
    )
    channels: list[Channel] = option(
        lambda: ["membrane"],
        "Of `organism: meristem`: what is seen. `[membrane, nuclei]` are two channels "
        "of each sketch and image, in the order of `source.channel`; labels are those "
        "of the cells. Checks and segmentation tools look at the first.",
        min_length=1,
        max_length=2,
        paper="[membrane]",
    )
    structures: Structures = option(
        Structures,
        "Of `organism: microtubules` or `mitochondria`. The check of synthetic images "
        "does not tell filaments apart that cross: use `check: {min_agreement: 0}`.",
    )
    shards: Literal["auto"] | Shards = option(
        "auto",
        "Into how many independent jobs simulation, synthesis and check are divided. "
        "`auto`: so many that one synthesis takes `job_minutes` on one core, by the "
        "rates of `phantomscope plan`; at least 2, at most 2000 and at most one per "
        "image or time series. The images do not depend on it.",
    )
    job_minutes: float = option(
        30.0,
        "How long one synthesis should take when `shards` is `auto`: shorter jobs "
        "wait less and lose less when killed, longer ones start less often.",
        unit="min",
        gt=0,
    )
    placement: Literal["fitted", "non_overlapping"] = option(
        "fitted",
        "`fitted`: nuclei touch and overlap as often as in the images; "
        "`non_overlapping`: no two nuclei closer than their largest diameter, as in "
        "the paper.",
        paper="non_overlapping",
    )
    overlap: float | None = option(
        None,
        "Largest share of a nucleus that others may cover. Where nuclei overlap, light "
        "adds up, and the label is that of the upper one. For `fitted`, in images and "
        "volumes, hela and gowt1. Empty: `overlap` of the sketch parameters; for hela "
        "and gowt1 none, as in the paper. In time series that of the circles about two "
        "cells.",
        ge=0,
        le=1,
        paper="0",
    )
    foreground: Literal["image", "discs", "ellipse"] = option(
        "image",
        "Where nuclei may stand: the whole image, a union of discs (colonies), or an "
        "ellipse (an embryo).",
        paper="image (GOWT1), discs (HeLa), ellipse (CE)",
    )
    deformation: float = option(
        0.05,
        "B-spline deformation of the ellipse: largest displacement of the 3 x 3 "
        "control points, relative to the patch of one nucleus. Not in volumes.",
        ge=0,
        le=0.3,
        paper="0.05 (GOWT1), 0.1 (HeLa)",
    )
    nucleoli: tuple[int, int] = option(
        (0, 2), "Fewest and most nucleoli per nucleus.", paper="0 to 2 (GOWT1)"
    )
    nucleolus_contrast: tuple[float, float] = option(
        (0.75, 0.95),
        "Range of the intensity of a nucleolus relative to its nucleus.",
        paper="unstated",
    )
    intensity_jitter: float = option(
        0.0,
        "Widens the fitted spread of the nuclei's intensities by this factor (0.2 is "
        "20 percent), against images that are dimmer or brighter.",
        ge=0,
        le=2,
    )
    texture: float = option(
        0.0,
        "Relative standard deviation of a smooth intensity variation inside each "
        "nucleus.",
        ge=0,
        le=1,
        paper="0",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 <= self.nucleoli[0] <= self.nucleoli[1]:
            raise ValueError("`nucleoli` needs [fewest, most], such as [0, 2]")
        low, high = self.nucleolus_contrast
        if not 0 < low <= high:
            raise ValueError(
                "`nucleolus_contrast` needs [low, high], such as [0.2, 0.5]"
            )
        if isinstance(self.objects, tuple) and self.objects[0] > self.objects[1]:
            raise ValueError("`objects` needs [fewest, most], such as [4, 100]")
        self._check_dimensions()
        self._check_series()
        self._check_channels()
        if self.shards != "auto" and self.shards > self.series:
            what = "`images`" if self.frames == 1 else "the number of series"
            raise ValueError(
                f"`shards` ({self.shards}) must not exceed {what} ({self.series})"
            )
        if self.overlap and self.organism not in ("fitted", *FLAT):
            raise ValueError(
                f"`overlap: {self.overlap}` is of images, in which cells lie on one "
                f"another; those of `organism: {self.organism}` do not: leave it out"
            )
        return self

    @property
    def learns_shape(self) -> bool:
        """Whether the shape of the organ is learnt from annotation."""
        return self.organism == "meristem" and self.meristem.shape_model == "learnt"

    @property
    def series(self) -> int:
        """Number of time series; each still image is one."""
        return self.images // self.frames

    def _check_channels(self) -> None:
        if self.channels not in (["membrane"], ["nuclei"], ["membrane", "nuclei"]):
            raise ValueError(
                "`channels` is [membrane], [nuclei] or [membrane, nuclei], in this "
                f"order, not [{', '.join(self.channels)}]"
            )
        if "nuclei" not in self.channels:
            return
        for name, wrong in (
            (f"organism: {self.organism}", self.organism != "meristem"),
            ("variant: fitted", self.variant == "fitted"),
        ):
            if wrong:
                raise ValueError(
                    f"`channels` with nuclei are not there with `{name}`: they belong "
                    "to `organism: meristem` as in the paper"
                )

    def _check_series(self) -> None:
        if self.frames == 1:
            return
        flat = len(self.size) == 2
        if self.organism not in MOVING or (self.organism == "fitted" and not flat):
            what = "fitted volumes" if self.organism == "fitted" else self.organism
            raise ValueError(
                f"`frames: {self.frames}` needs cells that move, those of {what} do "
                "not: use 1, or fitted images, hela, gowt1 or celegans"
            )
        if self.images % self.frames:
            raise ValueError(
                f"`images` ({self.images}) must be a multiple of `frames` "
                f"({self.frames}), such as {max(self.series, 1) * self.frames}"
            )
        for name, wrong in (
            ("variant: code", self.variant == "code"),
            ("texture", self.texture > 0),
        ):
            if wrong:
                raise ValueError(
                    f"there are no time series with `{name}`: leave it out, or use "
                    "`frames: 1`"
                )

    def largest_overlap(self, fitted: float) -> float:
        """Return the largest covered share, given that of the sketch parameters."""
        return fitted if self.overlap is None else self.overlap

    def _check_dimensions(self) -> None:
        flat = self.organism in (*FLAT, *STRUCTURES)
        if self.organism in STRUCTURES and self.variant == "fitted":
            raise ValueError(
                f"`organism: {self.organism}` is not fitted to images: leave out "
                "`variant`, and set `structures`"
            )
        if self.organism == "fitted" or flat == (len(self.size) == 2):
            return
        kind, example = (
            ("images", "[700, 1100]") if flat else ("volumes", "[35, 512, 708]")
        )
        raise ValueError(
            f"`organism: {self.organism}` is drawn as {kind}: `size` needs "
            f"{2 if flat else 3} numbers, such as {example}"
        )

"""Options of semantic filtering: layers of an image told apart by what they show.

Javer & Rittscher 2019: a network that sees pairs of images with one layer in common
learns to keep it and to drop the rest. Network, process and training are the sections
of the same names.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from phantomscope.config.detectors import Detectors
from phantomscope.config.layers import Compose, Crops, preset
from phantomscope.config.option import Section, option

FilterMethod = Literal[
    "filter", "layers", "median", "stardist", "cellpose", "faster_rcnn", "retinanet"
]
FILTERS: tuple[FilterMethod, ...] = ("filter", "layers")
SEGMENTERS: tuple[FilterMethod, ...] = ("stardist", "cellpose")
DETECTORS: tuple[FilterMethod, ...] = ("faster_rcnn", "retinanet")
ALL_FILTER_METHODS: tuple[FilterMethod, ...] = get_args(FilterMethod)
Positive = Annotated[int, Field(ge=1)]


class Scale(Section):
    """How intensities become numbers from 0 to 1."""

    divisor: float = option(
        255.0,
        "Intensity that becomes 1. Of no effect with `compose.log_limits`, which are "
        "intensities themselves.",
        paper="255",
        gt=0,
    )
    test_percentile: float | None = option(
        None,
        "Of a test image, this percentile of its own becomes 1 instead. Empty: "
        "`divisor`, as for training.",
        unit="%",
        paper="99 (BBBC026)",
        gt=50,
        le=100,
    )


class Objects(Section):
    """How objects are found in a layer that was told apart."""

    rule: Literal["split", "boxes", "removed", "otsu"] = option(
        "split",
        "`split`: Otsu, opening, watershed; `boxes`: Otsu, closing, outer outlines; "
        "`removed`: what became lighter by more than `step`; `otsu`: Otsu alone, "
        "connected pixels are an object.",
        paper="split (BBBC026); boxes (BBBC042); removed (worms)",
    )
    otsu_factor: float = option(
        1.0,
        "Of Otsu's threshold: less than 1 where objects of a layer have dim edges.",
        paper="1", gt=0, le=10,
    )  # fmt: skip
    opening: int = option(3, "Of `split`: side of the disc.", unit="px", ge=0, le=101)
    opening_passes: int = option(3, "Of `split`: how often.", ge=1, le=50)
    window: int = option(
        11, "Of `split`: side of the disc in which a maximum is the greatest.",
        unit="px", ge=1, le=501,
    )  # fmt: skip
    closing: int = option(5, "Of `boxes`: side of the disc.", unit="px", ge=0, le=101)
    step: float | None = option(
        10 / 255,
        "Of `removed`: least difference, of intensities from 0 to 1. Empty: Otsu's "
        "threshold of the differences of each image.",
        paper="10/255", gt=0, lt=1,
    )  # fmt: skip
    min_light: float = option(
        0.0,
        "Objects whose mean intensity in the layer, from 0 to 1, is lower are dropped: "
        "Otsu's threshold of an empty layer is one of noise.",
        ge=0, lt=1,
    )  # fmt: skip
    min_share: float = option(
        0.0,
        "Objects with a smaller share of their light in the layer are dropped; their "
        "light is that of the image above its median. 0.5: each belongs to the layer "
        "that has most of it. For bright objects in layers that add up.",
        ge=0, lt=1,
    )  # fmt: skip
    min_area: float = option(300.0, "Smaller objects are dropped.", unit="px", ge=0)
    max_area: float | None = option(
        None, "Larger ones are dropped.", unit="px", paper="5000 (plate)", gt=0
    )


class Filter(Section):
    """Semantic filtering: layers told apart, objects found in them, and rivals."""

    methods: list[FilterMethod] = option(
        list,
        "What is trained and compared: `filter`, one layer by pairs that share it, as "
        "the paper; `layers`, all layers at once, which add up to the image; rivals: "
        "`median` of the frames of a video, `stardist` and `cellpose` trained on "
        "composed images, with classes by size, `faster_rcnn` and `retinanet` trained "
        "on boxes (they need torchvision). Empty: no semantic filtering.",
        paper="filter; faster_rcnn, retinanet (BBBC042)",
    )
    seeds: list[int] = option(
        lambda: [0], "One training per seed; at least three for a claim.", min_length=1
    )
    targets: list[str] = option(
        list,
        "Classes of objects to keep (or with `compose.share: scene` to remove): each "
        "has a network of its own. All other classes are the other layer.",
        paper="hepatocyte, fibroblast; astrocyte; worm; in_focus",
    )
    pairs: Literal["composed", "video"] = option(
        "composed",
        "Where pairs come from: composed of crops, or two frames of a video.",
        paper="composed; video (worms)",
    )
    lag: int = option(
        1, "Of `video`: frames between the two of a pair.", paper="1", ge=1
    )
    truth: Literal["points", "boxes", "masks", "layers"] = option(
        "layers",
        "What test images are compared with: `points` or `boxes` beside the images, "
        "`masks` of them, or `layers`: test images are composed of crops that training "
        "does not see, whose layers are known.",
        paper="points (BBBC026); boxes (BBBC042); masks (worms)",
    )
    folds: int = option(
        1,
        "Cross-validation: so many trainings, each tested on images (groups) that it "
        "did not see. 1: the test part of `split`.",
        paper="5 (BBBC026)",
        ge=1,
        le=100,
    )
    images: list[Positive] = option(
        list,
        "Numbers of training images, for a curve of quality against it; fewer are "
        "always among more. Empty: all of them.",
        paper="5, 10, 25, 100, 1000 (BBBC042)",
    )
    tests: int = option(
        50, "Of `truth: layers`: composed test images (for each fold).", ge=1
    )
    taught: int = option(
        200,
        "Composed training images for `stardist` and `cellpose`, with labels of all "
        "objects.",
        ge=2,
    )
    epoch: int = option(
        20480, "Pairs after which composed pairs repeat. 0: never.", ge=0,
        paper="20480 (composed); 2790 (worms)",
    )  # fmt: skip
    consistency: float = option(
        1.0, "Of `layers`: weight of the error of the sum of the layers.", ge=0
    )
    veto: str | None = option(
        None,
        "CSV (column `id`) of crops to leave out, after a look at the contact sheet.",
    )
    preset: str | None = option(
        None,
        "Values for `crops` and `compose` that these sections leave open: `bbbc026`, "
        "`bbbc042` or `microglia`, see `config/layers.yaml`.",
    )
    scale: Scale = option(Scale, "Intensities.")
    crops: Crops = option(Crops, "How crops are cut out.")
    compose: Compose = option(Compose, "How images are composed of them.")
    objects: Objects = option(Objects, "How objects are found in a layer.")
    detectors: Detectors = option(Detectors, "Of `faster_rcnn` and `retinanet`.")
    iou: list[float] = option(
        lambda: [0.5],
        "Of `boxes` and `masks`: least overlap (intersection over union) of a match.",
        paper="0.5 (worms); 0.01, 0.1, 0.25, 0.5 (BBBC042)",
        min_length=1,
    )
    reach: float = option(
        15.0, "Of `points`: most distance of a 1:1 match.", unit="px", gt=0
    )
    plate: str | None = option(
        None,
        "Name of a public data set, a plate: the objects of its wells are counted and "
        "its controls compared (Z'). It comes from where `source` has its files, and "
        "is large. Empty: none.",
        paper="bbbc026_plate (BBBC026)",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        """Put the values of a preset under those that are given."""
        if not isinstance(values, dict) or not values.get("preset"):
            return values
        filled = dict(values)
        for kind in (Crops, Compose):
            name = kind.__name__.lower()
            own = values.get(name) or {}
            if isinstance(own, dict):
                whole: Section = preset(kind, str(values["preset"]), own)
                filled[name] = whole.model_dump(mode="json")
        return filled

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("methods", "seeds", "targets", "images", "iou"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"`{name}` names something twice: {values}")
        for target in self.targets:
            if not re.fullmatch(r"\w[\w-]*", target):
                raise ValueError(
                    f"`targets`: {target!r} becomes a folder name: use letters, "
                    "digits, '_' and '-'"
                )
        if self.methods and not self.targets:
            raise ValueError("`methods` need `targets`: name the objects to keep")
        if self.pairs == "video" and self.truth == "layers":
            raise ValueError("`truth: layers` needs `pairs: composed`")
        for method in self.methods:
            if method == "median" and self.pairs != "video":
                raise ValueError("`median` is of the frames of videos: `pairs: video`")
            if method in ("layers", *SEGMENTERS) and self.pairs == "video":
                raise ValueError(f"`{method}` learns from composed images, not videos")
            if method in DETECTORS and self.truth != "boxes":
                raise ValueError(f"`{method}` learns from boxes: `truth: boxes`")
        share, composed = self.compose.share, self.pairs == "composed"
        if self.objects.rule == "removed" and share != "scene":
            raise ValueError(
                "`objects.rule: removed` compares with the image without its targets: "
                "`compose.share: scene`"
            )
        limits = self.compose.limits
        if composed and self.compose.log_limits is None and limits != [0, 1]:
            raise ValueError(
                f"`compose.limits` ({limits}) are 0 and 1 here, since `scale.divisor` "
                "becomes 1; only with `log_limits` they are intensities"
            )
        bad = [value for value in self.iou if not 0 < value < 1]
        if bad:
            raise ValueError(f"`iou` is above 0 and below 1: {bad}")
        return self

    @property
    def sizes(self) -> list[str]:
        """Numbers of training images, as they stand in paths."""
        return [str(n) for n in sorted(self.images)] or ["all"]

    def sizes_of(self, method: str) -> list[str]:
        """Numbers of training images of a method; the median learns from none."""
        return ["all"] if method == "median" else self.sizes

    def seeds_of(self, method: str) -> list[int]:
        """Seeds of a method; the median has no chance in it, and takes the first."""
        return self.seeds[:1] if method == "median" else self.seeds

    @property
    def counting(self) -> list[FilterMethod]:
        """Methods that count the objects of a plate; it has no video."""
        return [m for m in self.methods if self.plate and m != "median"]

    @property
    def fold_names(self) -> list[str]:
        """Numbers of the folds, as they stand in paths."""
        return [str(n) for n in range(self.folds)]

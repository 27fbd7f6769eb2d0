"""Options of layers: how crops are cut out, and how images are composed of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from phantomscope.config.datasets import CHECKOUT, suggestion
from phantomscope.config.option import Section, option
from phantomscope.errors import PhantomscopeError

PRESETS = Path("config/layers.yaml")
# A pixel notes in 64 bits which crops lie on it.
MOST_CROPS = 64

Counts = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
Numbers = Annotated[list[float], Field(min_length=2, max_length=2)]
S = TypeVar("S", bound=Section)


class Compose(Section):
    """How images are composed of crops of two kinds and of background."""

    size: int = option(256, "Side of an image.", unit="px", paper="256; 512", ge=16)
    mode: Literal["add", "multiply", "blend"] = option(
        "add",
        "`add`: light of layers adds up, as in fluorescence; `multiply`: each layer "
        "lets a part of the light through, as absorbing stains do; `blend`: a crop "
        "covers what is below it, with a soft edge.",
        paper="add",
    )
    share: Literal["target", "scene"] = option(
        "target",
        "What the two images of a pair have in common. `target`: the target layer, so "
        "that a network keeps targets; `scene`: all but it, so that it removes them.",
        paper="target",
    )
    targets: Counts = option(
        lambda: [3, 8], "Fewest and most crops of the target layer.", paper="3-8; 1-5"
    )
    others: Counts = option(
        lambda: [3, 8], "Fewest and most crops of the other layer.", paper="3-8; 1-3"
    )
    base: Numbers = option(
        lambda: [0.0, 10.0],
        "Percentiles of the crop between whose values the base is drawn. It is what "
        "is taken off (of pixels of the object), or for `multiply` what is taken for "
        "full light (of the whole crop: take high ones).",
        unit="%",
        paper="0-10",
    )
    factor: Numbers = option(
        lambda: [0.5, 1.5],
        "Least and greatest factor of the intensity; for `multiply` the power.",
        paper="0.5-1.5; 0.9-1.1; 0.05-10",
    )
    factor_law: Literal["uniform", "log"] = option(
        "uniform", "Whether the factor or its logarithm is uniform.", paper="uniform"
    )
    angle: Numbers = option(
        lambda: [0.0, 90.0], "Least and greatest rotation.", unit="degree", paper="0-90"
    )
    flip: bool = option(True, "Mirror along each axis by chance.", paper="true")
    zoom: Numbers = option(
        lambda: [0.75, 1.3], "Least and greatest zoom.", paper="0.75-1.3; 0.9-1.1"
    )
    outside: float = option(
        0.5,
        "Share of a crop's height and width that may lie outside the image.",
        paper="0.5; 0.1",
        ge=0,
        lt=1,
    )
    max_overlap: float = option(
        0.9,
        "A crop is placed elsewhere if more than this share of it would lie on others, "
        "or if it would cover more than this share of another.",
        paper="0.9; 0.5; 1",
        ge=0,
        le=1,
    )
    tries: int = option(
        3, "Places that are tried before a crop is left out.", paper="3", ge=1, le=100
    )
    carry_over: bool = option(
        False,
        "Crops that are drawn anew for the second image keep off those of the first, "
        "too, as in the released code. Else they do not know of them.",
        paper="true (code)",
    )
    edge: float = option(
        0.0,
        "Width of the soft edge of a crop, half of it outside. 0: none.",
        unit="px",
        paper="0",
        ge=0,
        le=64,
    )
    fill: Numbers = option(
        lambda: [25.0, 75.0],
        "Holes of the background, where objects were, are filled with one value "
        "between these percentiles of what is left.",
        unit="%",
        paper="25-75",
    )
    limits: Numbers = option(
        lambda: [0.0, 1.0], "Intensities are clipped to these.", paper="0-1"
    )
    log_limits: Numbers | None = option(
        None,
        "Intensities that become 0 and 1 of the logarithm of 1 + intensity, which is "
        "taken of the composed image. Empty: no logarithm.",
        paper="5-40000 (microglia)",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("targets", "others", "base", "factor", "angle", "zoom", "fill",
                     "limits", "log_limits"):  # fmt: skip
            pair = getattr(self, name)
            if pair is not None and not pair[0] <= pair[1]:
                raise ValueError(f"`{name}` has its larger value first: {pair}")
        redrawn = self.others if self.share == "target" else self.targets
        total = self.targets[1] + self.others[1] + redrawn[1]
        if total > MOST_CROPS:
            raise ValueError(
                f"a pair would have up to {total} crops, {MOST_CROPS} are the most"
            )
        least = {"zoom": self.zoom[0], "factor": self.factor[0]}
        for name, value in least.items():
            if value <= 0:
                raise ValueError(f"`{name}` has to be above 0")
        for name in ("base", "fill"):
            if getattr(self, name)[0] < 0 or getattr(self, name)[1] > 100:
                raise ValueError(f"`{name}` are percentiles, 0 to 100")
        if self.limits[0] == self.limits[1]:
            raise ValueError("`limits` leave one intensity only")
        if self.log_limits and not -1 < self.log_limits[0] < self.log_limits[1]:
            raise ValueError("`log_limits` need to be above -1, and two of them")
        return self


class Crops(Section):
    """How crops of objects are cut out of images."""

    recipe: Literal["labels", "points", "boxes", "threshold", "focus"] = option(
        "labels",
        "`labels`: objects are labelled; `points`: foreground is found, and an object "
        "belongs to the class of the points in it; `boxes`: an object is looked for in "
        "the middle of each box; `threshold`: any foreground; `focus`: foreground, "
        "whose class is how sharp it is: `in_focus` or `out_of_focus`.",
    )
    log: bool = option(
        False, "Look for foreground in the logarithm of 1 + intensity.",
        paper="true (BBBC026, microglia)",
    )  # fmt: skip
    dark: bool = option(
        False, "Objects are darker than what is around them.", paper="true (BBBC042)"
    )
    smooth: float = option(
        0.0, "Standard deviation of a Gaussian before the threshold.", unit="px",
        paper="2 (a kernel of 11, BBBC026)", ge=0, le=100,
    )  # fmt: skip
    median: int = option(
        0, "Side of a median filter before the threshold. 0: none.", unit="px",
        paper="3 (BBBC042); 5 (microglia)", ge=0, le=31,
    )  # fmt: skip
    median_passes: int = option(
        1, "How often the median filter is applied.",
        paper="5 (BBBC042); 16 (microglia)", ge=1, le=50,
    )  # fmt: skip
    window: int = option(
        0,
        "Side of the neighbourhood above whose mean foreground is. 0: Otsu's threshold "
        "of the whole image.",
        unit="px", paper="151 (microglia)", ge=0,
    )  # fmt: skip
    offset: float = option(
        0.0, "How far above that mean, in 1/255 of the range of intensities.",
        paper="3 (microglia)", ge=-255, le=255,
    )  # fmt: skip
    otsu_factor: float = option(
        1.0, "Factor of Otsu's threshold.", paper="0.9 (BBBC042)", gt=0, le=10
    )
    opening: int = option(
        0, "Side of the disc of an opening. 0: none.", unit="px",
        paper="5 (BBBC026)", ge=0, le=101,
    )  # fmt: skip
    opening_passes: int = option(1, "How often it is eroded, then dilated.",
                                 paper="3 (BBBC026)", ge=1, le=50)  # fmt: skip
    dilation: int = option(
        0, "Side of the disc of a dilation. 0: none.", unit="px",
        paper="5 (BBBC026); 3 (microglia)", ge=0, le=101,
    )  # fmt: skip
    dilation_passes: int = option(1, "How often it is dilated.",
                                  paper="1 (BBBC026); 10 (microglia)",
                                  ge=1, le=50)  # fmt: skip
    min_area: float = option(
        30.0, "Smaller objects are dropped.", unit="px", paper="10000 (microglia)", ge=0
    )
    max_area: float | None = option(None, "Larger objects are dropped.", unit="px",
                                    gt=0)  # fmt: skip
    border: bool = option(
        False, "Keep objects that touch the border of the image.", paper="false"
    )
    margin: int = option(
        2, "Pixels around an object that its crop has, too.", unit="px", ge=0, le=200
    )
    centre: float = option(
        0.42,
        "Of `boxes`: the centroid of an object is at most so far from the middle, in "
        "sides of the box.",
        paper="0.42 (BBBC042)", gt=0, le=1,
    )  # fmt: skip
    extent: float = option(
        0.3, "Of `boxes`: an object spans at least this share of the box's sides; else "
        "its crop is not clean and dropped.",
        paper="0.3 (BBBC042)", ge=0, le=1,
    )  # fmt: skip
    score: Literal["laplacian", "log"] = option(
        "laplacian",
        "Focus is the mean absolute Laplacian within the object, or that of a Gaussian "
        "of 1 px (`log`), of intensities from 0 to 1.",
        paper="log (paper); laplacian (code)",
    )
    score_limits: Numbers | None = option(
        None,
        "Limits of the intensity that are 0 and 1 for the focus score. Empty: least "
        "and greatest of the image.",
        paper="5-40000 (microglia)",
    )
    in_focus: float = option(
        0.045, "Of `focus`: least score of an object in focus.",
        paper="0.045 (microglia)", ge=0,
    )  # fmt: skip
    out_of_focus: float = option(
        0.01, "Of `focus`: greatest score of one out of focus; what is in between is "
        "dropped.",
        paper="0.01 (microglia)", ge=0,
    )  # fmt: skip
    squares: Counts = option(
        lambda: [64, 192],
        "Of `boxes`: least and greatest side of the squares without a box that become "
        "crops of the other layer.",
        unit="px", paper="64-192 (paper); 128 (code)",
    )  # fmt: skip
    squares_per_image: int = option(
        0, "Of `boxes`: how many of them from each image.", paper="15; 50 (code)", ge=0
    )

    size_limit: float | None = option(
        None,
        "Of `labels` and `threshold`: objects of a smaller area are of the class "
        "`small`, the others `large`. Empty: all are `object`.", unit="px", gt=0,
    )  # fmt: skip
    debris: str = option(
        "debris",
        "Of `points`: objects with points of this class alone are background.",
        paper="debris (BBBC026)",
    )
    background_window: int = option(
        0,
        "Side of the neighbourhood above whose mean is no background. 0: what the "
        "recipe takes for objects is none, or what is in boxes.",
        unit="px", paper="255 (BBBC042)", ge=0,
    )  # fmt: skip
    background_offset: float = option(
        25.0, "How far above that mean, in 1/255 of the range of intensities.",
        paper="25 (BBBC042)", ge=-255, le=255,
    )  # fmt: skip
    background_dilation: int = option(
        0, "Pixels by which what is no background grows.", unit="px",
        paper="2 (BBBC042)", ge=0, le=100,
    )  # fmt: skip

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_area is not None and self.max_area < self.min_area:
            raise ValueError("`max_area` is below `min_area`: no object is left")
        if self.out_of_focus > self.in_focus:
            raise ValueError("`out_of_focus` is above `in_focus`: classes overlap")
        for name in ("window", "background_window"):
            if getattr(self, name) and getattr(self, name) % 2 == 0:
                raise ValueError(
                    f"`{name}` has to be odd: it has a pixel in the middle"
                )
        if self.score_limits and not -1 < self.score_limits[0] < self.score_limits[1]:
            raise ValueError("`score_limits` need to be above -1, the smaller first")
        if not 0 < self.squares[0] <= self.squares[1]:
            raise ValueError("`squares` need the smaller side first, above 0")
        return self


def load_presets(path: Path | str | None = None) -> dict[str, dict[str, Any]]:
    """Read the presets of layers: by name, the options of each section.

    Parameters
    ----------
    path : Path, optional
        Else ``config/layers.yaml`` where you run, or that of this program.

    Raises
    ------
    PhantomscopeError
        If the file is missing or is no YAML.
    """
    # `load` imports the models of all sections.
    from phantomscope.config.load import read_yaml

    here = PRESETS if PRESETS.is_file() else CHECKOUT / PRESETS
    found: dict[str, dict[str, Any]] = read_yaml(Path(path or here))
    return found


def preset(
    kind: type[S], name: str, changes: Mapping[str, Any] | None = None,
    path: Path | str | None = None,
) -> S:  # fmt: skip
    """Return a section with the values of a preset, and others on top.

    Parameters
    ----------
    kind : type
        `Compose` or `Crops`.
    name : str
        Such as ``bbbc026``.
    changes : mapping, optional
        Options that differ from the preset.
    path : Path, optional
        See `load_presets`.

    Raises
    ------
    PhantomscopeError
        If there is no such preset, or its values are not possible.
    """
    presets = load_presets(path)
    if name not in presets:
        raise PhantomscopeError(
            f"there is no preset of layers {name!r}",
            where=path or PRESETS,
            fix=suggestion(name, sorted(presets)),
        )
    values = presets[name].get(kind.__name__.lower(), {})
    try:
        return kind.model_validate({**values, **(changes or {})})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or kind.__name__.lower()
        raise PhantomscopeError(
            f"the preset {name!r} does not work: `{key}`: {first['msg']}",
            where=path or PRESETS,
            fix="mend this option, there or where it is changed",
        ) from error

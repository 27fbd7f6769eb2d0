"""Options of what is on plates: channels, cells, and their split; local fields."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from phantomscope.config.layout import Layout, known_axes
from phantomscope.config.option import Section, option

# From the highest plane to the lowest.
BRIGHTFIELD = ("BrightfieldHigh", "Brightfield", "BrightfieldLow")
# Names in `load_data.csv` (OrigDNA) and in Harmony's index (HOECHST 33342).
EXPRESSIONS = (
    ("DNA", r"(Orig)?DNA|HOECHST.*|DAPI"),
    ("ER", r"(Orig)?ER|Alexa 488"),
    ("RNA", r"(Orig)?RNA|488 long|SYTO.*"),
    ("AGP", r"(Orig)?AGP|Alexa 568"),
    ("Mito", r"(Orig)?Mito(Tracker.*)?|Alexa 647"),
    (
        "BrightfieldHigh",
        r"(Orig)?(HighZ ?BF|(Brightfield|BF)[ _]?H(igh)?|BF ?HighZ)",
    ),
    (
        "Brightfield",
        r"(Orig)?((Middle|Mid)?Z?BF|Brightfield([ _]?(CP|M(iddle)?))?)",
    ),
    (
        "BrightfieldLow",
        r"(Orig)?(LowZ ?BF|(Brightfield|BF)[ _]?L(ow)?|BF ?LowZ)",
    ),
)
# The plates of Xing et al., and the cells on them: all of compounds, 24 h.
CELL_LINES = (
    ("BR00116991", "A549"),
    ("BR00116992", "A549"),
    ("BR00116993", "A549"),
    ("BR00116994", "A549"),
    ("BR00116995", "U2OS"),
    ("BR00117024", "U2OS"),
    ("BR00117025", "U2OS"),
    ("BR00117026", "U2OS"),
)
PAPER_PLATES = (
    "BR00116991__2020-11-05T19_51_35-Measurement1",
    "BR00116992__2020-11-05T21_31_31-Measurement1",
    "BR00116993__2020-11-05T23_11_39-Measurement1",
    "BR00116994__2020-11-06T00_59_44-Measurement1",
    "BR00116995__2020-11-06T02_41_05-Measurement1",
    "BR00117024__2020-11-06T04_20_37-Measurement1",
    "BR00117025__2020-11-06T06_00_19-Measurement1",
    "BR00117026__2020-11-06T07_39_45-Measurement1",
)

Text = Annotated[str, Field(min_length=1)]


class PlateSplit(Section):
    """Which images are for training, validation and test."""

    by: Literal["auto", "plate", "well", "compound", "cell_line", "region"] = option(
        "auto",
        "What stays whole: a `plate`, a `well`, a `compound` (all its wells on all "
        "plates: unseen compounds), or a `cell_line` (unseen cells). `region`, only of "
        "local fields: each image is cut into parts with a margin between them; "
        "`well` is there the group in the file name. `auto`: `plate`, of local fields "
        "`region`.",
        paper="plate (the same compounds are on all plates)",
    )
    train: list[Text] = option(
        list,
        "Units of the training part by name: short or full plates, wells such as "
        "`BR00116991_A01`, compounds or cell lines. By compound, `[DMSO]` keeps the "
        "controls, a sixth of the wells, out of the draw.",
        paper="BR00116991, BR00116992, BR00116995, BR00117024",
    )
    validation: list[Text] = option(
        list,
        "Units of the validation part.",
        paper="BR00116993, BR00117025 (two plates, unnamed)",
    )
    test: list[Text] = option(
        list, "Units of the test part.", paper="BR00116994, BR00117026"
    )
    validation_fraction: float = option(
        0.0,
        "Share of the units that are named nowhere (of the area, by region) for "
        "validation. They are drawn if neither `validation` nor `test` names any; else "
        "all of them are for training.",
        ge=0,
        lt=1,
    )
    test_fraction: float = option(
        0.25, "The same for the test.", gt=0, lt=1, paper="0.25 (2 of 8 plates)"
    )
    margin: int = option(
        64,
        "Pixels between regions that nobody sees; more than the diameter of a cell.",
        unit="px",
        ge=0,
    )
    axis: Literal["longest", "y", "x"] = option(
        "longest", "Along which axis `region` cuts."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = [*self.train, *self.validation, *self.test]
        if named and self.by == "region":
            raise ValueError("regions have no names: leave `train`, `test` ... empty")
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"`{twice[0]}` is named twice")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("`validation_fraction` and `test_fraction` leave nothing")
        return self

    @property
    def named(self) -> dict[str, str]:
        """Unit to side, as far as they are named."""
        sides = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: side for side, names in sides.items() for name in names}


class Fields(Section):
    """A folder of images with several channels."""

    path: str | None = option(
        None, "Folder of the images; relative to where you run.", min_length=1
    )
    images: str = option(
        "{id}.tif",
        "Names of the image files; `{id}` names the image and `{group}`, if there is "
        "one, the unit of statistics (well, plate).",
    )
    nuclei: str | None = option(
        None, "Names of the files of annotated nuclei, with the same `{id}`."
    )
    cells: str | None = option(None, "Names of the files of annotated cells.")
    annotation: Literal["outlines", "instances"] = option(
        "outlines",
        "`outlines`: lines of any colour on black, as CellProfiler draws them; "
        "`instances`: each object has a number.",
    )
    axes: str = option("CYX", "Axes of each image file, such as `CYX` or `YXC`.")
    channels: list[Text] = option(
        list,
        "What each channel is, in the order of the file. `inputs` and `stains` choose "
        "from these names.",
    )
    cell_line: str = option("", "Cells on all images; empty: unknown.")

    @field_validator("axes")
    @classmethod
    def _axes_known(cls, axes: str) -> str:
        axes = known_axes(axes)
        if "C" not in axes or "Z" in axes:
            raise ValueError("use CYX or YXC")
        return axes

    @model_validator(mode="after")
    def _patterns_fit(self) -> Self:
        twice = sorted({n for n in self.channels if self.channels.count(n) > 1})
        if twice:
            raise ValueError(f"`channels` names {twice[0]!r} twice")
        for labels in (self.nuclei, self.cells):
            self.layout(labels)
        return self

    def layout(self, labels: str | None) -> Layout:
        """Return where images and one kind of annotation lie."""
        patterns = None if labels is None else {"": [labels]}
        return Layout(images=self.images, labels=patterns, objects=False)

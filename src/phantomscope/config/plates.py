"""Options of Cell Painting plates, of the gallery or a mirror, and of local fields."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from phantomscope.config.datasets import suggestion
from phantomscope.config.option import Section, option
from phantomscope.config.painting import (
    CELL_LINES,
    EXPRESSIONS,
    PAPER_PLATES,
    Fields,
    PlateSplit,
    Text,
)

# They say where and how, not what.
RUNTIME_OF_PLATES = frozenset({
    "downloads", "connections", "address", "endpoint", "shards", "keep", "ahead",
})  # fmt: skip
GALLERY = "https://cellpainting-gallery.s3.amazonaws.com"

T = TypeVar("T")
Percent = Annotated[float, Field(ge=0, le=100)]
# Folders and files of a bucket: nothing that leads out of it.
Part = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")]
Number = Annotated[int, Field(ge=1, le=10_000)]


def barcode_of(plate: str) -> str:
    """Return the short name of a plate: what is before the time of measurement."""
    return plate.partition("__")[0]


class Plates(Section):
    """Brightfield planes and stains of Cell Painting plates, or of local fields."""

    kind: Literal["gallery", "fields"] = option(
        "fields",
        "`gallery`: plates in the layout of the Cell Painting Gallery, on a server or "
        "in a folder; `fields`: a folder of your own images of several channels.",
        paper="gallery",
    )
    address: str = option(
        GALLERY,
        "Where the gallery is: `https://...` or `s3://BUCKET` (both are asked as "
        "anonymous S3), or a folder with the same layout.",
        paper="s3://cellpainting-gallery",
        min_length=1,
    )
    endpoint: str | None = option(
        None,
        "Server of an `s3://` address that is not Amazon's, such as "
        "`http://localhost:9000` (path style).",
    )
    project: str = option(
        "cpg0000-jump-pilot/source_4",
        "Folder of the project, with the source in it.",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*$",
    )
    batch: Part = option("2020_11_04_CPJUMP1", "Folder of the batch.")
    plates: list[Part] = option(
        list,
        "Full names of plates. A whole plate of eight channels is 50 to 65 GB.",
        paper=", ".join(PAPER_PLATES),
    )
    wells: list[Text] | None = option(
        None,
        "Wells to use, such as `[A01, P24]`. Empty: all. Only their files are fetched.",
        min_length=1,
    )
    sites: list[Number] | None = option(
        None, "Sites of each well to use. Empty: all.", min_length=1
    )
    rows: int = option(16, "Rows of a plate, for planning and checks.", ge=1, le=702)
    columns: int = option(24, "Columns of a plate.", ge=1, le=99)
    sites_per_well: int = option(9, "Sites of a well, numbered from 1.", ge=1)
    size: tuple[Number, Number] = option(
        (1080, 1080),
        "Height and width of a site of a plate; sites of another size are broken.",
        unit="px",
        paper="1080 x 1080",
    )
    downloads: str = option(
        "data",
        "Folder for downloaded files, which experiments share; relative to where you "
        "run.",
        min_length=1,
    )
    connections: int = option(
        8,
        "Files that are fetched at a time, over all shards; they are small.",
        ge=1,
        le=64,
    )
    shards: int = option(
        1,
        "Jobs among which the sites are divided to be fetched, read and scaled; each "
        "has a block of them. What is made does not depend on it.",
        ge=1,
        le=500,
    )
    keep: Literal["all", "fetched", "pairs"] = option(
        "all",
        "What stays on disk once pairs are made of it. `all`: fetched files and images "
        "in full size; `fetched`: the files, in `downloads`; `pairs`: neither, each "
        "shard frees its own. Other pairs, and another `keep` or `ahead`, then have to "
        "be read, or fetched, again.",
    )
    ahead: int = option(
        4,
        "With `keep: pairs`: shards that are on disk in full size at most. With "
        "`scope: plate` all shards of a plate have to be, if these are more.",
        ge=1,
    )
    inputs: list[Text] = option(
        lambda: ["Brightfield"],
        "Channels to translate from, in order: `Brightfield` is the middle plane, "
        "`BrightfieldHigh` and `BrightfieldLow` are those above and below.",
        paper="the middle plane; the released code takes channel 6, which is the "
        "highest by one reading; the baselines see all three",
        min_length=1,
    )
    stains: list[Text] = option(
        lambda: ["Mito", "AGP", "RNA", "ER", "DNA"],
        "Channels to translate into, in order.",
        paper="Mito, AGP, RNA, ER, DNA",
        min_length=1,
    )
    aliases: list[tuple[Text, Text]] = option(
        lambda: list(EXPRESSIONS),
        "What channels are called on plates: pairs of a channel and a regular "
        "expression that matches its whole name in any case. Those given here replace "
        "the expressions of these channels only. Where the names do not tell three "
        "brightfield planes apart, their heights do.",
    )
    channel_map: Literal["agree", "load_data", "index"] = option(
        "agree",
        "Which file is which channel: by `load_data` (load_data.csv) or by the "
        "microscope's `index` (Index.idx.xml, some 40 MB a plate). `agree`: by both "
        "where both exist, and if they contradict each other nothing is made.",
        paper="numbers of channels in the code",
    )
    pixel_size_um: float | None = option(
        None,
        "Side of a pixel. Empty: of plates what Index.idx.xml says.",
        unit="um",
        gt=0,
        paper="0.598",
    )
    flat_field: bool = option(
        False,
        "Divide images by the plate's illumination functions, scaled to a mean of 1.",
        paper="false",
    )
    outlines: Literal["none", "if_there", "required"] = option(
        "if_there",
        "CellProfiler's outlines of nuclei and cells become labels. `if_there`: images "
        "without them have none; `required`: such images are broken.",
        paper="required",
    )
    outline_folders: list[Text] = option(
        lambda: ["{plate}-{well}-{site}", "{plate}-{well}", "{well}"],
        "Folders of CellProfiler's results of a site; the first that exists counts.",
        min_length=1,
    )
    dark_percentiles: tuple[Percent, Percent] = option(
        (0.5, 99.5),
        "A site is black, and left out, if a stain has the same value at these two "
        "percentiles or everywhere. Each is listed.",
        unit="%",
        paper="black sites are left out, rule unstated",
    )
    broken: Literal["refuse", "exclude"] = option(
        "refuse",
        "What becomes of sites with missing or damaged files, or of another size: "
        "`refuse`: an error names them all and nothing is made; `exclude`: they are "
        "left out and listed.",
    )
    compounds: bool = option(
        True, "Look up the compound of each well in the plate maps."
    )
    compound_column: Text = option(
        "broad_sample", "Column of the plate map that names the compound."
    )
    compound_id: str | None = option(
        r"^(BRD-[A-Z]\d+)",
        "Regular expression with one group: what of that name is the compound. The "
        "rest of a Broad id is salt and batch. Names that do not match, and all if "
        "this is empty, are used whole.",
    )
    control: Text = option("DMSO", "Name of wells without a compound in the plate map.")
    cell_lines: list[tuple[Text, Text]] = option(
        lambda: list(CELL_LINES), "Pairs of a plate, short or full, and its cell line."
    )
    experiments: str | None = option(
        None,
        "Table of all plates (text with tabs or commas), with the columns "
        "`Assay_Plate_Barcode` and `Cell_type`, such as experiment-metadata.tsv of the "
        "JUMP pilot. Empty: `cell_lines` alone.",
        min_length=1,
    )
    fields: Fields = option(Fields, "Images of your own (only for `fields`).")
    split: PlateSplit = option(PlateSplit, "Which images are for what.")

    @field_validator("wells")
    @classmethod
    def _wells_written_out(cls, wells: list[str] | None) -> list[str] | None:
        for well in wells or []:
            if re.fullmatch(r"[A-Z]{1,2}\d\d", well):
                continue
            found = re.fullmatch(r"([A-Za-z]{1,2})0*(\d{1,2})", well.strip())
            mean = ""
            if found is not None:
                mean = f"; did you mean `{found[1].upper()}{int(found[2]):02}`?"
            raise ValueError(f"{well!r} is no well such as `A01`{mean}")
        return _each_once("wells", wells)

    @field_validator("sites")
    @classmethod
    def _sites_once(cls, sites: list[int] | None) -> list[int] | None:
        return _each_once("sites", sites)

    @field_validator("plates")
    @classmethod
    def _plates_once(cls, plates: list[str]) -> list[str]:
        # Two measurements of a plate would be two plates with the same wells.
        _each_once("plates", [barcode_of(plate) for plate in plates])
        return plates

    @field_validator("downloads")
    @classmethod
    def _plain_path(cls, downloads: str) -> str:
        if "{" in downloads or "}" in downloads:
            raise ValueError("braces are wildcards in a workflow: use another folder")
        return str(PurePath(downloads))

    @field_validator("aliases")
    @classmethod
    def _expressions_compile(cls, aliases: list[tuple[str, str]]) -> object:
        _each_once("aliases", [name for name, _ in aliases])
        for name, expression in aliases:
            try:
                re.compile(expression)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"{name}: no regular expression: {error}") from error
        return aliases

    @field_validator("compound_id")
    @classmethod
    def _one_group(cls, expression: str | None) -> str | None:
        if expression is not None:
            try:
                groups = re.compile(expression).groups
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"not a regular expression: {error}") from error
            if groups != 1:
                raise ValueError(f"needs one group in parentheses, has {groups}")
        return expression

    @field_validator("outline_folders")
    @classmethod
    def _folders_fit(cls, folders: list[str]) -> list[str]:
        for folder in folders:
            rest = re.sub(r"\{(plate|well|site)\}", "x", folder)
            if "{well}" not in folder or not re.fullmatch(r"[A-Za-z0-9_.\-]+", rest):
                raise ValueError(
                    f"{folder!r} is no folder with {{well}}, and perhaps {{plate}} and "
                    "{site}, in it"
                )
        return folders

    @model_validator(mode="after")
    def _place_fits(self) -> Self:
        parts = urlsplit(self.address)
        if parts.scheme == "s3" and (not parts.netloc or parts.path.strip("/")):
            raise ValueError(
                "`address: s3://BUCKET` needs a bucket and nothing else; its folders "
                "are in `project`"
            )
        if parts.scheme and (parts.query or parts.fragment):
            raise ValueError("`address` has no `?` and no `#`")
        if self.endpoint is not None:
            if parts.scheme != "s3":
                raise ValueError("`endpoint` belongs to `address: s3://BUCKET`")
            if urlsplit(self.endpoint).scheme not in ("http", "https"):
                raise ValueError("`endpoint` begins with https:// or http://")
        return self

    @model_validator(mode="after")
    def _kind_fits(self) -> Self:
        if self.kind == "fields":
            if self.plates or self.wells or self.sites:
                raise ValueError("`plates`, `wells`, `sites` belong to `kind: gallery`")
            if self.split.by not in ("auto", "region", "well"):
                raise ValueError("local fields are split `by: region` or `well`")
            if self.shards > 1:
                raise ValueError("`shards` belong to `kind: gallery`")
            return self
        if not self.plates:
            raise ValueError("`kind: gallery` needs `plates`")
        if self.fields != Fields():
            raise ValueError("`fields` belongs to `kind: fields`")
        if self.split.by == "region":
            raise ValueError("`split.by: region` is of local fields: use `well`")
        if self.split.by == "compound" and not self.compounds:
            raise ValueError("`split.by: compound` needs `compounds: true`")
        return self

    @model_validator(mode="after")
    def _channels_known(self) -> Self:
        wanted = _each_once("inputs and stains", [*self.inputs, *self.stains]) or []
        known = list(self.expressions)
        if self.kind == "fields":
            known = self.fields.channels or known
        for name in wanted:
            if name not in known:
                raise ValueError(f"no channel {name!r}; {suggestion(name, known)}")
        low, high = self.dark_percentiles
        if low >= high:
            raise ValueError("`dark_percentiles` is [low, high], such as [0.5, 99.5]")
        return self

    @property
    def split_by(self) -> str:
        """What stays whole in the split."""
        usual = "region" if self.kind == "fields" else "plate"
        return usual if self.split.by == "auto" else self.split.by

    @property
    def shard_names(self) -> list[str]:
        """Names of the shards, as their folders have them."""
        return [f"{number:03d}" for number in range(self.shards)]

    @property
    def wanted(self) -> list[str]:
        """Channels of the image set, in order: inputs, then stains."""
        return [*self.inputs, *self.stains]

    @property
    def expressions(self) -> dict[str, str]:
        """Channel to the regular expression of its names."""
        return {**dict(EXPRESSIONS), **dict(self.aliases)}


def _each_once(key: str, values: list[T] | None) -> list[T] | None:
    twice = [value for value in values or [] if (values or []).count(value) > 1]
    if twice:
        raise ValueError(f"`{key}` names {twice[0]!r} twice")
    return values

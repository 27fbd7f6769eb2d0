"""Options of the data set that is published."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, Self

from pydantic import field_validator, model_validator

from phantomscope.config.option import Section, option

ORCID = re.compile(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]")


class Creator(NamedTuple):
    """Somebody who answers for a data set; absent parts are empty."""

    name: str
    affiliation: str = ""
    orcid: str = ""

    @classmethod
    def parse(cls, text: str) -> Creator:
        """Read ``Family, Given; affiliation; ORCID``; the last two may be absent.

        Raises
        ------
        ValueError
            If there is no name, a part too much, or a mistyped ORCID iD.
        """
        parts = [part.strip() for part in text.split(";")]
        example = "write 'Family, Given; affiliation; 0000-0002-1825-0097'"
        if not parts[0] or len(parts) > 3:
            raise ValueError(f"{text!r} is no creator: {example}")
        found = cls(*parts)
        if found.orcid and not _is_orcid(found.orcid):
            raise ValueError(f"{found.orcid!r} is no ORCID iD (mistyped?): {example}")
        return found


def _is_orcid(text: str) -> bool:
    """Check the last digit, ISO 7064 11,2, which tells of mistyped ones."""
    if not ORCID.fullmatch(text):
        return False
    total = 0
    for digit in text.replace("-", "")[:-1]:
        total = (total + int(digit)) * 2
    return text[-1] == "0123456789X"[(12 - total % 11) % 11]


class Publish(Section):
    """The synthetic set with its labels, ready to upload."""

    formats: list[Literal["ome_zarr", "tiff", "ctc"]] = option(
        list,
        "What to write: `ome_zarr` (an image and its labels in one folder, as a "
        "pyramid in chunks, for viewers), `tiff` (a pair of OME-TIFF files, for "
        "training), `ctc` (time series in the layout of the Cell Tracking Challenge, "
        "with tracks); each takes its own disk space. Empty: nothing is published.",
    )
    pack: bool = option(
        False,
        "Beside each format write one ZIP archive of it, for repositories that take "
        "no folders, such as Zenodo; takes the disk space once more.",
    )
    title: str = option(
        "", "Title of the data set. Empty: one that names the source of the images."
    )
    creators: list[str] = option(
        list,
        "Who publishes it, each as `Family, Given; affiliation; ORCID`; the last two "
        "may be left out.",
    )
    licence: str | None = option(
        None,
        "Licence of the synthetic set, by its SPDX name, such as `CC-BY-4.0`. `null`: "
        "that of the images it was learnt from; where their licence is unknown or "
        "forbids to share what is made of them, nothing is published until you name "
        "one.",
        min_length=1,
    )
    description: str = option("", "What the set is for, in your own words.")
    contact: str = option("", "Whom to ask, such as an e-mail address.")
    funding: str = option("", "Who paid for it.")
    version: str = option("1.0.0", "Version of the data set.", min_length=1)
    keywords: list[str] = option(
        list, "Keywords, beside those that hold for any synthetic set."
    )
    images: int | None = option(
        None, "Publish at most so many images, evenly spread over the set.", ge=1
    )
    levels: int = option(
        5,
        "Levels of the pyramid at most, the full size among them; there are no more "
        "than the image needs to fit into 256 px.",
        ge=1,
        le=12,
    )
    ngff: Literal["0.4", "0.5"] = option(
        "0.4",
        "Version of OME-Zarr. `0.4` (Zarr 2) is what all readers know; `0.5` (Zarr 3) "
        "needs recent ones.",
    )

    @property
    def people(self) -> list[Creator]:
        """The creators, taken apart."""
        return [Creator.parse(text) for text in self.creators]

    @field_validator("formats")
    @classmethod
    def _no_repeats(cls, formats: list[str]) -> list[str]:
        if len(set(formats)) != len(formats):
            raise ValueError(f"names a format twice: {formats}")
        return formats

    @field_validator("creators")
    @classmethod
    def _creators_readable(cls, creators: list[str]) -> list[str]:
        for text in creators:
            Creator.parse(text)
        return creators

    @model_validator(mode="after")
    def _somebody_answers(self) -> Self:
        if self.formats and not self.creators:
            raise ValueError(
                "`formats` asks for a data set to publish, but `creators` is empty: "
                "name who answers for it, such as ['Curie, Marie; Sorbonne']"
            )
        if "ctc" in self.formats and self.images is not None:
            raise ValueError(
                "`images` would take single frames out of the time series that "
                "`formats: [ctc]` asks for: leave it out"
            )
        return self

"""Options of localisation tables: how they are read, filtered and drawn as images."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from phantomscope.config.option import Section, option

Format = Literal["auto", "smlm", "picasso", "thunderstorm", "rapidstorm", "csv"]
FieldName = Literal["x", "y", "z", "frame", "photons", "uncertainty", "background"]
Title = Annotated[str, Field(min_length=1)]


class Reading(Section):
    """How tables of localised molecules are read."""

    format: Format = option(
        "auto",
        "`smlm`: ShareLoc's zip; `picasso`: HDF5; `thunderstorm` and `rapidstorm`: "
        "their text; `csv`: any text with a header line, such as that of SMAP. `auto`: "
        "the content tells.",
    )
    columns: list[tuple[FieldName, Title]] | None = option(
        None,
        "Titles of columns that are not named as usual, such as "
        "`[[uncertainty, lpx], [photons, N]]`.",
        min_length=1,
    )
    unit: Literal["nm", "um", "px"] | None = option(
        None, "Unit of x, y and precision where the header does not say it."
    )
    camera_pixel_nm: float | None = option(
        None,
        "Side of a pixel of the camera, for tables in pixels. Empty: what the file "
        "says; Picasso's do.",
        unit="nm",
        gt=0,
    )
    channel: str | None = option(
        None, "Channel or name of the table to use of an `.smlm` that has several."
    )
    invalid: Literal["refuse", "drop"] = option(
        "refuse",
        "What becomes of a table with rows of NaN, negative precision or the like: "
        "`refuse` it, or `drop` these rows; how many is in the manifest.",
    )

    @field_validator("columns")
    @classmethod
    def _each_once(
        cls, columns: list[tuple[FieldName, str]] | None
    ) -> list[tuple[FieldName, str]] | None:
        names = [name for name, _ in columns or []]
        if len(set(names)) != len(names):
            raise ValueError(f"a field is named twice: {', '.join(names)}")
        return columns

    @property
    def titles(self) -> dict[str, str]:
        """Field to the title of its column."""
        return dict(self.columns or [])


class Drawing(Section):
    """Which molecules are drawn, and how."""

    max_precision_nm: float | None = option(
        None,
        "Leave out molecules whose precision (standard deviation) is worse.",
        unit="nm",
        gt=0,
    )
    min_photons: float | None = option(
        None, "Leave out molecules of fewer photons.", unit="photons", ge=0
    )
    max_photons: float | None = option(
        None, "Leave out molecules of more photons.", unit="photons", ge=0
    )
    link_nm: float | None = option(
        None,
        "Join localisations in successive frames that are no farther apart: one "
        "molecule that shines for longer. Twice to three times the precision is "
        "usual. Empty: no joining.",
        unit="nm",
        gt=0,
    )
    link_gap: int = option(
        1, "Frames in which a molecule may be dark and still be joined.", ge=0, le=1000
    )
    render: Literal["gaussian", "histogram"] = option(
        "gaussian",
        "`histogram`: molecules per pixel; `gaussian`: each is a Gaussian of sum 1, "
        "integrated over the pixels.",
        paper="Saguy: not stated",
    )
    sigma_nm: float | None = option(
        None,
        "Standard deviation of all Gaussians. Empty: each has that of its molecule's "
        "precision, which the table must then state.",
        unit="nm",
        gt=0,
    )
    weight: Literal["count", "photons"] = option(
        "count", "What a molecule adds to the image: 1, or its photons."
    )

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        refuse_empty_range(self, "min_photons", "max_photons")
        if self.sigma_nm is not None and self.render != "gaussian":
            raise ValueError("`sigma_nm` belongs to `render: gaussian`")
        return self


def refuse_empty_range(section: Section, low: str, high: str) -> None:
    """Refuse a least value above the largest one; empty ones are no limit."""
    least, most = getattr(section, low), getattr(section, high)
    if least is not None and most is not None and least > most:
        raise ValueError(f"`{low}: {least}` is more than `{high}: {most}`")


# Fields come in the reverse order of the bases: reading first.
class Localisations(Drawing, Reading):
    """How tables of localised molecules become images."""

    first_frame: int | None = option(
        None, "First frame to use, counted as in the table.", ge=0
    )
    last_frame: int | None = option(None, "Last frame to use, itself included.", ge=0)
    drift_bins: int = option(
        0,
        "Time bins of drift correction by redundant cross-correlation; each needs some "
        "thousand localisations. 0: none, for tables that are corrected already.",
        ge=0,
        le=100,
    )
    drift_pixel_nm: float = option(
        20.0, "Pixel of the images that drift is found on.", unit="nm", gt=0
    )
    pixel_size_nm: float = option(
        20.0,
        "Side of a pixel of the image.",
        unit="nm",
        gt=0,
        paper="Saguy: 27 (microtubules), 32 (mitochondria)",
    )
    field_nm: tuple[float, float, float, float] | None = option(
        None,
        "Field of view: left, top, right and bottom in the coordinates of the table. "
        "Empty: as far as each table reaches.",
        unit="nm",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse_empty_range(self, "first_frame", "last_frame")
        if self.field_nm is not None:
            left, top, right, bottom = self.field_nm
            if not (left < right and top < bottom):
                raise ValueError(
                    "`field_nm` is [left, top, right, bottom], with left < right and "
                    "top < bottom"
                )
        if self.unit == "px" and self.format != "picasso" and not self.camera_pixel_nm:
            raise ValueError("`unit: px` needs `camera_pixel_nm`, the side of a pixel")
        return self

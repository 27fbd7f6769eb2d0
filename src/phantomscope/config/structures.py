"""Options of simulated structures of a cell: microtubules, mitochondria.

Lengths along a structure are in um, across it in nm.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phantomscope.config.localisations import Drawing
from phantomscope.config.option import Section, option
from phantomscope.config.superresolution import Blinking, Labelling

Share = Annotated[float, Field(ge=0, le=1)]


def _check_step(step: float, persistence: float) -> None:
    """Refuse steps (nm) over a tenth of the persistence length (um)."""
    if step > 100 * persistence:
        raise ValueError(
            f"`step` ({step:g} nm) must be at most a tenth of `persistence` "
            f"({persistence:g} um)"
        )


class Filaments(Section):
    """Microtubules of a flat cell: worm-like chains.

    Of the published simulator only is known that its filaments are random walks with
    correlated angles.
    """

    density: float = option(
        2.5,
        "Length of all filaments per area of the cell.",
        unit="um / um^2",
        gt=0,
        le=50,
        paper="unstated",
    )
    length: float = option(
        25.0,
        "Mean length of a filament (exponential), before the cell's edge ends it.",
        unit="um",
        gt=0.1,
        le=1000,
    )
    persistence: float = option(
        20.0,
        "Persistence length: tangents a length s apart correlate by exp(-s / 2P) in "
        "the plane. In cells about 20 to 30 um, far below the mm of free microtubules.",
        unit="um",
        gt=0.05,
        le=10_000,
        paper="unstated",
    )
    origin: Literal["centre", "edge", "anywhere"] = option(
        "centre",
        "Where filaments begin: at an organising centre near the middle of the cell, "
        "at the cell's edge, pointing inwards, or anywhere in any direction.",
    )
    from_origin: Share = option(
        0.6, "Share of the filaments that begin at `origin`; the others anywhere."
    )
    bundles: Share = option(
        0.15, "Share of the filaments that first run beside an earlier one."
    )
    bundle_length: float = option(
        4.0,
        "Mean length that a filament of a bundle runs beside another (exponential).",
        unit="um",
        gt=0,
        le=100,
    )
    bundle_distance: tuple[float, float] = option(
        (30.0, 80.0),
        "Least and largest distance of the centre lines in a bundle.",
        unit="nm",
    )
    radius: float = option(
        12.5, "Radius of a filament without label.", unit="nm", ge=0, le=1000
    )
    cell_diameter: float = option(
        40.0,
        "Mean diameter of the cell, in which the field of view lies at random.",
        unit="um",
        gt=1,
        le=1000,
    )
    step: float = option(
        50.0, "Distance of the points of a filament.", unit="nm", ge=1, le=1000
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.bundle_distance
        if not 0 <= low <= high:
            raise ValueError("`bundle_distance` needs [least, largest], as [30, 80]")
        _check_step(self.step, self.persistence)
        return self


class Mitochondria(Section):
    """Mitochondria of a flat cell: tubes that branch, fuse and divide."""

    density: float = option(
        0.6,
        "Length of all tubes per area of the cell, nucleus included. Fewer are drawn "
        "where no more fit.",
        unit="um / um^2",
        gt=0,
        le=10,
    )
    length: float = option(
        10.0,
        "Mean length of a tube (exponential) before contacts and fission.",
        unit="um",
        gt=0.1,
        le=200,
    )
    persistence: float = option(
        3.0, "Persistence length of a tube.", unit="um", gt=0.1, le=1000
    )
    branching: float = option(
        0.06, "Side tubes per length of a tube.", unit="1 / um", ge=0, le=5
    )
    fusion_chance: Share = option(
        0.5, "Chance that a tube that meets another one fuses with it."
    )
    crossing_chance: Share = option(
        0.5,
        "Chance that a tube that meets another one without fusing passes over it; "
        "otherwise it ends before it.",
    )
    fission: float = option(
        0.03,
        "Divisions per length of a tube, after it has grown.",
        unit="1 / um",
        ge=0,
        le=10,
    )
    gap: float = option(
        120.0,
        "Distance of the ends of a divided tube, and of tubes that do not fuse, beyond "
        "their walls.",
        unit="nm",
        ge=0,
        le=5000,
    )
    radius: float = option(160.0, "Median radius of a tube.", unit="nm", ge=20, le=2000)
    radius_spread: float = option(
        0.15,
        "Standard deviation of the logarithm of the radius: half of its variance "
        "between tubes, half along each.",
        ge=0,
        le=0.6,
    )
    nucleus: float = option(
        0.35,
        "Diameter of the nucleus, which has none, relative to the cell.",
        ge=0,
        le=0.9,
    )
    cell_diameter: float = option(
        40.0,
        "Mean diameter of the cell, in which the field of view lies at random.",
        unit="um",
        gt=1,
        le=1000,
    )
    step: float = option(
        50.0, "Distance of the points of a tube.", unit="nm", ge=10, le=500
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.step > self.radius:
            raise ValueError(
                f"`step` ({self.step:g} nm) must not exceed `radius` "
                f"({self.radius:g} nm)"
            )
        _check_step(self.step, self.persistence)
        return self


class Structures(Section):
    """Sketches of structures: their pixel, and what they are made of."""

    pixel: float = option(
        27.0,
        "Side of a pixel of the images.",
        unit="nm",
        gt=0.1,
        le=5000,
        paper="27 (microtubules), 32 (mitochondria)",
    )
    label_width: float = option(
        80.0,
        "Width of a filament in the labels: it is thinner than a pixel.",
        unit="nm",
        gt=1,
        le=5000,
    )
    appearance: Literal["drawn", "localised"] = option(
        "drawn",
        "`drawn`: blurred lines, and tubes with walls; `localised`: the structure is "
        "labelled, its fluorophores blink, and what is localised of them is drawn like "
        "a real table. Labels are the same.",
    )
    labelling: Labelling = option(Labelling, "Of what is localised: fluorophores.")
    blinking: Blinking = option(Blinking, "Of what is localised: the movie.")
    drawing: Drawing = option(
        Drawing,
        "Of `appearance: localised`: how molecules are drawn. Where the images are "
        "drawn of tables, as those (`source.localisations`).",
    )
    scope: Literal["dataset", "image"] = option(
        "dataset",
        "Of `appearance: localised`: whether all sketches have the same limits of "
        "intensity, or each its own; as the images (`normalise.scope`).",
    )
    percentiles: tuple[float, float] = option(
        (0.1, 99.9),
        "Of `appearance: localised`: percentiles of intensity that become 0 and 1; as "
        "those of the images (`normalise`).",
        unit="%",
    )
    filaments: Filaments = option(Filaments, "Of `organism: microtubules`.")
    mitochondria: Mitochondria = option(Mitochondria, "Of `organism: mitochondria`.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.percentiles
        if not 0 <= low < 50 < high <= 100:
            raise ValueError("`percentiles` needs [low, high], such as [0.1, 99.9]")
        return self

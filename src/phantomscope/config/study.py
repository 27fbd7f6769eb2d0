"""Options of the studies of translation: fewer steps, and artefacts in brightfield."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phantomscope.config.option import Section, option

ArtefactKind = Literal["dust", "debris"]
Length = Annotated[float, Field(gt=0, le=1000)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1000)]
RANGES = ("dust_um", "dust_absorption", "debris_um", "debris_absorption")


class Study(Section):
    """Studies of translation, each on some test images. None by default."""

    steps: list[Count] = option(
        list,
        "Numbers of steps with which residual diffusion predicts test images, from one "
        "trained model: times even in t, coefficients derived anew for each number. "
        "Empty: no such study.",
        paper="15 (paper), 4 (code)",
    )
    artefacts: list[ArtefactKind] = option(
        list,
        "What is planted in brightfield images, which are then translated: `dust`, "
        "small dark spots with a bright ring, or `debris`, blurred blobs out of focus. "
        "Empty: no such study.",
        paper="debris (found, not planted)",
    )
    methods: list[str] = option(
        list,
        "Methods that translate these images; each does so twice, with and without "
        "artefacts. Empty: all of `translate.methods`.",
        paper="cellresdm, pix2pix",
    )
    images: int | None = option(
        8, "Test images of each study, evenly spread. Empty: all.", ge=1
    )
    samples: int = option(
        4,
        "Predictions of each of these images by methods with noise: at least two tell "
        "whether uncertainty marks an artefact.",
        ge=1,
        le=100,
    )
    number: int = option(3, "Artefacts of each kind in an image.", ge=1, le=1000)
    dust_um: tuple[Length, Length] = option(
        (4.0, 8.0), "Smallest and largest diameter of dust.", unit="um"
    )
    dust_absorption: tuple[Share, Share] = option(
        (0.15, 0.4), "Least and largest share of the light that dust takes away."
    )
    dust_ring: float = option(
        0.3,
        "Light that the ring of dust adds, by that which the dust takes away.",
        ge=0,
        le=1,
    )
    debris_um: tuple[Length, Length] = option(
        (10.0, 25.0), "Smallest and largest diameter of debris.", unit="um"
    )
    debris_absorption: tuple[Share, Share] = option(
        (0.08, 0.2), "Least and largest share of the light that debris takes away."
    )
    debris_blur_um: float = option(
        3.0, "Gaussian blur of debris, which is out of focus: sigma.", unit="um", gt=0,
        le=100,
    )  # fmt: skip
    found_darker: float = option(
        0.1,
        "Real spots count as candidate artefacts where brightfield is darker by this "
        "share than the median of its surroundings, over an area as large as the "
        "smallest to the largest artefact, and nearly round.",
        gt=0,
        lt=1,
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in RANGES:
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"`{name}` must be [smallest, largest]")
        for name in ("steps", "artefacts", "methods"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"`{name}` names something twice: {values}")
        return self

    @property
    def sizes_um(self) -> tuple[float, float]:
        """Smallest and largest diameter of an artefact of any kind."""
        return (
            min(self.dust_um[0], self.debris_um[0]),
            max(self.dust_um[1], self.debris_um[1]),
        )

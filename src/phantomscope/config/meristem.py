"""Options of a simulated tissue of membranes: organ, cells, walls."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator

from phantomscope.config.option import Section, option

Shape3 = tuple[int, int, int]
Sides = Literal["lower", "both"]
Channel = Literal["membrane", "nuclei"]


class Meristem(Section):
    """The organ, its cells and its walls.

    Defaults are those of the released simulator. Lengths are in px of x: a voxel is
    `spacing` of them deep, high and wide. Source: Eschweiler & Stegmaier 2023, section
    2, and the code published with it.
    """

    organ: Literal["meristem", "block"] = option(
        "meristem",
        "`meristem`: an organ drawn from a shape model, cells in shells; `block`: "
        "tissue fills the volume, as in a crop from inside an organ.",
    )
    shape_model: Literal["built_in", "learnt"] = option(
        "built_in",
        "Shape of the organ. `built_in`: a dome described by mathematics; `learnt`: "
        "mean and principal components of the organs in the annotation of the "
        "training part, which then shapes the synthetic images; kept as "
        "`results/<experiment>/shape_model.npz`.",
        paper="learnt",
    )
    spacing: tuple[float, float, float] = option(
        (1.0, 1.0, 1.0),
        "Size of a voxel in z, y and x, in px of x. With `simulate.variant: "
        "fitted` that of `fit.spacing`.",
    )
    cell_diameter: float = option(
        23.0,
        "Largest diameter of a cluster of candidates that becomes one cell.",
        gt=1,
        unit="px",
    )
    cell_decay: float = option(
        0.9,
        "Factor of the density of cells per shell inwards.",
        gt=0.3,
        le=1,
    )
    shell_spacing: float = option(
        1.0,
        "Distance of the outer shells, in cell diameters.",
        gt=0.1,
        le=10,
    )
    shell_decay: float = option(
        0.9,
        "Factor of the density of shells per shell inwards.",
        gt=0.3,
        le=1,
    )
    radial_jitter: float = option(
        0.1,
        "Standard deviation of the radius of a candidate in shell k, in k local "
        "cell diameters.",
        ge=0,
        le=1,
    )
    separation: float = option(
        0.5,
        "Least distance of the seeds of two cells, in cell diameters: nearer ones "
        "become one.",
        ge=0,
        le=1,
        paper="0 (code)",
    )
    distance_weight: float = option(
        0.25,
        "Distances from an isolated cell count for up to this much more, so that "
        "it grows less.",
        ge=0,
        le=2,
    )
    size_variation: float = option(
        0.0,
        "Standard deviation of the logarithm of a random factor of the distances "
        "from each cell: cells of unequal size.",
        ge=0,
        le=0.5,
        paper="0",
    )
    one_piece: bool = option(
        True,
        "Fragments of a cell go to the neighbours that they touch.",
        paper="false (code)",
    )
    rounding_radius: float = option(
        3.0,
        "Ball that rounds the cells of the surface, down to a depth of 1.5 of it; "
        "0: off.",
        ge=0,
        unit="px",
    )
    fill: float = option(
        0.95,
        "Extent of the organ relative to the volume; above 1 the field of view "
        "cuts it.",
        gt=0,
        le=4,
    )
    apex: Literal["first", "last"] = option(
        "last",
        "Plane of the volume to which an organ with a cut base points.",
    )
    rotate: bool = option(
        True,
        "Turn the organ by a random angle about z.",
    )
    organ_shape: Shape3 | None = option(
        None,
        "Voxels (z, y, x) of the volume that holds the whole organ, of which a "
        "window at a random place is drawn; empty: the window itself.",
    )
    membrane_radius: float = option(
        3.0,
        "Radius of the ball that makes walls thick.",
        ge=1,
        unit="px",
    )
    membrane_sides: Sides = option(
        "lower",
        "On which side of the border between two labels a wall lies.",
    )
    decline: float = option(
        0.8,
        "Intensity lost from the surface to the deepest place.",
        ge=0,
        le=1,
        paper="unstated",
    )
    wall_variation: float = option(
        0.0,
        "Largest random share of its intensity that a wall loses.",
        ge=0,
        le=1,
        paper="0",
    )
    missing_walls: float = option(
        0.0,
        "Chance that a wall between two cells is not drawn.",
        ge=0,
        le=1,
        paper="0",
    )
    nucleus_size: float = option(
        0.6,
        "Diameter of a nucleus by that of its cell, where `simulate.channels` has "
        "nuclei.",
        gt=0,
        le=1,
        paper="none",
    )
    blur: float = option(
        0.0,
        "Sigma of a Gaussian over the sketch.",
        ge=0,
        unit="px",
    )

    @model_validator(mode="after")
    def _has_organ(self) -> Self:
        if self.shape_model == "learnt" and self.organ == "block":
            raise ValueError(
                "`shape_model: learnt` needs `organ: meristem`: tissue that fills the "
                "volume has no shape"
            )
        return self

    @field_validator("spacing")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if min(values) <= 0:
            raise ValueError(f"`spacing` must be above 0, not {values}")
        return values

    @field_validator("organ_shape")
    @classmethod
    def _some(cls, values: Shape3 | None) -> Shape3 | None:
        if values is not None and min(values) < 1:
            raise ValueError(f"`organ_shape` must be 1 or more in each axis: {values}")
        return values

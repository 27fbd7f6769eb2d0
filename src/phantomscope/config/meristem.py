"""Parameters of a simulated tissue of membranes: organ, cells, walls."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from phantomscope.config.option import Section, option

Shape3 = tuple[int, int, int]
Sides = Literal["lower", "both"]


class Meristem(Section):
    """What is drawn of a tissue; defaults are those of the released simulator.

    Lengths are in px of x: a voxel is `spacing` of them deep, high and wide. Source:
    Eschweiler & Stegmaier 2023, section 2, and the code published with it.
    """

    organ: Literal["meristem", "block"] = option(
        "meristem",
        description="`meristem`: an organ drawn from a shape model, cells in shells; "
        "`block`: tissue fills the volume, as in a crop from inside an organ",
    )
    spacing: tuple[float, float, float] = option(
        (1.0, 1.0, 1.0), description="size of a voxel in z, y and x, in px of x"
    )
    cell_diameter: float = option(
        23.0,
        gt=1,
        description="largest diameter of a cluster of candidates that becomes one "
        "cell (1 / cell_density)",
    )
    cell_decay: float = option(
        0.9, gt=0.3, le=1, description="factor of the cells' density per shell inwards"
    )
    shell_spacing: float = option(
        1.0,
        gt=0.1,
        le=10,
        description="distance of the outer shells, in cell diameters",
    )
    shell_decay: float = option(
        0.9, gt=0.3, le=1, description="factor of the shells' density per shell inwards"
    )
    radial_jitter: float = option(
        0.1, ge=0, le=1, description="sd of a candidate's radius in shell k, in k "
        "local cell diameters (1 / cell_position_smoothness)",
    )  # fmt: skip
    separation: float = option(
        0.5, ge=0, le=1, description="least distance of two cells' seeds, in cell "
        "diameters: nearer ones become one (0: as the released code)",
    )  # fmt: skip
    distance_weight: float = option(
        0.25, ge=0, le=2, description="an isolated cell's distances count for up to "
        "this much more, so that it grows less",
    )  # fmt: skip
    size_variation: float = option(
        0.0, ge=0, le=0.5, description="sd of the logarithm of a random factor of a "
        "cell's distances: cells of unequal size (0 in the paper)",
    )  # fmt: skip
    one_piece: bool = option(
        True, description="fragments of a cell go to the neighbours that they touch "
        "(false: as the released code)",
    )  # fmt: skip
    rounding_radius: float = option(
        3.0, ge=0, description="ball that rounds the cells of the surface, down to a "
        "depth of 1.5 of it (0: off)",
    )  # fmt: skip
    fill: float = option(
        0.95, gt=0, le=4, description="extent of the organ relative to the volume; "
        "above 1 the field of view cuts it",
    )  # fmt: skip
    apex: Literal["first", "last"] = option(
        "last", description="plane of the volume to which an organ with a cut base "
        "points",
    )  # fmt: skip
    rotate: bool = option(True, description="turn the organ by a random angle about z")
    organ_shape: Shape3 | None = option(
        None, description="voxels (z, y, x) of the volume that holds the whole organ, "
        "of which a window at a random place is drawn; empty: the window itself",
    )  # fmt: skip
    membrane_radius: float = option(
        3.0, ge=1, description="thickness of a wall (see `membrane.wall_partner`)"
    )
    membrane_sides: Sides = option(
        "lower", description="on which side of the border between two labels it lies"
    )
    decline: float = option(
        0.8, ge=0, le=1, description="intensity lost from the surface to the deepest "
        "place (the paper does not say how much)",
    )  # fmt: skip
    wall_variation: float = option(
        0.0, ge=0, le=1, description="largest random share of intensity a wall loses"
    )
    missing_walls: float = option(
        0.0, ge=0, le=1, description="chance that a wall between two cells is not drawn"
    )
    blur: float = option(0.0, ge=0, description="sigma of a Gaussian over the sketch")

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

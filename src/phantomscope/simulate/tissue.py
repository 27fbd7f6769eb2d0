"""Tissues of membranes as an organism: drawn as published, or fitted to images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.meristem import Meristem
from phantomscope.config.simulation import Fit, Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.measure.membranes import ball_volume
from phantomscope.measure.morphology import background_model
from phantomscope.simulate.background import finished
from phantomscope.simulate.meristem import draw_meristem
from phantomscope.simulate.meristem_fit import (
    cell_diameter,
    estimate_cell_diameter,
    fitted,
    organ_mask,
)
from phantomscope.simulate.meristem_shape import ShapeModel
from phantomscope.simulate.parameters import (
    LEVELS,
    Background,
    SketchType,
    Tissue,
    Volume,
)
from phantomscope.simulate.wall_fit import Look, Walls, fit_walls, look, wall_mask

Float = NDArray[np.float32]
# The quantile of the walls' light that a wall at the surface has.
SURFACE = 5
# Of a drawing that only tells sizes: px per cluster of candidates.
COARSE = 8.0


def _type(
    diameter: float, cells: Meristem, intensity: Sequence[float],
    background: Background, walls: Walls,
) -> SketchType:  # fmt: skip
    """Describe cells of this mean diameter (px of x), with walls of these lights."""
    depth, height, width = cells.spacing
    side = height / width  # px of y per px of x, in px of x
    radius = max(diameter / 2 / side, 1.0)
    relative = (depth / height, 1.0, width / height)
    voxels = ball_volume(radius, 3) / math.prod(relative)
    same = [1.0] * len(LEVELS)
    return SketchType(
        name="meristem",
        radius=[radius * one for one in same],
        elongation=same,
        intensity=list(intensity),
        density=[1e6 / voxels * one for one in same],
        clustering=1.0,
        overlap=0.0,
        edge=walls.lateral / side,
        background=background,
        volume=Volume(spacing=relative, edge=walls.axial),
        tissue=Tissue(
            cell_diameter=cells.cell_diameter,
            membrane_radius=walls.radius,
            membrane_sides=cells.membrane_sides,
            light=walls.light,
        ),
    )


@lru_cache(maxsize=16)
def _mean_diameter(given: str) -> float:
    """Diameter of the mean cell by the diameter of a cluster of candidates.

    What cells become of clusters depends on the other options; a coarse drawing, with
    eight voxels per cluster, tells.
    """
    cells = Meristem.model_validate_json(given)
    coarse = cells.model_copy(
        update={
            "organ": "block",
            "cell_diameter": COARSE,
            "spacing": (1.0, 1.0, 1.0),
            "rounding_radius": 0.0,
            "membrane_radius": 1.0,
        }
    )
    _, labels = draw_meristem(coarse, (72, 72, 72), generator("published tissue"))
    return cell_diameter(labels) / COARSE


class TissueDrawer:
    """Draws membranes of a meristem, or of tissue that fills the volume."""

    def kind(self, options: Simulate) -> SketchType:
        """Describe the cells as published."""
        cells = options.meristem
        light = [1 - cells.decline * (1 - level) for level in LEVELS]
        diameter = cells.cell_diameter * _mean_diameter(cells.model_dump_json())
        dark = Background(level=0.0, read_noise=0.0)
        walls = Walls(cells.membrane_radius, lateral=0, axial=0, light=1)
        return _type(diameter, cells, light, dark, walls)

    def draw(
        self, options: Simulate, kind: SketchType, rng: np.random.Generator,
        organ: ShapeModel | None = None,
    ) -> tuple[Float, NDArray[Any]]:  # fmt: skip
        """Draw a sketch and its labels."""
        cells = options.meristem
        if options.learns_shape and organ is None:
            raise PhantomscopeError(
                "these sketch parameters name no shape model, but one is to be learnt",
                where="simulate.meristem.shape_model",
                fix="delete sketch.yaml and run the same command again, or use "
                "`built_in`",
            )
        if options.variant != "fitted":
            size = _three(options.size)
            return draw_meristem(cells, size, rng, organ, channels=options.channels)
        if kind.tissue is None or kind.volume is None:
            raise PhantomscopeError(
                f"the parameters of {kind.name} are those of nuclei, not of membranes",
                where="simulate.organism",
                fix="fit them anew with `organism: meristem`",
            )
        tissue = kind.tissue
        cells = cells.model_copy(
            update={
                "cell_diameter": tissue.cell_diameter,
                "membrane_radius": tissue.membrane_radius or cells.membrane_radius,
                "membrane_sides": tissue.membrane_sides or cells.membrane_sides,
                "spacing": per_x(kind.volume.spacing),
            }
        )
        sketch, labels = draw_meristem(cells, _three(options.size), rng, organ)
        light = tissue.light or kind.intensity[SURFACE]
        return finished(sketch * np.float32(light), kind, rng), labels


def per_x(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return a voxel (z, 1, x) that is relative to y as one that is relative to x."""
    depth, _, width = spacing
    return depth / width, 1 / width, 1.0


def _three(size: Sequence[int]) -> tuple[int, int, int]:
    depth, height, width = size
    return depth, height, width


def fit_tissue(
    images: Sequence[Float], options: Fit, simulate: Simulate, seed: int,
    organ: ShapeModel | None = None,
) -> SketchType:  # fmt: skip
    """Fit size of the cells, walls (width, blur, light) and background to images.

    Fitted walls lie in the middle of the borders of their cells, where annotators put
    these, not on one side as the published ones: with walls of 10 px that matters.

    Parameters
    ----------
    images : sequence of ndarray, shape (Z, Y, X)
        Unannotated, unit intensities; bright membranes.
    options : Fit
        The spacing of the voxels.
    simulate : Simulate
        What is not fitted: `meristem`, and the size of the volumes.
    seed : int
        Of the experiment.
    organ : ShapeModel, optional
        Learnt shape of the organ; the built-in dome by default.

    Raises
    ------
    PhantomscopeError
        If no image shows a whole cell.
    """
    spacing = per_x(options.spacing)
    cells = simulate.meristem.model_copy(
        update={"spacing": spacing, "membrane_sides": "both"}
    )
    diameters, looks, lights, backgrounds, problem = [], [], [], [], None
    for image in images:
        inside = None
        if cells.organ == "meristem":
            inside = organ_mask(image, spacing)
        try:
            diameter = estimate_cell_diameter(image, spacing, inside)
        except PhantomscopeError as error:
            problem = error
            continue
        bright = wall_mask(image, diameter, spacing)
        if inside is not None:
            bright &= inside
        model = background_model(
            image, bright.astype(np.int32), diameter / 2, options.spacing
        )
        diameters.append(diameter)
        above = np.asarray(image - model.level, np.float32)
        looks.append(look(above, bright, spacing, inside))
        backgrounds.append(model)
        lights.append(np.maximum(above[bright], 0))
    if not diameters:
        raise problem or PhantomscopeError(
            "there is no image to fit the cells to",
            where="fit",
            fix="give images of membranes",
        )
    diameter = float(np.median(diameters))
    rng = generator(seed, "tissue")
    cells = fitted(cells, diameter, _three(simulate.size), rng, organ)
    light = np.quantile(np.concatenate(lights), LEVELS)
    middle = {
        name: float(np.median([getattr(one, name) for one in backgrounds]))
        for name in ("level", "variation", "read", "gain")
    }
    background = Background(
        level=middle["level"], variation=middle["variation"],
        read_noise=middle["read"], shot_noise=middle["gain"],
    )  # fmt: skip
    seen = Look(*np.median([astuple(one) for one in looks], axis=0).tolist())
    noise = math.hypot(middle["read"], math.sqrt(middle["gain"] * seen.light))
    relative = noise / max(seen.light, noise, 1e-6)
    walls = fit_walls(
        seen, cells, _three(simulate.size), diameter, relative, rng, organ
    )
    return _type(diameter, cells, [float(v) for v in light], background, walls)

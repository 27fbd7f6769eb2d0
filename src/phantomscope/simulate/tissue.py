"""Tissues of membranes as an organism: drawn as published, or fitted to images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from phantomscope.config.meristem import Meristem, Shape3
from phantomscope.config.simulation import Fit, Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.measure.membranes import ball_volume
from phantomscope.measure.morphology import background_model
from phantomscope.simulate.background import finished
from phantomscope.simulate.membrane import membrane_sketch
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

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
# The quantile of the walls' light that a wall at the surface has.
SURFACE = 5
# Of a drawing that only tells sizes: px per cluster of candidates.
COARSE = 8.0
# Blur of fitted walls, px of x.
EDGE = 1.0
# A block of so many voxels (z, y, x) tells how wide walls are.
WALLS = (64, 160, 160)


def _type(
    diameter: float, cells: Meristem, intensity: Sequence[float],
    background: Background, edge: float,
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
        edge=edge,
        background=background,
        volume=Volume(spacing=relative, edge=edge / relative[0]),
        tissue=Tissue(
            cell_diameter=cells.cell_diameter, membrane_radius=cells.membrane_radius
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
        return _type(diameter, cells, light, dark, 0)

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
        radius = kind.tissue.membrane_radius
        cells = cells.model_copy(
            update={
                "cell_diameter": kind.tissue.cell_diameter,
                "membrane_radius": radius or cells.membrane_radius,
                "spacing": per_x(kind.volume.spacing),
            }
        )
        sketch, labels = draw_meristem(cells, _three(options.size), rng, organ)
        return finished(sketch * kind.intensity[SURFACE], kind, rng), labels


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
    """Fit size of the cells, width and light of the walls, background to images.

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
    cells = simulate.meristem.model_copy(update={"spacing": spacing})
    diameters, shares, lights, backgrounds, problem = [], [], [], [], None
    for image in images:
        inside = None
        if cells.organ == "meristem":
            inside = organ_mask(image, spacing)
        try:
            diameter = estimate_cell_diameter(image, spacing, inside)
        except PhantomscopeError as error:
            problem = error
            continue
        walls = _walls(image, diameter, spacing)
        if inside is not None:
            walls &= inside
        model = background_model(
            image, walls.astype(np.int32), diameter / 2, options.spacing
        )
        diameters.append(diameter)
        shares.append(_bright_share(image, inside, spacing))
        backgrounds.append(model)
        lights.append(np.maximum(image[walls] - model.level, 0))
    if not diameters:
        raise problem or PhantomscopeError(
            "there is no image to fit the cells to",
            where="fit",
            fix="give images of membranes",
        )
    diameter = float(np.median(diameters))
    rng = generator(seed, "tissue")
    cells = fitted(cells, diameter, _three(simulate.size), rng, organ)
    share = float(np.median(shares))
    width = _wall_radius(share, cells, _three(simulate.size), diameter, rng, organ)
    cells = cells.model_copy(update={"membrane_radius": width})
    light = np.quantile(np.concatenate(lights), LEVELS)
    middle = {
        name: float(np.median([getattr(one, name) for one in backgrounds]))
        for name in ("level", "variation", "read", "gain")
    }
    background = Background(
        level=middle["level"], variation=middle["variation"],
        read_noise=middle["read"], shot_noise=middle["gain"],
    )  # fmt: skip
    return _type(diameter, cells, [float(v) for v in light], background, EDGE)


def _bright_share(image: Float, inside: Mask | None, spacing: Sequence[float]) -> float:
    """Share of the tissue that is brighter than Otsu's threshold."""
    smooth = ndimage.gaussian_filter(image, tuple(0.7 / np.asarray(spacing)))
    values = smooth if inside is None else smooth[inside]
    return float(np.mean(values > threshold_otsu(values)))


def _wall_radius(
    share: float, cells: Meristem, size: Shape3, diameter: float,
    rng: np.random.Generator, organ: ShapeModel | None,
) -> float:  # fmt: skip
    """Radius with which the drawn walls take this share of the tissue.

    The same threshold tells both shares, so that what it misses of dark walls cancels.
    """
    if cells.organ == "block":  # as many cells as needed, however large the volume
        deep, high, wide = WALLS
        size = min(size[0], deep), min(size[1], high), min(size[2], wide)
    _, labels = draw_meristem(cells, size, rng, organ)
    inside = labels > 0 if cells.organ == "meristem" else None
    thin, thick = 1.0, diameter / 3
    for _ in range(8):
        radius = (thin + thick) / 2
        drawn = membrane_sketch(
            labels, radius, cells.decline, cells.spacing, sides=cells.membrane_sides
        )
        drawn = ndimage.gaussian_filter(drawn, tuple(EDGE / np.asarray(cells.spacing)))
        if _bright_share(drawn, inside, cells.spacing) < share:
            thin = radius
        else:
            thick = radius
    return (thin + thick) / 2


def _walls(image: Float, diameter: float, spacing: Sequence[float]) -> Mask:
    """Voxels brighter than what is around them, at the scale of a cell."""
    voxel = np.asarray(spacing)
    smooth = ndimage.gaussian_filter(image, tuple(0.7 / voxel))
    wide = ndimage.gaussian_filter(smooth, tuple(diameter / 2 / voxel))
    return np.asarray(smooth > wide)

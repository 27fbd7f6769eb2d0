"""Labelled sketches of membranes: a shoot apical meristem, or a block of tissue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.meristem import Channel, Meristem, Shape3
from phantomscope.errors import PhantomscopeError
from phantomscope.images.labels import compact_labels
from phantomscope.simulate.cell_nuclei import nuclei_of_cells
from phantomscope.simulate.membrane import (
    Depth,
    coarse_factors,
    depth_of,
    membrane_sketch,
    surface_depth,
)
from phantomscope.simulate.meristem_cells import (
    block_seeds,
    distance_weights,
    rounded,
    shell_seeds,
    weighted_voronoi,
)
from phantomscope.simulate.meristem_outline import Organ, place_organ, unit_vectors
from phantomscope.simulate.meristem_pieces import in_one_piece
from phantomscope.simulate.meristem_shape import ShapeModel, default_model

__all__ = ["Meristem", "draw_meristem"]


def draw_meristem(
    parameters: Meristem,
    shape: Shape3,
    rng: np.random.Generator,
    model: ShapeModel | None = None,
    channels: Sequence[Channel] = ("membrane",),
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Draw one labelled sketch of a tissue of membranes, perhaps with nuclei.

    Eschweiler & Stegmaier 2023, section 2, and the code published with it: an organ
    from a statistical shape model, seeds of cells in shells, weighted Voronoi labels,
    rounded surface, membranes that darken with depth. The paper's size, 221 x 495 x 511
    voxels, costs 8 s of one core and 0.5 GB beyond the libraries.

    Parameters
    ----------
    parameters : Meristem
        Organ, cells and walls.
    shape : tuple of int
        (Z, Y, X) in voxels.
    rng : Generator
        Source of everything random.
    model : ShapeModel, optional
        Learnt shape; the built-in dome by default.
    channels : sequence of {"membrane", "nuclei"}
        What is seen: walls, nuclei, or both in this order.

    Returns
    -------
    sketch : ndarray, shape (Z, Y, X), or (C, Z, Y, X) with several channels
        float32 in [0, 1]: walls, or nuclei, on a dark ground.
    labels : ndarray, shape (Z, Y, X)
        uint16 (uint32 if there are more cells): 1 ... n without gaps, 0 outside.

    Raises
    ------
    PhantomscopeError
        If the organ that holds the window is smaller than it.
    """
    if parameters.organ == "block":
        return _draw_block(parameters, shape, rng, channels)
    whole = parameters.organ_shape or shape
    if any(w < s for w, s in zip(whole, shape, strict=True)):
        raise PhantomscopeError(
            f"the organ ({whole} voxels) is smaller than the volume ({shape}) that is "
            "to be cut out of it", where="organ_shape",
            fix="make it at least as large in each axis, or leave it empty",
        )  # fmt: skip
    organ, base = _organ(parameters, whole, rng, model or default_model())
    seeds = shell_seeds(organ, base, parameters, rng)
    weights = distance_weights(seeds, parameters, rng)
    start = _window(seeds, parameters, whole, shape, rng)
    mask = organ.mask(shape, parameters.spacing, start)
    labels = compact_labels(
        weighted_voronoi(seeds, weights, mask, parameters.spacing, start)
    )
    del mask
    labels = rounded(labels, parameters.rounding_radius, parameters.spacing)
    labels = _whole(labels, parameters)
    depth = _organ_depth(organ, whole, parameters, start)
    return _sketch(labels, parameters, depth, rng, channels), labels


def _draw_block(
    parameters: Meristem, shape: Shape3, rng: np.random.Generator,
    channels: Sequence[Channel],
) -> tuple[NDArray[np.float32], NDArray[Any]]:  # fmt: skip
    """Fill the volume with cells that its faces cut."""
    z, y, x = (n * s for n, s in zip(shape, parameters.spacing, strict=True))
    seeds = block_seeds((z, y, x), parameters, rng)
    weights = distance_weights(seeds, parameters, rng)
    everywhere = np.ones(shape, bool)
    labels = weighted_voronoi(seeds, weights, everywhere, parameters.spacing)
    labels = _whole(labels, parameters)
    return _sketch(labels, parameters, None, rng, channels), labels


def _whole(labels: NDArray[Any], parameters: Meristem) -> NDArray[Any]:
    """Join fragments to their neighbours, if asked for, and number the cells."""
    return compact_labels(in_one_piece(labels) if parameters.one_piece else labels)


def _sketch(
    labels: NDArray[Any],
    parameters: Meristem,
    depth: Depth | None,
    rng: np.random.Generator,
    channels: Sequence[Channel],
) -> NDArray[np.float32]:
    """Draw the channels of a sketch; one alone has no axis of channels."""
    if depth is None:
        depth = surface_depth(labels, parameters.spacing)
    drawn = []
    if "membrane" in channels:
        drawn.append(
            membrane_sketch(
                labels, parameters.membrane_radius, parameters.decline,
                parameters.spacing, depth=depth, sides=parameters.membrane_sides,
                wall_variation=parameters.wall_variation,
                missing_walls=parameters.missing_walls, blur=parameters.blur, rng=rng,
            )
        )  # fmt: skip
    if "nuclei" in channels:
        drawn.append(
            nuclei_of_cells(
                labels, parameters.nucleus_size, parameters.decline, depth, rng,
                parameters.spacing, blur=parameters.blur,
            )
        )  # fmt: skip
    return drawn[0] if len(drawn) == 1 else np.stack(drawn)


def _organ(
    parameters: Meristem,
    whole: Shape3,
    rng: np.random.Generator,
    model: ShapeModel,
) -> tuple[Organ, bool]:
    """Draw an organ and put it into its volume."""
    radii = model.draw(rng)
    angle = float(rng.uniform(-np.pi, np.pi)) if parameters.rotate else 0.0
    z, y, x = (n * s for n, s in zip(whole, parameters.spacing, strict=True))
    base = model.origin == "base"
    organ = place_organ(
        unit_vectors(model.angles), radii, extent=(z, y, x), base=base,
        fill=parameters.fill, angle=angle, flip=parameters.apex == "first",
    )  # fmt: skip
    return organ, base


def _window(
    seeds: NDArray[np.float64], parameters: Meristem, whole: Shape3,
    shape: Shape3, rng: np.random.Generator,
) -> Shape3:  # fmt: skip
    """First voxel of a window about a random cell, so that it never shows nothing."""
    if whole == shape:
        return 0, 0, 0
    middle = seeds[int(rng.integers(len(seeds)))] / parameters.spacing
    start = np.round(middle - np.asarray(shape) / 2)
    z, y, x = np.clip(start, 0, np.subtract(whole, shape)).astype(int)
    return int(z), int(y), int(x)


def _organ_depth(
    organ: Organ, whole: Shape3, parameters: Meristem, start: Shape3
) -> Depth:
    """Depth in the whole organ, whatever the window shows of its surface."""
    factors = coarse_factors(whole, parameters.spacing)
    z, y, x = (f * s for f, s in zip(factors, parameters.spacing, strict=True))
    a, b, c = (-(-n // f) for n, f in zip(whole, factors, strict=True))
    inside = organ.mask((a, b, c), (z, y, x)).astype(np.float32)
    return Depth(depth_of(inside, (z, y, x)), factors, start)

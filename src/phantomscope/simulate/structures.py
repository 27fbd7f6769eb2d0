"""Microtubules and mitochondria as organisms: labelled sketches of structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.simulation import Simulate
from phantomscope.config.structures import Structures
from phantomscope.simulate.filaments import microtubules
from phantomscope.simulate.meristem_shape import ShapeModel
from phantomscope.simulate.mitochondria import mitochondria
from phantomscope.simulate.parameters import LEVELS, Background, SketchType
from phantomscope.simulate.polylines import Structure
from phantomscope.simulate.raster import label_type
from phantomscope.simulate.tubes import length_map, tube_labels, tube_maps

Float = NDArray[np.float32]
NM = 1000.0  # per um
# Intensity of one filament, and of the middle of one tube: crossings and rims are up
# to twice as bright.
SINGLE = 0.5
# Blur of filaments in px, so that those between two pixels are as bright as others.
BLUR = 0.7


def drawn_structure(
    structure: Structure, options: Structures, kind: Literal["lines", "tubes"]
) -> tuple[Float, NDArray[Any]]:
    """Draw a structure as a sketch with labels.

    Parameters
    ----------
    structure : Structure
        In nm; its field is whole pixels.
    options : Structures
        Pixel and width of labels.
    kind : {"lines", "tubes"}
        Lines that are thinner than a pixel, or tubes whose wall is seen.

    Returns
    -------
    sketch : ndarray, shape (Y, X)
        float32 in [0, 1], dark outside.
    labels : ndarray, shape (Y, X)
        uint16 or uint32, 1 ... n without gaps: one per filament or connected tubes.

    Raises
    ------
    PhantomscopeError
        If the field is no whole number of pixels.
    """
    field, pixel = structure.field, options.pixel
    if kind == "lines":
        radius = options.label_width / 2
        labels = tube_labels(structure.lines, field, pixel, radius)
        sharp = length_map(structure.lines, field, pixel)
        length = ndimage.gaussian_filter(sharp, BLUR)
        # Across a straight line the blur leaves this peak of its length per pixel.
        peak = pixel / (BLUR * np.sqrt(2 * np.pi))
        light = SINGLE * length / peak
    else:
        labels, wall = tube_maps(structure.lines, field, pixel, profile="surface")
        light = SINGLE * wall / 2
    seen, places = np.unique(labels, return_inverse=True)
    places = places.reshape(labels.shape) + int(seen[0] > 0)
    count = int(places.max(initial=0))
    sketch = np.asarray(np.clip(light, 0, 1), np.float32)
    return sketch, places.astype(label_type(count))


@dataclass(frozen=True)
class StructureDrawer:
    """Draws microtubules or mitochondria of a part of a cell."""

    name: Literal["microtubules", "mitochondria"]

    def kind(self, options: Simulate) -> SketchType:
        """Describe filaments or tubes as long, thin objects."""
        given = options.structures
        if self.name == "microtubules":
            density, length = given.filaments.density, given.filaments.length
            half = given.label_width / 2
        else:
            density, length = given.mitochondria.density, given.mitochondria.length
            half = given.mitochondria.radius
        side = 1000 * given.pixel / NM  # um, of a million pixels
        visible = min(length, side) * NM
        # Half the width, not that of a circle of their area: what a measurement of
        # background and edges has to look beyond.
        radius = max(1.0, half / given.pixel)
        same = [1.0] * len(LEVELS)
        return SketchType(
            name=self.name,
            radius=[radius * one for one in same],
            elongation=[max(1.0, visible / (2 * half)) * one for one in same],
            intensity=[SINGLE * one for one in same],
            density=[density * side**2 * NM / visible * one for one in same],
            clustering=0.0,
            overlap=0.0,
            edge=0.0,
            background=Background(level=0.0, read_noise=0.0),
        )

    def draw(
        self, options: Simulate, kind: SketchType, rng: np.random.Generator,
        organ: ShapeModel | None = None,
    ) -> tuple[Float, NDArray[Any]]:  # fmt: skip
        """Draw a sketch and its labels; structures have no organ."""
        given = options.structures
        height, width = (side * given.pixel for side in options.size[-2:])
        if self.name == "microtubules":
            structure = microtubules(given.filaments, (height, width), rng)
            return drawn_structure(structure, given, "lines")
        structure = mitochondria(given.mitochondria, (height, width), rng)
        return drawn_structure(structure, given, "tubes")

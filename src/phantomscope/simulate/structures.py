"""Microtubules and mitochondria as organisms: labelled sketches of structures.

A structure is drawn, or labelled, localised and drawn like a table of molecules. Both
have the same structure and labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.simulation import Simulate
from phantomscope.config.structures import Structures
from phantomscope.images.localisations.filters import Limits
from phantomscope.images.localisations.linking import link
from phantomscope.images.localisations.render import View, render
from phantomscope.images.noise import generator
from phantomscope.images.normalise import intensity_limits
from phantomscope.simulate.blinking import localise, molecules
from phantomscope.simulate.filaments import microtubules
from phantomscope.simulate.labelling import label_structure
from phantomscope.simulate.meristem_shape import ShapeModel
from phantomscope.simulate.mitochondria import mitochondria
from phantomscope.simulate.parameters import LEVELS, Background, SketchType
from phantomscope.simulate.polylines import Structure
from phantomscope.simulate.raster import label_type
from phantomscope.simulate.tubes import grid_of, length_map, tube_labels, tube_maps

Float = NDArray[np.float32]
Name = Literal["microtubules", "mitochondria"]
NM = 1000.0  # per um
# Intensity of one filament, and of the middle of one tube: crossings and rims are up
# to twice as bright.
SINGLE = 0.5
# Blur of filaments in px, so that those between two pixels are as bright as others.
BLUR = 0.7
# Limits of intensity that all sketches share are those of so many pixels, in fields
# whose number has these bounds.
REFERENCE, FEWEST, MOST = 1_000_000, 4, 64


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
    return np.asarray(np.clip(light, 0, 1), np.float32), _without_gaps(labels)


def _without_gaps(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels of the objects that are seen as 1 ... n."""
    seen, places = np.unique(labels, return_inverse=True)
    places = places.reshape(labels.shape) + int(seen[0] > 0)
    return places.astype(label_type(int(places.max(initial=0))))


def structure_labels(
    structure: Structure, options: Structures, kind: Literal["lines", "tubes"]
) -> NDArray[Any]:
    """Return the labels of `drawn_structure` alone."""
    radius = options.label_width / 2 if kind == "lines" else None
    field = structure.field
    return _without_gaps(tube_labels(structure.lines, field, options.pixel, radius))


def drawn_molecules(
    table: pd.DataFrame, field: tuple[float, float], options: Structures
) -> Float:
    """Draw localisations as a real table is drawn.

    Parameters
    ----------
    table : DataFrame
        As `localise` gives it.
    field : tuple of float
        Height and width in nm: whole pixels.
    options : Structures
        Pixel, and in `drawing` filters, linking and kernel.

    Returns
    -------
    ndarray, shape (Y, X)
        float32, molecules (or photons) per pixel.

    Raises
    ------
    PhantomscopeError
        If the field is no whole number of pixels.
    """
    how, shape = options.drawing, grid_of(field, options.pixel)
    kept = Limits.of(how).apply(molecules(table))
    if how.link_nm is not None:
        kept = link(kept, how.link_nm, how.link_gap)
    view = View(0, 0, *shape, options.pixel)
    return render(kept, view, how.render, sigma=how.sigma_nm, weight=how.weight)


@lru_cache(maxsize=16)
def reference_limits(
    name: Name, options: Structures, field: tuple[float, float]
) -> tuple[float, float]:
    """Return the intensities that become 0 and 1 in all sketches of some options.

    They are the percentiles over other structures of the same options, as those of real
    images are over the training part.

    Parameters
    ----------
    name : {"microtubules", "mitochondria"}
        The organism.
    options : Structures
        All of them.
    field : tuple of float
        Height and width of a sketch, nm.

    Returns
    -------
    low, high : float
        Molecules (or photons) per pixel.
    """
    pixels = math.prod(grid_of(field, options.pixel))
    count = min(max(math.ceil(REFERENCE / pixels), FEWEST), MOST)
    drawer = StructureDrawer(name)
    images = []
    for number in range(count):
        rng = generator("limits of intensity", name, number)
        _, table = drawer.localised(options, field, rng)
        images.append(drawn_molecules(table, field, options))
    return intensity_limits(images, options.percentiles)


@dataclass(frozen=True)
class StructureDrawer:
    """Draws microtubules or mitochondria of a part of a cell."""

    name: Name

    @property
    def _drawn_as(self) -> Literal["lines", "tubes"]:
        return "lines" if self.name == "microtubules" else "tubes"

    def structure(
        self, options: Structures, field: tuple[float, float], rng: np.random.Generator
    ) -> Structure:
        """Draw what is to be seen in a field (height, width) in nm."""
        if self.name == "microtubules":
            return microtubules(options.filaments, field, rng)
        return mitochondria(options.mitochondria, field, rng)

    def localised(
        self, options: Structures, field: tuple[float, float], rng: np.random.Generator
    ) -> tuple[Structure, pd.DataFrame]:
        """Draw a structure, label it, and localise its blinking fluorophores.

        Returns
        -------
        structure : Structure
            That of `structure` for the same generator.
        table : DataFrame
            See `localise`.
        """
        found = self.structure(options, field, rng)
        marks = label_structure(found, options.labelling, rng)
        return found, localise(marks, field, options.blinking, rng)

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
        field = height, width
        if given.appearance == "drawn":
            structure = self.structure(given, field, rng)
            return drawn_structure(structure, given, self._drawn_as)
        structure, table = self.localised(given, field, rng)
        image = drawn_molecules(table, field, given)
        if given.scope == "dataset":
            low, high = reference_limits(self.name, given, field)
        else:
            low, high = intensity_limits([image], given.percentiles)
        # As `Normalisation.to_unit`: brighter pixels stay brighter than 1.
        sketch = ((image.astype(np.float64) - low) / (high - low)).astype(np.float32)
        return sketch, self.labels(structure, given)

    def labels(self, structure: Structure, options: Structures) -> NDArray[Any]:
        """Return the labels of a structure: one per filament or connected tubes."""
        return structure_labels(structure, options, self._drawn_as)

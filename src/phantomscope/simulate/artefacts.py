"""Dust and debris in brightfield images: where they lie, and what light they take.

Light that goes through an artefact is what came, times its transmission. Dust lies near
the focal plane: a dark disc with a bright ring, as a small absorbing particle has it.
Debris lies far from it: an ellipse that takes less light, blurred by a Gaussian. All
lengths are in um, so that an artefact is the same at any pixel size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.study import Study
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator

Floats = NDArray[np.float64]
Pixel = tuple[float, float]
# Middle and width (sigma) of the ring of dust, by the radius of the dust.
RING, RING_WIDTH = 1.25, 0.1
# Largest ratio of the axes of debris.
ELONGATION = 1.8
# Standard deviations beyond which nothing of a Gaussian is left.
TAIL = 3.0
# How often a place is sought for an artefact.
TRIES = 2000


@dataclass(frozen=True)
class Artefact:
    """One artefact, before blur.

    Attributes
    ----------
    kind : str
        ``dust`` or ``debris``.
    y, x : float
        Its middle, um from the upper left corner of the image.
    diameter : float
        That of a disc of its area, um.
    absorption : float
        Share of the light that it takes, where nothing is blurred.
    elongation, angle : float
        Ratio of its axes, and how the longer one turns from x to y, in rad.
    ring : float
        Light that its ring adds, by `absorption`.
    blur : float
        Standard deviation of the Gaussian, um.
    """

    kind: str
    y: float
    x: float
    diameter: float
    absorption: float
    elongation: float = 1.0
    angle: float = 0.0
    ring: float = 0.0
    blur: float = 0.0

    @property
    def radius(self) -> float:
        """Half its longer axis, um."""
        return self.diameter / 2 * math.sqrt(self.elongation)

    @property
    def reach(self) -> float:
        """Distance from its middle beyond which it changes nothing, um."""
        ring = (RING + TAIL * RING_WIDTH - 1) * self.radius if self.ring else 0.0
        return self.radius + max(ring, TAIL * self.blur)

    def area(self) -> float:
        """Return its area in um^2."""
        return math.pi * self.diameter**2 / 4


def draw_artefacts(
    extent: tuple[float, float], options: Study, seed: int, identifier: str
) -> list[Artefact]:
    """Draw the artefacts of an image: the same for the same seed and id.

    Parameters
    ----------
    extent : tuple of float
        Height and width of the image in um.
    options : Study
        Kinds, number, sizes.
    seed : int
        Seed of the experiment.
    identifier : str
        Image id.

    Returns
    -------
    list of Artefact
        The largest first. None reaches another one, or the edge of the image.

    Raises
    ------
    PhantomscopeError
        If they do not fit into the image.
    """
    random = generator(seed, "artefacts", identifier)
    drawn = [
        _drawn(kind, options, random)
        for kind in ("debris", "dust")
        if kind in options.artefacts
        for _ in range(options.number)
    ]
    drawn.sort(key=lambda one: -one.reach)
    placed: list[Artefact] = []
    for one in drawn:
        placed.append(_placed(one, placed, extent, random))
    return placed


def _drawn(kind: str, options: Study, random: np.random.Generator) -> Artefact:
    size, depth, longer, turn = random.random(4)
    low, high = options.debris_um if kind == "debris" else options.dust_um
    least, most = (
        options.debris_absorption if kind == "debris" else options.dust_absorption
    )
    shared = {"diameter": low + size * (high - low),
              "absorption": least + depth * (most - least)}  # fmt: skip
    if kind == "dust":
        return Artefact(kind, 0, 0, **shared, ring=options.dust_ring)
    return Artefact(
        kind, 0, 0, **shared, elongation=1 + longer * (ELONGATION - 1),
        angle=math.pi * turn, blur=options.debris_blur_um,
    )  # fmt: skip


def _placed(
    one: Artefact, others: Sequence[Artefact], extent: tuple[float, float],
    random: np.random.Generator,
) -> Artefact:  # fmt: skip
    """Find a place for an artefact where it reaches nothing else."""
    room = [length - 2 * one.reach for length in extent]
    for _ in range(TRIES if min(room) > 0 else 0):
        y, x = (one.reach + part * free
                for part, free in zip(random.random(2), room, strict=True))  # fmt: skip
        if all(
            math.hypot(y - o.y, x - o.x) >= one.reach + o.reach for o in others
        ):  # fmt: skip
            return Artefact(**{**vars(one), "y": y, "x": x})
    height, width = extent
    raise PhantomscopeError(
        f"{one.kind} of {one.diameter:.1f} um, which reaches {one.reach:.1f} um far, "
        f"finds no place in an image of {height:.0f} x {width:.0f} um beside "
        f"{len(others)} others",
        where="translate.study",
        fix="plant fewer or smaller artefacts",
        example="translate:\n  study: {number: 1, debris_um: [5, 10]}",
    )


def _axes(
    one: Artefact, shape: Sequence[int], pixel: Pixel
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return distances of pixel centres along both axes of an artefact, um."""
    y = ((np.arange(shape[0]) + 0.5) * pixel[0] - one.y)[:, None]
    x = ((np.arange(shape[1]) + 0.5) * pixel[1] - one.x)[None]
    cos, sin = math.cos(one.angle), math.sin(one.angle)
    return cos * x + sin * y, cos * y - sin * x


def _relative(one: Artefact, shape: Sequence[int], pixel: Pixel) -> Floats:
    """Return how far pixels are from the middle: 1 at the edge of the artefact."""
    along, across = _axes(one, shape, pixel)
    stretch = math.sqrt(one.elongation)
    half = one.diameter / 2
    found: Floats = np.hypot(along / (half * stretch), across * stretch / half)
    return found


def transmission(
    artefacts: Sequence[Artefact], shape: Sequence[int], pixel: Pixel
) -> Floats:
    """Return the share of the light that gets through.

    Parameters
    ----------
    artefacts : sequence of Artefact
        As `draw_artefacts` gives them.
    shape : sequence of int
        (Y, X) of the image.
    pixel : tuple of float
        Size of a pixel along y and x, um.

    Returns
    -------
    ndarray, shape (Y, X)
        1 where nothing lies, at least 0, above 1 in the ring of dust.
    """
    through = np.ones(shape)
    for one in artefacts:
        rho = _relative(one, shape, pixel)
        # The edge is as wide as a pixel: the area is right at any size.
        sharp = one.diameter / 2 / math.sqrt(pixel[0] * pixel[1])
        cover = np.clip((1 - rho) * sharp + 0.5, 0, 1)
        if one.blur:
            sigma = [one.blur / side for side in pixel]
            cover = ndimage.gaussian_filter(cover, sigma, truncate=TAIL)
        taken = one.absorption * cover
        if one.ring:
            bell = np.exp(-(((rho - RING) / RING_WIDTH) ** 2) / 2)
            taken -= one.absorption * one.ring * bell * (1 - cover)
        # Of tails beyond the reach nothing is left; a sharp edge is as wide as a pixel.
        near = distances(one, shape, pixel) <= one.reach + max(pixel)
        through *= np.where(near, 1 - taken, 1)
    return through


def artefact_labels(
    artefacts: Sequence[Artefact], shape: Sequence[int], pixel: Pixel
) -> NDArray[np.uint16]:
    """Label the pixels whose centres lie in an artefact, before blur.

    Parameters
    ----------
    artefacts, shape, pixel
        As in `transmission`.

    Returns
    -------
    ndarray, shape (Y, X)
        0, or 1 + the place in `artefacts`. Each has one pixel at least.
    """
    labels = np.zeros(shape, np.uint16)
    for number, one in enumerate(artefacts, 1):
        rho = _relative(one, shape, pixel)
        labels[(rho <= 1) | (rho == rho.min())] = number
    return labels


def distances(one: Artefact, shape: Sequence[int], pixel: Pixel) -> Floats:
    """Return the distance of each pixel from the middle of an artefact, um."""
    along, across = _axes(one, shape, pixel)
    found: Floats = np.hypot(along, across)
    return found


def planted(image: NDArray[Any], through: Floats) -> NDArray[np.float32]:
    """Let the light of an image, shape ([C,] Y, X), go through artefacts."""
    found: NDArray[np.float32] = (image * through).astype(np.float32)
    return found

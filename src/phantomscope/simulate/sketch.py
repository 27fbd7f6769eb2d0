"""Labelled sketches of nuclei: placement, intensities, nucleoli, background."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.simulation import Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.background import finished
from phantomscope.simulate.organisms import Plan, nucleoli
from phantomscope.simulate.parameters import SketchParameters, SketchType, quantile
from phantomscope.simulate.raster import Nuclei
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.shapes import foreground_region, nucleus_mask, smooth_field
from phantomscope.simulate.volume import draw_volume, without_slivers

Mask = NDArray[np.bool_]
TRIES = 40


@dataclass
class _Canvas:
    """A drawing larger than the image, so that nuclei are cut by its edges."""

    labels: NDArray[np.int32]
    light: NDArray[np.float64]
    allowed: Mask
    centres: list[tuple[float, float, float]] = field(default_factory=list)

    @classmethod
    def of(
        cls, kind: SketchType, options: Simulate, shape: tuple[int, int],
        rng: np.random.Generator,
    ) -> _Canvas:  # fmt: skip
        """Make an empty canvas of this shape."""
        allowed = foreground_region(rng, shape, options.foreground, kind.radius[3])
        return cls(np.zeros(shape, np.int32), np.zeros(shape), allowed)

    def window(self, centre: tuple[int, int], mask: Mask) -> tuple[slice, slice] | None:
        half = mask.shape[0] // 2
        y, x = centre[0] - half, centre[1] - half
        inside = (
            min(y, x) >= 0
            and y + mask.shape[0] <= self.labels.shape[0]
            and x + mask.shape[1] <= self.labels.shape[1]
        )
        return (
            (slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1]))
            if inside
            else None
        )

    def covered(self, window: tuple[slice, slice], mask: Mask) -> float:
        """Largest share of the new or of an old nucleus that would be covered."""
        under = self.labels[window][mask]
        if not under.any():
            return 0.0
        shared = np.bincount(under[under > 0])
        hit = np.flatnonzero(shared)
        sizes = np.array([self.centres[i - 1][2] ** 2 * np.pi for i in hit])
        return float(max(shared.sum() / mask.sum(), (shared[hit] / sizes).max()))

    def add(
        self,
        window: tuple[slice, slice],
        mask: Mask,
        light: NDArray[np.float64],
        radius: float,
    ) -> None:
        """Draw a nucleus: light adds up, the later label wins."""
        centre = [(w.start + w.stop - 1) / 2 for w in window]
        self.centres.append((centre[0], centre[1], radius))
        self.labels[window][mask] = len(self.centres)
        self.light[window][mask] += light[mask]


def _candidate(
    canvas: _Canvas, rng: np.random.Generator, radius: float, clustered: bool
) -> tuple[int, int]:
    """Draw a centre: anywhere, or beside a nucleus that is already there."""
    height, width = canvas.labels.shape
    if clustered and canvas.centres:
        y, x, other = canvas.centres[int(rng.integers(len(canvas.centres)))]
        angle = rng.uniform(0, 2 * np.pi)
        reach = (radius + other) * rng.uniform(0.75, 1.1)
        return round(y + reach * np.sin(angle)), round(x + reach * np.cos(angle))
    return int(rng.integers(height)), int(rng.integers(width))


def _free(
    canvas: _Canvas, centre: tuple[int, int], radius: float, limit: float
) -> bool:
    """Apply the paper's rule: no other centre closer than twice the largest radius."""
    if not canvas.centres:
        return True
    placed = np.asarray(canvas.centres)[:, :2]
    distance = np.hypot(*(placed - centre).T)
    return bool(distance.min() >= 2 * max(radius, limit))


def _light(
    rng: np.random.Generator,
    mask: Mask,
    intensity: float,
    radius: float,
    options: Simulate,
) -> NDArray[np.float64]:
    """Intensity of one nucleus: grey, with nucleoli and perhaps a smooth texture."""
    light = np.full(mask.shape, intensity)
    if options.texture > 0:
        scale = max(2.0, radius / 2)
        light *= 1 + options.texture * smooth_field(rng, (mask.shape[0],) * 2, scale)
    half = mask.shape[0] // 2
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    low, high = options.nucleoli
    for _ in range(int(rng.integers(low, high + 1))):
        size = rng.uniform(0.12, 0.22) * radius
        angle, place = rng.uniform(0, 2 * np.pi), radius * 0.5 * np.sqrt(rng.uniform())
        dy, dx = place * np.sin(angle), place * np.cos(angle)
        hole = (y - half - dy) ** 2 + (x - half - dx) ** 2 <= size**2
        light[hole] *= rng.uniform(*options.nucleolus_contrast)
    return np.asarray(np.maximum(light, 0))


def _place(
    canvas: _Canvas,
    rng: np.random.Generator,
    kind: SketchType,
    options: Simulate,
) -> NDArray[np.float64]:
    """Place nuclei until the number is reached or nothing fits any more.

    Returns radius, elongation and intensity of those that are placed, shape (n, 3).
    """
    density = float(quantile(kind.density, rng.uniform()))
    count = max(int(rng.poisson(density * canvas.allowed.sum() / 1e6)), 1)
    nuclei = kind.draw(rng, count)
    if options.intensity_jitter:
        spread = np.exp(options.intensity_jitter * rng.standard_normal(count))
        nuclei[:, 2] *= spread
    largest = float(nuclei[:, 0].max(initial=1.0))
    placed = []
    for n, (radius, elongation, intensity) in enumerate(nuclei):
        mask = nucleus_mask(rng, radius, elongation, options.deformation)
        clustered = bool(rng.uniform() < kind.clustering)
        apart = options.placement == "non_overlapping"
        for _ in range(TRIES):
            centre = _candidate(canvas, rng, radius, clustered and not apart)
            window = canvas.window(centre, mask)
            if window is None or not canvas.allowed[centre]:
                continue
            if apart and not _free(canvas, centre, radius, largest):
                continue
            allowed = options.largest_overlap(kind.overlap)
            allowed = allowed if clustered and not apart else 0.0
            if canvas.covered(window, mask) <= allowed:
                light = _light(rng, mask, intensity, radius, options)
                canvas.add(window, mask, light, radius)
                placed.append(n)
                break
    return np.asarray(nuclei[placed])


def draw_sketch(
    kind: SketchType,
    options: Simulate,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Draw one labelled sketch.

    Parameters
    ----------
    kind : SketchType
        Fitted parameters.
    options : Simulate
        Placement, foreground, deformation, nucleoli.
    shape : tuple of int
        Height and width in px.
    rng : Generator
        Source of everything random.

    Returns
    -------
    sketch : ndarray, shape (Y, X)
        float32, unit intensities, with soft edges and without noise.
    labels : ndarray, shape (Y, X)
        uint16, 1 ... n without gaps.
    """
    margin = int(np.ceil(kind.radius[-1] * np.sqrt(kind.elongation[-1]))) + 2
    full = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    canvas = _Canvas.of(kind, options, full, rng)
    _place(canvas, rng, kind, options)
    inner = (slice(margin, -margin),) * 2
    return finished(canvas.light, kind, rng)[inner], without_slivers(
        canvas.labels[inner]
    )


def plan_fitted(
    kind: SketchType, options: Simulate, shape: tuple[int, int],
    rng: np.random.Generator,
) -> Plan:  # fmt: skip
    """Plan nuclei with fitted parameters, placed as `draw_sketch` places them.

    Parameters
    ----------
    kind, options, shape, rng
        As of `draw_sketch`; nothing lies beyond `shape`.

    Returns
    -------
    Plan
        As many as are placed; each has an angle, a bend and nucleoli of its own.
    """
    canvas = _Canvas.of(kind, options, shape, rng)
    radius, elongation, intensity = _place(canvas, rng, kind, options).T
    count, root = len(radius), np.sqrt(elongation)
    places = np.asarray(canvas.centres).reshape(count, 3)[:, :2]
    centres = np.concatenate([np.zeros((count, 1)), np.rint(places)], axis=1)
    axes = np.stack([np.ones(count), radius / root, radius * root], axis=1)
    side = int(3 * np.ceil(axes[:, 1:].max(initial=1.0))) | 1
    # The box is common, but a nucleus is bent relative to its own patch.
    patch = 2 * np.ceil(axes[:, 2] * (1 + 3 * options.deformation)) + 3
    bend = rng.uniform(-1, 1, (count, 2, 3, 3)) * options.deformation
    nuclei = Nuclei(
        centres.astype(np.int64), axes, rng.uniform(0, 360, count), intensity,
        bend * (patch / side)[:, None, None, None],
        nucleoli(radius, rng, options.nucleoli, options.nucleolus_contrast),
    )  # fmt: skip
    return Plan(nuclei, (1, side, side))


def sketch_identifier(index: int) -> str:
    """Id of the sketch with this number."""
    return f"sketch-{index:06d}"


def choose_type(
    parameters: SketchParameters, options: Simulate, rng: np.random.Generator
) -> SketchType:
    """Return what an organism's own objects are like, or one of the fitted types."""
    if options.organism != "fitted" and options.variant != "fitted":
        return drawer_of(options.organism).kind(options)
    weights = np.array([t.weight for t in parameters.types])
    return parameters.types[int(rng.choice(len(weights), p=weights / weights.sum()))]


def simulate_sketch(
    parameters: SketchParameters, options: Simulate, seed: int, index: int
) -> tuple[NDArray[np.float32], NDArray[Any], SketchType]:
    """Draw the still sketch with this number: a pure function of (seed, index).

    Parameters
    ----------
    parameters : SketchParameters
        Fitted ones; for an organism as in the paper or its code only a learnt shape
        of the organ counts.
    options : Simulate
        Organism, variant, size and the rest.
    seed, index : int
        Of the experiment, and the number of the sketch.

    Returns
    -------
    sketch : ndarray, shape ([Z,] Y, X)
        float32, unit intensities.
    labels : ndarray, shape ([Z,] Y, X)
        uint16, or uint32 with more than 65535 objects; 1 ... n without gaps.
    kind : SketchType
        What the objects are like.

    Raises
    ------
    PhantomscopeError
        If there is no simulator of this organism, or the parameters were fitted to
        images of other dimensions.
    """
    rng = generator(seed, "sketch", index)
    kind = choose_type(parameters, options, rng)
    if options.organism != "fitted":
        drawer = drawer_of(options.organism)
        return *drawer.draw(options, kind, rng, parameters.organ), kind
    return *draw_fitted(kind, options, options.size, rng), kind


def draw_fitted(
    kind: SketchType, options: Simulate, shape: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[Any]]:  # fmt: skip
    """Draw an image or a volume with fitted parameters."""
    check_dimensions(kind, shape)
    if len(shape) == 3:
        return draw_volume(kind, options, (shape[0], shape[1], shape[2]), rng)
    return draw_sketch(kind, options, (shape[0], shape[1]), rng)


def check_dimensions(kind: SketchType, shape: tuple[int, ...]) -> None:
    """Make sure that fitted parameters are those of images, or of volumes.

    Raises
    ------
    PhantomscopeError
        If `shape` has another number of dimensions.
    """
    if (len(shape) == 3) != (kind.volume is not None):
        raise PhantomscopeError(
            f"sketches of {len(shape)} dimensions were asked for, but the parameters "
            f"of {kind.name} are of {3 if kind.volume else 2}",
            where="simulate.size",
            fix="give `size` as many numbers as the images have dimensions: height and "
            "width, or depth, height and width",
        )


def camera(
    sketch: NDArray[np.float32], kind: SketchType, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Add the fitted camera noise to a sketch: read noise and shot noise.

    The variance is read_noise^2 + shot_noise x intensity. This is the arm without
    diffusion: sketches as a simple camera would see them.
    """
    seen = np.empty(sketch.shape, np.float32)
    # By planes: the noise of a whole volume takes twice its memory.
    planes = sketch if sketch.ndim == 3 else sketch[None]
    for plane, target in zip(planes, seen.reshape(planes.shape), strict=True):
        signal = np.maximum(plane, 0)
        background = kind.background
        sd = np.sqrt(background.read_noise**2 + background.shot_noise * signal)
        target[:] = plane + sd * rng.standard_normal(plane.shape)
    return seen

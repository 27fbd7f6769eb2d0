"""Sketch parameters from unannotated images.

The images are segmented classically and measured; sketches drawn with the measured
parameters are segmented and measured in the very same way; what differs is corrected.
So the bias of measuring (touching nuclei taken for one, faint ones missed) cancels.
Volumes likewise, by parts of them (`subvolumes`), in px of y (`Fit.spacing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from phantomscope.config.simulation import Fit, Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate.measured import (
    SHAPES,
    Measured,
    distance,
    measure_images,
    quantiles,
    typical_size,
)
from phantomscope.simulate.parameters import (
    Background,
    Correlation,
    SketchType,
    Volume,
)
from phantomscope.simulate.registry import drawer_of
from phantomscope.simulate.sketch import camera, draw_fitted

Image = NDArray[np.floating[Any]]


def _first_guess(
    name: str, weight: float, measured: Measured, spacing: tuple[float, float, float]
) -> SketchType:
    objects = measured.objects
    if len(objects) < 5:
        raise PhantomscopeError(
            f"only {len(objects)} whole objects were found in the training images of "
            f"type {name}",
            where="fit",
            fix="give more or larger images, set `fit.min_diameter` and "
            "`fit.max_diameter`, or write the parameters yourself (`fit.parameters`)",
        )
    # In pure noise there are blobs as well, but within its standard deviation.
    if float(objects["intensity"].median()) < measured.background.read:
        raise PhantomscopeError(
            f"no object stands out from the noise in the images of type {name}",
            where="fit",
            fix="check `source.channel` and the images, or give `fit.parameters`",
        )
    rank = scipy.stats.spearmanr(objects[list(SHAPES)]).statistic
    rank = np.clip(np.nan_to_num(rank), -0.9, 0.9)
    background = measured.background
    return SketchType(
        name=name,
        weight=weight,
        radius=quantiles(objects["radius"]),
        elongation=quantiles(objects["elongation"]),
        intensity=quantiles(objects["intensity"]),
        correlation=Correlation(
            radius_elongation=float(rank[0, 1]),
            radius_intensity=float(rank[0, 2]),
            elongation_intensity=float(rank[1, 2]),
        ),
        density=quantiles(measured.density),
        clustering=float(np.clip(measured.touching, 0, 0.95)),
        edge=float(np.clip(measured.edge, 0, 20)),
        background=Background(
            level=background.level,
            variation=background.variation,
            read_noise=background.read,
            shot_noise=background.gain,
        ),
        volume=None if measured.edge_axial is None else Volume(
            spacing=spacing,
            axial=float(np.clip(measured.axial, 0.2, 5)),
            edge=float(np.clip(measured.edge_axial, 0, 20)),
        ),
    )  # fmt: skip


def _part(
    sketch: NDArray[np.float32], shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Cut a part of at most this shape at a random place."""
    window = []
    for full, side in zip(sketch.shape, shape, strict=True):
        first = int(rng.integers(max(full - side, 0) + 1))
        window.append(slice(first, first + side))
    return np.ascontiguousarray(sketch[tuple(window)])


def _simulated(
    kind: SketchType, simulate: Simulate, shapes: Sequence[tuple[int, ...]], seed: int
) -> list[Image]:
    """Sketches of this type as the camera sees them, one per shape.

    Of an organism whole sketches are drawn, and parts of them seen.
    """
    images = []
    for index, shape in enumerate(shapes):
        rng = generator(seed, "calibration", kind.name, index)
        if simulate.organism == "fitted":
            sketch, _ = draw_fitted(kind, simulate, shape, rng)
        else:
            sketch, _ = drawer_of(simulate.organism).draw(simulate, kind, rng)
            sketch = _part(sketch, shape, rng)
        images.append(camera(sketch, kind, rng))
    return images


def _moved(values: list[float], wanted: Any, got: Any, name: str) -> list[float]:
    """Shift and stretch quantiles in the logarithm by what the measurement is off.

    Two numbers, not seven: single quantiles of a few hundred objects are too noisy to
    be corrected one by one.
    """
    base = 1.0 if name == "elongation" else 0.0
    logs = np.log(np.maximum(np.asarray(values) - base, 1e-3))
    real, drawn = (
        np.log(np.maximum(np.asarray(quantiles(v)) - base, 1e-3)) for v in (wanted, got)
    )
    shift = np.clip(0.8 * (real[3] - drawn[3]), -0.4, 0.4)
    stretch = np.clip((real[5] - real[1]) / max(drawn[5] - drawn[1], 1e-3), 0.67, 1.5)
    moved = base + np.exp(logs[3] + shift + (logs - logs[3]) * np.sqrt(stretch))
    least = 1.0 if name in ("elongation", "radius") else 0.0
    return [float(v) for v in np.maximum(moved, least)]


def _corrected(kind: SketchType, real: Measured, drawn: Measured) -> SketchType:
    """Move each parameter by what the measurement of its own sketches is off."""

    def ratio(a: float, b: float, most: float = 1.5) -> float:
        return float(np.clip(a / b if b > 0 else most, 1 / most, most))

    changed: dict[str, Any] = {}
    for name in SHAPES:
        if len(drawn.objects) >= 5:
            wanted, got = real.objects[name], drawn.objects[name]
            changed[name] = _moved(getattr(kind, name), wanted, got, name)
    factor = ratio(float(real.density.mean()), float(drawn.density.mean()))
    changed["density"] = [v * factor for v in kind.density]
    shift = 0.8 * (real.touching - drawn.touching)
    changed["clustering"] = float(np.clip(kind.clustering + shift, 0.0, 0.95))
    changed["edge"] = float(np.clip(kind.edge * ratio(real.edge, drawn.edge), 0, 20))
    slow = kind.background.variation * ratio(
        real.background.variation, drawn.background.variation, 2.0
    )
    read = kind.background.read_noise * ratio(
        real.background.read, drawn.background.read
    )
    level = kind.background.level + real.background.level - drawn.background.level
    changed["background"] = kind.background.model_dump() | {
        "variation": slow, "read_noise": read, "level": level
    }  # fmt: skip
    if kind.volume is not None:
        changed["volume"] = _corrected_volume(kind.volume, real, drawn)
    return SketchType.model_validate(kind.model_dump() | changed)


def _corrected_volume(volume: Volume, real: Measured, drawn: Measured) -> Any:
    """Move what only volumes have."""
    edge, axial = volume.edge, volume.axial
    if real.edge_axial is not None and drawn.edge_axial:
        edge *= float(np.clip(real.edge_axial / drawn.edge_axial, 0.67, 1.5))
    if len(drawn.objects) >= 5:
        axial *= float(np.clip(real.axial / drawn.axial, 0.67, 1.5))
    changed = {"edge": np.clip(edge, 0, 20), "axial": np.clip(axial, 0.2, 5)}
    return volume.model_dump() | changed


@dataclass(frozen=True)
class FitResult:
    """Fitted parameters of one type, and how well their sketches measure."""

    kind: SketchType
    real: Measured
    drawn: Measured
    distances: list[float]


def fit_type(
    name: str, weight: float, images: Sequence[Image], options: Fit, simulate: Simulate,
    seed: int,
) -> FitResult:  # fmt: skip
    """Fit one type of image.

    Parameters
    ----------
    name : str
        Name of the type.
    weight : float
        Its share among the simulated images.
    images : sequence of ndarray, shape ([Z,] Y, X)
        Unit intensities, unannotated; of volumes parts.
    options, simulate : Fit, Simulate
        Options of the config.
    seed : int
        Seed of the calibration's sketches.
    """
    radius = typical_size(images, options)
    real = measure_images(images, radius, options)
    kind = _first_guess(name, weight, real, options.spacing)
    # Sketches at the images' own sizes, as many as give some 600 objects (of volumes,
    # which take longer, 300).
    per_image = max(len(real.objects) / len(images), 1.0)
    enough = 600 if kind.volume is None else 300
    count = min(int(np.ceil(enough / per_image)), 4 * len(images))
    shapes = [images[n % len(images)].shape for n in range(count)]
    best: FitResult | None = None
    distances: list[float] = []
    for _ in range(options.calibration_rounds + 1):
        drawn = measure_images(
            _simulated(kind, simulate, shapes, seed), radius, options
        )
        distances.append(distance(real, drawn))
        if best is None or distances[-1] <= min(distances):
            best = FitResult(kind, real, drawn, distances)
        if len(drawn.objects) < 5:
            break
        kind = _corrected(kind, real, drawn)
    assert best is not None
    return best


def compare_type(
    kind: SketchType,
    images: Sequence[Image],
    options: Fit,
    simulate: Simulate,
    seed: int,
) -> FitResult:
    """Measure images and the sketches of given parameters, without fitting."""
    radius = kind.radius[3]
    real = measure_images(images, radius, options)
    drawn_images = _simulated(kind, simulate, [i.shape for i in images], seed)
    drawn = measure_images(drawn_images, radius, options)
    return FitResult(kind, real, drawn, [distance(real, drawn)])


def fit_parameters(
    groups: Mapping[str, Sequence[Image]],
    weights: Mapping[str, float],
    options: Fit,
    simulate: Simulate,
    seed: int,
) -> tuple[list[FitResult], dict[str, str]]:
    """Fit all types of image.

    Parameters
    ----------
    groups : Mapping
        Images in unit intensities by the name of their type.
    weights : Mapping
        Share of each type among the simulated images.
    options, simulate : Fit, Simulate
        Options of the config.
    seed : int
        Seed of the calibration's sketches.

    Returns
    -------
    results : list of FitResult
        One per type that could be fitted.
    skipped : dict
        Name of each other type, and why: tissue in which no single objects stand out
        cannot be imitated, but must not stop the rest.

    Raises
    ------
    PhantomscopeError
        If no type can be fitted.
    """
    results, skipped = [], {}
    for name, images in groups.items():
        try:
            kind = fit_type(name, weights[name], images, options, simulate, seed)
        except PhantomscopeError as error:
            if len(groups) == 1:
                raise
            skipped[name] = error.what
        else:
            results.append(kind)
    if not results:
        raise PhantomscopeError(
            "no type of image could be fitted: " + "; ".join(skipped.values()),
            where="fit",
            fix="give `fit.min_diameter` and `fit.max_diameter`, or write the "
            "parameters yourself (`fit.parameters`)",
        )
    return results, skipped

"""What the classical segmentation sees in images, real or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.simulation import Fit
from phantomscope.errors import PhantomscopeError
from phantomscope.measure import morphology
from phantomscope.simulate.parameters import LEVELS

Image = NDArray[np.floating[Any]]
SHAPES = ("radius", "elongation", "intensity")


@dataclass(frozen=True)
class Measured:
    """What the classical segmentation sees in some images.

    Attributes
    ----------
    objects : DataFrame
        Whole objects of plausible shape: radius, elongation, intensity (above the
        background).
    density : ndarray, shape (images,)
        Objects per million pixels or voxels.
    coverage : float
        Share of the foreground.
    touching : float
        Share of the objects that touch another.
    edge : float
        Blur of the edges in px.
    background : BackgroundModel
        Median over the images.
    edge_axial : float, optional
        Of volumes: blur along z in planes.
    """

    objects: pd.DataFrame
    density: NDArray[np.float64]
    coverage: float
    touching: float
    edge: float
    background: morphology.BackgroundModel
    edge_axial: float | None = None

    @property
    def axial(self) -> float:
        """Typical extent of an object along z by that in the plane."""
        return float(self.objects["axial"].median())


def typical_size(images: Sequence[Image], options: Fit) -> float:
    """Return the typical object radius over all images, within what the user allows."""
    spacing, threshold = options.spacing, _threshold(images, options)
    masks = (
        morphology.foreground_mask(u, spacing=spacing, threshold=threshold)
        for u in images
    )
    found = [morphology.typical_radius(mask, spacing) for mask in masks]
    found = [r for r in found if r > 0]
    if not found:
        raise PhantomscopeError(
            "no object stands out from the background in the training images",
            where="fit",
            fix="check `source.channel` and the images, or give `fit.parameters`",
        )
    low = (options.min_diameter or 0) / 2
    high = (options.max_diameter or np.inf) / 2
    return float(np.clip(np.median(found), low, high))


def _threshold(images: Sequence[Image], options: Fit) -> float | None:
    """One threshold for all parts of volumes, since some may be empty."""
    if images[0].ndim == 2:
        return None
    return morphology.shared_threshold(images, spacing=options.spacing)


def measure_images(images: Sequence[Image], radius: float, options: Fit) -> Measured:
    """Segment and measure images in unit intensities, each of shape ([Z,] Y, X)."""
    tables, density, edges, axial, backgrounds = [], [], [], [], []
    covered = touching = count = 0.0
    spacing, threshold = options.spacing, _threshold(images, options)
    deep = images[0].ndim == 3
    # Solidity of smooth objects, and of what is one object: two touching discs have
    # 0.88, two touching balls (by moments) 0.82, real nuclei of volumes around 0.9.
    smooth, whole_above = (0.88, 0.85) if deep else (0.93, 0.9)
    for image in images:
        labels = morphology.segment(image, radius, spacing, threshold)
        table = morphology.object_table(labels, image, spacing)
        background = morphology.background_model(image, labels, radius, spacing)
        table["intensity"] -= background.level
        solid = np.isin(labels, table["label"][table["solidity"] > smooth])
        sharp = np.where(solid, labels, 0)
        if not deep or sharp.any():
            edges.append(morphology.edge_softness(image, sharp, spacing=spacing))
        if deep and sharp.any():
            axial.append(morphology.edge_softness(image, sharp, axial=True))
        backgrounds.append(background)
        density.append(len(table) / image.size * 1e6)
        covered += float((labels > 0).mean())
        touching += float(table["neighbours"].sum())
        count += len(table)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    low = (options.min_diameter or 0) / 2
    high = (options.max_diameter or np.inf) / 2
    whole = (
        ~table["border"] & (table["solidity"] > whole_above) & (table["intensity"] > 0)
    )
    whole &= table["radius"].between(max(low, 1.5), high)
    middle = [
        float(np.median([getattr(b, name) for b in backgrounds]))
        for name in ("level", "variation", "read", "gain")
    ]
    return Measured(
        table[whole],
        np.asarray(density),
        covered / len(images),
        touching / max(count, 1.0),
        float(np.median(edges)) if edges else 1.0,
        morphology.BackgroundModel(*middle),
        (float(np.median(axial)) if axial else 0.5) if deep else None,
    )


def quantiles(values: Any) -> list[float]:
    """Return the seven quantiles of sketch parameters."""
    return [float(v) for v in np.quantile(values, LEVELS)]


def distance(real: Measured, drawn: Measured) -> float:
    """Mean log ratio of what was measured: 0 when sketches measure like the images."""
    pairs = [
        (real.density.mean(), drawn.density.mean()),
        (real.coverage, drawn.coverage),
        (real.edge, drawn.edge),
        (0.05 + real.touching, 0.05 + drawn.touching),
    ]
    if real.edge_axial is not None and drawn.edge_axial is not None:
        pairs.append((real.edge_axial, drawn.edge_axial))
    for name in SHAPES:
        if len(drawn.objects):
            wanted, got = real.objects[name], drawn.objects[name]
            pairs += list(zip(quantiles(wanted), quantiles(got), strict=True))
    logs = [abs(np.log(max(a, 1e-6) / max(b, 1e-6))) for a, b in pairs]
    return float(np.mean(logs))

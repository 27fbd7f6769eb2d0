"""Annotated images beside the sketches of their annotation, and how alike images are.

For measurements only; what leads to synthetic images opens its images by
`phantomscope.stages.data.unannotated`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.config.appearance import Appearance
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.labels import compact_labels
from phantomscope.images.normalise import Normalisation
from phantomscope.measure.distribution import bhattacharyya_distance, shared_histograms
from phantomscope.measure.fidelity import check_fidelity
from phantomscope.measure.image import similarity
from phantomscope.measure.membranes import ball_radius
from phantomscope.measure.spectral import spectral_distance
from phantomscope.simulate.annotated import (
    annotated_membranes,
    annotated_sketch,
    crop_annotated,
    stack_slice,
)

Float = NDArray[np.float32]
FIDELITY = ("f1", "dice", "phantoms")
METRICS = ("psnr", "ssim", "mae", "bd_intensity", "bd_texture", "spectrum", *FIDELITY)


@dataclass(frozen=True)
class Annotated:
    """An annotated image and its sketch.

    Attributes
    ----------
    identifier, group : str
        Of the manifest.
    image, sketch : ndarray, shape ([Z,] Y, X)
        float32, unit intensities.
    labels : ndarray, shape ([Z,] Y, X)
        Annotation; 0 is background.
    radius : float
        Of the typical cell: that of the ball (circle) of its median size, px.
    voxel : dict
        What the manifest says about the size of a pixel.
    """

    identifier: str
    group: str
    image: Float
    sketch: Float
    labels: NDArray[np.integer[Any]]
    radius: float
    spacing: tuple[float, float, float] | None
    voxel: dict[str, Any] = field(default_factory=dict)

    def cropped(self, options: Appearance) -> Annotated:
        """Return the part that is brought back."""
        size = (options.crop_depth, options.crop, options.crop)[-self.image.ndim :]
        image, sketch, labels = crop_annotated(
            (self.image, self.sketch, self.labels), self.labels, size
        )
        return replace(self, image=image, sketch=sketch, labels=labels)


def annotated_part(prepared: Path, split: str, most: int | None) -> ImageSet:
    """Open the annotated images of a part, at most so many, evenly spread.

    Raises
    ------
    PhantomscopeError
        If none is annotated.
    """
    images = ImageSet.open(prepared).select(split=split)
    table = images.table[images.table["mask"] != ""]
    if not len(table):
        raise PhantomscopeError(
            f"no image of the part `{split}` has labels",
            where=prepared / "manifest.csv",
            fix="give labels (`source.labels`), or leave this measurement out",
        )
    return replace(images, table=table[:: -(-len(table) // (most or len(table)))])


def load_annotated(
    images: ImageSet, scale: Normalisation, options: Appearance, identifier: str,
    blur: float = 0.0,
) -> Annotated:  # fmt: skip
    """Read an annotated image and draw its sketch, blurred as in synthesis.

    Raises
    ------
    PhantomscopeError
        If there is no cell in the annotation.
    """
    image, labels = images.image(identifier), images.mask(identifier)
    if options.stack > 1:
        image, labels = stack_slice(image, labels, options.stack)
    sizes = np.bincount(compact_labels(labels).ravel())[1:]
    if not sizes.any():
        raise PhantomscopeError(
            f"the annotation of {identifier!r} shows no cell",
            where=images.folder / str(images.row(identifier)["mask"]),
            fix="leave this image out of the set",
        )
    unit, row = scale.to_unit(image, identifier), images.row(identifier)
    voxel = {
        name: float(row[name]) for name in ("pixel_size", "pixel_size_z")
        if row.get(name, "") != "" and np.isfinite(row[name])
    }  # fmt: skip
    flat = voxel.get("pixel_size_z", 1.0) / voxel.get("pixel_size", 1.0)
    spacing = (flat if len(voxel) == 2 else 1.0, 1.0, 1.0)
    if options.sketch == "membranes":
        sketch = annotated_membranes(
            labels, radius=options.membrane_radius, decline=options.membrane_decline,
            spacing=spacing, blur=blur,
        )  # fmt: skip
    else:
        sketch = annotated_sketch(
            unit, labels, background=options.background, blur=blur
        )
    group = str(row["group"] or identifier)
    typical = float(np.median(sizes[sizes > 0])) * spacing[0] ** (labels.ndim == 3)
    radius = ball_radius(typical, labels.ndim)
    return Annotated(
        identifier, group, unit, sketch, labels, radius,
        spacing if labels.ndim == 3 else None, voxel,
    )  # fmt: skip


def likeness(item: Annotated, unit: Float, options: Appearance) -> dict[str, float]:
    """Measure how like the real image another one is, and whether its labels hold.

    Parameters
    ----------
    item : Annotated
        The real image.
    unit : ndarray, shape ([Z,] Y, X)
        The other one, unit intensities.
    options : Appearance
        What is masked, and what kind of cells there are.

    Returns
    -------
    dict
        psnr (dB), ssim (7 px, uniform) and mae of intensities clipped to [0, 1];
        bd_intensity and bd_texture, Bhattacharyya distances of the histograms of
        intensity and of the difference from a Gaussian mean of 1 px; spectrum, the
        distance of the power spectra (decades); f1 (at IoU 0.5), dice (mean over the
        cells) and phantoms (per cell) of an independent re-segmentation. What cannot
        be known is left out: with a part of the cells annotated, f1 and phantoms;
        of membranes, phantoms; of a constant image, the spectrum.
    """
    truth, other = np.clip(item.image, 0, 1), np.clip(unit, 0, 1)
    if options.mask_outside:
        inside = item.labels > 0
        truth, other = truth * inside, other * inside
    found = similarity(truth, other, 1.0)
    scores = {"psnr": found.psnr, "ssim": found.ssim, "mae": found.mae}
    fine, fine_other = (
        one - ndimage.gaussian_filter(one, 1.0) for one in (item.image, unit)
    )
    for name, first, second in (
        ("intensity", item.image, unit), ("texture", fine, fine_other)
    ):  # fmt: skip
        p, q = shared_histograms(first, second, bins=256)
        scores[f"bd_{name}"] = bhattacharyya_distance(p, q)
    if np.ptp(unit) > 0 and np.ptp(item.image) > 0:
        scores["spectrum"] = spectral_distance([item.image], [unit])
    return scores | _fidelity(item, unit, options)


def _fidelity(item: Annotated, unit: Float, options: Appearance) -> dict[str, float]:
    """Segment the image again, knowing the size of its cells only."""
    if not item.labels.any():
        return {}
    membranes = options.sketch == "membranes"
    checked = check_fidelity(
        unit, item.labels, item.radius, spacing=item.spacing, membranes=membranes
    )
    scores = {"f1": checked.f1, "dice": checked.agreement}
    if not membranes:
        scores["phantoms"] = checked.phantoms / len(checked.objects)
    if options.mask_outside:
        return {"dice": scores["dice"]}
    return scores

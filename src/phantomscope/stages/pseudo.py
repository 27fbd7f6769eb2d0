"""Stage of the pseudo-sketches: what a conditional model learns beside the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.downstream.run import load_tool
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.morphology import segment, typical_radius
from phantomscope.progress import Progress
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.simulate.pseudo import pseudo_sketch
from phantomscope.stages.arguments import Output
from phantomscope.stages.data import unannotated

Float = NDArray[np.float32]


def _like(parameters: SketchParameters, stratum: object) -> SketchType:
    """Return the type of an image; rare ones share the last, as in the fit."""
    own = [kind for kind in parameters.types if kind.name == str(stratum)]
    return own[0] if own else parameters.types[-1]


def pseudo_sketches(
    config: Config, *, prepared: Path, normalisation: Path, sketch: Path,
    pseudo: Output, segmenter: Path | None = None,
) -> None:  # fmt: skip
    """Draw the unannotated training images as sketches, from their segmentation."""
    images, scale = unannotated(prepared), Normalisation.load(normalisation)
    parameters = SketchParameters.load(sketch)
    trained = load_tool(segmenter, config.segment) if segmenter else None
    info = {
        "stage": "pseudo_sketches",
        "segmenter": "classical" if trained is None else str(segmenter),
        "parameters": parameters.model_dump(),
    }
    with (
        ImageSetWriter(pseudo, info) as writer,
        Progress("drawing pseudo-sketches", len(images), unit="images") as progress,
    ):
        for identifier in images.ids:
            if identifier not in writer:
                raw = images.image(identifier)
                unit = scale.to_unit(raw, identifier)
                kind = _like(parameters, images.row(identifier)["stratum"])
                if trained is None:
                    labels = segment(unit, kind.radius[3])
                else:
                    labels = trained(raw)
                radius = typical_radius(labels > 0) or kind.radius[3]
                drawn = pseudo_sketch(unit, labels, kind.edge, radius)
                kept: dict[str, Any] = {
                    "split": "train", "type": kind.name, "objects": int(labels.max())
                }  # fmt: skip
                writer.add(identifier, drawn, labels, **kept)
            progress.advance()


@dataclass(frozen=True)
class PseudoSketches:
    """What a model sees beside each training image: its pseudo-sketch.

    Attributes
    ----------
    drawn : ImageSet
        What `pseudo_sketches` writes.
    transform : str
        From unit intensities to the network's range.
    """

    drawn: ImageSet
    transform: str

    def __call__(self, identifier: str) -> Float:
        """Return the pseudo-sketch of an image, shape (1, Y, X), network values."""
        return unit_to_network(self.drawn.image(identifier), self.transform)[None]

    def hashes(self, images: ImageSet) -> list[str]:
        """Return the hash of each; raise if they are not those of these images."""
        return [self.drawn.row(i)["sha256"] for i in images.ids]

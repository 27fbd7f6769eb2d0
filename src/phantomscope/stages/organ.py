"""The one step that may learn the shape of an organ from annotation, if asked to.

Everything else between preparation and synthesis opens its images by
`phantomscope.stages.data.unannotated`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.simulate.meristem_shape import ShapeModel, learn_shape_model
from phantomscope.simulate.tissue import per_x


def learn_organ(config: Config, prepared: Path) -> ShapeModel:
    """Learn the shape of an organ from the annotation of the training part.

    Volumes are read one at a time. Those of which single planes are annotated show no
    organ and are left out.

    Parameters
    ----------
    config : Config
        `simulate.variant: code` takes the principal components as released; the size
        of a voxel is that of the drawing.
    prepared : Path
        The prepared image set.

    Raises
    ------
    PhantomscopeError
        If no volume of the training part is annotated as a whole, or an annotation
        shows no organ, or one without a base where others have one.
    """
    options, images = config.simulate, ImageSet.open(prepared).select(split="train")
    names = [
        name for name in images.ids
        if images.has_mask(name) and images.annotated_planes(name) is None
    ]  # fmt: skip
    if not names:
        raise PhantomscopeError(
            "no volume of the training part is annotated as a whole: there is no shape "
            "to learn",
            where=prepared / "manifest.csv",
            fix="give labels of training volumes (`source.labels`, `split`), or leave "
            "`simulate.meristem.shape_model` at `built_in`",
        )
    fitted = options.variant == "fitted"
    spacing = per_x(config.fit.spacing) if fitted else options.meristem.spacing
    read: list[str] = []

    def masks() -> Iterator[NDArray[Any]]:
        for name in names:
            read.append(name)
            yield images.mask(name)

    try:
        return learn_shape_model(
            masks(), spacing, pca="code" if options.variant == "code" else "data"
        )
    except PhantomscopeError as error:
        row = images.row(read[-1])
        raise PhantomscopeError(
            f"{error.what} ({read[-1]}, {len(read)} of {len(names)} annotated volumes)",
            where=images.folder / str(row["mask"]),
            fix=f"{error.fix}; or use `simulate.meristem.shape_model: built_in`",
        ) from error

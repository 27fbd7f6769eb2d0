"""The picture of a published set: images, and the same with their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.imageset import ImageSet
from phantomscope.images.voxels import VoxelSize
from phantomscope.tables.artefacts import pick
from phantomscope.tables.figures_volumes import cut_of, read_part
from phantomscope.tables.style import (
    LABEL,
    canvas,
    house_style,
    outlines,
    save,
    scale_bar,
    show,
)

Array = NDArray[Any]
SIDE = 256
COLUMNS = {2: 4, 3: 3}


def draw_preview(images: ImageSet, size: VoxelSize, out: Path) -> None:
    """Draw some images of a set, evenly spread over it, and their labels below.

    Parameters
    ----------
    images : ImageSet
        Images or volumes with labels.
    size : tuple of float or None
        Voxel size in um. Volumes are shown in three planes and in projection.
    out : Path
        The PNG file.
    """
    names = pick(images.ids, COLUMNS[images.dims])
    titles = ["image", "labels"] + ["projection"] * (images.dims == 3)
    with house_style():
        figure = canvas(0.2 + 9.1 / max(len(names), 3) * len(titles))
        grid = figure.subplots(len(titles), len(names), squeeze=False)
        for axes, title in zip(grid[:, 0], titles, strict=True):
            axes.set_ylabel(title, fontsize=9.5, fontweight="bold", labelpad=6)
        for line, name in zip(grid.T, names, strict=True):
            _column(line, images, name, size)
        save(figure, out)


def _column(
    line: Array, images: ImageSet, name: str, size: VoxelSize
) -> None:  # fmt: skip
    whole = cut_of(images, name, SIDE, size)
    part = read_part(images, name, whole)
    labels, cut = read_part(images, name, whole, "mask"), whole.within
    low, high = np.percentile(part, [0.5, 99.8])
    unit = (part.astype(np.float32) - low) / max(float(high - low), 1e-9)
    show(line[0], cut(unit))
    scale_bar(line[0], cut.side, size[-1])
    show(line[1], cut(unit))
    outlines(line[1], cut(labels), LABEL, width=0.9)
    if len(line) > 2:
        show(line[2], cut.projection(unit))

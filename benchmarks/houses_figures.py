"""Pictures of what the two houses do for each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.imageset import ImageSet
from phantomscope.measure.fidelity import find_phantoms
from phantomscope.measure.found import true_layers
from phantomscope.tables.style import (
    FALSE,
    LABEL,
    canvas,
    house_style,
    outlines,
    save,
    show,
)

Float = NDArray[np.float32]


@house_style()
def draw_phantoms(columns: Sequence[dict[str, Any]], area: float, out: Path) -> None:
    """Show draws, their scenes and patched images, with labels and phantoms.

    Parameters
    ----------
    columns : sequence of dict
        For each sketch its ``labels``, and images (unit intensities) by their titles.
    area : float
        Size of a typical object, px.
    out : Path
        PNG.
    """
    titles = [name for name in columns[0] if name != "labels"]
    figure = canvas(1.32 * len(titles), 1.3 * len(columns) + 0.2)
    panels = figure.subplots(len(titles), len(columns), squeeze=False)
    for x, column in enumerate(columns):
        for y, title in enumerate(titles):
            show(panels[y, x], column[title])
            outlines(panels[y, x], column["labels"], LABEL, width=0.4)
            found = find_phantoms(column[title], column["labels"], area)
            outlines(panels[y, x], found, FALSE, width=1.1)
            if not x:
                panels[y, x].set_ylabel(title, fontsize=7.5)
    figure.suptitle("blue: labels; pink: phantoms", fontsize=8)
    save(figure, out)


@house_style()
def draw_grounds(
    real: tuple[Float, NDArray[Any]], made: Sequence[Float], tests: ImageSet,
    options: Any, out: Path,
) -> None:  # fmt: skip
    """Show a real and synthesised backgrounds, and composed images.

    Parameters
    ----------
    real : tuple of ndarray
        The real background (0 to 1) and its holes.
    made : sequence of ndarray
        Synthesised ones, 0 to 1.
    tests : ImageSet
        Composed test images.
    options : Filter
        How they were composed.
    out : Path
        PNG.
    """
    side, bright = 192, 3.0
    figure = canvas(4.3, 6.6)
    panels = figure.subplots(2, 3)
    holes = np.where(real[1] > 0, np.nan, real[0])[:side, :side]
    for panel, image, title in (
        (panels[0, 0], holes, "real, holes black"),
        (panels[0, 1], made[0][:side, :side], "synthesised"),
        (panels[0, 2], made[1 % len(made)][:side, :side], "synthesised"),
    ):
        show(panel, np.nan_to_num(image * bright), title)
    for panel, name in zip(panels[1], tests.ids, strict=False):
        image = true_layers(options, tests, name)["image"]
        show(panel, image * bright / 2, "composed, for tests")
        outlines(panel, tests.mask(name), LABEL, width=0.6)
    save(figure, out)

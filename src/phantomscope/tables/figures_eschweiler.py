"""Figures 1, 2, 3, 5 and 6 of Eschweiler & Stegmaier 2023, of one or more organisms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import NoiseField
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.tables.artefacts import (
    display_unit,
    pick,
    pixel_size,
    read_table,
    shards,
)
from phantomscope.tables.eschweiler import BACKWARD
from phantomscope.tables.figures_process import draw_curves
from phantomscope.tables.figures_volumes import Cut, cut_of, read_part
from phantomscope.tables.paper import PaperFigure, Part
from phantomscope.tables.rows import load_methods
from phantomscope.tables.style import (
    LABEL,
    MUTED,
    TOOLS,
    bare,
    canvas,
    outlines,
    scale_bar,
    show,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
BACKWARD_IMAGES = "backward"
# The time of the paper's figure 3; without it the next one below is shown.
SHOWN_TIME = 600
SIDE = 160


def _back(part: Part) -> ImageSet:
    return ImageSet.open(part.root / BACKWARD_IMAGES)


def _example(images: ImageSet) -> str:
    """Return the image that figures show: the first, nobody chose a beautiful one."""
    return str(images.table["parent"].iloc[0])


@dataclass(frozen=True)
class _Shown:
    """What is shown of an image: its part in unit intensities, and how it is cut."""

    cut: Cut
    unit: Array

    @classmethod
    def read(cls, root: Path, images: ImageSet, name: str) -> _Shown:
        """Read the part of an image; sketches are unit intensities already."""
        cut = cut_of(images, name, SIDE)
        part = read_part(images, name, cut)
        if images.row(name).get("input") != "drawn":
            norm = Normalisation.load(root / "normalisation.json")
            part = display_unit(norm, images, name, part)
        return cls(cut, part)

    @property
    def plane(self) -> Array:
        """The square of an image, or the plane XY of a volume."""
        return self.cut.within.plane(self.unit)

    def labels(self, images: ImageSet, name: str) -> Array:
        """Read labels of the same image, in the same plane."""
        part = read_part(images, name, self.cut, "mask")
        return self.cut.within.plane(part)


def _panel(
    axes: Axes, shown: _Shown, labels: Array | None = None, title: str = ""
) -> None:
    show(axes, shown.plane, title)
    if labels is not None:
        outlines(axes, labels, LABEL, width=0.8)


def _stretched(plane: Array) -> Array:
    """Scale to its own percentiles: noise goes far beyond the range of images."""
    low, high = np.percentile(plane, [0.5, 99.5])
    scaled: Array = np.clip((plane - low) / max(float(high - low), 1e-9), 0, 1)
    return scaled


def figure_1(parts: Sequence[Part]) -> Figure:
    """Show real images and sketches of their annotation, clean and noised."""
    from phantomscope.engine.process import make_process  # with torch

    times = sorted({t for part in parts for t in part.config.appearance.times})
    times = [int(t) for t in pick([str(t) for t in times], 4)]
    figure = canvas(0.3 + 2 * 1.75 * len(parts))
    grid = figure.subplots(2 * len(parts), 1 + len(times), squeeze=False)
    for part, lines in zip(parts, np.split(grid, len(parts)), strict=True):
        images, process = _back(part), make_process(part.config.process)
        transform = Normalisation.load(part.root / "normalisation.json").transform
        name = _example(images)
        rows = ((lines[0], "image", part.word), (lines[1], "drawn", "sketch"))
        for line, which, word in rows:
            shown = _Shown.read(part.root, images, f"{name}-{which}")
            _panel(line[0], shown)
            line[0].set_ylabel(word, fontsize=9, fontweight="bold")
            clean = unit_to_network(shown.plane, transform)
            noise = NoiseField(part.config.seed, name, f"figure/{which}")
            for axes, t in zip(line[1:], times, strict=True):
                if t > process.timesteps:
                    bare(axes)
                    continue
                noisy = process.a[t] * clean + process.s[t] * noise.block(
                    (0, 0), clean.shape
                )
                show(axes, _stretched(noisy))
        lines[0, 0].set_title(part.title, fontsize=9)
        for axes, t in zip(lines[0, 1:], times, strict=True):
            axes.set_title(f"t = {t}", fontsize=8.5, fontweight="normal")
        scale_bar(lines[0, 0], shown.cut.side, pixel_size(images))
    return figure


def figure_2(parts: Sequence[Part]) -> Figure:
    """Draw the forward and the backward process, published points beside ours."""
    chosen = [p for p in parts if p.config.appearance.organism == "ath"]
    return draw_curves((chosen or list(parts))[0])


def _shown_time(images: ImageSet) -> tuple[int, str]:
    """Return the time to show and the sampler: 600 and the paper's, where they are."""
    table = images.table[images.table["input"] == "sketch"]
    times = sorted({int(t) for t in table["t"]})
    t = max([t for t in times if t <= SHOWN_TIME] or times[:1])
    samplers = set(table.loc[table["t"] == t, "id"].str.rsplit("-", n=1).str[1])
    return t, "ancestral" if "ancestral" in samplers else "own"


def figure_3(parts: Sequence[Part]) -> Figure:
    """Show real images beside what came back of the sketches of their annotation."""
    figure = canvas(0.2 + 2.75 * len(parts), 7.2)
    grid = figure.subplots(len(parts), 3, squeeze=False)
    for part, line in zip(parts, grid, strict=True):
        images = _back(part)
        name, (t, sampling) = _example(images), _shown_time(images)
        back = f"{name}-sketch-t{t:04d}-{sampling}"
        table = read_table(part.root / BACKWARD)
        mine = table[(table["t"] == t) & (table["input"] == "sketch")]
        mine = mine[mine["steps"] == images.row(back)["steps"]]
        means = mine.groupby("metric")["value"].mean()
        said = f"PSNR {means['psnr']:.1f}  SSIM {means['ssim']:.2f}"
        words = (f"{part.title}\n{part.word}", "sketch",
                 f"from the sketch, t = {t}\n{said}")  # fmt: skip
        for axes, key, word in zip(
            line, (f"{name}-image", f"{name}-drawn", back), words, strict=True
        ):
            shown = _Shown.read(part.root, images, key)
            _panel(axes, shown, title=word)
        outlines(line[2], shown.labels(images, back), LABEL, width=0.5)
        scale_bar(line[0], shown.cut.side, pixel_size(images))
    return figure


Picture = tuple[str, Array, Array | None]


def _pictures(part: Part, images: ImageSet, word: str, count: int) -> list[Picture]:
    """Return title, intensities and perhaps labels of what is shown of some images."""
    found: list[Picture] = []
    for name in pick(images.ids, count):
        shown = _Shown.read(part.root, images, name)
        if images.dims == 3:
            cut = shown.cut.within
            found.append((f"{word}, slices", cut(shown.unit), None))
            found.append((f"{word}, projections", cut.projection(shown.unit), None))
            continue
        labels = None
        if word == "synthetic" and images.has_mask(name):
            labels = shown.labels(images, name)
        found.append((word, shown.plane, labels))
    return found


def figure_5(parts: Sequence[Part]) -> Figure:
    """Show real and synthetic images; of volumes slices and projections."""
    figure = canvas(0.2 + 2.8 * len(parts))
    grid = figure.subplots(len(parts), 4, squeeze=False)
    for part, line in zip(parts, grid, strict=True):
        real = ImageSet.open(part.root / "prepared").select(split="train")
        count = 1 if real.dims == 3 else 2
        shown = _pictures(part, real, part.word, count)
        synthetic = shards(part.root / "synthetic")[0]
        shown += _pictures(part, synthetic, "synthetic", count)
        for axes in line:
            axes.set_axis_off()
        for axes, (word, plane, labels) in zip(line, shown, strict=False):
            show(axes, plane, word)
            if labels is not None:
                outlines(axes, labels, LABEL, width=0.7)
        line[0].set_title(f"{part.title}\n{shown[0][0]}", fontsize=8.5)
    return figure


def figure_6(parts: Sequence[Part]) -> Figure:
    """Show what trained tools find in real test images, beside the annotation."""
    figure = canvas(0.4 + 2.8 * len(parts))
    grid = figure.subplots(len(parts), 4, squeeze=False)
    for part, line in zip(parts, grid, strict=True):
        for axes in line:
            axes.set_axis_off()
        truth = ImageSet.open(part.root / "prepared").select(split="test")
        name = next(name for name in truth.ids if truth.has_mask(name))
        shown = _Shown.read(part.root, truth, name)
        _panel(line[0], shown, title=f"{part.title}\ntest image")
        _panel(line[1], shown, labels=shown.labels(truth, name), title="annotation")
        scale_bar(line[0], shown.cut.side, pixel_size(truth))
        methods = [m for m in load_methods(part.root) if m.images]
        tool = next((m.tool for m in methods if m.arm == "synthetic"), "")
        arms = [m for m in methods if m.tool == tool]
        arms = [m for m in arms if m.arm in ("synthetic", "annotated")]
        for axes, method in zip(line[2:], arms, strict=False):
            folder = f"predictions/{tool}/{method.arm}/seed{method.seeds[0]}"
            found = shown.labels(ImageSet.open(part.root / folder), name)
            word = {"synthetic": "synthetic images", "annotated": "annotated ones"}
            title = f"{TOOLS.get(tool, tool)},\ntrained on {word[method.arm]}"
            _panel(axes, shown, labels=found, title=title)
    figure.supxlabel("outlines: objects in the plane that is shown", fontsize=8,
                     color=MUTED)  # fmt: skip
    return figure


FIGURES = {
    "fig1": PaperFigure(
        figure_1, ("normalisation.json", f"{BACKWARD_IMAGES}/manifest.csv")
    ),
    "fig2": PaperFigure(figure_2, ("tables/forward.csv", "tables/backward.csv")),
    "fig3": PaperFigure(
        figure_3, (f"{BACKWARD_IMAGES}/manifest.csv", "tables/backward.csv")
    ),
    "fig5": PaperFigure(
        figure_5, ("prepared/manifest.csv", "synthetic/*/manifest.csv")
    ),
    "fig6": PaperFigure(
        figure_6, ("scores/*/*/*/images.csv", "predictions/*/*/*/manifest.csv")
    ),
}

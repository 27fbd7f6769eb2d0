"""Figures of semantic filtering: layers, and objects that were found or missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.filtering import ALL_FILTER_METHODS
from phantomscope.config.model import Config
from phantomscope.images.annotations import BOXES, POINTS, read_annotations
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.found import (
    SCENE,
    found_boxes,
    kept_layers,
    tested_unit,
    true_layers,
)
from phantomscope.measure.matching import assign
from phantomscope.tables.artefacts import pick, pixel_size
from phantomscope.tables.figures_images import compare, outline_key
from phantomscope.tables.filter_metrics import TITLES, main_rule
from phantomscope.tables.filter_scores import run_of, runs
from phantomscope.tables.style import (
    FALSE,
    MATCH,
    MISSED,
    WIDTH,
    bare,
    canvas,
    outlines,
    save,
    scale_bar,
    show,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
Window = tuple[slice, slice]
# Largest side of what is shown of an image, px.
SIDE = 256
IMAGES = 2


@dataclass(frozen=True, eq=False)
class Shown:
    """The tested images of one class, and what each method made of them.

    Attributes
    ----------
    config : Config
        That of the run.
    target : str
        Class of the objects.
    images : ImageSet
        Tested images of the first fold, real or composed.
    found : dict of str to ImageSet
        By method: first fold, first seed, largest number of training images.
    """

    config: Config
    target: str
    images: ImageSet
    found: dict[str, ImageSet]

    @property
    def ids(self) -> list[str]:
        """Ids of the tested images of the first fold."""
        return next(iter(self.found.values())).ids

    def unit(self, name: str) -> Array:
        """Return a tested image, from 0 to 1."""
        return tested_unit(self.config.filter, self.images, name)

    def kept(self, method: str, name: str) -> dict[str, Array]:
        """Return the layers that a method gave, by their names."""
        options = self.config.filter
        return kept_layers(options, self.found[method], name, self.unit(name))

    def marks(self, name: str) -> Array:
        """Return true points (y, x), or boxes (y1, x1, y2, x2), of an image."""
        points = self.config.filter.truth == "points"
        table = read_annotations(self.images, POINTS if points else BOXES)
        own = table[(table["id"] == name) & table["type"].isin(["", self.target])]
        names = ["y", "x"] if points else ["y1", "x1", "y2", "x2"]
        found: Array = own[names].to_numpy(float)
        return found

    def window(self, name: str) -> Window:
        """Return the part of an image that is shown: where its objects are."""
        if self.config.filter.truth in ("points", "boxes"):
            marks = self.marks(name)
            middles = marks.reshape(len(marks), -1, 2).mean(axis=1)
        else:
            middles = np.argwhere(self.images.mask(name) > 0)
        return window_of(middles, self.images.shape(name))


def window_of(points: Array, shape: Sequence[int], side: int = SIDE) -> Window:
    """Return a square about the median of points, within an image."""
    middle = np.median(points, axis=0) if len(points) else np.array(shape[-2:]) / 2
    parts = []
    for centre, length in zip(middle, shape[-2:], strict=True):
        first = int(np.clip(round(float(centre)) - side // 2, 0, max(0, length - side)))
        parts.append(slice(first, min(first + side, length)))
    return parts[0], parts[1]


def shown_of(root: Path, config: Config) -> list[Shown]:
    """Open what is shown of each class."""
    options, made = config.filter, []
    for target in options.targets:
        found: dict[str, ImageSet] = {}
        for method in (m for m in ALL_FILTER_METHODS if m in options.methods):
            # Numbers of images ascend: the last one is the largest.
            *_, images = dict.fromkeys(images for images, _, _ in runs(config, method))
            run = run_of(target, method, images, 0, options.seeds[0])
            found[method] = ImageSet.open(root / "found" / run)
        place = (
            f"composed/{target}/fold0/tests-all"
            if options.truth == "layers"
            else "prepared"
        )
        made.append(Shown(config, target, ImageSet.open(root / place), found))
    return made


def limits_of(image: Array) -> tuple[float, float]:
    """Return the intensities that are drawn black and white."""
    low, high = (float(v) for v in np.percentile(image, [0.5, 99.8]))
    return low, max(high, low + 1e-6)


def show_layer(
    axes: Axes, layer: Array, limits: tuple[float, float], title: str = "",
    *, whole: bool = False,
) -> None:  # fmt: skip
    """Show a layer with the span of its image; a `whole` image has its black, too."""
    low, high = limits
    below = low if whole else 0.0
    show(axes, (layer - below) / (high - low), title)


def panels_of(one: Shown, name: str) -> list[tuple[str, str, Array]]:
    """Return title, layer and values of what the methods gave of an image.

    The true target layer first, if it is known.
    """
    found = []
    if one.config.filter.truth == "layers":
        true = true_layers(one.config.filter, one.images, name)
        found.append(("true target layer", "target", true["target"]))
    for method in one.found:
        layers = one.kept(method, name)
        for layer in ("target", *((SCENE,) if SCENE in layers else ("other",))):
            if layer in layers:
                title = f"{TITLES[method]}:\n{layer}"
                found.append((title, layer, layers[layer]))
    return found


def layers_figure(root: Path, config: Config) -> Figure | None:
    """Show tested images, what each method kept of them, and the true layer.

    None if no method gives a layer.
    """
    lines = [
        (one, name, panels_of(one, name))
        for one in shown_of(root, config)
        for name in pick(one.ids, IMAGES)
    ]
    columns = 1 + max(len(panels) for _, _, panels in lines)
    if columns == 1:
        return None
    figure = canvas(0.5 + WIDTH / max(columns, 3) * len(lines))
    grid = figure.subplots(len(lines), columns, squeeze=False)
    for number, (line, (one, name, panels)) in enumerate(zip(grid, lines, strict=True)):
        for axes in line:
            bare(axes)
        image, window = one.unit(name), one.window(name)
        limits = limits_of(image[window])
        show_layer(
            line[0], image[window], limits, "" if number else "image", whole=True
        )
        line[0].set_ylabel(one.target, fontsize=8.5)
        scale_bar(line[0], image[window].shape[1], pixel_size(one.images))
        for axes, (title, layer, values) in zip(line[1:], panels, strict=False):
            same = layer in (SCENE, "background")
            show_layer(
                axes, values[window], limits, "" if number else title, whole=same
            )
    return figure


@dataclass(frozen=True, eq=False)
class Hits:
    """What was found of an image, and what was missed.

    Attributes
    ----------
    matched, false : set of int
        Labels of found objects; of boxes their numbers.
    missed : set of int
        Labels of true objects, or numbers of points or boxes.
    """

    matched: set[int]
    false: set[int]
    missed: set[int]

    @property
    def text(self) -> str:
        """What stands under a panel."""
        counts = len(self.matched), len(self.false), len(self.missed)
        return "{} matched, {} false, {} missed".format(*counts)


def _least(config: Config) -> float:
    """Return the IoU of the main rule."""
    return float(main_rule(config.filter).rpartition("_")[2])


def hits_of(one: Shown, method: str, name: str) -> Hits:
    """Compare what a method found of an image with the truth, by the main rule."""
    labels, truth = one.found[method].mask(name), one.config.filter.truth
    numbers = {int(n) for n in np.unique(labels[labels > 0])}
    if truth == "points":
        at = np.rint(one.marks(name)).astype(int)
        under = labels[at[:, 0], at[:, 1]] if len(at) else np.zeros(0, int)
        first = {int(n): i for i, n in reversed(list(enumerate(under))) if n}
        missed = set(range(len(at))) - set(first.values())
        return Hits(set(first), numbers - set(first), missed)
    if truth == "boxes":
        from phantomscope.measure.detection import box_iou

        boxes, true = found_boxes(one.found[method], name), one.marks(name)
        rows, columns = assign(box_iou(true, boxes), _least(one.config), disjoint=False)
        hit = {int(n) for n in columns}
        return Hits(
            hit, set(range(len(boxes))) - hit,
            set(range(len(true))) - {int(n) for n in rows},
        )  # fmt: skip
    matched, missed, _ = compare(one.images.mask(name), labels, _least(one.config))
    return Hits(matched, numbers - matched, missed)


def _rectangles(
    axes: Axes, boxes: Array, colour: str, window: Window, *, dashed: bool = False
) -> None:
    from matplotlib.patches import Rectangle

    top, left = window[0].start, window[1].start
    for y1, x1, y2, x2 in boxes:
        axes.add_patch(Rectangle(
            (x1 - left - 0.5, y1 - top - 0.5), x2 - x1, y2 - y1, fill=False, ec=colour,
            lw=1.1, ls=(0, (2.2, 1.3)) if dashed else "solid",
        ))  # fmt: skip


def _points(axes: Axes, points: Array, colour: str, window: Window, mark: str) -> None:
    for y, x in points:
        axes.plot(
            x - window[1].start, y - window[0].start, mark, ms=4, color=colour, mew=1.1
        )


def draw_hits(axes: Axes, one: Shown, method: str, name: str, window: Window) -> Hits:
    """Draw found and missed objects over an image: outlines, boxes or points."""
    hits, truth = hits_of(one, method, name), one.config.filter.truth
    if truth == "boxes":
        boxes, true = found_boxes(one.found[method], name), one.marks(name)
        for numbers, of, colour in (
            (hits.missed, true, MISSED), (hits.false, boxes, FALSE),
            (hits.matched, boxes, MATCH),
        ):  # fmt: skip
            _rectangles(
                axes, of[sorted(numbers)], colour, window, dashed=colour == MISSED
            )
    else:
        labels = one.found[method].mask(name)[window]
        if truth == "points":
            marks = one.marks(name)
            met = sorted(set(range(len(marks))) - hits.missed)
            _points(axes, marks[met], MATCH, window, ".")
            _points(axes, marks[sorted(hits.missed)], MISSED, window, "x")
        else:
            outlines(
                axes, one.images.mask(name)[window], MISSED, only=hits.missed,
                width=1.1, dashed=True,
            )  # fmt: skip
        outlines(axes, labels, MATCH, only=hits.matched)
        outlines(axes, labels, FALSE, only=hits.false)
    height, width = (part.stop - part.start for part in window)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    return hits


def detections_figure(root: Path, config: Config) -> Figure:
    """Show what each method found in tested images, and what it missed."""
    lines = [
        (one, name) for one in shown_of(root, config) for name in pick(one.ids, IMAGES)
    ]
    methods = list(lines[0][0].found)
    columns = max(2, len(methods))
    figure = canvas(0.55 + (WIDTH / max(columns, 3) + 0.25) * len(lines))
    ratios = [figure.get_figheight() - 0.35, 0.35]
    body, key = figure.subfigures(2, 1, squeeze=False, height_ratios=ratios)[:, 0]
    grid = body.subplots(len(lines), columns, squeeze=False)
    for axes in grid.ravel():
        bare(axes)
    for number, (line, (one, name)) in enumerate(zip(grid, lines, strict=True)):
        image, window = one.unit(name), one.window(name)
        line[0].set_ylabel(one.target, fontsize=8.5)
        for axes, method in zip(line, methods, strict=False):
            limits = limits_of(image[window])
            title = "" if number else TITLES[method]
            show_layer(axes, image[window], limits, title, whole=True)
            hits = draw_hits(axes, one, method, name, window)
            axes.set_xlabel(hits.text, fontsize=7.5)
    _key(key, config)
    return figure


def _key(part: Any, config: Config) -> None:
    if config.filter.truth == "points":
        words = ("with a point", "without a point", "missed (a true point)")
        note = "numbers: whole images"
    else:
        at = f"IoU ≥ {_least(config):g}"
        words = (f"matched ({at})", "false", "missed (true)")
        note = "numbers: whole images"
    outline_key(part, note, matched=words[0], false=words[1], missed=words[2])


NO_LAYERS = "no method of this experiment gives a layer"


@styled
def plot_layers(root: Path, config: Config, out: Path) -> None:
    """Draw `layers_figure` into a file."""
    from phantomscope.tables.figures_curves import say_nothing

    figure = layers_figure(root, config)
    if figure is None:
        say_nothing(out, NO_LAYERS)
    else:
        save(figure, out)


@styled
def plot_detections(root: Path, config: Config, out: Path) -> None:
    """Draw `detections_figure` into a file."""
    save(detections_figure(root, config), out)

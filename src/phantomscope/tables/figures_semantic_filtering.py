"""Figures of Javer & Rittscher 2019: pairs, worms, focus, overlaps, learning curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.measure.found import SCENE
from phantomscope.tables.artefacts import pick, pixel_size
from phantomscope.tables.figures_filter_curves import Mark, learning_curve_figure
from phantomscope.tables.figures_filtering import (
    Shown,
    draw_hits,
    limits_of,
    show_layer,
    shown_of,
    window_of,
)
from phantomscope.tables.figures_pairs import composed_figure
from phantomscope.tables.filter_metrics import TITLES
from phantomscope.tables.filter_scores import iou_of, load_scored
from phantomscope.tables.filtering import filtering_rows
from phantomscope.tables.paper import PaperFigure, Part
from phantomscope.tables.published import load_published
from phantomscope.tables.semantic_filtering import PAPER, WHOLE
from phantomscope.tables.style import (
    INK,
    MATCH,
    WIDTH,
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
SHOWN = 2
# By whose published values a method of ours stands in the learning curve.
CURVE_METRIC = "f1_boxes_0.01"
PUBLISHED_STEP = 10 / 255
CURVE_IDS = {"f023": "filter", "f026": "faster_rcnn", "f032": "retinanet"}
# Red, green, blue of the layers of the classes: told apart with any colour vision.
TINTS = ((0.95, 0.45, 0.1), (0.1, 0.65, 1.0), (0.9, 0.3, 0.9))


def _of(*organisms: str) -> Callable[[Sequence[Part]], list[Part]]:
    """Return what picks the parts of some organisms."""
    return lambda parts: [part for part in parts if part.organism in organisms]


def figure_1(parts: Sequence[Part]) -> Figure:
    """Show a composed pair of each part, first class, and crops that it is made of."""
    return composed_figure([
        (part.title, part.root, part.config, part.config.filter.targets[0])
        for part in parts
    ])  # fmt: skip


def _hardest(part: Part, one: Shown) -> str:
    """Return the tested image in which the median finds least of the true mask.

    A worm that hardly moves is part of the median. Without a median it is the first.
    """
    scored = [
        s for s in load_scored(part.root, part.config)
        if s.method == "median" and s.target == one.target and len(s.curve)
    ]  # fmt: skip
    if not scored:
        return one.ids[0]
    table = scored[0].curve
    step = part.config.filter.objects.step or PUBLISHED_STEP
    near = (table["step"] - step).abs()
    table = table[(near == near.min()) & table["id"].isin(one.ids)]
    found = iou_of(table[["intersection", "union"]].to_numpy(float))
    return str(table["id"].iloc[int(np.argmin(found))])


def _grid(lines: int, columns: int) -> tuple[Figure, Any]:
    """Return a figure of so many pictures, and their axes."""
    figure = canvas(0.4 + WIDTH / columns * lines)
    return figure, figure.subplots(lines, columns, squeeze=False)


def _first(
    line: Sequence[Axes], one: Shown, name: str, number: int
) -> tuple[Array, tuple[slice, slice], tuple[float, float]]:
    """Show an image at the head of its line; return it, its window and its limits."""
    for axes in line:
        bare(axes)
    image, window = one.unit(name), one.window(name)
    limits = limits_of(image[window])
    title = "" if number else "image"
    show_layer(line[0], image[window], limits, title, whole=True)
    return image, window, limits


def figure_2(parts: Sequence[Part]) -> Figure:
    """Show what remains when worms are removed, and where one hardly moves."""
    lines = []
    for part in parts:
        one = shown_of(part.root, part.config)[0]
        hard = _hardest(part, one)
        first = next((name for name in one.ids if name != hard), hard)
        lines += [(one, first, part.title), (one, hard, "hardest for the median")]
    methods = [
        m for m in ("filter", "median") if any(m in o.found for o, _, _ in lines)
    ]
    figure, grid = _grid(len(lines), 1 + 2 * len(methods))
    for number, (line, (one, name, word)) in enumerate(zip(grid, lines, strict=True)):
        image, window, limits = _first(line, one, name, number)
        outlines(line[0], one.images.mask(name)[window], MATCH, width=0.8)
        line[0].set_ylabel(word, fontsize=7.5)
        scale_bar(line[0], image[window].shape[1], pixel_size(one.images))
        for place, method in enumerate(m for m in methods if m in one.found):
            layers = one.kept(method, name)
            for shift, layer in enumerate((SCENE, "target")):
                axes = line[1 + 2 * place + shift]
                what = "scene" if layer == SCENE else "removed"
                title = "" if number else f"{TITLES[method]}:\n{what}"
                whole = layer == SCENE
                show_layer(axes, layers[layer][window], limits, title, whole=whole)
    return figure


def figure_3(parts: Sequence[Part]) -> Figure:
    """Show images, and what was kept of them: what is in focus."""
    lines = [
        (one, name, part.title)
        for part in parts
        for one in shown_of(part.root, part.config)
        for name in pick(one.ids, SHOWN)
    ]
    methods = list(dict.fromkeys(
        m for one, name, _ in lines for m in one.found if one.kept(m, name)
    ))  # fmt: skip
    figure, grid = _grid(len(lines), max(3, 1 + len(methods)))
    for number, (line, (one, name, word)) in enumerate(zip(grid, lines, strict=True)):
        _, window, limits = _first(line, one, name, number)
        line[0].set_ylabel(f"{word}\n{one.target}", fontsize=7.5)
        for axes, method in zip(line[1:], methods, strict=False):
            kept = one.kept(method, name).get("target")
            if kept is not None:
                title = "" if number else f"kept by\n{TITLES[method]}"
                show_layer(axes, kept[window], limits, title)
    return figure


def _tinted(layers: Sequence[Array], limits: tuple[float, float]) -> Array:
    """Return layers in colours of their own, added up, shape (Y, X, 3)."""
    total = np.zeros((*layers[0].shape, 3))
    for layer, tint in zip(layers, TINTS, strict=False):
        unit = np.clip(layer / (limits[1] - limits[0]), 0, 1) ** 0.7
        total += unit[..., None] * np.asarray(tint)
    return np.clip(total, 0, 1)


def _mixed(classes: Sequence[Shown], name: str) -> Array:
    """Return the middles of places where objects of two classes are near each other."""
    from scipy import ndimage

    near = np.zeros(classes[0].images.shape(name), int)
    for one in classes:
        labels = one.found[next(iter(one.found))].mask(name)
        near += ndimage.binary_dilation(labels > 0, iterations=3)
    found: Array = np.argwhere(near > 1)
    return found


def figure_4(parts: Sequence[Part]) -> Figure:
    """Show where objects of two classes meet: image, layers in colours, objects."""
    lines = []
    for part in parts:
        classes = shown_of(part.root, part.config)
        # Composed tests are of one class each, though their numbers are the same.
        alike = all(_pixels(one) == _pixels(classes[0]) for one in classes)
        groups = [classes] if alike else [[one] for one in classes]
        for group in groups:
            names = pick(group[0].ids, SHOWN)
            lines += [(group, name, part.title) for name in names]
    columns = 2 + max(len(group) for group, _, _ in lines)
    figure = canvas(0.5 + (WIDTH / columns + 0.2) * len(lines))
    grid = figure.subplots(len(lines), columns, squeeze=False)
    for axes in grid.ravel():
        bare(axes)
    for line, (group, name, word) in zip(grid, lines, strict=True):
        _overlaps(line, group, name, word)
    figure.supxlabel(
        "green: found; magenta: false; yellow: missed; orange: layer of the target, "
        "or of the first class; blue: the other one", fontsize=8, color=INK,
    )  # fmt: skip
    return figure


def _pixels(one: Shown) -> list[str]:
    """Return what tells the pixels of the images of a class from those of others."""
    return list(one.images.table.loc[one.ids, "sha256"])


def _overlaps(line: Array, group: Sequence[Shown], name: str, word: str) -> None:
    """Draw an image, its layers in colours, and the objects of each class."""
    one, alone = group[0], len(group) == 1
    method = "layers" if alone and "layers" in one.found else next(iter(one.found))
    image = one.unit(name)
    met = _mixed(group, name)
    window = window_of(met, image.shape, 192) if len(met) else one.window(name)
    limits = limits_of(image[window])
    show_layer(line[0], image[window], limits, "image", whole=True)
    scale_bar(line[0], image[window].shape[1], pixel_size(one.images))
    line[0].set_ylabel(f"{word}\n{TITLES[method]}", fontsize=7.5)
    kept = [
        layers[layer][window]
        for layers in (own.kept(method, name) for own in group)
        for layer in ("target", "other")[: 2 if alone else 1]
        if layer in layers
    ]
    if kept:
        show(line[1], np.zeros(image[window].shape), "layers")
        line[1].imshow(_tinted(kept, limits), interpolation="nearest")
    for axes, own in zip(line[2:], group, strict=False):
        show_layer(axes, image[window], limits, own.target, whole=True)
        hits = draw_hits(axes, own, method, name, window)
        axes.set_xlabel(hits.text, fontsize=7)


def figure_5(parts: Sequence[Part]) -> Figure:
    """Plot F1 against the number of training images, published values beside ours."""
    part = parts[0]
    rows = filtering_rows(part.root, part.config)
    own = {row.metric for row in rows}
    published = {row.id: row for row in load_published(PAPER)}
    number = float(WHOLE["bbbc042"].split(", ")[1].split()[0])
    marks: list[Mark] = [
        (method, number, published[key].value) for key, method in CURVE_IDS.items()
    ]
    metrics = [CURVE_METRIC] if CURVE_METRIC in own else []
    figure = learning_curve_figure(
        part.root, part.config, metrics, marks if metrics else ()
    )
    if figure is None:
        figure = canvas(0.8)
        axes = figure.subplots()
        axes.axis("off")
        axes.text(0.5, 0.5, NO_CURVE, ha="center", va="center")
    else:
        figure.suptitle(part.title, x=0.01, ha="left", fontsize=9.5)
    return figure


_FOUND = "found/*/*/*/*/*/manifest.csv"
_SCORES = "filter_scores/*/*/*/*/*/objects.csv"
NO_CROPS = "no part was composed of crops"
NO_CURVE = "`filter.images` of this part names no numbers of training images"
FIGURES = {
    "fig1": PaperFigure(
        figure_1, ("crops/manifest.csv", "backgrounds/manifest.csv"), NO_CROPS
    ),
    "fig2": PaperFigure(
        figure_2, (_FOUND, _SCORES), "no worms were filtered", _of("worms")
    ),
    "fig3": PaperFigure(
        figure_3, (_FOUND,), "no microglia were filtered", _of("microglia")
    ),
    "fig4": PaperFigure(
        figure_4, (_FOUND,), "no co-culture was filtered", _of("bbbc026", "nuclei")
    ),
    "fig5": PaperFigure(
        figure_5, (_SCORES,), "no astrocytes were filtered", _of("bbbc042")
    ),
}  # fmt: skip

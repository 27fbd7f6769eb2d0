"""Figures of Saguy et al. 2024: generated images, copies, restored images, sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.images.files import read_array
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation
from phantomscope.tables.artefacts import display_unit, pick, pixel_size, read_table
from phantomscope.tables.copies import Pairs, copies_height, draw_copies, stretched
from phantomscope.tables.figures_curves import step
from phantomscope.tables.figures_images import real_parts
from phantomscope.tables.paper import PaperFigure, Part
from phantomscope.tables.published import load_published, read_rows
from phantomscope.tables.saguy import (
    COPIES,
    KINDS,
    LAGS,
    PAPER,
    RESTORED,
    memorisation_rows,
)
from phantomscope.tables.style import (
    COLOURS,
    GRID,
    INK,
    MUTED,
    canvas,
    legend,
    scale_bar,
    show,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
SHOWN = 4
# Sides of what is shown of a restored image, and of its part that is shown larger.
SIDE, CLOSE = 256, 64
ARMS = {
    "mathematical": "CARE, mathematical",
    "diffusion": "CARE, diffusion",
    "experimental": "CARE, experimental",
}


def _whole(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that were trained on all of their images."""
    return [part for part in parts if part.config.split.most_train is None]


def _real(part: Part, word: str) -> str:
    """Call images that were not synthesised real only if they are."""
    return word if part.config.data_kind == "simulated" else f"{word}, real"


def _of(organism: str) -> Callable[[Sequence[Part]], list[Part]]:
    """Return what picks the whole part of an organism."""
    return lambda parts: [p for p in _whole(parts) if p.organism == organism]


def _swept(parts: Sequence[Part]) -> list[Part]:
    """Return the parts of organisms that were trained on more than one size."""
    names = [part.organism for part in parts]
    return [part for part in parts if names.count(part.organism) > 1]


def figure_1(parts: Sequence[Part]) -> Figure:
    """Show generated images above training images, nobody chose the beautiful ones."""
    figure = canvas(0.2 + 4.9 * len(parts))
    grid = figure.subplots(2 * len(parts), SHOWN, squeeze=False)
    for part, lines in zip(parts, np.split(grid, len(parts)), strict=True):
        norm = Normalisation.load(part.root / "normalisation.json")
        made = ImageSet.open(part.root / "checked")
        real = ImageSet.open(part.root / "prepared").select(split="train")
        side = min(int(made.table[["height", "width"]].min().min()), SIDE)
        for axes in lines.ravel():
            axes.set_axis_off()
        for axes, name in zip(lines[0], pick(made.ids, SHOWN), strict=False):
            show(axes, display_unit(norm, made, name)[:side, :side], "generated")
        found = real_parts(real, norm, SHOWN, side)
        for axes, image in zip(lines[1], found, strict=True):
            show(axes, image, _real(part, "training"))
        lines[0, 0].set_title(f"{part.title}\ngenerated", fontsize=8.5, pad=4)
        scale_bar(lines[1, 0], side, pixel_size(real))
    return figure


def figure_2(parts: Sequence[Part]) -> Figure:
    """Lay each generated image over the training patch that is most like it."""
    pairs = [Pairs.read(part.root / "memorisation") for part in parts]
    heights = [copies_height(len(found.samples)) for found in pairs]
    figure = canvas(sum(heights))
    subfigures = np.ravel(
        figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    )
    for part, found, place in zip(parts, pairs, subfigures, strict=True):
        draw_copies(place, found, red=True, title=f"{part.title}: ")
    return figure


def _place(truth: Array) -> tuple[slice, slice]:
    """Return the part of an image that is shown larger: the one with most light."""
    side = min(CLOSE, *truth.shape)
    corners = [
        (y, x)
        for y in range(0, truth.shape[0] - side + 1, max(side // 2, 1))
        for x in range(0, truth.shape[1] - side + 1, max(side // 2, 1))
    ]
    y, x = max(
        corners,
        key=lambda c: float(truth[c[0] : c[0] + side, c[1] : c[1] + side].sum()),
    )
    return slice(y, y + side), slice(x, x + side)


def figure_restored(parts: Sequence[Part]) -> Figure:
    """Show a widefield test image, what each arm made of it, and the truth."""
    (part,) = parts
    test = ImageSet.open(part.root / "pairs/test")
    name = test.ids[0]
    truth = read_array(test.folder / str(test.row(name)["target"]))
    shown = {"widefield": test.image(name)}
    for arm, title in ARMS.items():
        folders = sorted((part.root / "restored/care" / arm).glob("seed*/manifest.csv"))
        if folders:
            shown[title] = ImageSet.open(folders[0].parent).image(name)
    shown["truth"] = truth
    said = _resolutions(part)
    figure = canvas(0.9 + 2 * 9.3 / len(shown))
    grid = figure.subplots(2, len(shown), squeeze=False)
    close = _place(truth)
    for (above, below), (title, image) in zip(grid.T, shown.items(), strict=True):
        unit = stretched(image[:SIDE, :SIDE])
        show(above, unit, title + said.get(title, ""))
        show(below, stretched(image)[close])
    for axes, window in ((grid[0, 0], truth[:SIDE, :SIDE]), (grid[1, 0], truth[close])):
        scale_bar(axes, min(window.shape), pixel_size(test))
    _frame(grid[0, -1], close)
    figure.suptitle(
        f"{part.title}: a test image; FRC with the truth at 1/7, mean of all; frame: "
        "shown below", x=0.01, ha="left", fontsize=8.5, color=MUTED,
    )  # fmt: skip
    return figure


def _frame(axes: Axes, place: tuple[slice, slice]) -> None:
    from matplotlib.patches import Rectangle

    y, x = place
    size = (x.stop - x.start, y.stop - y.start)
    axes.add_patch(Rectangle((x.start, y.start), *size, fill=False, ec="white", lw=1))


def _resolutions(part: Part) -> dict[str, str]:
    """Return the resolution of each panel, in words."""
    if not (part.root / RESTORED).exists():
        return {}
    said = {}
    for row in read_rows(part.root / RESTORED):
        if row.metric == "frc_nm":
            title = ARMS.get(row.condition, row.method)
            if title not in said or row.seed == "all":
                said[title] = f"\n{row.value:.0f} nm"
    return said


def figure_ncc(parts: Sequence[Part]) -> Figure:
    """Draw the correlations of generated and held-out images with training patches."""
    figure = canvas(0.3 + 2.6 * len(parts))
    grid = figure.subplots(len(parts), len(LAGS), squeeze=False)
    published = load_published(PAPER)
    for part, line in zip(parts, grid, strict=True):
        table = read_table(part.root / COPIES)
        for axes, (lag, column) in zip(line, LAGS.items(), strict=True):
            values = table[column].astype(float)
            edges = np.linspace(
                values.min(), max(values.max(), values.min() + 0.01), 21
            )
            for kind, word in (("held_out", _real(part, "held out")),
                               ("synthetic", "generated")):  # fmt: skip
                own = values[table["kind"] == kind]
                counts = np.histogram(own, edges)[0] / max(len(own), 1)
                step(axes, edges, counts, kind, f"{word} (n = {len(own)})")
            for row in published:
                if (row.dataset, row.metric) == (part.organism, "ncc_mean"):
                    kind = next(k for k, v in KINDS.items() if v == row.condition)
                    colour = COLOURS["real" if kind == "held_out" else kind]
                    axes.axvline(row.value, color=colour, lw=1.2, ls=(0, (3, 2)))
            axes.set_title(f"{part.title}: {lag}", fontsize=8.5)
            axes.set_xlabel("correlation with the nearest training patch")
            axes.set_ylim(0, axes.get_ylim()[1] * 1.45)
            axes.grid(axis="y", color=GRID, lw=0.8)
        line[0].set_ylabel("share of images")
        legend(line[0], loc="upper left")
    figure.supxlabel("dashed: the means that the paper gives, on its own images",
                     fontsize=8, color=MUTED)  # fmt: skip
    return figure


def figure_sweep(parts: Sequence[Part]) -> Figure:
    """Draw correlations and gaps over the number of training images."""
    organisms = list(dict.fromkeys(part.organism for part in parts))
    figure = canvas(0.3 + 2.7 * len(organisms))
    grid = figure.subplots(len(organisms), 2, squeeze=False)
    for organism, line in zip(organisms, grid, strict=True):
        alike = [part for part in parts if part.organism == organism]
        counts = {
            part.key: len(ImageSet.open(part.root / "prepared").select(split="train"))
            for part in alike
        }
        alike.sort(key=lambda part: counts[part.key])
        for kind, word in (("held_out", _real(alike[0], "held out")),
                           ("synthetic", "generated")):  # fmt: skip
            colour = COLOURS["real" if kind == "held_out" else kind]
            _points(line[0], alike, counts, "ncc_mean", KINDS[kind], word, colour)
        _points(
            line[1], alike, counts, "ncc_gap", "generated", "", COLOURS["synthetic"]
        )
        line[1].axhline(0, color=INK, lw=0.8)
        line[0].set_title(
            f"{alike[0].title}: mean correlation, all shifts", fontsize=8.5
        )
        line[1].set_title("gap between training and held-out patches", fontsize=8.5)
        for axes in line:
            axes.set_xlabel("training images")
            axes.set_xticks(sorted(set(counts.values())))
            axes.grid(axis="y", color=GRID, lw=0.8)
        legend(line[0])
    return figure


def _points(
    axes: Axes, parts: Sequence[Part], counts: dict[str, int], metric: str,
    condition: str, word: str, colour: str,
) -> None:  # fmt: skip
    """Draw the value of each part with its interval."""
    drawn = []
    for part in parts:
        for row in memorisation_rows(part, {}):
            found = row.condition.startswith(condition) and "zero lag" not in row.method
            if found and row.metric == metric:
                drawn.append((counts[part.key], row.value, row.ci_low, row.ci_high))
    if not drawn:
        return
    x, y, low, high = np.asarray(drawn, float).T
    axes.plot(x, y, "o-", color=colour, ms=4, lw=1.5, label=word or None)
    axes.vlines(x, low, high, color=colour, lw=1.2)


_ALL = ("checked/manifest.csv", "prepared/manifest.csv")
_PAIRS = ("pairs/test/manifest.csv", "restored/care/*/*/manifest.csv")
_NOT_RESTORED = "nothing was restored: `restore.arms` of this part is empty"
FIGURES = {
    "fig1": PaperFigure(figure_1, _ALL, of=_whole),
    "fig2": PaperFigure(figure_2, ("memorisation/manifest.csv",), of=_whole),
    "fig3": PaperFigure(figure_restored, _PAIRS, _NOT_RESTORED, _of("mt")),
    "fig4": PaperFigure(figure_restored, _PAIRS, _NOT_RESTORED, _of("mito")),
    "ncc": PaperFigure(figure_ncc, (str(COPIES),), of=_whole),
    "sweep": PaperFigure(
        figure_sweep, (str(COPIES), "prepared/manifest.csv"),
        "all parts were trained on all of their images: none has `split.most_train`",
        _swept,
    ),
}  # fmt: skip

"""One look for all figures: colours, fonts, outlines, scale bars, small PNG files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.images.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image as PillowImage

Array = NDArray[Any]
Plot = Callable[[Path, Config, Path], None]

DPI = 110
WIDTH = 9.5  # inch; at 110 dpi the text column of the report
LIMIT = 390_000  # bytes of a PNG, so that the report stays easy to mail
INK = "#23272e"
MUTED = "#767c86"
GRID = "#e4e6ea"
# Okabe & Ito (2008): told apart with any colour vision.
COLOURS = {
    "real": "#4a4f57",
    "annotated": "#4a4f57",
    "synthetic": "#0072b2",
    "sketch": "#d98200",
    "camera": "#d98200",
    "otsu_watershed": "#b0568c",
    "generalist": "#009e73",
}
MATCH, FALSE, MISSED = "#3ddc97", "#ff4fd0", "#ffd23f"
LABEL = "#56b4e9"
TOOLS = {
    "cellpose": "Cellpose",
    "stardist": "StarDist",
    "otsu_watershed": "Otsu-watershed",
    "generalist": "Cellpose generalist (cyto3)",
}
_FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")


def _settings() -> dict[str, Any]:
    from matplotlib import font_manager

    # An absent font would fall back with a warning for each piece of text.
    present = {font.name for font in font_manager.fontManager.ttflist}
    return {
        "font.family": [name for name in _FONTS if name in present] or ["sans-serif"],
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.labelsize": 9,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.constrained_layout.h_pad": 0.06,
        "figure.constrained_layout.w_pad": 0.06,
        "path.simplify": True,
    }


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the common style, whatever the caller's own settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = _settings()
        matplotlib.rcParams.update(settings)
        yield


def styled(plot: Plot) -> Plot:
    """Draw a figure of an experiment in the common style."""

    @wraps(plot)
    def inner(root: Path, config: Config, out: Path) -> None:
        with house_style():
            plot(Path(root), config, Path(out))

    return inner


def canvas(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure, sizes in inches; it needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, out: Path) -> None:
    """Write a PNG of at most about 390 kB: noise of the camera costs most bytes."""
    from PIL import Image

    packed = io.BytesIO()
    for dpi, greys in ((DPI, 128), (DPI, 40), (95, 40), (95, 24), (70, 24)):
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=dpi, format="png")
        picture = Image.open(buffer).convert("RGB")
        packed = io.BytesIO()
        _few_colours(picture, greys).save(packed, "PNG", optimize=True)
        if packed.tell() <= LIMIT:
            break
    with atomic_file(out) as temporary:
        temporary.write_bytes(packed.getvalue())


def _few_colours(picture: PillowImage, greys: int) -> PillowImage:
    """Reduce to a palette of even greys, the colours that mean something, and others.

    Greys are only ever mapped to greys: a general palette lends noise a tint.
    """
    from matplotlib.colors import to_rgb
    from PIL import Image

    pixels = np.asarray(picture).astype(np.int16)
    grey = np.ptp(pixels, axis=-1) <= 6
    index = np.rint(pixels.mean(axis=-1) / 255 * (greys - 1)).astype(np.uint8)
    levels = np.rint(np.linspace(0, 255, greys)).astype(int)
    entries = [int(level) for level in np.repeat(levels, 3)]
    if not grey.all():
        others = Image.fromarray(pixels[~grey][None].astype(np.uint8))
        few = others.quantize(100, dither=Image.Dither.NONE)
        index[~grey] = np.asarray(few)[0] + greys
        entries += few.getpalette() or []
    for accent in {*COLOURS.values(), MATCH, FALSE, MISSED, LABEL, INK}:
        exact = [round(255 * part) for part in to_rgb(accent)]
        index[(pixels == exact).all(axis=-1)] = len(entries) // 3
        entries += exact
    result = Image.fromarray(index)
    result.putpalette(entries)
    return result


def show(axes: Axes, unit: Array, title: str = "") -> None:
    """Show unit intensities (0: black, 1: white) without ticks.

    The same mild gamma everywhere: dim nuclei stay visible beside bright ones.
    """
    # Sixty-four greys look the same and halve the file.
    grey = np.rint(np.clip(unit, 0, 1) ** 0.7 * 63) / 63
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    bare(axes)
    if title:
        axes.set_title(title, fontsize=8.5, pad=4)


def bare(axes: Axes) -> None:
    """Remove ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def outlines(
    axes: Axes,
    labels: Array,
    colour: str,
    *,
    only: Iterable[int] | None = None,
    width: float = 1.0,
    dashed: bool = False,
) -> None:
    """Draw the outline of each object, or of those named by `only`."""
    from matplotlib.collections import LineCollection
    from scipy import ndimage
    from skimage.measure import find_contours

    wanted = None if only is None else {int(number) for number in only}
    lines = []
    for number, box in enumerate(ndimage.find_objects(labels.astype(np.int64)), 1):
        if box is None or (wanted is not None and number not in wanted):
            continue
        inside = np.pad(labels[box] == number, 1).astype(float)
        offset = (box[1].start - 1, box[0].start - 1)
        lines += [line[:, ::-1] + offset for line in find_contours(inside, 0.5)]
    style = (0, (2.2, 1.3)) if dashed else "solid"
    axes.add_collection(
        LineCollection(lines, colors=colour, linewidths=width, linestyles=[style]),
        autolim=False,
    )


def scale_bar(axes: Axes, side: int, pixel_size: float | None) -> None:
    """Draw a bar of a round length, about a quarter of the panel, in um or px."""
    size, unit = (pixel_size, "µm") if pixel_size else (1.0, "px")
    target = side * size / 4
    steps = [m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5)]
    length = max(step for step in steps if step <= target)
    right, y = side * 0.94, side * 0.94
    axes.plot([right - length / size, right], [y, y], color="white", lw=2.5,
              solid_capstyle="butt")  # fmt: skip
    axes.text(right - length / size / 2, y - side * 0.03, f"{length:g} {unit}",
              color="white", ha="center", va="bottom", fontsize=7.5, zorder=5,
        bbox={"facecolor": "black", "alpha": 0.55, "lw": 0, "pad": 1.5},
)  # fmt: skip


def legend(axes: Axes, **options: Any) -> None:
    """Write the names of the lines in their own colours, without a frame."""
    found = axes.legend(handlelength=1.2, handletextpad=0.5, **options)
    for text, handle in zip(found.get_texts(), found.legend_handles, strict=True):
        artist: Any = handle
        line = getattr(artist, "get_color", None)
        filled = getattr(artist, "get_fill", lambda: False)()
        patch = artist.get_facecolor if filled else None
        colour = line or patch or getattr(artist, "get_edgecolor", None)
        if colour is not None:
            shade = np.atleast_2d(np.asarray(_rgba(colour()), float))[0]
            text.set_color((*shade[:3], 1.0))


def _rgba(colour: Any) -> Any:
    from matplotlib.colors import to_rgba

    return to_rgba(colour) if isinstance(colour, str) else colour


def spread(values: list[float], gap: float) -> list[float]:
    """Shift label positions apart until neighbours are `gap` apart, order kept."""
    order = np.argsort(values, kind="stable")
    placed = np.asarray(values, float)[order]
    for _ in range(200):
        moved = False
        for i in range(len(placed) - 1):
            lack = gap - (placed[i + 1] - placed[i])
            if lack > 1e-9:
                placed[i] -= lack / 2
                placed[i + 1] += lack / 2
                moved = True
        if not moved:
            break
    result = np.empty_like(placed)
    result[order] = placed
    return [float(value) for value in result]

"""Stand-ins for the images of semantic filtering, laid out by `benchmarks.standins`.

`worms/`, `worms-slow/`: one real video of C. elegans, whose background was set to
black, cut into short videos by time; each is put on a drawn plate of its own, because
the worms of the paper are dark on bright agar. `worms-masked/`: the same without any
plate, as it was published. `microglia/`: real images as they are; `nuclei/`: real ones
of equal exposure. Videos and microglia are named by what they are for; what trains and
what tests shares neither time (videos) nor place (microglia). Nuclei are to be divided
by image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator

Array = NDArray[Any]
WORMS = "E-celegans-video/frames_000-439.tif"
MICROGLIA = "E-microglia-timelapse"
NUCLEI = "A-dsb2018-nuclei"
# First and last frame of each video. The worm crosses its own length in some 20 frames;
# in the slow ones it hardly moves: of neighbouring frames, 4/5 of it is the same place,
# elsewhere 1/4. From frame 380 on there is something else in the corner. At least 15
# frames lie between what trains and what tests.
FAST = {
    **{f"train-{n}": (20 * n, 20 * n + 19) for n in range(10)},
    **{f"test-{n}": (220 + 20 * n, 239 + 20 * n) for n in range(5)},
    "test-slow": (338, 347),
}
SLOW = {"train-slow": (338, 347), "test-slow": (364, 373)}
# Grey values: the background is below MASKED; a worm is darker than its rim of agar.
MASKED, BODY, AGAR = 20, 130, 165
# Rows of the frames of microglia, and of what nobody sees between them.
ROWS = {"train": (0, 272), "test": (296, 512)}
# Area of a nucleus, px: the median of an image is below or above these.
SMALL, LARGE = 90, 160
EACH = 30
# Grey values.
BACKGROUND, NUCLEUS = 10, 130


def _read(path: Path) -> Array:
    if not path.exists():
        raise PhantomscopeError(
            "there is no such file",
            where=path,
            fix="give the folder that holds the collections of real images",
        )
    return np.asarray(imageio.imread(path) if path.suffix == ".png"
                      else tifffile.imread(path))  # fmt: skip


def _write(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, photometric="minisblack", compression="zlib")


def _largest(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(found, np.ones((3, 3)))
    if not count:
        return found
    number = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(labels == number)


def worm_of(frame: Array) -> NDArray[np.bool_]:
    """Return where the worm is in a masked frame (Y, X): its largest dark object."""
    dark = _largest((frame > MASKED) & (frame < BODY))
    return np.asarray(ndimage.binary_closing(dark))


def plate(name: str, shape: tuple[int, int]) -> Array:
    """Draw a plate (Y, X): uneven light, and dust that does not move."""
    rng = generator("plate", name)
    light = ndimage.gaussian_filter(rng.normal(size=shape), 25, mode="wrap")
    image = AGAR + 8 * light / light.std()
    for _ in range(12):
        y, x = (rng.integers(0, side) for side in shape)
        length, turn = rng.uniform(1, 12), rng.uniform(0, np.pi)
        along = np.linspace(0, length, 2 * int(length) + 1)
        rows = np.clip(y + along * np.sin(turn), 0, shape[0] - 1).astype(int)
        columns = np.clip(x + along * np.cos(turn), 0, shape[1] - 1).astype(int)
        image[rows, columns] -= rng.uniform(20, 90)
    return np.asarray(ndimage.gaussian_filter(image, 0.7))


def on_plate(frames: Array, name: str) -> Array:
    """Put the plate of a video behind its masked frames (T, Y, X), uint8."""
    empty = plate(name, frames.shape[1:])
    noise = generator("camera", name).normal(0, 2, frames.shape)
    kept = np.stack([_largest(frame > MASKED) for frame in frames])
    scene = np.clip(np.rint(empty + noise), 0, 255)
    return np.where(kept, frames, scene).astype(np.uint8)


def lay_out_worms(data: Path, folder: Path) -> None:
    """Write the videos, and label stacks of the worm."""
    frames = _read(data / WORMS)
    for organism, spans in (
        ("worms", FAST), ("worms-slow", SLOW), ("worms-masked", FAST)
    ):  # fmt: skip
        for name, (first, last) in spans.items():
            part = frames[first : last + 1]
            labels = np.stack([worm_of(frame) for frame in part]).astype(np.uint8)
            drawn = part if organism == "worms-masked" else on_plate(part, name)
            _write(folder / organism / "videos" / f"{name}.tif", drawn)
            _write(folder / organism / "labels" / f"{name}.tif", labels)
        shown = {"videos": len(spans), "frame": frames.shape[1:]}
        print(f"{organism}: a real worm, cut by time {json.dumps(shown)}")


def lay_out_microglia(data: Path, folder: Path) -> None:
    """Write the annotated frames, cut by place: cells hardly move in between."""
    images = _read(data / MICROGLIA / "pg6_t1-5.tif")
    labels = _read(data / MICROGLIA / "pg6_t1-5-labelMasks.tif")
    for side, (begin, end) in ROWS.items():
        # The masks are of the first three frames only.
        for time, (image, mask) in enumerate(zip(images, labels, strict=False)):
            name = f"{side}-t{time}.tif"
            _write(folder / "microglia/images" / name, image[begin:end])
            _write(folder / "microglia/labels" / name, mask[begin:end])
    print(f"microglia: {len(labels)} frames, cut by place {json.dumps(ROWS)}")


def lay_out_nuclei(data: Path, folder: Path) -> None:
    """Write nuclei of two sizes: images whose nuclei are bright, and small or large.

    Their exposures differ tenfold, but those of two kinds of cells in one dish do not:
    the median background becomes `BACKGROUND` and the median nucleus `NUCLEUS`.
    """
    found: dict[str, list[str]] = {"small": [], "large": []}
    paths = sorted((data / NUCLEI / "labels").glob("*.png"))
    if not paths:
        raise PhantomscopeError(
            "there are no nuclei",
            where=data / NUCLEI,
            fix="give the folder that holds the collections of real images",
        )
    for path in paths:
        labels = _read(path)
        areas = np.bincount(labels.ravel())[1:]
        middle = float(np.median(areas[areas > 0]))
        kind = "small" if middle < SMALL else "large" if middle > LARGE else ""
        if labels.shape != (256, 256) or not kind or len(found[kind]) == EACH:
            continue
        image = _read(data / NUCLEI / "images" / path.name)
        dark, bright = (
            float(np.median(image[side])) for side in (labels == 0, labels > 0)
        )
        if bright - dark < 40:
            continue
        gain = (NUCLEUS - BACKGROUND) / (bright - dark)
        image = np.clip(np.rint(BACKGROUND + gain * (image - dark)), 0, 255)
        name = f"{kind}-{path.stem}.tif"
        _write(folder / "nuclei/images" / name, image.astype(np.uint8))
        _write(folder / "nuclei/labels" / name, labels)
        found[kind].append(name)
    shown = {kind: len(names) for kind, names in found.items()}
    print(f"nuclei: of two sizes {json.dumps(shown)}")


def lay_out_layers(data: Path, folder: Path) -> None:
    """Write all of them."""
    lay_out_worms(data, folder)
    lay_out_microglia(data, folder)
    lay_out_nuclei(data, folder)

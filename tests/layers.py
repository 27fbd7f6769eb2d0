"""Miniatures of the data of Javer & Rittscher, in their publishers' layouts.

    write_layers(folder)
    with serve(folder, ARCHIVES) as registry:
        ...

Their content is simulated. The names of BBBC026's files, the colours of its marks and
the columns of BBBC042's boxes are those that the released code of the paper reads. How
folders within the archives are called was not seen, and no reader looks at them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray
from tests.archives import png, zipped

from phantomscope.images.noise import generator

PLATE, GROUND = "BBBC026_v1_images.zip", "BBBC026_GT_images.zip"
IMAGES, POSITIONS = "images.zip", "positions.zip"
# What `tests.server.serve` needs to know.
ARCHIVES: dict[str, str | list[str]] = {
    "bbbc026": GROUND, "bbbc026_plate": PLATE, "bbbc042": [IMAGES, POSITIONS],
}  # fmt: skip
STEM = "ADSASS092408-GHAD2-D6-20x"
# In the order of the folds.
SITES = ("A03_s1", "A07_s4", "C09_s2", "E01_s8", "M19_s6")
WELLS = {"B01": 2, "C01": 3, "D01": 2, "B23": 9, "C23": 8, "D23": 10, "B12": 5}
COLOURS = {
    "hepatocyte": (255, 4, 6), "fibroblast": (3, 255, 0), "debris": (8, 10, 255)
}  # fmt: skip
# Numbers of BBBC042 on either side of the limits of its split.
NUMBERS = (1, 2, 999, 1000, 1049, 1050, 1117)
Array = NDArray[Any]
Spots = list[tuple[int, int, str]]


def disc(image: Array, y: int, x: int, radius: int, light: float) -> None:
    """Add a disc to an image."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    image[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] += light


def culture(name: str, shape: tuple[int, int] = (160, 200)) -> tuple[Array, Spots]:
    """Return a co-culture: small bright hepatocytes, larger dim fibroblasts, debris."""
    rng = generator("culture", name)
    image, spots = rng.normal(20, 2, shape), []
    kinds = ["hepatocyte", "fibroblast"] * 4 + ["debris"]
    places = [(24 + 44 * i, 24 + 48 * j) for i in range(3) for j in range(4)]
    for kind, place in zip(kinds, rng.permutation(places), strict=False):
        y, x = (int(v) for v in place + rng.integers(-3, 4, 2))
        radius = {"hepatocyte": 9, "fibroblast": 14, "debris": 3}[kind]
        disc(image, y, x, radius, {"hepatocyte": 120, "fibroblast": 60}.get(kind, 30))
        spots.append((y, x, kind))
    return np.clip(image, 0, 254).astype(np.uint8), spots


def marked(image: Array, spots: Spots) -> Array:
    """Return the colour image with a mark on each object; the first one is a blob."""
    colour = np.repeat(image[..., None], 3, axis=2)
    for number, (y, x, kind) in enumerate(spots):
        colour[y, x] = COLOURS[kind]
        if number == 0:
            colour[y - 1 : y + 2, x - 1 : x + 2] = COLOURS[kind]
    return colour


def brain(number: int, shape: tuple[int, int] = (150, 180)) -> tuple[Array, Array]:
    """Return a stained section, RGB, and the boxes (x1, y1, x2, y2) of its cells."""
    rng = generator("brain", number)
    image, boxes = rng.normal(0, 3, shape), []
    for y, x in ((40, 45), (100, 120)):
        disc(image, y, x, 14, -90)
        boxes.append((x - 17, y - 17, x + 18, y + 18))
    disc(image, 110, 30, 9, -60)  # a cell that nobody marked
    colour = np.stack([image + 205, image + 190, image + 215], axis=-1)
    return np.clip(colour, 0, 255).astype(np.uint8), np.array(boxes)


def worms(path: Path, frames: int = 5, interval: int = 4500, fps: float = 25.0) -> None:
    """Write a masked video of Tierpsy, with a dark worm that moves."""
    rng = generator("worms", path.stem)
    whole = rng.normal(180, 3, (frames, 96, 128))
    for number, image in enumerate(whole):
        for part in range(20):
            disc(image, 30 + 6 * number + part // 3, 30 + 2 * part, 4, -4)
    full = np.clip(whole, 0, 255).astype(np.uint8)
    with h5py.File(path, "w") as file:
        # Every frame, its background set to 0.
        masked = file.create_dataset(
            "mask", data=np.where(full < 172, full, 0), compression="gzip",
            chunks=(1, 96, 128),
        )  # fmt: skip
        masked.attrs["expected_fps"] = fps
        masked.attrs["microns_per_pixel"] = 12.5
        kept = file.create_dataset(
            "full_data", data=full, compression="gzip", chunks=(1, 96, 128)
        )
        kept.attrs["save_interval"] = interval


def write_layers(folder: Path) -> None:
    """Write the four archives and, in `worms/`, two videos."""
    folder.mkdir(parents=True, exist_ok=True)
    plate, ground = {}, {}
    for site in SITES:
        image, spots = culture(site)
        plate[f"BBBC026_v1_images/{STEM}_{site}_w1{hash_of(site)}.png"] = png(image)
        ground[f"BBBC026_GT_images/{STEM}_{site}.png"] = png(marked(image, spots))
    for well in WELLS:
        for site in (1, 2):
            name = f"{well}_s{site}"
            image, _ = culture(name)
            plate[f"BBBC026_v1_images/{STEM}_{name}_w1{hash_of(name)}.png"] = png(image)
    plate["__MACOSX/._A03_s1.png"] = b"no image"
    (folder / PLATE).write_bytes(zipped(plate))
    (folder / GROUND).write_bytes(zipped(ground))
    images, positions = {}, {}
    for number in NUMBERS:
        image, boxes = brain(number)
        images[f"images/{number}.png"] = png(image)
        # As in KITTI: class, three numbers, then the box.
        lines = [
            f"astrocyte 0.0 0 0.0 {' '.join(map(str, box))} 0 0 0" for box in boxes
        ]
        positions[f"positions/{number}.txt"] = ("\n".join(lines) + "\n").encode()
    (folder / IMAGES).write_bytes(zipped(images))
    (folder / POSITIONS).write_bytes(zipped(positions))
    (folder / "worms").mkdir(exist_ok=True)
    for strain in ("N2", "CB4856"):
        worms(folder / "worms" / f"{strain}.hdf5")
        outline(folder / "worms" / f"{strain}.hdf5", folder / "worms-labels")


def outline(video: Path, folder: Path) -> None:
    """Write the worm of each frame of a video as a stack of labels, named alike."""
    folder.mkdir(exist_ok=True)
    with h5py.File(video) as file:
        dark = (file["full_data"][:] < 160).astype(np.uint16)
    tifffile.imwrite(folder / f"{video.stem}.tif", dark)


def hash_of(name: str) -> str:
    """Return what the microscope's program puts behind a name."""
    bits = generator("guid", name).integers(2**32, size=4)
    return "-".join(f"{b:08X}" for b in bits)

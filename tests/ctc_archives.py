"""Miniatures of the archives of Eschweiler and Stegmaier, in their publishers' layout.

    python -m tests.ctc_archives FOLDER            # writes them; a `source.mirror`
    python -m tests.ctc_archives FOLDER --serve    # and serves them on this machine

    write_archives(folder, {"ctc_gowt1": {"01": [(image, labels), ...], "02": ...}})
    with serve(folder, ARCHIVES) as registry:      # a `source.registry`
        ...

The archives hold whatever images and labels they are given; `examples` makes some.
"""

from __future__ import annotations

import argparse
import io
import signal
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from tests.server import serve, write_registry

Array = NDArray[Any]
Pair = tuple[Array, Array]  # an image ([Z,] Y, X) and its labels, 0 is background
Series = Mapping[str, Sequence[Pair]]  # group (sequence, plant) to pairs in time

CTC = {
    "ctc_ce": "Fluo-N3DH-CE", "ctc_tric": "Fluo-N3DL-TRIC",
    "ctc_gowt1": "Fluo-N2DH-GOWT1", "ctc_hela": "Fluo-N2DL-HeLa",
}  # fmt: skip
WITH_SILVER = ("ctc_ce", "ctc_gowt1", "ctc_hela")
MERISTEM = "ath_meristem"
NAMES = (*CTC, MERISTEM)
# People annotate a few frames, and of volumes a few planes.
GOLD_EVERY = 2
GOLD_PLANES = 2
SEGMENTED = "_hmin_2_asf_1_s_2.00_clean_3"


def tiff(array: Array) -> bytes:
    """Pack an image as a TIFF file, one page per plane."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack")
    return stream.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Pack files, and the folders that they are in, as the publishers do."""
    folders = {
        "/".join(name.split("/")[:depth]) + "/"
        for name in files
        for depth in range(1, name.count("/") + 1)
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in sorted({**dict.fromkeys(folders, b""), **files}.items()):
            info = zipfile.ZipInfo(name, (2024, 1, 2, 3, 4, 6))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return stream.getvalue()


def gold_planes(labels: Array) -> list[int]:
    """Planes of a volume that get annotated: those with most objects."""
    counts = [len(np.unique(plane)) for plane in labels]
    best = sorted(range(len(counts)), key=lambda z: (-counts[z], z))
    return sorted(best[:GOLD_PLANES])


def ctc_files(name: str, series: Series) -> dict[str, bytes]:
    """Return the members of a training set of the Cell Tracking Challenge."""
    root, files = CTC[name], {}
    for sequence, pairs in series.items():
        truth = f"{root}/{sequence}_GT"
        tracks = []
        for t, (image, labels) in enumerate(pairs):
            files[f"{root}/{sequence}/t{t:03}.tif"] = tiff(image)
            packed = tiff(labels.astype(np.uint16))
            files[f"{truth}/TRA/man_track{t:03}.tif"] = packed
            tracks += [f"{i} {t} {t} 0" for i in np.unique(labels)[1:]]
            if name in WITH_SILVER:
                files[f"{root}/{sequence}_ST/SEG/man_seg{t:03}.tif"] = packed
            if t % GOLD_EVERY == 0 and labels.ndim == 2:
                files[f"{truth}/SEG/man_seg{t:03}.tif"] = packed
            elif t % GOLD_EVERY == 0:
                for z in gold_planes(labels):
                    plane = tiff(labels[z].astype(np.uint16))
                    files[f"{truth}/SEG/man_seg_{t:03}_{z:03}.tif"] = plane
        files[f"{truth}/TRA/man_track.txt"] = "\n".join(tracks).encode()
    return files


def meristem_files(series: Series) -> dict[str, bytes]:
    """Return the members of the archive of Willis et al.; 1 is the label of outside."""
    files = {}
    for plant, pairs in series.items():
        for number, (image, labels) in enumerate(pairs):
            stem = f"{4 * number}hrs_{plant}_trim"
            folder = f"PNAS/{plant}/processed_tiffs"
            files[f"{folder}/{stem}-acylYFP.tif"] = tiff(image)
            files[f"{folder}/{stem}-clv3.tif"] = tiff(image[:, ::-1])
            name = f"PNAS/{plant}/segmentation_tiffs/{stem}-acylYFP{SEGMENTED}.tif"
            files[name] = tiff((labels + 1).astype(np.uint16))
    return files


def archive_name(name: str) -> str:
    """Return the name of the archive of a data set of the registry."""
    return "PNAS.zip" if name == MERISTEM else f"{CTC[name]}.zip"


ARCHIVES = {name: archive_name(name) for name in NAMES}


def write_archives(folder: Path, images: Mapping[str, Series]) -> dict[str, Path]:
    """Write an archive of each data set.

    Parameters
    ----------
    folder : Path
        Where to write ``Fluo-N3DH-CE.zip``, ``PNAS.zip`` and so on.
    images : Mapping
        Name in the registry to group (``01``, ``plant15``) to pairs of an image and its
        labels, ([Z,] Y, X), 0 is background.

    Returns
    -------
    dict
        Name in the registry to the archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, series in images.items():
        files = meristem_files(series) if name == MERISTEM else ctc_files(name, series)
        paths[name] = folder / archive_name(name)
        paths[name].write_bytes(zipped(files))
    return paths


def nuclei(seed: int, shape: Sequence[int], count: int, radius: float) -> Pair:
    """Make bright balls, flat along z, on a dim background.

    Returns
    -------
    ndarray, ndarray
        Image, uint16, and labels, uint16, ([Z,] Y, X).
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    scale = np.ones(len(shape))
    scale[: len(shape) - 2] = 4.0  # planes are that much farther apart than pixels
    labels = np.zeros(shape, np.uint16)
    values = np.full(shape, 100.0)
    for number in range(1, count + 1):
        offset = (grid - rng.uniform(0, shape)) * scale
        inside = (np.sum(offset**2, axis=-1) < radius**2) & (labels == 0)
        labels[inside] = number
        values[inside] = rng.uniform(400, 900)
    sigma = 1 / scale
    values = gaussian_filter(values, sigma) + rng.normal(0, 15, shape)
    return np.clip(values, 0, 65535).astype(np.uint16), labels


def membranes(seed: int, shape: Sequence[int], count: int) -> Pair:
    """Make cells that fill a dome, bright where they touch, dimmer with depth.

    Returns
    -------
    ndarray, ndarray
        Image, uint8, and labels, uint16, (Z, Y, X); 0 is outside.
    """
    rng = np.random.default_rng(seed)
    seeds = np.ones(shape, bool)
    places = [tuple(rng.integers(0, shape)) for _ in range(count)]
    for place in places:
        seeds[place] = False
    nearest = distance_transform_edt(seeds, return_distances=False, return_indices=True)
    numbers = np.zeros(shape, np.uint16)
    for number, place in enumerate(places, 1):
        numbers[place] = number
    labels = numbers[tuple(nearest)]
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    labels[(z - 1) ** 2 / 4 + y**2 + x**2 > 0.9] = 0
    edge = np.zeros(shape, bool)
    for axis in range(3):
        step = np.diff(labels, axis=axis, append=np.take(labels, [-1], axis)) != 0
        edge |= step
    values = 20 + 200 * gaussian_filter(edge.astype(float), 0.7) * (0.7 - 0.3 * z)
    values += rng.normal(0, 4, shape)
    return np.clip(values, 0, 255).astype(np.uint8), labels


def examples(frames: int = 3) -> dict[str, Series]:
    """Make small images of each set: a few frames of 01 and 02, one stack per plant."""
    sizes: dict[str, tuple[tuple[int, ...], int, float]] = {
        "ctc_ce": ((12, 64, 80), 24, 9.0),
        "ctc_tric": ((13, 80, 72), 60, 5.0),
        "ctc_gowt1": ((128, 128), 9, 13.0),
        "ctc_hela": ((112, 144), 40, 6.0),
    }
    made: dict[str, Series] = {}
    for name, (shape, count, radius) in sizes.items():
        made[name] = {
            sequence: [
                nuclei(1000 * number + t, shape, count, radius) for t in range(frames)
            ]
            for number, sequence in enumerate(("01", "02"))
        }
    made[MERISTEM] = {
        f"plant{n}": [membranes(n, (24, 64, 72), 60)] for n in (1, 2, 4, 13, 15, 18)
    }
    return made


def main() -> None:
    """Write the example archives, and serve them until this is ended."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--serve", action="store_true", help="serve them until ended")
    options = parser.parse_args()
    write_archives(options.folder, examples())
    if not options.serve:
        registry = write_registry(options.folder, "https://example.invalid", ARCHIVES)
        print(f"source: {{registry: {registry}, mirror: {options.folder}, ...}}")
        return
    with serve(options.folder, ARCHIVES) as registry:
        print(registry, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()

"""Speed of the whole path from a sketch file to an image file, 1024 x 1024 px."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.laboratory import Laboratory
from benchmarks.table import Row
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.precision import cpu_bf16
from phantomscope.engine.sample import Sampler
from phantomscope.images.files import read_array, write_ome_tiff

SIDE = 1024
# The released code cuts tiles of 256 px that overlap by 20 px on each side.
TILE, OVERLAP = 256, 20


def reference_seconds(
    model: DiffusionModel, seed: int, steps: int = 400
) -> tuple[float, int]:
    """Time one tile of the reference's way, and count the tiles of an image.

    Ancestral, 400 steps, fp32, batch 1, noise for each tile by itself. Tiles take no
    notice of each other there, so that an image takes as many times as long. With fewer
    `steps` their time is scaled to 400.
    """
    config = Synthesise(
        sampler="ddpm", spacing="uniform", steps=steps, tile=TILE, overlap=0,
        fusion="final", micro_batch=1, precision="fp32", compile="never", threads=2,
    )  # fmt: skip
    sampler = Sampler(model, config, seed)
    tile = np.zeros((TILE, TILE), np.float32)
    begin = time.perf_counter()
    sampler.from_sketch(tile, "reference", 400)
    seconds = (time.perf_counter() - begin) * 400 / steps
    return seconds, (-(-SIDE // (TILE - 2 * OVERLAP))) ** 2


def our_seconds(
    model: DiffusionModel, config: Synthesise, seed: int, folder: Path,
    start: int = 400, side: int = SIDE,
) -> float:  # fmt: skip
    """Time an image from file to file; the second one, since the first one compiles."""
    sampler = Sampler(model, config, seed)
    sketch = np.zeros((side, side), np.float32)
    write_ome_tiff(folder / "sketch.ome.tif", sketch)
    seconds = []
    for n in range(2):
        begin = time.perf_counter()
        image = sampler.from_sketch(
            read_array(folder / "sketch.ome.tif"), f"ours-{n}", start
        )
        write_ome_tiff(folder / "image.ome.tif", image)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def rows(lab: Laboratory, folder: Path, on: str) -> list[Row]:
    """Compare ours, by default and at its fastest, with the reference's way."""
    model = DiffusionModel.load(lab.model)
    tile, count = reference_seconds(model, lab.config.seed)
    baseline = tile * count
    fast = lab.config.synthesise.model_copy(
        update={
            "threads": 2,
            "precision": "auto",
            "compile": "always",
            "micro_batch": 1,
        }
    )
    plain = fast.model_copy(update={"precision": "fp32", "compile": "never"})
    found = []
    for name, config in (("", fast), ("_fp32", plain)):
        seconds = our_seconds(model, config, lab.config.seed, folder)
        arithmetic = f"bf16 ({cpu_bf16() or 'without instructions for it'}), compiled"
        what = (
            f"1024 x 1024 sketch to image, file to file: {config.sampler}, "
            f"{config.steps} steps, {'fp32, eager' if name else arithmetic}, against "
            f"ancestral 400 steps, fp32, batch 1 ({count} tiles of {TILE} px, of which "
            "one was timed over all its steps)"
        )
        found.append(
            Row(f"engine.sketch_to_image_speedup{name}", what, on, baseline / seconds,
                "x", ">= 40" if not name else ">= 20", "python -m benchmarks synthesis",
                floor=f"{400 / config.steps:.0f} x by the number of steps alone",
                baseline=baseline, ratio=baseline / seconds)
        )  # fmt: skip
    return found

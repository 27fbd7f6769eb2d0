"""Pairs of composed images a second."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Row
from phantomscope.config.layers import Compose, preset
from phantomscope.images.noise import generator
from phantomscope.simulate.compose import Compositor, pack_backgrounds, pack_crops

COMMAND = "python -m benchmarks compose"
THREADS = 2


def crop(
    radius: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a noisy disc with two pixels around it."""
    y, x = np.mgrid[-radius - 2 : radius + 3, -radius - 2 : radius + 3]
    mask = y * y + x * x <= radius * radius
    return (0.1 + 0.3 * mask * rng.random(mask.shape)).astype(np.float32), mask


def compositor(side: int) -> Compositor:
    """Compose as for BBBC026: objects of 24 to 48 px and of 36 to 80 px."""
    options, rng = preset(Compose, "bbbc026", {"size": side}), generator(0, "compose")
    kinds = [
        pack_crops([crop(int(r), rng) for r in rng.integers(*radii, 100)], options)
        for radii in ((12, 25), (18, 41))
    ]
    grounds = [
        (0.05 + 0.02 * rng.random((520, 696)), rng.random((520, 696)) < 0.1)
        for _ in range(5)
    ]
    return Compositor(kinds[0], kinds[1], pack_backgrounds(grounds), options, 0)


def rows(
    folder: Path, side: int = 256, pairs: int = 500, repeats: int = 5
) -> list[Row]:
    """Time pairs by two threads; the median of some repeats."""
    made = compositor(side)
    made.batch(0, 2, THREADS)
    wall, spent = [], []
    for step in range(repeats):
        begin, cpu = time.perf_counter(), time.process_time()
        made.batch(step, pairs, THREADS)
        wall.append(time.perf_counter() - begin)
        spent.append(time.process_time() - cpu)
    out = np.empty((pairs, 2, side, side), np.float32)
    begin = time.process_time()
    out.fill(0.5)
    floor = 1000 * (time.process_time() - begin) / pairs
    each = 1000 * float(np.median(spent)) / pairs
    load = os.getloadavg()[0]
    return [
        Row("compose.pairs_per_second",
            f"pairs of {side} x {side} px a second that share their target layer, "
            f"{THREADS} threads, median of {repeats} x {pairs}",
            "preset bbbc026: 3 to 8 crops of each layer, two backgrounds; load of the "
            f"machine when done {load:.1f}", pairs / float(np.median(wall)), "pairs/s",
            ">= 500", COMMAND,
            floor=f"{each:.2f} ms of CPU a pair; to fill its "
            f"{2 * 4 * side * side / 2**20:.2g} MB takes {floor:.3f} ms")
    ]  # fmt: skip

"""The audit of copies: what it finds, how often it errs, and its time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.table import Row
from phantomscope.measure.alarm import alarm, distinctness
from phantomscope.measure.memorisation import nearest_patch

Floats = NDArray[np.float32]

COMMAND = "python -m benchmarks memorisation"
SAMPLES = 50
# Held-out patches: of audits with a copy, and, few and many, of those without.
HELD_OUT, BASELINES = 100, (24, 200)


def filaments(count: int, side: int, seed: int) -> Floats:
    """Return independent images of persistent random walks, blurred."""
    random = np.random.default_rng(seed)
    walks, steps = side // 5, 2 * side
    images = np.zeros((count, side, side), np.float32)
    for image in images:
        turns = random.normal(0, 0.06, (walks, steps)).cumsum(axis=1)
        angle = turns + random.uniform(0, 2 * np.pi, (walks, 1))
        start = random.uniform(-0.5 * side, 1.5 * side, (2, walks, 1))
        y, x = (
            np.rint(s + part(angle).cumsum(axis=1)).astype(int)
            for s, part in zip(start, (np.sin, np.cos), strict=True)
        )
        inside = (y >= 0) & (x >= 0) & (y < side) & (x < side)
        np.add.at(image, (y[inside], x[inside]), 1)
        ndimage.gaussian_filter(image, 1.3, output=image)
    return images


def plant(patch: Floats, random: np.random.Generator) -> Floats:
    """Return a copy of a patch that is turned, moved in a circle, and noisy."""
    side = len(patch)
    flipped = patch.T if random.random() < 0.5 else patch
    turned = np.rot90(flipped, int(random.integers(4)))
    moved = np.roll(turned, tuple(random.integers(side, size=2)), (0, 1))
    noise = random.normal(0, 0.5 * patch.std(), patch.shape)
    return (moved + noise).astype(np.float32)


def planted_found(side: int, patches: int, audits: int) -> float:
    """Return the share of audits that flag the one copy among 50 samples."""
    training = filaments(patches, side, 0)
    baseline = standing_out(filaments(HELD_OUT, side, 1), training)
    good = 0
    for number in range(audits):
        random = np.random.default_rng(number)
        samples = filaments(SAMPLES, side, 2 + number)
        place, source = int(random.integers(SAMPLES)), int(random.integers(patches))
        samples[place] = plant(training[source], random)
        near = nearest_patch(samples, training)
        flagged = alarm(distinctness(near.by_patch), baseline).flagged
        good += bool(flagged[place] and near.index[place] == source)
    return good / audits


def standing_out(images: Floats, training: Floats) -> NDArray[np.float64]:
    """Return how far the nearest training patch of each image stands out."""
    return distinctness(nearest_patch(images, training).by_patch)


def false_alarms(
    side: int, patches: int, pool: int, audits: int
) -> dict[int, tuple[float, float]]:
    """Return by held-out number the share of audits, and of images, with an alarm.

    Each audit takes 50 samples and its baseline from a pool of independent images.
    """
    images = filaments(pool, side, 1)
    standing = standing_out(images, filaments(patches, side, 0))
    found = {}
    for known in BASELINES:
        random = np.random.default_rng(known)
        flagged = np.empty(audits)
        for number in range(audits):
            drawn = random.permutation(standing)[: SAMPLES + known]
            result = alarm(drawn[:SAMPLES], drawn[SAMPLES:])
            flagged[number] = result.flagged.sum()
        found[known] = float((flagged > 0).mean()), float(flagged.mean() / SAMPLES)
    return found


def minutes(side: int, patches: int, threads: int) -> float:
    """Return the minutes that 50 samples take over all shifts and symmetries."""
    random = np.random.default_rng(0)
    samples, known = (
        random.random((count, side, side), np.float32) for count in (SAMPLES, patches)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        nearest_patch(samples[:1], known[:threads])
        begin = time.perf_counter()
        nearest_patch(samples, known)
        return (time.perf_counter() - begin) / 60
    finally:
        torch.set_num_threads(before)


def _transform_milliseconds(side: int) -> float:
    """Return the time of one complex inverse transform that is in the cache."""
    values = torch.randn(side, side, dtype=torch.complex64)
    out, spent = torch.empty_like(values), []
    for _ in range(100):
        begin = time.perf_counter()
        torch.fft.ifft2(values, out=out)
        spent.append(time.perf_counter() - begin)
    return 1000 * min(spent)


def rows(
    folder: Path, side: int = 64, patches: int = 200, audits: int = 20,
    pool: int = 1500, draws: int = 1000, large: int = 256, many: int = 2000,
    threads: int = 2,
) -> list[Row]:  # fmt: skip
    """Plant copies, judge independent images, and time a large search."""
    rates = false_alarms(side, patches, pool, draws)
    each = "; ".join(
        f"{known} held out: {any_of:.3f} of the audits, {one:.5f} of the images"
        for known, (any_of, one) in rates.items()
    )
    spent = minutes(large, many, threads)
    one = _transform_milliseconds(large)
    least = 4 * SAMPLES * many * one / threads / 60_000
    what = f"{patches} training patches of {side} x {side} px with filaments"
    return [
        Row("memorisation.planted_found",
            f"share of {audits} audits that flag the one turned, shifted, noisy copy "
            f"among {SAMPLES} samples, with {HELD_OUT} held-out patches", what,
            planted_found(side, patches, audits), "", "= 1", COMMAND),
        Row("memorisation.false_alarms",
            f"share of {draws} audits of {SAMPLES} independent images in which any is "
            f"flagged ({each})", what, max(any_of for any_of, _ in rates.values()), "",
            "<= 0.05", COMMAND),
        Row(f"memorisation.minutes_{SAMPLES}x{many}",
            f"{SAMPLES} samples against {many} patches, 8 symmetries, all circular "
            "shifts", f"{large} x {large} px, random", spent, "min", "<= 5", COMMAND,
            floor=f"{4 * SAMPLES * many} complex transforms of {one:.2f} ms by "
            f"{threads} threads: {least:.2f} min"),
    ]  # fmt: skip

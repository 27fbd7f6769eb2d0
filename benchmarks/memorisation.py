"""The audit of copies: what it finds, how often it errs, and its time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.table import Row
from phantomscope.measure.alarm import alarm, distinctness
from phantomscope.measure.memorisation import nearest_patch
from phantomscope.measure.statistics import bootstrap_interval

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


def textures(count: int, side: int, seed: int) -> Floats:
    """Return independent images of smooth noise, which go on in a circle."""
    random = np.random.default_rng(seed)
    images = random.standard_normal((count, side, side), np.float32)
    for image in images:
        ndimage.gaussian_filter(image, 2.5, output=image, mode="wrap")
    return images


KINDS = {"filaments": filaments, "textures": textures}


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


def pool_of(
    kind: str, side: int, patches: int, pool: int, number: int
) -> NDArray[np.float64]:
    """Return how far images stand out that are independent of the training patches.

    Each number has training patches and images of its own.
    """
    draw = KINDS[kind]
    return standing_out(
        draw(pool, side, 2 * number + 1), draw(patches, side, 2 * number)
    )


@dataclass(frozen=True)
class Alarms:
    """False alarms: shares of audits, shape (sets,), and of all images."""

    audits: NDArray[np.float64]
    images: float

    def __str__(self) -> str:
        """State the shares, and the interval over sets."""
        found = bootstrap_interval(self.audits.tolist(), lambda v: float(np.mean(v)))
        return (
            f"{found.value:.4f} of the audits (95% CI over sets {found.low:.4f} to "
            f"{found.high:.4f}), {self.images:.5f} of the images"
        )


def false_alarms(
    kind: str, side: int, patches: int, pool: int, sets: int, audits: int
) -> dict[int, Alarms]:
    """Return false alarms by the number of held-out images.

    Audits that share training patches and a pool of images share its rare ones, too: a
    training patch of a single filament has true doubles. So audits are spread over many
    sets, each of which takes 50 samples and a baseline from a pool of its own.
    """
    share: dict[int, list[float]] = {known: [] for known in BASELINES}
    flagged = dict.fromkeys(BASELINES, 0)
    for number in range(sets):
        standing = pool_of(kind, side, patches, pool, number)
        for known in BASELINES:
            random = np.random.default_rng((known, number))
            counts = np.empty(audits)
            for audit in range(audits):
                drawn = random.permutation(standing)[: SAMPLES + known]
                counts[audit] = alarm(drawn[:SAMPLES], drawn[SAMPLES:]).flagged.sum()
            share[known].append(float((counts > 0).mean()))
            flagged[known] += int(counts.sum())
    every = SAMPLES * audits * sets
    return {k: Alarms(np.array(share[k]), flagged[k] / every) for k in BASELINES}


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


def counted(
    side: int = 64, patches: int = 200, planted: int = 20, pool: int = 800,
    sets: int = 16, audits: int = 60,
) -> list[Row]:  # fmt: skip
    """Plant copies, and judge independent images."""
    rates = {
        kind: false_alarms(kind, side, patches, pool, sets, audits) for kind in KINDS
    }
    each = "; ".join(
        f"{kind}, {known} held out: {found}"
        for kind, by_known in rates.items()
        for known, found in by_known.items()
    )
    worst = max(
        float(found.audits.mean())
        for by_known in rates.values()
        for found in by_known.values()
    )
    what = f"{patches} training patches of {side} x {side} px"
    return [
        Row("memorisation.planted_found",
            f"share of {planted} audits that flag the one turned, shifted, noisy copy "
            f"among {SAMPLES} samples, with {HELD_OUT} held-out patches",
            f"{what} with filaments",
            planted_found(side, patches, planted), "", "= 1", COMMAND),
        Row("memorisation.false_alarms",
            f"share of {sets * audits} audits of {SAMPLES} independent images in which "
            f"any is flagged, the worst of ({each})",
            f"{sets} sets of {what} and {pool} images, filaments and textures",
            worst, "", "<= 0.05", COMMAND),
    ]  # fmt: skip


def timed(large: int = 256, many: int = 2000, threads: int = 2) -> list[Row]:
    """Time a large search, on a machine that does nothing else."""
    spent = minutes(large, many, threads)
    one = _transform_milliseconds(large)
    least = 4 * SAMPLES * many * one / threads / 60_000
    return [
        Row(f"memorisation.minutes_{SAMPLES}x{many}",
            f"{SAMPLES} samples against {many} patches, 8 symmetries, all circular "
            "shifts", f"{large} x {large} px, random", spent, "min", "<= 5", COMMAND,
            floor=f"{4 * SAMPLES * many} complex transforms of {one:.2f} ms by "
            f"{threads} threads: {least:.2f} min"),
    ]  # fmt: skip


def rows(_: Path) -> list[Row]:
    """Plant copies, judge independent images, and time a large search."""
    return counted() + timed()

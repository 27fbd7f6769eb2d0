"""Instances from boundaries: how many real nuclei come back, and its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.laboratory import ROOT
from benchmarks.table import Row, load
from phantomscope.images.files import read_array
from phantomscope.images.labels import compact_labels
from phantomscope.measure.boundaries import Variant, boundary_map, decode_boundaries
from phantomscope.measure.instance import pool, score_image

Labels = NDArray[np.integer[Any]]
Map = NDArray[np.float32]
Damage = Callable[[Map, Labels, np.random.Generator], Map]

MASKS = ROOT / "../shared/data/A-dsb2018-nuclei/labels"
IMAGES, SMALLEST = 100, 20
COMMAND = "python -m benchmarks boundaries"
WHAT = "AP50 of nuclei decoded from the boundaries of their masks, "


def masks(folder: Path, number: int = IMAGES) -> list[Labels]:
    """Read masks at even steps through the data set, without the smallest nuclei."""
    paths = sorted(folder.glob("*.png"))
    chosen = [paths[i * len(paths) // number] for i in range(number)]
    found = []
    for path in chosen:
        labels = read_array(path)
        sizes = np.bincount(labels.ravel())
        found.append(compact_labels(np.where(sizes[labels] >= SMALLEST, labels, 0)))
    return found


def erased(share: float) -> Damage:
    """Erase a random share of the boundary."""

    def damage(values: Map, _: Labels, random: np.random.Generator) -> Map:
        lost = (values > 0) & (random.random(values.shape) < share)
        return np.where(lost, np.float32(-1), values)

    return damage


def gaps(share: float) -> Damage:
    """Erase one piece of each object's boundary, such a share of its pixels."""

    def damage(values: Map, labels: Labels, random: np.random.Generator) -> Map:
        values = values.copy()
        for number in range(1, int(labels.max()) + 1):
            own = np.argwhere((labels == number) & (values > 0))
            apart = np.hypot(*(own - own[random.integers(len(own))]).T)
            lost = own[np.argsort(apart, kind="stable")[: round(share * len(own))]]
            values[tuple(lost.T)] = -1
        return values

    return damage


def noisy(spread: float) -> Damage:
    """Add Gaussian noise."""

    def damage(values: Map, _: Labels, random: np.random.Generator) -> Map:
        return values + random.normal(0, spread, values.shape).astype(np.float32)

    return damage


def untouched(values: Map, _: Labels, __: np.random.Generator) -> Map:
    """Leave all as it is."""
    return values


def ap50(
    truth: list[Labels], damage: Damage, width: int = 1, variant: Variant = "basins"
) -> tuple[float, float, int]:
    """Return the AP50 over all objects, the decoder's Mpx a second, and the objects."""
    scores, spent, pixels = [], 0.0, 0
    for seed, labels in enumerate(truth):
        values = damage(
            boundary_map(labels, width), labels, np.random.default_rng(seed)
        )
        begin = time.perf_counter()
        found = decode_boundaries(values, width, variant=variant)
        spent, pixels = spent + time.perf_counter() - begin, pixels + labels.size
        scores.append(score_image(labels, found, (0.5,)))
    pooled = pool(scores, (0.5,))
    return pooled["ap_0.50"], pixels / spent / 1e6, round(pooled["n_true"])


def rows(_: Path) -> list[Row]:
    """Decode whole, damaged and wide boundaries; keep old rows without the data."""
    if not MASKS.is_dir():
        print(f"boundaries: no masks in {MASKS}")
        return [row for row in load() if row.id.startswith("boundaries.")]
    truth = masks(MASKS)
    whole, speed, objects = ap50(truth, untouched)
    on = (
        f"{len(truth)} real masks of DSB2018, {objects} nuclei of {SMALLEST} px or more"
    )

    def row(name: str, what: str, value: float, goal: str = "none") -> Row:
        return Row(f"boundaries.{name}", WHAT + what, on, value, "", goal, COMMAND)

    found = [
        row("ap50_perfect", "1 px wide", whole, ">= 0.99"),
        row("ap50_erased", "1 px wide, 5% of boundary pixels erased at random",
            ap50(truth, erased(0.05))[0], ">= 0.95"),
        row("ap50_gaps", "1 px wide, a tenth of each boundary erased in one piece",
            ap50(truth, gaps(0.1))[0]),
        row("ap50_noisy", "1 px wide, -1 and 1 with Gaussian noise of 0.5",
            ap50(truth, noisy(0.5))[0]),
        row("ap50_wide", "3 px wide", ap50(truth, untouched, 3)[0]),
    ]  # fmt: skip
    for name, how, damage, width in (
        ("perfect", "1 px wide", untouched, 1),
        ("erased", "1 px wide, 5% erased", erased(0.05), 1),
        ("gaps", "1 px wide, a tenth of each erased in one piece", gaps(0.1), 1),
        ("wide", "3 px wide", untouched, 3),
    ):
        value = ap50(truth, damage, width, "published")[0]
        found.append(row(f"ap50_{name}_published", f"{how}: published decoder", value))
    found.append(
        Row("boundaries.mpx_per_second", "whole boundaries decoded, one thread", on,
            speed, "Mpx/s", "none", COMMAND)
    )  # fmt: skip
    return found

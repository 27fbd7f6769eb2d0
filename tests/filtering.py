"""Miniature results of semantic filtering: tested images, what was found, its scores.

    config = filter_config("points", folds=3)
    write_tested(root / "prepared", config, images)
    write_found(root, run, images)
    score(root, config)

What is true and what was found are given, so that every number can be told by heart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.engine.pairs import to_stored
from phantomscope.images.annotations import BOXES, COLUMNS, POINTS
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages.filter_scores import evaluate_filter
from phantomscope.tables.filter_scores import run_of, runs

Array = NDArray[Any]
SIDE = 48


def filter_config(truth: str, name: str = "layered", **options: Any) -> Config:
    """Return a config of one class, ``cell``, of which all is small."""
    top = {name: options.pop(name) for name in ("appearance",) if name in options}
    values = {
        "methods": ["filter"], "targets": ["cell"], "truth": truth,
        "scale": {"divisor": 255.0}, "objects": {"min_area": 4.0}, **options,
    }  # fmt: skip
    return make_config({
        "experiment": name, "evaluate": {"resamples": 60}, "filter": values, **top,
    })  # fmt: skip


def squares(*places: tuple[int, int], side: int = 8, size: int = SIDE) -> Array:
    """Return labels of squares with these first pixels (y, x)."""
    labels = np.zeros((size, size), np.uint16)
    for number, (y, x) in enumerate(places, 1):
        labels[y : y + side, x : x + side] = number
    return labels


@dataclass
class Shown:
    """One tested image.

    Attributes
    ----------
    image : ndarray
        uint8; of the truth ``layers`` (4, Y, X) from 0 to 1.
    labels : ndarray, optional
        True objects.
    marks : sequence
        Points (y, x) or boxes (y1, x1, y2, x2), with a class last.
    found : ndarray
        Labels of what a method found.
    kept : ndarray, optional
        Layers of the method (C, Y, X), from 0 to 1, and what they are.
    layer : str
        ``none``, ``target``, ``scene`` or ``all``.
    boxes : sequence, optional
        What a detector found.
    columns : dict
        Of the manifest.
    """

    image: Array
    found: Array
    labels: Array | None = None
    marks: Sequence[tuple[Any, ...]] = ()
    kept: Array | None = None
    layer: str = "none"
    boxes: Sequence[tuple[float, ...]] | None = None
    columns: dict[str, Any] = field(default_factory=dict)


Images = Mapping[str, Shown]


def write_tested(folder: Path, config: Config, images: Images) -> None:
    """Write a tested set: prepared images, or composed ones."""
    truth = config.filter.truth
    layered = truth == "layers"
    info = {"source": "composed", "use": "tests"} if layered else {}
    with ImageSetWriter(folder, info) as writer:
        for name, one in images.items():
            image = to_stored(2 * one.image - 1) if layered else one.image
            writer.add(
                name, image, one.labels, channels=4 if layered else 1,
                **{"split": "test", **one.columns},
            )  # fmt: skip
    if truth in ("points", "boxes"):
        name = POINTS if truth == "points" else BOXES
        rows = [(key, *mark) for key, one in images.items() for mark in one.marks]
        table = pd.DataFrame(rows, columns=list(COLUMNS[name]))
        table.to_csv(folder / name, index=False)


def write_found(folder: Path, images: Images) -> None:
    """Write what a method made of the tested images."""
    boxes = [
        (name, *box, "cell", 0.9)
        for name, one in images.items()
        for box in one.boxes or ()
    ]
    with ImageSetWriter(folder, {}) as writer:
        for name, one in images.items():
            kept = one.kept
            if kept is None:
                kept = one.image[:1] if one.image.ndim == 3 else one.image[None] / 255
            kept = kept.astype(np.float32)
            writer.add(
                name, kept if len(kept) > 1 else kept[0], one.found,
                channels=len(kept), layer=one.layer, **one.columns,
            )  # fmt: skip
    if any(one.boxes is not None for one in images.values()):
        table = pd.DataFrame(boxes, columns=[*COLUMNS[BOXES], "score"])
        table.to_csv(folder / BOXES, index=False)


def write_run(
    root: Path, config: Config, method: str, folds: Sequence[Images],
    images: str = "", only: str = "",
) -> None:  # fmt: skip
    """Write and measure what a method found in each fold, for each of its trainings.

    Give `images` for one of several numbers of training images, `only` for one class.
    """
    for target in [only] if only else config.filter.targets:
        for number, fold, seed in runs(config, method):
            if images and number != images:
                continue
            place, own = run_of(target, method, number, fold, seed), folds[fold]
            tested = root / "prepared"
            if config.filter.truth == "layers":
                tested = root / f"composed/{target}/fold{fold}/tests-all"
                if not tested.exists():
                    write_tested(tested, config, own)
            write_found(root / "found" / place, own)
            evaluate_filter(
                config, tested=tested, found=root / "found" / place,
                scores=root / "filter_scores" / place, target=target, method=method,
                fold=fold,
            )  # fmt: skip


def write_plate(
    root: Path, config: Config, counts: Mapping[str, int], method: str = "filter"
) -> None:
    """Write counts of wells by name; column 01 is negative, column 23 positive."""
    kinds = {"01": "negative", "23": "positive"}
    rows = [(w, kinds.get(w[1:], ""), 1, n) for w, n in counts.items()]
    table = pd.DataFrame(rows, columns=["well", "control", "sites", "objects"])
    for target in config.filter.targets:
        for images, fold, seed in runs(config, method):
            run = run_of(target, method, images, fold, seed)
            folder = root / "plate_scores" / run
            folder.mkdir(parents=True)
            table.to_csv(folder / "plate.csv", index=False)


def culture(*key: Any, noise: float = 4.0) -> Array:
    """Return a dim background, uint8."""
    return generator("dim", *key).normal(30, noise, (SIDE, SIDE)).astype(np.uint8)


def pointed() -> dict[str, Shown]:
    """Return three images, of three folds, whose counts are known.

    ======  ==================  ==================
    image   published           one to one
    ======  ==================  ==================
    a       2, 0, 1             1, 1, 2 (tp, fp, fn)
    b       2, 0, 0             2, 0, 0
    c       0, 0, 1             0, 0, 1
    ======  ==================  ==================
    """
    first, second = squares((4, 4), (30, 30)), squares((4, 4), (30, 30))
    none = squares()
    marks = {
        "a": [(5, 5), (10, 10), (6, 40)], "b": [(7, 7), (33, 34)], "c": [(20, 20)],
    }  # fmt: skip
    found = {"a": first, "b": second, "c": none}
    return {
        name: Shown(
            culture(name) + (found[name] > 0).astype(np.uint8) * 90, found[name],
            marks=[*((y, x, "cell") for y, x in points), (1, 1, "debris")],
            kept=(found[name] > 0)[None] * 0.5, layer="target",
            columns={"fold": n + 1, "well": f"A0{n + 1}"},
        )
        for n, (name, points) in enumerate(marks.items())
    }  # fmt: skip


def layered(*names: str, error: float = 0.0) -> dict[str, Shown]:
    """Return composed images whose layers are known; a method is off by `error`."""
    made = {}
    for number, name in enumerate(names):
        labels = squares((4, 4 + number), (28, 24))
        target = (labels > 0) * 0.4
        other = (squares((26, 4), (10, 30)) > 0) * 0.3
        ground = np.full((SIDE, SIDE), 0.1)
        image = np.stack([target + other + ground, target, other, ground])
        kept = np.clip(np.stack([target, other, ground]) + error, 0, 1)
        made[name] = Shown(image, labels, labels, kept=kept, layer="all")
    return made


def worms(*names: str) -> dict[str, Shown]:
    """Return frames with one dark worm of 20 x 4 px.

    Half of it becomes lighter by 0.4 when it is removed, half of it by 0.02; as does
    a spot of 4 x 5 px that is no worm. So the IoU of what was removed is 80/100 at a
    small step, and 40/80 at a large one.
    """
    made = {}
    for number, name in enumerate(names):
        labels = np.zeros((SIDE, SIDE), np.uint16)
        labels[20:24, 10:30] = 1
        image = np.full((SIDE, SIDE), 153, np.uint8)
        image[labels > 0] = 51
        scene = image / 255
        scene[20:24, 10:20] += 0.4
        scene[20:24, 20:30] += 0.02
        scene[40:44, 40:45] += 0.02
        made[name] = Shown(
            image, labels, labels, kept=scene[None], layer="scene",
            columns={"group": f"video{number}", "frame": number},
        )  # fmt: skip
    return made


def write_crops(root: Path, parents: Sequence[str], *kinds: str) -> None:
    """Write crops of these classes, three of each and parent, and backgrounds."""
    with ImageSetWriter(root / "crops", {}) as writer:
        for number, (parent, kind) in enumerate(
            (parent, kind) for parent in parents for kind in kinds for _ in range(3)
        ):
            radius = 5 + 2 * kinds.index(kind)
            rows, columns = np.mgrid[-10:11, -10:11]
            inside = rows**2 + columns**2 <= radius**2
            image = generator("crop", number).normal(25, 4, inside.shape)
            image += inside * (140 - 40 * kinds.index(kind))
            writer.add(
                f"{parent}-{number:04d}", image.clip(0, 255).astype(np.uint8),
                inside.astype(np.uint16), type=kind, parent=parent, split="train",
                focus=number / 100, group=parent,
            )  # fmt: skip
    with ImageSetWriter(root / "backgrounds", {}) as writer:
        for parent in parents:
            writer.add(
                parent, culture(parent), squares((20, 20)), split="train",
                group=parent, parent=parent,
            )  # fmt: skip

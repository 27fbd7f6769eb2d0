"""The stages that measure translations and tabulate them; they need no network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phantomscope.config.model import Config
from phantomscope.engine.pairs import from_stored
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.translation import (
    object_row,
    pixel_rows,
    reliability_rows,
    uncertainty_row,
)
from phantomscope.progress import Progress
from phantomscope.stages.arguments import Output, Place
from phantomscope.stages.plates import LABELS

# Tables of what was measured.
SCORES = ("pixels", "objects", "uncertainty", "reliability")
# What statistics may group by.
UNITS = ("group", "plate", "well", "site", "compound", "cell_line")


def blocks(
    shape: Sequence[int], side: int | None
) -> Iterator[tuple[str, tuple[slice, slice]]]:
    """Yield the blocks of an image, with a name for each; as even as can be."""
    if side is None:
        yield "", (slice(None), slice(None))
        return
    edges = [
        np.linspace(0, length, max(1, round(length / side)) + 1).astype(int)
        for length in shape
    ]
    for y, rows in enumerate(itertools.pairwise(edges[0])):
        for x, columns in enumerate(itertools.pairwise(edges[1])):
            yield f"-block{y}-{x}", (slice(*rows), slice(*columns))


def holders_of(truth: ImageSet, translated: Sequence[Path]) -> dict[str, ImageSet]:
    """Tell which set holds the prediction of each test image.

    Raises
    ------
    PhantomscopeError
        If one was not translated.
    """
    parts = [ImageSet.open(folder) for folder in translated]
    holders = {name: images for images in parts for name in images.ids}
    for name in truth.ids:
        if name not in holders:
            raise PhantomscopeError(
                f"the test image {name!r} was not translated",
                where=translated[0] if translated else "--translated",
                fix="give the folders of all shards",
            )
    return holders


def evaluate_translation(
    config: Config, *, pairs: Path, translated: Path, scores: Output
) -> None:
    """Compare predicted stains and instances of a shard with the real ones."""
    options = config.translate
    truth = ImageSet.open(pairs).select(split="test")
    predicted = ImageSet.open(translated)
    inputs, channels = len(options.plates.inputs), options.channels
    pixels: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    doubts: list[dict[str, Any]] = []
    bins: list[dict[str, Any]] = []
    with Progress("measuring", len(predicted), unit="images") as progress:
        for name in predicted.ids:
            known = {c: truth.row(name).get(c, "") for c in UNITS}
            real = from_stored(truth.channels(name)[inputs:])
            stored = from_stored(predicted.channels(name))
            labels = {
                kind: [getattr(i, LABELS[kind])(name) for i in (truth, predicted)]
                for kind in options.boundaries
            }
            for place, window in blocks(real.shape[1:], options.blocks):
                about = {"id": name + place, **known}
                if place:
                    about["group"] = name + place
                all_real, found = real[:, *window], stored[:, *window]
                found, spread = found[: len(channels)], found[len(channels) :]
                pixels += [about | r for r in pixel_rows(all_real, found, channels)]
                for kind, (true, own) in labels.items():
                    row = object_row(true[window], own[window])
                    objects.append(about | {"objects": kind} | row)
                averaged = int(predicted.row(name).get("averaged", 1))
                for c, width in enumerate(spread):
                    given = all_real[c], found[c], (width + 1) / 2
                    which = about | {"channel": channels[c]}
                    doubts.append(which | uncertainty_row(*given, averaged=averaged))
                    bins += [which | row for row in reliability_rows(*given)]
            progress.advance()
    scores.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(SCORES, (pixels, objects, doubts, bins), strict=True):
        if rows:
            write_text(scores / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False))


def join_scores(
    config: Config, *, pairs: Path, parts: list[Path], scores: Output
) -> None:
    """Join what was measured in all shards, in the order of the test part."""
    order = {n: i for i, n in enumerate(ImageSet.open(pairs).select(split="test").ids)}
    scores.mkdir(parents=True, exist_ok=True)
    for name in SCORES:
        files = [path for part in parts if (path := part / f"{name}.csv").exists()]
        if not files and name != "pixels":
            continue  # no boundaries, or one sample of each image
        # As text: numbers stay what they are.
        read = [pd.read_csv(f, dtype=str, keep_default_na=False) for f in files]
        table = pd.concat(read or [pd.DataFrame({"id": []})], ignore_index=True)
        image = table["id"]
        if config.translate.blocks:  # they are named after their image
            image = image.str.replace(r"-block\d+-\d+$", "", regex=True)
        if missing := sorted(set(order) - set(image)):
            raise PhantomscopeError(
                f"the test image {missing[0]!r} was not measured",
                where=parts[0] if parts else "--parts",
                fix="give the folders of all shards",
            )
        table = table.iloc[np.argsort(image.map(order).to_numpy(), kind="stable")]
        write_text(scores / f"{name}.csv", table.to_csv(index=False))


def tabulate_translation(
    config: Config, *, root: Place, csv: Output, md: Output
) -> None:
    """Put quality of stains, instances and features of all methods into one table."""
    from phantomscope.tables.profiles import profile_rows, profile_text
    from phantomscope.tables.significance import (
        shown,
        significance_rows,
        significance_text,
    )
    from phantomscope.tables.translation import translation_rows
    from phantomscope.tables.translation_text import write_translation

    tests, features = significance_rows(root, config), profile_rows(root, config)
    write_translation(
        translation_rows(root, config), csv, md, config,
        [(tests, significance_text(shown(tests), config)),
         (features, profile_text(features, config))],
    )  # fmt: skip

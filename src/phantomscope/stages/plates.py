"""Stages from plates, or fields of several channels, to pairs to learn from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from phantomscope.acquire import plates
from phantomscope.acquire.plates import acquire_fields
from phantomscope.config.model import Config
from phantomscope.engine.pairs import to_stored
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import intensity_limits, unit_to_network
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.boundaries import boundary_map, instances_from_outlines
from phantomscope.progress import Progress
from phantomscope.provenance import fingerprint
from phantomscope.stages.arguments import Output

Float = NDArray[np.float32]
# Of a plate that many pixels decide on the limits.
SAMPLE = 20_000_000
# Columns that pairs, and what is predicted of them, have from the images.
KEPT = ("split", "group", "plate", "well", "site", "compound", "cell_line")
LABELS = {"nuclei": "mask", "cells": "cells"}


def fetch_plates(config: Config, *, record: Output) -> None:
    """Fetch the files of the chosen wells and sites of plates, and only these."""
    plates.fetch_plates(config.translate.plates, record)


def acquire_plates(
    config: Config, *, fields: Output, record: Path | None = None
) -> None:
    """Make an image set of plates, or of a folder of images with several channels."""
    options = config.translate.plates
    if options.kind == "fields":
        acquire_fields(options, fields, instances_from_outlines, config.seed)
    elif record is None:
        raise PhantomscopeError(
            "plates are made of what was fetched",
            where="--record",
            fix="give the file that `fetch-plates` wrote",
        )
    else:
        plates.acquire_plates(
            options, record, fields, instances_from_outlines, config.seed
        )
    plates.assert_apart(ImageSet.open(fields))


def resized(image: NDArray[Any], side: int | None) -> Float:
    """Bring channels (C, Y, X) to a side: bilinear, averaged where it gets smaller."""
    values = np.ascontiguousarray(image, np.float32)
    if side is None or values.shape[1:] == (side, side):
        return values
    small: Float = functional.interpolate(
        torch.from_numpy(values)[None], (side, side), mode="bilinear", antialias=True
    )[0].numpy()
    return small


def resized_labels(
    labels: NDArray[np.integer[Any]], side: int | None
) -> NDArray[np.integer[Any]]:
    """Bring labels (Y, X) to a side: each pixel takes the label at its centre."""
    if side is None:
        return labels
    rows, columns = (
        np.floor((np.arange(side) + 0.5) * length / side).astype(int)
        for length in labels.shape
    )
    return labels[np.ix_(rows, columns)]


def _limits(
    config: Config, fields: ImageSet
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield each image with the limits of its channels, images of a plate together."""
    options = config.translate
    percentiles = (options.low_percentile, options.high_percentile)
    channels = len(options.plates.wanted)
    if options.scope == "image":
        for name in fields.ids:
            image = fields.channels(name)
            yield name, [intensity_limits([one], percentiles) for one in image]
        return
    plates: dict[str, list[str]] = {}
    for name in fields.ids:
        plates.setdefault(str(fields.row(name).get("plate") or ""), []).append(name)
    for names in plates.values():
        pixels = sum(int(np.prod(fields.shape(name))) for name in names)
        shared = [
            intensity_limits(
                (fields.channels(name)[c] for name in names), percentiles,
                max(1, pixels // SAMPLE),
            )
            for c in range(channels)
        ]  # fmt: skip
        yield from ((name, shared) for name in names)


def as_network(raw: NDArray[Any], limits: Sequence[Sequence[float]]) -> Float:
    """Scale channels (C, Y, X), each by its limits: these become -1 and 1."""
    low, high = (np.asarray(ends)[:, None, None] for ends in zip(*limits, strict=True))
    return unit_to_network((raw - low) / (high - low), "linear")


def _labels(
    fields: ImageSet, name: str, kind: str, side: int | None
) -> NDArray[np.integer[Any]] | None:
    """Return the labels of nuclei or cells of an image, if it has them."""
    row = fields.row(name)
    if not row.get(LABELS[kind]):
        return None
    return resized_labels(getattr(fields, LABELS[kind])(name), side)


def pair_fields(config: Config, *, fields: Path, pairs: Output) -> None:
    """Scale images of several channels, and draw the boundaries of their objects."""
    options, images = config.translate, ImageSet.open(fields)
    info = {
        "stage": "pair_fields", "inputs": options.plates.inputs,
        "outputs": options.channels, "boundary_width": options.boundary_width,
        "size": options.size, "scope": options.scope,
        "percentiles": [options.low_percentile, options.high_percentile],
        "images": fingerprint(list(images.table["sha256"])),
    }  # fmt: skip
    with (
        ImageSetWriter(pairs, info) as writer,
        Progress("pairing", len(images), unit="images") as progress,
    ):
        for name, limits in _limits(config, images):
            if name not in writer:
                _add_pair(config, images, name, limits, writer)
            progress.advance()


def _add_pair(
    config: Config, images: ImageSet, name: str,
    limits: Sequence[tuple[float, float]], writer: ImageSetWriter,
) -> None:  # fmt: skip
    options, row = config.translate, images.row(name)
    raw = resized(images.channels(name), options.size)
    values = [as_network(raw, limits)]
    labels = {kind: _labels(images, name, kind, options.size) for kind in LABELS}
    for kind in options.boundaries:
        if (found := labels[kind]) is None:
            raise PhantomscopeError(
                f"the image {name!r} has no labels of {kind}, whose boundaries are to "
                "be learnt",
                where=images.folder / "manifest.csv",
                fix=f"leave `{kind}` out of `translate.boundaries`, or give outlines",
            )
        values.append(boundary_map(found, options.boundary_width)[None])
    stored = to_stored(np.concatenate(values))
    size, scale = images.voxel_size(name), 1.0
    if options.size:
        scale = images.shape(name)[-1] / options.size
    writer.add(
        name, stored, labels["nuclei"], cells=labels["cells"], channels=len(stored),
        pixel_size=None if size is None else size[-1] * scale,
        **{c: row[c] for c in KEPT if c in row},
        limits=json.dumps([[float(v) for v in ends] for ends in limits]),
    )  # fmt: skip

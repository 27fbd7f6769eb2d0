"""Stages from plates, or fields of several channels, to pairs to learn from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire import plates
from phantomscope.acquire.plates import EXCLUDED, acquire_fields
from phantomscope.config.load import sections
from phantomscope.config.model import Config
from phantomscope.config.translation import PAIRING
from phantomscope.engine.pairs import to_stored
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import atomic_file, read_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.join import join_sets, join_tables
from phantomscope.images.normalise import (
    count_intensities,
    intensity_limits,
    limits_of_counts,
    unit_to_network,
)
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.boundaries import boundary_map, instances_from_outlines
from phantomscope.progress import Progress
from phantomscope.provenance import fingerprint
from phantomscope.stages.arguments import Output, Place

Float = NDArray[np.float32]
# Columns that pairs, and what is predicted of them, have from the images.
KEPT = ("split", "group", "plate", "well", "site", "compound", "cell_line")
LABELS = {"nuclei": "mask", "cells": "cells"}
# What pairs say of the set that they are made of.
OF_FIELDS = ("shards", "split", "plates", "survey_sha256", "licence", "citation")


def survey_plates(config: Config, *, survey: Output) -> None:
    """Read the tables of plates, and list their files; no image is fetched."""
    plates.survey_plates(config.translate.plates, survey)


def fetch_plates(
    config: Config, *, survey: Path, record: Output, raw: Place | None = None,
    shard: int = 0, shards: int = 1,
) -> None:  # fmt: skip
    """Fetch the files of a shard of the sites of plates, and only these."""
    plates.fetch_plates(
        config.translate.plates, survey, record, raw=raw, shard=shard, shards=shards
    )


def acquire_plates(
    config: Config, *, fields: Output, record: Path | None = None,
    raw: Place | None = None,
) -> None:  # fmt: skip
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
            options, record, fields, instances_from_outlines, config.seed, raw=raw
        )
    # A shard may have no image: then it has no columns either.
    if len(images := ImageSet.open(fields)):
        plates.assert_apart(images)


def resized(image: NDArray[Any], side: int | None) -> Float:
    """Bring channels (C, Y, X) to a side: bilinear, averaged where it gets smaller."""
    values = np.ascontiguousarray(image, np.float32)
    if side is None or values.shape[1:] == (side, side):
        return values
    import torch
    from torch.nn import functional

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


def _plate_of(fields: ImageSet, name: str) -> str:
    return str(fields.row(name).get("plate") or "")


def measure_intensities(config: Config, *, fields: Path, intensities: Output) -> None:
    """Count the intensities of each channel, over the images of each plate."""
    images, counts = ImageSet.open(fields), {}
    channels = len(config.translate.plates.wanted)
    with Progress("counting intensities", len(images), unit="images") as progress:
        for name in images.ids:
            plate = _plate_of(images, name)
            if plate not in counts:
                counts[plate] = np.zeros((channels, 1 << 16), np.int64)
            for own, channel in zip(counts[plate], images.channels(name), strict=True):
                own += count_intensities(channel)
            progress.advance()
    names = sorted(counts)
    every = [counts[name] for name in names]
    with atomic_file(intensities) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file, plates=np.array(names, str),
            counts=np.stack(every) if every else np.zeros((0, channels, 1 << 16), int),
        )  # fmt: skip


def _shared_limits(
    config: Config, intensities: Sequence[Path]
) -> dict[str, list[tuple[float, float]]]:
    """Return the limits of each channel by plate, of the counts of all its shards."""
    options = config.translate
    percentiles = (options.low_percentile, options.high_percentile)
    total: dict[str, NDArray[np.int64]] = {}
    for path in intensities:
        with explain_os_errors(path):
            try:
                with np.load(path, allow_pickle=False) as file:
                    found = dict(
                        zip(map(str, file["plates"]), file["counts"], strict=True)
                    )
            except (ValueError, KeyError, EOFError, BadZipFile) as error:
                raise PhantomscopeError(
                    f"these are no counts of intensities ({error})",
                    where=path,
                    fix="delete the file and run the same command again",
                ) from error
        for plate, counts in found.items():
            total[plate] = total.get(plate, 0) + counts
    return {
        plate: [limits_of_counts(channel, percentiles) for channel in counts]
        for plate, counts in total.items()
    }


def _check_counted(fields: ImageSet, shared: Mapping[str, Any], folder: Path) -> None:
    """Make sure that the limits of each plate are known."""
    for name in fields.ids:
        if (plate := _plate_of(fields, name)) not in shared:
            raise PhantomscopeError(
                f"nothing says how bright the images of the plate {plate!r} are",
                where=folder,
                fix="give what `measure-intensities` wrote of all shards in "
                "`--intensities`",
            )


def as_network(raw: NDArray[Any], limits: Sequence[Sequence[float]]) -> Float:
    """Scale channels (C, Y, X), each by its limits: these become -1 and 1."""
    low, high = (np.asarray(ends)[:, None, None] for ends in zip(*limits, strict=True))
    return unit_to_network((raw - low) / (high - low), "linear")


def as_light(values: Float, limits: Sequence[Sequence[float]]) -> Float:
    """Undo `as_network`, but for what lay outside of the limits: it stays on them."""
    low, high = (np.asarray(ends)[:, None, None] for ends in zip(*limits, strict=True))
    return np.asarray(low + (values + 1) / 2 * (high - low), np.float32)


def _labels(
    fields: ImageSet, name: str, kind: str, side: int | None
) -> NDArray[np.integer[Any]] | None:
    """Return the labels of nuclei or cells of an image, if it has them."""
    row = fields.row(name)
    if not row.get(LABELS[kind]):
        return None
    return resized_labels(getattr(fields, LABELS[kind])(name), side)


def _info(config: Config, fields: ImageSet) -> dict[str, Any]:
    """Everything that shapes pairs but the images, which differ from shard to shard."""
    options = config.translate
    info = {
        "stage": "scale_fields", "inputs": options.plates.inputs,
        "outputs": options.channels, "boundary_width": options.boundary_width,
        "size": options.size, "scope": options.scope,
        "percentiles": [options.low_percentile, options.high_percentile],
    }  # fmt: skip
    own = {name: fields.info.get(name) for name in OF_FIELDS}
    return {**info, **own, "options": fingerprint(sections(config, "seed", *PAIRING))}


def scale_fields(
    config: Config, *, fields: Path, scaled: Output,
    intensities: list[Path] | None = None,
) -> None:  # fmt: skip
    """Scale images of several channels, and draw the boundaries of their objects."""
    images, shared = ImageSet.open(fields), {}
    if config.translate.scope == "plate":
        shared = _shared_limits(config, intensities or [])
        _check_counted(images, shared, fields)
    info = {
        **_info(config, images),
        # Limits of a plate depend on its other shards, too.
        "limits": fingerprint(shared),
        "images": fingerprint(list(images.table["sha256"])),
    }
    with (
        ImageSetWriter(scaled, info) as writer,
        Progress("scaling", len(images), unit="images") as progress,
    ):
        for name in images.ids:
            if name not in writer:
                limits = shared.get(_plate_of(images, name))
                _add_pair(config, images, name, limits, writer)
            progress.advance()
        shutil.copyfile(images.folder / EXCLUDED, writer.partial / EXCLUDED)


def _check_shared(images: ImageSet) -> None:
    """Make sure that all shards had the same limits of a plate."""
    if "plate" not in images.table:
        return
    limits = images.table.groupby("plate")["limits"].nunique()
    if several := sorted(limits.index[limits > 1]):
        raise PhantomscopeError(
            f"shards scaled the plate {several[0]} by different limits",
            where=images.folder / "manifest.csv",
            fix="run `scale-fields` again with the counts of all shards of the plate",
        )


def pair_fields(config: Config, *, scaled: list[Path], pairs: Output) -> None:
    """Join the shards of pairs into one set, and make sure that its sides are apart."""
    infos = [read_json(part / "info.json") for part in scaled]
    if any((info["shards"] or 1) != len(scaled) for info in infos):
        raise PhantomscopeError(
            f"these are {len(scaled)} shards, but not all of so many",
            where=scaled[0],
            fix="delete the folders of shards and run the same command again",
        )
    shared, *others = (
        {k: v for k, v in info.items() if k not in ("images", "limits", "shards")}
        for info in infos
    )
    for part, other in zip(scaled[1:], others, strict=True):
        if differs := [name for name in shared if shared[name] != other.get(name)]:
            raise PhantomscopeError(
                f"this shard is of other {', '.join(differs)} than the first one",
                where=part,
                fix="delete its folder and run the same command again",
            )
    if shared["options"] != fingerprint(sections(config, "seed", *PAIRING)):
        raise PhantomscopeError(
            "these images were scaled with other options than those of this experiment",
            where=scaled[0],
            fix="make the sections `translate` and `seed` alike, or leave "
            "`translate.pairs_from` empty",
        )

    def finish(partial: Path) -> None:
        excluded = [part / EXCLUDED for part in scaled]
        count = join_tables(partial / EXCLUDED, excluded, by="id")
        images = ImageSet.open(partial)
        if not len(images):
            raise PhantomscopeError(
                f"none of {count} images is left",
                where=scaled[0] / EXCLUDED,
                fix="name other wells or sites",
            )
        if shared["scope"] == "plate":
            _check_shared(images)
        # Regions were checked where they were cut: the set of fields has their places.
        if images.info["split"]["by"] != "region":
            plates.assert_apart(images)

    join_sets(pairs, scaled, {**shared, "stage": "pair_fields"}, finish, by="id")


def _add_pair(
    config: Config, images: ImageSet, name: str,
    limits: Sequence[tuple[float, float]] | None, writer: ImageSetWriter,
) -> None:  # fmt: skip
    """Write the pairs of an image, by limits of its own if it shares none."""
    options, row = config.translate, images.row(name)
    image = images.channels(name)
    if limits is None:
        percentiles = (options.low_percentile, options.high_percentile)
        limits = [intensity_limits([one], percentiles) for one in image]
    raw = resized(image, options.size)
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
        **{c: row[c] for c in KEPT if c in row}, field_sha256=row["sha256"],
        limits=json.dumps([[float(v) for v in ends] for ends in limits]),
    )  # fmt: skip

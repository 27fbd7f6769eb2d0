"""Local images of several channels, with or without outlines, to an image set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.dataset import read_mask
from phantomscope.acquire.folder import Findings, Item, raise_problems
from phantomscope.acquire.listing import list_images, safe_ids
from phantomscope.acquire.plates.images import (
    ToInstances,
    find_black,
    make_labels,
    write_excluded,
)
from phantomscope.acquire.plates.sides import choose_sides, cut_sides, split_info
from phantomscope.acquire.regions import crop
from phantomscope.acquire.samples import Sample, find_samples
from phantomscope.acquire.split import region_columns
from phantomscope.config.plates import Plates
from phantomscope.errors import PhantomscopeError
from phantomscope.images.axes import to_image
from phantomscope.images.files import pixel_hash, read_array, read_labels
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress


@dataclass(frozen=True)
class _Field:
    """Files of one image."""

    identifier: str
    group: str
    image: Path
    nuclei: Path | None
    cells: Path | None


def _samples(
    names: Sequence[str], options: Plates, labels: str | None, folder: Path
) -> dict[str, Sample]:
    """Return image and one kind of annotation, by the name of the image file."""
    try:
        found = find_samples(names, options.fields.layout(labels), folder)
    except PhantomscopeError as error:
        # Its advice is about the registry of data sets.
        raise PhantomscopeError(
            error.what,
            where=folder,
            fix="adapt `fields.images`, `fields.nuclei` and `fields.cells`",
        ) from error
    return {sample.image: sample for sample in found}


def _fields(options: Plates) -> list[_Field]:
    """Find the files."""
    fields = options.fields
    if not fields.path:
        raise PhantomscopeError(
            "nothing says where the images are",
            where="fields.path",
            fix="name their folder, or set `kind: gallery` and name plates",
        )
    folder = Path(fields.path)
    names = [path.name for path in list_images(folder, "fields.path")[0]]
    kinds = {
        kind: _samples(names, options, pattern, folder) if pattern else {}
        for kind, pattern in (("nuclei", fields.nuclei), ("cells", fields.cells))
    }
    samples = list(_samples(names, options, None, folder).values())

    def annotation(kind: str, sample: Sample) -> Path | None:
        own = kinds[kind].get(sample.image)
        return folder / own.labels[0] if own and own.labels else None

    return [
        _Field(
            identifier,
            sample.group or identifier,
            folder / sample.image,
            annotation("nuclei", sample),
            annotation("cells", sample),
        )
        for identifier, sample in zip(
            safe_ids(["-".join(filter(None, (s.group, s.stem))) for s in samples]),
            samples,
            strict=True,
        )
    ]


def _read_image(path: Path, options: Plates) -> NDArray[Any]:
    """Read the wanted channels, (C, Y, X)."""
    fields = options.fields
    array = read_array(path)
    names = fields.channels or options.wanted
    if array.ndim == len(fields.axes):
        count = array.shape[fields.axes.index("C")]
        if count != len(names):
            raise PhantomscopeError(
                f"the image has {count} channels, `fields.channels` names {len(names)}",
                where=path,
                fix="name each channel of the file, in its order",
            )
    wanted = [names.index(name) for name in options.wanted]
    image = np.ascontiguousarray(to_image(array, fields.axes, wanted, path))
    if image.dtype not in (np.uint8, np.uint16):
        raise PhantomscopeError(
            f"images of type {image.dtype} are no raw fields",
            where=path,
            fix="export them as 8 or 16 bit integers",
        )
    return image


def _read_labels(
    path: Path | None, shape: tuple[int, ...], options: Plates, convert: ToInstances
) -> NDArray[Any] | None:
    """Read annotation as labels, (Y, X)."""
    if path is None or options.outlines == "none":
        return None
    if options.fields.annotation == "instances":
        return read_labels(path, shape)
    return make_labels(read_mask(path, shape), convert, path)


def _info(options: Plates, fields: Sequence[_Field], seed: int) -> dict[str, Any]:
    """Everything that shaped the set."""
    content = options.model_dump(
        mode="json",
        include={"inputs", "stains", "fields", "pixel_size_um", "dark_percentiles",
                 "broken", "outlines"},
    )  # fmt: skip
    names = "\n".join(field.image.name for field in fields)
    return {
        "source": "fields",
        "licence": "not stated (images of the user)",
        "citation": "",
        "channels": options.wanted,
        "inputs": options.inputs,
        "stains": options.stains,
        "options": content,
        "split": split_info(options, seed),
        "files": len(fields),
        "names_sha256": hashlib.sha256(names.encode()).hexdigest(),
    }


def acquire_fields(
    options: Plates, folder: Path, to_instances: ToInstances, seed: int
) -> None:
    """Make an image set of a folder of images with several channels.

    Parameters
    ----------
    options : Plates
        Section `fields`, channels, pixel size in um and split.
    folder : Path
        Folder of the new set, as that of `acquire_plates`; images (C, Y, X) of uint8 or
        uint16. By region it holds crops, whose ``parent``, ``y0``, ``x0``, ``y1`` and
        ``x1`` say where they lie; labels keep their numbers, and objects that the
        border cuts remain as fragments. `excluded.csv` lists what was left out.
    to_instances : callable
        Makes labels (Y, X) of outlines (Y, X) of bool.
    seed : int
        Of the split.

    Raises
    ------
    PhantomscopeError
        If no file fits, nothing is left, a region would be thinner than 64 px, or, all
        listed together, for files that cannot be used (`broken: refuse`). Then there
        is no set.
    """
    fields = _fields(options)
    sides: dict[str, str] = {}
    if options.split_by == "well":
        sides = choose_sides([field.group for field in fields], options.split, seed)
    findings, excluded = Findings(), []
    with (
        # A killed one begins anew: the files may have been mended in between.
        ImageSetWriter(folder, _info(options, fields, seed), resume=False) as writer,
        Progress("reading fields", len(fields), unit="fields") as progress,
    ):
        for field in fields:
            try:
                image, parts = _read(field, options, to_instances)
                stains = image[len(options.inputs) :]
                black = find_black(stains, options.stains, options.dark_percentiles)
                if black:
                    excluded.append(_excluded(field, "black", black))
                elif not findings.problems:
                    _write(writer, field, image, parts, sides, options, seed)
            except PhantomscopeError as problem:
                if options.broken == "refuse":
                    findings.note(Item(field.identifier, field.image, None), problem)
                detail = f"{Path(problem.where).name}: {problem.what}"
                excluded.append(_excluded(field, "broken", detail))
            progress.advance()
        raise_problems(findings, options.fields.path, len(fields))
        if not writer.rows:
            raise PhantomscopeError(
                f"none of {len(fields)} images is left; the first: "
                f"{excluded[0]['id']} ({excluded[0]['detail']})",
                where=options.fields.path,
                fix="remove what is black or broken, and add others",
            )
        write_excluded(writer.partial, excluded)


def _excluded(field: _Field, reason: str, detail: str) -> dict[str, Any]:
    """Return the row of an image that is left out; plates are unknown here."""
    row = {"id": field.identifier, "plate": "", "well": field.group, "site": ""}
    return {**row, "reason": reason, "detail": detail}


def _read(
    field: _Field, options: Plates, convert: ToInstances
) -> tuple[NDArray[Any], list[NDArray[Any] | None]]:
    """Read an image, (C, Y, X), and the labels of its nuclei and cells, (Y, X)."""
    image = _read_image(field.image, options)
    labels = [
        _read_labels(path, image.shape[1:], options, convert)
        for path in (field.nuclei, field.cells)
    ]
    if options.outlines == "required" and any(part is None for part in labels):
        raise PhantomscopeError(
            "it has no annotation of nuclei, or none of cells",
            where=field.image,
            fix="add it, or set `outlines: if_there`",
        )
    return image, labels


def _write(
    writer: ImageSetWriter, field: _Field, image: NDArray[Any],
    labels: Sequence[NDArray[Any] | None], sides: dict[str, str], options: Plates,
    seed: int,
) -> None:  # fmt: skip
    """Write an image, or its regions."""
    shape = image.shape[1:]
    whole = tuple((0, length) for length in shape)
    if options.split_by == "region":
        # Drawn by the pixels, not the name: copies of an image are cut alike.
        coin = generator(seed, "plates", pixel_hash(image)).integers(2)
        name = f"the image {field.identifier!r}"
        boxes = cut_sides(shape, options.split, bool(coin), name)
    else:
        boxes = {sides[field.group]: whole}
    for side, box in boxes.items():
        cuts = options.split_by == "region"
        nuclei, cells = (None if part is None else crop(part, box) for part in labels)
        part = crop(image, ((0, len(image)), *box))
        writer.add(
            f"{field.identifier}-{side}" if cuts else field.identifier,
            part,
            nuclei,
            cells=cells,
            channels=len(part),
            pixel_size=options.pixel_size_um,
            **region_columns(field.identifier, side, box),
            group=field.group,
            stratum="x".join(map(str, shape)),
            cell_line=options.fields.cell_line,
            channel_names=" ".join(options.wanted),
        )

"""The stage that exports the finished synthetic set, ready to upload."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope.config.load import read_yaml
from phantomscope.config.model import Config
from phantomscope.config.publish import Publish
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.checksums import CHECKSUMS, hash_files, write_checksums
from phantomscope.images.files import (
    check_replaceable,
    pixel_hash,
    read_json,
    replace_folder,
    write_json,
    write_ome_tiff,
    write_text,
)
from phantomscope.images.imageset import ImageSet, count_channels
from phantomscope.images.ome_zarr import Planes, write_ome_zarr
from phantomscope.images.pack import write_zip
from phantomscope.images.tracks import carry_tracks, relabelled
from phantomscope.images.volumes import write_volume
from phantomscope.images.voxels import VoxelSize, voxel_size
from phantomscope.images.writer import write_manifest
from phantomscope.locks import only_writer
from phantomscope.progress import Progress
from phantomscope.stages.arguments import Output
from phantomscope.stages.sequences import Sequences, find_sequences
from phantomscope.tables.datasheet import Tally, describe
from phantomscope.tables.datasheet_files import deposit, markdown
from phantomscope.tables.licence import choose_licence

Receipt = dict[str, Any]
# One file per finished image, in the unfinished set: what was written, with hashes.
RECEIPTS = "receipts"


def publish(
    config: Config, *, prepared: Path, checked: Path, published: Output,
    sketch: Path | None = None, memorisation: Path | None = None,
) -> None:  # fmt: skip
    """Export the synthetic set with its labels and a datasheet, ready to upload."""
    options = config.publish
    if not options.formats:
        raise PhantomscopeError(
            "nothing was asked to be published",
            where="publish.formats",
            fix="name the formats",
            example="publish:\n  formats: [ome_zarr, tiff]\n"
            "  creators: ['Curie, Marie; Sorbonne']",
        )
    source = ImageSet.open(prepared)
    images = _labelled(ImageSet.open(checked, most=options.images))
    # Before hours are spent on it.
    choose_licence(str(source.info.get("licence") or ""), options.licence)
    check_replaceable(published)
    size = voxel_size(images, source)
    with only_writer(published):
        partial = published.with_name(f".{published.name}.partial")
        _begin(partial, _identity(images, options, size))
        tally, rows, digests = Tally(), [], {}
        sequences = None
        if "ctc" in options.formats:
            sequences = find_sequences(images, lambda one: _labels_of(images, one))
        export = _Export(images, partial, options, size, sequences)
        with Progress("publishing", len(images), unit="images") as progress:
            for identifier in images.ids:
                receipt = _exported(export, identifier)
                rows.append(receipt["row"])
                digests.update(receipt["sha256"])
                sizes = (int(n) for n in receipt["sizes"].values())
                tally.add(images.shape(identifier), sizes,
                          str(receipt["row"].get("type") or ""),
                          list(receipt["bytes"].values()))  # fmt: skip
                progress.advance()
        if sequences is not None:
            digests |= hash_files(partial, *sequences.write(partial))
        if (partial / "tracks").exists():
            digests |= hash_files(partial, "tracks")
        content = describe(
            config, source=source, images=images, size=size, tally=tally,
            sketch=read_yaml(sketch) if sketch else None, memorisation=memorisation,
        )  # fmt: skip
        if options.pack:
            for form in options.formats:
                names = [name for name in digests if name.startswith(f"{form}/")]
                write_zip(partial / f"{form}.zip", partial, names)
        _document(partial, content, images, rows, digests, size)
        shutil.rmtree(partial / RECEIPTS)
        replace_folder(partial, published)


def _labelled(images: ImageSet) -> ImageSet:
    """Refuse a set that is no set of images with labels."""
    if not len(images):
        raise PhantomscopeError(
            "there is no image to publish",
            where=images.folder / "manifest.csv",
            fix="give the folder of the checked images, such as results/demo/checked",
        )
    _ = images.dims
    if any(count_channels(images.row(identifier)) > 1 for identifier in images.ids):
        raise PhantomscopeError(
            "images of several channels cannot be published yet",
            where=images.folder / "manifest.csv",
            fix="leave `publish.formats` empty; the checked set itself is a folder of "
            "OME-TIFF files with a manifest",
        )
    return images.having("mask")


def _identity(images: ImageSet, options: Publish, size: VoxelSize) -> dict[str, Any]:
    """Everything that shapes the files of the images: a resumed run must agree."""
    return {
        "stage": "publish",
        "formats": sorted(options.formats),
        "levels": options.levels,
        "ngff": options.ngff,
        "voxel_size": list(size),
        "images": list(images.table["sha256"]),
        "masks": list(images.table["mask_sha256"]),
    }


def _begin(partial: Path, identity: dict[str, Any]) -> None:
    """Take up an unfinished set of the same images, else begin anew."""
    with explain_os_errors(partial):
        # No image is called so: ids do not begin with a dot.
        note = partial / RECEIPTS / ".identity.json"
        try:
            same = note.exists() and read_json(note) == identity
        except PhantomscopeError:
            same = False
        if not same:
            shutil.rmtree(partial, ignore_errors=True)
            write_json(note, identity)
        for torn in partial.rglob(".*.partial"):
            # Of what was being written.
            shutil.rmtree(torn) if torn.is_dir() else torn.unlink()


@dataclass(frozen=True)
class _Export:
    """Where images come from and how they are written."""

    images: ImageSet
    partial: Path
    options: Publish
    size: VoxelSize
    sequences: Sequences | None = None


def _exported(export: _Export, identifier: str) -> Receipt:
    """Return the receipt of an image; it is written unless it is there, and whole."""
    path = export.partial / RECEIPTS / f"{identifier}.json"
    if path.exists() and (receipt := _whole(path, export.partial)):
        return receipt
    receipt = _export_image(export, identifier)
    write_json(path, receipt)
    return receipt


def _whole(path: Path, partial: Path) -> Receipt | None:
    """Read a receipt whose files are those that were written.

    After a power failure there may be receipts whose files never reached the disk.
    """
    try:
        receipt: Receipt = read_json(path)
        same = hash_files(partial, *receipt["parts"]) == receipt["sha256"]
    except (PhantomscopeError, KeyError, TypeError):
        return None
    return receipt if same else None


def _export_image(export: _Export, identifier: str) -> Receipt:
    images, options, size = export.images, export.options, export.size
    with _planes(images, identifier, "mask") as labels:
        sizes = _label_sizes(labels)
    row = {**images.row(identifier), "objects": len(sizes)}
    row |= carry_tracks(row, images.folder, export.partial)
    row |= {"pixel_size": size[-1], "pixel_unit": "um" if size[-1] else ""}
    if size[-2] != size[-1]:
        row["pixel_size_y"] = size[-2]
    if len(size) == 3 and size[0]:
        row["pixel_size_z"] = size[0]
    parts: list[str] = []
    if export.sequences is not None:
        parts += _export_frame(export, identifier, export.sequences, row)
    if "ome_zarr" in options.formats:
        row["ome_zarr"] = f"ome_zarr/{identifier}.ome.zarr"
        row["image"] = row["mask"] = row["ome_zarr"]
        parts.append(row["ome_zarr"])
        # Of a run before that was killed before its receipt.
        shutil.rmtree(export.partial / row["ome_zarr"], ignore_errors=True)
        with (
            _planes(images, identifier, "image") as image,
            _planes(images, identifier, "mask") as labels,
        ):
            write_ome_zarr(
                export.partial / row["ome_zarr"], image, labels, name=identifier,
                voxel_size=size, objects=sizes, levels=options.levels,
                version=options.ngff,
            )  # fmt: skip
    if "tiff" in options.formats:
        for column, folder in (("image", "images"), ("mask", "labels")):
            row[column] = f"tiff/{folder}/{identifier}.ome.tif"
            parts.append(row[column])
            with _planes(images, identifier, column) as planes:
                _write_tiff(export.partial / row[column], planes, size)
    digests = hash_files(export.partial, *parts)
    lengths = {name: (export.partial / name).stat().st_size for name in digests}
    row["bytes"] = sum(lengths.values())
    for column in ("image", "mask"):
        row[f"{column}_file_sha256"] = digests.get(row[column], "")
    return {
        "row": {key: _plain(value) for key, value in row.items()},
        "parts": parts,
        "sha256": digests,
        "bytes": lengths,
        "sizes": {str(label): count for label, count in sizes.items()},
    }


def _export_frame(
    export: _Export, identifier: str, sequences: Sequences, row: dict[str, Any]
) -> list[str]:
    """Write a frame as the Cell Tracking Challenge has it; return its files."""
    place = sequences.places[identifier]
    row |= {"sequence": place.sequence, "time": int(place.time), "image": place.image}
    with _planes(export.images, identifier, "image") as planes:
        _write_tiff(export.partial / place.image, planes, export.size)
    for name in place.masks:
        with _planes(export.images, identifier, "mask") as planes:
            numbered = (relabelled(plane, place.labels) for plane in planes.planes)
            labels = Planes(planes.shape, np.dtype(np.uint16), numbered)
            digest = _write_tiff(export.partial / name, labels, export.size)
    if export.options.formats == ["ctc"]:
        # Of the labels in the other formats it is that of the images given.
        row["mask_sha256"] = digest
    row["mask"] = place.masks[0]
    return [place.image, *place.masks]


def _plain(value: Any) -> Any:
    """As JSON has it; an empty cell of a manifest is NaN, and no number."""
    value = value.item() if isinstance(value, np.generic) else value
    return "" if isinstance(value, float) and np.isnan(value) else value


@contextmanager
def _planes(images: ImageSet, identifier: str, column: str) -> Iterator[Planes]:
    """Open an image or its labels, to be read plane by plane."""
    if images.row(identifier)["axes"] == "ZYX":
        with images.planes(identifier, column) as reader:
            yield Planes(reader.shape, reader.dtype, reader)
        return
    read = images.mask if column == "mask" else images.image
    array = read(identifier)
    yield Planes(array.shape, array.dtype, [array])


def _labels_of(images: ImageSet, identifier: str) -> list[int]:
    """List the labels that an image shows."""
    with _planes(images, identifier, "mask") as labels:
        return list(_label_sizes(labels))


def _label_sizes(labels: Planes) -> dict[int, int]:
    """Count the voxels of each object."""
    sizes: Counter[int] = Counter()
    for plane in labels.planes:
        numbers, counts = np.unique(plane[plane > 0], return_counts=True)
        sizes.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    return dict(sorted(sizes.items()))


def _write_tiff(path: Path, planes: Planes, size: VoxelSize) -> str:
    """Write an image and return the hash of its pixels."""
    # One number where it holds for all axes, or where only x and y are known.
    length: Any = size[-1] if None in size or len(set(size)) == 1 else size
    if len(planes.shape) == 3:
        depth, height, width = planes.shape
        shape = (depth, height, width)
        found = write_volume(
            path, planes.planes, shape, planes.dtype, pixel_size=length
        )
        return str(found["sha256"])
    (array,) = planes.planes
    write_ome_tiff(path, array, pixel_size=length)
    return pixel_hash(array)


def _document(
    partial: Path, content: dict[str, Any], images: ImageSet, rows: Sequence[Receipt],
    digests: dict[str, str], size: VoxelSize,
) -> None:  # fmt: skip
    """Write everything that describes the images, and the checksums of all files."""
    from phantomscope.tables.figures_published import draw_preview

    about = {
        "stage": "publish",
        "name": content["title"],
        "licence": content["licence"],
        "citation": "; ".join(content["citations"]),
        "source": content["source"],
    }
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_manifest(partial, rows, about, columns)
    write_json(partial / "datasheet.json", content)
    write_text(partial / "datasheet.md", markdown(content))
    write_json(partial / "dataset_description.json", deposit(content))
    draw_preview(images, size, partial / "preview.png")
    described = [path.name for path in partial.iterdir() if path.is_file()]
    documents = hash_files(partial, *(name for name in described if name != CHECKSUMS))
    write_checksums(partial / CHECKSUMS, {**digests, **documents})

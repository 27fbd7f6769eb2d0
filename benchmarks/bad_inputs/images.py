"""Bad image files: no images, cut ones, other axes, types and values."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from benchmarks.bad_inputs.building import (
    NOISE,
    UNREADABLE,
    Content,
    acquiring,
    blobs,
    config_file,
    png,
    tiff,
    write,
)
from benchmarks.bad_inputs.model import CANARY, Case, Invocation, Trap
from benchmarks.laboratory import Laboratory
from phantomscope.images.writer import ImageSetWriter


def image_case(
    name: str, kind: str, file: str, content: Content | Callable[[], Content],
    *expect: str, **source: Any,
) -> Case:  # fmt: skip
    """One bad file beside a good one."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        good = blobs()
        axes = source.get("axes", "")
        write(folder / "in/good.tif", np.stack([good, good]) if "C" in axes else good)
        write(folder / "in" / file, content() if callable(content) else content)
        return acquiring(folder, **source)

    return Case(name, kind, build, (file, *expect))


def _tags(**values: int) -> bytes:
    """Return a TIFF file with some tags overwritten."""
    stream = io.BytesIO(tiff(blobs()))
    with tifffile.TiffFile(stream, mode="r+") as file:
        for name, value in values.items():
            file.pages[0].tags[name].overwrite(value)
    return stream.getvalue()


def _circle() -> bytes:
    """Return two pages, of which the second names itself as the next one."""
    data = bytearray(tiff(np.stack([blobs()] * 2)))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        last = file.pages[1]
        place = last.offset + 2 + 12 * len(last.tags)
        data[place : place + 4] = last.offset.to_bytes(4, "little")
    return bytes(data)


def _flipped() -> bytes:
    data = bytearray(tiff(blobs(), compression="zlib"))
    data[len(data) // 2] ^= 16
    return bytes(data)


def _png_flipped() -> bytes:
    data = bytearray(png(NOISE))
    data[len(data) // 2] ^= 16
    return bytes(data)


def _png_bomb() -> bytes:
    """Return a PNG file of a few kB that claims 60000 x 60000 pixels."""
    data = bytearray(png(NOISE))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def _placing(make: Callable[[Path], object], name: str = "bad.tif") -> Any:
    """Make something else than a file beside a good image."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        write(folder / "in/good.tif", blobs())
        make(folder / "in" / name)
        return acquiring(folder)

    return build


def _numpy_objects(path: Path) -> None:
    stream = io.BytesIO()
    objects = np.array([Trap(path.parents[1] / CANARY)], object)
    np.save(stream, objects, allow_pickle=True)
    write(path, stream.getvalue())


def _with(value: float) -> np.ndarray[Any, Any]:
    image = blobs().astype(np.float32)
    image[3, 4] = value
    return image


def _many(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "in/good.tif", blobs())
    write(folder / "in/one.tif", b"words")
    write(folder / "in/two.tif", np.full((64, 64), 7, np.uint16))
    return acquiring(folder)


def _too_small(folder: Path, lab: Laboratory) -> Invocation:
    with ImageSetWriter(folder / "images", {}) as writer:
        writer.add("tiny", blobs((48, 60)), stratum="48x60")
    config = config_file(folder, {"split": {"by": "region"}})
    out, normalisation = folder / "prepared", folder / "normalisation.json"
    argv = ["prepare", "--config", config, "--images", folder / "images"]
    argv += ["--prepared", out, "--normalisation", normalisation]
    return Invocation(argv, (out, normalisation))


IMAGES = [
    image_case("text-as-tif", "not an image", "bad.tif", b"just words", *UNREADABLE),
    image_case("text-as-png", "not an image", "bad.png", b"just words", *UNREADABLE),
    image_case("pdf-as-tif", "not an image", "bad.tif", b"%PDF-1.7\n1 0", *UNREADABLE),
    image_case("gif-as-png", "not an image", "bad.png", b"GIF89a\1\0", *UNREADABLE),
    image_case("zip-as-tif", "not an image", "bad.tif", b"PK\3\4" + bytes(50),
               *UNREADABLE),
    image_case("jpeg-as-png", "not an image", "bad.png", b"\xff\xd8\xff\xe0\0\x10JFIF",
               *UNREADABLE),
    image_case("hdf5-as-tif", "not an image", "bad.tif", b"\x89HDF\r\n\x1a\n",
               *UNREADABLE),
    Case("numpy-objects-as-tif", "not an image", _placing(_numpy_objects),
         ("bad.tif", *UNREADABLE)),
    Case("numpy-objects-as-png", "not an image", _placing(_numpy_objects, "bad.png"),
         ("bad.png", *UNREADABLE)),
    Case("link-to-itself", "not an image",
         _placing(lambda p: p.symlink_to(p.name)), ("bad.tif", "symbolic links")),
    Case("link-to-nothing", "not an image",
         _placing(lambda p: p.symlink_to("gone.tif")),
         ("bad.tif", "no such file", "check the path")),
    Case("pipe-as-tif", "not an image", _placing(lambda p: os.mkfifo(p)),
         ("bad.tif", "empty", "copy it again")),
    image_case("html-as-tif", "not an image", "bad.tif", b"<!DOCTYPE html><html>",
               *UNREADABLE),
    image_case("tif-cut", "truncated", "bad.tif", lambda: tiff(NOISE)[:9000],
               *UNREADABLE),
    image_case("tif-header-only", "truncated", "bad.tif", lambda: tiff(NOISE)[:8],
               "the image has no pixels", "export or copy it again"),
    image_case("tif-compressed-cut", "truncated", "bad.tif",
               lambda: tiff(NOISE, compression="zlib", rowsperstrip=16)[:9000],
               *UNREADABLE),
    image_case("tif-tiled-cut", "truncated", "bad.tif",
               lambda: tiff(NOISE, tile=(32, 32))[:9000], *UNREADABLE),
    image_case("png-cut", "truncated", "bad.png", lambda: png(NOISE)[:4000],
               *UNREADABLE),
    image_case("tif-size-damaged", "truncated", "bad.tif",
               lambda: _tags(ImageWidth=4_000_000, ImageLength=4_000_000),
               "parts are missing", *UNREADABLE),
    image_case("tif-length-damaged", "truncated", "bad.tif",
               lambda: _tags(ImageLength=4_000_000), "parts are missing", *UNREADABLE),
    image_case("tif-strip-beyond-the-end", "truncated", "bad.tif",
               lambda: _tags(StripOffsets=1 << 30), *UNREADABLE),
    image_case("tif-strip-absent", "truncated", "bad.tif",
               lambda: _tags(StripByteCounts=0), "parts are missing", *UNREADABLE),
    image_case("tif-pages-in-a-circle", "truncated", "bad.tif", _circle,
               "in a circle", *UNREADABLE),
    image_case("tif-size-0", "truncated", "bad.tif", lambda: _tags(ImageWidth=0),
               *UNREADABLE),
    image_case("tif-unknown-compression", "truncated", "bad.tif",
               lambda: _tags(Compression=9999), *UNREADABLE),
    image_case("tif-flipped", "truncated", "bad.tif", _flipped, *UNREADABLE),
    image_case("png-flipped", "truncated", "bad.png", _png_flipped, *UNREADABLE),
    image_case("png-bomb", "truncated", "bad.png", _png_bomb, *UNREADABLE),
    image_case("tif-0-bytes", "empty", "bad.tif", b"", "the file is empty",
               "export or copy it again"),
    image_case("png-0-bytes", "empty", "bad.png", b"", "the file is empty",
               "export or copy it again"),
    image_case("1x1", "size", "bad.tif", np.ones((1, 1), np.uint16), "1 x 1 pixels",
               "remove it", "at least 16"),
    image_case("8x300", "size", "bad.tif", NOISE[:8].repeat(3, 1)[:, :300],
               "8 x 300 pixels", "remove it", "at least 16"),
    image_case("rgb", "axes", "bad.tif", np.stack([NOISE] * 3, axis=2),
               "a grey image (Y, X) is expected", "RGB", "axes: YXC"),
    image_case("stack", "axes", "bad.tif", np.stack([NOISE] * 5),
               "a grey image (Y, X) is expected", "axes: CYX"),
    image_case("4d", "axes", "bad.tif", np.stack([np.stack([NOISE] * 3)] * 2),
               "2 x 3 x 96 x 128", "export single planes"),
    image_case("axes-do-not-fit", "axes", "bad.tif", NOISE, "source.axes: CYX",
               "one letter per axis", axes="CYX", channel=0),
    image_case("no-such-channel", "axes", "bad.tif", np.stack([NOISE] * 2),
               "source.channel: 5", "2 channels", "count from 0", axes="CYX",
               channel=5),
    image_case("nan", "values", "bad.tif", _with(np.nan), "1 pixels are NaN",
               "replace them"),
    image_case("infinite", "values", "bad.tif", _with(np.inf), "NaN or infinite",
               "replace them"),
    image_case("all-nan", "values", "bad.tif",
               np.full((64, 64), np.nan, np.float32), "4096 pixels are NaN",
               "replace them"),
    image_case("constant", "values", "bad.tif", np.full((64, 64), 7, np.uint16),
               "all pixels have the same value (7)", "remove this image"),
    image_case("complex", "dtype", "bad.tif", NOISE.astype(np.complex64),
               "type complex64", "8 or 16 bit integers"),
    image_case("boolean", "dtype", "bad.tif", NOISE > 99, "type bool",
               "8 or 16 bit integers"),
    image_case("mixed-dtypes", "dtype", "bad.tif", NOISE.astype(np.uint8),
               "different types", "uint8", "uint16", "convert them to one type"),
    Case("several-at-once", "values", _many,
         ("2 problems", "one.tif", "two.tif", "mend or remove these files")),
    Case("too-small-to-cut", "size", _too_small,
         ("'tiny' of 48 x 60 px", "split.margin", "smaller margin")),
]  # fmt: skip

"""Bad image files: no images, cut ones, other axes, types and values."""

from __future__ import annotations

import io
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
from benchmarks.bad_inputs.model import Case, Invocation
from benchmarks.laboratory import Laboratory
from phantomscope.images.imageset import ImageSetWriter


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


def _giant() -> bytes:
    stream = io.BytesIO(tiff(blobs()))
    with tifffile.TiffFile(stream, mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(4_000_000)
    return stream.getvalue()


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
    image_case("tif-size-damaged", "truncated", "bad.tif", _giant, "memory",
               "export it again"),
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

"""Archives of data sets as they are published, and a place to put them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import yaml
from numpy.typing import NDArray

from phantomscope.acquire.dataset import (
    acquire_dataset,
)
from phantomscope.config.data import Source
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "config/datasets.yaml"
Array = NDArray[Any]
Files = dict[str, bytes]


def png(array: Array) -> bytes:
    return imageio.imwrite("<bytes>", array, extension=".png")


def tiff(array: Array) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack")
    return stream.getvalue()


def zipped(files: Files, packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files, the same bytes at any time."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, packed)
    return stream.getvalue()


def nuclei(seed: int, shape: tuple[int, int] = (40, 48)) -> tuple[Array, Array]:
    """A dark image with two bright squares that overlap, and their masks (2, Y, X)."""
    masks = np.zeros((2, *shape), bool)
    masks[0, 5:20, 5:20] = masks[1, 15:30, 15:30] = True
    noise = np.random.default_rng(seed).integers(5, 15, shape)
    return (noise + 150 * masks.any(0)).astype(np.uint8), masks


def rgba(*channels: Array) -> Array:
    return np.stack([*channels, np.full_like(channels[0], 255)], axis=-1)


ID = "{:064x}"  # names are SHA-256 in the published set, too


def bbbc038() -> Files:
    """Build three fluorescence images, stained tissue and a bright field."""
    files: Files = {}
    for number, shape in enumerate([(40, 48), (40, 48), (64, 64)]):
        image, masks = nuclei(number, shape)
        name = ID.format(number)
        files[f"{name}/"] = b""
        files[f"{name}/images/"] = files[f"{name}/masks/"] = b""
        files[f"{name}/images/{name}.png"] = png(rgba(image, image, image))
        for letter, mask in zip("ba", masks, strict=True):
            files[f"{name}/masks/{letter * 64}.png"] = png(mask * np.uint8(255))
    image, masks = nuclei(7)
    for number, channels in ((8, (255 - image, image, image)), (9, [255 - image] * 3)):
        name = ID.format(number)
        files[f"{name}/images/{name}.png"] = png(rgba(*channels))
        files[f"{name}/masks/{'c' * 64}.png"] = png(masks[0] * np.uint8(255))
    return files


def dsb2018() -> Files:
    files: Files = {"dsb2018/README.md": b"about"}
    for split, names in (("train", ["a1", "a10", "a9"]), ("test", ["a1"])):
        for name in names:
            image, masks = nuclei(len(files))
            labels = masks[0] * np.uint16(3) + masks[1] * np.uint16(300) * ~masks[0]
            kind = np.uint8 if name == "a9" else np.uint16
            folder = f"dsb2018/{split}"
            files[f"{folder}/images/{name}.tif"] = tiff(image.astype(kind))
            files[f"{folder}/masks/{name}.tif"] = tiff(labels.astype(np.uint16))
    return files


class Place:
    """A folder with a registry of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = folder / "datasets.yaml"
        self.downloads = folder / "data"

    def register(self, name: str, url: str, **changes: Any) -> None:
        """Take a shipped entry over, with another address and no known hash."""
        entry = yaml.safe_load(SHIPPED.read_text())[name]
        entry["files"][0] |= {"url": url, "sha256": None}
        entry["layout"] |= changes
        self.registry.write_text(yaml.safe_dump({name: entry}))

    def source(self, name: str, **options: Any) -> Source:
        return Source(
            kind="dataset", dataset=name, registry=str(self.registry),
            downloads=str(self.downloads), **options,
        )  # fmt: skip

    def put(self, name: str, files: Files, **changes: Any) -> None:
        """Put an archive where downloads go."""
        self.register(name, "https://example.invalid/x.zip", **changes)
        path = Path(self.source(name).downloaded[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zipped(files))

    def acquire(self, name: str, **options: Any) -> ImageSet:
        acquire_dataset(self.source(name, **options), [], self.folder / "set")
        return ImageSet.open(self.folder / "set")

    def failure(self, name: str, **options: Any) -> str:
        with pytest.raises(PhantomscopeError) as caught:
            self.acquire(name, **options)
        assert not (self.folder / "set").exists()
        assert caught.value.fix
        return str(caught.value)

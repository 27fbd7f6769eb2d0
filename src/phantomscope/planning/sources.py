"""The source images, as far as a plan needs them: how many, and how large."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError, explain_os_errors

Shape = tuple[int, ...]

PACKAGED = (512, 512)
GROUPS_FOR_AUTO = 4
SAMPLED_FILES = 8
_EXAMPLE = "--source-images 100 --source-pixels 1048576"


@dataclass(frozen=True)
class Images:
    """Some images.

    Attributes
    ----------
    shapes : Counter
        How many images there are of each ([depth,] height, width).
    dtype : str
        ``uint8``, ``uint16`` or ``float32``.
    groups : int
        Units of statistics.
    """

    shapes: Counter[Shape]
    dtype: str
    groups: int

    @property
    def count(self) -> int:
        """Number of images."""
        return self.shapes.total()

    @property
    def pixels(self) -> int:
        """Pixels of all images together."""
        return sum(count * math.prod(s) for s, count in self.shapes.items())

    def pixels_of(self, most: int) -> float:
        """Pixels of `most` images, spread over them, or of all if there are fewer."""
        return self.pixels * min(1.0, most / max(self.count, 1))


def source_images(
    config: Config,
    results: Path | None = None,
    *,
    count: int | None = None,
    pixels: int | None = None,
) -> Images:
    """Find out how many source images there are, and how large.

    Parameters
    ----------
    config : Config
        The section ``source`` says where they are.
    results : Path, optional
        Folder of the experiment, ``results/<name>`` by default; its acquired images
        are looked at first.
    count, pixels : int, optional
        Number of images and pixels of each; then nothing is looked at.

    Raises
    ------
    PhantomscopeError
        If they are neither acquired nor in a folder nor given.
    """
    if (count is None) != (pixels is None):
        raise PhantomscopeError(
            "the number of source images and their pixels go together",
            where="--source-images, --source-pixels",
            fix="give both",
            example=_EXAMPLE,
        )
    if count is not None and pixels is not None:
        return _given(count, pixels)
    translates = bool(config.translate.methods)
    results = results or Path("results") / config.name
    names = ["images"]
    if translates:
        names = [f"fields/shard-{name}" for name in config.translate.plates.shard_names]
    manifests = [results / name / "manifest.csv" for name in names]
    if all(manifest.exists() for manifest in manifests):
        return _acquired(manifests)
    if translates:
        # It needs what is below.
        from phantomscope.planning.translation import plate_images

        if (found := plate_images(config)) is not None:
            return found
        raise PhantomscopeError(
            "nothing says yet how many images there are",
            where="translate.plates.fields",
            fix="name a folder with images, or give their number and pixels",
            example=_EXAMPLE,
        )
    if config.source.kind == "package":
        return Images(Counter({PACKAGED: 1}), "uint16", 1)
    if Path(config.source.path or "").exists():
        if config.source.kind in ("folder", "annotated"):
            return _listed(config)
        if config.source.kind == "videos":
            return _filmed(config)
    if (entry := config.source.entry) and (extent := entry.extent):
        count = min(extent.images, config.source.limit or extent.images)
        shape = tuple(extent.shape)
        return Images(Counter({shape: count}), extent.dtype, extent.groups)
    raise PhantomscopeError(
        "nothing says yet how many source images there are",
        where="source",
        fix="give their number and the pixels of each",
        example=_EXAMPLE,
    )


def _given(count: int, pixels: int) -> Images:
    if count < 1 or pixels < 1:
        raise PhantomscopeError(
            f"{count} images of {pixels} pixels are no source",
            where="--source-images, --source-pixels",
            fix="give numbers from 1",
            example=_EXAMPLE,
        )
    height = math.isqrt(pixels)
    return Images(Counter({(height, pixels // height): count}), "uint16", count)


def _acquired(manifests: Sequence[Path]) -> Images:
    rows: list[dict[str, str]] = []
    try:
        for manifest in manifests:
            with explain_os_errors(manifest), manifest.open(newline="") as stream:
                rows += csv.DictReader(stream)
        shapes = Counter(
            tuple(
                int(row[name])
                for name in ("depth", "height", "width")
                if name != "depth" or row.get("axes") == "ZYX"
            )
            for row in rows
        )
        dtype = Counter(row["dtype"] for row in rows).most_common(1)[0][0]
        return Images(shapes, dtype, len({row["group"] for row in rows}))
    except (KeyError, ValueError, TypeError, IndexError, csv.Error) as error:
        raise PhantomscopeError(
            f"this manifest is broken ({type(error).__name__}: {error})",
            where=manifest,
            fix="delete its folder and run the workflow again",
        ) from error


def _listed(config: Config) -> Images:
    """Look at some files of the folder and take the others to be like them."""
    # Here, because the Snakefile must not wait for decoders of images.
    from phantomscope.acquire.listing import list_images
    from phantomscope.images.files import read_image

    source = config.source
    paths, _ = list_images(Path(source.path or ""))
    count = min(len(paths), source.limit or len(paths))
    seen = min(count, SAMPLED_FILES)
    shapes: Counter[Shape] = Counter()
    dtypes: Counter[str] = Counter()
    for n in range(seen):
        image = read_image(paths[n * len(paths) // seen], source.axes, source.channel)
        like_it = (n + 1) * count // seen - n * count // seen
        shape = image.shape[1:] if source.channels > 1 else image.shape
        shapes[shape] += like_it
        dtypes[str(image.dtype)] += like_it
    return Images(shapes, dtypes.most_common(1)[0][0], count)


def _filmed(config: Config) -> Images:
    """Look at some videos and take the others to be like them."""
    from phantomscope.acquire.folder import spread
    from phantomscope.acquire.videos import list_videos, shape_of

    source = config.source
    paths = list_videos(Path(source.path or ""))
    paths = [paths[i] for i in spread(len(paths), source.limit)]
    seen = min(len(paths), SAMPLED_FILES)
    shapes: Counter[Shape] = Counter()
    dtypes: Counter[str] = Counter()
    for n in range(seen):
        (length, *shape), dtype = shape_of(
            paths[n * len(paths) // seen], source.videos.part
        )
        like_it = (n + 1) * len(paths) // seen - n * len(paths) // seen
        used = sum(number in source.frames for number in range(length))
        shapes[tuple(shape)] += used * like_it
        dtypes[dtype] += like_it
    return Images(shapes, dtypes.most_common(1)[0][0], len(paths))


def split_images(config: Config, images: Images) -> tuple[Images, Images]:
    """Return the images of the training and of the test part.

    As `phantomscope.acquire.split` divides them; a group is taken to be one image.
    """
    by = config.split.by
    if by == "published":
        return _published(config, images)
    if by == "auto":
        by = "group" if images.groups >= GROUPS_FOR_AUTO else "region"
    fraction = config.split.train_fraction
    if config.split.test:
        by, fraction = "group", 1 - len(config.split.test) / max(images.groups, 1)
    cut = _cut_groups if by == "group" else _cut_regions
    train, test = cut(images.shapes, fraction, config.split.margin)
    if config.split.most_train is not None:
        train = Counter(list(train.elements())[: config.split.most_train])
    return (
        Images(train, images.dtype, images.groups),
        Images(test, images.dtype, images.groups),
    )


def _published(config: Config, images: Images) -> tuple[Images, Images]:
    """Return both parts by the numbers in the registry, as far as it says them."""
    entry = config.source.entry
    extent = entry.extent if entry is not None else None
    parts = [config.split.train_fraction, 1 - config.split.train_fraction]
    if extent is not None and extent.published is not None:
        parts = [n / extent.images for n in extent.published]
    sides = [
        Counter({
            shape: max(round(part * count), 1) for shape, count in images.shapes.items()
        })
        for part in parts
    ]  # fmt: skip
    if (most := config.split.most_train) is not None:
        sides[0] = Counter(list(sides[0].elements())[:most])
    train, test = (Images(side, images.dtype, images.groups) for side in sides)
    return train, test


def _cut_groups(
    shapes: Counter[Shape], fraction: float, _: int
) -> tuple[Counter[Shape], Counter[Shape]]:
    """Divide the images of each size; if each has its own size, divide all."""
    names = list(shapes.elements())
    strata = [[s] * n for s, n in shapes.items()]
    if len(strata) == len(names):
        strata = [names]
    train: Counter[Shape] = Counter()
    for stratum in strata:
        count = min(max(round(fraction * len(stratum)), 1), max(len(stratum) - 1, 1))
        train.update(stratum[:count])
    return train, shapes - train


def _cut_regions(
    shapes: Counter[Shape], fraction: float, margin: int
) -> tuple[Counter[Shape], Counter[Shape]]:
    """Cut each image along its longer side; volumes are not cut in depth."""
    train: Counter[Shape] = Counter()
    test: Counter[Shape] = Counter()
    for shape, count in shapes.items():
        *depth, height, width = shape
        length = max(max(height, width) - margin, 0)
        kept, across = round(length * fraction), min(height, width)
        train[(*depth, kept, across)] += count
        test[(*depth, length - kept, across)] += count
    return train, test

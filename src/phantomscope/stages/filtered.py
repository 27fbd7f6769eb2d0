"""The stage that tests semantic filtering: layers told apart, objects found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phantomscope.acquire.folds import COMPOSED, asked_images
from phantomscope.config.model import Config
from phantomscope.engine.layers import LAYERS
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.pairs import FULL
from phantomscope.engine.sample import Sampler
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.light import part_image
from phantomscope.images.normalise import network_to_unit, unit_to_network
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.foreground import find_objects, median_scene
from phantomscope.progress import Progress
from phantomscope.simulate.crops import hash_of
from phantomscope.stages.arguments import Output
from phantomscope.stages.filtering import check_method, class_of, light_of

Float = NDArray[np.float32]
# The median of two frames is their mean: it shows the objects of both.
FEWEST_FRAMES = 3
# What a filtered image has of the image that it is made of.
KEPT = ("split", "group", "well", "site", "control", "fold", "frame")


class _Units:
    """Images as numbers from 0 to 1: composed ones are, others are scaled."""

    def __init__(self, images: ImageSet, config: Config) -> None:
        self.images, self._light = images, light_of(config)
        self._percentile = config.filter.scale.test_percentile
        self._known = images.info.get("source") == COMPOSED

    def read(self, name: str) -> Float:
        """Return an image, shape (Y, X)."""
        image = self.images.image(name)
        if self._known:
            return image.astype(np.float32) / np.float32(FULL)
        return self._light.to_unit(image, self._percentile)


class _Network:
    """A trained network, and what it adds to what it keeps."""

    def __init__(
        self, trained: DiffusionModel, own: Config, images: ImageSet, seed: int
    ) -> None:
        pixels = sum(int(np.prod(images.shape(name))) for name in images.ids)
        self.sampler = Sampler(trained, own.synthesise, own.seed + seed, pixels)
        self.level: float | None = trained.meta["level"]
        self.identity: str = trained.meta["fingerprint"]

    def output(self, image: Float, name: str) -> Float:
        """Return what it makes of an image, shape (C, Y, X), from 0 to 1."""
        seen = unit_to_network(image, "linear")[None]
        condition = np.repeat(seen, self.sampler.channels, axis=0)
        values = self.sampler.unconditional(image.shape, name, condition)
        unit = network_to_unit(values, "linear")
        return unit if unit.ndim == 3 else unit[None]


class _Median:
    """The median of all frames of the video that an image is of."""

    identity, level = "median", None

    def __init__(self, units: _Units) -> None:
        self._units = units
        self._groups = units.images.having("frame", "group").table["group"]
        self._last: tuple[str, Float] | None = None

    def output(self, image: Float, name: str) -> Float:
        """Return the scene of this frame, shape (1, Y, X), from 0 to 1."""
        group = str(self._groups[name])
        if self._last is None or self._last[0] != group:
            names = [str(n) for n in self._groups.index[self._groups == group]]
            _check_video(self._units.images, group, names)
            frames = np.stack([self._units.read(n) for n in names])
            self._last = group, median_scene(frames)[None]
        return self._last[1]


def _check_video(images: ImageSet, group: str, names: list[str]) -> None:
    """Refuse frames of which there is no median that shows the scene."""
    if len(names) < FEWEST_FRAMES:
        raise PhantomscopeError(
            f"the video {group!r} has {len(names)} frames, a median needs at least "
            f"{FEWEST_FRAMES}",
            where=images.folder / "manifest.csv",
            fix="take more frames of each video, or leave `median` out",
        )
    if len({images.shape(name) for name in names}) > 1:
        raise PhantomscopeError(
            f"frames of the video {group!r} differ in size",
            where=images.folder / "manifest.csv",
            fix="give each video a `group` of its own",
        )


def _load(
    model: Path | None, config: Config, target: str, method: str
) -> DiffusionModel:
    """Load a model, and make sure that it was trained for this."""
    if model is None:
        raise PhantomscopeError(
            f"`{method}` needs a trained model", where="--model",
            fix="give the file that `train-filter` wrote",
        )  # fmt: skip
    trained, compose = DiffusionModel.load(model), config.filter.compose
    limits = compose.log_limits
    for name, wanted in (
        ("method", method), ("target", target), ("share", compose.share),
        ("mode", compose.mode), ("log_limits", limits and list(limits)),
        ("channels", LAYERS if method == "layers" else 1), ("conditions", 0),
    ):  # fmt: skip
        if trained.meta.get(name) != wanted:
            raise PhantomscopeError(
                f"this model is of another kind: its {name} is "
                f"{trained.meta.get(name)!r}, {wanted!r} is needed",
                where=model,
                fix="give the model that was trained with the same options, or train "
                "it again",
            )
    return trained


def filter_images(
    config: Config, *, tested: Path, model: Path | None = None, found: Output,
    target: str, method: str, fold: int = 0, seed: int = 0, part: str = "test",
) -> None:  # fmt: skip
    """Tell the layers of test images apart, and find the objects of the target.

    `part` is ``test``, or ``all``: every image of the set, as of a plate.
    """
    own, kind, options = config.of_filter, class_of(config, target), config.filter
    images = asked_images(config, ImageSet.open(tested), fold, part)
    units, light, share = _Units(images, config), light_of(config), "scene"
    work: _Median | _Network
    if method == "median":
        work = _Median(units)
    else:
        check_method(method)
        own.check_sides()
        work = _Network(_load(model, config, kind, method), own, images, seed)
        share = options.compose.share
    info = {
        "stage": "filter_images", "method": method, "target": kind, "fold": fold,
        "seed": seed, "model": work.identity, "images": hash_of(images),
        "scale": options.scale.model_dump(mode="json"),
        "objects": options.objects.model_dump(mode="json"),
        "compose": options.compose.model_dump(mode="json"), "dark": options.crops.dark,
        "synthesise": own.synthesise.model_dump(mode="json"),
    }  # fmt: skip
    layer = "all" if method == "layers" else share
    with (
        ImageSetWriter(found, info) as writer,
        Progress("filtering", len(images), unit="images") as progress,
    ):
        for name in images.ids:
            if name not in writer:
                row, image = images.row(name), units.read(name)
                parted = part_image(
                    image, work.output(image, name), light, share, level=work.level,
                    dark=options.crops.dark,
                )  # fmt: skip
                kept = parted.kept
                writer.add(
                    name, kept if len(kept) > 1 else kept[0],
                    find_objects(parted.layer, image, parted.scene, options.objects),
                    channels=len(kept), pixel_size=images.voxel_size(name),
                    layer=layer, **{c: row[c] for c in KEPT if c in row},
                )  # fmt: skip
            progress.advance()

"""Tested images of semantic filtering, their true layers, and what methods found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.filtering import Filter
from phantomscope.images.annotations import BOXES, read_annotations
from phantomscope.images.imageset import ImageSet
from phantomscope.images.light import Light

Array = NDArray[Any]
NONE, TARGET, SCENE, ALL = "none", "target", "scene", "all"
# Channels of a composed image, and of what tells all layers apart.
COMPOSED = ("image", "target", "other", "background")
# Composed images are stored over 0 ... 1.
FULL = 65535


def light_of(options: Filter) -> Light:
    """Return what intensities mean in an experiment of filtering."""
    limits = options.compose.log_limits
    return Light(
        options.scale.divisor, options.compose.mode,
        (limits[0], limits[1]) if limits else None,
    )  # fmt: skip


def tested_unit(options: Filter, images: ImageSet, name: str) -> Array:
    """Return a tested image from 0 to 1, as a filter sees it, shape (Y, X)."""
    if options.truth == "layers":
        return true_layers(options, images, name)["image"]
    return light_of(options).to_unit(images.image(name), options.scale.test_percentile)


def true_layers(options: Filter, images: ImageSet, name: str) -> dict[str, Array]:
    """Return image, target, other layer and background of a composed image.

    From 0 to 1, shape (Y, X); and the ``scene``, which is all but the target.
    """
    stored = images.channels(name).astype(np.float32) / np.float32(FULL)
    found: dict[str, Array] = dict(zip(COMPOSED, stored, strict=True))
    scene = light_of(options).join([found["other"], found["background"]])
    return found | {SCENE: np.asarray(scene)}


def kept_layers(
    options: Filter, found: ImageSet, name: str, image: Array
) -> dict[str, Array]:
    """Return the layers that a method gives of an image, from 0 to 1, by their names.

    Of one that gives the scene, without the target, that and the ``target``, which is
    what the two differ by. Empty for a method that gives none.

    Parameters
    ----------
    options : Filter
        How layers are composed, and whether objects are dark.
    found : ImageSet
        Images with a column `layer`: ``none``, ``target``, ``scene`` or ``all``.
    name : str
        Id.
    image : ndarray, shape (Y, X)
        The tested image, from 0 to 1.
    """
    kind = str(found.row(name).get("layer", NONE))
    if kind == NONE:
        return {}
    values = found.channels(name).astype(np.float32)
    if kind == SCENE:
        return {SCENE: values[0], TARGET: _taken(options, image, values[0])}
    return dict(zip(COMPOSED[1:] if kind == ALL else (TARGET,), values, strict=True))


def _taken(options: Filter, image: Array, scene: Array) -> Array:
    """Return the target layer, of which an image has been freed.

    Of dark objects it is what the scene has more.
    """
    light, dark = light_of(options), options.crops.dark
    dark = dark or options.objects.rule == "removed"
    pair = (scene, image) if dark and light.mode != "multiply" else (image, scene)
    found: Array = np.asarray(light.without(*pair))
    return found


def found_boxes(found: ImageSet, name: str) -> Array:
    """Return the boxes (y1, x1, y2, x2) of what was found in an image, shape (n, 4).

    Of a method that gives boxes its own; else those of its objects.
    """
    # Lazily: figures that show no boxes load no watershed.
    from phantomscope.measure.foreground import bounding_boxes

    if not (found.folder / BOXES).exists():
        return bounding_boxes(found.mask(name))
    table = read_annotations(found, BOXES)
    own = table.loc[table["id"] == name, ["y1", "x1", "y2", "x2"]]
    boxes: Array = own.to_numpy(float)
    return boxes

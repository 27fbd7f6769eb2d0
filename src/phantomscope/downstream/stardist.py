"""StarDist for images and volumes, trained by its own trainer on a small budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope.config.analysis import Stardist
from phantomscope.downstream.common import (
    Array,
    Segmenter,
    check_image,
    check_pairs,
    jitter,
    orientation,
    prepare_tensorflow,
    write_metrics,
)
from phantomscope.downstream.stardist_models import (
    VALIDATION_PATCHES,
    new_model_2d,
    new_model_3d,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json, write_json
from phantomscope.images.labels import compact_labels

Pairs = list[tuple[Array, Array]]

HELD_OUT = 0.15
# The search for thresholds predicts and matches the held-out part some 20 times.
SEARCHED_PIXELS = 512 * 512
SEARCHED_VOXELS = 2_000_000
# Tiles in which the network sees volumes; it overlaps them by itself.
LARGEST_TILE = (64, 256, 256)


def train(
    images: Sequence[Array],
    labels: Sequence[Array],
    options: Stardist,
    *,
    folder: Path,
    seed: int,
    threads: int,
    weights: Sequence[int] | None = None,
    anisotropy: float = 1.0,
) -> None:
    """Train StarDist; `folder` becomes a model folder of StarDist's own.

    It holds `config.json`, `weights_best.h5` (lowest loss on the held-out part, what
    StarDist loads), `weights_last.h5`, `thresholds.json` and `metrics.jsonl`.

    Parameters
    ----------
    images : sequence of ndarray, each of shape ([Z,] Y, X)
        Grey images or volumes of any numeric dtype and range; the percentiles 1 and
        99.8 of each become 0 and 1.
    labels : sequence of ndarray of integer, each of shape ([Z,] Y, X)
        Instance labels, 0 is background.
    options : Stardist
        Steps, patches, rays, channels and learning rate; `volumes` of them for 3D.
    folder : Path
        Where the model goes; made if it is missing.
    seed : int
        Of the weights, the held-out part, the patches and the augmentation. One seed
        gives nearly, not exactly, the same model on another machine.
    threads : int
        CPU threads; only the first use of TensorFlow in a process can set them.
    weights : sequence of int, optional
        How many times as often as others each image is seen.
    anisotropy : float
        How many times larger a voxel is in z than in y and x; of no effect in 2D.

    Raises
    ------
    PhantomscopeError
        For images and labels that do not fit, or without any object.
    """
    images, labels = check_pairs(images, labels)
    prepare_tensorflow(threads)
    import keras

    keras.utils.set_random_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    repeats = weights or [1] * len(images)
    pairs = [(_normalised(x), y) for x, y in zip(images, labels, strict=True)]
    training, held_out = _split(pairs, repeats, seed)
    if images[0].ndim == 3:
        model = new_model_3d(options.volumes, labels, anisotropy, folder)
    else:
        model = new_model_2d(options, labels, folder)
    history = _fit(model, training, held_out, seed)
    _write_thresholds(model, held_out, folder)
    per_epoch = model.config.train_steps_per_epoch
    rows = [
        {"step": (epoch + 1) * per_epoch, "loss": float(loss), "held_out": float(other)}
        for epoch, (loss, other) in enumerate(
            zip(history["loss"], history["val_loss"], strict=True)
        )
    ]
    write_metrics(folder / "metrics.jsonl", rows)


def _normalised(image: Array) -> Array:
    from csbdeep.utils import normalize

    result: Array = normalize(check_image(image), 1, 99.8).astype(np.float32)
    return result


def _split(pairs: Pairs, repeats: Sequence[int], seed: int) -> tuple[Pairs, Pairs]:
    """Return the training part and the held-out part, about 15 % and with objects.

    Of the training part, which StarDist draws from evenly, images are repeated.
    """
    if len(pairs) == 1:
        return _cut(*pairs[0])
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(pairs))]
    # Images with objects first: on others no threshold can be found.
    order.sort(key=lambda i: not pairs[i][1].any())
    count = max(1, round(HELD_OUT * len(pairs)))
    held_out, training = order[:count], order[count:]
    if not any(pairs[i][1].any() for i in training):
        # The only image with objects is needed on both sides.
        training = order
    often = [pairs[i] for i in training for _ in range(repeats[i])]
    return often, [pairs[i] for i in held_out]


def _cut(image: Array, label: Array) -> tuple[Pairs, Pairs]:
    """Cut a strip off the longer side of the only image."""
    axis = int(np.argmax(image.shape))
    place = image.shape[axis] - max(16, round(HELD_OUT * image.shape[axis]))
    first, last = (
        tuple(np.split(array, [place], axis=axis)[part] for array in (image, label))
        for part in (0, 1)
    )
    if not first[1].any() or not last[1].any():
        return [(image, label)], [(image, label)]
    return [(first[0], compact_labels(first[1]))], [(last[0], compact_labels(last[1]))]


def _rate(highest: float, epochs: int) -> Callable[..., float]:
    """Return the learning rate of an epoch: a cosine from `highest` to 2 % of it."""

    def rate(epoch: int, _: float = 0.0) -> float:
        wave = 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        return float(highest * (0.02 + 0.98 * wave))

    return rate


def _fit(
    model: Any, training: Pairs, held_out: Pairs, seed: int
) -> dict[str, list[float]]:
    import keras

    model.prepare_for_training()
    config = model.config
    schedule = _rate(config.train_learning_rate, config.train_epochs)
    model.callbacks.append(keras.callbacks.LearningRateScheduler(schedule))
    patch = config.train_patch_size
    padded = [_padded(*pair, patch) for pair in training]
    checked = [_padded(*pair, patch) for pair in held_out]
    # One patch per image and draw: repeat the images until there are enough.
    checked *= -(-VALIDATION_PATCHES // len(checked))
    history = model.train(
        [image for image, _ in padded],
        [label for _, label in padded],
        validation_data=([x for x, _ in checked], [y for _, y in checked]),
        augmenter=_augmenter(seed),
        seed=seed,
    )
    losses: dict[str, list[float]] = history.history
    return losses


def _padded(image: Array, label: Array, patch: Sequence[int]) -> tuple[Array, Array]:
    """Mirror an image up to a patch; no loss is taken in the mirrored part."""
    width = [
        (0, max(0, side - length))
        for side, length in zip(patch, image.shape, strict=True)
    ]
    # StarDist leaves pixels with the label -1 out of the loss. With 0, mirrored
    # objects would teach it that such objects are background.
    return (
        np.pad(image, width, mode="symmetric"),
        np.pad(label.astype(np.int32), width, constant_values=-1),
    )


def _augmenter(seed: int) -> Callable[[Array, Array], tuple[Array, Array]]:
    generator = np.random.default_rng(seed)

    def augment(image: Array, label: Array) -> tuple[Array, Array]:
        turn = int(generator.integers(8))
        return jitter(orientation(image, turn), generator), orientation(label, turn)

    return augment


def _write_thresholds(model: Any, held_out: Pairs, folder: Path) -> None:
    """Choose the thresholds on the held-out part; StarDist's own if that fails."""
    chosen: Pairs = []
    pixels = 0
    for image, label in held_out:
        side = int(np.sqrt(SEARCHED_PIXELS))
        part = (slice(side), slice(side))
        if image.ndim == 3:
            side = int(np.sqrt(SEARCHED_VOXELS / len(image)))
            part = (slice(None), slice(side), slice(side))  # type: ignore
        image, label = image[part], compact_labels(label[part])
        most = SEARCHED_PIXELS if image.ndim == 2 else SEARCHED_VOXELS
        if label.any() and pixels < most:
            chosen.append((image, label))
            pixels += image.size
    thresholds = {"prob": 0.5, "nms": 0.4}
    if chosen:
        found = model.optimize_thresholds(
            [image for image, _ in chosen],
            [label for _, label in chosen],
            nms_threshs=[0.3, 0.4],
            iou_threshs=[0.5],
            optimize_kwargs={"maxiter": 10, "verbose": 0},
            save_to_json=False,
        )
        # The search may leave its bracket, and with it the range of a probability.
        thresholds = {
            "prob": float(np.clip(found["prob"], 0.05, 0.95)),
            "nms": float(found["nms"]),
        }
    write_json(folder / "thresholds.json", thresholds)


def load(folder: Path, threads: int) -> Segmenter:
    """Return a function from an image ([Z,] Y, X) to its labels, by StarDist's loader.

    Raises
    ------
    PhantomscopeError
        If there is no trained model in `folder`.
    """
    for name in ("config.json", "weights_best.h5"):
        if not (folder / name).is_file():
            raise PhantomscopeError(
                "there is no trained StarDist model",
                where=folder / name,
                fix="train it first, or name the folder that `train` wrote",
            )
    prepare_tensorflow(threads)
    from stardist.models import StarDist2D, StarDist3D

    kind = StarDist3D if read_json(folder / "config.json")["n_dim"] == 3 else StarDist2D
    model = kind(None, name=folder.name, basedir=str(folder.parent))

    def segment(image: Array) -> Array:
        unit = _normalised(image)
        if unit.ndim != model.config.n_dim:
            raise PhantomscopeError(
                f"this model is one of {model.config.n_dim}D images, this one has the "
                f"shape {unit.shape}",
                where=folder,
                fix="use a model that was trained on such images",
            )
        tiles = None
        if unit.ndim == 3:
            sides = zip(unit.shape, LARGEST_TILE, strict=True)
            tiles = tuple(-(-length // side) for length, side in sides)
        found = model.predict_instances(unit, n_tiles=tiles, show_tile_progress=False)
        return compact_labels(found[0])

    return segment


def predict(images: Sequence[Array], *, folder: Path, threads: int) -> list[Array]:
    """Segment images with a model that `train` left in `folder`.

    Parameters
    ----------
    images : sequence of ndarray, each of shape ([Z,] Y, X)
        Grey images of any numeric dtype and range.
    folder : Path
        A model folder of StarDist's.
    threads : int
        CPU threads.

    Returns
    -------
    list of ndarray of uint16 (uint32 above 65535 objects)
        Instance labels, 0 is background.

    Raises
    ------
    PhantomscopeError
        If there is no trained model, or an image is not of its dimensions.
    """
    segment = load(folder, threads)
    return [segment(image) for image in images]

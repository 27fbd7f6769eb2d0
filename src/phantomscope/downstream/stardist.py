"""StarDist 2D, trained by its own trainer on a small budget."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope.config.analysis import Stardist
from phantomscope.downstream.common import (
    Array,
    Segmenter,
    as_labels,
    check_image,
    check_pairs,
    mean_diameter,
    orientation,
    write_metrics,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_json

Pairs = list[tuple[Array, Array]]

HELD_OUT = 0.15
# The search for thresholds predicts and matches the held-out part some 20 times.
SEARCHED_PIXELS = 512 * 512
VALIDATION_PATCHES = 16
# Objects under this diameter are too small for a prediction at every second pixel.
FINE_BELOW = 12.0


def train(
    images: Sequence[Array],
    labels: Sequence[Array],
    options: Stardist,
    *,
    folder: Path,
    seed: int,
    threads: int,
) -> None:
    """Train StarDist; `folder` becomes a model folder of StarDist's own.

    It holds `config.json`, `weights_best.h5` (lowest loss on the held-out part, what
    StarDist loads), `weights_last.h5`, `thresholds.json` and `metrics.jsonl`.

    Parameters
    ----------
    images : sequence of ndarray, each of shape (Y, X)
        Grey images of any numeric dtype and range; the percentiles 1 and 99.8 of each
        become 0 and 1.
    labels : sequence of ndarray of integer, each of shape (Y, X)
        Instance labels, 0 is background.
    options : Stardist
        Steps, patches, rays, channels and learning rate.
    folder : Path
        Where the model goes; made if it is missing.
    seed : int
        Of the weights, the held-out part, the patches and the augmentation. One seed
        gives nearly, not exactly, the same model on another machine.
    threads : int
        CPU threads; only the first use of TensorFlow in a process can set them.

    Raises
    ------
    PhantomscopeError
        For images and labels that do not fit, or without any object.
    """
    images, labels = check_pairs(images, labels)
    _prepare_tensorflow(threads)
    import keras

    keras.utils.set_random_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(_normalised(x), y) for x, y in zip(images, labels, strict=True)]
    training, held_out = _split(pairs, seed)
    model = _new_model(options, mean_diameter(labels), folder)
    history = _fit(model, training, held_out, options, seed)
    _write_thresholds(model, held_out, folder)
    per_epoch = model.config.train_steps_per_epoch
    rows = [
        {"step": (epoch + 1) * per_epoch, "loss": float(loss), "held_out": float(other)}
        for epoch, (loss, other) in enumerate(
            zip(history["loss"], history["val_loss"], strict=True)
        )
    ]
    write_metrics(folder / "metrics.jsonl", rows)


def _prepare_tensorflow(threads: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    threading = tensorflow.config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        # TensorFlow is already running, with the threads of the first call.
        return


def _normalised(image: Array) -> Array:
    from csbdeep.utils import normalize

    result: Array = normalize(check_image(image), 1, 99.8).astype(np.float32)
    return result


def _split(pairs: Pairs, seed: int) -> tuple[Pairs, Pairs]:
    """Return the training part and the held-out part, about 15 % and with objects."""
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
    return [pairs[i] for i in training], [pairs[i] for i in held_out]


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
    return [(first[0], as_labels(first[1]))], [(last[0], as_labels(last[1]))]


def _new_model(options: Stardist, diameter: float, folder: Path) -> Any:
    """Return an untrained StarDist2D that lives in `folder`."""
    from stardist.models import Config2D, StarDist2D

    epochs = max(1, min(20, options.steps // 10))
    step = 1 if diameter < FINE_BELOW else 2
    config = Config2D(
        n_rays=options.rays,
        grid=(step, step),
        unet_n_filter_base=options.filters,
        net_conv_after_unet=4 * options.filters,
        # Off in StarDist. At 800 steps it raised the AP on real nuclei from 0.74 to
        # 0.79 at IoU 0.5 and from 0.31 to 0.51 at IoU 0.75 (thresholds 0.5, 0.4).
        unet_batch_norm=True,
        train_patch_size=(options.patch, options.patch),
        train_batch_size=options.batch_size,
        train_epochs=epochs,
        train_steps_per_epoch=-(-options.steps // epochs),
        train_learning_rate=options.learning_rate,
        train_n_val_patches=VALIDATION_PATCHES,
        train_tensorboard=False,
        # Waiting for a plateau takes longer than the whole training; see `_rate`.
        train_reduce_lr=None,
        # Written at every epoch and never loaded.
        train_checkpoint_epoch=None,
    )
    model = StarDist2D(config, name=folder.name, basedir=str(folder.parent))
    # From 0, the distances need much of a small budget to grow to the size of the
    # objects. From an interior point the outline of a disc is about 0.4 of its
    # diameter away on average.
    bias = model.keras_model.get_layer("dist").bias
    bias.assign(np.full(bias.shape, 0.4 * diameter, np.float32))
    return model


def _rate(highest: float, epochs: int) -> Callable[..., float]:
    """Return the learning rate of an epoch: a cosine from `highest` to 2 % of it."""

    def rate(epoch: int, _: float = 0.0) -> float:
        wave = 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        return float(highest * (0.02 + 0.98 * wave))

    return rate


def _fit(
    model: Any, training: Pairs, held_out: Pairs, options: Stardist, seed: int
) -> dict[str, list[float]]:
    import keras

    model.prepare_for_training()
    schedule = _rate(options.learning_rate, model.config.train_epochs)
    model.callbacks.append(keras.callbacks.LearningRateScheduler(schedule))
    padded = [_padded(*pair, options.patch) for pair in training]
    checked = [_padded(*pair, options.patch) for pair in held_out]
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


def _padded(image: Array, label: Array, side: int) -> tuple[Array, Array]:
    """Mirror an image up to `side`; no loss is taken in the mirrored part."""
    width = [(0, max(0, side - length)) for length in image.shape]
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
        image, label = orientation(image, turn), orientation(label, turn)
        image = image * generator.uniform(0.7, 1.4) + generator.uniform(-0.15, 0.15)
        noise = generator.normal(0, 0.05 * generator.uniform(), image.shape)
        return (image + noise).astype(np.float32), label

    return augment


def _write_thresholds(model: Any, held_out: Pairs, folder: Path) -> None:
    """Choose the thresholds on the held-out part; StarDist's own if that fails."""
    chosen: Pairs = []
    pixels = 0
    for image, label in held_out:
        side = int(np.sqrt(SEARCHED_PIXELS))
        image, label = image[:side, :side], as_labels(label[:side, :side])
        if label.any() and pixels < SEARCHED_PIXELS:
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
    """Return a function from an image (Y, X) to its labels, with StarDist's loader.

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
    _prepare_tensorflow(threads)
    from stardist.models import StarDist2D

    model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))

    def segment(image: Array) -> Array:
        return as_labels(model.predict_instances(_normalised(image))[0])

    return segment


def predict(images: Sequence[Array], *, folder: Path, threads: int) -> list[Array]:
    """Segment images with a model that `train` left in `folder`.

    Parameters
    ----------
    images : sequence of ndarray, each of shape (Y, X)
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
        If there is no trained model, or an image is not (Y, X).
    """
    segment = load(folder, threads)
    return [segment(image) for image in images]

"""CARE, content-aware image restoration, by CSBDeep's own network and trainer."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.restoration import Care
from phantomscope.downstream.common import (
    Array,
    check_image,
    explain_damage,
    finished_folder,
    logged,
    orientation,
    prepare_tensorflow,
    versions,
    write_metrics,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.progress import Progress

Float = NDArray[np.float32]
Restorer = Callable[[Array], Float]

PACKAGES = ("csbdeep", "tensorflow", "tensorflow-cpu", "keras")
# What becomes 0 and 1 of an image that the network sees, CSBDeep's at prediction.
PERCENTILES = (2.0, 99.8)
WEIGHTS = "weights_best.h5"
# The U-Net of CSBDeep's defaults, which have 922,977 parameters.
NETWORK = {
    "unet_n_depth": 2,
    "unet_kern_size": 5,
    "unet_n_first": 32,
    "unet_residual": True,
    "unet_last_activation": "linear",
}


def schedule(options: Care) -> tuple[int, int]:
    """Return the number of epochs, and the steps of each."""
    epochs = min(options.epochs, options.steps)
    return epochs, math.ceil(options.steps / epochs)


def new_model(options: Care, folder: Path) -> Any:
    """Return an untrained CARE network that lives in `folder`."""
    from csbdeep.models import CARE, Config

    epochs, steps = schedule(options)
    config = Config(
        "YX", n_channel_in=1, n_channel_out=1, probabilistic=False, **NETWORK,
        train_loss="mae", train_epochs=epochs, train_steps_per_epoch=steps,
        train_batch_size=options.batch_size,
        train_learning_rate=options.learning_rate, train_tensorboard=False,
        train_reduce_lr={"factor": 0.5, "patience": 10, "min_delta": 0},
    )  # fmt: skip
    return CARE(config, name=folder.name, basedir=str(folder.parent))


def unit(image: Array) -> Float:
    """Scale an image to what the network sees and predicts.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Any numeric dtype and range.

    Returns
    -------
    ndarray, shape (Y, X)
        float32; percentiles 2 and 99.8 become 0 and 1 (the maximum becomes 1 where
        structure is rarer than that). All 0 for a constant image.
    """
    values = check_image(image)
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    high = high if high > low else float(values.max())
    if not high > low:
        return np.zeros(values.shape, np.float32)
    return ((values - low) / (high - low)).astype(np.float32)


def train(
    pairs: ImageSet, options: Care, *, folder: Path, seed: int, threads: int
) -> None:
    """Train CARE on pairs; `folder` appears when it is complete.

    A training that was killed begins anew: its data order and the state of its
    trainer are CSBDeep's, and only so the same command gives the same weights.

    Parameters
    ----------
    pairs : ImageSet
        Images of one size with targets; all are used. Those of some source images
        (column `parent`) are held out, to choose the best weights.
    options : Care
        Steps, patches, learning rate.
    folder : Path
        Becomes a model folder of CSBDeep's own (`config.json`, `weights_best.h5`,
        `weights_last.h5`), with `metrics.jsonl`, `training.log` (what CSBDeep prints)
        and `training.json` (versions, seed, what it was trained on, seconds).
    seed : int
        Of weights, order, patches and augmentation.
    threads : int
        CPU threads; only the first use of TensorFlow in a process can set them.

    Raises
    ------
    PhantomscopeError
        If there are fewer than two pairs, or they differ in size.
    """
    _check(pairs, options.patch)
    held_out = _held_out(pairs, options.held_out, seed)
    names = np.array(pairs.ids)
    # Held-out pairs last: parts of arrays are no copies.
    images, targets = _arrays(pairs, [*names[~held_out], *names[held_out]])
    count = int((~held_out).sum())
    epochs, steps = schedule(options)
    with finished_folder(Path(folder)) as partial:
        begin = time.monotonic()
        prepare_tensorflow(threads)
        import keras

        keras.utils.set_random_seed(seed)
        middle = _middle(images.shape[1:3], options.patch)
        checked = (images[count:][middle], targets[count:][middle])
        total = epochs * steps
        with (
            Progress("training care", total, unit="steps", stream=sys.stderr) as bar,
            logged(partial),
        ):
            model = new_model(options, partial)
            model.prepare_for_training()
            model.callbacks.append(_counter(bar))
            history = model.train(
                images[:count], targets[:count], validation_data=checked,
                augmenter=_augmenter(options.patch, seed),
            ).history  # fmt: skip
        _write_losses(partial, history, steps)
        record = {
            "tool": "care",
            "versions": versions(PACKAGES),
            "seed": seed,
            "pairs": count,
            "held_out": len(pairs) - count,
            "held_out_sources": sorted(set(pairs.table["parent"][held_out])),
            "sources": int(pairs.table["parent"].nunique()),
            "steps": total,
            "parameters": int(model.keras_model.count_params()),
            "seconds": round(time.monotonic() - begin, 1),
            "threads": threads,
        }
        write_json(partial / "training.json", record)


def _check(pairs: ImageSet, patch: int) -> None:
    """Refuse pairs that no network can be trained on."""
    pairs.having("target", "parent")
    sizes = {pairs.shape(identifier) for identifier in pairs.ids}
    if len(pairs) < 2 or len(sizes) > 1 or min(sizes.pop()) < patch:
        raise PhantomscopeError(
            f"training takes 2 pairs or more of one size, at least {patch} px; here "
            f"are {len(pairs)}",
            where=pairs.folder / "manifest.csv",
            fix="give a folder that `make-pairs` writes for an arm",
        )


def _arrays(pairs: ImageSet, names: Sequence[str]) -> tuple[Float, Float]:
    """Read pairs as the network sees them, each of shape (n, Y, X, 1)."""
    shape = (len(names), *pairs.shape(names[0]), 1)
    images, targets = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for number, name in enumerate(names):
        images[number, ..., 0] = unit(pairs.image(name))
        targets[number, ..., 0] = unit(pairs.target(name))
    return images, targets


def _held_out(pairs: ImageSet, share: float, seed: int) -> NDArray[np.bool_]:
    """Choose the pairs of some source images, or of a single one the last pairs."""
    parents = pairs.table["parent"].to_numpy(str)
    names = sorted(set(parents))
    if len(names) == 1:
        count = max(1, round(share * len(pairs)))
        return np.arange(len(pairs)) >= len(pairs) - count
    count = min(max(1, round(share * len(names))), len(names) - 1)
    order = generator(seed, "held out").permutation(len(names))
    return np.isin(parents, [names[n] for n in order[:count]])


def _middle(shape: tuple[int, ...], patch: int) -> tuple[slice, ...]:
    """Return the part of pairs that held-out ones are restored in."""
    starts = [(side - patch) // 2 for side in shape]
    return (slice(None), *(slice(first, first + patch) for first in starts))


def _augmenter(patch: int, seed: int) -> Callable[[Float, Float], tuple[Float, Float]]:
    """Return a function that cuts the same patch out of both images, and turns it."""
    rng = generator(seed, "care", "patches")

    def augment(image: Float, target: Float) -> tuple[Float, Float]:
        first = [int(rng.integers(side - patch + 1)) for side in image.shape[:2]]
        part = tuple(slice(start, start + patch) for start in first)
        turn = int(rng.integers(8))
        turned = [orientation(one[part][..., 0], turn) for one in (image, target)]
        return turned[0][..., None], turned[1][..., None]

    return augment


def _counter(bar: Progress) -> Any:
    """Return a callback that shows the progress, and stops when it is asked to."""
    import keras

    class Counter(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            bar.advance(note=f"loss {float((logs or {}).get('loss', math.nan)):.4f}")

    return Counter()


def _write_losses(folder: Path, history: dict[str, list[float]], steps: int) -> None:
    rows = [
        {"step": (epoch + 1) * steps, "loss": float(loss), "held_out": float(other)}
        for epoch, (loss, other) in enumerate(
            zip(history["loss"], history["val_loss"], strict=True)
        )
    ]
    write_metrics(folder / "metrics.jsonl", rows)


def load(folder: Path, tile: int, threads: int) -> Restorer:
    """Return a function that restores an image by a trained network.

    Parameters
    ----------
    folder : Path
        What `train` wrote.
    tile : int
        Largest side of tiles, px. CSBDeep overlaps them by what the network sees.
    threads : int
        CPU threads.

    Returns
    -------
    callable
        From a widefield image, shape (Y, X), to a float32 one of this shape, in the
        unit of `unit`.

    Raises
    ------
    PhantomscopeError
        If there is no trained network, or it is damaged.
    """
    folder = Path(folder)
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise PhantomscopeError(
                "there is no trained CARE network",
                where=folder / name,
                fix="name the folder that `train-restorer` wrote",
            )
    prepare_tensorflow(threads)
    with redirect_stdout(StringIO()), explain_damage(folder, "train-restorer"):
        from csbdeep.models import CARE

        model = CARE(None, name=folder.name, basedir=str(folder.parent))
        # It takes the newest of the best weights; other files may lie beside them.
        model.load_weights(WEIGHTS)

    def restore(image: Array) -> Float:
        tiles = tuple(math.ceil(side / tile) for side in image.shape)
        # CSBDeep has a bar of its own for tiles.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            found = model.predict(unit(image), "YX", normalizer=None, n_tiles=tiles)
        return np.asarray(found, np.float32)

    return restore

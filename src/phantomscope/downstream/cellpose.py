"""Cellpose 3, trained from scratch by its own trainer on a small budget."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.analysis import Cellpose
from phantomscope.downstream.cellpose_library import cellpose_module
from phantomscope.downstream.common import (
    Array,
    Segmenter,
    check_image,
    check_pairs,
    mean_diameter,
    orientation,
    torch_threads,
    write_metrics,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.labels import compact_labels

# `train_seg` raises the learning rate from 0 over epochs 0 to 9 and, in a training of
# more than 300 epochs, halves it ten times over the last 100. One step per epoch gives
# the default 320 steps exactly this schedule; longer trainings get longer epochs, so
# that warm-up and decay keep their share.
MOST_EPOCHS = 400


def train(
    images: Sequence[Array],
    labels: Sequence[Array],
    options: Cellpose,
    *,
    folder: Path,
    seed: int,
    threads: int,
    chance: NDArray[np.float64] | None = None,
) -> None:
    """Train Cellpose from scratch; leaves `folder/model` and `folder/metrics.jsonl`.

    Parameters
    ----------
    images : sequence of ndarray, each of shape (Y, X)
        Grey images of any numeric dtype and range; Cellpose scales the 1st to 99th
        percentile of each to 0 to 1.
    labels : sequence of ndarray of integer, each of shape (Y, X)
        Instance labels, 0 is background.
    options : Cellpose
        Steps, patches, learning rate and working diameter.
    folder : Path
        Where the model goes; made if it is missing.
    seed : int
        Of the initial weights, and of the order and orientation of the images:
        `train_seg` itself draws the same crops in every training.
    threads : int
        CPU threads. A CUDA device is used if there is one.
    chance : ndarray, shape (n,), optional
        How often each image is seen, as shares of 1; all alike by default.

    Raises
    ------
    PhantomscopeError
        For images and labels that do not fit, or without any object.
    """
    images, labels = check_pairs(images, labels)
    folder.mkdir(parents=True, exist_ok=True)
    _stay_local(folder)
    import torch

    with torch_threads(threads):
        torch.manual_seed(seed)
        model = _new_model(_working_diameter(labels, options))
        order, images, labels = _turned(images, labels, seed)
        shares = None if chance is None else chance[order]
        _fit(model, images, labels, options, folder, shares)


def _stay_local(folder: Path) -> None:
    """Keep Cellpose from making or filling a model folder in the home directory."""
    os.environ.setdefault("CELLPOSE_LOCAL_MODELS_PATH", str(folder.absolute()))


def _working_diameter(labels: Sequence[Array], options: Cellpose) -> float:
    """Return the object diameter at which the network works, in px."""
    # A patch has to show whole objects with their neighbours, hence the cap.
    return options.diameter or min(max(mean_diameter(labels), 5.0), options.patch / 2)


def _turned(
    images: list[Array], labels: list[Array], seed: int
) -> tuple[NDArray[np.int64], list[Array], list[Array]]:
    """Return the pairs in an order and in orientations that depend on the seed."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(images))
    turns = generator.integers(8, size=len(images))
    pairs = [(images[i], labels[i], int(turns[i])) for i in order]
    return (
        order,
        [np.ascontiguousarray(orientation(image, turn)) for image, _, turn in pairs],
        [np.ascontiguousarray(orientation(label, turn)) for _, label, turn in pairs],
    )


def _new_model(diameter: float) -> Any:
    """Return an untrained Cellpose whose training is as fast as this machine allows."""
    import torch

    models = cellpose_module("models")
    model = models.CellposeModel(
        gpu=torch.cuda.is_available(),
        pretrained_model=None,
        diam_mean=diameter,
        nchan=2,
        # Cellpose's own MKL-DNN path is for inference; it slows training down, many
        # times where the cores are shared.
        mkldnn=False,
    )
    model.net.to(memory_format=torch.channels_last)
    if not model.gpu and _has_fast_bfloat16():
        model.net.forward = _in_bfloat16(model.net.forward)
    return model


def _has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (a step takes half)."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _in_bfloat16(forward: Any) -> Any:
    import torch

    def run(data: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            result, style, skips = forward(data)
        return result.float(), style.float(), skips

    return run


def _fit(
    model: Any,
    images: list[Array],
    labels: list[Array],
    options: Cellpose,
    folder: Path,
    chance: NDArray[np.float64] | None,
) -> None:
    trainer = cellpose_module("train")
    per_epoch = -(-options.steps // MOST_EPOCHS)
    own = np.isclose(float(model.diam_mean), mean_diameter(labels), rtol=0.01)
    path, losses, _ = trainer.train_seg(
        model.net,
        train_data=images,
        train_labels=labels,
        train_probs=chance,
        channels=[0, 0],
        save_path=folder,
        model_name="model",
        n_epochs=-(-options.steps // per_epoch),
        # Epochs in steps, not in images: a set may be one image or thousands.
        nimg_per_epoch=per_epoch * options.batch_size,
        batch_size=options.batch_size,
        bsize=options.patch,
        # AdamW at Cellpose's own rate: on real nuclei 320 steps gave an AP of 0.85 at
        # IoU 0.5, a rate of 0.002 or 0.001 gave 0.83.
        learning_rate=options.learning_rate,
        weight_decay=1e-5,
        # `rescale` resizes each image by its own objects. `eval` resizes all by the
        # same factor, which is 1 if the network works at the training diameter.
        rescale=not own,
        scale_range=0.5,
        # Cellpose's default 5 silently drops images with few objects.
        min_train_masks=1,
    )
    shutil.move(path, folder / "model")
    shutil.rmtree(folder / "models")
    steps = per_epoch * np.arange(1, len(losses) + 1)
    rows = [
        {"step": int(k), "loss": float(x)} for k, x in zip(steps, losses, strict=True)
    ]
    write_metrics(folder / "metrics.jsonl", rows)


def load(folder: Path, threads: int) -> Segmenter:
    """Return a function from an image (Y, X) to its labels, with Cellpose's loader.

    Raises
    ------
    PhantomscopeError
        If there is no trained model in `folder`.
    """
    path = folder / "model"
    if not path.is_file():
        # Cellpose would download another model instead.
        raise PhantomscopeError(
            "there is no trained Cellpose model",
            where=path,
            fix="train it first, or name the folder that `train` wrote",
        )
    return open_model(path, threads)


def open_model(path: Path, threads: int) -> Segmenter:
    """Return a segmenter from a Cellpose 3 model file that is known to exist."""
    _stay_local(path.parent)
    import torch

    models = cellpose_module("models")
    fast = not torch.cuda.is_available() and _has_fast_bfloat16()
    model = models.CellposeModel(
        gpu=torch.cuda.is_available(),
        pretrained_model=str(path.absolute()),
        mkldnn=not fast,
    )
    if fast:
        # Three times faster; flows differ by less than the network's own noise.
        model.net.to(memory_format=torch.channels_last)
        model.net.forward = _in_bfloat16(model.net.forward)

    def segment(image: Array) -> Array:
        if image.ndim != 2:
            raise PhantomscopeError(
                f"this model is one of images (Y, X), this one has the shape "
                f"{image.shape}",
                where=path,
                fix="use a model that was trained on such images",
            )
        with torch_threads(threads):
            # Without a diameter Cellpose takes the one that the model file carries.
            return compact_labels(model.eval(check_image(image), channels=[0, 0])[0])

    return segment


def predict(images: Sequence[Array], *, folder: Path, threads: int) -> list[Array]:
    """Segment images with a model that `train` left in `folder`.

    Parameters
    ----------
    images : sequence of ndarray, each of shape (Y, X)
        Grey images of any numeric dtype and range.
    folder : Path
        Holds `model`.
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

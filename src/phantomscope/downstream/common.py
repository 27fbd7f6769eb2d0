"""What the segmentation tools share: checks, object sizes, labels, the loss curve."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import replace_folder, write_text
from phantomscope.images.labels import compact_labels
from phantomscope.locks import only_writer

Array = NDArray[Any]
Segmenter = Callable[[Array], Array]


def check_image(image: Array) -> Array:
    """Return `image` as float32, or raise if it is no grey image ([Z,] Y, X)."""
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.dtype.kind not in "buif":
        raise PhantomscopeError(
            f"a grey image ([Z,] Y, X) is expected, not {image.dtype} of {image.shape}",
            fix="give one channel of one plane or of one volume",
        )
    return image.astype(np.float32)


def check_pairs(
    images: Sequence[Array], labels: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Return float32 images and gapless labels, or say what is wrong with them.

    Raises
    ------
    PhantomscopeError
        If the numbers or shapes differ, labels are no integers or there is no object.
    """
    if len(images) != len(labels):
        raise PhantomscopeError(
            f"{len(images)} images and {len(labels)} label images do not go together",
            fix="give one label image for each image",
        )
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        if image.shape != label.shape or label.dtype.kind not in "ui":
            raise PhantomscopeError(
                f"training image {number} is {image.shape}, its labels are "
                f"{label.dtype} of {label.shape}",
                fix="labels are integers and have the shape of their image",
            )
    if not any(label.any() for label in labels):
        raise PhantomscopeError(
            "no training image has a labelled object",
            fix="give labels in which each object has a number of its own",
        )
    return [check_image(image) for image in images], [compact_labels(x) for x in labels]


def count_objects(label: Array) -> int:
    """Return the number of objects of a label image."""
    return int(np.count_nonzero(np.unique(label)))


def mean_diameter(labels: Sequence[Array]) -> float:
    """Return the mean over images of the median object diameter, in px.

    The diameter is that of the disc of the object's area, which is also Cellpose's
    definition, or of the ball of its volume; images without objects do not count.
    """
    medians = []
    for label in labels:
        areas = np.bincount(compact_labels(label).ravel())[1:]
        areas = areas[areas > 0]
        if areas.size:
            sizes = (
                2 * np.sqrt(areas / np.pi)
                if label.ndim == 2
                else np.cbrt(6 / np.pi * areas)
            )
            medians.append(float(np.median(sizes)))
    return float(np.mean(medians)) if medians else 0.0


def object_extents(labels: Sequence[Array]) -> NDArray[np.float64]:
    """Return the median side of the objects' bounding boxes along each axis, in px.

    Objects that the edge of their image cuts are left out where others remain.

    Parameters
    ----------
    labels : sequence of ndarray of integer, each of shape ([Z,] Y, X)
        With at least one object.
    """
    cut: list[list[int]] = []
    whole: list[list[int]] = []
    for label in labels:
        for box in ndimage.find_objects(label.astype(np.int32, copy=False)):
            if box is None:
                continue
            edge = any(
                side.start == 0 or side.stop == length
                for side, length in zip(box, label.shape, strict=True)
            )
            (cut if edge else whole).append([side.stop - side.start for side in box])
    return np.median(whole or cut, axis=0)


def labelled_anisotropy(labels: Sequence[Array]) -> float:
    """Return how many times more px objects have in y and x than in z (1 in 2D).

    If objects are as deep as they are wide, this is the anisotropy of the voxels.
    """
    extents = object_extents(labels)
    if extents.size == 2:
        return 1.0
    return float(np.sqrt(extents[1] * extents[2]) / extents[0])


def orientation(array: Array, number: int) -> Array:
    """Return one of the eight orientations (0 to 7) of the last two axes."""
    turned = np.rot90(array, number % 4, axes=(-2, -1))
    return turned[..., ::-1] if number % 8 >= 4 else turned


def jitter(image: Array, generator: np.random.Generator) -> Array:
    """Change contrast, brightness and noise of an image that is about 0 to 1."""
    image = image * generator.uniform(0.7, 1.4) + generator.uniform(-0.15, 0.15)
    noise = generator.normal(0, 0.05 * generator.uniform(), image.shape)
    changed: Array = (image + noise).astype(np.float32)
    return changed


def write_metrics(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write the loss curve, one JSON object per line."""
    write_text(path, "".join(json.dumps(dict(row)) + "\n" for row in rows))


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Limit PyTorch to `threads` CPU threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare_tensorflow(threads: int) -> None:
    """Limit TensorFlow to `threads` CPU threads; only its first use can set them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    threading = tensorflow.config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        # TensorFlow is already running, with the threads of the first call.
        return


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Write what tools print to `training.log`: it would drown our own output."""
    with (folder / "training.log").open("w") as log:
        with redirect_stdout(log), redirect_stderr(log):
            yield


@contextmanager
def finished_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `folder` if the block succeeds."""
    partial = folder.with_name(f".{folder.name}.partial")
    with only_writer(folder), explain_os_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        replace_folder(partial, folder)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # TensorFlow is installed under one of two names
    return found


@contextmanager
def explain_damage(folder: Path | None, stage: str) -> Iterator[None]:
    """Explain what the loader of a tool raises on a damaged file: anything.

    `stage` is the one that makes the model again.
    """
    try:
        yield
    except (PhantomscopeError, ImportError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PhantomscopeError(
            f"this trained model cannot be loaded ({reason[:120]})",
            where=folder,
            fix=f"delete its folder and run `{stage}` again",
        ) from error

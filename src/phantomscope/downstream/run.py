"""Segmentation tools on image sets: train on one, predict another."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from phantomscope.config.analysis import Segment
from phantomscope.downstream import cellpose, classical, generalist, stardist
from phantomscope.downstream.common import Array, Segmenter, count_objects
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import read_json, replace_folder, write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.locks import only_writer
from phantomscope.progress import Progress

Value = TypeVar("Value")
Trainer = Callable[[list[Array], list[Array], Segment, Path, int], None]
Loader = Callable[[Path | None, Segment], Segmenter]

PACKAGES = {
    "cellpose": ("cellpose", "torch"),
    "stardist": ("stardist", "csbdeep", "tensorflow", "tensorflow-cpu", "keras"),
    "otsu_watershed": ("scikit-image", "scipy"),
    "generalist": ("cellpose", "torch"),
}
# What `ImageSetWriter.add` finds out itself.
OWN_COLUMNS = {
    "id", "image", "mask", "axes", "dtype", "sha256", "mask_sha256", "pixel_size",
    "pixel_unit",
}  # fmt: skip


def train_tool(
    tool: str, training: ImageSet, options: Segment, *, folder: Path, seed: int
) -> None:
    """Train a tool on an annotated set; `folder` appears when it is complete.

    Parameters
    ----------
    tool : str
        ``cellpose``, ``stardist`` or ``otsu_watershed`` (which only chooses its
        smoothing and writes `parameters.json`).
    training : ImageSet
        Images with labels; those without labels or without objects are left out.
    options : Segment
        Options of the tools and the number of CPU threads.
    folder : Path
        Gets the model as the tool's own loader takes it, `metrics.jsonl`,
        `training.log` and `training.json` (tool, versions, seed, number of images and
        objects, seconds). Whatever was there is replaced.
    seed : int
        Of everything random in the training.

    Raises
    ------
    PhantomscopeError
        For an unknown tool, or if no image with objects is left.
    """
    train = _choose(TRAINERS, tool, "trained")
    images, labels = _annotated(training)
    folder = Path(folder)
    partial_folder = folder.with_name(f".{folder.name}.partial")
    with only_writer(folder), explain_os_errors(folder):
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir(parents=True)
        start = time.monotonic()
        # Progress bars and greetings of the tools would drown the stage's own output.
        log_file = partial_folder / "training.log"
        with log_file.open("w") as log, redirect_stdout(log), redirect_stderr(log):
            train(images, labels, options, partial_folder, seed)
        record = {
            "tool": tool,
            "versions": _versions(tool),
            "seed": seed,
            "images": len(images),
            "objects": sum(count_objects(label) for label in labels),
            "seconds": round(time.monotonic() - start, 1),
            "threads": options.threads,
        }
        write_json(partial_folder / "training.json", record)
        replace_folder(partial_folder, folder)


def predict_tool(
    tool: str, folder: Path | None, images: ImageSet, options: Segment, out: Path
) -> None:
    """Segment a set; write a set with the same raw images and predicted labels.

    Parameters
    ----------
    tool : str
        ``cellpose``, ``stardist``, ``otsu_watershed`` or ``generalist``.
    folder : Path or None
        What `train_tool` wrote; None for ``generalist``.
    images : ImageSet
        Images to segment; their labels, if any, are not read.
    options : Segment
        Only the number of CPU threads is used.
    out : Path
        The new set: `image` is a copy of the raw image, `mask` the prediction (uint16,
        or uint32 above 65535 objects); the split, the group and the other columns are
        those of `images`. A run that was stopped is taken up.

    Raises
    ------
    PhantomscopeError
        For an unknown tool, a missing or damaged model or missing generalist weights.
    """
    load = _choose(LOADERS, tool, "used")
    info = {**images.info, "prediction": {"tool": tool, "versions": _versions(tool)}}
    if folder is not None and (folder / "training.json").is_file():
        info["prediction"]["training"] = read_json(folder / "training.json")
    with redirect_stdout(StringIO()), _explain_damage(folder):
        segment = load(folder, options)
    with (
        ImageSetWriter(out, info) as writer,
        Progress("segmenting", len(images), unit="images") as progress,
    ):
        for identifier in images.ids:
            if identifier not in writer:
                row = images.row(identifier)
                image = images.image(identifier)
                with redirect_stdout(StringIO()):
                    prediction = segment(image)
                size = row["pixel_size"]
                writer.add(
                    identifier,
                    image,
                    prediction,
                    pixel_size=None if pd.isna(size) else float(size),
                    **{k: v for k, v in row.items() if k not in OWN_COLUMNS},
                )
            progress.advance()


def load_tool(folder: Path, options: Segment) -> Segmenter:
    """Load what `train_tool` wrote, whichever tool it is.

    Parameters
    ----------
    folder : Path
        With `training.json`.
    options : Segment
        Only the number of CPU threads is used.

    Returns
    -------
    callable
        From a raw image, shape (Y, X), to its labels.
    """
    record = read_json(Path(folder) / "training.json")
    tool = record.get("tool") if isinstance(record, dict) else None
    load = _choose(LOADERS, str(tool), "used")
    with redirect_stdout(StringIO()), _explain_damage(folder):
        found = load(folder, options)

    def segment(image: Array) -> Array:
        with redirect_stdout(StringIO()):
            return found(image)

    return segment


@contextmanager
def _explain_damage(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except (PhantomscopeError, ImportError):
        raise
    except Exception as error:
        # The loaders of the tools raise anything on a damaged file.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PhantomscopeError(
            f"this trained model cannot be loaded ({reason[:120]})",
            where=folder,
            fix="delete its folder and run `train-segmenter` again",
        ) from error


def loader_snippet(tool: str, folder: Path) -> str:
    """Return Python lines that load a trained model without this package.

    Parameters
    ----------
    tool : str
        ``cellpose`` or ``stardist``.
    folder : Path
        What `train_tool` wrote.

    Returns
    -------
    str
        Code that turns `image`, shape (Y, X), into `labels`.
    """
    folder = Path(folder).absolute()
    snippets = {
        "cellpose": (
            "from cellpose.models import CellposeModel\n"
            f"model = CellposeModel(pretrained_model={str(folder / 'model')!r})\n"
            "labels = model.eval(image, channels=[0, 0])[0]\n"
        ),
        "stardist": (
            "from csbdeep.utils import normalize\n"
            "from stardist.models import StarDist2D\n"
            f"model = StarDist2D(None, {folder.name!r}, {str(folder.parent)!r})\n"
            "labels = model.predict_instances(normalize(image, 1, 99.8))[0]\n"
        ),
    }
    return _choose(snippets, tool, "loaded by itself")


def _choose(choices: dict[str, Value], tool: str, done: str) -> Value:
    if tool not in choices:
        raise PhantomscopeError(
            f"{tool!r} is no segmentation tool that can be {done}",
            where="segment.tools",
            fix=f"use one of {', '.join(choices)}",
        )
    return choices[tool]


def _annotated(training: ImageSet) -> tuple[list[Array], list[Array]]:
    images, labels = [], []
    for identifier in training.ids:
        if not training.has_mask(identifier):
            continue
        label = training.mask(identifier)
        if label.any():
            images.append(training.image(identifier))
            labels.append(label)
    if not images:
        raise PhantomscopeError(
            f"none of the {len(training)} training images has a labelled object",
            where=training.folder / "manifest.csv",
            fix="give `source.labels`, or train on a set that has labels",
        )
    return images, labels


def _versions(tool: str) -> dict[str, str]:
    versions = {}
    for package in PACKAGES[tool]:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # TensorFlow is installed under one of two names
    return versions


def _train_network(
    tool: str,
    images: list[Array],
    labels: list[Array],
    options: Segment,
    folder: Path,
    seed: int,
) -> None:
    common: dict[str, Any] = {
        "folder": folder, "seed": seed, "threads": options.threads
    }  # fmt: skip
    if tool == "cellpose":
        cellpose.train(images, labels, options.cellpose, **common)
    else:
        stardist.train(images, labels, options.stardist, **common)


def _tune_classical(
    images: list[Array],
    labels: list[Array],
    options: Segment,
    folder: Path,
    seed: int,
) -> None:
    sigma = classical.tune(images, labels, options.classical.sigmas)
    write_json(folder / "parameters.json", {"sigma": sigma})


def _trained(folder: Path | None, tool: str) -> Path:
    if folder is None:
        raise PhantomscopeError(
            f"{tool} needs the folder of its training", fix="train it first"
        )
    return Path(folder)


def _load_classical(folder: Path | None, options: Segment) -> Segmenter:
    found = read_json(_trained(folder, "otsu_watershed") / "parameters.json")
    return partial(classical.otsu_watershed, sigma=float(found["sigma"]))


TRAINERS: dict[str, Trainer] = {
    "cellpose": partial(_train_network, "cellpose"),
    "stardist": partial(_train_network, "stardist"),
    "otsu_watershed": _tune_classical,
}
LOADERS: dict[str, Loader] = {
    "cellpose": lambda folder, options: cellpose.load(
        _trained(folder, "cellpose"), options.threads
    ),
    "stardist": lambda folder, options: stardist.load(
        _trained(folder, "stardist"), options.threads
    ),
    "otsu_watershed": _load_classical,
    "generalist": lambda _, options: generalist.load(
        generalist.find_weights(), options.threads
    ),
}

"""Segmentation tools on image sets: train on one, predict another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

from phantomscope.config.analysis import Segment
from phantomscope.downstream import (
    cellpose,
    classical,
    generalist,
    stardist,
)
from phantomscope.downstream.common import (
    Array,
    Segmenter,
    explain_damage,
    finished_folder,
    versions,
)
from phantomscope.downstream.examples import Example
from phantomscope.downstream.jobs import TRAINERS, choose, make_job
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json, write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.voxels import anisotropy, row_voxel_size
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress

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
    "pixel_unit", "target", "target_sha256", "channels", "cells", "cells_sha256",
    "others", "others_sha256",
}  # fmt: skip


def train_tool(
    tool: str, training: ImageSet | Sequence[Example], options: Segment, *,
    folder: Path, seed: int, state: Path | None = None,
) -> None:  # fmt: skip
    """Train a tool on annotated images; `folder` appears when it is complete.

    Parameters
    ----------
    tool : str
        ``cellpose``, ``stardist`` or ``otsu_watershed`` (which only chooses its
        smoothing and writes `parameters.json`).
    training : ImageSet or sequence of Example
        Images, or volumes, with labels; those without labels or without objects are
        left out.
    options : Segment
        Options of the tools and the number of CPU threads.
    folder : Path
        Gets the model as its loader takes it, `metrics.jsonl`, `training.log` (what
        tools of others print) and `training.json` (tool, versions, seed, what it was
        trained on, seconds). Whatever was there is replaced.
    seed : int
        Of everything random in the training.
    state : Path, optional
        Folder of the training state, for tools that can go on where they were stopped
        (Cellpose on volumes); beside `folder` by default.

    Raises
    ------
    PhantomscopeError
        For an unknown tool, or if no image with objects is left.
    """
    train = choose(TRAINERS, tool, "trained")
    folder = Path(folder)
    state = state or folder.with_name(f"{folder.name}.state")
    job = make_job(tool, training, options, seed, state)
    with finished_folder(folder) as partial_folder:
        start = time.monotonic()
        train(job, partial_folder)
        record = {
            "tool": tool,
            "versions": versions(PACKAGES[tool]),
            "seed": seed,
            **job.record(),
            "seconds": round(time.monotonic() - start, 1),
            "threads": options.threads,
        }
        write_json(partial_folder / "training.json", record)


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
        The number of CPU threads; for volumes the anisotropy, and how Cellpose finds
        cells (`cellpose.volumes`).
    out : Path
        The new set: `image` is a copy of the raw image, `mask` the prediction (uint16,
        or uint32 above 65535 objects); the split, the group and the other columns are
        those of `images`. A run that was stopped is taken up.

    Raises
    ------
    PhantomscopeError
        For an unknown tool, a missing or damaged model or missing generalist weights.
    """
    load = choose(LOADERS, tool, "used")
    options = _with_anisotropy(options, images)
    info = {
        **images.info,
        "prediction": {"tool": tool, "versions": versions(PACKAGES[tool])},
    }
    if folder is not None and (folder / "training.json").is_file():
        info["prediction"]["training"] = read_json(folder / "training.json")
    with redirect_stdout(StringIO()), explain_damage(folder, "train-segmenter"):
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
                writer.add(
                    identifier,
                    image,
                    prediction,
                    pixel_size=images.voxel_size(identifier),
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
        From a raw image, shape ([Z,] Y, X), to its labels.
    """
    record = read_json(Path(folder) / "training.json")
    tool = record.get("tool") if isinstance(record, dict) else None
    load = choose(LOADERS, str(tool), "used")
    with redirect_stdout(StringIO()), explain_damage(folder, "train-segmenter"):
        found = load(folder, options)

    def segment(image: Array) -> Array:
        with redirect_stdout(StringIO()):
            return found(image)

    return segment


def loader_snippet(tool: str, folder: Path) -> str:
    """Return Python lines that load a trained model, most of them without this package.

    Parameters
    ----------
    tool : str
        ``cellpose`` or ``stardist``.
    folder : Path
        What `train_tool` wrote.

    Returns
    -------
    str
        Code that turns `image`, shape ([Z,] Y, X), into `labels`.
    """
    folder = Path(folder).absolute()
    deep = _is_of_volumes(folder)
    if tool == "cellpose" and deep:
        # Cellpose itself has no network of this kind.
        return (
            "from phantomscope.config.analysis import Segment\n"
            "from phantomscope.downstream.run import load_tool\n"
            f"labels = load_tool({str(folder)!r}, Segment())(image)\n"
        )
    kind = "StarDist3D" if deep else "StarDist2D"
    snippets = {
        "cellpose": (
            "from cellpose.models import CellposeModel\n"
            f"model = CellposeModel(pretrained_model={str(folder / 'model')!r})\n"
            "labels = model.eval(image, channels=[0, 0])[0]\n"
        ),
        "stardist": (
            "from csbdeep.utils import normalize\n"
            f"from stardist.models import {kind}\n"
            f"model = {kind}(None, {folder.name!r}, {str(folder.parent)!r})\n"
            "labels = model.predict_instances(normalize(image, 1, 99.8))[0]\n"
        ),
    }
    return choose(snippets, tool, "loaded by itself")


def _is_of_volumes(folder: Path | None) -> bool:
    """Whether `train_tool` trained this model on volumes."""
    path = folder and Path(folder) / "training.json"
    return bool(path and path.is_file() and read_json(path).get("dims") == 3)


def _with_anisotropy(options: Segment, images: ImageSet) -> Segment:
    """Fill in the anisotropy by the voxel sizes of a set, if it tells them."""
    if options.anisotropy != "auto" or not len(images):
        return options
    known = anisotropy(row_voxel_size(images.row(images.ids[0])))
    return (
        options if known is None else options.model_copy(update={"anisotropy": known})
    )


def _trained(folder: Path | None, tool: str) -> Path:
    if folder is None:
        raise PhantomscopeError(
            f"{tool} needs the folder of its training", fix="train it first"
        )
    return Path(folder)


def _load_cellpose(folder: Path | None, options: Segment) -> Segmenter:
    folder = _trained(folder, "cellpose")
    if _is_of_volumes(folder):
        from phantomscope.downstream import cellpose3d  # with torch

        return cellpose3d.load(folder, options.cellpose.volumes, options.threads)
    return cellpose.load(folder, options.threads)


def _load_classical(folder: Path | None, options: Segment) -> Segmenter:
    found = read_json(_trained(folder, "otsu_watershed") / "parameters.json")
    return partial(
        classical.otsu_watershed,
        sigma=float(found["sigma"]),
        anisotropy=float(found.get("anisotropy", 1.0)),
    )


def _load_generalist(_: Path | None, options: Segment) -> Segmenter:
    # Without labels nothing else tells what voxels are like.
    known = None if options.anisotropy == "auto" else options.anisotropy
    return generalist.load(generalist.find_weights(), options.threads, known)


LOADERS: dict[str, Loader] = {
    "cellpose": _load_cellpose,
    "stardist": lambda folder, options: stardist.load(
        _trained(folder, "stardist"), options.threads
    ),
    "otsu_watershed": _load_classical,
    "generalist": _load_generalist,
}

"""The zero-shot baseline: Cellpose's generalist cyto3, if its weights are here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phantomscope.downstream.cellpose_library import cellpose_module
from phantomscope.downstream.common import (
    Array,
    Segmenter,
    check_image,
    torch_threads,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.labels import compact_labels

NAME = "cyto3"


def find_weights() -> Path | None:
    """Return the file of Cellpose's cyto3 weights, or None; never downloads.

    Looks in ``$CELLPOSE_LOCAL_MODELS_PATH``, then in ``~/.cellpose/models``, for the
    file ``cyto3`` as Cellpose 3 itself stores it.
    """
    places = [Path.home() / ".cellpose" / "models"]
    if os.environ.get("CELLPOSE_LOCAL_MODELS_PATH"):
        places.insert(0, Path(os.environ["CELLPOSE_LOCAL_MODELS_PATH"]))
    for place in places:
        if (place / NAME).is_file():
            return place / NAME
    return None


def load(
    weights: Path | None, threads: int, anisotropy: float | None = None
) -> Segmenter:
    """Return a function from an image ([Z,] Y, X) to its labels.

    The object diameter is estimated per image by Cellpose's size model if
    ``size_cyto3.npy`` lies beside the weights (of volumes in the plane of the highest
    mean intensity); otherwise it is Cellpose's 30 px. Of volumes Cellpose looks at the
    planes along all three axes.

    Parameters
    ----------
    weights : Path
        What `find_weights` returned.
    threads : int
        CPU threads.
    anisotropy : float, optional
        How many times larger a voxel is in z than in y and x; 1 if unknown.

    Raises
    ------
    PhantomscopeError
        If `weights` is None or no file.
    """
    if weights is None or not weights.is_file():
        raise PhantomscopeError(
            f"the weights of Cellpose's generalist {NAME} are not on this machine",
            where=weights or "$CELLPOSE_LOCAL_MODELS_PATH, ~/.cellpose/models",
            fix=f"copy the files {NAME} and size_{NAME}.npy there from a machine on "
            "which Cellpose 3 has fetched them, or leave the generalist out",
            example="segment:\n  generalist: false",
        )
    os.environ.setdefault("CELLPOSE_LOCAL_MODELS_PATH", str(weights.parent.absolute()))
    import torch

    models = cellpose_module("models")
    model = models.CellposeModel(
        gpu=torch.cuda.is_available(), pretrained_model=str(weights.absolute())
    )
    size_file = weights.with_name(f"size_{NAME}.npy")
    size = (
        models.SizeModel(model, device=model.device, pretrained_size=str(size_file))
        if size_file.is_file()
        else None
    )

    def segment(image: Array) -> Array:
        image = check_image(image)
        with torch_threads(threads):
            diameter = 30.0
            if size is not None:
                plane = image
                if image.ndim == 3:
                    plane = image[int(image.mean(axis=(1, 2)).argmax())]
                diameter = float(size.eval(plane, channels=[0, 0])[0])
            deep: dict[str, Any] = {}
            if image.ndim == 3:
                deep = {"do_3D": True, "z_axis": 0, "anisotropy": anisotropy or 1.0}
            found = model.eval(image, channels=[0, 0], diameter=diameter, **deep)[0]
            return compact_labels(found)

    return segment


def predict(images: Sequence[Array], weights: Path, threads: int) -> list[Array]:
    """Segment images without training.

    Parameters
    ----------
    images : sequence of ndarray, each of shape ([Z,] Y, X)
        Grey images of any numeric dtype and range.
    weights : Path
        What `find_weights` returned.
    threads : int
        CPU threads.

    Returns
    -------
    list of ndarray of uint16 (uint32 above 65535 objects)
        Instance labels, 0 is background.

    Raises
    ------
    PhantomscopeError
        If the weights are missing, or an image is no grey image.
    """
    segment = load(weights, threads)
    return [segment(image) for image in images]

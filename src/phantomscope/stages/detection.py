"""The stages of StarDist as a rival of predicted boundaries: on pairs, as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from phantomscope.config.model import Config
from phantomscope.downstream.examples import whole_images
from phantomscope.downstream.run import predict_tool, train_tool
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.translation import object_row
from phantomscope.progress import Progress
from phantomscope.stages.arguments import Output
from phantomscope.stages.plates import LABELS
from phantomscope.stages.translated import UNITS, blocks

TOOL = "stardist"


def open_detected(
    config: Config, pairs: Path, split: str, detector: str, objects: str
) -> ImageSet:
    """Open one side of the pairs as a detector sees it.

    Parameters
    ----------
    config : Config
        Which channel is the stain.
    pairs : Path
        What `pair-fields` wrote.
    split : {"train", "test"}
        The side.
    detector : {"brightfield", "fluorescence"}
        Which kind of channel.
    objects : {"nuclei", "cells"}
        Whose labels.

    Returns
    -------
    ImageSet
        Images of one channel, with these labels as `mask`.

    Raises
    ------
    PhantomscopeError
        If this side has no image, or an image has no labels of these objects.
    """
    channel = config.translate.detector_channel(detector, objects)
    images = ImageSet.open(pairs).select(split=split).seen(channel, LABELS[objects])
    if not len(images):
        raise PhantomscopeError(
            f"no image is on the side {split!r}",
            where=pairs / "manifest.csv",
            fix="see `translate.plates.split`",
        )
    for name in images.ids:
        if not images.has_mask(name):
            raise PhantomscopeError(
                f"the image {name!r} has no labels of {objects}, which StarDist is to "
                "find",
                where=pairs / "manifest.csv",
                fix=f"leave `{objects}` out of `translate.detected`, or give outlines",
            )
    return images


def train_detector(
    config: Config, *, pairs: Path, folder: Output, detector: str, objects: str,
    seed: int = 0,
) -> None:  # fmt: skip
    """Train StarDist on brightfield or on a stain of the training part."""
    images = open_detected(config, pairs, "train", detector, objects)
    train_tool(
        TOOL, whole_images(images, "annotated"), config.segment, folder=folder,
        seed=config.seed + seed,
    )  # fmt: skip


def detect(
    config: Config, *, pairs: Path, folder: Path, detected: Output, detector: str,
    objects: str,
) -> None:  # fmt: skip
    """Find nuclei or cells of the test part with a trained StarDist."""
    images = open_detected(config, pairs, "test", detector, objects)
    predict_tool(TOOL, folder, images, config.segment, detected)


def evaluate_detection(
    config: Config, *, pairs: Path, detected: Path, scores: Output, detector: str,
    objects: str,
) -> None:  # fmt: skip
    """Compare what StarDist found with the labels of the test part."""
    truth = open_detected(config, pairs, "test", detector, objects)
    found, rows = ImageSet.open(detected), []
    with Progress("measuring", len(truth), unit="images") as progress:
        for name in truth.ids:
            known: dict[str, Any] = {c: truth.row(name).get(c, "") for c in UNITS}
            true, own = truth.mask(name), found.mask(name)
            for place, window in blocks(true.shape, config.translate.blocks):
                about = {"id": name + place, **known}
                if place:
                    about["group"] = name + place
                row = object_row(true[window], own[window])
                rows.append(about | {"objects": objects} | row)
            progress.advance()
    scores.mkdir(parents=True, exist_ok=True)
    write_text(scores / "objects.csv", pd.DataFrame(rows).to_csv(index=False))

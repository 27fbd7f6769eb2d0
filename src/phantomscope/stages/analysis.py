"""Stages of segmentation tools: trained, used and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from phantomscope.config.arms import parse_arm
from phantomscope.config.model import Config
from phantomscope.downstream import generalist
from phantomscope.downstream.examples import (
    Example,
    annotated_share,
    whole_images,
)
from phantomscope.downstream.jobs import LEARNS_FROM_PLANES, TRAINERS, choose
from phantomscope.downstream.run import predict_tool, train_tool
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.instance import object_records, score_image
from phantomscope.stages.arguments import Output, Place


def train_segmenter(
    config: Config, *, training: Path, folder: Output, tool: str, arm: str,
    seed: int = 0, annotated: Path | None = None, state: Place | None = None,
) -> None:  # fmt: skip
    """Train one tool on one arm, such as synthetic, annotated, sketch or mixed-5."""
    # A tool that does not exist is told before images are read for it.
    choose(TRAINERS, tool, "trained")
    parts = parse_arm(arm)
    folders = [training] if annotated is None else [training, annotated]
    if len(folders) != len(parts.sets):
        raise PhantomscopeError(
            f"the arm `{arm}` is made of the image sets {' and '.join(parts.sets)}, "
            f"{len(folders)} are given",
            where="--training, --annotated",
            fix="give the annotated set as `--annotated` with `mixed` arms, and only "
            "with them",
        )
    examples: list[Example] = []
    for kind, path in zip(parts.sets, folders, strict=True):
        if kind == "annotated":
            # It is tuned by its scores, which take single planes as well as volumes.
            sparse = tool in LEARNS_FROM_PLANES and parts.percent >= 100
            examples += _annotated(path, parts.percent, seed, sparse)
        else:
            images = ImageSet.open(path, most=config.segment.images)
            examples += whole_images(images, kind)
    if not examples:
        raise PhantomscopeError(
            "none of the training images has a labelled object",
            where=folders[0] / "manifest.csv",
            fix="give `source.labels`, or train on a set that has labels",
        )
    train_tool(tool, examples, config.segment, folder=folder, seed=seed, state=state)


def _annotated(
    prepared: Path, percent: float, seed: int, sparse: bool
) -> list[Example]:
    """Return the annotated training part, or a share of it."""
    images = ImageSet.open(prepared).select(split="train")
    if not any(images.has_mask(i) for i in images.ids):
        raise PhantomscopeError(
            "the training part has no labels",
            where="segment.arms",
            fix="give `source.labels`, or leave out the arms that need annotation",
        )
    return annotated_share(images, percent, seed, sparse=sparse)


def predict(
    config: Config, *, prepared: Path, predictions: Output, tool: str,
    folder: Path | None = None,
) -> None:  # fmt: skip
    """Segment the real test part with a trained tool."""
    images = ImageSet.open(prepared).select(split="test")
    if tool == "generalist" and generalist.find_weights() is None:
        # No tool, no prediction: the table has a row that says so.
        with ImageSetWriter(predictions, {"absent": "weights not present"}):
            return
    predict_tool(tool, folder, images, config.segment, predictions)


def evaluate(
    config: Config, *, prepared: Path, predictions: Path, scores: Output
) -> None:
    """Compare predictions with the annotation of the real test part."""
    truth = ImageSet.open(prepared).select(split="test")
    found = ImageSet.open(predictions)
    scores.mkdir(parents=True, exist_ok=True)
    if reason := found.info.get("absent"):
        write_text(scores / "absent.txt", f"{reason}\n")
        return
    thresholds = config.evaluate.thresholds
    rows, objects = [], []
    for identifier in truth.ids:
        if truth.has_mask(identifier):
            row = truth.row(identifier)
            labels, mask = truth.mask(identifier), found.mask(identifier)
            if (planes := truth.annotated_planes(identifier)) is not None:
                # Nobody knows what is in the others.
                _check_planes(planes, labels.shape, prepared)
                labels, mask = labels[planes], mask[planes]
            scored: dict[str, Any] = dict(score_image(labels, mask, thresholds))
            rows.append({"id": identifier, "group": row["group"], **scored})
            objects.append(object_records(labels, mask, 0.5).assign(id=identifier))
    if not rows:
        raise PhantomscopeError(
            "no image of the test part has labels",
            where=prepared,
            fix="give labels for more images, or leave `source.labels` empty",
        )
    write_text(scores / "images.csv", pd.DataFrame(rows).to_csv(index=False))
    write_text(scores / "objects.csv", pd.concat(objects).to_csv(index=False))


def _check_planes(planes: list[int], shape: tuple[int, ...], prepared: Path) -> None:
    """Refuse planes that an image does not have."""
    if len(shape) == 2 or not all(0 <= plane < shape[0] for plane in planes):
        raise PhantomscopeError(
            f"`annotated_planes` names {planes} of an image of the shape {shape}",
            where=prepared / "manifest.csv",
            fix="delete its folder and run the same command again",
        )

"""The rivals of semantic filtering: tools that find objects.

StarDist and Cellpose learn from composed images and tell classes by size; Faster R-CNN
and RetinaNet learn from boxes. The median of a video is in `filtered`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.acquire.folds import ALL, COMPOSED, asked_images, training_images
from phantomscope.config.filtering import DETECTORS, SEGMENTERS
from phantomscope.config.model import Config
from phantomscope.downstream.boxes import (
    CORNERS,
    Boxes,
    box_labels,
    chosen_boxes,
    read_boxes,
)
from phantomscope.downstream.examples import whole_images
from phantomscope.downstream.run import load_tool, train_tool
from phantomscope.downstream.size_class import SizeRule, fit_size_rule, taught_areas
from phantomscope.engine.pairs import from_stored
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES, COLUMNS
from phantomscope.images.files import read_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress
from phantomscope.provenance import fingerprint
from phantomscope.stages.arguments import Output, Place

if TYPE_CHECKING:
    from phantomscope.downstream.detector_models import Method

Float = NDArray[np.float32]
Reader = Callable[[str], Float]
MEDIAN = "median"
# What a found image has of the image that it was found in.
KEPT = ("split", "group", "well", "site", "control", "fold", "frame")


@dataclass(frozen=True)
class Finding:
    """What was found in an image.

    Attributes
    ----------
    labels : ndarray, shape (Y, X)
        Objects of the target class.
    dropped : int
        How many objects of other classes were found.
    boxes : Boxes, optional
        Of a method that gives boxes.
    """

    labels: NDArray[Any]
    dropped: int = 0
    boxes: Boxes | None = None


def train_finder(
    config: Config, *, prepared: Path, folder: Output, target: str, method: str,
    images: str, fold: int, seed: int = 0, composed: Path | None = None,
    state: Place | None = None,
) -> None:  # fmt: skip
    """Train a rival: on composed images with labels, or on images with boxes."""
    if method in SEGMENTERS:
        _train_segmenter(config, composed, folder, method, images, config.seed + seed)
    elif method in DETECTORS:
        state = state or folder.with_name(f"{folder.name}.state")
        part = training_images(config, ImageSet.open(prepared), fold, images)
        _train_detector(config, part, folder, state, target, method, config.seed + seed)
    else:
        raise _unknown(method, (*SEGMENTERS, *DETECTORS))


def _unknown(method: str, known: tuple[str, ...]) -> PhantomscopeError:
    return PhantomscopeError(
        f"{method!r} is no rival that this stage knows",
        where="--method", fix=f"give one of {', '.join(known)}",
    )  # fmt: skip


def _train_segmenter(
    config: Config, composed: Path | None, folder: Path, method: str, images: str,
    seed: int,
) -> None:  # fmt: skip
    """Train StarDist or Cellpose on all objects; fit what tells their class by size."""
    if composed is None:
        raise PhantomscopeError(
            f"`{method}` learns from composed images",
            where="--composed",
            fix="give the folder `composed/TARGET/foldN/taught-all`",
        )
    taught = ImageSet.open(composed)
    if taught.info.get("source") != COMPOSED or taught.info.get("use") != "taught":
        raise PhantomscopeError(
            "these images are not composed to be learnt from",
            where=composed,
            fix="give the folder `composed/TARGET/foldN/taught-all`",
        )
    if (number := taught.info.get("number", ALL)) != images:
        raise PhantomscopeError(
            f"these images are composed of crops of {number} training images, not of "
            f"{images}",
            where=composed,
            fix=f"give the folder `composed/TARGET/foldN/taught-{images}`",
        )
    try:
        rule = fit_size_rule(*taught_areas(taught))
    except PhantomscopeError as error:
        raise PhantomscopeError(
            error.what, where=error.where or composed, fix=error.fix
        ) from error
    some = ImageSet.open(composed, most=config.segment.images)
    train_tool(
        method, whole_images(some, "annotated"), config.segment, folder=folder,
        seed=seed,
    )  # fmt: skip
    rule.save(folder)


def _train_detector(
    config: Config, images: ImageSet, folder: Path, state: Path, target: str,
    method: str, seed: int,
) -> None:  # fmt: skip
    """Train Faster R-CNN or RetinaNet on the boxes beside the images."""
    # With torch.
    from phantomscope.downstream import detectors
    from phantomscope.downstream.detector_models import check_torchvision

    check_torchvision()
    boxes, classes = read_boxes(images, target)
    most = config.segment.megavoxels * 10**6
    read = detectors.remembering(_reader(config, images, tested=False), most)
    known = {name: own.corners.tolist() for name, own in boxes.items()}
    identity = {
        "images": list(images.table["sha256"]), "classes": classes,
        "boxes": fingerprint(known),
        "kinds": [own.kinds.tolist() for own in boxes.values()],
        "scale": config.filter.scale.model_dump(mode="json"),
        "log_limits": config.filter.compose.log_limits,
    }  # fmt: skip
    detectors.train(
        cast("Method", method),
        detectors.Lessons(images.ids, read, boxes, classes), config.filter.detectors,
        folder=folder, state=state, seed=seed, threads=config.segment.threads,
        identity=identity,
    )  # fmt: skip


def _reader(config: Config, images: ImageSet, *, tested: bool) -> Reader:
    """Return what reads an image as numbers from 0 to 1."""
    if images.info.get("source") == COMPOSED:
        return lambda name: np.float32(0.5) * (from_stored(images.image(name)) + 1)
    # With all that trains filters.
    from phantomscope.stages.filtering import light_of

    light = light_of(config)
    percentile = config.filter.scale.test_percentile if tested else None
    return lambda name: light.to_unit(images.image(name), percentile)


def find_objects(
    config: Config, *, tested: Path, found: Output, target: str, method: str, fold: int,
    seed: int = 0, folder: Path | None = None, part: str = "test",
) -> None:  # fmt: skip
    """Find the objects of a class in the tested images with a trained rival.

    `part` is ``test``, or ``all``: every image of the set, as of a plate.
    """
    if method == MEDIAN:
        # With all that filters: the scene is what a filter would give.
        from phantomscope.stages.filtered import filter_images

        filter_images(
            config, tested=tested, found=found, target=target, method=method, fold=fold,
            seed=seed, part=part,
        )  # fmt: skip
        return
    if method not in (*SEGMENTERS, *DETECTORS):
        raise _unknown(method, (MEDIAN, *SEGMENTERS, *DETECTORS))
    folder, training = _trained(folder, method, target)
    images = asked_images(config, ImageSet.open(tested), fold, part)
    info = {"method": method, "seed": seed, "target": target, "training": training}
    if method in SEGMENTERS:
        rule = SizeRule.load(folder)
        info["class"] = asdict(rule)
        find = _by_size(config, folder, rule)
    else:
        options = config.filter.detectors
        info["found"] = {n: getattr(options, n) for n in ("score", "overlap", "most")}
        find = _by_boxes(config, folder)
    read = _reader(config, images, tested=True)

    def found_in(name: str) -> tuple[Float, Finding]:
        image = read(name)
        return image, find(image)

    _write_found(config, images, found, info, found_in, target)


def _trained(
    folder: Path | None, method: str, target: str
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Return the folder of a trained rival, and what its training noted."""
    fix = "give the folder that `train-finder` wrote"
    if folder is None:
        raise PhantomscopeError(
            f"`{method}` has to be trained first", where="--folder", fix=fix
        )
    training = read_json(folder / "training.json")
    tool = training.get("tool") if isinstance(training, dict) else None
    if tool != method:
        raise PhantomscopeError(
            f"this is a model of {tool!r}, not of {method!r}", where=folder, fix=fix
        )
    learnt = training.get("classes", [target])[0]
    if learnt != target:
        raise PhantomscopeError(
            f"this model finds {learnt!r}, not {target!r}", where=folder, fix=fix
        )
    return folder, training


def _by_size(
    config: Config, folder: Path, rule: SizeRule
) -> Callable[[Float], Finding]:  # fmt: skip
    segment = load_tool(folder, config.segment)
    return lambda image: Finding(*rule.keep(segment(image)))


def _by_boxes(config: Config, folder: Path) -> Callable[[Float], Finding]:
    from phantomscope.downstream import detectors  # with torch

    options = config.filter.detectors
    detect = detectors.load(folder, options, config.segment.threads)

    def find(image: Float) -> Finding:
        boxes, dropped = chosen_boxes(detect(image), image.shape, options)
        return Finding(box_labels(boxes, image.shape), dropped, boxes)

    return find


def _write_found(
    config: Config, images: ImageSet, found: Path, info: dict[str, Any],
    find: Callable[[str], tuple[Float, Finding]], target: str,
) -> None:  # fmt: skip
    """Write what was found in each image; a run that was stopped is taken up.

    `find` gives the image that is written, and what was found, by the id of an image.
    """
    info = {
        "stage": "find-objects", **info,
        "images": fingerprint(list(images.table["sha256"])),
        "scale": config.filter.scale.model_dump(mode="json"),
        "log_limits": config.filter.compose.log_limits,
    }  # fmt: skip
    with (
        ImageSetWriter(found, info) as writer,
        Progress("finding objects", len(images), unit="images") as progress,
    ):
        parts = writer.partial / "boxes"
        for name in images.ids:
            if name not in writer:
                shown, finding = find(name)
                if finding.boxes is not None:
                    # Before its image is noted: what is noted has its boxes.
                    table = _box_table(name, finding.boxes, target)
                    write_text(parts / f"{name}.csv", table.to_csv(index=False))
                row = images.row(name)
                writer.add(
                    name, shown, finding.labels, layer="none", dropped=finding.dropped,
                    pixel_size=images.voxel_size(name),
                    **{column: row[column] for column in KEPT if column in row},
                )  # fmt: skip
            progress.advance()
        if parts.is_dir():
            text = {"dtype": {"id": str, "type": str}, "keep_default_na": False}
            paths = [parts / f"{name}.csv" for name in images.ids]
            tables = [pd.read_csv(path, **text) for path in paths]
            joined = pd.concat(tables, ignore_index=True)
            write_text(writer.partial / BOXES, joined.to_csv(index=False))
            shutil.rmtree(parts)


def _box_table(name: str, boxes: Boxes, target: str) -> pd.DataFrame:
    """Return boxes as rows, the surest first."""
    table = pd.DataFrame(boxes.corners, columns=CORNERS)
    table.insert(0, "id", name)
    table["type"], table["score"] = target, boxes.scores
    return table[[*COLUMNS[BOXES], "score"]]

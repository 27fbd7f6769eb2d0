"""The stages that measure semantic filtering: objects, masks and layers, and plates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.acquire.folds import ALL, tested_images, training_images
from phantomscope.config.filtering import Filter
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.annotations import BOXES, POINTS, read_annotations
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.assay import sum_by_well
from phantomscope.measure.detection import match_boxes, match_points, points_in_objects
from phantomscope.measure.foreground import (
    bounding_boxes,
    by_area,
    object_table,
    removed_objects,
)
from phantomscope.measure.found import (
    SCENE,
    found_boxes,
    kept_layers,
    light_of,
    tested_unit,
    true_layers,
)
from phantomscope.measure.image import psnr, ssim
from phantomscope.measure.matching import match_at
from phantomscope.measure.overlap import overlap_table
from phantomscope.progress import Progress
from phantomscope.stages.arguments import Output, Place

Array = NDArray[Any]
Row = dict[str, Any]
# What statistics may group by.
UNITS = ("group", "well", "frame")
OBJECTS = (
    "rule", "threshold", "true_positives", "false_positives", "false_negatives",
    "iou_sum",
)  # fmt: skip
PIXELS = (
    "layer", "intersection", "union", "psnr", "ssim", "psnr_input", "ssim_input",
    "psnr_empty", "ssim_empty",
)  # fmt: skip
OF_OBJECTS = ("target", "other")
CURVE = ("step", "intersection", "union")
# Grey values of 255 by which `removed` is tried, beside that of the config.
STEPS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40, 56, 80)
# Larger objects are no cells on the plate of BBBC026.
PLATE_AREA = 5000.0


@dataclass(frozen=True)
class Known:
    """What is known of tested images.

    Attributes
    ----------
    images : ImageSet
        The tested images.
    target : str
        Class of the objects that are looked for.
    table : DataFrame
        Their points or boxes; empty for other truths.
    options : Filter
        The section `filter`.
    """

    images: ImageSet
    target: str
    table: pd.DataFrame
    options: Filter

    def at(self, name: str, columns: Sequence[str]) -> Array:
        """Return the points or boxes of an image, shape (n, columns)."""
        own = self.table[self.table["id"] == name]
        found: Array = own[list(columns)].to_numpy(float)
        return found

    def labels(self, name: str) -> Array:
        """Return the true objects of the class, shape (Y, X).

        Where classes are by size (`crops.size_limit`), those of that size.
        """
        labels, limit = self.images.mask(name), self.options.crops.size_limit
        by_size = self.options.truth == "masks" and limit is not None
        if not by_size or self.target not in ("small", "large"):
            return labels
        if self.target == "large":
            return by_area(labels, float(limit or 0))
        # An area is a whole number of pixels.
        return by_area(labels, 1, float(np.ceil(limit or 0)) - 1)


def _known(config: Config, tested: Path, target: str, fold: int) -> Known:
    options = config.filter
    images = tested_images(config, ImageSet.open(tested), fold)
    table = pd.DataFrame(columns=["id", "type"])
    if options.truth in ("points", "boxes"):
        name = POINTS if options.truth == "points" else BOXES
        table = read_annotations(images, name)
        # Without a column `type` there is one class.
        table = table[table["type"].isin(["", target])]
        if table.empty:
            raise PhantomscopeError(
                f"none of the {options.truth} of the test images is of the class "
                f"{target!r}",
                where=images.folder / name,
                fix="see `filter.targets`: name a class of the column `type`",
            )
    return Known(images, target, table, options)


def _check_same(tested: ImageSet, found: ImageSet) -> None:
    """Refuse a found set of other images: what is missing would be no error at all."""
    missing = sorted(set(tested.ids) ^ set(found.ids))
    if missing:
        raise PhantomscopeError(
            f"{len(missing)} images are in one set only, such as {missing[0]!r}",
            where=f"{tested.folder}, {found.folder}",
            fix="the sets do not belong together: filter these images again",
        )


def _row(rule: str, threshold: float, counts: Any) -> Row:
    iou = getattr(counts, "iou_sum", float("nan"))
    values = (rule, threshold, counts.tp, counts.fp, counts.fn, iou)
    return dict(zip(OBJECTS, values, strict=True))


def object_rows(known: Known, found: ImageSet, name: str) -> list[Row]:
    """Compare the found objects of an image with the true ones, by every rule.

    Parameters
    ----------
    known : Known
        The truth.
    found : ImageSet
        What a method found: labels, and boxes where it gives any.
    name : str
        Id of the image.

    Returns
    -------
    list of dict
        `OBJECTS`. Rules: of points ``points_published`` and ``points_one_to_one``
        (`points_in_objects`; threshold NaN), and ``points_within`` a distance (px) of
        the centres of objects; ``boxes`` and ``instances`` at each IoU.
    """
    options, labels = known.options, found.mask(name)
    if options.truth == "points":
        points = known.at(name, ("y", "x"))
        rows = [
            _row(f"points_{rule}", float("nan"), counts)
            for rule, counts in points_in_objects(points, labels).items()
        ]
        centres = object_table(labels)[["y", "x"]].to_numpy(float)
        near = match_points(points, centres, options.reach)
        return [*rows, _row("points_within", options.reach, near)]
    rows = []
    if options.truth in ("boxes", "masks"):
        if options.truth == "boxes":
            true = known.at(name, ("y1", "x1", "y2", "x2"))
        else:
            large = by_area(known.labels(name), options.objects.min_area)
            true = bounding_boxes(large)
        boxes = found_boxes(found, name)
        rows = [
            _row("boxes", m.threshold, m)
            for m in match_boxes(true, boxes, options.iou)
        ]  # fmt: skip
    if options.truth in ("masks", "layers"):
        pairs = overlap_table(known.labels(name), labels)
        rows += [
            _row("instances", m.threshold, m) for m in match_at(pairs, options.iou)
        ]
    return rows


def _shared(truth: Array, found: Array) -> Row:
    return {
        "intersection": int((truth & found).sum()), "union": int((truth | found).sum())
    }  # fmt: skip


def layer_rows(known: Known, found: ImageSet, name: str) -> list[Row]:
    """Compare the layers of an image with the true ones, and so the image itself.

    Returns
    -------
    list of dict
        `PIXELS`: PSNR (dB, data range 1) and SSIM of each layer that the method
        gives, those of the image as it was (``psnr_input``, ``ssim_input``), and of
        nothing at all (``psnr_empty``, ``ssim_empty``): layers are mostly empty, so
        that a method which keeps nothing has a high PSNR.
    """
    true = true_layers(known.options, known.images, name)
    kept = kept_layers(known.options, found, name, true["image"])
    empty = light_of(known.options).empty
    rows = []
    for layer, values in kept.items():
        row: Row = {"layer": layer}
        nothing = np.full_like(true[layer], empty if layer in OF_OBJECTS else 0)
        for kind, one in (
            ("", values), ("_input", true["image"]), ("_empty", nothing),
        ):  # fmt: skip
            row[f"psnr{kind}"] = psnr(true[layer], one, 1.0)
            row[f"ssim{kind}"] = ssim(true[layer], one, 1.0)
        rows.append(row)
    return rows


def curve_rows(known: Known, found: ImageSet, name: str) -> list[Row]:
    """Compare what became lighter by each of several steps with the true mask.

    Pixels, without regard to their area: the mask of the published mean IoU. Empty for
    a method that gives no scene.
    """
    image = tested_unit(known.options, known.images, name)
    scene = kept_layers(known.options, found, name, image).get(SCENE)
    if scene is None:
        return []
    truth = known.labels(name) > 0
    own = known.options.objects.step
    steps = sorted({*(n / 255 for n in STEPS), *([own] if own else [])})
    return [
        {"step": step} | _shared(truth, removed_objects(image, scene, step=step))
        for step in steps
    ]


def evaluate_filter(
    config: Config, *, tested: Path, found: Path, scores: Output, target: str,
    method: str, fold: int,
) -> None:  # fmt: skip
    """Compare objects and layers of the tested images with what is known of them."""
    known, made = _known(config, tested, target, fold), ImageSet.open(found)
    _check_same(known.images, made)
    options = config.filter
    tables: dict[str, tuple[Sequence[str], list[Row]]] = {
        "objects": (OBJECTS, []), "pixels": (PIXELS, []), "curve": (CURVE, []),
    }  # fmt: skip
    with Progress(f"measuring {method}", len(made), unit="images") as progress:
        for name in known.images.ids:
            row = known.images.row(name)
            about: Row = {"id": name, **{c: row.get(c, "") for c in UNITS}}
            about["fold"] = fold
            parts = {"objects": object_rows(known, made, name), "pixels": list[Row]()}
            if options.truth in ("masks", "layers"):
                masks = known.labels(name) > 0, made.mask(name) > 0
                parts["pixels"].append({"layer": "mask"} | _shared(*masks))
                if options.objects.rule == "removed":
                    parts["curve"] = curve_rows(known, made, name)
            if options.truth == "layers":
                parts["pixels"] += layer_rows(known, made, name)
            for kind, rows in parts.items():
                tables[kind][1].extend(about | one for one in rows)
            progress.advance()
    scores.mkdir(parents=True, exist_ok=True)
    for kind, (names, rows) in tables.items():
        # With all columns, also where there is nothing to say.
        columns = ["id", *UNITS, "fold", *names]
        text = pd.DataFrame(rows, columns=columns).to_csv(index=False)
        write_text(scores / f"{kind}.csv", text)


def evaluate_plate(
    config: Config, *, found: Path, prepared: Path, scores: Output, fold: int,
    images: str = ALL,
) -> None:  # fmt: skip
    """Count the objects of each well of a plate.

    Sites with the name of an image that trained are left out: what is counted is the
    mean of the others, times the sites of the well. A well with no other is not listed.
    """
    options, plate = config.filter.objects, ImageSet.open(found).having("well")
    taught = training_images(config, ImageSet.open(prepared), fold, images)
    most = PLATE_AREA if options.max_area is None else options.max_area
    unseen = [name for name in plate.ids if name not in set(taught.ids)]
    counts = []
    with Progress("counting", len(unseen), unit="images") as progress:
        for name in unseen:
            labels = by_area(plate.mask(name), options.min_area, most)
            counts.append(int(labels.max(initial=0)))
            progress.advance()
    table = plate.table
    wells, sites = list(table.loc[unseen, "well"]), table["well"].value_counts()
    controls = table.get("control", pd.Series("", table.index))
    kinds = dict(zip(table["well"], controls, strict=True))
    rows = [
        {"well": well, "control": kinds[well], "sites": (seen := wells.count(well)),
         "objects": total * int(sites[well]) / seen}
        for well, total in sum_by_well(counts, wells).items()
    ]  # fmt: skip
    columns = ["well", "control", "sites", "objects"]
    text = pd.DataFrame(rows, columns=columns).to_csv(index=False)
    write_text(scores, text)


def tabulate_filter(config: Config, *, root: Place, csv: Output, md: Output) -> None:
    """Put layers and objects of all methods into one table."""
    from phantomscope.tables.filter_text import write_filtering
    from phantomscope.tables.filtering import filtering_rows

    write_filtering(filtering_rows(root, config), csv, md, config)

"""The tables of Javer & Rittscher 2019, published values beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from phantomscope.config.filtering import Filter
from phantomscope.images.imageset import ImageSet
from phantomscope.tables.filter_metrics import TITLES
from phantomscope.tables.paper import PaperTable, Part, beside_text
from phantomscope.tables.published import beside, load_published, read_rows
from phantomscope.tables.results import ResultRow

PAPER = "semantic_filtering"
TABLE = "tables/filtering.csv"
# What the paper's only class is called in its rows, whatever a config calls it.
CLASS = {"worms": "worm", "bbbc042": "astrocyte"}
WHOLE = {"bbbc042": "astrocyte, 1000 images"}
NO_LOGAN = "the paper compares with a pipeline of CellProfiler, which is not run here"
NO_PEOPLE = "two people marked these cells; the data set has one of them"
NO_AUGMENTED = "our Faster R-CNN is trained the other way"
REASONS = {"Logan et al. 2016": NO_LOGAN, "two people": NO_PEOPLE}

_LOSS = (
    "The paper argues with the absolute error, whose best guess is a median; its code "
    "trains with SmoothL1 (beta 1), which for intensities from 0 to 1 is half the "
    "squared error: a mean. `train.loss` chooses."
)
NOTES = {
    "worms": [
        "`removed_iou` takes all pixels that became lighter by more than a step; the "
        "paper's is 10/255. Its code compares with the output plus the first row of "
        "it, which is a slip, and notes 0.955 to 0.965 for the same networks: another "
        "threshold or another truth. So the whole curve is printed.",
        "The truth of the paper are masks of Tierpsy, which thresholds itself.",
        _LOSS,
    ],
    "bbbc026": [
        "The paper's rule (its code) counts each point that lies in an object, so that "
        "two points in one object are two true positives, and subtracts them from the "
        "objects: `points_published`. One to one stands beside it.",
        "The code prints pooled scores and means over folds; the paper does not say "
        "which it gives. The pooled ones stand beside it, `_by_fold` are the others.",
        "Five images, one for each fold: the intervals are drawn over these five.",
        "Z' and p of the paper are of another network than its scores: one with three "
        "outputs that was trained on all images. Test images are scaled by their own "
        "percentile 99, training images by 255 (`filter.scale`).",
        _LOSS,
    ],
    "bbbc042": [
        "The published precision, recall and F1 count a box as found from an IoU of "
        "0.01 on; those at larger ones stand below.",
        "Many cells of this data set are not marked, and end up in the other layer and "
        "in the background.",
        _LOSS,
    ],
    "learning_curve": [
        "Figure 5 of the paper has no printed values but those of 1000 images. What it "
        "says: with up to 100 images the filter is as good as an augmented Faster "
        "R-CNN. `_ratio` is F1 of the filter by that of a rival, same images.",
    ],
    "layers": [
        "Test images are composed of crops of images that no training saw, so that the "
        "layers are known. The paper shows such images, but does not measure any.",
    ],
}  # fmt: skip


def _measured(part: Part) -> list[ResultRow]:
    """Return the rows of a part that filters; none of one that was not run."""
    path = part.root / TABLE
    if not path.exists():
        return []
    rows = read_rows(path)
    # Refuses what is said to be the paper's own data, but is not.
    assert part.data_kind
    return rows


def _number(condition: str) -> str:
    """Return the number of training images that a condition names, if it does."""
    for piece in condition.split(":")[0].split(", "):
        count, _, word = piece.partition(" ")
        if word == "images" and count.isdigit():
            return count
    return ""


def _augmented(options: Filter, method: str) -> str:
    """Return whose published values a method stands beside."""
    if method not in ("faster_rcnn", "retinanet"):
        return method
    trained = getattr(options.detectors, method)
    word = "augmented" if trained.flip or trained.crop else "not augmented"
    return f"{TITLES[method]}, {word}"


def _published_condition(part: Part, row: ResultRow) -> str:
    """Return the condition in the paper's words; its class and all of its images."""
    target, comma, rest = row.condition.partition(", ")
    own = CLASS.get(part.organism, target)
    main = part.config.filter.sizes[-1]
    if part.organism in WHOLE and (not rest or rest == f"{main} images"):
        return WHOLE[part.organism]
    return own + comma + rest


def _named(part: Part, row: ResultRow) -> ResultRow:
    """Say in the method what it is, and how many images it was trained on."""
    options, count = part.config.filter, _number(row.condition)
    said = TITLES.get(row.method, row.method)
    if row.method in ("faster_rcnn", "retinanet"):
        said = _augmented(options, row.method)
    if count:
        said += f", {count} training image{'' if count == '1' else 's'}"
    return replace(row, method=said)


def part_rows(
    part: Part, published: Sequence[ResultRow], rows: Sequence[ResultRow]
) -> list[ResultRow]:
    """Give the rows of a part the ids of the published values that they stand for."""
    ids = {
        (row.dataset, row.metric, row.condition, row.method): row.id
        for row in published
    }
    found = []
    for row in rows:
        key = (
            part.organism, row.metric, _published_condition(part, row),
            _augmented(part.config.filter, row.method),
        )  # fmt: skip
        found.append(_named(part, replace(row, id=ids.get(key, row.id))))
    return found


def crop_rows(part: Part) -> list[ResultRow]:
    """Return how many crops of each class were cut out; none without any."""
    folder = part.root / "crops"
    if not (folder / "manifest.csv").exists():
        return []
    table = ImageSet.open(folder).table
    return [
        part.row("n_crops", target, "extraction",
                 float((table["type"] == target).sum()), (math.nan, math.nan), 0, "",
                 "crops/manifest.csv")
        for target in part.config.filter.targets
    ]  # fmt: skip


def _of_organism(part: Part, organism: str) -> list[ResultRow]:
    """Return the rows of an organism whose tests are not composed, all images."""
    if part.organism != organism or part.config.filter.truth == "layers":
        return []
    main = part.config.filter.sizes[-1]
    rows = [r for r in _measured(part) if _number(r.condition) in ("", main)]
    return [*rows, *crop_rows(part)]


def _curve(part: Part) -> list[ResultRow]:
    """Return F1 and its ratios of each number of training images."""
    return [
        row for row in _measured(part)
        if row.metric.startswith("f1_") and _number(row.condition)
    ]  # fmt: skip


def _layers(part: Part) -> list[ResultRow]:
    """Return all that was measured on composed images."""
    return _measured(part) if part.config.filter.truth == "layers" else []


def _with_methods(table: pd.DataFrame, published: Sequence[ResultRow]) -> pd.DataFrame:
    """Say whose value a published one is, and why ours is absent."""
    if table.empty:
        return table
    methods = {row.id: row.method for row in published}
    whose = table["id"].map(lambda key: methods.get(key, ""))
    others = ~whose.isin(["", "filter", "extraction"])
    conditions = table["condition"].mask(others, table["condition"] + ", " + whose)
    why = whose.map(lambda name: REASONS.get(name, ""))
    beside_ours = whose.str.startswith("Faster") & (table["experiment"] == "")
    why = why.mask(beside_ours & (table["experiment"] != "").any(), NO_AUGMENTED)
    remarks = table["remark"].mask(
        (why != "") & (table["experiment"] == ""), table["remark"] + ": " + why
    )
    return table.assign(condition=conditions, remark=remarks)


def _text(table: pd.DataFrame, level: str, *, notes: Sequence[str]) -> list[str]:
    """Return the lines of a table, and what is unlike the paper."""
    lines = beside_text(table, level) if len(table) else ["Nothing was run."]
    return [*lines, "", *(f"- {note}" for note in notes)]


def paper_tables(parts: Mapping[str, Part]) -> dict[str, PaperTable]:
    """Return worms, bbbc026, bbbc042, learning curve, and layers, which are ours.

    Parameters
    ----------
    parts : mapping of str to Part
        By `Part.key`. What is absent is "not run" in the tables.
    """
    published = load_published(PAPER)
    whole = [
        row for row in published
        if row.metric == "f1_boxes_0.01" and row.condition == WHOLE["bbbc042"]
    ]  # fmt: skip
    made = {
        name: (
            [row for row in published if row.dataset == name],
            partial(_of_organism, organism=name),
        )
        for name in ("worms", "bbbc026", "bbbc042")
    } | {"learning_curve": (whole, _curve), "layers": ([], _layers)}
    tables = {}
    for name, (theirs, rows) in made.items():
        ours = [
            row for part in parts.values()
            for row in part_rows(part, theirs, rows(part))
        ]  # fmt: skip
        frame = _with_methods(beside(theirs, ours), theirs)
        tables[name] = PaperTable(frame, partial(_text, notes=NOTES[name]))
    return tables

"""Which options of the section ``source`` go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phantomscope.config.frames import Frames
from phantomscope.config.localisations import Localisations

if TYPE_CHECKING:
    from phantomscope.config.data import Source
    from phantomscope.config.datasets import Dataset

# Kinds that need `path`, and what it is.
PATHS = {
    "folder": "the folder of your images",
    "localisations": "a table or a folder of tables",
    "videos": "a video or a folder of videos",
    "annotated": "the folder of your images",
}
# Options that belong to some kinds only.
BELONGS = {
    "path": tuple(PATHS),
    "table": ("annotated",),
    "labels": ("folder", "videos"),
    "dataset": ("dataset",),
    "mirror": ("dataset",),
    "truth": ("dataset",),
    "frames": ("dataset", "videos"),
    "videos": ("videos",),
}


def check_source(source: Source) -> None:
    """Refuse options that do not go together.

    Raises
    ------
    ValueError
        Which names the option and how to mend it.
    """
    _check_kind(source)
    _check_images(source)
    _check_tables(source)
    if source.kind == "videos":
        _check_videos(source)
    if source.entry is not None:
        _check_data_set(source, source.entry)


def _kinds(first: str, *others: str) -> str:
    """Write ``kind: a``, ``b`` or ``c``."""
    named = [f"`kind: {first}`", *(f"`{name}`" for name in others)]
    return " or ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def _check_kind(source: Source) -> None:
    if source.kind in PATHS and not source.path:
        raise ValueError(f"`kind: {source.kind}` needs `path`, {PATHS[source.kind]}")
    if source.kind == "dataset" and not source.dataset:
        raise ValueError("`kind: dataset` needs `dataset`, the name of a data set")
    if source.kind == "annotated" and not source.table:
        raise ValueError(
            "`kind: annotated` needs `table`, a CSV of points or boxes; images alone "
            "are `kind: folder`"
        )
    for name, kinds in BELONGS.items():
        usual = type(source).model_fields[name].get_default(call_default_factory=True)
        if source.kind not in kinds and getattr(source, name) != usual:
            raise ValueError(f"`{name}` belongs to {_kinds(*kinds)}")


def _check_images(source: Source) -> None:
    if source.kind == "dataset" and source.axes:
        raise ValueError("the registry says `axes` and `channel` of a data set")
    if ("C" in source.axes) != (source.channel is not None):
        raise ValueError(
            "`axes` with a `C` and `channel` go together: say which channel to use"
        )
    if isinstance(source.channel, list):
        if len(set(source.channel)) < 2:
            raise ValueError(f"`channel: {source.channel}` names a channel twice")
        if source.kind == "annotated":
            raise ValueError("`channel`: of annotated images one: give one number")
    if source.kind == "annotated":
        if "Z" in source.axes:
            raise ValueError("`axes` has a Z: annotated images are no volumes")
        if source.labelled:
            raise ValueError(
                "`labelled` is of label images; without a row in `table` nothing is in "
                "an image"
            )
    axes = source.entry.layout.axes if source.entry is not None else source.axes
    if isinstance(source.pixel_size_um, tuple) and "Z" not in axes:
        raise ValueError(
            "`pixel_size_um: [z, y, x]` is of volumes: give one number, or `axes` "
            "with a Z"
        )


def _check_tables(source: Source) -> None:
    if not source.of_tables and source.localisations != Localisations():
        raise ValueError("`localisations` belongs to sources of such tables")
    image_only = (source.axes, source.channel, source.pixel_size_um, source.labelled)
    if source.of_tables and image_only != ("", None, None, False):
        raise ValueError(
            "`axes`, `channel`, `pixel_size_um` and `labelled` are of images; "
            "tables are drawn as `localisations` says"
        )


def _check_videos(source: Source) -> None:
    if source.axes:
        raise ValueError(
            "`axes` are of images: videos are stacks (T, Y, X) of one channel"
        )
    if source.group:
        raise ValueError(
            "`group`: of `videos` each video is a group, because pairs of frames come "
            "from one video; leave it out"
        )
    if source.labelled and not source.labels:
        raise ValueError("`labelled: true` needs `labels`, a folder of label stacks")
    if source.frames.only is not None or source.frames.limit is not None:
        raise ValueError(
            "`frames`: of `videos` use `first`, `last` and `every`, so that frames are "
            "evenly spaced in time, not `only` or `limit`"
        )


def _check_data_set(source: Source, entry: Dataset) -> None:
    layout = entry.layout
    if source.truth is not None and source.truth not in layout.truths:
        known = ", ".join(filter(None, layout.truths)) or "labels without a name"
        raise ValueError(f"no `truth: {source.truth}` in this data set, but {known}")
    if source.frames != Frames() and not layout.by_frame:
        raise ValueError("`frames`: this data set has no time series; use `limit`")
    if source.labelled and not layout.truths:
        raise ValueError("`labelled: true`: this data set has no labels")
    if source.group and layout.reader:
        raise ValueError("`group`: this data set says itself what belongs together")
    if source.download == "members":
        names = [file.name for file in entry.files]
        if len(names) > 1 or not names[0].lower().endswith(".zip"):
            raise ValueError("`download: members` needs a data set that is one zip")
        if layout.keep != "all" or layout.reader:
            raise ValueError(
                "`download: members`: images of this set are chosen by looking at "
                "all of them, so the whole file is needed"
            )

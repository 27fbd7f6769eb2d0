"""Bad folders of images, groups and labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bad_inputs.building import (
    NOISE,
    UNREADABLE,
    Content,
    acquiring,
    blobs,
    config_file,
    labelled,
    png,
    tiff,
    write,
)
from benchmarks.bad_inputs.model import Case, Invocation
from benchmarks.laboratory import Laboratory
from phantomscope.images.writer import ImageSetWriter


def folder_case(
    name: str, kind: str, arrange: Callable[[Path], dict[str, Any] | None], *expect: str
) -> Case:
    """Arrange a folder `in` (and others); the function returns options of `source`."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        return acquiring(folder, **(arrange(folder) or {}))

    return Case(name, kind, build, expect)


def _initialising(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "in/bad.tif", b"words")
    output = folder / "mine.yaml"
    return Invocation(["init", folder / "in", "--output", output], (output,))


def _initialising_over(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "in/good.tif", blobs())
    output = write(folder / "mine.yaml", "seed: 3\n")
    return Invocation(["init", folder / "in", "--output", output], (output,))


def _one_group(folder: Path, lab: Laboratory) -> Invocation:
    with ImageSetWriter(folder / "images", {}) as writer:
        for n in range(2):
            writer.add(f"i{n}", blobs(seed=n), group="plate1")
    config = config_file(folder, {"split": {"by": "group"}})
    out, normalisation = folder / "prepared", folder / "normalisation.json"
    argv = ["prepare", "--config", config, "--images", folder / "images"]
    argv += ["--prepared", out, "--normalisation", normalisation]
    return Invocation(argv, (out, normalisation))


def _pair(folder: Path, name: str, label: Content, image: str = "a.tif") -> Any:
    labels = labelled(folder, {image: blobs()})
    write(labels / name, label)
    return {"labels": str(labels)}


def _same_stem(folder: Path) -> None:
    labelled(folder, {"a.tif": blobs(), "a.png": png(blobs())})


def _groupless(folder: Path) -> dict[str, Any]:
    labelled(folder, {"plate1_a.tif": blobs(), "other.tif": blobs(seed=1)})
    return {"group": r"plate(\d+)"}


def _labels_there(folder: Path) -> dict[str, Any]:
    labelled(folder, {"a.tif": blobs()})
    return {"labels": str(folder / "in")}


def _labels_missing(folder: Path) -> dict[str, Any]:
    labelled(folder, {"a.tif": blobs()})
    return {"labels": str(folder / "nowhere")}


def _limit_leaves_none(folder: Path) -> dict[str, Any]:
    labels = labelled(folder, {f"{n}.tif": blobs(seed=int(n)) for n in "123"})
    write(labels / "2.tif", (NOISE > 99).astype(np.uint16))
    return {"labels": str(labels), "limit": 1}


MASK = (NOISE > 99).astype(np.uint16)
FOLDERS = [
    folder_case("folder-empty", "folder", lambda f: (f / "in").mkdir(), "no image in",
                "source.path", "found: nothing", "name another folder"),
    folder_case("folder-of-others", "folder",
                lambda f: write(f / "in/notes.docx", b"x") and None, "no image in",
                "1 x .docx", "source.path", "directly into it"),
    folder_case("folder-of-folders", "folder",
                lambda f: write(f / "in/deep/a.tif", NOISE) and None, "no image in",
                "1 x folder", "source.path", "directly into it"),
    folder_case("folder-missing", "folder", lambda f: None, "does not exist",
                "source.path", "check the path"),
    folder_case("folder-is-a-file", "folder", lambda f: write(f / "in", b"x") and None,
                "is a file, not a folder", "source.path", "name the folder"),
    folder_case("name-too-long", "folder", lambda f: {"path": "x" * 300}, "too long",
                "check the path"),
    folder_case("same-stem", "folder", _same_stem, "a.tif", "a.png", "same name",
                "rename one"),
    folder_case("group-without-match", "groups", _groupless, "other.tif",
                "source.group", "rename the file"),
    Case("one-group", "groups", _one_group, ("one group only (plate1)", "split.by",
                                             "by: region")),
    Case("init-on-rubbish", "folder", _initialising,
         ("none of the 1 files can be read", "bad.tif", "export them again")),
    Case("init-over-a-config", "folder", _initialising_over,
         ("exists already", "mine.yaml", "--force")),
    folder_case("labels-other-shape", "labels",
                lambda f: _pair(f, "a.tif", MASK[:50]), "labels/a.tif", "(50, 128)",
                "the image's height and width"),
    folder_case("labels-float", "labels",
                lambda f: _pair(f, "a.tif", MASK.astype(np.float32)), "labels/a.tif",
                "type float32", "save integers"),
    folder_case("labels-negative", "labels",
                lambda f: _pair(f, "a.tif", MASK.astype(np.int32) - 1), "labels/a.tif",
                "negative labels", "use 0 for background"),
    folder_case("labels-too-large", "labels",
                lambda f: _pair(f, "a.tif", MASK.astype(np.uint64) << 40),
                "labels/a.tif", "too large", "number the objects from 1"),
    folder_case("labels-of-text", "labels", lambda f: _pair(f, "a.tif", b"labels"),
                "labels/a.tif", *UNREADABLE),
    folder_case("labels-rgb", "labels",
                lambda f: _pair(f, "a.png", png(np.stack([MASK] * 3, 2))),
                "labels/a.png", "(96, 128, 3)", "no other axis"),
    folder_case("labels-cut", "labels",
                lambda f: _pair(f, "a.tif", tiff(MASK)[:3000]), "labels/a.tif",
                *UNREADABLE),
    folder_case("labels-of-others", "labels", lambda f: _pair(f, "b.tif", MASK),
                "no label has the name of an image", "b.tif", "source.labels",
                "give each label the name of its image"),
    folder_case("labels-missing", "labels", _labels_missing, "does not exist",
                "source.labels", "check the path"),
    folder_case("labels-with-images", "labels", _labels_there, "in the same folder",
                "source.labels", "a folder of their own"),
    folder_case("limit-leaves-no-label", "labels", _limit_leaves_none, "source.limit",
                "raise `limit`"),
]  # fmt: skip

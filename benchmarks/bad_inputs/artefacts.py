"""Damaged results of earlier stages: manifests and JSON files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.bad_inputs.building import (
    UNREADABLE,
    checking,
    copied,
    sketches_of,
    synthesising,
    training,
    write,
)
from benchmarks.bad_inputs.model import Case, Invocation
from benchmarks.laboratory import Laboratory


def json_case(name: str, kind: str, key: str, text: str, *expect: str) -> Case:
    """Replace a JSON file of the laboratory."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        path = write(folder / f"{key}.json", text)
        return synthesising(folder, lab, **{key: path})

    return Case(name, kind, build, (f"{key}.json", *expect))


def set_case(
    name: str, damage: Callable[[Path], object], *expect: str, key: str = "prepared"
) -> Case:
    """Damage a copy of a set, and train on it (or synthesise from it)."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        source = lab.prepared if key == "prepared" else sketches_of(lab)
        path = copied(folder, source)
        damage(path)
        if key == "prepared":
            return training(folder, lab, prepared=path)
        return synthesising(folder, lab, sketches=path)

    return Case(name, "image set", build, expect)


def _in_manifest(old: str, new: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "manifest.csv"
        path.write_text(path.read_text().replace(old, new))

    return damage


def _cut_image(folder: Path) -> None:
    path = folder / "images/nuclei-train.ome.tif"
    path.write_bytes(path.read_bytes()[:20_000])


def _typeless(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text(path.read_text().replace(",type,", ",kind,"))


def _type_renamed(folder: Path, lab: Laboratory) -> Invocation:
    content = yaml.safe_load(lab.sketch.read_text())
    content["types"][0]["name"] = "other"
    sketch = write(folder / "sketch.yaml", yaml.safe_dump(content))
    return checking(folder, lab, sketch=sketch)


def _longer_line(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text(path.read_text() + "a,b," * 99 + "\n")


def _folder_instead(folder: Path) -> None:
    (folder / "manifest.csv").unlink()
    (folder / "manifest.csv").mkdir()


def _again(prefix: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "manifest.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines, *[x for x in lines if x.startswith(prefix)]]))

    return damage


LIMITS = '{{"scope":"dataset","transform":"{}","dtype":"uint16","limits":{{"{}":{}}}}}'
RERUN = "delete it and run the same command again"
FOLDER = "delete its folder and run the same command again"
SETS = [
    json_case("normalisation-broken", "JSON file", "normalisation", '{"scope": ',
              "JSON file is broken", RERUN),
    json_case("normalisation-incomplete", "JSON file", "normalisation",
              '{"scope": "dataset"}', "incomplete", "limits", RERUN),
    json_case("normalisation-is-a-list", "JSON file", "normalisation", "[1, 2]",
              "incomplete", RERUN),
    json_case("normalisation-turned", "JSON file", "normalisation",
              LIMITS.format("sqrt", "nuclei-train", "[9, 3]"), "limits 9.0 to 3.0",
              RERUN),
    json_case("normalisation-cubic", "JSON file", "normalisation",
              LIMITS.format("cubic", "nuclei-train", "[3, 9]"), "transform 'cubic'",
              RERUN),
    json_case("normalisation-of-others", "JSON file", "normalisation",
              LIMITS.format("sqrt", "cat", "[3, 9]"), "no limits for the image",
              "nuclei-train", "run `prepare` again"),
    json_case("normalisation-nan", "JSON file", "normalisation",
              LIMITS.format("sqrt", "nuclei-train", "[3, NaN]"), "limits 3.0 to nan",
              RERUN),
    json_case("normalisation-of-words", "JSON file", "normalisation",
              LIMITS.format("sqrt", "nuclei-train", '["a", "b"]'), "'a'", RERUN),
    json_case("normalisation-one-limit", "JSON file", "normalisation",
              LIMITS.format("sqrt", "nuclei-train", "[3]"), "incomplete or wrong",
              RERUN),
    json_case("normalisation-of-float64", "JSON file", "normalisation",
              LIMITS.format("sqrt", "cat", "[3, 9]").replace("uint16", "float64"),
              "dtype 'float64'", RERUN),
    json_case("normalisation-empty", "JSON file", "normalisation", "",
              "JSON file is broken", RERUN),
    json_case("normalisation-deep", "JSON file", "normalisation", "[" * 99_999,
              "JSON file is broken", RERUN),
    json_case("normalisation-long-number", "JSON file", "normalisation",
              LIMITS.format("sqrt", "cat", "[3, " + "9" * 5000 + "]"),
              "JSON file is broken", RERUN),
    json_case("normalisation-large-limit", "JSON file", "normalisation",
              LIMITS.format("sqrt", "cat", "[3, " + "9" * 400 + "]"),
              "incomplete or wrong", RERUN),
    json_case("start-true", "JSON file", "start", '{"value": true}', "t_start is True",
              "run `choose-start` again"),
    json_case("start-of-words", "JSON file", "start", '{"value": "300"}',
              "t_start is '300'", "run `choose-start` again"),
    json_case("start-nan", "JSON file", "start", '{"value": NaN}', "t_start is nan",
              "run `choose-start` again"),
    json_case("start-is-a-list", "JSON file", "start", "[300]", "t_start is None",
              "run `choose-start` again"),
    json_case("start-binary", "JSON file", "start", "\x80\x04\x95.",
              "JSON file is broken", RERUN),
    json_case("start-broken", "JSON file", "start", "{'value': 300}",
              "JSON file is broken", RERUN),
    json_case("start-incomplete", "JSON file", "start", "{}", "t_start is None",
              "run `choose-start` again"),
    json_case("start-beyond", "JSON file", "start", '{"value": 5000}',
              "t_start is 5000", "times 1 to 1000", "run `choose-start` again"),
    json_case("start-at-0", "JSON file", "start", '{"value": 0}', "t_start is 0",
              "times 1 to 1000", "run `choose-start` again"),
    set_case("manifest-missing", lambda p: (p / "manifest.csv").unlink(),
             "prepared/manifest.csv", "no such file", "check the path"),
    set_case("manifest-empty", lambda p: write(p / "manifest.csv", ""),
             "prepared/manifest.csv", "manifest is broken", FOLDER),
    set_case("manifest-binary", lambda p: write(p / "manifest.csv", b"\xff\xfe\0\1"),
             "prepared/manifest.csv", "manifest is broken", FOLDER),
    set_case("manifest-ragged", _longer_line, "prepared/manifest.csv",
             "manifest is broken", FOLDER),
    set_case("manifest-is-a-folder", _folder_instead, "prepared/manifest.csv",
             "it is a folder", "name a file"),
    set_case("manifest-of-page", lambda p: write(p / "manifest.csv", "<html>\n</html>"),
             "prepared/manifest.csv", "lacks the columns", FOLDER),
    set_case("manifest-columns", _in_manifest(",sha256,", ",hash,"),
             "prepared/manifest.csv", "lacks the columns sha256", FOLDER),
    set_case("manifest-twice", _again("nuclei-train"), "prepared/manifest.csv",
             "'nuclei-train' occurs twice", FOLDER),
    set_case("manifest-size", _in_manifest(",YX,293,", ",YX,tall,"),
             "prepared/manifest.csv", "no proper `height` in line 3", FOLDER),
    set_case("manifest-nameless", _in_manifest("images/nuclei-train.ome.tif", ""),
             "prepared/manifest.csv", "no proper `image` in line 3", FOLDER),
    set_case("manifest-climbing", _in_manifest("nuclei-train,", "../../evil,"),
             "prepared/manifest.csv", "no proper `id` in line 3", FOLDER),
    set_case("manifest-untrained", _in_manifest(",train,", ",test,"),
             "prepared/manifest.csv", "in the training part", "`prepare`"),
    set_case("set-folder-missing", shutil.rmtree, "prepared/manifest.csv",
             "no such file", "check the path"),
    set_case("set-image-missing",
             lambda p: (p / "images/nuclei-train.ome.tif").unlink(),
             "nuclei-train.ome.tif", "no such file", "put it back"),
    set_case("set-image-damaged", _cut_image, "nuclei-train.ome.tif", *UNREADABLE),
    set_case("set-info-broken", lambda p: write(p / "info.json", "{"),
             "prepared/info.json", "JSON file is broken", RERUN),
    set_case("set-without-types", _typeless, "sketches/manifest.csv",
             "does not say the type", "the stage before", key="sketches"),
    Case("type-renamed-later", "image set", _type_renamed,
         ("sketch.yaml", "no type '512x512'", "run `simulate`")),
]  # fmt: skip

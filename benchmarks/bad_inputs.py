"""Bad input: each case must get one clear error, and leave nothing half-written.

A case builds its bad input in a folder of its own and says which command to run on it
and what the message must name: the file or key, and the mend.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import yaml
from skimage import io as skimage_io

from benchmarks.laboratory import ENVIRONMENT, ROOT, SMOKE, Laboratory
from phantomscope.cli import main as phantomscope
from phantomscope.config.load import load_config
from phantomscope.engine.checkpoint import load_checkpoint, save_checkpoint
from phantomscope.images.imageset import ImageSetWriter
from phantomscope.stages import data

LONGEST = 60.0
Content = bytes | np.ndarray[Any, Any]


class NotPermittedError(Exception):
    """The case cannot be set up on this machine or by this user."""


@dataclass(frozen=True)
class Invocation:
    """A command on bad input.

    Attributes
    ----------
    argv : sequence
        Arguments of `phantomscope`.
    outputs : tuple of Path
        What must not appear, or not change if it was there before.
    code : int
        Exit status that is asked for: 1, 2 for usage errors, 0 for what must work.
    shell : str
        Shell line to run before, in a process (and mount namespace) of its own.
    mounts : bool
        Whether that line mounts something.
    never : tuple of Path
        What must not exist in any case.
    """

    argv: Sequence[object]
    outputs: tuple[Path, ...] = ()
    code: int = 1
    shell: str = ""
    mounts: bool = False
    never: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Case:
    """Bad input, how to make it, and what the message must contain."""

    name: str
    kind: str
    build: Callable[[Path, Laboratory], Invocation]
    expect: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """How the program answered; a case that cannot be set up here is `skipped`."""

    name: str
    kind: str
    ok: bool
    message: str
    why_not: str
    skipped: bool = False


def snapshot(paths: Iterable[Path]) -> dict[str, str]:
    """Hash every file below some paths; folders count, too."""
    found = {}
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else []
        for item in [path, *inside]:
            if item.is_file():
                found[str(item)] = hashlib.sha256(item.read_bytes()).hexdigest()
            elif item.exists():
                found[str(item)] = "folder"
    return found


def _run_here(call: Invocation) -> tuple[int, str]:
    """Run in this process: importing everything anew would take seconds."""
    text = io.StringIO()
    with redirect_stderr(text), redirect_stdout(text):
        try:
            code = phantomscope([str(a) for a in call.argv])
        except SystemExit as stop:  # how argparse ends
            code = int(stop.code or 0)
    return code, text.getvalue()


def _run_apart(call: Invocation) -> tuple[int, str]:
    """Run in a process of its own, after a shell line that sets limits or mounts."""
    # Mounts are seen from inside only, so what was left behind is listed there.
    script = (
        f"{call.shell} || exit 77\n"
        f'"{sys.executable}" -m phantomscope "$@"; code=$?\n'
        + "".join(f'[ -e "{p}" ] && echo "LEFT BEHIND: {p}"\n' for p in call.outputs)
        + "exit $code"
    )
    command = ["bash", "-c", script, "bash", *map(str, call.argv)]
    if call.mounts:
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            raise NotPermittedError("mounting needs root and `unshare`")
        command = ["unshare", "--mount", *command]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True,
        timeout=2 * LONGEST,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr[:20]:
        raise NotPermittedError(f"not permitted: {done.stderr.strip()}")
    return done.returncode, done.stderr + done.stdout


def _faults(case: Case, call: Invocation, code: int, text: str) -> list[str]:
    """List what is wrong with an answer, apart from files."""
    faults = []
    if code != call.code:
        faults.append(f"exit status {code}, not {call.code}")
    if "Traceback" in text:
        faults.append("a traceback")
    faults += [f"does not say {e!r}" for e in case.expect if e not in text]
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    if call.code == 1 and len(errors) != 1:
        faults.append(f"{len(errors)} errors instead of one")
    if call.code == 1 and not ("where:" in text and "mend:" in text):
        faults.append("does not say where it is and how to mend it")
    if "LEFT BEHIND" in text:
        faults.append("left an output behind")
    return faults


def check(case: Case, folder: Path, lab: Laboratory) -> Answer:
    """Run one case in an empty folder and judge the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        call = case.build(folder, lab)
        before = snapshot(call.outputs)
        begin = time.monotonic()
        code, text = (_run_apart if call.shell else _run_here)(call)
    except NotPermittedError as reason:
        return Answer(case.name, case.kind, False, "", str(reason), skipped=True)
    seconds = time.monotonic() - begin
    faults = _faults(case, call, code, text)
    if seconds >= LONGEST:
        faults.append(f"took {seconds:.0f} s")
    if call.code == 0:
        faults += [f"made no {p.name}" for p in call.outputs if not p.exists()]
    elif snapshot(call.outputs) != before:
        faults.append("changed an output")
    faults += [f"{path.name} exists" for path in call.never if path.exists()]
    return Answer(case.name, case.kind, not faults, text, "; ".join(faults))


def answered(folder: Path, lab: Laboratory | None = None) -> list[Answer]:
    """Run all cases; the laboratory is built in `folder` unless it is given."""
    if lab is None:
        lab = Laboratory(folder / "lab")
        lab.prepare()
        lab.train()
    return [check(case, folder / case.name, lab) for case in CASES]


# ---------------------------------------------------------------- building blocks


def blobs(shape: tuple[int, int] = (96, 128), seed: int = 0) -> np.ndarray[Any, Any]:
    """Return an image that is fine: bright discs on a noisy ground, uint16."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    light = np.zeros(shape)
    for cy in range(16, shape[0], 32):
        for cx in range(16, shape[1], 32):
            radius = rng.uniform(6, 10)
            light[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(400, 800)
    return rng.poisson(light + 100).astype(np.uint16)


def tiff(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    """Return an array as the bytes of a TIFF file."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def png(array: np.ndarray[Any, Any]) -> bytes:
    """Return an 8-bit array as the bytes of a PNG file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        skimage_io.imsave(path, array.astype(np.uint8), check_contrast=False)
        return path.read_bytes()


def write(path: Path, content: Content | str) -> Path:
    """Write bytes, text or an array (as TIFF) to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        content = tiff(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def config_file(folder: Path, options: dict[str, Any]) -> Path:
    """Write the smoke config with some options changed."""
    content = yaml.safe_load(SMOKE.read_text())
    for key, value in options.items():
        old = content.get(key)
        content[key] = old | value if isinstance(old, dict) else value
    return write(folder / "config.yaml", yaml.safe_dump(content))


def acquiring(folder: Path, code: int = 1, **source: Any) -> Invocation:
    """Acquire the images in `folder`/in."""
    options = {"source": {"kind": "folder", "path": str(folder / "in"), **source}}
    argv = ["acquire", "--config", config_file(folder, options)]
    output = folder / "out"
    return Invocation([*argv, "--images", output], (output,), code)


def sketches_of(lab: Laboratory) -> Path:
    """Return the first shard of sketches, drawn once."""
    folder = lab.folder / "bad-inputs/sketches"
    if not folder.exists():
        data.simulate(lab.config, sketch=lab.sketch, sketches=folder)
    return folder


def camera_of(lab: Laboratory) -> Path:
    """Return the sketches as the camera sees them, made once."""
    folder = lab.folder / "bad-inputs/camera"
    if not folder.exists():
        data.photograph(
            lab.config, sketch=lab.sketch, prepared=lab.prepared,
            normalisation=lab.normalisation, sketches=[sketches_of(lab)],
            camera_images=folder,
        )  # fmt: skip
    return folder


def synthesising(
    folder: Path, lab: Laboratory, options: dict[str, Any] | None = None, **paths: Path
) -> Invocation:
    """Synthesise from the laboratory's files, some of them replaced."""
    given = {
        "prepared": lab.prepared, "normalisation": lab.normalisation,
        "model": lab.model, "start": lab.start, "sketches": sketches_of(lab),
        "synthetic": folder / "out", **paths,
    }  # fmt: skip
    argv: list[object] = ["synthesise", "--config", config_file(folder, options or {})]
    for key, value in given.items():
        argv += [f"--{key}", value]
    return Invocation(argv, (given["synthetic"],))


def checking(
    folder: Path, lab: Laboratory, options: dict[str, Any] | None = None, **paths: Path
) -> Invocation:
    """Check the camera images as if they were synthetic."""
    given = {
        "normalisation": lab.normalisation, "sketch": lab.sketch,
        "synthetic": camera_of(lab), "checked": folder / "out", **paths,
    }  # fmt: skip
    argv: list[object] = ["check", "--config", config_file(folder, options or {})]
    for key, value in given.items():
        argv += [f"--{key}", value]
    return Invocation(argv, (folder / "out",))


def training(
    folder: Path, lab: Laboratory, options: dict[str, Any] | None = None, **paths: Path
) -> Invocation:
    """Train for two steps."""
    given = {
        "prepared": lab.prepared, "normalisation": lab.normalisation,
        "model": folder / "out.pt", "metrics": folder / "metrics.jsonl",
        "state": folder / "state", **paths,
    }  # fmt: skip
    config = config_file(folder, {"train": {"steps": 2, **(options or {})}})
    argv: list[object] = ["train-diffusion", "--config", config]
    for key, value in given.items():
        argv += [f"--{key}", value]
    return Invocation(argv, (given["model"], given["metrics"]))


def copied(folder: Path, source: Path) -> Path:
    """Copy a folder of the laboratory, to be damaged."""
    target = folder / source.name
    shutil.copytree(source, target)
    return target


def labelled(folder: Path, images: dict[str, Content]) -> Path:
    """Write images into `folder`/in and return the folder for labels."""
    for name, content in images.items():
        write(folder / "in" / name, content)
    (folder / "labels").mkdir()
    return folder / "labels"


# ---------------------------------------------------------------- images


def image_case(
    name: str, kind: str, file: str, content: Content | Callable[[], Content],
    *expect: str, **source: Any,
) -> Case:  # fmt: skip
    """One bad file beside a good one."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        good = blobs()
        axes = source.get("axes", "")
        write(folder / "in/good.tif", np.stack([good, good]) if "C" in axes else good)
        write(folder / "in" / file, content() if callable(content) else content)
        return acquiring(folder, **source)

    return Case(name, kind, build, (file, *expect))


def _giant() -> bytes:
    stream = io.BytesIO(tiff(blobs()))
    with tifffile.TiffFile(stream, mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(4_000_000)
    return stream.getvalue()


def _with(value: float) -> np.ndarray[Any, Any]:
    image = blobs().astype(np.float32)
    image[3, 4] = value
    return image


UNREADABLE = ("cannot be read as an image", "export or copy it again")
NOISE = np.random.default_rng(1).integers(0, 255, (96, 128)).astype(np.uint16)
IMAGES = [
    image_case("text-as-tif", "not an image", "bad.tif", b"just words", *UNREADABLE),
    image_case("text-as-png", "not an image", "bad.png", b"just words", *UNREADABLE),
    image_case("pdf-as-tif", "not an image", "bad.tif", b"%PDF-1.7\n1 0", *UNREADABLE),
    image_case("gif-as-png", "not an image", "bad.png", b"GIF89a\1\0", *UNREADABLE),
    image_case("html-as-tif", "not an image", "bad.tif", b"<!DOCTYPE html><html>",
               *UNREADABLE),
    image_case("tif-cut", "truncated", "bad.tif", lambda: tiff(NOISE)[:9000],
               *UNREADABLE),
    image_case("tif-header-only", "truncated", "bad.tif", lambda: tiff(NOISE)[:8],
               "the image has no pixels", "export or copy it again"),
    image_case("tif-compressed-cut", "truncated", "bad.tif",
               lambda: tiff(NOISE, compression="zlib", rowsperstrip=16)[:9000],
               *UNREADABLE),
    image_case("tif-tiled-cut", "truncated", "bad.tif",
               lambda: tiff(NOISE, tile=(32, 32))[:9000], *UNREADABLE),
    image_case("png-cut", "truncated", "bad.png", lambda: png(NOISE)[:4000],
               *UNREADABLE),
    image_case("tif-size-damaged", "truncated", "bad.tif", _giant, "memory",
               "export it again"),
    image_case("tif-0-bytes", "empty", "bad.tif", b"", "the file is empty",
               "export or copy it again"),
    image_case("png-0-bytes", "empty", "bad.png", b"", "the file is empty",
               "export or copy it again"),
    image_case("1x1", "size", "bad.tif", np.ones((1, 1), np.uint16), "1 x 1 pixels",
               "remove it", "at least 16"),
    image_case("8x300", "size", "bad.tif", NOISE[:8].repeat(3, 1)[:, :300],
               "8 x 300 pixels", "remove it", "at least 16"),
    image_case("rgb", "axes", "bad.tif", np.stack([NOISE] * 3, axis=2),
               "a grey image (Y, X) is expected", "RGB", "axes: YXC"),
    image_case("stack", "axes", "bad.tif", np.stack([NOISE] * 5),
               "a grey image (Y, X) is expected", "axes: CYX"),
    image_case("4d", "axes", "bad.tif", np.stack([np.stack([NOISE] * 3)] * 2),
               "2 x 3 x 96 x 128", "export single planes"),
    image_case("axes-do-not-fit", "axes", "bad.tif", NOISE, "source.axes: CYX",
               "one letter per axis", axes="CYX", channel=0),
    image_case("no-such-channel", "axes", "bad.tif", np.stack([NOISE] * 2),
               "source.channel: 5", "2 channels", "count from 0", axes="CYX",
               channel=5),
    image_case("nan", "values", "bad.tif", _with(np.nan), "1 pixels are NaN",
               "replace them"),
    image_case("infinite", "values", "bad.tif", _with(np.inf), "NaN or infinite",
               "replace them"),
    image_case("all-nan", "values", "bad.tif",
               np.full((64, 64), np.nan, np.float32), "4096 pixels are NaN",
               "replace them"),
    image_case("constant", "values", "bad.tif", np.full((64, 64), 7, np.uint16),
               "all pixels have the same value (7)", "remove this image"),
    image_case("complex", "dtype", "bad.tif", NOISE.astype(np.complex64),
               "type complex64", "8 or 16 bit integers"),
    image_case("boolean", "dtype", "bad.tif", NOISE > 99, "type bool",
               "8 or 16 bit integers"),
    image_case("mixed-dtypes", "dtype", "bad.tif", NOISE.astype(np.uint8),
               "different types", "uint8", "uint16", "convert them to one type"),
]  # fmt: skip


def _many(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "in/good.tif", blobs())
    write(folder / "in/one.tif", b"words")
    write(folder / "in/two.tif", np.full((64, 64), 7, np.uint16))
    return acquiring(folder)


def _too_small(folder: Path, lab: Laboratory) -> Invocation:
    with ImageSetWriter(folder / "images", {}) as writer:
        writer.add("tiny", blobs((48, 60)), stratum="48x60")
    config = config_file(folder, {"split": {"by": "region"}})
    out, normalisation = folder / "prepared", folder / "normalisation.json"
    argv = ["prepare", "--config", config, "--images", folder / "images"]
    argv += ["--prepared", out, "--normalisation", normalisation]
    return Invocation(argv, (out, normalisation))


IMAGES += [
    Case("several-at-once", "values", _many,
         ("2 problems", "one.tif", "two.tif", "mend or remove these files")),
    Case("too-small-to-cut", "size", _too_small,
         ("'tiny' of 48 x 60 px", "split.margin", "smaller margin")),
]  # fmt: skip


# ---------------------------------------------------------------- folders and labels


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


# ---------------------------------------------------------------- config


def config_case(name: str, content: str | bytes, *expect: str) -> Case:
    """Build a bad config; both the check and a stage would read it the same way."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        path, output = write(folder / "mine.yaml", content), folder / "out"
        argv = ["acquire", "--config", path, "--images", output]
        return Invocation(argv, (output,))

    return Case(name, "config", build, ("mine.yaml", *expect))


def _config_missing(folder: Path, lab: Laboratory) -> Invocation:
    argv = ["acquire", "--config", folder / "mine.yaml", "--images", folder / "out"]
    return Invocation(argv, (folder / "out",))


def _config_folder(folder: Path, lab: Laboratory) -> Invocation:
    (folder / "mine.yaml").mkdir()
    return Invocation(["config", "--check", folder / "mine.yaml"])


REFERENCE = "config/README.md"
CONFIGS = [
    config_case("unknown-key", "train: {step: 9}\n", "unknown option `train.step`",
                "did you mean `train.steps`"),
    config_case("unknown-section", "trian: {steps: 9}\n", "unknown option `trian`",
                "did you mean `train`"),
    config_case("key-in-wrong-section", "simulate: {overlap: 8}\n",
                "unknown option `simulate.overlap`", "did you mean",
                "`synthesise.overlap`"),
    config_case("wrong-type", "train: {steps: many}\n", "`train.steps`", "'many'",
                REFERENCE),
    config_case("yes-for-a-number", "train: {steps: yes}\n", "`train.steps`",
                "true or false", REFERENCE),
    config_case("out-of-bounds", "split: {train_fraction: 1.5}\n",
                "`split.train_fraction`", "less than 1", "1.5", REFERENCE),
    config_case("negative-seed", "seed: -1\n", "`seed`", "-1", REFERENCE),
    config_case("not-a-number", "train: {learning_rate: .nan}\n",
                "`train.learning_rate`", "nan", REFERENCE),
    config_case("no-such-choice", "synthesise: {sampler: euler}\n",
                "`synthesise.sampler`", "'ddim'", REFERENCE),
    config_case("section-is-a-value", "train: 5\n", "`train` is a section",
                "indented by two spaces"),
    config_case("several-options", "seed: -1\ntrain: {steps: 0}\n",
                "2 options are wrong", "`seed`", "`train.steps`", "mend each"),
    config_case("bad-axes", "source: {kind: folder, path: x, axes: ZYX}\n",
                "`source.axes`", "use 'YX', 'CYX' or 'YXC'"),
    config_case("bad-regex", "source: {kind: folder, path: x, group: 'a(b'}\n",
                "`source.group`", "not a regular expression"),
    config_case("regex-without-group", "source: {kind: folder, path: x, group: ab}\n",
                "`source.group`", "exactly one group"),
    config_case("bad-name", "experiment: ../up\n", "`experiment`",
                "use letters, digits"),
    config_case("folder-without-path", "source: {kind: folder}\n", "`source`",
                "needs `path`"),
    config_case("path-without-folder", "source: {path: x}\n", "`source`",
                "belong to `kind: folder`"),
    config_case("axes-without-channel",
                "source: {kind: folder, path: x, axes: CYX}\n", "`source`",
                "say which channel"),
    config_case("shards-over-images", "simulate: {images: 2, shards: 3}\n",
                "`shards` (3) must not exceed `images` (2)", "`simulate`", REFERENCE),
    config_case("tile-too-small", "synthesise: {tile: 32, overlap: 16}\n",
                "`synthesise`", "`tile` (32) must be more than twice `overlap`"),
    config_case("micro-batch", "train: {batch_size: 8, micro_batch: 3}\n", "`train`",
                "`micro_batch` (3) must divide `batch_size` (8)"),
    config_case("diameters", "fit: {min_diameter: 9, max_diameter: 3}\n", "`fit`",
                "`min_diameter` must be below `max_diameter`"),
    config_case("thresholds", "evaluate: {thresholds: [0.7]}\n", "`evaluate`",
                "must contain 0.5"),
    config_case("t-start-beyond", "start: {value: 900}\nprocess: {timesteps: 500}\n",
                "`start.value` (900) is beyond `process.timesteps` (500)", REFERENCE),
    config_case("no-candidate", "start: {candidates: [80]}\nprocess: {timesteps: 50}\n",
                "`start.candidates`", "`process.timesteps` (50)", REFERENCE),
    config_case("annotated-without-labels",
                "source: {kind: folder, path: x}\nsegment: {arms: [annotated]}\n",
                "`segment.arms: [annotated]`", "needs `source.labels`"),
    config_case("not-yaml", "train: {steps: 5\nseed: [\n", "this is no YAML",
                "mind indentation"),
    config_case("tabs", "train:\n\tsteps: 5\n", "this is no YAML", "no tabs"),
    config_case("repeated-key", "seed: 1\nseed: 2\n", "'seed' stands here twice",
                "line 2", "keep one"),
    config_case("binary", b"\x89PNG\r\n\x1a\n\xff\xfe\0", "not a text file",
                "give a YAML file"),
    config_case("list", "- seed\n- 1\n", "found a list", "phantomscope init"),
    config_case("words", "hello\n", "found a str", "phantomscope init"),
    Case("config-missing", "config", _config_missing,
         ("mine.yaml", "no such file", "check the path")),
    Case("config-is-a-folder", "config", _config_folder,
         ("mine.yaml", "it is a folder", "name a file")),
]  # fmt: skip


# ---------------------------------------------------------------- sketch parameters


def sketch_case(
    name: str, edit: Callable[[dict[str, Any]], object] | str, *expect: str
) -> Case:
    """Edit the fitted parameters badly; `edit` gets the first type, or is the file."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        content = yaml.safe_load(lab.sketch.read_text())
        if not isinstance(edit, str):
            edit(content["types"][0])
        text = edit if isinstance(edit, str) else yaml.safe_dump(content)
        sketch, output = write(folder / "sketch.yaml", text), folder / "out"
        argv = ["simulate", "--config", SMOKE, "--sketch", sketch]
        return Invocation([*argv, "--sketches", output], (output,))

    return Case(name, "sketch parameters", build, ("sketch.yaml", *expect))


def _sketch_missing(folder: Path, lab: Laboratory) -> Invocation:
    config = config_file(folder, {"fit": {"parameters": str(folder / "no.yaml")}})
    outputs = tuple(folder / n for n in ("sketch.yaml", "fit.json", "objects.csv"))
    argv = ["fit-sketch", "--config", config, "--prepared", lab.prepared]
    argv += ["--normalisation", lab.normalisation, "--sketch", outputs[0]]
    return Invocation([*argv, "--fit", outputs[1], "--objects", outputs[2]], outputs)


CONTRADICTION = {
    "radius_elongation": 0.9, "radius_intensity": 0.9, "elongation_intensity": -0.9,
}  # fmt: skip
COMPARE = "compare with the file that a fit writes"
SKETCHES = [
    sketch_case("quantiles-fall", lambda t: t["radius"].reverse(), "`types.0.radius`",
                "must rise", COMPARE),
    sketch_case("six-quantiles", lambda t: t["density"].pop(), "`types.0.density`",
                "7 items", COMPARE),
    sketch_case("negative-radius", lambda t: t["radius"].__setitem__(0, -1.0),
                "`types.0.radius`", "must not be negative", COMPARE),
    sketch_case("radius-under-a-pixel", lambda t: t["radius"].__setitem__(0, 0.5),
                "`radius` must be at least 1 px", COMPARE),
    sketch_case("sketch-unknown-key", lambda t: t.update(colour="red"),
                "`types.0.colour`", COMPARE),
    sketch_case("sketch-wrong-type", lambda t: t.update(edge="soft"),
                "`types.0.edge`", "valid number", COMPARE),
    sketch_case("sketch-infinite", lambda t: t["density"].__setitem__(6, float("inf")),
                "`types.0.density", "finite", COMPARE),
    sketch_case("correlations", lambda t: t.update(correlation=CONTRADICTION),
                "`types.0`", "contradict each other", COMPARE),
    sketch_case("sketch-not-yaml", "types: [\n", "this is no YAML", "indentation"),
    sketch_case("sketch-empty", "", "`types`", COMPARE),
    sketch_case("sketch-no-type", "types: []\n", "`types`", "at least 1", COMPARE),
    Case("sketch-missing", "sketch parameters", _sketch_missing,
         ("no.yaml", "no such file", "check the path")),
]  # fmt: skip


# ---------------------------------------------------------------- checkpoints


class Trap:
    """Creates a file when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def model_case(name: str, spoil: Callable[[Path, Path], object], *expect: str) -> Case:
    """Spoil a model: `spoil` gets the new path and the good model."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        path = folder / "model.pt"
        spoil(path, lab.model)
        call = synthesising(folder, lab, model=path)
        trap = folder / "sprung"
        return Invocation(call.argv, call.outputs, never=(trap,))

    return Case(name, "checkpoint", build, ("model.pt", *expect))


def _other_shapes(path: Path, model: Path) -> None:
    tensors, meta = load_checkpoint(model)
    name = next(iter(tensors["network"]))
    tensors["network"][name] = torch.zeros(3)
    save_checkpoint(path, tensors, meta)


def _other_network(path: Path, model: Path) -> None:
    tensors, meta = load_checkpoint(model)
    meta["network"] = {"preset": "enormous"}
    save_checkpoint(path, tensors, meta)


def _other_format(path: Path, model: Path) -> None:
    torch.save({"format": 99, "meta": "{}", "tensors": {}}, path)


def _trapped_archive(path: Path, model: Path) -> None:
    torch.save({"format": 1, "meta": Trap(path.with_name("sprung"))}, path)


DAMAGED = ("damaged or of another program", "delete it and run")
MODELS = [
    model_case("model-cut", lambda p, m: p.write_bytes(m.read_bytes()[:500_000]),
               *DAMAGED),
    model_case("model-flipped-tail",
               lambda p, m: p.write_bytes(m.read_bytes()[:-200] + bytes(200)),
               *DAMAGED),
    model_case("model-empty", lambda p, m: p.touch(), *DAMAGED, "cut short"),
    model_case("model-of-text", lambda p, m: write(p, "weights\n"), *DAMAGED),
    model_case("model-is-a-class", lambda p, m: torch.save(torch.nn.ReLU(), p),
               *DAMAGED, "something else than tensors"),
    model_case("model-is-a-trap",
               lambda p, m: write(p, pickle.dumps(Trap(p.with_name("sprung")))),
               *DAMAGED, "something else than tensors"),
    model_case("model-is-a-trapped-archive", _trapped_archive, *DAMAGED,
               "something else than tensors"),
    model_case("model-of-other-format", _other_format, *DAMAGED, "format 99"),
    model_case("model-other-shapes", _other_shapes, "no diffusion model",
               "size mismatch", "delete it and run"),
    model_case("model-other-network", _other_network, "`network.preset`", "enormous"),
    model_case("model-missing", lambda p, m: None, "no such file", "check the path"),
    model_case("model-is-a-folder", lambda p, m: p.mkdir(), "it is a folder"),
]  # fmt: skip


# ---------------------------------------------------------------- sets and JSON files


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
    set_case("manifest-columns", _in_manifest(",sha256,", ",hash,"),
             "prepared/manifest.csv", "lacks the columns sha256", FOLDER),
    set_case("manifest-twice", _again("nuclei-train"), "prepared/manifest.csv",
             "'nuclei-train' occurs twice", FOLDER),
    set_case("manifest-size", _in_manifest(",YX,293,", ",YX,tall,"),
             "prepared/manifest.csv", "no proper `height` in line 3", FOLDER),
    set_case("manifest-nameless", _in_manifest("images/nuclei-train.ome.tif", ""),
             "prepared/manifest.csv", "no proper `image` in line 3", FOLDER),
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


# ---------------------------------------------------------------- outputs


def _package(output: Path, **options: Any) -> Invocation:
    argv = ["acquire", "--config", SMOKE, "--images", output]
    return Invocation(argv, (output,), **options)


def _below_a_file(folder: Path, lab: Laboratory) -> Invocation:
    return _package(write(folder / "file", b"x") / "images")


def _file_in_the_way(folder: Path, lab: Laboratory) -> Invocation:
    return _package(write(folder / "images", b"precious"))


def _over_own_images(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "in/a.tif", blobs())
    call = acquiring(folder)
    # The classic slip: the folder of the images given as the output.
    return Invocation([*call.argv[:-1], folder / "in"], (folder / "in",))


def _over_a_folder(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "thesis/chapter.txt", b"precious")
    return checking(folder, lab, checked=folder / "thesis")


def _model_over_a_folder(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "out.pt/file", b"precious")
    return training(folder, lab)


def _below_proc(folder: Path, lab: Laboratory) -> Invocation:
    if not Path("/proc/self").exists():
        return _package(Path("/dev/null/images"))
    return _package(Path("/proc/images"))


def _mounted(options: str, remount: str = "") -> Callable[[Path, Laboratory], Any]:
    def build(folder: Path, lab: Laboratory) -> Invocation:
        disk = folder / "disk"
        disk.mkdir()
        for n in range(4):
            rng = np.random.default_rng(n)
            noise = rng.integers(0, 2**16, (256, 256)).astype(np.uint16)
            write(folder / f"in/{n}.tif", noise)
        call, output = acquiring(folder), disk / "images"
        shell = f'mount -t tmpfs -o {options} none "{disk}"'
        if remount:
            shell += f' && mount -o remount,{remount} "{disk}"'
        argv = [*call.argv[:-1], output]
        return Invocation(argv, (output,), shell=shell, mounts=True)

    return build


def _limited(folder: Path, lab: Laboratory) -> Invocation:
    return _package(folder / "images", shell="trap '' XFSZ; ulimit -f 64")


def _limited_training(folder: Path, lab: Laboratory) -> Invocation:
    call = training(folder, lab)
    outputs = (*call.outputs, folder / "state/state.pt")
    return Invocation(call.argv, outputs, shell="trap '' XFSZ; ulimit -f 64")


OUTPUTS = [
    Case("parent-is-a-file", "output", _below_a_file,
         ("a part of the path is a file", "/file/images", "choose another output")),
    Case("output-is-a-file", "output", _file_in_the_way,
         ("a file is in the way", "/images", "move it away")),
    Case("output-is-the-input", "output", _over_own_images,
         ("not of this program", "/in", "choose another output folder")),
    Case("output-holds-others", "output", _over_a_folder,
         ("not of this program", "/thesis", "choose another output folder")),
    Case("model-path-is-a-folder", "output", _model_over_a_folder,
         ("out.pt\n", "folder is in the way", "choose another output file")),
    Case("output-below-proc", "output", _below_proc, ("/images\n", "check the path")),
    Case("read-only", "output", _mounted("size=1m", "ro"),
         ("read-only", "disk/images", "choose a folder you may write to")),
    Case("disk-full", "output", _mounted("size=256k"),
         ("the disk is full", "disk/images", "free some space")),
    Case("file-size-limit", "output", _limited,
         ("size limit", "images", "choose another disk")),
    Case("file-size-limit-in-training", "output", _limited_training,
         ("size limit", "state.pt", "choose another disk")),
]  # fmt: skip


# ---------------------------------------------------------------- runs


def _noise_only(folder: Path, lab: Laboratory) -> Invocation:
    rng = np.random.default_rng(5)
    with ImageSetWriter(folder / "images", {}) as writer:
        for n in range(4):
            image = rng.normal(1000, 10, (96, 96)).astype(np.uint16)
            writer.add(f"i{n}", image, stratum="96x96")
    return _fitting(folder)


def _one_object(folder: Path, lab: Laboratory) -> Invocation:
    with ImageSetWriter(folder / "images", {}) as writer:
        for n in range(4):
            image = np.random.default_rng(n).normal(100, 5, (96, 96))
            image[30:60, 30 + n : 60] += 500 * (n == 0)
            writer.add(f"i{n}", image.astype(np.uint16), stratum="96x96")
    return _fitting(folder)


def _fitting(folder: Path) -> Invocation:
    """Divide the set `images` and fit the sketch parameters to it."""
    config = load_config(SMOKE)
    images, normalisation = folder / "images", folder / "normalisation.json"
    prepared = folder / "prepared"
    data.prepare(config, images=images, prepared=prepared, normalisation=normalisation)
    outputs = tuple(folder / n for n in ("sketch.yaml", "fit.json", "objects.csv"))
    argv = ["fit-sketch", "--config", SMOKE, "--prepared", prepared]
    argv += ["--normalisation", normalisation, "--sketch", outputs[0]]
    return Invocation([*argv, "--fit", outputs[1], "--objects", outputs[2]], outputs)


def _all_rejected(folder: Path, lab: Laboratory) -> Invocation:
    return checking(folder, lab, {"check": {"min_agreement": 1.0}})


def _too_many_steps(folder: Path, lab: Laboratory) -> Invocation:
    return synthesising(folder, lab, {"synthesise": {"steps": 301}})


def _other_timesteps(folder: Path, lab: Laboratory) -> Invocation:
    options = {"process": {"timesteps": 2000}}
    outputs = tuple(folder / n for n in ("start.json", "table.csv", "start"))
    argv = ["choose-start", "--config", config_file(folder, options)]
    argv += ["--prepared", lab.prepared, "--normalisation", lab.normalisation]
    argv += ["--sketch", lab.sketch, "--model", lab.model, "--start", outputs[0]]
    argv += ["--table", outputs[1], "--start-images", outputs[2]]
    return Invocation(argv, outputs)


def _no_gpu(folder: Path, lab: Laboratory) -> Invocation:
    if torch.cuda.is_available():
        # Hidden from a process of its own.
        call = training(folder, lab, {"device": "cuda"})
        shell = "export CUDA_VISIBLE_DEVICES="
        return Invocation(call.argv, call.outputs, shell=shell)
    return training(folder, lab, {"device": "cuda"})


def _no_such_shard(folder: Path, lab: Laboratory) -> Invocation:
    output = folder / "out"
    argv = ["simulate", "--config", SMOKE, "--sketch", lab.sketch, "--shard", 7]
    return Invocation([*argv, "--sketches", output], (output,))


def _segmenting(folder: Path, lab: Laboratory, tool: str, arm: str) -> Invocation:
    with ImageSetWriter(folder / "images", {}) as writer:
        for n in range(2):
            writer.add(f"i{n}", blobs(seed=n), split="train")
    output = folder / "out"
    argv = ["train-segmenter", "--config", SMOKE, "--training", folder / "images"]
    argv += ["--folder", output, "--tool", tool, "--arm", arm]
    return Invocation(argv, (output,))


def _predicting(folder: Path, lab: Laboratory, tool: str, **files: str) -> Invocation:
    """Predict with a tool whose trained folder holds these files."""
    for name, content in files.items():
        write(folder / "trained" / name.replace("_json", ".json"), content)
    if tool == "cellpose" and importlib.util.find_spec("cellpose") is None:
        raise NotPermittedError("Cellpose is not installed")
    output = folder / "out"
    argv = ["predict", "--config", SMOKE, "--prepared", lab.prepared, "--folder"]
    argv += [folder / "trained", "--tool", tool, "--predictions", output]
    return Invocation(argv, (output,))


def _predictions_of_others(folder: Path, lab: Laboratory) -> Invocation:
    output = folder / "scores"
    output.mkdir()
    argv = ["evaluate", "--config", SMOKE, "--prepared", lab.prepared]
    argv += ["--predictions", camera_of(lab), "--scores", output]
    return Invocation(argv, (output,))


RUNS = [
    Case("all-rejected", "run", _all_rejected,
         ("all 3 synthetic images were rejected", "disagreement", "where: check",
          "relax the limits of `check`")),
    Case("nothing-stands-out", "run", _noise_only,
         ("where: fit", "`fit.parameters`")),
    Case("one-object", "run", _one_object,
         ("whole objects were found", "where: fit", "`fit.parameters`")),
    Case("more-steps-than-times", "run", _too_many_steps,
         ("301 steps do not fit", "synthesise.steps", "at most 300 steps")),
    Case("model-of-other-timesteps", "run", _other_timesteps,
         ("model.pt", "process.timesteps: 1000", "train again")),
    Case("no-gpu", "run", _no_gpu,
         ("no usable GPU", "train.device", "`auto` or `cpu`")),
    Case("no-such-shard", "run", _no_such_shard,
         ("no shard 7", "--shard", "from 0 to 1")),
    Case("no-such-tool", "run", lambda f, lab: _segmenting(f, lab, "unet", "sketch"),
         ("'unet'", "segment.tools", "use one of cellpose")),
    Case("unlabelled-arm", "run",
         lambda f, lab: _segmenting(f, lab, "otsu_watershed", "annotated"),
         ("no labels", "segment.arms", "source.labels")),
    Case("no-labelled-object", "run",
         lambda f, lab: _segmenting(f, lab, "otsu_watershed", "sketch"),
         ("images/manifest.csv", "labelled object", "source.labels")),
    Case("tool-not-trained", "run",
         lambda f, lab: _predicting(f, lab, "otsu_watershed"),
         ("trained/parameters.json", "no such file", "check the path")),
    Case("tool-incomplete", "run",
         lambda f, lab: _predicting(f, lab, "otsu_watershed", parameters_json="{}"),
         ("/trained", "cannot be loaded", "run `train-segmenter` again")),
    Case("tool-damaged", "run",
         lambda f, lab: _predicting(f, lab, "cellpose", model="words"),
         ("/trained", "cannot be loaded", "run `train-segmenter` again")),
    Case("predictions-of-others", "run", _predictions_of_others,
         ("camera/manifest.csv", "no image 'nuclei-test'", "again")),
    Case("unknown-stage", "usage",
         lambda f, lab: Invocation(["fly", "--images", f / "out"], (f / "out",), 2),
         ("invalid choice: 'fly'", "acquire", "synthesise")),
    Case("missing-argument", "usage",
         lambda f, lab: Invocation(["acquire", "--config", SMOKE], code=2),
         ("required", "--images")),
]  # fmt: skip

CASES: list[Case] = [
    *IMAGES, *FOLDERS, *CONFIGS, *SKETCHES, *MODELS, *SETS, *OUTPUTS, *RUNS,
]  # fmt: skip


# ---------------------------------------------------------------- what must work


def _mixed_sizes(folder: Path, lab: Laboratory) -> Invocation:
    labelled(folder, {"a.tif": blobs(), "b.tif": blobs((80, 200), 1)})
    return acquiring(folder, code=0)


def _into_an_empty_folder(folder: Path, lab: Laboratory) -> Invocation:
    (folder / "out").mkdir()
    return _mixed_sizes(folder, lab)


def _resuming(spoil: Callable[[Path, Laboratory], object]) -> Callable[..., Invocation]:
    def build(folder: Path, lab: Laboratory) -> Invocation:
        state = folder / "state/state.pt"
        state.parent.mkdir()
        spoil(state, lab)
        call = training(folder, lab)
        return Invocation(call.argv, (*call.outputs, state), code=0)

    return build


def _cut_state(state: Path, lab: Laboratory) -> None:
    good = lab.folder / "model.pt.state/state.pt"
    state.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def _finished_without_metrics(folder: Path, lab: Laboratory) -> Invocation:
    call = training(folder, lab)
    _run_here(call)
    (folder / "state/metrics.jsonl").unlink()
    return Invocation(call.argv, call.outputs, code=0)


def _numbered(folder: Path, lab: Laboratory) -> Invocation:
    """Names such as 001 are text, also where a manifest refers to them."""
    images, prepared = folder / "images", folder / "prepared"
    normalisation, camera = folder / "normalisation.json", folder / "camera"
    with ImageSetWriter(images, {}) as writer:
        for n in range(1, 5):
            writer.add(f"{n:03}", blobs(seed=n), stratum="96x128")
    data.prepare(
        lab.config, images=images, prepared=prepared, normalisation=normalisation
    )
    data.photograph(
        lab.config, sketch=lab.sketch, prepared=prepared, normalisation=normalisation,
        sketches=[sketches_of(lab)], camera_images=camera,
    )  # fmt: skip
    call = checking(folder, lab, normalisation=normalisation, synthetic=camera)
    return Invocation(call.argv, call.outputs, code=0)


CONTROLS: list[Case] = [
    Case("mixed-sizes", "control", _mixed_sizes, ()),
    Case("into-an-empty-folder", "control", _into_an_empty_folder, ()),
    Case("state-cut", "control", _resuming(_cut_state),
         ("damaged", "state.pt", "training starts anew")),
    Case("state-is-a-model", "control",
         _resuming(lambda p, lab: shutil.copyfile(lab.model, p)),
         ("superseded-0.pt", "training starts anew")),
    Case("finished-without-metrics", "control", _finished_without_metrics, ()),
    Case("numbered-images", "control", _numbered, ()),
]  # fmt: skip


def main() -> int:
    """Run all cases and print a table by kind; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        answers = answered(Path(folder))
    print(f"{'kind':<20}{'answered':>10}{'skipped':>10}")
    for kind in dict.fromkeys(answer.kind for answer in answers):
        some = [a for a in answers if a.kind == kind]
        asked = [a for a in some if not a.skipped]
        good = sum(a.ok for a in asked)
        print(f"{kind:<20}{f'{good}/{len(asked)}':>10}{len(some) - len(asked):>10}")
    for answer in answers:
        if not answer.ok:
            print(f"{answer.name}: {answer.why_not}\n{answer.message}")
    return int(any(not a.ok and not a.skipped for a in answers))


if __name__ == "__main__":
    sys.exit(main())

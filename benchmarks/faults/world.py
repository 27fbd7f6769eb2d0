"""What is disturbed: a small experiment, and what comes out of it undisturbed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml

from benchmarks import resume
from benchmarks.faults.commands import Running, claim, finish
from benchmarks.laboratory import SMOKE, Laboratory, stage
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.images.files import pixel_hash, read_array
from phantomscope.images.imageset import ImageSet
from phantomscope.provenance import SUFFIX

STEPS = 60
SAVED_EVERY = 7
IMAGES = 4
Found = TypeVar("Found")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(path: Path) -> str:
    """Hash what a file means: pixels, weights, or its bytes."""
    if path.suffix == ".tif":
        return pixel_hash(read_array(path))
    if path.suffix == ".pt":
        tensors, meta = load_checkpoint(path)
        weights = {k: pixel_hash(v.numpy()) for k, v in tensors["network"].items()}
        return _hash(json.dumps([weights, meta], sort_keys=True).encode())
    return _hash(path.read_bytes())


def _is_artefact(path: Path) -> bool:
    """Whether a file belongs to the results: no log, no state, nothing hidden.

    Inside an image set everything counts: nothing else may be there.
    """
    if path.name == ".snakemake_timestamp" or path.name.endswith(SUFFIX):
        return False
    if any((p / "manifest.csv").exists() for p in (path.parent, path.parent.parent)):
        return True
    hidden = any(part.startswith(".") for part in path.parts[-2:])
    # Seconds and rates differ from run to run.
    return not hidden and path.name != "metrics.jsonl"


def artefacts(folder: Path) -> dict[str, str]:
    """Hash each artefact in or below a folder, or a single file.

    Returns
    -------
    dict
        Relative path to SHA-256: of pixels, of weights, else of the file.
    """
    beside = {"logs", "benchmarks", ".snakemake"}
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        inside = path.relative_to(folder.parent)
        other = beside & set(inside.parts) or any(
            part.endswith(".state") for part in inside.parts
        )
        if path.is_file() and not other and _is_artefact(path):
            found[str(inside)] = _digest(path)
    return found


def image_sets(folder: Path) -> Iterator[ImageSet]:
    """Open all finished image sets in or below a folder."""
    for manifest in sorted(folder.rglob("manifest.csv")):
        if not any(part.startswith(".") for part in manifest.parts):
            yield ImageSet.open(manifest.parent)


def difference(reference: Path, folder: Path, *names: str) -> str:
    """Compare artefacts of a disturbed run with those of an undisturbed one.

    Parameters
    ----------
    reference, folder : Path
        Folders of the undisturbed and the disturbed run.
    names : str
        Files or folders to compare.

    Returns
    -------
    str
        What differs; empty if nothing does. Manifests agree with the pixels then.
    """
    for name in names:
        expected, found = artefacts(reference / name), artefacts(folder / name)
        if not expected:
            raise ValueError(f"the undisturbed run has no {name}")
        differing = sorted(
            path for path in expected.keys() | found.keys()
            if expected.get(path) != found.get(path)
        )  # fmt: skip
        if differing:
            return ", ".join(differing)
        for images in image_sets(folder / name):
            images.verify()
    return ""


class World:
    """A small trained experiment and the artefacts of an undisturbed run.

    Parameters
    ----------
    lab : Laboratory
        The experiment, trained with the smoke config.
    folder : Path
        Scratch folder. `reference` in it holds the undisturbed run.
    """

    def __init__(self, lab: Laboratory, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.reference = folder / "reference"
        self.reference.mkdir(parents=True)
        self.config = self.configured("world")
        self._once: dict[str, Any] = {}
        self._stack = ExitStack()
        self.training_seconds = self._train()
        for name in ("simulation", "synthesis", "checking", "gathering"):
            command = getattr(self, name)(self.reference)
            finish(command, self.reference / f"{name}.log")

    def _train(self) -> float:
        """Train undisturbed; return the seconds from the first to the last step."""
        log = self.reference / "training.log"
        with Running(self.training(self.reference), log) as process:
            process.watch((self.reference / "model.pt.state/metrics.jsonl").exists)
            begin = time.monotonic()
            claim(process.wait() == 0, process.text)
        return time.monotonic() - begin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def once(self, name: str, build: Callable[[ExitStack], Found]) -> Found:
        """Return what several faults share; it is built when it is first wanted.

        `build` gets a stack that is unwound when the world ends.
        """
        if name not in self._once:
            self._once[name] = build(self._stack)
        found: Found = self._once[name]
        return found

    def configured(self, name: str, **train: object) -> Path:
        """Write the smoke config with few images and frequent states."""
        content = yaml.safe_load(SMOKE.read_text())
        content["train"] |= {"steps": STEPS, "checkpoint_every": SAVED_EVERY, **train}
        content["simulate"] |= {"images": IMAGES, "size": [96, 112], "shards": 1}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def training(self, folder: Path, config: Path | None = None) -> list[str]:
        """Return the command that trains into a folder."""
        return resume.training(self.lab, folder, config or self.config)

    def simulation(self, folder: Path) -> list[str]:
        """Return the command that draws sketches into a folder."""
        return stage(
            "simulate", "sketch", self.lab.sketch, "sketches", folder / "sketches",
            config=self.config,
        )  # fmt: skip

    def synthesis(self, folder: Path, model: Path | None = None) -> list[str]:
        """Return the command that synthesises the sketches of a folder."""
        return stage(
            "synthesise", "prepared", self.lab.prepared, "normalisation",
            self.lab.normalisation, "model", model or self.lab.model, "start",
            self.lab.start, "sketches", folder / "sketches", "synthetic",
            folder / "synthetic", config=self.config,
        )  # fmt: skip

    def checking(self, folder: Path) -> list[str]:
        """Return the command that checks the synthetic images of a folder."""
        return stage(
            "check", "normalisation", self.lab.normalisation, "sketch",
            self.lab.sketch, "synthetic", folder / "synthetic", "checks",
            folder / "checks", config=self.config,
        )  # fmt: skip

    def gathering(self, folder: Path) -> list[str]:
        """Return the command that gathers the checked images of a folder."""
        return stage(
            "gather", "parts", folder / "checks", "gathered", folder / "gathered",
            config=self.config,
        )  # fmt: skip

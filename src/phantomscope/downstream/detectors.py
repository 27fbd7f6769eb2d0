"""Faster R-CNN and RetinaNet: torchvision's networks, trained by a resumable loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.config.detectors import Detectors, FasterRcnn
from phantomscope.downstream.boxes import Boxes, Schedule, augmented
from phantomscope.downstream.common import finished_folder, torch_threads, versions
from phantomscope.downstream.detector_models import (
    RANDOM,
    Method,
    build,
    check_torchvision,
    read_weights,
    take_weights,
)
from phantomscope.engine.checkpoint import (
    cpu_tensors,
    fingerprint,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from phantomscope.engine.metrics import append_line, trim_lines
from phantomscope.engine.precision import pick_device
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import write_json, write_text
from phantomscope.images.noise import derive_key, generator
from phantomscope.interrupt import StopRequestedError
from phantomscope.locks import only_writer
from phantomscope.progress import Progress

Float = NDArray[np.float32]
Detector = Callable[[Float], Boxes]
PACKAGES = ("torchvision", "torch")
MODEL = "model.pt"
# Steps between two lines of metrics, and between two states.
LOGGED, SAVED = 20, 500


@dataclass(eq=False)
class Lessons:
    """Training images and their boxes, as a network sees them.

    Attributes
    ----------
    names : list of str
        Ids of the images.
    read : callable
        From an id to the image, shape (Y, X), float32, 0 to 1.
    boxes : dict of Boxes
        By id.
    classes : list of str
        The target first.
    """

    names: list[str]
    read: Callable[[str], Float]
    boxes: dict[str, Boxes]
    classes: list[str]

    def batch(
        self, schedule: Schedule, step: int, device: torch.device
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Return images (3, Y, X) and targets of one step."""
        images, targets = [], []
        for place, number in enumerate(schedule.batch(step)):
            name = self.names[number]
            rng = generator(schedule.seed, "detector", "crop", step, place)
            image, boxes = augmented(
                self.read(name), self.boxes[name], schedule.options, rng
            )
            images.append(as_input(image).to(device))
            targets.append({
                # (x1, y1, x2, y2)
                "boxes": torch.from_numpy(
                    boxes.corners[:, [1, 0, 3, 2]].astype(np.float32)
                ).to(device),
                "labels": torch.from_numpy(boxes.kinds).to(device),
            })  # fmt: skip
        return images, targets


def remembering(read: Callable[[str], Float], most: int) -> Callable[[str], Float]:
    """Return a reader of images that keeps so many pixels of them in memory."""
    kept: dict[str, Float] = {}

    def again(name: str) -> Float:
        if name in kept:
            return kept[name]
        image = read(name)
        if image.size + sum(other.size for other in kept.values()) <= most:
            kept[name] = image
        return image

    return again


def as_input(image: Float) -> Tensor:
    """Return a grey image as three equal channels."""
    return torch.from_numpy(np.asarray(image, np.float32)).expand(3, -1, -1)


class Training:
    """Training of a detector, resumed wherever it was killed.

    Parameters
    ----------
    method, own, shared
        As in `build`.
    lessons : Lessons
        What it learns from.
    state : Path
        Folder of the training state.
    seed : int
        Of weights, order, crops and what the network draws.
    identity : dict
        Images and boxes, JSON-like: a state of another identity is set aside.
    """

    def __init__(
        self, method: Method, own: FasterRcnn, shared: Detectors, lessons: Lessons, *,
        state: Path, seed: int, identity: dict[str, Any],
    ) -> None:  # fmt: skip
        self.lessons, self.state, self.seed = lessons, state, seed
        self.schedule = Schedule(len(lessons.names), own, seed)
        self.device = pick_device("auto")
        weights, self.start = None, RANDOM
        if own.weights is not None:
            weights, self.start = read_weights(Path(own.weights))
        self.network = build(
            method, own, shared, len(lessons.classes), self.start, seed % 2**63
        )
        if weights is not None:
            take_weights(self.network, weights, self.start, Path(str(own.weights)))
        self.network.to(self.device)
        learning = [p for p in self.network.parameters() if p.requires_grad]
        rates: dict[str, Any] = {
            "lr": own.learning_rate,
            "weight_decay": own.weight_decay,
        }
        self.optimiser: torch.optim.Optimizer = (
            torch.optim.SGD(learning, momentum=0.9, **rates)
            if own.optimiser == "sgd"
            else torch.optim.Adam(learning, **rates)
        )
        self.step = 0
        self.mark = fingerprint(
            {**identity, "method": method, "options": own.model_dump(mode="json"),
             "seed": seed, "device": self.device.type, "start": self.start}
        )  # fmt: skip

    @property
    def checkpoint(self) -> Path:
        """Where the state is saved."""
        return self.state / "state.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object per line: step, loss, learning rate, seconds."""
        return self.state / "metrics.jsonl"

    def run(self) -> None:
        """Train to the last step.

        Raises
        ------
        StopRequestedError
            On a signal or before a time limit, after the state was saved.
        PhantomscopeError
            If the loss is no number.
        """
        with only_writer(self.checkpoint):
            self._resume()
            total = self.schedule.steps
            with Progress(
                "training", total, start=self.step, unit="images",
                per_step=self.schedule.options.batch_size,
            ) as progress:  # fmt: skip
                self.network.train()
                self._go_on(progress, total)

    def _go_on(self, progress: Progress, total: int) -> None:
        begin, losses, saved = time.monotonic(), list[float](), self.step
        while self.step < total:
            losses.append(self._step())
            self.step += 1
            if self.step % LOGGED == 0 or self.step == total:
                self._log(losses, begin)
                losses.clear()
            if self.step % SAVED == 0 or self.step == total:
                self._save()
                saved = self.step
            try:
                progress.advance()
            except StopRequestedError:
                if self.step > saved:
                    if losses:
                        self._log(losses, begin)
                    self._save()
                raise

    def _step(self) -> float:
        """Take one step and return its loss."""
        rate = self.schedule.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        images, targets = self.lessons.batch(self.schedule, self.step, self.device)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            # The network draws the proposals that it learns from.
            torch.manual_seed(derive_key(self.seed, "proposals", self.step) >> 1)
            loss: Tensor = sum(self.network(images, targets).values())
        value = float(loss.detach())
        if not math.isfinite(value):
            raise PhantomscopeError(
                f"the loss is {value} at step {self.step} (learning rate {rate:.2g})",
                where=self.checkpoint,
                fix="lower its `learning_rate`; the last good state is kept",
            )
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        return value

    def _log(self, losses: list[float], begin: float) -> None:
        line = {"step": self.step, "loss": float(np.mean(losses)),
                "learning_rate": self.schedule.rate(self.step - 1),
                "seconds": time.monotonic() - begin}  # fmt: skip
        append_line(self.metrics, line)

    def _save(self) -> None:
        state = self.optimiser.state_dict()
        moments = {
            str(key): cpu_tensors(value) for key, value in state["state"].items()
        }
        save_checkpoint(
            self.checkpoint,
            {"network": cpu_tensors(self.network.state_dict()), "moments": moments},
            {"step": self.step, "fingerprint": self.mark},
        )

    def _resume(self) -> None:
        with explain_os_errors(self.state):
            self.state.mkdir(parents=True, exist_ok=True)
            for torn in self.state.glob(f".{self.checkpoint.name}.*.partial"):
                torn.unlink()
        if self.checkpoint.exists():
            try:
                tensors, meta = load_checkpoint(self.checkpoint)
            except PhantomscopeError as error:
                print(error)
                set_aside(self.checkpoint, "is damaged")
            else:
                if meta.get("fingerprint") == self.mark:
                    self._load(tensors, meta)
                else:
                    set_aside(self.checkpoint, "belongs to another config or data")
        trim_lines(self.metrics, self.step)

    def _load(self, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        self.network.load_state_dict(tensors["network"])
        groups = self.optimiser.state_dict()["param_groups"]
        moments = {int(key): value for key, value in tensors["moments"].items()}
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.step = int(meta["step"])


def train(
    method: Method, lessons: Lessons, shared: Detectors, *, folder: Path, state: Path,
    seed: int, threads: int, identity: dict[str, Any],
) -> None:  # fmt: skip
    """Train a detector; `folder` appears when it is complete.

    Parameters
    ----------
    method : {"faster_rcnn", "retinanet"}
        Which one.
    lessons : Lessons
        Images with boxes.
    shared : Detectors
        Options of both, and of each.
    folder : Path
        Gets `model.pt`, `metrics.jsonl` and `training.json`, which says what weights
        it began with.
    state : Path
        Folder of the training state: the same command goes on from there.
    seed : int
        Of everything random. On a CPU the same seed gives the same weights.
    threads : int
        CPU threads. A CUDA device is used if there is one.
    identity : dict
        What the images are: see `Training`.

    Raises
    ------
    PhantomscopeError
        Without torchvision, or if the weights to begin with do not fit.
    StopRequestedError
        On a signal or before a time limit, after the state was saved.
    """
    check_torchvision()
    own: FasterRcnn = getattr(shared, method)
    begin = time.monotonic()
    with torch_threads(threads):
        training = Training(
            method, own, shared, lessons, state=state, seed=seed, identity=identity
        )
        training.run()
    about = {
        "tool": method, "versions": versions(PACKAGES), "seed": seed, "dims": 2,
        "images": len(lessons.names), "objects": sum(map(len, lessons.boxes.values())),
        "classes": lessons.classes, "weights": training.start, "threads": threads,
        "options": own.model_dump(mode="json"), "steps": training.step,
    }  # fmt: skip
    with finished_folder(folder) as partial:
        weights = {"network": cpu_tensors(training.network.state_dict())}
        save_checkpoint(partial / MODEL, weights, about)
        write_text(partial / "metrics.jsonl", training.metrics.read_text())
        seconds = round(time.monotonic() - begin, 1)
        write_json(partial / "training.json", {**about, "seconds": seconds})


def load(folder: Path, shared: Detectors, threads: int) -> Detector:
    """Return a function from an image (Y, X), float32, 0 to 1, to boxes of all classes.

    Parameters
    ----------
    folder : Path
        What `train` wrote.
    shared : Detectors
        Least score, greatest overlap, most boxes.
    threads : int
        CPU threads.

    Raises
    ------
    PhantomscopeError
        Without torchvision, or if there is no such model in `folder`.
    """
    check_torchvision()
    tensors, meta = load_checkpoint(folder / MODEL)
    try:
        network = build(
            meta["tool"], FasterRcnn(**meta["options"]), shared, len(meta["classes"]),
            meta["weights"], 0,
        )  # fmt: skip
        network.load_state_dict(tensors["network"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PhantomscopeError(
            f"this is no trained detector ({' '.join(str(error).split())[:120]})",
            where=folder / MODEL,
            fix="delete its folder and run `train-finder` again",
        ) from error
    device = pick_device("auto")
    network.to(device).eval()

    def detect(image: Float) -> Boxes:
        with torch_threads(threads), torch.inference_mode():
            (found,) = network([as_input(image).to(device)])
        corners = found["boxes"].cpu().numpy()[:, [1, 0, 3, 2]]
        boxes = Boxes.of(corners, found["labels"].cpu(), found["scores"].cpu())
        # RetinaNet has a class 0, of which nothing is ever taught.
        return boxes[boxes.kinds > 0]

    return detect

"""The trainer: one loop for all systems, resumed bit for bit wherever it was killed."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phantomscope import __version__
from phantomscope.config.diffusion import Train
from phantomscope.engine.accelerate import pick_device, pick_precision, to_device
from phantomscope.engine.checkpoint import (
    cpu_tensors,
    fingerprint,
    load_checkpoint,
    save_checkpoint,
)
from phantomscope.engine.objective import Denoising, Items, Objective
from phantomscope.engine.process import Process
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import write_text
from phantomscope.images.noise import derive_key
from phantomscope.interrupt import StopRequestedError
from phantomscope.locks import only_writer
from phantomscope.progress import Progress

Batch = Callable[[int, int], NDArray[np.float32]]


def make_optimiser(
    options: Train, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimiser that a config asks for."""
    if options.optimiser == "radam":
        return torch.optim.RAdam(parameters, lr=options.learning_rate)
    if options.optimiser == "adamw":
        return torch.optim.AdamW(
            parameters, lr=options.learning_rate, weight_decay=0.01
        )
    return torch.optim.Adam(parameters, lr=options.learning_rate)


def learning_rate(options: Train, step: int) -> float:
    """Learning rate at a step (0, 1, ...): warm-up, constant, linear fall to zero."""
    rate = options.learning_rate
    if step < options.warmup:
        rate *= (step + 1) / options.warmup
    falling = options.decay * options.steps
    if falling > 0:
        rate *= min(1.0, (options.steps - step) / falling)
    return rate


@dataclass
class _Run:
    """What changes while training: everything that a training state holds."""

    network: nn.Module
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path, mark: str) -> None:
        tensors = {
            "network": cpu_tensors(self.network.state_dict()),
            "average": cpu_tensors(self.average),
            "optimiser": _plain_optimiser(self.optimiser.state_dict()),
        }
        save_checkpoint(path, tensors, {"step": self.step, "fingerprint": mark})

    def load(self, tensors: dict[str, Any], step: int) -> None:
        self.network.load_state_dict(tensors["network"])
        for name, value in tensors["average"].items():
            self.average[name].copy_(value)
        self.optimiser.load_state_dict(tensors["optimiser"])
        self.step = step


def _plain_optimiser(state: dict[str, Any]) -> dict[str, Any]:
    moments = {key: cpu_tensors(value) for key, value in state["state"].items()}
    return {"state": moments, "param_groups": state["param_groups"]}


class Trainer:
    """Trains a network to undo a process.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(x, t)``.
    process : Process
        What to undo.
    batch : callable
        ``batch(step, size)`` gives clean patches (N, 1, ...), a pure function.
    options : Train
        How to train.
    seed : int
        Seed of the experiment.
    noise_channel : bool
        Append a channel of fresh noise to the input.
    identity : dict
        Config and data, JSON-like: a state of another identity is set aside.
    state : Path
        Folder of the training state.
    objective : Objective, optional
        What is learnt; diffusion by default.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        batch: Batch,
        options: Train,
        *,
        seed: int,
        noise_channel: bool,
        identity: dict[str, Any],
        state: Path,
        objective: Objective | None = None,
    ) -> None:
        self.objective = objective or Denoising(process, noise_channel)
        self.device = pick_device(options.device)
        self.process, self.batch, self.options = process, batch, options
        self.seed, self.noise_channel = seed, noise_channel
        self.state = state
        self.precision = pick_precision(options.precision, self.device)
        # Preview and cadence are no part of what is trained.
        self.mark = fingerprint(
            {**identity, "device": self.device.type, "precision": self.precision}
        )
        network = to_device(network, self.device)
        average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        optimiser = make_optimiser(options, network.parameters())
        self.run = _Run(network, average, optimiser)

    @property
    def _checkpoint(self) -> Path:
        return self.state / "state.pt"

    @property
    def metrics_file(self) -> Path:
        """One JSON object per line: step, loss, learning rate, seconds."""
        return self.state / "metrics.jsonl"

    def resume(self) -> int:
        """Take up the saved state, if there is one that fits; return its step."""
        with explain_os_errors(self.state):
            self.state.mkdir(parents=True, exist_ok=True)
            # A process that was killed while it saved leaves a large file.
            for torn in self.state.glob(f".{self._checkpoint.name}.*.partial"):
                torn.unlink()
        if self._checkpoint.exists():
            try:
                tensors, meta = load_checkpoint(self._checkpoint)
            except PhantomscopeError as error:
                print(error)
                self._set_aside("is damaged")
            else:
                # A finished model has the fingerprint, too, but is no state.
                whole = {"network", "average", "optimiser"} <= tensors.keys()
                if whole and meta.get("fingerprint") == self.mark:
                    self._load(tensors, meta)
                else:
                    self._set_aside("belongs to another config or data")
        self._trim_metrics()
        return self.run.step

    def _load(self, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        try:
            self.run.load(tensors, int(meta["step"]))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise PhantomscopeError(
                "this training state lacks something or was edited "
                f"({' '.join(str(error).split())[:120]})",
                where=self._checkpoint,
                fix="delete it: training starts anew",
            ) from error

    def _set_aside(self, why: str) -> None:
        """Keep a state that cannot be taken up under another name."""
        number = 0
        while (old := self.state / f"superseded-{number}.pt").exists():
            number += 1
        with explain_os_errors(self._checkpoint):
            os.replace(self._checkpoint, old)
        print(f"The training state {why}: now {old}; training starts anew.")

    def _trim_metrics(self) -> None:
        """Drop lines of steps after the saved state; they will be run again."""
        kept = []
        with explain_os_errors(self.metrics_file):
            text = self.metrics_file.read_bytes() if self.metrics_file.exists() else b""
        for line in text.decode(errors="replace").splitlines():
            try:
                if json.loads(line)["step"] <= self.run.step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                break
        # Written even when empty: somebody may have deleted it beside a finished state.
        write_text(self.metrics_file, "".join(kept))

    def train(self) -> None:
        """Train to the last step, saving the state on the way.

        Raises
        ------
        StopRequestedError
            On a signal or before a time limit, after the state was saved.
        """
        options = self.options
        torch.set_num_threads(options.threads)
        with only_writer(self._checkpoint):
            first = self.resume()
            with Progress(
                "training", options.steps, start=first, unit="images",
                per_step=options.batch_size,
            ) as progress:  # fmt: skip
                self._go_on(progress)

    def _go_on(self, progress: Progress) -> None:
        options, begin = self.options, time.monotonic()
        losses: list[float] = []
        recent: deque[float] = deque(maxlen=50)

        def save() -> None:
            # Metrics first: the state decides which of them count.
            self._log(float(np.mean(losses)), progress, begin)
            losses.clear()
            self.run.save(self._checkpoint, self.mark)

        while self.run.step < options.steps:
            losses.append(self._step())
            recent.append(losses[-1])
            self.run.step += 1
            if self.run.step % options.checkpoint_every == 0:
                save()
            try:
                progress.advance(note=f"loss {np.mean(recent):.4f}")
            except StopRequestedError:
                if losses:
                    save()
                raise
        if losses:
            save()

    def _log(self, loss: float, progress: Progress, begin: float) -> None:
        line = {
            "step": self.run.step,
            "loss": loss,
            "learning_rate": learning_rate(self.options, self.run.step - 1),
            "images_per_second": progress.rate,
            "seconds": time.monotonic() - begin,
        }
        with explain_os_errors(self.metrics_file):
            with self.metrics_file.open("a") as stream:
                stream.write(json.dumps(line) + "\n")

    def _corrupted(self, x0: Tensor) -> Items:
        """Draw the inputs, times and targets of this step."""
        rng = torch.Generator().manual_seed(
            derive_key(self.seed, "training", self.run.step) >> 1
        )
        return self.objective.draw(x0, rng)

    def _step(self) -> float:
        """Take one optimiser step over micro-batches and return the loss."""
        run, options = self.run, self.options
        x0 = torch.from_numpy(self.batch(run.step, options.batch_size))
        x, t, target = self._corrupted(x0)
        size = options.micro_batch or options.batch_size
        for group in run.optimiser.param_groups:
            group["lr"] = learning_rate(options, run.step)
        run.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for i in range(0, options.batch_size, size):
            part = slice(i, i + size)
            loss = self._loss(x[part], t[part], target[part])
            torch.autograd.backward(loss * (len(x[part]) / options.batch_size))
            total += loss.detach() * (len(x[part]) / options.batch_size)
        value = float(total)
        limit = options.clip or math.inf
        norm = nn.utils.clip_grad_norm_(run.network.parameters(), limit)
        if not (math.isfinite(value) and bool(torch.isfinite(norm))):
            raise PhantomscopeError(
                f"the loss is {value} and the gradient {float(norm)} at step "
                f"{run.step} (learning rate {learning_rate(options, run.step):.2g}, "
                f"{self.precision})",
                where=self._checkpoint,
                fix="lower `train.learning_rate` or use `train.precision: fp32`; the "
                "last good state is kept",
            )
        run.optimiser.step()
        self._update_average()
        return value

    def _loss(self, x: Tensor, t: Tensor, target: Tensor) -> Tensor:
        x = x.to(self.device)
        bf16 = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            output = self.run.network(x, t.to(self.device))
        return self.objective.loss(output.float(), t, target.to(self.device))

    def _update_average(self) -> None:
        """Exponential moving average, shorter at the start (as in TensorFlow's)."""
        step = self.run.step + 1
        decay = (
            min(self.options.ema, (1 + step) / (10 + step)) if self.options.ema else 0
        )
        with torch.no_grad():
            current = self.run.network.state_dict()
            names = [k for k, v in current.items() if v.is_floating_point()]
            torch._foreach_lerp_(
                [self.run.average[k] for k in names],
                [current[k] for k in names],
                1 - decay,
            )

    def save_model(self, path: Path, meta: dict[str, Any]) -> None:
        """Write the averaged weights and what is needed to use them."""
        about = {
            **meta,
            "steps": self.run.step,
            "fingerprint": self.mark,
            "version": __version__,
            "precision": self.precision,
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
        save_checkpoint(path, {"network": cpu_tensors(self.run.average)}, about)

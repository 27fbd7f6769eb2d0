"""The trainer: one loop for all systems, resumed bit for bit wherever it was killed."""

from __future__ import annotations

import math
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phantomscope import __version__
from phantomscope.config.diffusion import Train
from phantomscope.engine.accelerate import (
    to_channels_last,
    to_device,
    with_sorted_shuffles,
)
from phantomscope.engine.adversarial import of_generator
from phantomscope.engine.checkpoint import (
    cpu_tensors,
    fingerprint,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from phantomscope.engine.compiling import (
    Compiled,
    cached_micro_batch,
    missing,
    should_compile_training,
)
from phantomscope.engine.distributed import Crew, Group, Share, leading_share
from phantomscope.engine.loader import Prefetcher
from phantomscope.engine.memory import out_of_memory
from phantomscope.engine.metrics import append_line, trim_lines
from phantomscope.engine.objective import Denoising, Items, Objective, as_float
from phantomscope.engine.optimise import Run, learning_rate
from phantomscope.engine.precision import dims_of, pick_device, training_precision
from phantomscope.engine.process import Process
from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.noise import derive_key
from phantomscope.interrupt import StopRequestedError
from phantomscope.locks import only_writer
from phantomscope.progress import Progress

Batch = Callable[[int, int], NDArray[np.float32]]


class Trainer:
    """Trains a network to undo a process.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(x, t)``.
    process : Process
        What to undo.
    batch : callable
        ``batch(step, size)`` gives clean patches (N, C, ...), a pure function.
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
    share : Share, optional
        What this process does of each step; the leader's by default.
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
        share: Share | None = None,
    ) -> None:
        self.objective = objective or Denoising(process, noise_channel)
        self.device = pick_device(options.device)
        self.share = share or leading_share(options, self.device)
        self.group: Group | None = None  # while several processes train
        self.process, self.batch, self.options = process, batch, options
        self.seed, self.noise_channel = seed, noise_channel
        self.state = state
        self.precision = training_precision(options, network, self.device)
        self._pixels = math.prod(options.patch_shape(dims_of(network)))
        pays = should_compile_training(options.steps * options.batch_size, self._pixels)
        wish = options.compile
        self.compiled = pays if wish == "auto" else wish == "always"
        # Preview and cadence are no part of what is trained.
        machine = {
            "device": self.device.type,
            "precision": self.precision,
            "compiled": self.compiled,
        }
        self.mark = fingerprint({**identity, **machine})
        self.run = Run.start(self._place(network), options)
        self.network = self._kernels()
        self.micro_batch = options.micro_batch or self._best_micro_batch()
        # Reading a loss stops a GPU until it has caught up.
        self._read_every = 1 if self.device.type == "cpu" else 10
        self._unread: list[tuple[int, Tensor]] = []
        self._losses: list[float] = []
        self._recent: deque[float] = deque(maxlen=50)
        self._batches = Prefetcher(
            self._prepare, options.steps, self.device, options.threads
        )

    def _best_micro_batch(self) -> int:
        """Return as many patches as caches hold; eager kernels do not use them well."""
        part = len(range(self.options.batch_size)[self._part])
        if self.device.type != "cpu" or not self.compiled:
            return part
        return cached_micro_batch(part, self._pixels)

    @property
    def _part(self) -> slice:
        return self.share.of(self.options.batch_size)

    def _place(self, network: nn.Module) -> nn.Module:
        """Move the network, in the layout that its kernels want."""
        if self.compiled and not missing(self.device):
            return to_channels_last(network.to(self.device))
        return to_device(network, self.device)

    def _kernels(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return what evaluates the network: compiled or its own kernels."""
        if not self.compiled:
            return self.run.network
        network = with_sorted_shuffles(self.run.network)
        return Compiled(network, self.device, "Training", frozen=False)

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
                set_aside(self._checkpoint, "is damaged")
            else:
                # A finished model has the fingerprint, too, but is no state.
                whole = {"network", "average", "optimiser"} <= tensors.keys()
                if whole and meta.get("fingerprint") == self.mark:
                    self._load(tensors, meta)
                else:
                    set_aside(self._checkpoint, "belongs to another config or data")
        trim_lines(self.metrics_file, self.run.step)
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
            with self._assisted(), Progress(
                "training", options.steps, start=first, unit="images",
                per_step=options.batch_size,
            ) as progress:  # fmt: skip
                try:
                    self._go_on(progress)
                finally:
                    self._batches.close()

    @contextmanager
    def _assisted(self) -> Iterator[None]:
        """Have the processes beside us that share the batches."""
        if self.share.size == 1 or self.run.step == self.options.steps:
            yield
            return
        job = {
            "network": self.run.network, "process": self.process, "batch": self.batch,
            "options": self.options, "seed": self.seed,
            "noise_channel": self.noise_channel, "objective": self.objective,
            "identity": {}, "state": self.state,
        }  # fmt: skip
        try:
            with Crew(job, self.run.step, self.share, self.device) as self.group:
                yield
        finally:
            self.group = None

    def assist(self, first: int, group: Group) -> None:
        """Compute our part of the gradients of each step; the leader does the rest."""
        torch.set_num_threads(self.options.threads)
        self.group = group
        for step in range(first, self.options.steps):
            self.run.step = step
            self._summed_gradients()

    def _go_on(self, progress: Progress) -> None:
        options, begin = self.options, time.monotonic()

        losses, saved = self._losses, self.run.step

        def save() -> None:
            nonlocal saved
            self._read()  # a bad step must not be saved
            if self.group:
                self.group.check()
            # Metrics first: the state decides which of them count.
            self._log(float(np.mean(losses)), progress, begin)
            losses.clear()
            saved = self.run.step
            self.run.save(self._checkpoint, self.mark)

        while self.run.step < options.steps:
            self._step()
            self.run.step += 1
            if self.run.step % options.checkpoint_every == 0:
                save()
            try:
                seen = self._recent  # empty before the first reading
                progress.advance(note=f"loss {np.mean(seen):.4f}" if seen else "")
            except StopRequestedError:
                if self.run.step > saved:
                    save()
                raise
        if self.run.step > saved:
            save()

    def _log(self, loss: float, progress: Progress, begin: float) -> None:
        line = {
            "step": self.run.step,
            "loss": loss,
            "learning_rate": learning_rate(self.options, self.run.step - 1),
            "images_per_second": progress.rate,
            "seconds": time.monotonic() - begin,
        }
        append_line(self.metrics_file, line)

    def _corrupted(self, x0: Tensor, step: int) -> Items:
        """Draw the inputs, times and targets of a step."""
        rng = torch.Generator().manual_seed(
            derive_key(self.seed, "training", step) >> 1
        )
        return self.objective.draw(x0, rng, self._part)

    def _prepare(self, step: int) -> tuple[Tensor, ...]:
        x0 = torch.from_numpy(self.batch(step, self.options.batch_size))
        return self._corrupted(x0, step)

    def _step(self) -> Tensor:
        """Take one optimiser step over micro-batches and return its loss."""
        run = self.run
        loss = self._summed_gradients()
        limit = self.options.clip or math.inf
        norm = nn.utils.clip_grad_norm_(run.network.parameters(), limit)
        self._unread.append((run.step, torch.stack([loss, norm])))
        if len(self._unread) >= self._read_every:
            self._read()
        run.update(self.options)
        return loss

    def _summed_gradients(self) -> Tensor:
        """Put the gradients of the whole batch in place and return its loss."""
        batch = tuple(
            part.to(self.device, non_blocking=True)
            for part in self._batches.get(self.run.step)
        )
        if self.group is None:
            return self._gradients(batch)
        self.group.spread(self.run.network)
        return self.group.add_up(self.run.network, self._gradients(batch))

    def _gradients(self, batch: Sequence[Tensor]) -> Tensor:
        """Put gradients in place, in smaller parts if memory runs out on the way."""
        while True:
            self.run.optimiser.zero_grad(set_to_none=True)
            try:
                return self._accumulate(batch)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if self.micro_batch == 1:
                    raise PhantomscopeError(
                        "not even one patch at a time fits into memory",
                        where="train.patch",
                        fix="use smaller patches, or ask for more memory",
                    ) from error
            # Not before the error, which holds the feature maps, is gone.
            self.micro_batch = -(-self.micro_batch // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            print(
                f"Out of memory at step {self.run.step}: the step is repeated, "
                f"{self.micro_batch} of {len(batch[0])} patches at a time."
            )

    def _accumulate(self, batch: Sequence[Tensor]) -> Tensor:
        """Add up the gradients of micro-batches and return our part of the loss."""
        whole = self.options.batch_size
        total = torch.zeros((), device=self.device)
        for i in range(0, len(batch[0]), self.micro_batch):
            x, t, target = (part[i : i + self.micro_batch] for part in batch)
            loss = self._loss(x, t, target) * (len(x) / whole)
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def _loss(self, x: Tensor, t: Tensor, target: Tensor) -> Tensor:
        bf16 = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            output = self.network(x, t)
        return self.objective.loss(as_float(output), t, target)

    def _read(self) -> None:
        """Read the losses since the last time, and stop if one is not finite."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        values = torch.stack([value for _, value in unread]).tolist()
        for (step, _), (loss, norm) in zip(unread, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                rate = learning_rate(self.options, step)
                raise PhantomscopeError(
                    f"the loss is {loss} and the gradient {norm} at step {step} "
                    f"(learning rate {rate:.2g}, {self.precision})",
                    where=self._checkpoint,
                    fix="lower `train.learning_rate` or use `train.precision: fp32`; "
                    "the last good state is kept",
                )
            self._losses.append(loss)
            self._recent.append(loss)

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
        weights = of_generator(cpu_tensors(self.run.average))
        save_checkpoint(path, {"network": weights}, about)

"""The sampler: from a start state to an image or volume of any size, in tiles.

All randomness comes from the noise field, so an image depends on its id and the seed
alone: not on shards, order, workers or the micro-batch. The states live in fields, in
memory or in files, and each sweep over them goes slab by slab.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.config import synthesis as options
from phantomscope.engine.accelerate import Evaluator, should_compile
from phantomscope.engine.fields import Field, FileField, MemoryField
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.precision import pick_device, pick_precision
from phantomscope.engine.resume import Journal
from phantomscope.engine.samplers import Step, combine, plan_steps
from phantomscope.engine.streams import Streams
from phantomscope.engine.sweep import Tiling, make_tiling
from phantomscope.images.tiles import Tile
from phantomscope.progress import Progress

Float = NDArray[np.float32]
Rows = Callable[[int, int], Float]
# Rows that are noised at once when a field is filled: bounds the memory.
CHUNK = 16
LONG = 200  # steps from which an image in memory has a progress of its own


@dataclass(frozen=True, eq=False)
class _Image:
    """What shall be made: its name and size, the start, and the condition."""

    identifier: str
    shape: tuple[int, ...]
    start: int
    sketch: Rows | None
    condition: Field | None


class Sampler:
    """Runs the way back for one image after the other.

    Parameters
    ----------
    model : DiffusionModel
        The trained model.
    config : Synthesise
        Sampler, steps, tiles and fusion.
    seed : int
        Seed of the noise field.
    pixels : int
        How many pixels one job evaluates, over all steps: decides whether it compiles
        the network where the config leaves that open. The same for all jobs of an
        experiment.
    """

    def __init__(
        self, model: DiffusionModel, config: options.Synthesise, seed: int,
        pixels: int = 0,
    ) -> None:  # fmt: skip
        torch.set_num_threads(config.threads)
        self.device = pick_device(config.device)
        self.model, self.config, self.seed = model, config, seed
        self.precision = pick_precision(config.precision, self.device)
        pays = should_compile(1, pixels)
        wish = config.compile
        self.compiled = pays if wish == "auto" else wish == "always"
        self.evaluate = Evaluator(
            model.network, self.device, self.precision, self.compiled
        )
        self.spec = model.network.spec
        self.channels = self.spec.outputs
        self.shifts = model.process.shifts
        own = config.noise == "tile"
        self.noise = Streams(seed, self.channels, self.device, of_tiles=own)

    def with_steps(self, steps: int) -> Sampler:
        """Return a sampler that takes so many steps with the same, loaded network."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"steps": steps})
        return other

    def from_sketch(
        self, sketch: Float, identifier: str, start: int,
        condition: Float | None = None,
    ) -> Float:  # fmt: skip
        """Noise a sketch to t_start and go the way back.

        Parameters
        ----------
        sketch : ndarray, shape ([Z,] Y, X), or (C, ...) with several channels
            Network values; of any size.
        identifier : str
            Image id: names the noise.
        start : int
            t_start in 1 ... T.
        condition : ndarray, shape (C', [Z,] Y, X), optional
            What the network sees beside the state, if it was trained with it.

        Returns
        -------
        ndarray, shape ([Z,] Y, X), or (C, ...) with several channels
            Network values, float32.
        """
        rows = np.ascontiguousarray(sketch, np.float32)
        rows = rows[None] if self.channels == 1 else rows
        self.model.check_sketch(rows.shape)
        return self._in_memory(
            rows.shape[1:], identifier, start, lambda a, b: rows[:, a:b], condition
        )

    def unconditional(
        self, shape: Sequence[int], identifier: str, condition: Float | None = None
    ) -> Float:
        """Go the whole way back, from noise (or, by its process, from a condition).

        Parameters
        ----------
        shape : sequence of int
            ([Z,] Y, X), of any size.
        identifier, condition
            As in `from_sketch`.

        Returns
        -------
        ndarray, shape ([Z,] Y, X), or (C, ...) with several channels
            Network values, float32.
        """
        start = self.model.process.timesteps
        return self._in_memory(shape, identifier, start, None, condition)

    def _in_memory(
        self, shape: Sequence[int], identifier: str, start: int, sketch: Rows | None,
        condition: Float | None,
    ) -> Float:  # fmt: skip
        field = None
        if condition is not None:
            field = MemoryField(len(condition), shape, self.device)
            field.write(0, torch.from_numpy(np.ascontiguousarray(condition)))
        image = _Image(identifier, tuple(shape), start, sketch, field)
        final = self._run(image, None)
        values: Float = final.read(0, shape[0]).cpu().numpy()
        return values[0] if self.channels == 1 else values

    def stream(
        self, sketch: Rows, shape: Sequence[int], identifier: str, start: int,
        scratch: Path, condition: Field | None = None,
    ) -> FileField:  # fmt: skip
        """Do as `from_sketch`, in a memory that does not grow with the depth.

        States lie in files. A run that was killed goes on at the slab where it
        stopped, and gives the same values, bit for bit, as an undisturbed one and as
        `from_sketch`.

        Parameters
        ----------
        sketch : callable
            ``sketch(a, b)`` gives rows a ... b - 1 along the first axis, shape
            (1, b - a, ...): network values, the same whenever it is asked.
        shape : sequence of int
            ([Z,] Y, X).
        identifier, start, condition
            As in `from_sketch`.
        scratch : Path
            Folder for the states, of 8 bytes a voxel (16 with a sampler of second
            order); delete it when the values were taken.

        Returns
        -------
        FileField
            Network values, in a file in `scratch`.
        """
        image = _Image(identifier, tuple(shape), start, sketch, condition)
        return self._run(image, scratch)  # type: ignore[return-value]

    def _plan(self, start: int) -> list[Step]:
        config = self.config
        return plan_steps(
            self.model.process, start, config.evaluations(start), config.sampler,
            spacing=config.spacing, eta=config.eta, variance=config.variance,
            respacing=config.respacing,
        )  # fmt: skip

    @torch.inference_mode()
    def _run(self, image: _Image, scratch: Path | None) -> Field:
        """Fill the first state and sweep until the image is there."""
        self.model.check_condition(image.condition.channels if image.condition else 0)
        steps = self._plan(image.start)
        tiling = make_tiling(self.config, self.spec, image.shape, self.device)
        per_step = self.config.fusion == "per_step"
        sweeps = len(steps) if per_step else 1
        keeps_last = per_step and any(step.on_last for step in steps)

        def pair(name: str) -> list[Field]:
            if scratch is None:
                return [
                    MemoryField(self.channels, image.shape, self.device)
                    for _ in range(2)
                ]
            return [
                FileField(
                    scratch / f"{name}-{n}.raw", self.channels, image.shape, self.device
                )
                for n in range(2)
            ]

        journal = Journal(scratch, self._identity(image), self.device)
        states = pair("state")
        lasts: Sequence[Field | None] = pair("last") if keeps_last else [None, None]
        if any(isinstance(f, FileField) and f.fresh for f in [*states, *lasts]):
            journal.begin_anew()
        if journal.sweep == 0:
            self._fill(image, states[0])
            journal.note(1, 0, None)
        bar = nullcontext() if scratch is None and sweeps < LONG else Progress(
            f"synthesising {image.identifier}", sweeps * len(tiling.slabs),
            start=(journal.sweep - 1) * len(tiling.slabs) + journal.slab, unit="slabs",
        )  # fmt: skip
        with bar as progress:
            for number in range(journal.sweep, sweeps + 1):
                old, new = (number + 1) % 2, number % 2
                work, emit = (
                    self._one_step(image, tiling, steps[number - 1], states[old],
                                   states[new], lasts[old], lasts[new])
                    if per_step
                    else self._whole_way(image, tiling, steps, states[old], states[new])
                )  # fmt: skip
                found = tiling.sweep(work, self.channels, journal.slab, journal.carry)
                for slab, row, rows, carry in found:
                    emit(row, rows)
                    journal.note(number, slab + 1, carry)
                    if progress:
                        progress.advance()
                journal.note(number + 1, 0, None)
        return states[sweeps % 2]

    def _identity(self, image: _Image) -> dict[str, object]:
        """Return what shapes the values: a state of another identity is not used."""
        hidden = {"threads", "micro_batch"}
        return {
            "id": image.identifier,
            "shape": list(image.shape),
            "start": image.start,
            "seed": self.seed,
            "model": self.model.meta["fingerprint"],
            "options": self.config.model_dump(mode="json", exclude=hidden)
            | {"device": self.device.type, "precision": self.precision,
               "compile": self.compiled},
        }  # fmt: skip

    def _fill(self, image: _Image, field: Field) -> None:
        """Write the start state: a noised sketch, or what the process starts from."""
        process = self.model.process
        for first in range(0, image.shape[0], CHUNK):
            stop = min(first + CHUNK, image.shape[0])
            known = self._anchor(image, first, stop)
            x0 = None
            if image.sketch is not None:
                x0 = torch.from_numpy(np.ascontiguousarray(image.sketch(first, stop)))
                x0 = x0.to(self.device)
            noise = self.noise.rows(
                image.identifier, "start", image.shape, first, stop, image.start
            )
            if x0 is None:
                x0 = process.prior(noise, known)
            elif not self.noise.of_tiles:
                x0 = process.q_sample(x0, image.start, noise, known)
            field.write(first, x0)

    def _anchor(self, image: _Image, first: int, stop: int) -> Tensor | None:
        """Return rows of the condition that the process itself ends at."""
        if not self.shifts or image.condition is None:
            return None
        return image.condition.read(first, stop)[: self.channels]

    # One sweep

    def _one_step(
        self,
        image: _Image,
        tiling: Tiling,
        step: Step,
        source: Field,
        target: Field,
        last: Field | None,
        new_last: Field | None,
    ) -> tuple[Callable[[list[Tile]], Iterator[Tensor]], Callable[[int, Tensor], None]]:
        """Blend the predictions of overlapping tiles, then take one step."""

        def work(slab: list[Tile]) -> Iterator[Tensor]:
            for tiles, x, seen in self._batches(image, tiling, source, slab):
                yield from self._predict(x, tiles, step.t, image, seen)

        def emit(row: int, output: Tensor) -> None:
            stop = row + output.shape[1]
            x, known = source.read(row, stop), self._anchor(image, row, stop)
            x0 = self._estimate(output, x, step, known)
            before = last.read(row, stop) if last and step.on_last else None
            noise = None
            if step.sigma:
                noise = self.noise.rows(
                    image.identifier, "step", image.shape, row, stop, step.u
                )
            target.write(row, combine(step, x, x0, before, noise, known))
            if new_last:
                new_last.write(row, x0)

        return work, emit

    def _whole_way(
        self,
        image: _Image,
        tiling: Tiling,
        steps: Sequence[Step],
        source: Field,
        target: Field,
    ) -> tuple[Callable[[list[Tile]], Iterator[Tensor]], Callable[[int, Tensor], None]]:
        """Finish each tile by itself and blend at the end, as the paper does."""

        def work(slab: list[Tile]) -> Iterator[Tensor]:
            for tiles, x, seen in self._batches(image, tiling, source, slab):
                known = None
                if self.shifts and seen is not None:
                    known = seen[:, : self.channels]
                last = None
                if self.noise.of_tiles:
                    x = self._tile_start(image, tiles, x, known)
                for step in steps:
                    output = self._predict(x, tiles, step.t, image, seen)
                    x0 = self._estimate(output, x, step, known)
                    noise = None
                    if step.sigma:
                        noise = self.noise.tiles(
                            image.identifier, "step", tiles, tiling.side, step.u
                        )
                    x = combine(step, x, x0, last, noise, known)
                    last = x0
                yield from x

        return work, target.write

    def _tile_start(
        self, image: _Image, tiles: Sequence[Tile], x: Tensor, known: Tensor | None
    ) -> Tensor:
        """Noise each tile by itself; `_fill` left the sketch as it was."""
        noise = self.noise.tiles(
            image.identifier, "start", tiles, tuple(x.shape[2:]), image.start
        )
        if image.sketch is None:
            return self.model.process.prior(noise, known)
        return self.model.process.q_sample(x, image.start, noise, known)

    def _estimate(
        self, output: Tensor, x: Tensor, step: Step, known: Tensor | None
    ) -> Tensor:
        """Estimate the clean image from what the network gave."""
        x0 = self.model.process.to_x0(output, x, step.t, known)
        return x0.clamp(*self.model.value_range) if self.config.clip else x0

    def _batches(
        self, image: _Image, tiling: Tiling, source: Field, slab: Sequence[Tile]
    ) -> Iterator[tuple[Sequence[Tile], Tensor, Tensor | None]]:
        """Give tiles in micro-batches, with their states and conditions."""
        fields = [source] if image.condition is None else [source, image.condition]
        parts = [tiling.cut(field, slab) for field in fields]
        size = self.config.micro_batch
        for i in range(0, len(slab), size):
            tiles = slab[i : i + size]
            x, *seen = (torch.stack([part(t) for t in tiles]) for part in parts)
            yield tiles, x, seen[0] if seen else None

    def _predict(
        self, x: Tensor, tiles: Sequence[Tile], t: int, image: _Image,
        condition: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Evaluate the network on a micro-batch (N, C, ...) of tiles."""
        side = tuple(x.shape[2:])
        inputs = [self.model.process.scale_input(x, t) if self.shifts else x]
        if self.model.noise_channel:
            inputs.append(
                self.noise.tiles(
                    image.identifier, "channel", tiles, side, t, channels=1
                )
            )
        if condition is not None and self.model.shown:
            inputs.append(condition)
        times = torch.full((len(x),), t, device=x.device)
        return self.evaluate(torch.cat(inputs, dim=1), times)

"""The sampler: from a start state to an image of any size, in tiles.

All randomness comes from the noise field, so an image depends on its id and the seed
alone: not on shards, order, workers or the micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.config import diffusion as options
from phantomscope.config.load import make_config
from phantomscope.engine.accelerate import pick_device, to_device
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.networks import UNet, make_network
from phantomscope.engine.process import Process, Transition, make_process, transitions
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import NoiseField
from phantomscope.images.tiles import Tile, even_tile, tile_grid, tile_window

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DiffusionModel:
    """A trained model.

    Attributes
    ----------
    network : UNet
        In evaluation mode.
    process : Process
        What it undoes.
    value_range : tuple of float
        Lowest and highest network value of the training images.
    noise_channel : bool
        Whether the network takes a second channel of noise.
    meta : dict
        How it was trained.
    """

    network: UNet
    process: Process
    value_range: tuple[float, float]
    noise_channel: bool
    meta: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> DiffusionModel:
        """Load what `Trainer.save_model` wrote."""
        tensors, meta = load_checkpoint(path)
        try:
            config = make_config(
                {"network": meta["network"], "process": meta["process"]}, str(path)
            )
            network = make_network(config.network, 0)
            network.load_state_dict(tensors["network"])
            low, high = (float(v) for v in meta["value_range"])
            if not (-math.inf < low < high < math.inf and meta["fingerprint"]):
                raise ValueError("it does not say how it was trained")
        except (
            KeyError, RuntimeError, TypeError, ValueError, AttributeError,
            OverflowError,
        ) as error:  # fmt: skip
            # torch puts what is wrong into the lines after the first.
            reason = " ".join(str(error).split())
            raise PhantomscopeError(
                f"this is no diffusion model ({reason[:160]})",
                where=path,
                fix="delete it and run the same command again",
            ) from error
        process = make_process(config.process)
        return cls(
            network.eval(), process, (low, high), config.network.noise_channel, meta
        )


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
    """

    def __init__(
        self, model: DiffusionModel, config: options.Synthesise, seed: int
    ) -> None:
        torch.set_num_threads(config.threads)
        self.device = pick_device(config.device)
        self.model, self.config, self.seed = model, config, seed
        self.network = to_device(model.network, self.device)

    def _noise(self, identifier: str, stream: str) -> NoiseField:
        return NoiseField(self.seed, identifier, stream)

    @torch.inference_mode()
    def from_sketch(self, sketch: Float, identifier: str, start: int) -> Float:
        """Noise a sketch to t_start and go the way back.

        Parameters
        ----------
        sketch : ndarray, shape (Y, X)
            Network values; of any size.
        identifier : str
            Image id: names the noise.
        start : int
            t_start in 1 ... T.

        Returns
        -------
        ndarray, shape (Y, X)
            Network values, float32.
        """
        x0 = torch.from_numpy(np.ascontiguousarray(sketch, np.float32))[None]
        noise = self._noise(identifier, "start").block((0, 0), sketch.shape, start)
        x = self.model.process.q_sample(x0, start, torch.from_numpy(noise)[None])[0]
        steps = transitions(self.model.process, start, self.config)
        shape: tuple[int, ...] = tuple(sketch.shape)
        side, overlap = self._tile_shape(shape)
        tiles = tile_grid(shape, side, overlap)
        window = torch.from_numpy(tile_window(side, overlap, self.config.window))
        window = window.to(self.device)
        x = x.to(self.device)
        if self.config.fusion == "per_step":
            x = self._per_step(x, steps, tiles, window, identifier)
        else:
            x = self._final(x, steps, tiles, window, identifier)
        return x.cpu().numpy()

    def _tile_shape(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        tile, overlap = self.config.tile, self.config.overlap
        stride = self.model.network.spec.stride
        side = tuple(even_tile(n, tile, overlap, stride) for n in shape)
        return side, (overlap,) * len(shape)

    def _gather(self, x: Tensor, tile: Tile) -> Tensor:
        for axis, index in enumerate(tile.index):
            x = x.index_select(axis, torch.from_numpy(index).to(x.device))
        return x

    def _predict(
        self, x: Tensor, tiles: Sequence[Tile], t: int, identifier: str
    ) -> Tensor:
        """Evaluate the network on a micro-batch (N, Y, X) of tiles."""
        inputs = [x]
        if self.model.noise_channel:
            field = self._noise(identifier, "channel")
            extra = [field.block(tile.origin, tuple(x.shape[1:]), t) for tile in tiles]
            inputs.append(torch.from_numpy(np.stack(extra)).to(x.device))
        times = torch.full((len(x),), t, device=x.device)
        bf16 = self.config.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            output: Tensor = self.network(torch.stack(inputs, dim=1), times)
        return output[:, 0].float()

    def _advance(
        self, x: Tensor, output: Tensor, step: Transition, noise: Any
    ) -> Tensor:
        """Take one step back: x_u = a_u x0 + rho (x_t - a_t x0) + sigma z."""
        process = self.model.process
        x0 = process.to_x0(output, x, step.t)
        if self.config.clip:
            x0 = x0.clamp(*self.model.value_range)
        x = float(process.a[step.u]) * x0 + step.rho * (
            x - float(process.a[step.t]) * x0
        )
        if step.sigma > 0:
            x = x + step.sigma * torch.from_numpy(noise()).to(x.device)
        return x

    def _batches(self, tiles: Sequence[Tile]) -> list[Sequence[Tile]]:
        size = self.config.micro_batch
        return [tiles[i : i + size] for i in range(0, len(tiles), size)]

    def _blend(
        self,
        shape: torch.Size,
        tiles: Sequence[Tile],
        window: Tensor,
        values: Sequence[Tensor],
    ) -> Tensor:
        """Blend tiles in their order, whatever the micro-batch."""
        total = torch.zeros(shape, device=self.device)
        weight = torch.zeros(shape, device=self.device)
        for tile, value in zip(tiles, values, strict=True):
            total[tile.target] += (window * value)[tile.inside]
            weight[tile.target] += window[tile.inside]
        return total / weight.clamp_min(1e-6)

    def _per_step(
        self, x: Tensor, steps: Sequence[Transition], tiles: Sequence[Tile],
        window: Tensor, identifier: str,
    ) -> Tensor:  # fmt: skip
        """Blend the predictions of overlapping tiles at each step."""
        field = self._noise(identifier, "step")
        for step in steps:
            outputs: list[Tensor] = []
            for part in self._batches(tiles):
                inputs = torch.stack([self._gather(x, tile) for tile in part])
                outputs.extend(self._predict(inputs, part, step.t, identifier))
            output = self._blend(x.shape, tiles, window, outputs)
            shape, u = tuple(x.shape), step.u
            x = self._advance(
                x, output, step, lambda s=shape, u=u: field.block((0, 0), s, u)
            )
        return x

    def _final(
        self, x: Tensor, steps: Sequence[Transition], tiles: Sequence[Tile],
        window: Tensor, identifier: str,
    ) -> Tensor:  # fmt: skip
        """Finish each tile by itself and blend at the end, as the paper does."""
        field = self._noise(identifier, "step")
        finished: list[Tensor] = []
        for part in self._batches(tiles):
            state = torch.stack([self._gather(x, tile) for tile in part])
            size = tuple(state.shape[1:])
            for step in steps:
                output = self._predict(state, part, step.t, identifier)

                def noise(
                    u: int = step.u, part: Sequence[Tile] = part, size: Any = size
                ) -> Float:
                    return np.stack([field.block(t.origin, size, u) for t in part])

                state = self._advance(state, output, step, noise)
            finished.extend(state)
        return self._blend(x.shape, tiles, window, finished)

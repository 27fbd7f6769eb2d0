"""A trained diffusion model: network, process, and what the images were like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phantomscope.config.load import make_config
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.networks import UNet, make_network
from phantomscope.engine.process import Process, make_process
from phantomscope.errors import PhantomscopeError


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
        How it was trained. Models without `dims` are of images, not of volumes; those
        without `channels` of one channel; those without `conditions` see nothing but
        the state; those without `parts` are one network.
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
            # Which times a sketch may start from is no matter here.
            given = {"network": meta["network"], "process": meta["process"]}
            config = make_config({**given, "start": {"value": 1}}, str(path))
            network = make_network(
                config.network,
                0,
                int(meta.get("dims", 2)),
                channels=int(meta.get("channels", 1)),
                conditions=int(meta.get("conditions", 0)),
                timesteps=config.process.timesteps,
                parts=int(meta.get("parts", 1)),
            )
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

    @property
    def conditions(self) -> int:
        """Channels that the network sees beside the state and its noise."""
        spec = self.network.spec
        return spec.inputs - spec.outputs - self.noise_channel

    @property
    def shown(self) -> bool:
        """Whether the network sees the condition beside the state.

        Where a process ends at its condition, the state may be all that it sees.
        """
        return self.conditions > 0 or not self.process.shifts

    def check_condition(self, channels: int) -> None:
        """Raise an error unless so many channels of a condition are what it needs."""
        needed = self.conditions if self.shown else self.channels
        if channels != needed:
            use = "see {} channels beside the image" if self.shown else (
                "start from {} channels"
            )  # fmt: skip
            raise PhantomscopeError(
                f"this model was trained to {use.format(needed)}, {channels} are given",
                fix="use a model of the same `condition.kind`",
            )

    def check_sketch(self, shape: tuple[int, ...]) -> None:
        """Raise an error unless a sketch has the channels of the images.

        Of one channel its dimensions tell, which are checked with the tiles.
        """
        like = len(shape) == 1 + self.dims and shape[0] == self.channels
        if self.channels > 1 and not like:
            raise PhantomscopeError(
                f"a sketch of shape {shape} was given to a model of {self.channels} "
                f"channels in {self.dims} dimensions",
                fix="draw sketches with as many dimensions and channels as the "
                "training images have (`simulate.size`, `simulate.channels`)",
            )

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.network.spec.outputs

    @property
    def dims(self) -> int:
        """Dimensions of the images: 2, or 3 for volumes."""
        return self.network.spec.dims

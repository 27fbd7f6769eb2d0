"""Optimiser, learning rate, moving average: all that changes while a network learns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phantomscope.config.diffusion import Train
from phantomscope.engine.checkpoint import cpu_tensors, save_checkpoint


def make_optimiser(
    options: Train, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimiser that a config asks for."""
    if options.optimiser == "radam":
        return torch.optim.RAdam(parameters, lr=options.learning_rate)
    if options.optimiser == "adamw":
        return torch.optim.AdamW(
            parameters, lr=options.learning_rate, weight_decay=options.weight_decay
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


def _plain_optimiser(state: dict[str, Any]) -> dict[str, Any]:
    moments = {key: cpu_tensors(value) for key, value in state["state"].items()}
    return {"state": moments, "param_groups": state["param_groups"]}


@dataclass
class Run:
    """What changes while training: everything that a training state holds."""

    network: nn.Module
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, network: nn.Module, options: Train) -> Run:
        """Begin with a network."""
        average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        return cls(network, average, make_optimiser(options, network.parameters()))

    def save(self, path: Path, mark: str) -> None:
        """Write everything, with the identity of what is trained."""
        tensors = {
            "network": cpu_tensors(self.network.state_dict()),
            "average": cpu_tensors(self.average),
            "optimiser": _plain_optimiser(self.optimiser.state_dict()),
        }
        save_checkpoint(path, tensors, {"step": self.step, "fingerprint": mark})

    def load(self, tensors: dict[str, Any], step: int) -> None:
        """Take up what was saved after a step."""
        self.network.load_state_dict(tensors["network"])
        for name, value in tensors["average"].items():
            self.average[name].copy_(value)
        self.optimiser.load_state_dict(tensors["optimiser"])
        self.step = step

    def update(self, options: Train) -> None:
        """Take the optimiser's step, with gradients in place, and average."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(options, self.step)
        self.optimiser.step()
        self._update_average(options.ema)

    def _update_average(self, ema: float) -> None:
        """Exponential moving average, shorter at the start (as in TensorFlow's)."""
        step = self.step + 1
        decay = min(ema, (1 + step) / (10 + step)) if ema else 0
        with torch.no_grad():
            current = self.network.state_dict()
            names = [k for k, v in current.items() if v.is_floating_point()]
            torch._foreach_lerp_(
                [self.average[k] for k in names],
                [current[k] for k in names],
                1 - decay,
            )

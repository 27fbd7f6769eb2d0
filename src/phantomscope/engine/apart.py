"""Networks that each see channels of their own, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from phantomscope.engine.unet import UNet
from phantomscope.errors import PhantomscopeError


class Apart(UNet):
    """Several networks beside each other, each with its share of the channels.

    They are trained and sampled at once, but nothing passes from one to another: the
    gradient of each is that of its own error.

    Parameters
    ----------
    parts : sequence of UNet
        All of one shape. The state has the channels of the first one, then of the next;
        so has the condition, which follows it.
    """

    def __init__(self, parts: Sequence[UNet]) -> None:
        spec, count = parts[0].spec, len(parts)
        super().__init__(
            replace(spec, inputs=count * spec.inputs, outputs=count * spec.outputs)
        )
        if spec.inputs % spec.outputs:
            raise PhantomscopeError(
                "networks beside each other cannot share a channel of noise",
                where="network.noise_channel",
                fix="leave it out",
            )
        self.parts: Any = nn.ModuleList(parts)

    def predict(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Predict from all input channels and embedded times."""
        count, outputs = len(self.parts), self.spec.outputs
        states = x[:, :outputs].chunk(count, dim=1)
        seen = x[:, outputs:].chunk(count, dim=1)
        return torch.cat(
            [
                part.predict(torch.cat(both, dim=1), embedding)
                for part, *both in zip(self.parts, states, seen, strict=True)
            ],
            dim=1,
        )

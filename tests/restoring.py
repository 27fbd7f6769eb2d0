"""Images whose structure is known, sets of them, and a small config to restore them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter

PIXEL = 27.0
SIDE = 72


def lines(number: int, side: int = SIDE, width: float = 1.5) -> np.ndarray:
    """Straight lines across an image: what they are is known everywhere."""
    rng = generator("lines", number)
    y, x = np.mgrid[:side, :side] - side / 2
    image = np.zeros((side, side))
    for _ in range(5):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-side / 3, side / 3)
        away = y * np.cos(angle) - x * np.sin(angle) - offset
        image += np.exp(-(away**2) / (2 * width**2))
    return image.astype(np.float32)


def write_set(
    folder: Path, images: dict[str, np.ndarray], info: dict[str, Any] | None = None,
    **columns: Any,
) -> Path:  # fmt: skip
    columns = {"pixel_size": PIXEL / 1000, **columns}
    with ImageSetWriter(folder, info or {}) as writer:
        for name, image in images.items():
            writer.add(name, image, **columns)
    return folder


def restoring(**restore: Any) -> Config:
    small = {
        "arms": ["experimental"], "pairs": 6, "patch": 48,
        "care": {"steps": 2, "epochs": 1, "batch_size": 2, "patch": 32},
    }  # fmt: skip
    return make_config({"restore": {**small, **restore}, "segment": {"tools": []}})


@cache
def image_of(number: int) -> np.ndarray:
    """Return the lines of this number at the usual size."""
    return lines(number)

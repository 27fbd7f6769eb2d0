"""Images with bright squares in boxes, and detectors that learn them in a few steps."""

from __future__ import annotations

import numpy as np

from phantomscope.config.detectors import Detectors
from phantomscope.downstream import detectors
from phantomscope.downstream.boxes import Boxes

SMALL = {"backbone": "resnet18", "epochs": 2, "batch_size": 2, "side": 64, "crop": 48}


def lessons(count=3):
    rng = np.random.default_rng(0)
    images, boxes = {}, {}
    for number in range(count):
        image = rng.normal(0.2, 0.02, (64, 64)).astype(np.float32)
        y, x = rng.integers(4, 40, 2)
        image[y : y + 16, x : x + 16] += 0.6
        images[f"i{number}"] = image
        # The last one has none.
        own = [[y, x, y + 16, x + 16]] if number < count - 1 else []
        boxes[f"i{number}"] = Boxes.of(own, [1] * len(own))
    return detectors.Lessons(list(images), images.__getitem__, boxes, ["cell"])


def options(method, **changes):
    return Detectors.model_validate({method: {**SMALL, **changes}, "score": 0.0})

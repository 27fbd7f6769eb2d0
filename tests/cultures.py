"""Made-up cultures of large and small cells, for the stages of semantic filtering."""

import numpy as np
import torch

from phantomscope.config.load import make_config
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import filtered, filtering

SIDE = 32


def config(**changes):
    """Large objects are the target; a small network of the eight that there are."""
    options = {
        "methods": ["filter", "layers"], "targets": ["large"], "tests": 3, "taught": 3,
        "crops": {"size_limit": 60, "min_area": 5, "margin": 0},
        "compose": {"size": SIDE, "targets": [1, 2], "others": [1, 3]},
        "objects": {"rule": "otsu", "min_area": 5}, **changes.pop("filter", {}),
    }  # fmt: skip
    train = {
        "steps": 4, "batch_size": 2, "patch": 32, "warmup": 1, "checkpoint_every": 2,
        "loss": "smooth_l1", "precision": "fp32", "device": "cpu",
        **changes.pop("train", {}),
    }  # fmt: skip
    given = {
        "filter": options, "train": train, "network": {"preset": "small"},
        "synthesise": {"tile": 32, "overlap": 8, "precision": "fp32",
                       "compile": "never", "device": "cpu"}, **changes,
    }  # fmt: skip
    return make_config(given, "test")


def culture(number, side=48):
    """Two large and three small domes, apart from each other."""
    rng = generator("culture", number)
    y, x = np.mgrid[:side, :side]
    image, labels = rng.normal(20, 1, (side, side)), np.zeros((side, side), np.uint16)
    places = [(10, 10), (34, 34), (10, 36), (36, 10), (23, 23)]
    for label, (cy, cx) in enumerate(places, 1):
        radius = 6 if label < 3 else 3
        height = 1 - ((y - cy) ** 2 + (x - cx) ** 2) / (radius + 0.5) ** 2
        image += 150 * np.clip(height, 0, None)
        labels[height > 0] = label
    return image.astype(np.uint8), labels


def write_cultures(root):
    """Write six images, their crops, backgrounds and composed sets to a folder."""
    with ImageSetWriter(root / "prepared", {"source": "test"}) as writer:
        for number in range(6):
            writer.add(
                f"i{number}", *culture(number), fold=number // 2 + 1,
                split="train" if number < 4 else "test", control="none",
            )  # fmt: skip
    options = config()
    filtering.cut_crops(
        options, prepared=root / "prepared", crops=root / "crops",
        backgrounds=root / "backgrounds", sheet=root / "sheet.png",
    )  # fmt: skip
    for use in ("tests", "taught"):
        compose(options, root, root / use, use)
    return root


def compose(options, root, composed, use, fold=0, target="large"):
    filtering.compose_set(
        options, crops=root / "crops", backgrounds=root / "backgrounds",
        composed=composed, target=target, fold=fold, use=use,
    )  # fmt: skip


def train(options, root, folder, method="filter", **changes):
    given = {"crops": root / "crops", "backgrounds": root / "backgrounds", **changes}
    filtering.train_filter(
        options, prepared=given.pop("prepared", root / "prepared"),
        model=folder / "model.pt", metrics=folder / "metrics.jsonl",
        state=folder / "model.state", method=method, **{"target": "large", **given},
    )  # fmt: skip
    return folder / "model.pt"


def weights(model):
    return load_checkpoint(model)[0]["network"]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def find(options, made, folder, model, method="filter", **changes):
    filtered.filter_images(
        options, tested=changes.pop("tested", made / "tests"), model=model,
        found=folder, target="large", method=method, **changes,
    )  # fmt: skip
    return ImageSet.open(folder)


def train_both(folder):
    """Train a filter of one layer and one of all; return their models by method."""
    return {
        method: train(config(), folder, folder / f"model-{method}", method)
        for method in ("filter", "layers")
    }

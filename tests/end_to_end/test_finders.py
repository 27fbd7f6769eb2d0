"""StarDist and Cellpose as rivals of filters: a few steps on composed images."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from phantomscope.config.load import make_config
from phantomscope.engine.pairs import to_stored
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages.finding import find_objects, train_finder

pytestmark = pytest.mark.end_to_end

CONFIG = make_config({
    "filter": {"methods": ["stardist", "cellpose"], "targets": ["large"]},
    "segment": {
        "cellpose": {"steps": 12, "batch_size": 2, "patch": 48},
        "stardist": {
            "steps": 20, "batch_size": 2, "patch": 64, "filters": 8, "rays": 16
        },
    },
})  # fmt: skip


def composed(folder, use, count):
    """Images of large discs, the target, and of small ones."""
    rng, rows = np.random.default_rng(count), []
    y, x = np.indices((64, 80))
    with ImageSetWriter(folder, {"source": "composed", "use": use}) as writer:
        for number in range(count):
            name, labels = f"{use}-{number}", np.zeros(y.shape, np.uint16)
            for label, (cy, cx) in enumerate(
                ((16, 16), (16, 58), (46, 20), (46, 60)), 1
            ):
                cy, cx = np.array([cy, cx]) + rng.integers(-3, 4, 2)
                radius = 11 if label % 2 else 6
                labels[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = label
                rows.append((name, label, "target" if label % 2 else "other"))
            odd, object_ = labels % 2 == 1, labels > 0
            layers = 0.6 * np.stack([object_ & odd, object_ & ~odd])
            behind = np.clip(rng.normal(0.1, 0.01, y.shape), 0, 1)
            stack = np.stack([layers.sum(0) + behind, *layers, behind])
            writer.add(name, to_stored(2 * stack - 1), labels, channels=4, fold=0)
        table = pd.DataFrame(rows, columns=["id", "label", "type"])
        table.to_csv(writer.partial / "objects.csv", index=False)
    return folder


@pytest.mark.parametrize("method", ["stardist", "cellpose"])
def test_a_rival_learns_from_composed_images(method, tmp_path):
    given = {"target": "large", "method": method, "fold": 0, "seed": 1}
    train_finder(
        CONFIG, prepared=tmp_path, composed=composed(tmp_path / "taught", "taught", 5),
        folder=tmp_path / "finder", images="all", **given,
    )  # fmt: skip
    find_objects(
        CONFIG, tested=composed(tmp_path / "tests", "tests", 2),
        folder=tmp_path / "finder", found=tmp_path / "found", **given,
    )  # fmt: skip
    rule = json.loads((tmp_path / "finder/class.json").read_text())
    assert rule["accuracy"] == 1
    assert rule["larger"]
    assert 113 < rule["threshold"] < 380
    found = ImageSet.open(tmp_path / "found")
    found.verify()
    assert found.ids == ["tests-0", "tests-1"]
    assert found.info["training"]["tool"] == method
    for name in found.ids:
        areas = np.bincount(found.mask(name).ravel())[1:]
        assert (areas > rule["threshold"]).all()
        assert found.row(name)["dropped"] >= 0

"""Each segmentation tool: a few steps, then prediction here and by its own loader."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phantomscope.config.analysis import Cellpose, Segment, Stardist
from phantomscope.downstream import run
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter

pytestmark = pytest.mark.end_to_end

OPTIONS = Segment(
    threads=2,
    cellpose=Cellpose(steps=6, batch_size=2, patch=48),
    # Smaller images than patches: the padding is trained on, too.
    stardist=Stardist(steps=20, batch_size=2, patch=64, filters=8, rays=16),
)


def drawn_set(folder, count, side=56):
    generator = np.random.default_rng(count)
    y, x = np.indices((side, side + 16))
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for number in range(count):
            labels = np.zeros(y.shape, np.uint16)
            for label, (cy, cx) in enumerate(((14, 15), (15, 45), (40, 20), (42, 56))):
                cy, cx = np.array([cy, cx]) + generator.integers(-3, 4, 2)
                labels[(y - cy) ** 2 + (x - cx) ** 2 < 49] = label + 1
            image = generator.poisson(np.where(labels > 0, 900, 100))
            writer.add(f"i{number}", image.astype(np.uint16), labels, group="a")
    return ImageSet.open(folder)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return drawn_set(folder / "train", 4), drawn_set(folder / "test", 2)


@pytest.mark.parametrize("tool", ["cellpose", "stardist"])
def test_tool_trains_predicts_and_loads_by_itself(tool, sets, tmp_path):
    training, images = sets
    folder, out = tmp_path / tool, tmp_path / "out"

    run.train_tool(tool, training, OPTIONS, folder=folder, seed=1)
    run.predict_tool(tool, folder, images, OPTIONS, out)

    record = json.loads((folder / "training.json").read_text())
    assert (record["images"], record["objects"]) == (4, 16)
    curve = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    assert curve[-1]["step"] == getattr(OPTIONS, tool).steps
    assert all(np.isfinite(row["loss"]) for row in curve)
    found = ImageSet.open(out)
    found.verify()
    assert found.ids == images.ids
    for identifier in images.ids:
        names = {"image": images.image(identifier)}
        exec(run.loader_snippet(tool, folder), names)
        assert names["labels"].shape == found.mask(identifier).shape
        assert ((names["labels"] > 0) == (found.mask(identifier) > 0)).all()
        assert len(np.unique(names["labels"])) == len(np.unique(found.mask(identifier)))


def test_stardist_trains_on_one_image(sets, tmp_path):
    training, _ = sets
    one = ImageSet(training.folder, training.table.iloc[:1], training.info)
    run.train_tool("stardist", one, OPTIONS, folder=tmp_path / "model", seed=0)
    assert json.loads((tmp_path / "model" / "training.json").read_text())["images"] == 1
    assert (tmp_path / "model" / "thresholds.json").is_file()

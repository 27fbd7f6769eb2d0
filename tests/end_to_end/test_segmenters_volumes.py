"""Segmentation tools on volumes: trained to find balls, and by their own loaders."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phantomscope.config.analysis import (
    Cellpose,
    CellposeVolumes,
    Segment,
    Stardist,
    StardistVolumes,
)
from phantomscope.downstream import cellpose, generalist, run
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.instance import score_image

pytestmark = pytest.mark.end_to_end

SHAPE, RADII = (24, 56, 56), (4, 6, 6)
OPTIONS = Segment(
    threads=1,
    cellpose=Cellpose(
        steps=2, batch_size=2, patch=48,
        volumes=CellposeVolumes(
            steps=140, batch_size=1, patch=32, patch_depth=16, filters=8,
            optimiser="adam", learning_rate=3e-3, ema=0.9,
        ),
    ),
    stardist=Stardist(
        volumes=StardistVolumes(
            steps=20, batch_size=1, patch=32, patch_depth=16, rays=16, filters=8,
        )
    ),
)  # fmt: skip


def balls(seed, count=10):
    """Balls of flat voxels that hardly touch."""
    generator = np.random.default_rng(seed)
    labels, centres = np.zeros(SHAPE, np.uint16), np.empty((0, 3))
    while len(centres) < count:
        centre = generator.uniform(RADII, np.array(SHAPE) - RADII)
        if (((centres - centre) / RADII) ** 2).sum(axis=1).min(initial=9) > 4:
            centres = np.vstack([centres, centre])
            away = (np.indices(SHAPE).T - centre) / RADII
            labels[(away**2).sum(axis=-1).T < 1] = len(centres)
    return labels


def drawn_set(folder, seeds):
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for seed in seeds:
            labels = balls(seed)
            light = np.where(labels > 0, 900, 100)
            image = np.random.default_rng(seed).poisson(light).astype(np.uint16)
            writer.add(f"v{seed}", image, labels, split="test")
    return ImageSet.open(folder)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    return drawn_set(folder / "train", [0]), drawn_set(folder / "test", [1])


def train_and_predict(tool, sets, tmp_path):
    """Return the labels found in the test volume, and those of the tool's loader."""
    training, images = sets
    folder = tmp_path / tool
    run.train_tool(tool, training, OPTIONS, folder=folder, seed=1)
    run.predict_tool(tool, folder, images, OPTIONS, tmp_path / "out")
    record = json.loads((folder / "training.json").read_text())
    assert (record["dims"], record["objects"]) == (3, 10)
    assert record["anisotropy"] == pytest.approx(1.5, abs=0.2)
    found = ImageSet.open(tmp_path / "out")
    found.verify()
    names = {"image": images.image("v1")}
    exec(run.loader_snippet(tool, folder), names)
    return found.mask("v1"), names["labels"]


def test_cellpose_learns_to_find_balls(sets, tmp_path):
    found, again = train_and_predict("cellpose", sets, tmp_path)
    np.testing.assert_array_equal(found, again)
    scored = score_image(sets[1].mask("v1"), found)
    errors = scored["fp_0.50"] + scored["fn_0.50"]
    assert scored["tp_0.50"] / (scored["tp_0.50"] + errors) > 0.9


def test_stardist_trains_predicts_and_loads_by_itself(sets, tmp_path):
    found, again = train_and_predict("stardist", sets, tmp_path)
    assert ((found > 0) == (again > 0)).all()
    config = json.loads((tmp_path / "stardist/config.json").read_text())
    assert config["rays_json"]["name"] == "Rays_GoldenSpiral"
    assert config["anisotropy"] == config["rays_json"]["kwargs"]["anisotropy"]
    assert config["grid"] == [1, 2, 2]  # a diameter of 7 planes, 11 lines and columns
    curve = (tmp_path / "stardist/metrics.jsonl").read_text().splitlines()
    assert json.loads(curve[-1])["step"] == 20


def test_generalist_looks_at_volumes_along_all_axes(sets, tmp_path):
    """With the weights of a network that hardly learnt, in place of cyto3."""
    _, images = sets
    plane, labels = images.image("v1")[12], images.mask("v1")[12]
    options = OPTIONS.cellpose
    cellpose.train([plane], [labels], options, folder=tmp_path, seed=0, threads=2)
    weights = (tmp_path / "model").rename(tmp_path / "cyto3")
    segment = generalist.load(weights, 2, anisotropy=1.5)
    found = segment(images.image("v1")[:8, :40, :40])
    assert found.shape == (8, 40, 40)
    assert found.dtype == np.uint16

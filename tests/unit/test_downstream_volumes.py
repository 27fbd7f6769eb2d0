"""Cellpose on volumes: network, loss, determinism, resuming, tiles, anisotropy."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch

from phantomscope.config.analysis import Cellpose, CellposeVolumes, Segment
from phantomscope.downstream import cellpose3d, classical, common, run
from phantomscope.downstream.examples import whole_images
from phantomscope.downstream.flow_patches import FlowPatches, to_unit, unit_limits
from phantomscope.engine.networks import count_parameters
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.voxels import anisotropy, row_voxel_size
from phantomscope.images.writer import ImageSetWriter
from phantomscope.interrupt import StopRequestedError
from phantomscope.measure.instance import dice_per_object

CPU = torch.device("cpu")
TINY = CellposeVolumes(
    steps=4, batch_size=2, patch=16, patch_depth=8, filters=2, precision="fp32",
    tile=32, tile_depth=16, overlap=8, overlap_depth=0,
)  # fmt: skip
OPTIONS = Segment(cellpose=Cellpose(volumes=TINY))


def balls(shape=(16, 40, 40), centres=((7, 10, 10), (8, 26, 26)), radii=(4, 8, 8)):
    labels = np.zeros(shape, np.uint16)
    place = np.indices(shape)
    for number, centre in enumerate(centres, 1):
        parts = zip(place, centre, radii, strict=True)
        labels[sum(((axis - c) / r) ** 2 for axis, c, r in parts) < 1] = number
    return labels


def volume_set(folder, count=2, **columns):
    labels = balls()
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for number in range(count):
            light = np.where(labels > 0, 900, 100)
            image = np.random.default_rng(number).poisson(light).astype(np.uint16)
            writer.add(f"v{number}", image, labels, split="test", **columns)
    return ImageSet.open(folder)


def weights_of(folder):
    return torch.load(folder / "model.pt", weights_only=True)["tensors"]["network"]


def same_weights(first, second):
    a, b = weights_of(first), weights_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_network_has_the_published_number_of_parameters():
    assert count_parameters(cellpose3d.flow_network(16, "instance", 0)) == 1_980_980
    small = cellpose3d.flow_network(4, "channel", 0)
    assert count_parameters(small) < 1_980_980 / 14
    assert small(torch.zeros(1, 1, 8, 16, 24)).shape == (1, 4, 8, 16, 24)


def test_loss_is_that_of_the_formula():
    objective, rng = cellpose3d.FlowRegression(), np.random.default_rng(0)
    output, target = (
        torch.from_numpy(rng.uniform(-1, 1, (2, 4, 3, 4, 5))) for _ in range(2)
    )
    target[:, 0] = (target[:, 0] > 0).double()
    x, t, wanted = objective.draw(
        torch.cat([output[:, :1], target], 1), torch.Generator()
    )
    torch.testing.assert_close(x, output[:, :1])
    torch.testing.assert_close(wanted, target)
    found = float(objective.loss(output, t, wanted))
    a, b = output.numpy(), target.numpy()
    weight = np.clip(b[:, :1], 0.01, 1)
    flow = ((a[:, 1:] - b[:, 1:]) ** 2 * weight).sum(axis=(2, 3, 4))
    flow /= weight.sum(axis=(2, 3, 4))
    assert found == pytest.approx(np.abs(a[:, 0] - b[:, 0]).mean() + flow.mean())
    # Micro-batches add up to the whole.
    halves = [float(objective.loss(output[k : k + 1], t, target[k : k + 1]))
              for k in (0, 1)]  # fmt: skip
    assert found == pytest.approx(np.mean(halves))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return volume_set(tmp_path_factory.mktemp("volumes") / "set")


def test_training_is_repeatable_and_depends_on_the_seed(volumes, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run.train_tool("cellpose", volumes, OPTIONS, folder=tmp_path / name, seed=seed)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")
    record = json.loads((tmp_path / "a/training.json").read_text())
    assert (record["dims"], record["images"], record["objects"]) == (3, 2, 4)
    # 7 planes, 15 lines and columns each.
    assert record["anisotropy"] == pytest.approx(15 / 7, abs=1e-4)
    curve = (tmp_path / "a/metrics.jsonl").read_text().splitlines()
    assert json.loads(curve[-1])["step"] == 4


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    volumes, tmp_path, monkeypatch
):
    run.train_tool("cellpose", volumes, OPTIONS, folder=tmp_path / "whole", seed=1)
    batch = FlowPatches.batch

    def interrupting(self, step, size):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(self, step, size)

    monkeypatch.setattr(FlowPatches, "batch", interrupting)
    with pytest.raises(StopRequestedError):
        run.train_tool("cellpose", volumes, OPTIONS, folder=tmp_path / "m", seed=1)
    monkeypatch.undo()
    assert not (tmp_path / "m").exists()
    assert (tmp_path / "m.state/state.pt").exists()
    run.train_tool("cellpose", volumes, OPTIONS, folder=tmp_path / "m", seed=1)
    assert same_weights(tmp_path / "whole", tmp_path / "m")


def test_prediction_goes_through_image_sets_and_keeps_columns(volumes, tmp_path):
    run.train_tool("cellpose", volumes, OPTIONS, folder=tmp_path / "m", seed=1)
    run.predict_tool("cellpose", tmp_path / "m", volumes, OPTIONS, tmp_path / "out")
    found = ImageSet.open(tmp_path / "out")
    found.verify()
    assert found.ids == volumes.ids
    assert found.dims == 3
    segment = run.load_tool(tmp_path / "m", OPTIONS)
    np.testing.assert_array_equal(segment(volumes.image("v0")), found.mask("v0"))
    with pytest.raises(PhantomscopeError, match="one of volumes"):
        segment(volumes.image("v0")[0])
    names = {"image": volumes.image("v0")}
    exec(run.loader_snippet("cellpose", tmp_path / "m"), names)
    assert names["labels"].shape == volumes.image("v0").shape


class PointByPoint:
    """Stands for a network that sees nothing but the voxel itself."""

    spec = cellpose3d.flow_network(2, "instance", 0).spec

    def __call__(self, x):
        assert all(side % 8 == 0 for side in x.shape[2:])
        return torch.cat([x, -x, x**2, x - 1], dim=1)


@pytest.mark.parametrize("shape", [(20, 50, 44), (3, 9, 130), (16, 32, 32)])
def test_tiles_are_put_together_where_they_belong(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    unit = to_unit(image, unit_limits(image))
    foreground, found = cellpose3d.predict_flows(image, PointByPoint(), TINY, CPU)
    np.testing.assert_allclose(foreground, unit, atol=1e-5)
    np.testing.assert_allclose(found, [-unit, unit**2, unit - 1], atol=1e-5)


def test_a_damaged_model_is_named(volumes, tmp_path):
    run.train_tool("cellpose", volumes, OPTIONS, folder=tmp_path / "m", seed=1)
    os.truncate(tmp_path / "m/model.pt", 1000)
    with pytest.raises(PhantomscopeError, match="damaged"):
        run.load_tool(tmp_path / "m", OPTIONS)


def test_images_and_volumes_are_not_mixed(volumes, tmp_path):
    with ImageSetWriter(tmp_path / "flat", {}) as writer:
        writer.add("i0", volumes.image("v0")[8], volumes.mask("v0")[8])
    flat = ImageSet.open(tmp_path / "flat")
    both = whole_images(volumes, "synthetic") + whole_images(flat, "annotated")
    with pytest.raises(PhantomscopeError, match="images and volumes"):
        run.train_tool("cellpose", both, OPTIONS, folder=tmp_path / "m", seed=0)


def test_classical_parts_touching_balls_of_flat_voxels():
    labels = balls((12, 48, 48), ((6, 16, 16), (6, 29, 20)), (2.2, 7, 7))
    image = np.where(labels > 0, 1000, 100).astype(np.uint16)
    found = classical.otsu_watershed(image, 0.5, anisotropy=3.0)
    assert found.max() == 2
    assert dice_per_object(labels, found).min() > 0.85


def test_anisotropy_is_told_by_voxel_sizes_or_else_by_the_objects(volumes, tmp_path):
    labels = [volumes.mask("v0")]
    assert common.labelled_anisotropy(labels) == pytest.approx(15 / 7)
    assert common.labelled_anisotropy([labels[0][8]]) == 1
    row = {"pixel_size": 0.5, "pixel_size_z": 2.0}
    known = row | {"axes": "ZYX"}
    assert anisotropy(row_voxel_size(known)) == 4
    for broken in ({"pixel_size_z": np.nan}, {"pixel_size": ""}, {"axes": "YX"}):
        assert anisotropy(row_voxel_size(known | broken)) is None
    for name, columns, options, expected in (
        ("labels", {}, Segment(), 15 / 7),
        ("sizes", row, Segment(), 4),
        ("given", row, Segment(anisotropy=3), 3),
    ):
        images = volume_set(tmp_path / name, 1, **columns)
        folder = tmp_path / f"{name}-model"
        run.train_tool("otsu_watershed", images, options, folder=folder, seed=0)
        found = json.loads((folder / "parameters.json").read_text())
        assert found["anisotropy"] == pytest.approx(expected)

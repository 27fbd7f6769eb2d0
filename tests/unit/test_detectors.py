"""What detectors learn from and begin with; trained ones are in end_to_end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.detecting import lessons, options

from phantomscope.config.detectors import Detectors
from phantomscope.downstream import detectors
from phantomscope.downstream.detector_models import read_weights
from phantomscope.errors import PhantomscopeError


def test_images_are_kept_as_long_as_there_is_room():
    read = []

    def reader(name):
        read.append(name)
        return np.zeros((4, 5), np.float32)

    again = detectors.remembering(reader, 45)
    for name in "abcabc":
        assert again(name).shape == (4, 5)
    assert read == ["a", "b", "c", "c"]


def test_targets_are_as_torchvision_wants_them():
    known = lessons()
    plan = detectors.Schedule(3, options("retinanet", crop=0).retinanet, seed=1)
    images, targets = known.batch(plan, 0, torch.device("cpu"))
    for number, image, target in zip(plan.batch(0), images, targets, strict=True):
        assert image.shape == (3, 64, 64)
        assert (image[0] == image[2]).all()
        corners = known.boxes[f"i{number}"].corners
        assert target["boxes"].shape == (len(corners), 4)
        assert target["boxes"].tolist() == corners[:, [1, 0, 3, 2]].tolist()
        assert target["labels"].dtype == torch.int64


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(PhantomscopeError, match="no such file"):
        read_weights(path)
    path.write_bytes(b"no weights")
    with pytest.raises(PhantomscopeError, match="no weights of torchvision"):
        read_weights(path)
    torch.save({"layer": torch.zeros(2)}, path)
    with pytest.raises(PhantomscopeError, match="called `conv1`"):
        read_weights(path)
    torch.save({"conv1.weight": torch.zeros(2), "fc.weight": torch.ones(1)}, path)
    weights, kind = read_weights(path)
    assert list(weights) == ["backbone.body.conv1.weight"]
    assert kind == "backbone (ImageNet)"


def test_a_damaged_model_is_refused(tmp_path):
    pytest.importorskip("torchvision")
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(PhantomscopeError, match="damaged or of another program"):
        detectors.load(tmp_path, Detectors(), 1)

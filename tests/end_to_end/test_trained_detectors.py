"""Faster R-CNN and RetinaNet, a few steps, where torchvision is installed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.detecting import lessons, options

from phantomscope.downstream import detectors
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.errors import PhantomscopeError
from phantomscope.interrupt import StopRequestedError

pytestmark = pytest.mark.end_to_end

pytest.importorskip("torchvision")

METHODS = ("faster_rcnn", "retinanet")


def train(method, folder, own=None, seed=1, known=None):
    detectors.train(
        method, known or lessons(), own or options(method), folder=folder / "finder",
        state=folder / "state", seed=seed, threads=1, identity={"images": "same"},
    )  # fmt: skip
    return load_checkpoint(folder / "finder" / "model.pt")[0]["network"]


@pytest.mark.parametrize("method", METHODS)
def test_a_detector_trains_and_goes_on_where_it_was_stopped(
    method, tmp_path, monkeypatch
):
    whole = train(method, tmp_path / "whole")
    record = json.loads((tmp_path / "whole/finder/training.json").read_text())
    assert (record["tool"], record["weights"]) == (method, "random")
    assert (record["images"], record["objects"], record["steps"]) == (3, 2, 3)
    lines = (tmp_path / "whole/finder/metrics.jsonl").read_text().splitlines()
    assert np.isfinite(json.loads(lines[-1])["loss"])
    # Stopped after the first step, then taken up.
    with monkeypatch.context() as patch:

        def stop(self, steps=1, note=""):
            raise StopRequestedError("stopped")

        patch.setattr(detectors.Progress, "advance", stop)
        with pytest.raises(StopRequestedError):
            train(method, tmp_path / "parts")
    assert not (tmp_path / "parts/finder").exists()
    parts = train(method, tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    detect = detectors.load(tmp_path / "parts/finder", options(method), 1)
    found = detect(lessons().read("i0"))
    assert 0 < len(found) <= 100
    assert set(found.kinds.tolist()) == {1}
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (found.areas > 0).all()


def test_weights_are_taken_from_a_file_only(tmp_path):
    from torchvision.models import resnet18

    path = tmp_path / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    own = options("retinanet", weights=str(path), epochs=1)
    network = train("retinanet", tmp_path, own)
    first = torch.load(path, weights_only=True)
    # The first stages stay as they were.
    for key in ("conv1.weight", "layer1.0.conv1.weight"):
        assert torch.equal(network[f"backbone.body.{key}"], first[key])
    assert not torch.equal(
        network["backbone.body.layer4.1.conv2.weight"], first["layer4.1.conv2.weight"]
    )
    record = json.loads((tmp_path / "finder/training.json").read_text())
    assert record["weights"] == "backbone (ImageNet)"
    first.pop("layer3.0.conv1.weight")
    torch.save(first, path)
    with pytest.raises(PhantomscopeError, match=r"layer3\.0\.conv1"):
        train("retinanet", tmp_path / "again", own)

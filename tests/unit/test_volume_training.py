"""Training on volumes: patches with depth, and the stage."""

import numpy as np
import pytest
import torch

from phantomscope.config.diffusion import Network, Train
from phantomscope.config.load import make_config
from phantomscope.engine import precision
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.patches import PatchSource
from phantomscope.engine.precision import training_precision
from phantomscope.engine.sample import Sampler
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import NoiseField
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import diffusion

SHAPES = {"deep": (40, 44, 50), "flat": (6, 20, 70)}


def volumes(folder, names=tuple(SHAPES)):
    """Smooth volumes, uint8, brighter with depth."""
    with ImageSetWriter(folder, {}) as writer:
        for name in names:
            shape = SHAPES[name]
            values = 80 + 20 * NoiseField(1, name).block((0, 0, 0), shape)
            values += 2 * np.arange(shape[0])[:, None, None]
            planes = np.clip(values, 0, 255).astype(np.uint8)
            writer.add_volume(
                name, planes, shape, np.dtype(np.uint8), split="train", group=name
            )
    images = ImageSet.open(folder)
    limits = dict.fromkeys(images.ids, (0.0, 200.0))
    return images, Normalisation("dataset", "linear", limits, "uint8")


def test_patches_of_volumes_are_pure_and_the_same_read_by_planes(tmp_path):
    images, scale = volumes(tmp_path / "set")
    assert images.dims == 3
    kept = PatchSource(images, scale, (16, 24, 24), seed=5)
    read = PatchSource(images, scale, (16, 24, 24), seed=5, memory=0)
    for step in (0, 7):
        found = kept.batch(step, 5)
        assert found.shape == (5, 1, 16, 24, 24)
        assert np.array_equal(found, read.batch(step, 5))
    assert not read._cache
    assert not np.array_equal(kept.batch(0, 5), kept.batch(1, 5))


def test_depth_is_never_turned_or_flipped(tmp_path):
    images, scale = volumes(tmp_path / "set", ["deep"])
    source = PatchSource(images, scale, (16, 24, 24), seed=5)
    for step in range(5):
        means = source.batch(step, 4).mean(axis=(1, 3, 4))
        # Brighter with depth, by 2 of 200 a plane, that is 0.02 of the network's range.
        slope = np.polyfit(np.arange(16), means.T, 1)[0]
        assert np.all(np.abs(slope - 0.02) < 0.01)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    images, scale = volumes(folder / "prepared")
    scale.save(folder / "normalisation.json")
    config = make_config({
        "network": {"preset": "small"},
        "train": {"steps": 3, "batch_size": 2, "patch": 16, "patch_depth": 8,
                  "device": "cpu", "checkpoint_every": 2},
        "synthesise": {"steps": 2, "tile": 32, "overlap": 8, "tile_depth": 24,
                       "device": "cpu"},
    })  # fmt: skip
    diffusion.train_diffusion(
        config, prepared=folder / "prepared", model=folder / "model.pt",
        normalisation=folder / "normalisation.json", metrics=folder / "m.jsonl",
        state=folder / "state",
    )  # fmt: skip
    return config, folder, images, scale


def test_a_model_of_volumes_is_trained_and_used(trained):
    config, folder, images, scale = trained
    model = DiffusionModel.load(folder / "model.pt")
    assert model.dims == 3
    everything = np.concatenate(
        [scale.forward(images.image(i), i).ravel() for i in images.ids]
    )
    assert model.value_range == pytest.approx((everything.min(), everything.max()))
    sketch = NoiseField(2, "s").block((0, 0, 0), (20, 30, 26)) / 4
    made = Sampler(model, config.synthesise, 0).from_sketch(sketch, "a", 300)
    assert made.shape == (20, 30, 26)
    assert np.isfinite(made).all()


def test_a_killed_training_on_volumes_gives_the_same_weights(trained, tmp_path):
    config, folder, _, _ = trained
    content = config.model_dump(mode="json")
    inputs = {"prepared": folder / "prepared", "model": tmp_path / "model.pt",
              "normalisation": folder / "normalisation.json",
              "metrics": tmp_path / "m.jsonl", "state": tmp_path / "state"}  # fmt: skip
    original = diffusion.Trainer._step

    def dies(self):
        if self.run.step == 2:
            raise MemoryError("killed")
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion.Trainer, "_step", dies)
        with pytest.raises(MemoryError):
            diffusion.train_diffusion(make_config(content), **inputs)
    diffusion.train_diffusion(make_config(content), **inputs)
    one, two = (
        DiffusionModel.load(p / "model.pt").network.state_dict()
        for p in (folder, tmp_path)
    )
    assert all(bool((one[k] == two[k]).all()) for k in one)


def test_images_and_volumes_do_not_mix(tmp_path):
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("flat", np.zeros((20, 20), np.uint8), split="train")
        deep = np.zeros((4, 20, 20), np.uint8)
        writer.add_volume("deep", deep, deep.shape, deep.dtype, split="train")
    with pytest.raises(PhantomscopeError, match="images and volumes"):
        _ = ImageSet.open(tmp_path / "set").dims


@pytest.mark.parametrize(("depth", "kind"), [(8, "fp32"), (16, "fp32"), (24, "bf16"),
                                             (32, "bf16"), (40, "bf16")])  # fmt: skip
def test_patches_that_become_two_planes_thin_are_trained_in_fp32(
    depth, kind, monkeypatch, capsys
):
    monkeypatch.setattr(precision, "cpu_bf16", lambda: "amx")
    options, network = Train(patch_depth=depth), make_network(Network(), 0, 3)
    cpu = torch.device("cpu")
    assert training_precision(options, network, cpu) == kind
    assert ("planes thin" in capsys.readouterr().out) == (kind == "fp32")
    assert training_precision(options, make_network(Network(), 0, 2), cpu) == "bf16"


def test_gradients_of_volumes_read_no_memory_that_nobody_wrote():
    """What `training_precision` keeps out was seen with patches of 8 and 16 planes."""
    options = Train(patch_depth=24, precision="bf16")
    network = make_network(Network(preset="small"), 0, 3)
    kind = training_precision(options, network, torch.device("cpu"))
    x, t = torch.randn(1, 1, 24, 16, 16), torch.tensor([300])
    found = []
    for _ in range(6):
        poison = [torch.full((n,), torch.inf) for n in range(1000, 60_000, 3000)]
        del poison
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            output = network(x, t)
        torch.autograd.backward(output.float().square().mean())
        found.append([p.grad.clone() for p in network.parameters()])
    for again in found[1:]:
        assert all(map(torch.equal, found[0], again))

"""LPIPS from files as their authors have them, and what it does to training."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from tests.unit.test_latent_stages import CONFIG
from torch.nn import functional

from phantomscope.config.load import make_config
from phantomscope.config.perceptual import LEFT_OUT
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.objective import Denoising
from phantomscope.engine.perceptual import (
    HEADS,
    LEVELS,
    VGG,
    Perceptual,
    count_weights,
)
from phantomscope.engine.process import Process, residual_eta
from phantomscope.errors import PhantomscopeError
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages.translation import open_perceptual, train_translator
from phantomscope.tables.translation_text import _perceptual_notes

# Numbers of the convolutions among torchvision's layers, and where levels end.
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
ENDS = (2, 7, 14, 21, 28)


def random_weights():
    """Weights of random values under the names of both publishers."""
    rng = torch.Generator().manual_seed(0)
    widths = [3, *(width for width, count in LEVELS for _ in range(count))]
    features = {}
    for number, (i, o) in zip(CONVOLUTIONS, itertools.pairwise(widths), strict=True):
        values = torch.randn(o, i, 3, 3, generator=rng) * (2 / (9 * i)) ** 0.5
        features[f"features.{number}.weight"] = values
        features[f"features.{number}.bias"] = torch.randn(o, generator=rng) * 0.01
    # The classifier is part of the file, and of no use here.
    features["classifier.6.bias"] = torch.zeros(1000)
    heads = {
        f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1, generator=rng)
        for n, (width, _) in enumerate(LEVELS)
    }
    return features, heads


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, values in zip((VGG, HEADS), random_weights(), strict=True):
        torch.save(values, folder / name)
    return folder


@pytest.fixture(scope="module")
def lpips(folder):
    return Perceptual.load(folder)


def by_definition(one, other, features, heads):
    """LPIPS of one channel, written down layer by layer."""
    shift, scale = (
        torch.tensor(v)[None, :, None, None]
        for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
    )
    states = [(x.expand(-1, 3, -1, -1) - shift) / scale for x in (one, other)]
    total = 0
    for number in CONVOLUTIONS:
        w, b = (features[f"features.{number}.{n}"] for n in ("weight", "bias"))
        states = [functional.conv2d(x, w, b, padding=1).relu() for x in states]
        if number in ENDS:
            a, b = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in states)
            head = heads[f"lin{ENDS.index(number)}.model.1.weight"]
            total += functional.conv2d((a - b) ** 2, head).mean(dim=(1, 2, 3))
            states = [functional.max_pool2d(x, 2) for x in states]
    return total


def images(*shape):
    rng = torch.Generator().manual_seed(1)
    return torch.rand(2, *shape, generator=rng) * 2 - 1


def test_it_has_as_many_weights_as_published(lpips):
    features, heads = count_weights()
    assert (features, heads) == (14_714_688, 1_472)
    assert sum(p.numel() for p in lpips.parameters()) == features + heads


def test_it_is_the_mean_over_channels_of_the_definition(lpips):
    one, other = images(2, 3, 32, 32)
    expected = torch.stack([
        by_definition(one[:, c : c + 1], other[:, c : c + 1], *random_weights())
        for c in range(3)
    ])  # fmt: skip
    assert float(lpips(one, other)) == pytest.approx(float(expected.mean()), rel=1e-4)
    assert float(lpips(one, one)) == 0
    assert float(lpips(one, other)) == pytest.approx(float(lpips(other, one)))


def test_a_prediction_learns_from_it_and_its_weights_do_not(lpips):
    dark, other = images(1, 2, 32, 32)
    dark = torch.full_like(dark, -1).requires_grad_()
    lpips(dark, other).backward()
    assert torch.isfinite(dark.grad).all()
    assert dark.grad.abs().max() > 0
    assert all(p.grad is None for p in lpips.parameters())


def test_it_is_added_to_the_other_error(lpips):
    process = Process.residual_shift(residual_eta(4, 0.01, 0.98, 0.3), 2.0)
    output, target = images(1, 2, 32, 32)
    t = torch.tensor([1])
    plain = Denoising(process).loss(output, t, target)
    both = Denoising(process, perceptual=lpips, perceptual_weight=0.5)
    far = lpips(output, target)
    assert float(far) > 0.01
    assert float(both.loss(output, t, target)) == pytest.approx(float(plain + far / 2))
    noise = Process.gaussian(np.linspace(0.9, 0.1, 10))
    with pytest.raises(PhantomscopeError, match="error is one of images"):
        Denoising(noise, perceptual=lpips)


def wanted(folder, weight=1.0):
    return {"weight": weight, "weights": None if folder is None else str(folder)}


def config_with(perceptual):
    options = {**CONFIG["translate"], "methods": ["cellresdm", "unet"],
               "overrides": {"cellresdm": {"process": {"timesteps": 2}}},
               "perceptual": perceptual}  # fmt: skip
    return make_config({**CONFIG, "translate": options})


def test_training_takes_it_where_its_weights_are(folder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    with ImageSetWriter(tmp_path / "pairs", {}) as writer:
        for n in range(2):
            pixels = rng.integers(0, 65535, (4, 40, 40), np.uint16)
            writer.add(f"i{n}", pixels, channels=4, split="train", group=f"g{n}")
    models = {}
    for name, given in {"with": folder, "without": None}.items():
        place = tmp_path / name
        place.mkdir()
        config = config_with(wanted(given))
        train_translator(
            config, pairs=tmp_path / "pairs", model=place / "model.pt",
            metrics=place / "metrics.jsonl", state=place / "state", method="cellresdm",
        )  # fmt: skip
        models[name] = DiffusionModel.load(place / "model.pt").network.state_dict()
        # What was left out is said, in the log and beside the tables.
        told = LEFT_OUT in capsys.readouterr().err
        assert told == (given is None) == bool(_perceptual_notes(config))
    assert any(
        not torch.equal(value, models["with"][name])
        for name, value in models["without"].items()
    )


def test_it_belongs_to_residual_diffusion_and_has_to_be_asked_for(folder):
    assert open_perceptual(config_with(wanted(folder)), "cellresdm") is not None
    assert open_perceptual(config_with(wanted(folder)), "unet") is None
    none = config_with(wanted(None, 0))
    assert open_perceptual(none, "cellresdm") is None
    assert _perceptual_notes(none) == []


class Runs:
    """What a pickle would run."""

    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(("name", "content", "said"), [
    (VGG, None, "are not here"),
    (HEADS, None, "are not here"),
    (VGG, b"no weights", "damaged or holds other weights"),
    (HEADS, pickle.dumps(Runs(), 2), "damaged or holds other weights"),
    (HEADS, {"lin0.model.1.weight": torch.ones(1, 64, 1, 1)}, "lin1.model.1.weight"),
    (HEADS, {"lin0.weight": torch.ones(1)}, "has no 'lin0.model.1.weight'"),
    (HEADS, {"lin0.model.1.weight": torch.full((1, 64, 1, 1), torch.nan)}, "no finite"),
])  # fmt: skip
def test_other_files_are_refused(folder, tmp_path, capsys, name, content, said):
    for own in (VGG, HEADS):
        (tmp_path / own).hardlink_to(folder / own)
    (tmp_path / name).unlink()
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(PhantomscopeError, match=said) as caught:
        Perceptual.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "must not run" not in capsys.readouterr().out

"""The sampler on images and volumes: any division gives the same values."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from phantomscope.config.diffusion import Network
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.fields import FileField, MemoryField
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.process import (
    Process,
    cosine_alpha_bar,
    residual_eta,
    zero_terminal_snr,
)
from phantomscope.engine.sample import Sampler
from phantomscope.engine.unet import UNet
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import NoiseField

COSINE = Process.gaussian(cosine_alpha_bar(1000))
SAMPLERS = ("ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m")


def model(dims=2, process=COSINE, conditions=0, **network) -> DiffusionModel:
    config = Network(**({"preset": "small", "norm": "channel"} | network))
    made = make_network(config, 0, dims, conditions=conditions).eval()
    return DiffusionModel(
        made, process, (-1.5, 1.5), config.noise_channel, {"fingerprint": "f"}
    )


def options(**changes) -> Synthesise:
    small = {"steps": 3, "tile": 32, "overlap": 8, "tile_depth": 24,
             "overlap_depth": 8, "micro_batch": 2, "device": "cpu",
             "precision": "fp32"}  # fmt: skip
    return Synthesise(**(small | changes))


def options_of(dims: int, **changes) -> Synthesise:
    # Volumes are narrower than these tiles, and half of the work.
    return options(**({"tile": 24} if dims == 3 else {}), **changes)


def sketch(shape) -> np.ndarray:
    return np.tanh(NoiseField(1, "sketch").block((0,) * len(shape), shape)) / 2


SHAPES = {2: (44, 50), 3: (26, 20, 22)}


WAYS = [
    *((2, fusion, sampler) for fusion in ("per_step", "final") for sampler in SAMPLERS),
    *((3, "per_step", sampler) for sampler in SAMPLERS),
    (3, "final", "sde_dpmpp_2m"),  # with noise, and of second order
]


@pytest.mark.parametrize(("dims", "fusion", "sampler"), WAYS)
def test_a_stream_gives_what_the_memory_gives(dims, fusion, sampler, tmp_path):
    config = options_of(dims, fusion=fusion, sampler=sampler)
    flat, made = sketch(SHAPES[dims]), model(dims)
    whole = Sampler(made, config, 5).from_sketch(flat, "a", 300)
    asked = []

    def rows(first, stop):
        asked.append(stop - first)
        return flat[None, first:stop]

    field = Sampler(made, config, 5).stream(rows, flat.shape, "a", 300, tmp_path)
    streamed = field.read(0, flat.shape[0])[0].numpy()
    assert np.array_equal(whole, streamed)
    assert np.isfinite(whole).all()
    assert whole.std() > 0
    assert max(asked) <= 16  # it never asks for all of the sketch
    if dims == 3 and sampler != "ddpm":
        return  # what follows is slow there, and the same code
    ways = ((1, 5, True), (7, 5, True), (2, 6, False))
    # A volume of two tiles: all at once is what 7 does.
    for micro_batch, seed, same in ways if dims == 2 else (ways[0], ways[2]):
        other = config.model_copy(update={"micro_batch": micro_batch})
        found = Sampler(made, other, seed).from_sketch(flat, "a", 300)
        assert (float(np.abs(found - whole).max()) < 1e-4) == same


@pytest.mark.parametrize("fusion", ["per_step", "final"])
def test_a_volume_that_was_killed_midway_ends_the_same(fusion, tmp_path, monkeypatch):
    flat, made = sketch(SHAPES[3]), model(3)
    config = options(fusion=fusion, sampler="sde_dpmpp_2m")
    whole = Sampler(made, config, 5).from_sketch(flat, "a", 300)

    class KilledError(Exception):
        pass

    def run(most=None):
        sampler = Sampler(made, config, 5)
        evaluate, count = sampler._predict, itertools.count(1)

        def predict(*given):
            if most is not None and next(count) > most:
                raise KilledError
            return evaluate(*given)

        monkeypatch.setattr(sampler, "_predict", predict)
        field = sampler.stream(
            lambda a, b: flat[None, a:b], flat.shape, "a", 300, tmp_path
        )
        return field.read(0, flat.shape[0])[0].numpy()

    kills = 0
    while True:
        try:
            found = run(most=7)
            break
        except KilledError:
            kills += 1
            assert kills < 20, "it does not go forward"
    assert kills >= 2
    assert np.array_equal(found, whole)
    # Finished: asked again, it does nothing.
    assert np.array_equal(run(most=0), whole)


def test_states_of_another_image_or_lost_ones_are_not_used(tmp_path):
    flat, made, config = sketch((44, 50)), model(), options()

    def run(identifier, seed=5):
        field = Sampler(made, config, seed).stream(
            lambda a, b: flat[None, a:b], flat.shape, identifier, 300, tmp_path
        )
        return field.read(0, 44)[0].numpy()

    first = run("a")
    assert not np.array_equal(run("b"), first)
    assert np.array_equal(run("a"), first)
    (tmp_path / "state-1.raw").unlink()
    assert np.array_equal(run("a"), first)
    (tmp_path / "next.json").write_text("{")
    assert np.array_equal(run("a"), first)


@pytest.mark.parametrize("damage", [b"", b"no archive", b"PK\3\4 cut short"])
def test_damaged_sums_are_made_again(damage, tmp_path):
    flat, config = sketch((90, 40)), options(micro_batch=1)
    sampler = Sampler(model(), config, 5)
    whole = sampler.from_sketch(flat, "a", 300)

    class KilledError(Exception):
        pass

    def rows(first, stop):
        return flat[None, first:stop]

    evaluate, count = sampler._predict, itertools.count()

    def predict(*given):
        if next(count) == 12:
            raise KilledError
        return evaluate(*given)

    sampler._predict = predict
    with pytest.raises(KilledError):
        sampler.stream(rows, flat.shape, "a", 300, tmp_path)
    (sums,) = tmp_path.glob("carry-*.npz")
    sums.write_bytes(damage)
    again = Sampler(model(), config, 5).stream(rows, flat.shape, "a", 300, tmp_path)
    assert np.array_equal(again.read(0, 90)[0].numpy(), whole)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_tile_size_changes_only_what_the_network_sees_as_context(dims, sampler):
    """A network of one pixel has no context: any tiling gives the same values."""
    made = model(dims)
    conv = torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d

    class Pointwise(UNet):
        def __init__(self):
            super().__init__(made.network.spec)
            self.layer = conv(1, 1, 1)

        def predict(self, x, embedding):
            return 0.3 * self.layer(x)

    alone = DiffusionModel(Pointwise(), COSINE, (-1, 1), False, made.meta)
    shape = SHAPES[dims]
    found = [
        Sampler(alone, options(sampler=sampler, tile=tile, fusion=fusion,
                               window=window), 0).from_sketch(sketch(shape), "a", 400)
        for tile in (24, 32, 64)
        for fusion in ("per_step", "final")
        for window in ("cosine", "edt")
    ]  # fmt: skip
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-5)


def test_from_noise_with_zero_terminal_snr():
    process = Process.gaussian(zero_terminal_snr(cosine_alpha_bar(1000)), "v")
    found = Sampler(model(process=process), options(), 0).unconditional((40, 48), "a")
    assert found.shape == (40, 48)
    assert np.isfinite(found).all()
    # The same from a sketch that is noised until nothing is left of it.
    other = Sampler(model(process=process), options(), 0).from_sketch(
        np.ones((40, 48), np.float32), "a", 1000
    )
    np.testing.assert_allclose(found, other, atol=1e-6)


def test_a_condition_is_seen_where_it_is():
    made = model(conditions=1)
    flat = sketch((40, 72))
    other = flat.copy()
    other[:, 60:] += 1.0
    first, second = (
        Sampler(made, options(tile=24), 0).unconditional((40, 72), "a", c[None])
        for c in (flat, other)
    )
    assert not np.allclose(first, second)
    # Tiles that see none of the change stay the same after one step.
    one = [
        Sampler(made, options(tile=24, steps=1), 0).unconditional(
            (40, 72), "a", c[None]
        )
        for c in (flat, other)
    ]
    assert np.array_equal(one[0][:, :32], one[1][:, :32])


def test_the_residual_shift_starts_from_its_condition():
    process = Process.residual_shift(residual_eta(4, 1e-3, 0.99), 2.0)
    made = model(process=process, conditions=1)
    condition = sketch((40, 48))[None]
    config = options(sampler="ddpm", steps=4)
    found = Sampler(made, config, 0).unconditional((40, 48), "a", condition)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("fusion", ["per_step", "final"])
def test_one_step_from_a_condition_is_what_the_network_gives(fusion):
    made = model(process=Process.one_step(), conditions=1)
    made = replace(made, value_range=(-9.0, 9.0))
    condition = sketch((40, 48))[None]
    # One tile is the whole image.
    config = options(sampler="ddpm", steps=1, tile=48, overlap=0, fusion=fusion)
    found = Sampler(made, config, 0).unconditional((40, 48), "a", condition)
    seen = torch.from_numpy(np.concatenate([condition, condition]))[None]
    with torch.inference_mode():
        wanted = made.network(seen, torch.tensor([1]))[0, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_an_image_does_not_fit_a_model_of_volumes():
    with pytest.raises(PhantomscopeError, match="3D images"):
        Sampler(model(3), options(), 0).from_sketch(sketch((40, 40)), "a", 100)


@pytest.mark.parametrize("shape", [(7, 5), (9, 4, 6)])
def test_fields_in_files_and_in_memory_hold_the_same(shape, tmp_path):
    device = torch.device("cpu")
    file = FileField(tmp_path / "a/x.raw", 2, shape, device)
    memory = MemoryField(2, shape, device)
    values = torch.randn(2, *shape)
    for field in (file, memory):
        field.write(0, values[:, :3])
        field.write(3, values[:, 3:])
    assert file.fresh
    for first, stop in ((0, shape[0]), (2, 5), (4, 4)):
        assert torch.equal(file.read(first, stop), values[:, first:stop])
        assert torch.equal(memory.read(first, stop), values[:, first:stop])
    again = FileField(tmp_path / "a/x.raw", 2, shape, device)
    assert not again.fresh
    assert torch.equal(again.read(0, shape[0]), values)

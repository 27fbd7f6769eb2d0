"""The trainer: learning, resume, guards, micro-batches, checkpoints."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from phantomscope.config.diffusion import Network, Train
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.checkpoint import (
    fingerprint,
    load_checkpoint,
    save_checkpoint,
)
from phantomscope.engine.loader import Prefetcher
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import build_network, make_network, preset_spec
from phantomscope.engine.optimise import learning_rate, make_optimiser
from phantomscope.engine.patches import PatchSource, dihedral
from phantomscope.engine.precision import pick_device, pick_precision
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.engine.sample import Sampler
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import ImageSetWriter

PROCESS = Process.gaussian(cosine_alpha_bar(1000))
SMALL = Network(preset="small")


def batch(step: int, size: int) -> np.ndarray:
    """Stripes of random phase: something that can be learnt in a few steps."""
    rng = generator("stripes", step)
    phase = rng.uniform(0, 6, (size, 1, 1, 1))
    x = np.arange(16) * 0.8
    return np.broadcast_to(np.sin(x + phase), (size, 1, 16, 16)).astype(np.float32)


def trainer(state, source=batch, identity=None, network=None, **changes) -> Trainer:
    options = Train(
        **({"steps": 12, "batch_size": 4, "patch": 16, "warmup": 2, "threads": 1,
            "checkpoint_every": 4, "precision": "fp32", "device": "cpu"} | changes)
    )  # fmt: skip
    return Trainer(
        network or make_network(SMALL, 0), PROCESS, source, options, seed=0,
        noise_channel=False, identity=identity or {"a": 1}, state=state,
    )  # fmt: skip


def weights(t: Trainer) -> torch.Tensor:
    return torch.cat([v.flatten() for v in t.run.average.values()])


def test_loss_falls(tmp_path):
    t = trainer(tmp_path / "state", steps=40, checkpoint_every=10)
    t.train()
    lines = [json.loads(x) for x in t.metrics_file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]


def test_stopped_and_resumed_equals_undisturbed(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    calls = 0

    def failing(step, size):
        nonlocal calls
        calls += 1
        if calls == 7:
            raise RuntimeError("power cut")
        return batch(step, size)

    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path / "cut", failing).train()
    again = trainer(tmp_path / "cut")
    again.train()
    assert torch.equal(weights(whole), weights(again))
    steps = [json.loads(x)["step"] for x in again.metrics_file.read_text().splitlines()]
    assert steps == [4, 8, 12]


def test_micro_batches_do_not_change_the_result_beyond_rounding(tmp_path):
    whole, parts = trainer(tmp_path / "a"), trainer(tmp_path / "b", micro_batch=1)
    assert float(whole._step()) == pytest.approx(float(parts._step()), rel=1e-5)
    for a, b in zip(
        whole.run.network.parameters(), parts.run.network.parameters(), strict=True
    ):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
     RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")],
)  # fmt: skip
def test_out_of_memory_halves_the_micro_batch_and_repeats_the_step(
    tmp_path, capsys, error
):
    whole, short = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    network, sizes = short.network, []

    def narrow(x, t):
        sizes.append(len(x))
        if len(x) > 1:
            raise error
        return network(x, t)

    short.network = narrow
    assert float(whole._step()) == pytest.approx(float(short._step()), rel=1e-5)
    assert sizes == [4, 2, 1, 1, 1, 1]
    for a, b in zip(
        whole.run.network.parameters(), short.run.network.parameters(), strict=True
    ):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-3)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert said[1].endswith("the step is repeated, 1 of 4 patches at a time.")


def test_when_not_even_one_patch_fits_it_says_so(tmp_path):
    def full(x, t):
        raise MemoryError

    t = trainer(tmp_path)
    t.network = full
    with pytest.raises(PhantomscopeError, match="not even one patch"):
        t._step()


def test_losses_read_late_do_not_change_training_nor_save_a_bad_state(tmp_path):
    prompt, late = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    late._read_every = 10
    prompt.train()
    late.train()
    assert torch.equal(weights(prompt), weights(late))

    def broken(step, size):
        return batch(step, size) * (np.nan if step == 6 else 1)

    bad = trainer(tmp_path / "c", broken)
    bad._read_every = 10
    with pytest.raises(PhantomscopeError, match=r"loss is nan.* at step 6"):
        bad.train()
    assert load_checkpoint(tmp_path / "c/state.pt")[1]["step"] == 4


def tiny():
    spec = preset_spec("small", norm="channel")
    spec = replace(spec, encoder=[(4, 8), (8, 16)], decoder=[(8, 8)], head=(8,))
    return build_network(spec, 0)


def test_compiled_training_gives_the_same_and_resumes_bit_for_bit(tmp_path, capsys):
    options = {"steps": 4, "checkpoint_every": 2}
    plain = trainer(tmp_path / "plain", network=tiny(), **options)
    whole = trainer(tmp_path / "whole", network=tiny(), compile="always", **options)
    assert plain.mark != whole.mark
    plain.train()
    whole.train()
    assert "not compiled" not in capsys.readouterr().err
    torch.testing.assert_close(weights(whole), weights(plain), atol=1e-4, rtol=1e-3)

    def failing(step, size):
        if step == 3:
            raise RuntimeError("power cut")
        return batch(step, size)

    with pytest.raises(RuntimeError, match="power cut"):
        trainer(
            tmp_path / "cut", failing, network=tiny(), compile="always", **options
        ).train()
    again = trainer(tmp_path / "cut", network=tiny(), compile="always", **options)
    again.train()
    assert torch.equal(weights(whole), weights(again))


def test_long_trainings_are_compiled_whatever_the_clock_says(tmp_path):
    long = {"steps": 10_000_000, "patch": 64}
    assert not trainer(tmp_path, **long).compiled
    assert not trainer(tmp_path, compile="auto").compiled
    assert trainer(tmp_path, compile="always").compiled
    assert trainer(tmp_path, compile="auto", **long).compiled
    assert not trainer(tmp_path, compile="never", **long).compiled


@pytest.mark.parametrize(
    ("options", "size"),
    [({"compile": "never"}, 12), ({}, 4), ({"patch": 256}, 1), ({"patch": 512}, 1),
     ({"micro_batch": 6}, 6), ({"patch": 16}, 12)],
)  # fmt: skip
def test_compiled_kernels_of_a_cpu_take_what_caches_hold(tmp_path, options, size):
    options = {"batch_size": 12, "patch": 128, "compile": "always"} | options
    assert trainer(tmp_path, **options).micro_batch == size


def test_batches_ahead_are_those_of_their_steps():
    made = []

    def prepare(step):
        made.append(step)
        return (torch.full((2,), step),)

    batches = Prefetcher(prepare, 6, torch.device("cpu"), threads=1)
    for step in (0, 1, 4, 5):  # out of order, too
        assert batches.get(step)[0].tolist() == [step, step]
    batches.close()
    assert sorted(made) == [0, 1, 2, 4, 5]


def test_state_of_another_config_is_set_aside(tmp_path, capsys):
    trainer(tmp_path).train()
    other = trainer(tmp_path, identity={"a": 2})
    assert other.resume() == 0
    assert "belongs to another config" in capsys.readouterr().out
    assert (tmp_path / "superseded-0.pt").exists()
    assert other.metrics_file.read_text() == ""


def test_a_state_cut_short_is_set_aside_and_said(tmp_path, capsys):
    trainer(tmp_path).train()
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:2000])
    assert trainer(tmp_path).resume() == 0
    assert "damaged" in capsys.readouterr().out


def test_what_was_being_saved_when_it_was_killed_does_not_stay(tmp_path):
    torn = tmp_path / ".state.pt.0123abcd.partial"
    torn.write_bytes(b"torn")
    trainer(tmp_path).train()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "state.pt"]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_state(tmp_path):
    def broken(step, size):
        return batch(step, size) * (np.nan if step == 6 else 1)

    with pytest.raises(PhantomscopeError, match=r"loss is nan.* at step 6"):
        trainer(tmp_path, broken).train()
    assert load_checkpoint(tmp_path / "state.pt")[1]["step"] == 4


def test_learning_rate_warms_up_and_falls():
    options = Train(steps=100, warmup=10, decay=0.5, learning_rate=1.0)
    rates = [learning_rate(options, s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[50] == 1
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("radam", torch.optim.RAdam), ("adamw", torch.optim.AdamW),
     ("adam", torch.optim.Adam)],
)  # fmt: skip
def test_optimisers(name, kind):
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    assert isinstance(make_optimiser(Train(optimiser=name), parameters), kind)


def test_device_and_precision():
    assert pick_device("cpu").type == "cpu"
    assert pick_precision("fp32", torch.device("cpu")) == "fp32"
    assert pick_precision("auto", torch.device("cpu")) in ("fp32", "bf16")
    if not torch.cuda.is_available():
        with pytest.raises(PhantomscopeError, match="no usable GPU"):
            pick_device("cuda")


def test_without_average_the_weights_themselves_are_kept(tmp_path):
    t = trainer(tmp_path, ema=0)
    t._step()
    for name, value in t.run.network.state_dict().items():
        torch.testing.assert_close(t.run.average[name], value)


@pytest.mark.parametrize("optimiser", ["radam", "adam"])
def test_noise_channel_and_other_optimisers_train(tmp_path, optimiser):
    options = Train(steps=2, batch_size=2, optimiser=optimiser, precision="bf16")
    network = make_network(SMALL.model_copy(update={"noise_channel": True}), 0)
    t = Trainer(
        network, PROCESS, batch, options, seed=0, noise_channel=True, identity={},
        state=tmp_path,
    )  # fmt: skip
    t.train()
    assert t.run.step == 2


def saved_model(tmp_path, **network) -> DiffusionModel:
    config = SMALL.model_copy(update=network)
    t = Trainer(
        make_network(config, 0), PROCESS, batch, Train(steps=1, batch_size=2), seed=0,
        noise_channel=config.noise_channel, identity={}, state=tmp_path / "s",
    )  # fmt: skip
    t.train()
    about = {
        "network": config.model_dump(),
        "process": {"schedule": "cosine"},
        "value_range": [-1, 1],
    }
    t.save_model(tmp_path / "model.pt", about)
    return DiffusionModel.load(tmp_path / "model.pt")


@pytest.mark.parametrize("noise_channel", [False, True])
@pytest.mark.parametrize("fusion", ["per_step", "final"])
def test_sampler_gives_an_image_of_any_size(tmp_path, noise_channel, fusion):
    model = saved_model(tmp_path, noise_channel=noise_channel)
    sketch = np.zeros((50, 83), np.float32)
    config = Synthesise(steps=3, tile=48, overlap=8, fusion=fusion, sampler="ddpm")
    one = Sampler(model, config, 0).from_sketch(sketch, "a", 200)
    assert one.shape == sketch.shape
    assert np.isfinite(one).all()
    again = Sampler(model, config, 0).from_sketch(sketch, "a", 200)
    assert np.array_equal(one, again)
    other = Sampler(model, config, 0).from_sketch(sketch, "b", 200)
    assert not np.array_equal(one, other)
    assert np.abs(one).max() <= 1.0


def test_a_model_of_another_kind_is_refused(tmp_path):
    saved_model(tmp_path)
    tensors, meta = load_checkpoint(tmp_path / "model.pt")
    meta["network"]["preset"] = "eschweiler"
    save_checkpoint(tmp_path / "other.pt", tensors, meta)
    with pytest.raises(PhantomscopeError, match="no diffusion model") as caught:
        DiffusionModel.load(tmp_path / "other.pt")
    assert "other.pt" in str(caught.value)


def test_checkpoint_round_trip(tmp_path):
    tensors = {"a": torch.arange(3), "b": {"c": torch.ones(2, 2)}}
    save_checkpoint(tmp_path / "c.pt", tensors, {"step": 3})
    got, meta = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(got["b"]["c"], torch.ones(2, 2))
    assert meta == {"step": 3}
    assert not list(tmp_path.glob(".*partial"))
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_dihedral_elements_are_all_different_and_invertible():
    image = np.arange(9).reshape(3, 3)
    found = {dihedral(image, e).tobytes() for e in range(8)}
    assert len(found) == 8
    assert np.array_equal(dihedral(image, 0), image)


def test_patches_are_a_pure_function_and_reflect_small_images(tmp_path):
    rng = np.random.default_rng(0)
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("large", rng.integers(0, 200, (60, 70)).astype(np.uint8))
        writer.add("small", rng.integers(0, 200, (20, 20)).astype(np.uint8))
    images = ImageSet.open(tmp_path / "set")
    limits = dict.fromkeys(images.ids, (0.0, 200.0))
    scale = Normalisation("dataset", "linear", limits, "uint8")
    source = PatchSource(images, scale, (32, 32), seed=5)
    fresh = PatchSource(images, scale, (32, 32), seed=5, memory=0)
    for step in (0, 9, 3):
        a, b = source.batch(step, 6), fresh.batch(step, 6)
        assert a.shape == (6, 1, 32, 32)
        assert np.array_equal(a, b)
    assert not np.array_equal(source.batch(0, 6), source.batch(1, 6))
    plain = PatchSource(images, scale, (32, 32), seed=5, augment=False)
    assert not np.array_equal(plain.batch(0, 6), source.batch(0, 6))
    flipped = PatchSource(images, scale, (32, 32), seed=5, symmetries="flip")
    turns = 0
    for step in range(4):
        for patch, alone in zip(
            flipped.batch(step, 6), plain.batch(step, 6), strict=True
        ):
            mirrored = np.array_equal(patch, alone[..., ::-1])
            assert mirrored or np.array_equal(patch, alone)
            turns += mirrored
    assert 4 < turns < 20

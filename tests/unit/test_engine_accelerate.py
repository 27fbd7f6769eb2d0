"""Fast evaluation: the answers are those of the network, and what it says and picks."""

from dataclasses import replace

import pytest
import torch
from test_engine_presets import ALL, awake, image, slim

from phantomscope.engine import accelerate
from phantomscope.engine.accelerate import (
    Evaluator,
    SortedShuffle,
    should_compile,
    shuffle_order,
    sort_shuffles,
    to_device,
    with_sorted_shuffles,
)
from phantomscope.engine.blocks import PixelShuffle
from phantomscope.engine.compiling import COMPILE_SECONDS, SAVED_SECONDS_PER_PIXEL
from phantomscope.engine.precision import cpu_bf16, pick_precision
from phantomscope.errors import PhantomscopeError

CPU = torch.device("cpu")
T = torch.tensor([3, 700])
every_network = pytest.mark.parametrize(("preset", "dims"), ALL)


def plain(network, x, t=T):
    with torch.inference_mode():
        return network(x, t)


def difference(a, b):
    """Root mean square, relative to the contrast."""
    return float((a - b).square().mean().sqrt() / b.std())


@every_network
def test_fp32_is_what_the_network_gives(preset, dims):
    spec = slim(preset, dims)
    network, x = awake(spec), image(spec)
    got = Evaluator(network, CPU)(x, T)
    assert got.dtype == torch.float32
    assert difference(got, plain(network, x)) < 1e-5
    assert torch.equal(got[:1], plain(network, x[:1], T[:1]))


@every_network
def test_bf16_is_as_near_it_as_autocast(preset, dims):
    spec = slim(preset, dims)
    network, x = awake(spec), image(spec)
    got, wanted = Evaluator(network, CPU, "bf16")(x, T), plain(network, x)
    with torch.autocast("cpu", torch.bfloat16):
        torchs = plain(network, x).float()
    assert got.dtype == torch.float32
    assert difference(got, wanted) < min(0.1, 1.1 * difference(torchs, wanted))
    assert next(network.parameters()).dtype == torch.float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_micro_batch_does_not_matter_in_any_bit(precision):
    spec = slim("small", norm="channel")
    evaluator, x = Evaluator(awake(spec), CPU, precision), image(spec, count=5)
    t = torch.tensor([3, 700, 1, 1000, 250])
    whole = evaluator(x, t)
    parts = [evaluator(x[i : i + n], t[i : i + n]) for i, n in ((0, 1), (1, 3), (4, 1))]
    assert torch.equal(whole, torch.cat(parts))


def test_conditions_and_wrong_input_are_treated_as_by_the_network():
    spec = slim("small", conditions=2)
    network, x = awake(spec), image(spec)
    evaluator = Evaluator(network, CPU)
    got = evaluator(x[:, :1], T, x[:, 1:])
    torch.testing.assert_close(got, plain(network, x), atol=1e-4, rtol=1e-4)
    with pytest.raises(PhantomscopeError, match="takes 3 channels"):
        evaluator(x[:, :1], T)
    with pytest.raises(PhantomscopeError, match="needs a time"):
        evaluator(x)


@pytest.mark.parametrize("dims", [2, 3])
def test_sorted_channels_shuffle_to_the_same_image(dims):
    x = torch.randn(2, 3 * 2**dims, *(4, 6, 2)[:dims])
    order = shuffle_order(x.shape[1], dims)
    assert torch.equal(SortedShuffle(dims)(x[:, order]), PixelShuffle(dims)(x))


@pytest.mark.parametrize("norm", ["channel", "instance", "group", "none"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_with_sorted_shuffles_is_the_same(norm, dims):
    spec = slim("small", dims, norm=norm)
    network, x = awake(spec), image(spec)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:  # every PReLU has slopes of its own
                parameter += 0.1 * torch.randn_like(parameter)
    wanted = plain(network, x)
    sort_shuffles(network)
    kinds = [type(layer) for layer in network.modules()]
    assert kinds.count(SortedShuffle) == (0 if norm == "group" else 3)
    torch.testing.assert_close(plain(network, x), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["channel", "instance", "group"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_twin_with_sorted_shuffles_learns_the_same(norm, dims):
    spec = slim("small", dims, norm=norm)
    network, x = awake(spec), image(spec)
    twin = with_sorted_shuffles(network)
    assert [id(p) for p in twin.parameters()] == [id(p) for p in network.parameters()]
    gradients = []
    for each in (network, twin):
        network.zero_grad()
        torch.autograd.backward(each(x, T).square().mean())
        gradients.append([p.grad.clone() for p in network.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def without_compiler(*_):
    raise RuntimeError("no C++ compiler\nfound")


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(
        "torch._inductor.cpp_builder.get_cpp_compiler", without_compiler
    )
    spec = slim("small")
    network, x = awake(spec), image(spec)
    evaluator = Evaluator(network, CPU, compiled=True)
    assert not evaluator.compiled
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not compiled (no C++ compiler found)" in said
    torch.testing.assert_close(evaluator(x, T), plain(network, x), atol=1e-4, rtol=1e-4)


def test_when_compilation_fails_it_says_so_and_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: without_compiler)
    spec = slim("small")
    network, x = awake(spec), image(spec)
    evaluator = Evaluator(network, CPU, compiled=True)
    assert evaluator.compiled
    got = evaluator(x, T)
    assert not evaluator.compiled
    assert capsys.readouterr().err.count("not compiled (no C++ compiler found)") == 1
    torch.testing.assert_close(got, plain(network, x), atol=1e-4, rtol=1e-4)


def tiny(seed):
    spec = slim("small", norm="instance")
    spec = replace(spec, encoder=[(4, 8), (8, 16)], decoder=[(8, 8)], head=(8,))
    return awake(spec, seed), image(spec)


def test_compiled_it_gives_the_same(capsys):
    network, x = tiny(0)
    evaluator = Evaluator(network, CPU, compiled=True)
    got = evaluator(x, T)
    assert capsys.readouterr().err == ""
    assert evaluator.compiled
    torch.testing.assert_close(got, plain(network, x), atol=1e-4, rtol=1e-4)
    assert torch.equal(evaluator(x[1:], T[1:]), got[1:])
    # Kernels are kept on the disk: those of another network's weights must not come.
    other, _ = tiny(1)
    got = Evaluator(other, CPU, compiled=True)(x, T)
    torch.testing.assert_close(got, plain(other, x), atol=1e-4, rtol=1e-4)


def test_compilation_pays_from_a_number_of_pixels_on():
    pixels = 256 * 256
    enough = int(COMPILE_SECONDS / SAVED_SECONDS_PER_PIXEL / pixels)
    assert not should_compile(enough - 1, pixels)
    assert should_compile(enough + 1, pixels)
    assert not should_compile(0, pixels)


@pytest.mark.parametrize(
    ("amx", "avx", "name"),
    [(True, True, "amx"), (False, True, "avx512_bf16"), (False, False, ""),
     (None, None, "")],
)  # fmt: skip
def test_bf16_of_the_processor(monkeypatch, amx, avx, name):
    for test, answer in (("amx_tile", amx), ("avx512_bf16", avx)):
        if answer is None:
            monkeypatch.delattr(torch.cpu, f"_is_{test}_supported", raising=False)
        else:
            monkeypatch.setattr(
                torch.cpu, f"_is_{test}_supported", lambda a=answer: a, raising=False
            )
    assert cpu_bf16() == name
    assert pick_precision("auto", CPU) == ("bf16" if name else "fp32")
    assert pick_precision("fp32", CPU) == "fp32"


def test_to_device_leaves_the_cpu_alone():
    network, _ = tiny(0)
    assert to_device(network, CPU) is network
    assert accelerate.channels_last(3) is torch.channels_last_3d

"""Our samplers give the images of other libraries; skipped where these are missing."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import pytest
import torch
from benchmarks import __main__ as benchmarks
from benchmarks import peer_pipelines, peers
from benchmarks.table import Row

from phantomscope.engine.networks import UNet, count_parameters

SIZE, TOLERANCE = 32, 1e-4


@pytest.fixture(scope="module")
def network() -> UNet:
    return peer_pipelines.shared_network()


@pytest.fixture(scope="module")
def installed() -> dict[str, ModuleType]:
    return peer_pipelines.load_peers()[0]


def _need(installed: dict[str, ModuleType], peer: str) -> None:
    if peer not in installed:
        name = peer_pipelines.PEERS[peer]
        pytest.skip(f"{name} is not installed: {peer_pipelines.INSTALL}")


def test_the_network_is_the_preset_and_answers_to_both_inputs(network: UNet) -> None:
    assert count_parameters(network) == 8_913_793
    x, y = (peer_pipelines.start_state(SIZE, seed) for seed in (0, 1))
    with torch.inference_mode():
        a = network(x, torch.tensor([900]))
        assert a.std() > 0.1
        assert (a - network(y, torch.tensor([900]))).abs().max() > 0.1
        assert (a - network(x, torch.tensor([100]))).abs().max() > 0.01


@pytest.mark.parametrize(
    ("steps", "clip"), [*itertools.product((4, 10), (False, True))]
)
def test_ddim_is_that_of_diffusers(
    network: UNet, installed: dict[str, ModuleType], steps: int, clip: bool
) -> None:
    _need(installed, "diffusers")
    found = peer_pipelines.ddim_difference(network, SIZE, steps, clip=clip)
    assert found <= TOLERANCE


@pytest.mark.parametrize("spacing", ["uniform", "log_snr", "quadratic"])
@pytest.mark.parametrize("steps", [2, 10])
def test_dpm_solver_is_that_of_diffusers(
    network: UNet,
    installed: dict[str, ModuleType],
    steps: int,
    spacing: peer_pipelines.Spacing,
) -> None:
    _need(installed, "diffusers")
    found = peer_pipelines.dpmpp_difference(network, SIZE, steps, spacing)
    assert found <= TOLERANCE


@pytest.mark.parametrize("steps", [4, 7])
def test_ddim_is_that_of_ddpm_pytorch_where_the_times_are(
    network: UNet, installed: dict[str, ModuleType], steps: int
) -> None:
    _need(installed, "ddpm_pytorch")
    if steps == 7:
        # It cuts where we round, so that times differ by one: the check must see that.
        found = peer_pipelines.ddpm_pytorch_difference(network, SIZE, steps)
        assert found > TOLERANCE
        return
    assert peer_pipelines.ddpm_pytorch_difference(network, SIZE, steps) <= TOLERANCE


def test_the_pipeline_of_diffusers_gives_the_same_image(
    network: UNet, installed: dict[str, ModuleType]
) -> None:
    """Its pipeline, as timed, is the loop that the other tests compare."""
    _need(installed, "diffusers")
    evaluate = peer_pipelines.evaluator(network, "fp32")
    model = peer_pipelines.diffusers_network(evaluate, SIZE)
    pipeline = peer_pipelines.ddim_pipeline(model)
    image = pipeline(
        generator=torch.Generator().manual_seed(3),
        num_inference_steps=4,
        use_clipped_model_output=True,
        output_type="pt",
    ).images
    _, times = peer_pipelines.plan(4, "ddim")
    x = peer_pipelines.start_state(SIZE, 3)
    loop = peer_pipelines.diffusers_ddim(evaluate, x, times, clip=True)
    assert (image - (loop / 2 + 0.5)).abs().max() < 1e-5


def test_missing_peers_are_named_and_the_old_rows_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def none(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}")

    old = [Row(f"{area}.x", "", "", 1.0, "", "> 0", "") for area in ("peers", "plan")]
    monkeypatch.setattr(peer_pipelines.importlib, "import_module", none)
    monkeypatch.setattr(benchmarks, "load", lambda: old)
    assert benchmarks.against_peers(tmp_path) == old[:1]
    said = capsys.readouterr().out
    for name in peer_pipelines.PEERS.values():
        assert name in said
    assert "pip install .[bench]" in said


def test_a_clock_counts_what_it_calls_and_the_rest_is_outside() -> None:
    clock = peers.Clock(lambda x: x)
    contender = peers.Contender(lambda: clock(1), clock)
    contender.totals, contender.inside = [4.0, 3.0], [3.5, 2.0]
    assert contender.per_step(2) == (1.5, 0.25)
    peers.take_turns({"one": contender}, 3)
    # The two that stood there belonged to no turn and went with the warm-up.
    assert len(contender.totals) == len(contender.cpu) == 3
    assert all(
        total >= inside > 0
        for total, inside in zip(contender.totals, contender.inside, strict=True)
    )

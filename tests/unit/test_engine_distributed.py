"""Training with several processes: the same curve, clean stops, one clear error."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from phantomscope.config.diffusion import Distil, Network, Train
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.distil import Distillation, segment_times, student_training
from phantomscope.engine.distributed import Share, leading_share
from phantomscope.engine.networks import make_network
from phantomscope.engine.objective import Denoising
from phantomscope.engine.process import Process, cosine_alpha_bar
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.interrupt import StopRequestedError

PROCESS = Process.gaussian(cosine_alpha_bar(1000))
SMALL = Network(preset="small")


def batch(step: int, size: int) -> np.ndarray:
    return generator("patches", step).standard_normal((size, 1, 16, 16), np.float32)


def trainer(
    state: Path, devices: int, source=batch, network=None, **changes
) -> Trainer:
    # Not Adam, which makes whole steps of gradients that are nothing but rounding.
    options = Train(
        **({"steps": 10, "batch_size": 5, "patch": 16, "warmup": 2, "threads": 1,
            "checkpoint_every": 4, "precision": "fp32", "device": "cpu",
            "optimiser": "radam", "devices": devices} | changes)
    )  # fmt: skip
    return Trainer(
        network or make_network(SMALL, 0), PROCESS, source, options, seed=0,
        noise_channel=False, identity={}, state=state,
    )  # fmt: skip


def weights(t: Trainer) -> torch.Tensor:
    return torch.cat([v.flatten() for v in t.run.average.values()])


def assert_same(one: Trainer, other: Trainer) -> None:
    """Compare weights and losses, but for the rounding of sums."""
    torch.testing.assert_close(weights(one), weights(other), atol=2e-7, rtol=1e-5)
    texts = [t.metrics_file.read_text().splitlines() for t in (one, other)]
    losses = [[json.loads(line)["loss"] for line in text] for text in texts]
    assert losses[0] == pytest.approx(losses[1], rel=2e-6)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Trainer:
    made = trainer(tmp_path_factory.mktemp("alone"), 1, checkpoint_every=1)
    made.train()
    return made


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Trainer:
    made = trainer(tmp_path_factory.mktemp("pair"), 2, checkpoint_every=1)
    made.train()
    return made


# What each does


@pytest.mark.parametrize(("count", "size"), [(1, 1), (5, 2), (7, 3), (8, 4), (3, 3)])
def test_parts_are_the_whole_and_even(count, size):
    parts = [Share(rank, size).of(count) for rank in range(size)]
    assert parts[0].start == 0
    assert parts[-1].stop == count
    assert all(a.stop == b.start for a, b in pairwise(parts))
    sizes = {part.stop - part.start for part in parts}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("noise_channel", [False, True])
@pytest.mark.parametrize("kind", ["denoising", "distillation"])
def test_items_of_a_part_are_those_among_all(kind, noise_channel):
    objective = Denoising(PROCESS, noise_channel)
    if kind == "distillation":
        network = SMALL.model_copy(update={"noise_channel": noise_channel})
        teacher = make_network(network, 0).eval()
        times = segment_times(PROCESS, 300, 3, 6)
        objective = Distillation(
            teacher, PROCESS, 300, times, noise_channel=noise_channel
        )
    x0 = torch.from_numpy(batch(0, 8))

    def draw(part=slice(None)):
        return objective.draw(x0, torch.Generator().manual_seed(1), part)

    whole = draw()
    assert [len(part) for part in whole] == [8, 8, 8]
    for part in (Share(rank, 3).of(8) for rank in range(3)):
        for some, every in zip(draw(part), whole, strict=True):
            # A step back from where the teacher landed makes its rounding larger.
            exact = 0 if kind == "denoising" else 1e-4
            torch.testing.assert_close(some, every[part], atol=exact, rtol=0)


def test_one_process_trains_as_a_plain_loop_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)  # nobody is started
    ours = trainer(tmp_path, 1, warmup=0, decay=0, ema=0, clip=0, steps=3)
    ours.train()
    network = make_network(SMALL, 0)
    optimiser = torch.optim.RAdam(network.parameters(), lr=1e-3)
    for step in range(3):
        x, t, target = ours._corrupted(torch.from_numpy(batch(step, 5)), step)
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(network(x, t), target))
        nn.utils.clip_grad_norm_(network.parameters(), float("inf"))
        optimiser.step()
    plain = torch.cat([v.flatten() for v in network.state_dict().values()])
    assert torch.equal(weights(ours), plain)


# The curve


@pytest.mark.parametrize("devices", [2, 3])
def test_the_curve_is_that_of_one(devices, alone, pair, tmp_path):
    if devices == 2:
        several = pair
    else:
        several = trainer(tmp_path, devices, checkpoint_every=1)
        several.train()
    assert_same(several, alone)
    assert several.mark == alone.mark


class Narrow(nn.Module):
    """Runs out of memory with more than one patch, but in the leader."""

    def __init__(self, leader: int) -> None:
        super().__init__()
        self.leader, self.network = leader, make_network(SMALL, 0)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if len(x) > 1 and os.getpid() != self.leader:
            raise MemoryError
        return self.network(x, t)


def test_out_of_memory_in_one_process_is_its_own_affair(alone, tmp_path, capfd):
    several = trainer(tmp_path, 2, network=Narrow(os.getpid()), checkpoint_every=1)
    several.train()
    assert_same(several, alone)
    said = [x for x in capfd.readouterr().err.splitlines() if "Out of memory" in x]
    assert [line.partition("repeated, ")[2] for line in said] == [
        "2 of 3 patches at a time.", "1 of 3 patches at a time.",
    ]  # fmt: skip


# Stops


@dataclass(frozen=True)
class Event:
    """Patches, and something that happens once while those of a step are made."""

    step: int
    leader: int
    where: str
    what: object

    def __call__(self, step: int, size: int) -> np.ndarray:
        here = "leader" if os.getpid() == self.leader else "assistant"
        if step == self.step and self.where in (here, "all"):
            self.what()
        return batch(step, size)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def event(where: str, what: object, step: int = 6) -> Event:
    return Event(step, os.getpid(), where, what)


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1), (2, 2)])
def test_a_stopped_training_goes_on_with_any_number(first, then, alone, pair, tmp_path):
    # As a scheduler does it, to all processes.
    stop = event("all", partial(send, signal.SIGTERM))
    with pytest.raises(StopRequestedError, match="SIGTERM"):
        trainer(tmp_path, first, stop, checkpoint_every=1).train()
    assert 5 <= load_checkpoint(tmp_path / "state.pt")[1]["step"] <= 7
    again = trainer(tmp_path, then, checkpoint_every=1)
    again.train()
    if first == then:
        assert torch.equal(weights(again), weights(pair))
    assert_same(again, alone)


def test_a_finished_training_starts_nobody(pair, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    again = trainer(pair.state, 2, checkpoint_every=1)
    again.train()
    assert torch.equal(weights(again), weights(pair))


def test_a_killed_process_ends_the_training_and_the_state_is_good(
    pair, tmp_path, capfd
):
    kill = event("assistant", partial(send, signal.SIGKILL))
    with pytest.raises(PhantomscopeError) as caught:
        trainer(tmp_path, 2, kill).train()
    assert caught.value.what == ("process 2 of 2 of the training was killed by SIGKILL")
    assert "goes on from the last saved state" in caught.value.fix
    assert capfd.readouterr() == ("", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "state.pt"]
    assert load_checkpoint(tmp_path / "state.pt")[1]["step"] == 4
    again = trainer(tmp_path, 2)
    again.train()
    assert torch.equal(weights(again), weights(pair))


def missing() -> None:
    raise PhantomscopeError("no such file", where="a.tif", fix="bring it back")


def broken() -> None:
    raise ValueError("a fault of ours")


def test_an_error_of_one_process_is_that_of_the_training(tmp_path, capfd):
    with pytest.raises(PhantomscopeError) as caught:
        trainer(tmp_path / "a", 3, event("assistant", missing)).train()
    assert str(caught.value) == str(PhantomscopeError(
        "no such file", where="a.tif", fix="bring it back"
    ))  # fmt: skip
    with pytest.raises(
        RuntimeError, match=r"of 2 of the training failed:\n(.|\n)*fault"
    ):
        trainer(tmp_path / "b", 2, event("assistant", broken)).train()
    assert capfd.readouterr() == ("", "")


def test_a_loss_that_is_not_finite_is_told_once(tmp_path, capfd):
    network = make_network(SMALL, 0)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(PhantomscopeError, match=r"loss is nan.* at step 0"):
        trainer(tmp_path, 2, network=network).train()
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "state.pt").exists()


SCRIPT = """
import os, sys, time
from functools import partial
from pathlib import Path
sys.path.insert(0, {here!r})
import test_engine_distributed as tests
from phantomscope.stages.perform import exit_status

def work():
    state = Path({state!r})
    slow = tests.Slow(state)
    tests.trainer(state, 2, slow, steps=100000).train()

sys.exit(exit_status(work, "a test"))
"""


@dataclass(frozen=True)
class Slow:
    """Patches that take a while; says which processes asked for them."""

    folder: Path

    def __call__(self, step: int, size: int) -> np.ndarray:
        (self.folder / f"{os.getpid()}.pid").touch()
        time.sleep(0.05)
        return batch(step, size)


def living(pids: list[int]) -> list[int]:
    """Those that run; one that waits for its parent to ask is dead."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        found += [pid] * (state not in "ZX")
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
@pytest.mark.parametrize(
    ("number", "status", "says"),
    [(signal.SIGKILL, -9, ""), (signal.SIGINT, 75, "stopped by SIGINT; run the same")],
)
def test_nobody_outlives_the_leader(number, status, says, tmp_path):
    here, scratch = str(Path(__file__).parent), tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(here=here, state=str(tmp_path))],
        stderr=subprocess.PIPE, text=True,
        env=os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TMPDIR": str(scratch),
        },
    )  # fmt: skip
    until = time.monotonic() + 600
    while time.monotonic() < until and not (tmp_path / "state.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(living(pids)) == 2
    process.send_signal(number)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == status
    assert said.startswith(says)
    assert len(said.splitlines()) == bool(says)
    until = time.monotonic() + 300
    while living(pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not living(pids)
    assert not list(scratch.glob("phantomscope-*"))


# What cannot be


def test_each_process_needs_a_patch():
    with pytest.raises(ValueError, match=r"`devices` \(3\) must not exceed"):
        Train(devices=3, batch_size=2)
    options = Train(batch_size=2).model_copy(update={"devices": 3})
    with pytest.raises(PhantomscopeError, match="cannot share a batch of 2") as caught:
        leading_share(options, torch.device("cpu"))
    assert caught.value.where == "train.devices"
    assert "at most 2" in caught.value.fix


def test_no_more_devices_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    gpu = torch.device("cuda")
    with pytest.raises(
        PhantomscopeError, match="4 GPUs are asked for, 2 can"
    ) as caught:
        leading_share(Train(devices=4), gpu)
    assert caught.value.where == "train.devices"
    assert leading_share(Train(devices=2), gpu) == Share(0, 2)
    assert leading_share(Train(devices="auto"), gpu) == Share(0, 2)
    assert leading_share(Train(devices="auto", batch_size=1), gpu) == Share(0, 1)
    assert leading_share(Train(devices="auto"), torch.device("cpu")) == Share(0, 1)


def test_a_student_of_small_batches_takes_fewer():
    options = Distil(batch_size=2)
    assert student_training(options, Train(devices=4)).devices == 2
    assert student_training(options, Train(devices="auto")).devices == "auto"

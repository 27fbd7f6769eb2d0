"""One writer per output and one job per GPU, whatever happens to the others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from phantomscope.devices import VISIBLE, claimed_device, count_devices
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.locks import attend, only_writer, try_lock, unlock

IMAGE = np.random.default_rng(0).integers(0, 9999, (24, 32)).astype(np.uint16)
HOLD = """
import sys, time
from pathlib import Path
from phantomscope.errors import PhantomscopeError
from phantomscope.locks import only_writer

with only_writer(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def holding(path: Path) -> subprocess.Popen[str]:
    """Start a process that writes `path` until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def while_waiting(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Act when this process waits for a lock for the first time."""
    actions, sleep = [action], time.sleep

    def waited(_: float) -> None:
        if actions:
            actions.pop()()
        sleep(0.01)

    monkeypatch.setattr(time, "sleep", waited)


def test_a_second_writer_waits_until_the_first_is_gone(tmp_path, capfd, monkeypatch):
    path = tmp_path / "set"
    process = holding(path)
    while_waiting(monkeypatch, process.kill)
    with only_writer(path):
        assert process.wait() == -signal.SIGKILL
    process.communicate()
    said = capfd.readouterr().err
    assert f"process {process.pid} on" in said
    assert str(path) in said
    assert not list(tmp_path.iterdir())


def test_two_writers_of_one_set_do_not_mix(tmp_path, monkeypatch):
    path = tmp_path / "set"
    process = holding(path)
    while_waiting(monkeypatch, process.kill)
    with ImageSetWriter(path, {}) as writer:
        writer.add("a", IMAGE)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    ImageSet.open(path).verify()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_writer_that_fails_frees_its_set(tmp_path):
    with pytest.raises(RuntimeError), ImageSetWriter(tmp_path / "set", {}):
        raise RuntimeError
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("a", IMAGE)


def test_a_lock_is_taken_once(tmp_path):
    path = tmp_path / "lock"
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None
    unlock(path, first)
    second = try_lock(path)
    assert second is not None
    unlock(path, second)


def test_each_job_gets_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv(VISIBLE, raising=False)
    folder = tmp_path / "locks"
    with claimed_device(1, count=2, folder=folder) as first:
        assert os.environ[VISIBLE] == first == "0"
        del os.environ[VISIBLE]  # as another process would see it
        with claimed_device(1, count=2, folder=folder) as second:
            assert second == "1"
        os.environ[VISIBLE] = first
    assert VISIBLE not in os.environ
    with claimed_device(None, count=2, folder=folder) as again:
        assert again == "0"


def test_a_gpu_that_is_freed_goes_to_who_waits(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(VISIBLE, raising=False)
    held = [try_lock(tmp_path / f"{n}.lock") for n in range(2)]
    freed = partial(unlock, tmp_path / "1.lock", held[1], keep=True)
    while_waiting(monkeypatch, freed)
    with claimed_device(1, count=2, folder=tmp_path) as mine:
        assert mine == "1"
    assert "all 2 GPUs are in use" in capsys.readouterr().err
    assert held[0] is not None
    unlock(tmp_path / "0.lock", held[0])


def test_a_training_gets_several_gpus_or_waits_with_none(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(VISIBLE, raising=False)
    other = try_lock(tmp_path / "1.lock")
    with claimed_device(2, count=3, folder=tmp_path) as mine:
        assert os.environ[VISIBLE] == mine == "0,2"
    assert other is not None
    freed = partial(unlock, tmp_path / "1.lock", other, keep=True)
    while_waiting(monkeypatch, freed)
    with claimed_device(2, count=2, folder=tmp_path) as mine:
        assert mine == "0,1"
    assert "fewer than 2 of 2 GPUs are free" in capsys.readouterr().err
    for number in range(3):  # nothing stays locked
        lock = tmp_path / f"{number}.lock"
        descriptor = try_lock(lock)
        assert descriptor is not None
        unlock(lock, descriptor)
    with pytest.raises(PhantomscopeError, match="3 GPUs are asked for") as caught:
        with claimed_device(3, count=2, folder=tmp_path):
            pass
    assert caught.value.where == "train.devices"


def test_what_a_scheduler_chose_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "3")
    with claimed_device(1, count=4, folder=tmp_path) as mine:
        assert mine is None
        assert os.environ[VISIBLE] == "3"
    with claimed_device(0, count=4, folder=tmp_path):
        assert os.environ[VISIBLE] == ""  # Snakemake counts this job as one for the CPU
    assert os.environ[VISIBLE] == "3"


def test_gpus_are_counted_by_their_device_files(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert count_devices(tmp_path) == 2
    assert count_devices(tmp_path / "nowhere") == 0


def leave_lock(folder: Path, *names: str) -> Path:
    path = folder / "locks/0.output.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def test_a_lock_of_a_killed_run_is_removed(tmp_path, capsys):
    stale = leave_lock(tmp_path, "results/mine/a", "results/mine/b", "data/x.zip")
    descriptor = attend(tmp_path, ("results/mine/", "data/"))
    assert descriptor is not None
    assert not stale.exists()
    assert str(stale) in capsys.readouterr().err
    # While we live, a lock is not stale, whoever comes.
    live = leave_lock(tmp_path, "results/mine/a")
    second = attend(tmp_path, ("results/mine/",))
    assert second is not None
    assert live.exists()
    os.close(descriptor)
    os.close(second)
    third = attend(tmp_path, ("results/mine/",))
    assert third is not None
    assert not live.exists()
    os.close(third)


def test_a_lock_of_another_workflow_stays(tmp_path):
    other = leave_lock(tmp_path, "results/mine/a", "results/other/a")
    descriptor = attend(tmp_path, ("results/mine/",))
    assert descriptor is not None
    os.close(descriptor)
    assert other.exists()

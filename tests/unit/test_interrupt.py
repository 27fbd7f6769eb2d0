"""Loops stop cleanly on a signal and before a time limit, and go on later."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from phantomscope import interrupt
from phantomscope.interrupt import CleanStop, StopRequestedError
from phantomscope.progress import Progress


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:07", 7), ("12:30", 750), ("1:00:00", 3600), ("2-03:04:05", 183845),
        ("UNLIMITED", None), ("NOT_SET", None), ("", None), ("INVALID", None),
    ],
)  # fmt: skip
def test_time_left_is_read_as_squeue_prints_it(text, seconds):
    assert interrupt._seconds(text + "\n") == seconds


@pytest.mark.parametrize("number", interrupt.SIGNALS)
def test_a_signal_stops_between_two_steps(number):
    before = signal.getsignal(number)
    steps = 0

    def work() -> None:
        nonlocal steps
        with Progress("working", 10) as progress:
            for _ in range(10):
                if steps == 2:
                    os.kill(os.getpid(), number)
                steps += 1  # the step that was begun is finished
                progress.advance()

    with pytest.raises(StopRequestedError, match=signal.Signals(number).name):
        work()
    assert steps == 3
    assert signal.getsignal(number) == before


def test_after_the_last_step_nothing_is_stopped():
    with Progress("working", 1) as progress:
        os.kill(os.getpid(), signal.SIGTERM)
        progress.advance()
    assert progress.done == progress.total


def test_a_second_signal_interrupts_at_once():
    def work() -> None:
        with CleanStop():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        work()


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def steps_until_stopped(clock: Clock) -> int:
    steps = 0

    def work() -> None:
        nonlocal steps
        with Progress("working", 100) as progress:
            for _ in range(100):
                clock.now += 0.125
                steps += 1
                progress.advance()

    with pytest.raises(StopRequestedError, match="time limit"):
        work()
    return steps


def test_the_clock_stops_in_time_but_not_before_one_step(monkeypatch):
    clock = Clock()
    begin = clock.now
    monkeypatch.setattr(interrupt, "time", clock)
    monkeypatch.setattr(interrupt, "BEGIN", begin)
    monkeypatch.setenv(interrupt.TIME_LIMIT, str(1 / 60))
    # Saving needs time, too: a tenth of the limit, and the next step must fit.
    assert steps_until_stopped(clock) == 7
    monkeypatch.setattr(interrupt, "BEGIN", begin - 3600)
    assert steps_until_stopped(clock) == 1


def test_slurm_is_asked_for_the_time_left(monkeypatch, tmp_path):
    fake = tmp_path / "squeue"
    fake.write_text('#!/bin/sh\n[ "$3" = 42 ] && echo "   1:40"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv(interrupt.TIME_LIMIT, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    limit = interrupt.time_limit()
    assert limit is not None
    assert 90 < limit - time.monotonic() <= 100
    monkeypatch.setenv("SLURM_JOB_ID", "43")
    assert interrupt.time_limit() is None


def test_a_stopped_command_says_so_and_has_its_own_exit_status():
    script = textwrap.dedent("""
        import os, signal
        from phantomscope.progress import Progress
        from phantomscope.stages.perform import exit_status

        def work():
            with Progress("working", 5) as progress:
                os.kill(os.getpid(), signal.SIGTERM)
                progress.advance()

        raise SystemExit(exit_status(work, "here"))
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == interrupt.EXIT_STATUS, done.stderr
    assert "stopped by SIGTERM; run the same command again to go on" in done.stderr
    assert "Traceback" not in done.stderr

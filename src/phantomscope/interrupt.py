"""Stopping cleanly: on a signal, or before the time limit of a batch job.

Training and every loop over images come by here between two steps. What they have done
is saved, and the same command goes on from there.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

# What sysexits.h calls a temporary failure: run the same command again.
EXIT_STATUS = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Minutes that a process may take, for schedulers that we cannot ask.
TIME_LIMIT = "PHANTOMSCOPE_TIME_LIMIT"
BEGIN = time.monotonic()


class StopRequestedError(Exception):
    """The process was asked to stop; what it did so far is saved."""


def _seconds(text: str) -> float | None:
    """Read what `squeue` prints as time left: ``[[D-]HH:]MM:SS``."""
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", text.strip())
    if found is None:
        return None  # UNLIMITED, NOT_SET, or another scheduler's idea of it
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((24 * days + hours) * 60 + minutes) * 60 + seconds


def _left_of_job() -> float | None:
    """Seconds that SLURM leaves to this job; None outside, or without a limit."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", "--jobs", job, "--format", "%L"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return _seconds(answer.stdout)


def time_limit() -> float | None:
    """When this process must have ended, on the monotonic clock; None: no limit.

    The environment variable ``PHANTOMSCOPE_TIME_LIMIT`` (minutes since the start of the
    process) and SLURM's limit of this job are asked for; the earlier one counts. SLURM
    is asked for the time that is left, so that jumps of a clock do not matter.
    """
    limits = []
    try:
        limits.append(BEGIN + 60 * float(os.environ.get(TIME_LIMIT, "")))
    except ValueError:
        pass
    if (left := _left_of_job()) is not None:
        limits.append(time.monotonic() + left)
    return min(limits, default=None)


class CleanStop:
    """Watch for signals and for the clock while a loop runs.

    Call `check` between two steps. A signal (SIGTERM, SIGINT, SIGUSR1) or a time limit
    that the next step may not keep raises `StopRequestedError` there, never inside a
    step. A second signal interrupts at once. At least one step is always taken, so that
    each time slice goes forward.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}
        self._end: float | None = None
        self._margin = 0.0
        self._last = self._longest = 0.0

    def __enter__(self) -> Self:
        # Python delivers signals to the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        self._end = time_limit()
        self._last = time.monotonic()
        if self._end is not None:
            # Time to save: two minutes, but no more than a tenth of a short slice.
            self._margin = min(120.0, 0.1 * max(self._end - self._last, 0.0))
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            self._restore()
            raise KeyboardInterrupt
        self._signal = number

    def check(self) -> None:
        """Raise `StopRequestedError` if it is time to stop."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            raise StopRequestedError(f"stopped by {name}")
        if self._end is not None and now + self._margin + self._longest > self._end:
            raise StopRequestedError("stopped before the time limit of this job")

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

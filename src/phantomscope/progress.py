"""One line of live progress with rate and time left; quiet lines in a log file.

Every long loop has one, so this is also where it stops cleanly when it is asked to.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from phantomscope.interrupt import CleanStop


def clock(seconds: float) -> str:
    """Format seconds as ``4:07`` or ``2:04:07``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Progress of a loop, which a signal or a time limit ends between two steps.

    Parameters
    ----------
    label : str
        What is being done.
    total : int
        Number of steps.
    start : int
        Steps done before (a resumed run); they do not count for the rate.
    unit : str
        Name of what is counted per second.
    per_step : float
        How many units one step is.
    stream : TextIO, optional
        Where to write; standard error by default. On a terminal one line is renewed
        every 0.2 s, elsewhere a line is written every 15 s.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        start: int = 0,
        unit: str = "it",
        per_step: float = 1,
        stream: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.done = label, total, start
        self.unit, self.per_step = unit, per_step
        self.stream = stream if stream is not None else sys.stderr
        self.live = self.stream.isatty()
        self._begin = self._shown = time.monotonic()
        self._start = start
        self._stop = CleanStop()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begin

    @property
    def rate(self) -> float:
        """Units per second."""
        return (self.done - self._start) * self.per_step / max(self.elapsed, 1e-9)

    def __enter__(self) -> Self:
        self._stop.__enter__()
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps and show the line when it is due.

        Raises
        ------
        StopRequestedError
            If the process has to stop; not after the last step.
        """
        self.done += steps
        now = time.monotonic()
        if now - self._shown >= (0.2 if self.live else 15.0):
            self._shown = now
            self._show(note)
        if self.done < self.total:
            self._stop.check()

    def _show(self, note: str, end: bool = False) -> None:
        speed = self.rate / self.per_step
        left = clock((self.total - self.done) / speed) if speed > 0 else "?"
        share = 100 * self.done / max(self.total, 1)
        line = (
            f"{self.label}: {self.done}/{self.total} ({share:.0f}%)  "
            f"{self.rate:.3g} {self.unit}/s  {clock(self.elapsed)} gone, {left} left"
        )
        line += f"  {note}" if note else ""
        if self.live:
            self.stream.write(f"\r\x1b[2K{line}" + ("\n" if end else ""))
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.__exit__(kind, error, trace)
        # A loop of under a second needs no line in a log.
        if kind is None and (self.live or self.elapsed > 1):
            self._show("", end=True)

"""Commands in processes of their own, which start at once and can be disturbed.

A server process has imported everything and forks for each command: a real process,
with signals, locks and an exit status, without the seconds that importing takes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.laboratory import ENVIRONMENT
from phantomscope import cli, interrupt

# A command that takes longer hangs, on a busy machine too.
LONGEST = 600.0
# File operations as Python tells them; each has the path first.
OPERATIONS = {
    "open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate",
    "shutil.rmtree",
}  # fmt: skip


class MissedError(Exception):
    """The fault did not hit: the process was not where it should be disturbed."""


class BrokenError(Exception):
    """Something does not hold that must hold after a fault."""


def claim(condition: object, what: object) -> None:
    """Make sure of something that must hold after a fault.

    Raises
    ------
    BrokenError
        With `what`, if it does not.
    """
    if not condition:
        raise BrokenError(str(what))


_FORKS = multiprocessing.get_context("forkserver")
# Optimisers import the last one, which takes longer than all the rest.
_FORKS.set_forkserver_preload(
    [__name__, "phantomscope.stages.registry", "torch._dynamo"]
)


def _count_operations(below: str, crash_at: int | None) -> list[int]:
    """Count file operations below a folder; kill this process before the n-th one."""
    count = [0]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or not str(arguments[0]).startswith(below):
            return
        if count[0] == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1

    sys.addaudithook(note)
    return count


def _enter_mounts(pid: int) -> None:
    """See the mounts that another process sees."""
    with open(f"/proc/{pid}/ns/mnt") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns failed")


def _work(
    argv: Sequence[str], log: Path, environment: Mapping[str, str], mounts: int | None,
    crash_at: int | None,
) -> None:  # fmt: skip
    """Run a command in the process that was forked for it."""
    interrupt.BEGIN = time.monotonic()  # this process begins here
    os.environ.update(environment)
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    if mounts is not None:
        _enter_mounts(mounts)
    count = _count_operations(str(log.parent), crash_at)
    status = cli.main(list(argv))
    log.with_suffix(".operations").write_text(str(count[0]))
    sys.exit(status)


class Running:
    """A command that was started; leaving the block kills it if it still runs.

    Parameters
    ----------
    command : sequence of str
        As `benchmarks.laboratory.stage` gives it.
    log : Path
        File for what it prints.
    environment : Mapping, optional
        Variables beside those of `benchmarks.laboratory.ENVIRONMENT`.
    mounts : int, optional
        A process whose mounts it sees.
    crash_at : int, optional
        It kills itself with SIGKILL just before this file operation below the folder
        of the log; operations count from 0.
    """

    def __init__(
        self, command: Sequence[str], log: Path, *,
        environment: Mapping[str, str] | None = None, mounts: int | None = None,
        crash_at: int | None = None,
    ) -> None:  # fmt: skip
        variables = {**ENVIRONMENT, **(environment or {})}
        # Without the interpreter, `-m` and `phantomscope`.
        arguments = (command[3:], log, variables, mounts, crash_at)
        self.log = log
        self.process = _FORKS.Process(target=_work, args=arguments)
        self.process.start()
        claim(self.process.pid, "no process was started")
        self.pid = int(self.process.pid or 0)

    def __enter__(self) -> Self:
        return self

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send(self, number: int) -> None:
        """Send a signal."""
        if self.process.is_alive():
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for the end and return the exit status; ``-9`` is death by SIGKILL."""
        self.process.join(LONGEST)
        status = self.process.exitcode
        claim(status is not None, f"it hangs\n{self.text}")
        return int(status or 0)

    def watch(self, condition: Callable[[], object]) -> None:
        """Wait until something has come about.

        Raises
        ------
        MissedError
            If the command ended before.
        """
        end = time.monotonic() + LONGEST
        while not condition():
            if not self.process.is_alive():
                raise MissedError(self.text)
            claim(time.monotonic() < end, f"it hangs\n{self.text}")
            time.sleep(2e-4)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.is_alive():
            os.kill(self.pid, signal.SIGKILL)
        self.process.join()


def finish(command: Sequence[str], log: Path, **how: Any) -> str:
    """Run a command to its end, which must be a good one; return what it printed."""
    with Running(command, log, **how) as running:
        status = running.wait()
        claim(status == 0, f"exit status {status}\n{running.text}")
        return running.text


def refused(command: Sequence[str], log: Path, *expected: str, **how: Any) -> None:
    """Run a command that must end with one clear error."""
    with Running(command, log, **how) as running:
        status, text = running.wait(), running.text
    claim(status == 1, f"exit status {status}, not 1\n{text}")
    claim(text.count("error:") == 1 and "mend:" in text, f"no clear error\n{text}")
    for part in expected:
        claim(part in text, f"does not say {part!r}\n{text}")


def operations(log: Path) -> int:
    """Return how many file operations a finished command took."""
    return int(log.with_suffix(".operations").read_text())

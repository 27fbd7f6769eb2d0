"""What a case is, how it is run, and how its answer is judged."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.laboratory import ENVIRONMENT, ROOT, Laboratory
from phantomscope.cli import main as phantomscope
from phantomscope.errors import PhantomscopeError

LONGEST = 60.0
# Made by any code that is hidden in an input of the case: see `Trap`.
CANARY = "sprung"


class NotPermittedError(Exception):
    """The case cannot be set up on this machine or by this user."""


class Trap:
    """Makes a file, such as the canary of a case, when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@dataclass(frozen=True)
class Invocation:
    """A command, or a function of the library, on bad input.

    Attributes
    ----------
    argv : sequence
        Arguments of `phantomscope`.
    function : callable, optional
        Called instead of a command: for parts of the library that no command reaches.
    outputs : tuple of Path
        What must not appear, or not change if it was there before.
    code : int
        Exit status that is asked for: 1, 2 for usage errors, 0 for what must work.
    shell : str
        Shell line to run before, in a process (and mount namespace) of its own.
    mounts : bool
        Whether that line mounts something.
    never : tuple of Path
        What must not exist in any case, beside the canary.
    """

    argv: Sequence[object] = ()
    outputs: tuple[Path, ...] = ()
    code: int = 1
    shell: str = ""
    mounts: bool = False
    never: tuple[Path, ...] = ()
    function: Callable[[], object] | None = None


@dataclass(frozen=True)
class Case:
    """Bad input, how to make it, and what the message must contain."""

    name: str
    kind: str
    build: Callable[[Path, Laboratory], Invocation]
    expect: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """How the program answered; a case that cannot be set up here is `skipped`."""

    name: str
    kind: str
    ok: bool
    message: str
    why_not: str
    skipped: bool = False


def snapshot(paths: Iterable[Path]) -> dict[str, str]:
    """Hash every file below some paths; folders count, too."""
    found = {}
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else []
        for item in [path, *inside]:
            if item.is_file():
                found[str(item)] = hashlib.sha256(item.read_bytes()).hexdigest()
            elif item.exists():
                found[str(item)] = "folder"
    return found


def run_here(call: Invocation) -> tuple[int, str]:
    """Run in this process: importing everything anew would take seconds."""
    text = io.StringIO()
    with redirect_stderr(text), redirect_stdout(text):
        if call.function is not None:
            code = _call(call.function)
        else:
            try:
                code = phantomscope([str(a) for a in call.argv])
            except SystemExit as stop:  # how argparse ends
                code = int(stop.code or 0)
    return code, text.getvalue()


def _call(function: Callable[[], object]) -> int:
    """Call a function; print what it raises, and return a status as commands do."""
    try:
        function()
    except PhantomscopeError as error:
        print(error)
        return 1
    except Exception:
        traceback.print_exc()
        return 2
    return 0


def _run_apart(call: Invocation) -> tuple[int, str]:
    """Run in a process of its own, after a shell line that sets limits or mounts."""
    # Mounts are seen from inside only, so what was left behind is listed there.
    script = (
        f"{call.shell} || exit 77\n"
        f'"{sys.executable}" -m phantomscope "$@"; code=$?\n'
        + "".join(f'[ -e "{p}" ] && echo "LEFT BEHIND: {p}"\n' for p in call.outputs)
        + "exit $code"
    )
    command = ["bash", "-c", script, "bash", *map(str, call.argv)]
    if call.mounts:
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            raise NotPermittedError("mounting needs root and `unshare`")
        command = ["unshare", "--mount", *command]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True,
        timeout=2 * LONGEST,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr[:20]:
        raise NotPermittedError(f"not permitted: {done.stderr.strip()}")
    return done.returncode, done.stderr + done.stdout


def _faults(case: Case, call: Invocation, code: int, text: str) -> list[str]:
    """List what is wrong with an answer, apart from files."""
    faults = []
    if code != call.code:
        faults.append(f"exit status {code}, not {call.code}")
    if "Traceback" in text:
        faults.append("a traceback")
    faults += [f"does not say {e!r}" for e in case.expect if e not in text]
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    if call.code == 1 and len(errors) != 1:
        faults.append(f"{len(errors)} errors instead of one")
    if call.code == 1 and not ("where:" in text and "mend:" in text):
        faults.append("does not say where it is and how to mend it")
    if "LEFT BEHIND" in text:
        faults.append("left an output behind")
    return faults


def check(case: Case, folder: Path, lab: Laboratory) -> Answer:
    """Run one case in an empty folder and judge the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        call = case.build(folder, lab)
        before = snapshot(call.outputs)
        begin = time.monotonic()
        code, text = (_run_apart if call.shell else run_here)(call)
    except NotPermittedError as reason:
        return Answer(case.name, case.kind, False, "", str(reason), skipped=True)
    seconds = time.monotonic() - begin
    faults = _faults(case, call, code, text)
    if seconds >= LONGEST:
        faults.append(f"took {seconds:.0f} s")
    if call.code == 0:
        faults += [f"made no {p.name}" for p in call.outputs if not p.exists()]
    elif snapshot(call.outputs) != before:
        faults.append("changed an output")
    never = (*call.never, folder / CANARY)
    faults += [f"{path.name} exists" for path in never if path.exists()]
    return Answer(case.name, case.kind, not faults, text, "; ".join(faults))

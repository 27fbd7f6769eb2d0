"""An assistant of a training on several devices: what `distributed.Crew` starts."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import sys
import threading
import traceback
from typing import BinaryIO

from phantomscope.errors import PhantomscopeError
from phantomscope.interrupt import SIGNALS


def _leave_with(leader: BinaryIO, folder: str) -> None:
    """Wait until the leader ends, however it does, and end at once."""
    leader.read()
    # It could not, if it was killed.
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _assist(leader: BinaryIO, report: BinaryIO) -> None:
    """Compute our part of the gradients of each step."""
    import torch

    from phantomscope.engine.distributed import READY, Group, Share
    from phantomscope.engine.train import Trainer

    rank, size, kind, meeting = sys.argv[1:]
    share = Share(int(rank), int(size))
    try:
        job, first = pickle.load(leader)
    except (EOFError, pickle.UnpicklingError):
        return  # the leader has ended
    watch = (leader, os.path.dirname(meeting))
    threading.Thread(target=_leave_with, args=watch, daemon=True).start()
    trainer = Trainer(**job, share=share)
    report.write(READY.encode())
    trainer.assist(first, Group(share, torch.device(kind), meeting))
    threading.Event().wait()  # our end is the leader's affair


def main() -> int:
    """Assist until the leader ends; return an exit status."""
    for number in SIGNALS:  # a scheduler may send them to all; the leader decides
        signal.signal(number, signal.SIG_IGN)
    # Pipes of our own: no library reads or writes there, no child inherits them.
    leader, report = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    from phantomscope.engine.distributed import FAILED, LOST, LostError

    about: dict[str, str]
    try:
        _assist(leader, report)
        return 0
    except LostError:
        # Nobody meets any more; perhaps it is the leader who is lost.
        shutil.rmtree(os.path.dirname(sys.argv[-1]), ignore_errors=True)
        return LOST
    except PhantomscopeError as error:
        about = {
            name: getattr(error, name) for name in ("what", "where", "fix", "example")
        }
    except Exception:
        about = {"traceback": traceback.format_exc()}
    report.write(json.dumps(about).encode())
    return FAILED


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # threads of libraries must not hold it

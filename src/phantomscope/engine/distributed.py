"""Training on several devices of one machine: one process each.

The process that was started leads. It alone has the optimiser, the average, the state
on the disk, and progress; it starts the others, and they end with it. In each step all
take the leader's weights, compute the gradients of their own part of the batch, and
add them up; the leader then takes the step. So replicas cannot drift apart, whether the
leader goes on is its own affair, and an assistant holds nothing that could be lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import FileStore  # type: ignore[attr-defined, unused-ignore]

from phantomscope.config.diffusion import Train
from phantomscope.devices import VISIBLE
from phantomscope.errors import PhantomscopeError
from phantomscope.interrupt import StopRequestedError

KEY = "train.devices"
# Exit statuses of an assistant: it said why, or lost another process.
FAILED, LOST = 1, 3
READY = "ready\n"
# Who died is seen by watching processes. A time limit would end trainings that wait for
# a slow disk or were suspended.
_TIMEOUT = timedelta(days=1)
_GRACE = 60.0  # seconds that the leader has to end by itself after a death
_AGAIN = "run the same command again: it goes on from the last saved state"


class LostError(RuntimeError):
    """Another process of the training does not answer any more."""


@dataclass(frozen=True)
class Share:
    """Which of the processes this is: 0 leads.

    Attributes
    ----------
    rank, size : int
        Number of the process, from 0, and how many there are.
    """

    rank: int = 0
    size: int = 1

    def of(self, count: int) -> slice:
        """Return the own part of some items; parts differ by one item at most."""
        first, stop = (k * count // self.size for k in (self.rank, self.rank + 1))
        return slice(first, stop)


def leading_share(options: Train, device: torch.device) -> Share:
    """Return the leader's share: of as many processes as a config asks for.

    Raises
    ------
    PhantomscopeError
        If there are fewer GPUs, or patches of a batch.
    """
    wish, batch = options.devices, options.batch_size
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if wish == "auto":
        return Share(0, min(max(gpus, 1), batch))
    if wish > batch:
        raise PhantomscopeError(
            f"{wish} devices cannot share a batch of {batch}",
            where=KEY,
            fix=f"ask for at most {batch}, or raise `batch_size`",
        )
    if device.type == "cuda" and wish > gpus:
        raise PhantomscopeError(
            f"{wish} GPUs are asked for, {gpus} can be seen",
            where=KEY,
            fix=f"ask for at most {gpus} or `auto`, or give the job more GPUs",
        )
    return Share(0, wish)


class Group:
    """What the processes of a training tell each other; all call the same in turn.

    Parameters
    ----------
    share : Share
        Who this is.
    device : torch.device
        Where its network is.
    meeting : str
        File by which the processes find each other.
    died : Event, optional
        Set when one of them has died.
    """

    def __init__(
        self, share: Share, device: torch.device, meeting: str,
        died: threading.Event | None = None,
    ) -> None:  # fmt: skip
        self.share = share
        self._died = died or threading.Event()
        nccl = device.type == "cuda" and dist.is_nccl_available()
        with _loopback(), _lost_if_it_fails():
            store = FileStore(meeting, share.size)
            dist.init_process_group(
                "nccl" if nccl else "gloo", store=store, rank=share.rank,
                world_size=share.size, timeout=_TIMEOUT,
            )  # fmt: skip
            try:
                # The first exchange connects; it would be too late in a step.
                dist.all_reduce(torch.zeros(1, device=device))
            except BaseException:
                self.end()
                raise

    def check(self) -> None:
        """Raise `LostError` if one died: what came since then is worth nothing."""
        if self._died.is_set():
            raise LostError

    @torch.no_grad()
    def spread(self, network: nn.Module) -> None:
        """Give the leader's weights to all."""
        weights = [p.detach() for p in network.parameters()]
        flat = torch.cat([w.flatten() for w in weights])
        with _lost_if_it_fails():
            dist.broadcast(flat, src=0)
        if self.share.rank:
            _put_back(flat, weights)

    @torch.no_grad()
    def add_up(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Add up the gradients of all, in place, and return the sum of the losses."""
        # A weight that the network does not use has none, in any of the processes.
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([loss.reshape(1), *[g.flatten() for g in grads]])
        with _lost_if_it_fails():
            dist.all_reduce(flat)
        _put_back(flat[1:], grads)
        return flat[0]

    def end(self) -> None:
        """Free what the group holds; the others may be gone already."""
        abort = getattr(dist.group.WORLD, "abort", None)
        if abort is not None and dist.get_backend() == "nccl":
            abort()  # an orderly end would wait for the others
        dist.destroy_process_group()


def _put_back(flat: Tensor, tensors: list[Tensor]) -> None:
    """Copy one long tensor into many; whatever their memory format, it stays."""
    parts = torch.split(flat, [t.numel() for t in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


@contextlib.contextmanager
def _lost_if_it_fails() -> Iterator[None]:
    """Tell errors of the exchange from those of training."""
    try:
        yield
    except RuntimeError as error:
        raise LostError(" ".join(str(error).split())[:200]) from error


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Keep connections inside the machine: names of hosts may not resolve."""
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    own = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}
    new = [name for name in names if own and name not in os.environ]
    os.environ.update(dict.fromkeys(new, next(iter(own), "")))
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


@dataclass(frozen=True)
class _End:
    """How an assistant ended: exit status, and what it said of it."""

    status: int
    said: str


class Crew:
    """The assistants of a training: started, watched and ended by its leader.

    Parameters
    ----------
    job : Mapping
        Keywords of a `Trainer` like the leader's; they are pickled.
    first : int
        Step to begin with.
    share : Share
        The leader's.
    device : torch.device
        The leader's.

    Notes
    -----
    An assistant reads its job from a pipe and watches that pipe ever after: it closes
    when the leader ends, however that ends. Its end is seen in the same way, by another
    pipe.
    """

    def __init__(
        self, job: Mapping[str, Any], first: int, share: Share, device: torch.device
    ) -> None:
        self.share, self.device = share, device
        self._job = pickle.dumps((dict(job), first))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ready = threading.Semaphore(0)
        self._died, self._left = threading.Event(), threading.Event()
        self._ends: dict[int, _End] = {}
        self._group: Group | None = None

    def __enter__(self) -> Group:
        self._folder = tempfile.TemporaryDirectory(prefix="phantomscope-")
        meeting = os.path.join(self._folder.name, "meeting")
        try:
            for rank in range(1, self.share.size):
                self._start(rank, meeting)
            for _ in self._processes:
                while not self._ready.acquire(timeout=0.1):
                    if self._died.is_set():
                        raise LostError("before the first step")
            self._group = Group(self.share, self.device, meeting, self._died)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self._group

    def _start(self, rank: int, meeting: str) -> None:
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)
        environment = os.environ | {"PYTHONPATH": places}
        if self.device.type == "cuda":
            seen = os.environ.get(VISIBLE)
            names = seen.split(",") if seen else [str(n) for n in range(rank + 1)]
            environment[VISIBLE] = names[rank].strip()
        arguments = [str(rank), str(self.share.size), self.device.type, meeting]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "phantomscope.engine.assist", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
            start_new_session=True,  # Ctrl-C is for the leader
        )  # fmt: skip
        self._processes.append(process)
        threading.Thread(target=self._watch, args=(rank, process), daemon=True).start()
        assert process.stdin is not None
        # If it is dead already, that is noticed elsewhere.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._job)
            process.stdin.flush()

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """Read what an assistant says until it ends (in a thread)."""
        assert process.stdout is not None
        with process.stdout as stream:
            if stream.readline().decode() == READY:
                self._ready.release()
            said = stream.read().decode(errors="replace")
        status = process.wait()
        if self._left.is_set():
            return
        self._ends[rank] = _End(status, said)
        self._died.set()
        if self.device.type == "cuda" and dist.is_initialized():
            # A GPU would wait for the dead for ever.
            with contextlib.suppress(Exception):
                dist.group.WORLD.abort()  # type: ignore[union-attr]
        if not self._left.wait(_GRACE):
            print(self._reason(), file=sys.stderr, flush=True)
            os._exit(1)

    def _reason(self) -> PhantomscopeError | RuntimeError:
        """Say which assistant died first, and of what."""
        guilty: list[tuple[int, _End]] = []
        until = time.monotonic() + 5
        # One that only lost another is not to blame; wait for the one that is.
        while not guilty and time.monotonic() < until:
            time.sleep(0.05)
            ends = list(self._ends.items())
            guilty = [(rank, end) for rank, end in ends if end.status != LOST]
        if not guilty:
            return PhantomscopeError(
                "the processes of the training lost each other", where=KEY, fix=_AGAIN
            )
        rank, end = guilty[0]
        who = f"process {rank + 1} of {self.share.size} of the training"
        if end.said:
            about = json.loads(end.said)
            if "traceback" in about:
                return RuntimeError(f"{who} failed:\n{about['traceback']}")
            return PhantomscopeError(**about)
        try:
            how = f"was killed by {signal.Signals(-end.status).name}"
        except ValueError:
            how = f"ended with exit status {end.status}"
        return PhantomscopeError(
            f"{who} {how}", where=KEY,
            fix=f"{_AGAIN}; if memory ran out, ask for more, or for fewer devices",
        )  # fmt: skip

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A stop was saved before; what a death made of a loss is not its cause.
        stopped = isinstance(error, StopRequestedError | KeyboardInterrupt)
        lost = isinstance(error, LostError) or self._died.is_set()
        reason = self._reason() if error and lost and not stopped else None
        self._left.set()
        for process in self._processes:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        if self._group is not None:
            self._group.end()
        self._folder.cleanup()
        if reason is not None:
            raise reason from error

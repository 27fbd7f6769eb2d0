"""Downloads that are killed, cut, refused or answered with something else."""

from __future__ import annotations

import random
import signal
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from tests import server as web
from tests.server import Server

from benchmarks.faults.commands import MissedError, Running, claim, finish, refused
from benchmarks.faults.model import Fault, Injection
from benchmarks.faults.processes import KILLED
from benchmarks.faults.world import World, difference
from benchmarks.laboratory import stage
from phantomscope.images.files import write_ome_tiff
from phantomscope.interrupt import EXIT_STATUS

NAME = "set.zip"
ENTRY = {
    "title": "three images", "licence": "CC0", "citation": "none",
    "homepage": "https://example.org",
    "layout": {"images": "images/{id}.ome.tif", "labels": "masks/{id}.ome.tif"},
}  # fmt: skip
# Made for one injection: what the server does to the next requests.
Plan = Callable[[bytes, random.Random], list[web.Fault]]


@dataclass(frozen=True)
class Place:
    """A server with an archive, and a config whose data set it is."""

    server: Server
    archive: bytes
    config: Path
    reference: Path

    def download(self, folder: Path) -> list[str]:
        """Return the command that downloads the archive into a folder."""
        return stage("download", "target", folder / NAME, config=self.config)

    def acquire(self, folder: Path) -> None:
        """Make an image set of the archive in a folder."""
        command = stage(
            "acquire", "images", folder / "images", "files", folder / NAME,
            config=self.config,
        )  # fmt: skip
        finish(command, folder / "acquire.log")

    def prepare(self, plan: list[web.Fault]) -> None:
        """Make the next requests fail."""
        self.server.add(NAME, self.archive, plan)
        self.server.requests.clear()

    def difference(self, folder: Path) -> str:
        """Acquire the images; tell what differs from an undisturbed download."""
        self.acquire(folder)
        return difference(self.reference, folder, NAME, "images")


def _archive(folder: Path) -> bytes:
    """Pack three dark images with a bright square each."""
    folder.mkdir(parents=True)
    path = folder / NAME
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(3):
            labels = np.zeros((96, 112), np.uint16)
            labels[20 : 40 + n, 30:60] = 1
            noise = np.random.default_rng(n).integers(50, 90, labels.shape)
            image = (noise + 900 * labels).astype(np.uint16)
            for name, array in (("images", image), ("masks", labels)):
                member = f"{name}/a{n}.ome.tif"
                write_ome_tiff(folder / member, array)
                archive.write(folder / member, member)
    return path.read_bytes()


def place(world: World) -> Place:
    """Return a running server and the artefacts of an undisturbed download."""

    def build(stack: ExitStack) -> Place:
        folder = world.folder / "network"
        archive = _archive(folder / "served")
        server = stack.enter_context(Server())
        file = {"name": NAME, "url": server.add(NAME, archive)}
        registry, config = folder / "datasets.yaml", folder / "config.yaml"
        registry.write_text(yaml.safe_dump({"three": {**ENTRY, "files": [file]}}))
        source = {"kind": "dataset", "dataset": "three", "registry": str(registry)}
        config.write_text(yaml.safe_dump({"source": source}))
        found = Place(server, archive, config, folder / "reference")
        finish(found.download(found.reference), folder / "reference.log")
        found.acquire(found.reference)
        return found

    return world.once("network", build)


def _stopped(number: int, world: World, folder: Path, n: int) -> Injection:
    """The server hangs in the middle, and the download is ended; it is resumed."""
    here, rng = place(world), random.Random(n)
    sent = rng.randrange(len(here.archive) // 4, len(here.archive))
    here.prepare([web.hang(sent)])
    partial_file = folder / f".{NAME}.partial"
    with Running(here.download(folder), folder / "log") as process:
        process.watch(lambda: partial_file.exists() and partial_file.stat().st_size)
        process.send(number)
        if number != signal.SIGKILL:
            # It waits for the transfer, which does not go on; the user insists.
            time.sleep(0.3)
            process.send(number)
        status = process.wait()
    # 130 inside the transfer, 75 between two parts of it.
    ends = {KILLED} if number == signal.SIGKILL else {130, EXIT_STATUS}
    claim(status in ends, process.text)
    claim(not (folder / NAME).exists(), "an unfinished download")
    kept = partial_file.stat().st_size
    if not kept:
        raise MissedError
    finish(here.download(folder), folder / "log")
    asked = here.server.requests[-1].range
    claim(asked == f"bytes={kept}-", f"asked for {asked!r}, {kept} bytes were there")
    return Injection(here.difference(folder), "asked only for the rest")


def _tried_again(plan: Plan, world: World, folder: Path, n: int) -> Injection:
    """Trouble that passes is no reason to end."""
    here = place(world)
    faults = plan(here.archive, random.Random(n))
    count = len(faults)
    here.prepare(faults)
    output = finish(here.download(folder), folder / "log")
    claim("next attempt" in output, output)
    asked = [request.range for request in here.server.requests]
    claim(len(asked) == count + 1, f"{len(asked)} requests")
    resumed = "asked only for the rest" if asked[-1] else "asked for all of it again"
    return Injection(here.difference(folder), resumed)


def _gives_up(plan: Plan, says: str, world: World, folder: Path, n: int) -> Injection:
    """Trouble that stays ends with a clear error; later the same command works."""
    here = place(world)
    here.prepare(plan(here.archive, random.Random(n)))
    command = here.download(folder)
    refused(command, folder / "log", says, here.server.url)
    claim(not (folder / NAME).exists(), "something wrong under the final name")
    claim(not (folder / f"{NAME}.sha256").exists(), "something wrong is pinned")
    finish(command, folder / "log")
    return Injection(here.difference(folder))


def _somewhere(content: bytes, rng: random.Random) -> int:
    return rng.randrange(len(content) // 4, len(content))


def _cut(content: bytes, rng: random.Random) -> list[web.Fault]:
    return [web.cut(_somewhere(content, rng))]


def _reset(content: bytes, rng: random.Random) -> list[web.Fault]:
    return [web.reset(_somewhere(content, rng))]


def _fails_once(content: bytes, rng: random.Random) -> list[web.Fault]:
    return [web.status(rng.choice([500, 502, 503]))]


def _fails(content: bytes, rng: random.Random) -> list[web.Fault]:
    return [web.status(500, Retry_After="0")] * 6


def _absent(content: bytes, rng: random.Random) -> list[web.Fault]:
    return [web.status(404)]


def _login_page(content: bytes, rng: random.Random) -> list[web.Fault]:
    return [web.instead(b"<html>Please log in</html>" * rng.randrange(1, 100))]


def _half(content: bytes, rng: random.Random) -> list[web.Fault]:
    return [web.instead(content[: _somewhere(content, rng)], "application/zip")]


FAULTS = [
    Fault("download-killed", "network", partial(_stopped, signal.SIGKILL)),
    Fault("server-hangs", "network", partial(_stopped, signal.SIGINT)),
    Fault("connection-cut", "network", partial(_tried_again, _cut)),
    Fault("connection-reset", "network", partial(_tried_again, _reset)),
    Fault("server-fails-once", "network", partial(_tried_again, _fails_once)),
    Fault("server-fails", "network", partial(_gives_up, _fails, "failed 6 times")),
    Fault("file-not-found", "network", partial(_gives_up, _absent, "no such file")),
    Fault("login-page", "network",
          partial(_gives_up, _login_page, "another file than expected")),
    Fault("archive-cut-short", "network",
          partial(_gives_up, _half, "another file than expected")),
]  # fmt: skip

"""Inputs, states and journals that are damaged between two runs."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from benchmarks.faults.commands import MissedError, Running, claim, finish, refused
from benchmarks.faults.model import Fault, Injection
from benchmarks.faults.processes import (
    KILLED,
    begun,
    kept_images,
    saved_step,
    state_of,
)
from benchmarks.faults.world import IMAGES, STEPS, World, difference
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import pixel_hash, read_array

Damage = Callable[[Path, random.Random], None]
FLIPS = 40


def cut_short(path: Path, rng: random.Random) -> None:
    """Keep only the beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(1, len(content))])


def empty(path: Path, rng: random.Random) -> None:
    """Keep nothing of a file but its name, as a power failure may."""
    path.write_bytes(b"")


def flip(path: Path, rng: random.Random) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def scatter(path: Path, rng: random.Random) -> None:
    """Overwrite a part of a file with random bytes."""
    content = bytearray(path.read_bytes())
    size = max(len(content) // 4, 1)
    start = rng.randrange(len(content) - size + 1)
    content[start : start + size] = rng.randbytes(size)
    path.write_bytes(content)


def _interrupted(world: World, folder: Path) -> None:
    """Leave a training state of some steps in a folder."""

    def train(_: object) -> Path:
        place = world.folder / "interrupted"
        with Running(world.training(place), world.folder / "interrupted.log") as run:
            run.watch(begun(place))
            run.watch(lambda: saved_step(place) > STEPS // 3)
            run.send(signal.SIGKILL)
            claim(run.wait() == KILLED, run.text)
        return place

    shutil.copytree(world.once("interrupted", train), folder, dirs_exist_ok=True)


def _same_tensors(a: object, b: object) -> bool:
    """Whether two contents of checkpoints are equal to the bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same_tensors(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same_tensors, a, b))
    return a == b


def _damaged_state(damage: Damage, world: World, folder: Path, n: int) -> Injection:
    _interrupted(world, folder)
    state = state_of(folder)
    damage(state, random.Random(n))
    output = finish(world.training(folder), folder / "log")
    claim("training starts anew" in output, output)
    claim((state.parent / "superseded-0.pt").exists(), "the damaged state is gone")
    return Injection(difference(world.reference, folder, "model.pt"))


def _flipped_state(world: World, folder: Path, n: int) -> Injection:
    """A flipped bit is detected, or was in none of the values."""
    _interrupted(world, folder)
    state = state_of(folder)
    content, whole = state.read_bytes(), load_checkpoint(state)
    rng, detected = random.Random(n), 0
    for _ in range(FLIPS):
        state.write_bytes(content)
        flip(state, rng)
        try:
            claim(_same_tensors(load_checkpoint(state), whole), "an unnoticed flip")
        except PhantomscopeError:
            detected += 1
    output = finish(world.training(folder), folder / "log")
    anew = "anew" if "starts anew" in output else "from the state"
    found = difference(world.reference, folder, "model.pt")
    note = f"{detected} of {FLIPS} detected, the others in no value; went on {anew}"
    return Injection(found, note)


def _damaged_model(damage: Damage, world: World, folder: Path, n: int) -> Injection:
    """The error says to delete the model; the commands then make it again."""
    shutil.copytree(world.reference, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "synthetic")
    model = folder / "model.pt"
    damage(model, random.Random(n))
    command = world.synthesis(folder, model)
    expected = ("checkpoint is damaged", str(model), "delete it")
    refused(command, folder / "log", *expected)
    claim(not (folder / "synthetic").exists(), "images of a damaged model")
    model.unlink()
    finish(world.training(folder), folder / "log")
    finish(command, folder / "log")
    return Injection(difference(world.reference, folder, "model.pt", "synthetic"))


def _damaged_image(damage: Damage, world: World, folder: Path, n: int) -> Injection:
    """An image is damaged and put back: nothing else has to be done again."""
    shutil.copytree(world.reference / "sketches", folder / "sketches")
    rng = random.Random(n)
    image = rng.choice(sorted((folder / "sketches").rglob("*.tif")))
    content, pixels = image.read_bytes(), pixel_hash(read_array(image))
    damage(image, rng)
    with suppress(PhantomscopeError):
        if pixel_hash(read_array(image)) == pixels:
            raise MissedError  # the end of the file holds no pixels
    command = world.synthesis(folder)
    refused(command, folder / "log", image.name)
    claim(not (folder / "synthetic").exists(), "an unfinished set")
    image.write_bytes(content)
    finish(command, folder / "log")
    return Injection(difference(world.reference, folder, "synthetic"))


def _partial_set(world: World, folder: Path) -> Path:
    """Leave a partial set of all images but the last in a folder."""

    def synthesise(_: object) -> Path:
        place = world.folder / "partial"
        shutil.copytree(world.reference / "sketches", place / "sketches")
        with Running(world.synthesis(place), place / "log") as run:
            run.watch(lambda: len(kept_images(place, "synthetic")) == IMAGES - 1)
            run.send(signal.SIGKILL)
            if run.wait() != KILLED:
                shutil.rmtree(place)
                raise MissedError
        return place

    found = world.once("partial", synthesise)
    shutil.copytree(found, folder, dirs_exist_ok=True)
    return folder / ".synthetic.partial"


def _damaged_journal(damage: Damage, world: World, folder: Path, n: int) -> Injection:
    partial_set = _partial_set(world, folder)
    journal = partial_set / "journal.jsonl"
    before = journal.read_bytes()
    damage(journal, random.Random(n))
    after = journal.read_bytes() if journal.exists() else b""
    whole = len(set(before.splitlines()) & set(after.splitlines()))
    finish(world.synthesis(folder), folder / "log")
    found = difference(world.reference, folder, "synthetic")
    return Injection(found, f"{whole} of {IMAGES - 1} lines whole")


def _damaged_pixels(damage: Damage, world: World, folder: Path, n: int) -> Injection:
    """An image that the journal lists is damaged, as after a power failure."""
    partial_set, rng = _partial_set(world, folder), random.Random(n)
    images = sorted(partial_set.rglob("[!.]*.tif"))
    names = {path.name for path in kept_images(folder, "synthetic")}
    damage(rng.choice([path for path in images if path.name in names]), rng)
    finish(world.synthesis(folder), folder / "log")
    return Injection(difference(world.reference, folder, "synthetic"))


def _deleted(path: Path, rng: random.Random) -> None:
    path.unlink()


_Inject = Callable[[Damage, World, Path, int], Injection]


def _faults(name: str, inject: _Inject, **damages: Damage) -> list[Fault]:
    """One fault for each kind of damage."""
    return [
        Fault(f"{name}-{damage.replace('_', '-')}", "inputs", partial(inject, function))
        for damage, function in damages.items()
    ]


FAULTS = [
    *_faults("image", _damaged_image, cut_short=cut_short, deleted=_deleted),
    *_faults("training-state", _damaged_state, cut_short=cut_short, empty=empty,
             overwritten=scatter),
    Fault("training-state-bits-flipped", "inputs", _flipped_state),
    *_faults("model", _damaged_model, cut_short=cut_short, overwritten=scatter),
    *_faults("journal", _damaged_journal, cut_short=cut_short, overwritten=scatter,
             bit_flipped=flip, deleted=_deleted),
    *_faults("partial-image", _damaged_pixels, empty=empty, overwritten=scatter,
             bit_flipped=flip, deleted=_deleted),
]  # fmt: skip

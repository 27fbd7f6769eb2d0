"""Synthetic images must not depend on how the work was divided."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.faults.commands import Running
from benchmarks.laboratory import Laboratory
from phantomscope.config.load import load_config
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.sample import Sampler
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.measure.image import psnr
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.stages import sketching


def _config(base: Path, folder: Path, options: Mapping[str, Mapping[str, Any]]) -> Path:
    content = yaml.safe_load(base.read_text()) or {}
    for section, values in options.items():
        content[section] = {**content.get(section, {}), **values}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def hashes(
    lab: Laboratory, folder: Path, *, shards: int, workers: int, images: int = 8,
    shuffled: bool = False, kill: bool = False,
) -> dict[str, str]:  # fmt: skip
    """Simulate and synthesise, divided in some way; return each image's SHA-256.

    Parameters
    ----------
    lab : Laboratory
        Holds the model.
    folder : Path
        Where the sets go.
    shards, workers : int
        Number of jobs, and how many run at the same time.
    images : int
        How many images.
    shuffled : bool
        Run the shards in another order.
    kill : bool
        Kill the first job when it has saved an image, and run it again.
    """
    folder.mkdir(parents=True)
    path = _config(lab.base, folder, {"simulate": {"shards": shards, "images": images}})
    config = load_config(path)
    order = list(range(shards))
    if shuffled:
        random.Random(1).shuffle(order)
    commands = []
    for shard in order:
        sketches = folder / f"sketches-{shard}"
        sketching.simulate(config, sketch=lab.sketch, sketches=sketches, shard=shard)
        commands.append(lab.synthesis(sketches, folder / f"synthetic-{shard}", path))
    if kill:
        _kill_midway(commands[0], folder, order[0])
    for first in range(0, len(commands), workers):
        _run_at_once(commands[first : first + workers], folder)
    sets = [ImageSet.open(folder / f"synthetic-{shard}") for shard in range(shards)]
    return {i: part.row(i)["sha256"] for part in sets for i in part.ids}


def _kill_midway(command: Sequence[str], folder: Path, shard: int) -> None:
    journal = folder / f".synthetic-{shard}.partial/journal.jsonl"
    with Running(command, folder / "killed.log") as process:
        process.watch(lambda: journal.exists() and journal.stat().st_size)
        process.send(signal.SIGKILL)
        process.wait()


def _run_at_once(commands: Sequence[Sequence[str]], folder: Path) -> None:
    running = [
        Running(command, folder / f"job-{n}.log") for n, command in enumerate(commands)
    ]
    for process in running:
        if process.wait():
            raise RuntimeError(process.text)


def identical_share(lab: Laboratory, folder: Path) -> tuple[float, int]:
    """Share of images with the same hash over shards, workers, order and a kill."""
    reference = hashes(lab, folder / "reference", shards=1, workers=1)
    variants = [
        hashes(lab, folder / "four-shards", shards=4, workers=1),
        hashes(lab, folder / "two-workers", shards=4, workers=2),
        hashes(lab, folder / "other-order", shards=4, workers=2, shuffled=True),
        hashes(lab, folder / "killed", shards=1, workers=1, kill=True),
    ]
    same = [found.get(i) == reference[i] for found in variants for i in reference]
    return float(np.mean(same)), len(same)


def synthesise_once(
    lab: Laboratory, shape: tuple[int, int], **options: object
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Synthesise one image of a size with some options; network values."""
    config = lab.config.synthesise.model_copy(update=options)
    simulate = lab.config.simulate.model_copy(update={"size": shape})
    parameters = SketchParameters.load(lab.sketch)
    sketch, _, _ = simulate_sketch(parameters, simulate, lab.config.seed, 0)
    scale = Normalisation.load(lab.normalisation)
    sampler = Sampler(DiffusionModel.load(lab.model), config, lab.config.seed)
    return sampler.from_sketch(unit_to_network(sketch, scale.transform), "image", 300)


def tile_size_psnr(
    lab: Laboratory, sizes: tuple[int, ...] = (64, 96, 160), **options: object
) -> float:
    """PSNR of the worst pair of tile sizes, in dB; data range 2 (network values)."""
    images = [synthesise_once(lab, (320, 320), tile=s, **options) for s in sizes]
    return min(
        psnr(images[a], images[b], data_range=2.0)
        for a in range(len(images))
        for b in range(a)
    )


def micro_batch_difference(lab: Laboratory) -> float:
    """Largest difference between micro-batch 1 and 8, relative to the range of 2."""
    # Small tiles, so that there are several to a batch.
    one, eight = (
        synthesise_once(lab, (192, 192), tile=96, overlap=16, micro_batch=m)
        for m in (1, 8)
    )
    return float(np.abs(one - eight).max()) / 2

"""Stages that noise annotated images and their sketches, and bring them back.

Figures 2 and 3 of Eschweiler & Stegmaier 2023. They read annotation and are a
measurement: nothing on the way from images to synthetic images depends on them.
"""

from __future__ import annotations

import copy
import itertools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.appearance import Appearance
from phantomscope.config.model import Config
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.fields import RowsField
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.process import Process, make_process
from phantomscope.engine.sample import Sampler
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import check_targets, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import NoiseField
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.distribution import (
    count_bins,
    merge_bins,
    pooled_distances,
)
from phantomscope.progress import Progress
from phantomscope.stages.annotation import (
    FIDELITY,
    METRICS,
    Annotated,
    annotated_part,
    likeness,
    load_annotated,
)
from phantomscope.stages.arguments import Output
from phantomscope.stages.synthesis import STATES, make_sampler, sketch_values

Float = NDArray[np.float32]
Counts = NDArray[np.int64]
INPUTS = ("real", "sketch")
# Voxels that are noised at once: bounds the memory.
MOST_VOXELS = 4_000_000


def _times(options: Appearance, process: Process, where: str | Path) -> list[int]:
    """Return the times in order, if the process knows them."""
    times = sorted(options.times)
    if times[-1] > process.timesteps:
        raise PhantomscopeError(
            f"the time {times[-1]} is beyond the {process.timesteps} of the process",
            where=f"appearance.times ({where})",
            fix=f"use times from 1 to {process.timesteps}",
        )
    if np.any(process.b > 0):
        raise PhantomscopeError(
            "noised sketches are compared for Gaussian diffusion only",
            where=f"process ({where})",
            fix="use a Gaussian process, or leave this measurement out",
        )
    return times


# The way forth


def _noised(
    item: Annotated, transform: str, process: Process, times: list[int], seed: int
) -> Iterator[tuple[int, int, Float]]:
    """Give parts of the noised image (0) and sketch (1): which, number of the time.

    The times share their noise, since each is compared by itself.
    """
    for which, unit in enumerate((item.image, item.sketch)):
        field = NoiseField(seed, item.identifier, f"forward/{INPUTS[which]}")
        rows = max(1, MOST_VOXELS // math.prod(unit.shape[1:]))
        for first in range(0, len(unit), rows):
            clean = unit_to_network(unit[first : first + rows], transform)
            origin = (first, *(0 for _ in clean.shape[1:]))
            noise = field.block(origin, clean.shape)
            for k, t in enumerate(times):
                noisy = float(process.a[t]) * clean + float(process.s[t]) * noise
                yield which, k, noisy


def measure_forward(
    config: Config, *, prepared: Path, normalisation: Path, forward: Output
) -> None:
    """Compare noised training images with noised sketches of their annotation."""
    check_targets(forward)
    options, process = config.appearance, make_process(config.process)
    times = _times(options, process, "process.timesteps")
    images = annotated_part(prepared, "train", options.forward_images)
    scale = Normalisation.load(normalisation)
    bins = math.lcm(*options.bins)
    ends = np.tile([np.inf, -np.inf], (len(times), 1))
    counts: dict[str, Counts] = {}
    with Progress("noising", 2 * len(images), unit="images") as progress:

        def parts() -> Iterator[tuple[str, int, int, Float]]:
            for identifier in images.ids:
                item = load_annotated(
                    images, scale, options, identifier, config.synthesise.sketch_blur
                )
                found = _noised(item, scale.transform, process, times, config.seed)
                for which, k, noisy in found:
                    yield item.group, which, k, noisy
                progress.advance()

        # Twice: bins span the values of all images, so these must be known first.
        for _, _, k, noisy in parts():
            ends[k, 0] = min(ends[k, 0], float(noisy.min()))
            ends[k, 1] = max(ends[k, 1], float(noisy.max()))
        shape = (len(INPUTS), len(times), bins)
        for group, which, k, noisy in parts():
            pooled = counts.setdefault(group, np.zeros(shape, np.int64))
            pooled[which, k] += count_bins(noisy, ends[k, 0], ends[k, 1], bins)
    table = _distances(config, times, counts).assign(images=len(images))
    write_text(forward, table.to_csv(index=False))


def _distances(
    config: Config, times: list[int], counts: dict[str, Counts]
) -> pd.DataFrame:
    """Return one row per time, number of bins and distance."""
    rows = []
    numbers = sorted(config.appearance.bins)
    for bins, (k, t) in itertools.product(numbers, enumerate(times)):
        groups = [merge_bins(pooled[:, k], bins) for pooled in counts.values()]
        found = pooled_distances(
            groups, resamples=config.evaluate.resamples,
            confidence=config.evaluate.confidence, seed=config.seed,
        )  # fmt: skip
        voxels = int(sum(group[0].sum() for group in groups))
        rows += [
            {"t": t, "bins": bins, "metric": name, "value": one.value,
             "ci_low": one.low, "ci_high": one.high, "groups": one.n, "voxels": voxels}
            for name, one in found.items()
        ]  # fmt: skip
    return pd.DataFrame(rows)


# The way back


Way = tuple[str, Synthesise, int, str]


def _ways(config: Config, times: list[int]) -> list[Way]:
    """List sampling, its options, time and input of all that an image is made into."""
    ways: list[Way] = []
    for sampling, t in itertools.product(config.appearance.samplers, times):
        steps: dict[str, Any] = {"steps": min(config.synthesise.evaluations(t), t)}
        if sampling == "ancestral":
            steps = {"sampler": "ddpm", "spacing": "uniform", "steps": t}
        options = config.synthesise.model_copy(update=steps)
        ways += [(sampling, options, t, which) for which in INPUTS]
    return ways


def _bring_back(
    sampler: Sampler, item: Annotated, which: str, t: int, transform: str, scratch: Path
) -> Iterator[Float]:
    """Noise to t and go the way back; give the rows, network values.

    The image and its sketch meet the same noise. A model that sees sketches sees that
    of the annotation in both cases.
    """
    # Its blur is there already.
    sharp = sampler.config.model_copy(update={"sketch_blur": 0.0})
    drawn = sketch_values(item.sketch, sharp, transform)[None]
    given = unit_to_network(item.image, transform) if which == "real" else drawn[0]
    sees = bool(sampler.model.conditions)
    if given.ndim == 2:
        condition = drawn if sees else None
        yield from sampler.from_sketch(given, item.identifier, t, condition)
        return
    seen = RowsField(lambda a, b: drawn[:, a:b], 1, given.shape, sampler.device)
    field = sampler.stream(
        lambda a, b: given[None, a:b], given.shape, item.identifier, t, scratch,
        seen if sees else None,
    )  # fmt: skip
    for row in range(given.shape[0]):
        yield field.read(row, row + 1)[0, 0].cpu().numpy()
    shutil.rmtree(scratch)


def _add(
    writer: ImageSetWriter, item: Annotated, name: str, image: NDArray[Any],
    scores: dict[str, Any], **columns: Any,
) -> None:  # fmt: skip
    """Write one image beside the labels that it should show."""
    writer.add(
        name, image, item.labels, split="test", group=item.group,
        parent=item.identifier, limits=item.identifier, **item.voxel, **columns,
        **scores,
    )  # fmt: skip


def _add_references(
    writer: ImageSetWriter, item: Annotated, scale: Normalisation, options: Appearance
) -> None:
    """Add the image and the sketch themselves, which nothing was done to."""
    raw = scale.from_unit(item.image, item.identifier)
    for which, unit, kept in (
        ("image", item.image, raw), ("drawn", item.sketch, item.sketch)
    ):  # fmt: skip
        name = f"{item.identifier}-{which}"
        if name not in writer:
            scores = likeness(item, unit, options)
            if which == "image":
                scores = {k: v for k, v in scores.items() if k in FIDELITY}
            _add(writer, item, name, kept, scores, t=0, input=which, sampler="",
                 steps=0)  # fmt: skip


def measure_backward(
    config: Config, *, prepared: Path, normalisation: Path, model: Path,
    backward: Output, backward_images: Output,
) -> None:  # fmt: skip
    """Bring noised test images and noised sketches of their annotation back."""
    check_targets(backward)
    options, scale = config.appearance, Normalisation.load(normalisation)
    diffusion = DiffusionModel.load(model)
    if "distilled" in diffusion.meta:
        raise PhantomscopeError(
            "a student knows no other time than its own",
            where=model,
            fix="give the diffusion model",
        )
    images = annotated_part(prepared, "test", options.images)
    times = _times(options, diffusion.process, model)
    ways = _ways(config, times)
    info = {
        "stage": "measure_backward",
        "seed": config.seed,
        "options": options.model_dump(mode="json"),
        "synthesise": config.synthesise.model_dump(mode="json"),
        "model": diffusion.meta["fingerprint"],
        "images": list(images.table["sha256"]),
        "masks": list(images.table["mask_sha256"]),
    }
    base = make_sampler(diffusion, config)
    with (
        ImageSetWriter(backward_images, info) as writer,
        Progress("bringing back", len(images) * len(ways), unit="images") as progress,
    ):
        for identifier in images.ids:
            _one_image(writer, base, images, identifier, scale, options, ways, progress)
        shutil.rmtree(writer.partial / STATES, ignore_errors=True)
        rows = [writer.rows[name] for name in sorted(writer.rows)]
    write_text(backward, _tidy(rows).to_csv(index=False))


def _one_image(
    writer: ImageSetWriter, base: Sampler, images: ImageSet, identifier: str,
    scale: Normalisation, options: Appearance,
    ways: list[Way], progress: Progress,
) -> None:  # fmt: skip
    """Bring one image and its sketch back in all ways that are not done yet."""
    names = [f"{identifier}-{which}-t{t:04d}-{how}" for how, _, t, which in ways]
    if all(name in writer for name in (*names, f"{identifier}-drawn")):
        progress.advance(len(ways))
        return
    item = load_annotated(
        images, scale, options, identifier, base.config.sketch_blur
    ).cropped(options)
    _add_references(writer, item, scale, options)
    for name, (_, how, t, which) in zip(names, ways, strict=True):
        if name not in writer:
            sampler = copy.copy(base)  # with the same compiled network
            sampler.config = how
            scratch = writer.partial / STATES / name
            found = _bring_back(sampler, item, which, t, scale.transform, scratch)
            raw = np.stack([scale.inverse(row, identifier) for row in found])
            scores = likeness(item, scale.to_unit(raw, identifier), options)
            _add(writer, item, name, raw, scores, t=t, input=which,
                 sampler=how.sampler, steps=how.steps)  # fmt: skip
        progress.advance()


def _tidy(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per image, time, input, sampler and metric."""
    kept = ("parent", "group", "t", "input", "sampler", "steps")
    table = pd.DataFrame([
        {**{name: row[name] for name in kept}, "metric": metric, "value": row[metric]}
        for row in rows for metric in METRICS if metric in row
    ])  # fmt: skip
    return table.rename(columns={"parent": "id"})

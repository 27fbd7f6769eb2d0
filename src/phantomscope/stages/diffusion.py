"""Stages of the diffusion model: training, choice of t_start, synthesis, check."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.analysis import Check
from phantomscope.config.model import Config
from phantomscope.engine.networks import make_network
from phantomscope.engine.patches import PatchSource
from phantomscope.engine.process import make_process
from phantomscope.engine.sample import DiffusionModel, Sampler
from phantomscope.engine.start import choose, forward_distances
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import (
    check_replaceable,
    check_targets,
    pixel_hash,
    read_json,
    replace_folder,
    write_json,
    write_ome_tiff,
    write_text,
)
from phantomscope.images.imageset import ImageSet, ImageSetWriter, write_manifest
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation, unit_to_network
from phantomscope.measure.fidelity import Fidelity, check_fidelity
from phantomscope.progress import Progress
from phantomscope.simulate.parameters import SketchParameters
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.stages.data import kind_of, raw_limits, unannotated

Float = NDArray[np.float32]


def train_diffusion(
    config: Config, *, prepared: Path, normalisation: Path, model: Path, metrics: Path,
    state: Path,
) -> None:  # fmt: skip
    """Train the diffusion model on patches of the unannotated training images."""
    check_targets(model, metrics)
    images, scale = unannotated(prepared), Normalisation.load(normalisation)
    patches = PatchSource(
        images, scale, config.train.patch, config.seed, augment=config.train.augment
    )
    shape = config.model_dump(include={"network", "process"})
    options = config.train.model_dump(exclude={"checkpoint_every", "micro_batch"})
    trainer = Trainer(
        make_network(config.network, config.seed),
        make_process(config.process),
        patches.batch,
        config.train,
        seed=config.seed,
        noise_channel=config.network.noise_channel,
        identity={
            **shape,
            "train": options,
            "seed": config.seed,
            "images": list(images.table["sha256"]),
            "limits": scale.limits,
        },
        state=state,
    )
    trainer.train()
    extremes = [scale.forward(images.image(i), i) for i in images.ids]
    value_range = (
        min(float(x.min()) for x in extremes),
        max(float(x.max()) for x in extremes),
    )
    write_text(metrics, trainer.metrics_file.read_text())
    trainer.save_model(
        model, {**shape, "value_range": value_range, "seed": config.seed}
    )


def _crops(images: Sequence[Float], count: int, side: int, seed: int) -> list[Float]:
    """Random crops, spread over the images."""
    rng = generator(seed, "crops")
    crops = []
    for n in range(count):
        image = images[n % len(images)]
        y, x = (int(rng.integers(max(s - side, 0) + 1)) for s in image.shape)
        crops.append(image[y : y + side, x : x + side])
    return crops


def _times(config: Config, timesteps: int, model: Path) -> list[int]:
    """List the times to compare: known to the model, and with a fixed value."""
    options = config.start
    if timesteps != config.process.timesteps:
        raise PhantomscopeError(
            f"the model was trained with `process.timesteps: {timesteps}`, the config "
            f"says {config.process.timesteps}",
            where=model,
            fix="set it back, or train again",
        )
    times = [t for t in options.candidates if t <= timesteps]
    if options.value != "auto" and options.value not in times:
        times = sorted([*times, options.value])
    return times


def choose_start(
    config: Config, *, prepared: Path, normalisation: Path, sketch: Path, model: Path,
    start: Path, table: Path, start_images: Path,
) -> None:  # fmt: skip
    """Choose t_start from the data, with a table of every candidate."""
    check_targets(start, table)
    images, scale = unannotated(prepared), Normalisation.load(normalisation)
    parameters = SketchParameters.load(sketch)
    diffusion = DiffusionModel.load(model)
    options = config.start
    times = _times(config, diffusion.process.timesteps, model)
    # Sketches with numbers that no synthetic image has.
    first = config.simulate.images
    drawn = [
        simulate_sketch(parameters, config.simulate, config.seed, first + n)
        for n in range(max(options.images, 8))
    ]
    flat = [unit_to_network(s, scale.transform) for s, _, _ in drawn]
    chosen = images.ids[:: -(-len(images) // 16)]
    real = [scale.forward(images.image(i), i) for i in chosen]
    side = min(config.simulate.size)
    distances = forward_distances(
        _crops(real, 16, side, config.seed), flat, diffusion.process, times
    )
    fidelity = []
    sampler = Sampler(diffusion, config.synthesise, config.seed)
    info = {"stage": "choose_start", "seed": config.seed}
    shutil.rmtree(start_images.with_name(f".{start_images.name}.partial"), True)
    with (
        ImageSetWriter(start_images, info) as writer,
        Progress("trying t_start", len(times) * options.images, unit="images") as bar,
    ):
        for t in times:
            scores = []
            for n in range(options.images):
                _, labels, kind = drawn[n]
                back = sampler.from_sketch(flat[n], f"start-{n}", t)
                like = raw_limits(scale, images, kind.name, config.seed, n)
                raw = scale.inverse(back, like)
                unit = scale.to_unit(raw, like)
                scores.append(check_fidelity(unit, labels, kind.radius[3]).f1)
                writer.add(f"t{t:04d}-{n}", raw, labels, t=t, sketch=n)
                bar.advance()
            fidelity.append(float(np.mean(scores)))
    distances["fidelity"] = fidelity
    best = max(max(fidelity), 1e-9)
    distances["fidelity_relative"] = distances["fidelity"] / best
    choice = choose(distances, options)
    write_text(table, distances.to_csv(index=False))
    write_json(
        start,
        {
            "value": choice.value,
            "reason": choice.reason,
            "max_distance": options.max_distance,
            "min_fidelity": options.min_fidelity,
        },
    )


def _read_start(start: Path, timesteps: int) -> int:
    """Read t_start and make sure that the model knows this time."""
    content = read_json(start)
    value = content.get("value") if isinstance(content, dict) else None
    if not isinstance(value, int) or not 1 <= value <= timesteps:
        raise PhantomscopeError(
            f"t_start is {value!r}, the model knows the times 1 to {timesteps}",
            where=start,
            fix="delete it and run `choose-start` again, or set `value` in it",
        )
    return value


def synthesise(
    config: Config, *, prepared: Path, normalisation: Path, model: Path, start: Path,
    sketches: Path, synthetic: Path,
) -> None:  # fmt: skip
    """Turn one shard of sketches into realistic images with the same labels."""
    real, scale = unannotated(prepared), Normalisation.load(normalisation)
    diffusion = DiffusionModel.load(model)
    part = ImageSet.open(sketches).having("type")
    t_start = _read_start(start, diffusion.process.timesteps)
    info = {
        "stage": "synthesise",
        "seed": config.seed,
        "t_start": t_start,
        "options": config.synthesise.model_dump(),
        "model": diffusion.meta["fingerprint"],
        "sketches": list(part.table["sha256"]),
    }
    sampler = Sampler(diffusion, config.synthesise, config.seed)
    with (
        ImageSetWriter(synthetic, info) as writer,
        Progress("synthesising", len(part), unit="images") as progress,
    ):
        for identifier in part.ids:
            if identifier not in writer:
                row = part.row(identifier)
                values = unit_to_network(part.image(identifier), scale.transform)
                values = sampler.from_sketch(values, identifier, t_start)
                number = int(identifier.rsplit("-", 1)[1])
                like = raw_limits(scale, real, row["type"], config.seed, number)
                writer.add(
                    identifier,
                    scale.inverse(values, like),
                    part.mask(identifier),
                    split="train",
                    seed=config.seed,
                    type=row["type"],
                    limits=like,
                )
            progress.advance()


def _reasons(fidelity: Fidelity, options: Check) -> list[str]:
    count = max(len(fidelity.objects), 1)
    vanished = fidelity.vanished(options.min_contrast).sum() / count
    found = []
    if vanished > options.max_vanished:
        found.append("vanished objects")
    if fidelity.phantoms / count > options.max_phantoms:
        found.append("phantom objects")
    if fidelity.agreement < options.min_agreement:
        found.append("disagreement")
    return found


def _kept_row(
    row: dict[str, Any], part: ImageSet, gone: NDArray[Any], partial: Path, final: Path
) -> dict[str, Any]:
    """Manifest row of a kept image; labels of vanished objects are erased."""
    prefix = os.path.relpath(part.folder, final)
    row = {**row, "image": f"{prefix}/{row['image']}"}
    if not len(gone):
        return {**row, "mask": f"{prefix}/{row['mask']}"}
    labels = part.mask(row["id"])
    labels = np.where(np.isin(labels, gone), 0, labels).astype(labels.dtype)
    path = f"labels/{row['id']}.ome.tif"
    write_ome_tiff(partial / path, labels)
    return {**row, "mask": path, "mask_sha256": pixel_hash(labels)}


def check(
    config: Config, *, normalisation: Path, sketch: Path, synthetic: list[Path],
    checked: Path,
) -> None:  # fmt: skip
    """Score every synthetic image and object, and drop the bad ones."""
    scale, options = Normalisation.load(normalisation), config.check
    parameters = SketchParameters.load(sketch)
    check_replaceable(checked)
    partial = checked.with_name(f".{checked.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    parts = [ImageSet.open(folder).having("type", "limits") for folder in synthetic]
    kept: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    objects, erased = [], 0
    places = {i: part for part in parts for i in part.ids}
    with Progress("checking", len(places), unit="images") as progress:
        for identifier in sorted(places):
            part = places[identifier]
            row = part.row(identifier)
            labels = part.mask(identifier)
            unit = scale.to_unit(part.image(identifier), row["limits"])
            kind = kind_of(parameters, row["type"], sketch)
            fidelity = check_fidelity(unit, labels, kind.radius[3])
            gone = fidelity.vanished(options.min_contrast)
            row |= {
                "objects": len(fidelity.objects),
                "vanished": int(gone.sum()),
                "phantoms": fidelity.phantoms,
                "agreement": round(fidelity.agreement, 4),
                "contrast": round(float(fidelity.objects["contrast"].median()), 3),
            }
            objects.append(fidelity.objects.assign(id=identifier))
            if reasons := _reasons(fidelity, options):
                rejected.append({**row, "reason": "; ".join(reasons)})
            else:
                numbers = np.asarray(fidelity.objects["label"])[gone]
                numbers = numbers if options.erase_vanished else numbers[:0]
                erased += len(numbers)
                kept.append(_kept_row(row, part, numbers, partial, checked))
            progress.advance()
    if not kept:
        shutil.rmtree(partial, ignore_errors=True)
        reason = "; ".join(sorted({r["reason"] for r in rejected}))
        raise PhantomscopeError(
            f"all {len(rejected)} synthetic images were rejected ({reason})",
            where="check",
            fix="train longer (`train.steps`), choose a smaller `start.value`, or look "
            "at the images and relax the limits of `check`",
        )
    _write_checked(partial, kept, rejected, objects, erased, config)
    replace_folder(partial, checked)


def _write_checked(
    partial: Path, kept: list[dict[str, Any]], rejected: list[dict[str, Any]],
    objects: list[pd.DataFrame], erased: int, config: Config,
) -> None:  # fmt: skip
    reasons: dict[str, int] = {}
    for row in rejected:
        for reason in row["reason"].split("; "):
            reasons[reason] = reasons.get(reason, 0) + 1
    table = pd.concat(objects, ignore_index=True)
    summary = {
        "images": len(kept) + len(rejected),
        "kept": len(kept),
        "rejected": len(rejected),
        "objects": len(table),
        "erased_labels": erased,
        "reasons": reasons,
    }
    write_manifest(partial, kept, {"stage": "check", "seed": config.seed})
    columns = [*next(iter(kept or rejected)), "reason"]
    dropped = pd.DataFrame(rejected, columns=list(dict.fromkeys(columns)))
    write_text(partial / "rejected.csv", dropped.to_csv(index=False))
    write_text(partial / "objects.csv", table.to_csv(index=False))
    write_json(partial / "summary.json", summary)

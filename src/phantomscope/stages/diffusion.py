"""Stages of the diffusion model: training, choice of t_start, distillation."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.engine.distil import make_distillation, student_training
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.objective import Denoising
from phantomscope.engine.patches import PatchSource
from phantomscope.engine.process import make_process
from phantomscope.engine.sample import Sampler
from phantomscope.engine.start import (
    choose,
    excess_distance,
    forward_distances,
    relative_fidelity,
)
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import (
    check_targets,
    write_json,
    write_text,
)
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.progress import Progress
from phantomscope.simulate.parameters import SketchParameters, SketchType
from phantomscope.simulate.patches import SketchPatches
from phantomscope.simulate.sketch import simulate_sketch
from phantomscope.stages.arguments import Output, Place
from phantomscope.stages.checking import fidelity_of
from phantomscope.stages.data import raw_limits, unannotated
from phantomscope.stages.pseudo import PseudoSketches
from phantomscope.stages.synthesis import (
    bring_back,
    make_sampler,
    network_sketch,
    raw_image,
    read_start,
    sketch_values,
)

Float = NDArray[np.float32]
# Options of a training that do not shape it: its state is taken up with others.
NO_IDENTITY = {"checkpoint_every", "micro_batch", "devices"}
# Of real images and of sketches, to compare them.
CROPS = 32
Drawn = tuple[Float, NDArray[np.uint16], SketchType]


def _values(images: ImageSet, scale: Normalisation, identifier: str) -> Iterator[Float]:
    """Give the network values of an image; of a volume those of its planes."""
    if len(images.shape(identifier)) == 2 or scale.channels > 1:
        yield scale.forward_channels(images.channels(identifier), identifier)
    else:
        with images.planes(identifier) as planes:
            yield from (scale.forward(plane, identifier) for plane in planes)


def _value_range(images: ImageSet, scale: Normalisation) -> tuple[float, float]:
    """Lowest and highest network value of the images."""
    extremes = [
        (float(values.min()), float(values.max()))
        for i in images.ids
        for values in _values(images, scale, i)
    ]
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def train_diffusion(
    config: Config, *, prepared: Path, normalisation: Path, model: Output,
    metrics: Output, state: Place, pseudo: Path | None = None,
) -> None:  # fmt: skip
    """Train the diffusion model on patches of the unannotated training images."""
    check_targets(model, metrics)
    images, scale = unannotated(prepared), Normalisation.load(normalisation)
    conditions, condition, seen = 0, None, dict[str, Any]()
    if config.condition.kind == "sketch":
        if pseudo is None:
            raise PhantomscopeError(
                "a model that sees sketches learns from pseudo-sketches",
                where="condition.kind",
                fix="give --pseudo, the folder that `pseudo-sketches` writes",
            )
        condition = PseudoSketches(ImageSet.open(pseudo), scale.transform)
        conditions, seen = 1, {"pseudo": condition.hashes(images)}
    patches = PatchSource(
        images, scale, config.train.patch_shape(images.dims), config.seed,
        augment=config.train.augment, symmetries=config.train.symmetries,
        condition=condition,
    )  # fmt: skip
    shape = config.model_dump(include={"network", "process"})
    options = config.train.model_dump(exclude=NO_IDENTITY)
    process = make_process(config.process)
    trainer = Trainer(
        make_network(
            config.network,
            config.seed,
            images.dims,
            channels=scale.channels,
            conditions=conditions,
            timesteps=config.process.timesteps,
        ),
        process,
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
            **({"others": scale.others} if scale.others else {}),
            **seen,
        },
        state=state,
        objective=Denoising(process, config.network.noise_channel, conditions),
    )
    trainer.train()
    write_text(metrics, trainer.metrics_file.read_text())
    about = {
        **shape,
        "value_range": _value_range(images, scale),
        "seed": config.seed,
        "dims": images.dims,
        "channels": scale.channels,
        "conditions": conditions,
    }
    trainer.save_model(model, about)


def _largest(config: Config) -> tuple[int, ...]:
    """Size of what the times are compared on: of volumes no more than a tile."""
    if config.dims == 2:
        return config.simulate.size
    options = config.synthesise
    tile = (options.tile_depth, options.tile, options.tile)
    return tuple(map(min, zip(config.simulate.size, tile, strict=True)))


def _real_crops(
    images: ImageSet, scale: Normalisation, size: Sequence[int], seed: int
) -> list[Float]:
    """Random crops of real images in network values, spread over the images."""
    chosen = images.ids[:: -(-len(images) // CROPS)]
    rng = generator(seed, "crops")
    whole: dict[str, Float] = {}
    crops = []
    for n in range(CROPS):
        identifier = chosen[n % len(chosen)]
        shape = images.shape(identifier)
        corner = [
            int(rng.integers(max(s - w, 0) + 1))
            for s, w in zip(shape, size, strict=True)
        ]
        plane = tuple(
            slice(c, c + w) for c, w in zip(corner[-2:], size[-2:], strict=True)
        )
        if len(shape) == 2:
            if identifier not in whole:
                whole[identifier] = scale.forward(images.image(identifier), identifier)
            crops.append(whole[identifier][plane])
        else:
            with images.planes(identifier) as planes:
                rows = planes.read(corner[0], min(corner[0] + size[0], shape[0]))
            crops.append(scale.forward(rows[:, *plane], identifier))
    return crops


def _cropped(drawn: Drawn, size: Sequence[int], rng: np.random.Generator) -> Drawn:
    """Return a crop of a sketch: of a few the one with the most labelled pixels."""
    sketch, labels, kind = drawn
    if all(s <= w for s, w in zip(labels.shape, size, strict=True)):
        return drawn
    places = []
    for _ in range(8):
        corner = [
            int(rng.integers(max(s - w, 0) + 1))
            for s, w in zip(labels.shape, size, strict=True)
        ]
        places.append(tuple(slice(c, c + w) for c, w in zip(corner, size, strict=True)))
    best = max(places, key=lambda place: np.count_nonzero(labels[place]))
    window: Any = (..., *best)
    return sketch[window], labels[best], kind


def _draw(config: Config, parameters: SketchParameters) -> list[Drawn]:
    """Draw sketches with numbers that no synthetic image has.

    Whole images, as many as there are crops; of volumes, which are large, several
    crops each.
    """
    first, few = config.simulate.images, config.start.images
    count = max(few, CROPS) if config.dims == 2 else few
    drawn = [
        simulate_sketch(parameters, config.simulate, config.seed, first + n)
        for n in range(count)
    ]
    if config.dims == 2:
        return drawn
    size, rng = _largest(config), generator(config.seed, "sketch crops")
    return [_cropped(drawn[n % count], size, rng) for n in range(max(few, CROPS))]


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


def _bring_back(
    config: Config, sampler: Sampler, times: Sequence[int], drawn: Sequence[Drawn],
    images: ImageSet, scale: Normalisation, folder: Path,
) -> list[float]:  # fmt: skip
    """Bring sketches back from each time; return the mean label fidelity of each."""
    info = {"stage": "choose_start", "seed": config.seed}
    fidelity = []
    with (
        ImageSetWriter(folder, info, resume=False) as writer,
        Progress("trying t_start", len(times) * len(drawn), unit="images") as bar,
    ):
        for t in times:
            scores = []
            for n, (sketch, labels, kind) in enumerate(drawn):
                flat = network_sketch(
                    channels_of(sketch, labels), config.synthesise, scale.transform
                )
                back = bring_back(sampler, flat, f"start-{n}", t)
                like = raw_limits(scale, images, kind.name, config.seed, n)
                raw = raw_image(back, scale, like)
                unit = scale.to_unit(channels_of(raw, labels)[0], like)
                scores.append(fidelity_of(unit, labels, kind).f1)
                writer.add(
                    f"t{t:04d}-{n}", raw, labels, t=t, sketch=n,
                    channels=scale.channels,
                )  # fmt: skip
                bar.advance()
            fidelity.append(float(np.mean(scores)))
    return fidelity


def channels_of(image: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Return an image or a sketch with an axis of channels, shape (C, [Z,] Y, X)."""
    return image if image.ndim > labels.ndim else image[None]


def _compared(
    config: Config, diffusion: DiffusionModel, times: Sequence[int],
    drawn: Sequence[Drawn], images: ImageSet, scale: Normalisation,
) -> pd.DataFrame:  # fmt: skip
    """Distances of noised sketches from noised crops of real images."""
    size = _largest(config)
    if config.dims == 2:
        size = (min(size),) * 2
    crops = _real_crops(images, scale, size, config.seed)
    # Of several channels the first, in which the objects are looked for.
    flat = [
        sketch_values(
            channels_of(sketch, labels)[0], config.synthesise, scale.transform
        )
        for sketch, labels, _ in drawn
    ]
    return forward_distances(crops, flat, diffusion.process, times)


def choose_start(
    config: Config, *, prepared: Path, normalisation: Path, sketch: Path, model: Path,
    start: Output, table: Output, start_images: Output,
) -> None:  # fmt: skip
    """Choose t_start from the data, with a table of every candidate."""
    check_targets(start, table)
    images, scale = unannotated(prepared), Normalisation.load(normalisation)
    parameters = SketchParameters.load(sketch)
    diffusion = DiffusionModel.load(model)
    options = config.start
    times = _times(config, diffusion.process.timesteps, model)
    drawn = _draw(config, parameters)
    found = _compared(config, diffusion, times, drawn, images, scale)
    sampler = make_sampler(diffusion, config)
    tried = drawn[: options.images]
    found["fidelity"] = _bring_back(
        config, sampler, times, tried, images, scale, start_images
    )
    found["fidelity_relative"] = relative_fidelity(list(found["fidelity"]))
    found["excess"] = excess_distance(found)
    choice = choose(found, options)
    write_text(table, found.to_csv(index=False))
    limits = {
        "max_distance": options.max_distance,
        "min_fidelity": options.min_fidelity,
    }
    write_json(start, {"value": choice.value, "reason": choice.reason, **limits})


def distil(
    config: Config, *, normalisation: Path, sketch: Path, model: Path, start: Path,
    student: Output, student_metrics: Output, state: Place,
) -> None:  # fmt: skip
    """Distil the diffusion model into a student that takes 1 to 4 steps."""
    check_targets(student, student_metrics)
    options = config.distil
    if options.steps == 0:
        raise PhantomscopeError(
            "a student of no steps cannot be",
            where="distil.steps",
            fix="ask for 1 to 4",
        )
    scale, parameters = Normalisation.load(normalisation), SketchParameters.load(sketch)
    teacher = DiffusionModel.load(model)
    if "distilled" in teacher.meta:
        raise PhantomscopeError(
            "this is a student itself", where=model, fix="give the diffusion model"
        )
    t_start = read_start(start, teacher.process.timesteps)
    train = student_training(options, config.train)
    about = {
        "teacher": teacher.meta["fingerprint"],
        "method": "teacher's way in one DDIM step per segment",
        "steps": options.steps,
        "t_start": t_start,
        "teacher_steps": options.teacher_steps,
        "teacher_sampler": options.teacher_sampler,
    }
    patches = SketchPatches(
        parameters, config.simulate, scale.transform, options.patch, config.seed
    )
    trainer = Trainer(
        copy.deepcopy(teacher.network),
        teacher.process,
        patches.batch,
        train,
        seed=config.seed,
        noise_channel=teacher.noise_channel,
        identity={
            "distilled": about,
            "train": train.model_dump(exclude=NO_IDENTITY),
            "clip": config.synthesise.clip,
            "seed": config.seed,
            "sketches": patches.identity,
        },
        state=state,
        objective=make_distillation(
            teacher, options, t_start, clip=config.synthesise.clip, device=train.device
        ),
    )
    trainer.train()
    write_text(student_metrics, trainer.metrics_file.read_text())
    names = (
        "network", "process", "value_range", "seed", "dims", "channels", "conditions",
    )  # fmt: skip
    kept = {name: teacher.meta[name] for name in names if name in teacher.meta}
    trainer.save_model(student, {**kept, "distilled": about})

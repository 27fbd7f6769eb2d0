"""The stages that translate: pairs, training, predicted stains and their instances."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.model import Config
from phantomscope.config.perceptual import LEFT_OUT
from phantomscope.config.translation import LATENT
from phantomscope.engine.adversarial import Adversarial, make_contest
from phantomscope.engine.codec import Codec, LatentPatches, LatentSampler
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.objective import Denoising
from phantomscope.engine.pairs import Pairs, to_stored
from phantomscope.engine.patches import PatchSource
from phantomscope.engine.perceptual import Perceptual
from phantomscope.engine.process import make_process
from phantomscope.engine.sample import Sampler
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import check_targets, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.boundaries import decode_boundaries
from phantomscope.progress import Progress
from phantomscope.provenance import fingerprint
from phantomscope.stages.arguments import Output, Place
from phantomscope.stages.diffusion import NO_IDENTITY
from phantomscope.stages.plates import KEPT

Float = NDArray[np.float32]


def open_pairs(config: Config, pairs: Path, split: str) -> Pairs:
    """Open one side of the pairs, as the process of the config needs them.

    Raises
    ------
    PhantomscopeError
        If this side has no image.
    """
    images = ImageSet.open(pairs).select(split=split)
    if not len(images):
        raise PhantomscopeError(
            f"no image is on the side {split!r}",
            where=pairs / "manifest.csv",
            fix="see `translate.plates.split`",
        )
    options = config.translate
    shifts = make_process(config.process).shifts
    return Pairs(images, len(options.plates.inputs), options.anchors if shifts else ())


def open_codec(path: Path | None, method: str) -> Codec | None:
    """Load the codec of a method that needs one.

    Raises
    ------
    PhantomscopeError
        If it was not given, or is no codec.
    """
    if method != LATENT:
        return None
    if path is None:
        raise PhantomscopeError(
            f"`{method}` works in the latent space of a codec",
            where="--codec",
            fix="give the file that the stage `train-codec` wrote",
        )
    return Codec.load(path)


def open_perceptual(config: Config, method: str) -> Perceptual | None:
    """Load the weights of the perceptual error, if a method has it and they are here.

    Raises
    ------
    PhantomscopeError
        If the folder that the config names does not hold them.
    """
    error = config.translate.perceptual_of(method)
    if error is None:
        return None
    if error.weights is None:
        print(f"warning: {LEFT_OUT}", file=sys.stderr)
        return None
    return Perceptual.load(Path(error.weights))


def train_translator(
    config: Config, *, pairs: Path, model: Output, metrics: Output, state: Place,
    method: str, seed: int = 0, codec: Path | None = None,
) -> None:  # fmt: skip
    """Train one method of translation on the pairs of the training part."""
    check_targets(model, metrics)
    own = config.of_method(method)
    found, coder = open_pairs(own, pairs, "train"), open_codec(codec, method)
    process, outputs = make_process(own.process), len(own.translate.channels)
    layout: dict[str, Any] = {"channels": outputs, "conditions": found.conditions}
    values, coded = [-1.0, 1.0], dict[str, str]()
    patches = PatchSource(
        found.images, None, own.train.patch_shape(2), own.seed + seed,
        augment=own.train.augment, symmetries=own.train.symmetries, read=found.read,
    )  # fmt: skip
    batch = patches.batch
    if coder:
        batch = LatentPatches(patches, coder.to(own.train.device)).batch
        layout = dict.fromkeys(("channels", "conditions"), coder.channels)
        layout["parts"] = len(coder.groups)
        values, coded = coder.meta["range"], {"codec": coder.fingerprint}
    network: Any = make_network(
        own.network, own.seed + seed, timesteps=own.process.timesteps, **layout
    )
    learnt: dict[str, Any] = {
        "conditions": layout["conditions"], "error": own.train.loss,
        "weighting": own.train.weighting,
    }  # fmt: skip
    perceptual = open_perceptual(own, method)
    if perceptual:
        weight = own.translate.perceptual.weight
        learnt |= {"perceptual": perceptual, "perceptual_weight": weight}
        coded = {**coded, "perceptual": perceptual.fingerprint}
        coded["perceptual_weight"] = str(weight)
    objective = Denoising(process, own.network.noise_channel, **learnt)
    if own.train.adversarial:
        network = make_contest(network, own.seed + seed)
        objective = Adversarial(
            process, own.network.noise_channel, **learnt, weight=own.train.adversarial
        )
    shape = own.model_dump(include={"network", "process"})
    trainer = Trainer(
        network, process, batch, own.train, seed=own.seed + seed,
        noise_channel=own.network.noise_channel, state=state, objective=objective,
        identity={
            **shape, "train": own.train.model_dump(exclude=NO_IDENTITY),
            "seed": own.seed + seed, "inputs": found.inputs,
            "anchors": list(found.anchors),
            "images": list(found.images.table["sha256"]), **coded,
        },
    )  # fmt: skip
    trainer.train()
    write_text(metrics, trainer.metrics_file.read_text())
    about = {
        **shape, **layout, **coded, "value_range": values, "seed": own.seed + seed,
        "dims": 2, "method": method,
        "inputs": own.translate.plates.inputs, "outputs": own.translate.channels,
    }  # fmt: skip
    trainer.save_model(model, about)


def translate(
    config: Config, *, pairs: Path, model: Path, translated: Output, seconds: Output,
    method: str, seed: int = 0, shard: int = 0, codec: Path | None = None,
) -> None:  # fmt: skip
    """Predict stains and boundaries of the test part, and read instances from these."""
    own = config.of_method(method)
    found, options = open_pairs(own, pairs, "test"), own.translate
    trained, samples = DiffusionModel.load(model), options.samples_of(method)
    averaged = options.averaged_of(method)
    coder = open_codec(codec, method)
    names = found.images.ids[shard :: options.shards]
    pixels = sum(int(np.prod(found.images.shape(name))) for name in names)
    sampler = sampler_of(trained, coder, own, seed, pixels)
    info = {
        "stage": "translate", "method": method, "seed": seed, "shard": shard,
        "model": trained.meta["fingerprint"],
        "synthesise": own.synthesise.model_dump(mode="json"),
        "images": fingerprint(list(found.images.table["sha256"])),
        "samples": samples, "averaged": averaged,
    }  # fmt: skip
    took: list[dict[str, Any]] = []
    with (
        ImageSetWriter(translated, info) as writer,
        Progress("translating", len(names), unit="images") as progress,
    ):
        for name in names:
            if name not in writer:
                begin = time.monotonic()
                drawn = list(_samples(sampler, found, name, samples))
                # Each takes as long as another.
                each = (time.monotonic() - begin) / len(drawn)
                count = min(averaged, len(drawn))
                took.append({"id": name, "seconds": count * each})
                _add_translation(drawn, count, found, name, config, writer)
            progress.advance()
    # Of images that an earlier run made nothing is known.
    table = pd.DataFrame(took, columns=["id", "seconds"])
    write_text(seconds, table.to_csv(index=False))


def sampler_of(
    trained: DiffusionModel, coder: Codec | None, own: Config, seed: int, pixels: int
) -> Sampler | LatentSampler:
    """Return what predicts: of images, or in the latent space of a codec."""
    how = own.synthesise, own.seed + seed, pixels
    return LatentSampler(trained, coder, *how) if coder else Sampler(trained, *how)


def _samples(
    sampler: Sampler | LatentSampler, found: Pairs, name: str, count: int
) -> Iterator[Float]:
    """Yield predictions of an image of the pairs: see `predictions`."""
    yield from predictions(sampler, found.condition(name), name, count)


def predictions(
    sampler: Sampler | LatentSampler, condition: Float, name: str, count: int
) -> Iterator[Float]:
    """Yield predictions, shape (C, Y, X), each with noise of its own by `name`.

    A process without noise has one.
    """
    noisy = bool(np.any(sampler.model.process.s > 0))
    for number in range(count if noisy else 1):
        identifier = name if number == 0 else f"{name}-sample{number}"
        values = sampler.unconditional(condition.shape[1:], identifier, condition)
        yield values if values.ndim == 3 else values[None]


def mean_of(drawn: Sequence[Float]) -> Float:
    """Return the mean of predictions of an image, shape (C, Y, X)."""
    return drawn[0] if len(drawn) == 1 else np.mean(np.stack(drawn), axis=0)


def _add_translation(
    drawn: Sequence[Float], averaged: int, found: Pairs, name: str, config: Config,
    writer: ImageSetWriter,
) -> None:  # fmt: skip
    options, row = config.translate, found.images.row(name)
    kept = mean_of(drawn[:averaged])
    stored = [to_stored(kept)]
    if len(drawn) > 1:
        spread = np.std(np.stack(drawn), axis=0, ddof=1)
        # A standard deviation is stored over 0 ... 1, as network values over -1 ... 1.
        stored.append(to_stored(2 * spread - 1))
    decoded = read_instances(kept, options.boundaries, options.boundary_width)
    writer.add(
        name, np.concatenate(stored), decoded.get("nuclei"), cells=decoded.get("cells"),
        channels=sum(len(part) for part in stored),
        pixel_size=found.images.voxel_size(name), predictions=len(drawn),
        averaged=averaged,
        **{c: row[c] for c in KEPT if c in row},
    )  # fmt: skip


def read_instances(
    values: Float, boundaries: Sequence[str], width: int
) -> dict[str, NDArray[Any]]:
    """Read the instances off predicted boundaries.

    Parameters
    ----------
    values : ndarray, shape (C, Y, X)
        Network values; the boundaries are the last channels.
    boundaries : sequence of str
        ``nuclei``, ``cells``: what they are of.
    width : int
        Of a boundary, in px.

    Returns
    -------
    dict
        Instance labels (Y, X) of each. Cells are read by themselves, not about the
        nuclei, so that both can be judged.
    """
    last = values[len(values) - len(boundaries) :]
    return {
        kind: decode_boundaries(one, width)
        for kind, one in zip(boundaries, last, strict=True)
    }

"""The stage that trains the codec of a latent space."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.diffusion import Train
from phantomscope.config.latent import Latent
from phantomscope.config.model import Config
from phantomscope.config.translation import LATENT
from phantomscope.engine.codec import (
    SHAPE,
    Codec,
    GroupPatches,
    codec_spec,
    measure_latents,
)
from phantomscope.engine.pairs import Pairs
from phantomscope.engine.patches import PatchSource
from phantomscope.engine.process import Process
from phantomscope.engine.train import Trainer
from phantomscope.engine.vqgan import Coding, make_reviewed, make_vqgan
from phantomscope.images.files import check_targets, write_text
from phantomscope.stages.arguments import Output, Place
from phantomscope.stages.diffusion import NO_IDENTITY
from phantomscope.stages.translation import open_pairs

# Images, spread over the training part, whose latents tell mean and variance.
MEASURED = 64
TILE = 512  # in which they are coded, px


def codec_training(options: Latent, train: Train) -> Train:
    """Return how a codec is trained: its own options, the rest as `train`."""
    own = options.model_dump(
        include={"steps", "batch_size", "patch", "learning_rate", "adversarial"}
    )
    if options.adversarial:
        # A common limit of the gradient would tie codec and critic together.
        own["clip"] = 0.0
    return train.with_own(own)


def coded_groups(groups: list[list[int]], found: Pairs, own: Latent) -> list[list[int]]:
    """Return the groups of channels, of stains and of brightfield, that are learnt.

    Brightfield planes are the anchors of the channels of each group, which stand behind
    all channels that are predicted; groups with the same planes are one.
    """
    if not own.brightfield:
        return groups
    count, given = len(found.anchors), dict[tuple[int, ...], list[int]]()
    for group in groups:
        planes = tuple(found.anchors[n] for n in group)
        given.setdefault(planes, [count + n for n in group])
    return [*groups, *given.values()]


def _measured(found: Pairs) -> Iterator[NDArray[np.float32]]:
    names = found.images.ids
    for name in names[:: -(-len(names) // MEASURED)]:
        yield found.truth(name)


def train_codec(
    config: Config, *, pairs: Path, codec: Output, codec_metrics: Output, state: Place,
) -> None:  # fmt: skip
    """Train the codec of the latent space on the images of the training part."""
    check_targets(codec, codec_metrics)
    options, groups = config.translate.latent, config.translate.groups
    found = open_pairs(config.of_method(LATENT), pairs, "train")
    train = codec_training(options, config.train)
    learnt = coded_groups(groups, found, options)
    patches = PatchSource(
        found.images, None, train.patch_shape(2), config.seed, augment=train.augment,
        symmetries=train.symmetries, read=found.read,
    )  # fmt: skip
    network = make_vqgan(codec_spec(options, len(groups[0])), config.seed)
    shape = {"latent": options.model_dump(include=set(SHAPE)), "groups": groups}
    trainer = Trainer(
        make_reviewed(network, config.seed) if options.adversarial else network,
        Process.one_step(), GroupPatches(patches, learnt, config.seed).batch, train,
        seed=config.seed, noise_channel=False, state=state,
        objective=Coding(options.commitment, options.adversarial),
        identity={
            **shape, "train": train.model_dump(exclude=NO_IDENTITY),
            "seed": config.seed, "learnt": learnt, "anchors": list(found.anchors),
            "commitment": options.commitment,
            "images": list(found.images.table["sha256"]),
        },
    )  # fmt: skip
    trainer.train()
    write_text(codec_metrics, trainer.metrics_file.read_text())
    embed = options.embed
    plain = {**shape, "mean": [0.0] * embed, "std": [1.0] * embed, "learnt": learnt}
    # Normalised by what the codec makes of the images: so it is written twice.
    unmeasured = state / "unmeasured.pt"
    trainer.save_model(unmeasured, plain)
    measured = measure_latents(
        Codec.load(unmeasured).to(train.device), _measured(found), TILE
    )
    unmeasured.unlink()
    trainer.save_model(codec, plain | measured)
    print(f"Latents: {json.dumps(measured)}")

"""Cellpose for volumes: a true 3D network that predicts foreground and flows.

The network and its loss are those of Cellpose3D (Eschweiler et al. 2022), the trainer
is our own: resumed bit for bit wherever it was killed. Cells come out by Cellpose's 3D
dynamics, or by the published Euler steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phantomscope.config.analysis import CellposeVolumes
from phantomscope.config.diffusion import Train
from phantomscope.downstream.common import (
    Array,
    Segmenter,
    check_image,
    torch_threads,
)
from phantomscope.downstream.examples import Example
from phantomscope.downstream.flow_masks import cellpose_masks, euler_masks
from phantomscope.downstream.flow_patches import FlowPatches, to_unit, unit_limits
from phantomscope.engine.accelerate import Evaluator
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.fields import MemoryField, RowsField
from phantomscope.engine.networks import UNet, build_network, preset_spec
from phantomscope.engine.objective import WHOLE, Items
from phantomscope.engine.precision import pick_device, pick_precision
from phantomscope.engine.process import Process
from phantomscope.engine.sweep import Tiling
from phantomscope.engine.train import Trainer
from phantomscope.engine.unet import PlainSpec
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.images.tiles import Tile

Float = NDArray[np.float32]
DIMS = 3
PUBLISHED_FILTERS = 16
# Weight of the flows' errors in the background.
BACKGROUND_WEIGHT = 0.01
# Shape the way cells are found, not what is learnt.
PREDICTION_OPTIONS = {
    "masks", "tile", "tile_depth", "overlap", "overlap_depth", "min_size",
}  # fmt: skip


@dataclass(frozen=True)
class FlowRegression:
    """Predict foreground and flows of an image (Eschweiler et al. 2022, Cellpose3D).

    The loss is the mean absolute error of the foreground, plus the squared error of
    the flows, weighted with the foreground (0.01 outside) and averaged over the axes.
    Weights add up to one in each patch, so that the loss of a batch does not depend on
    how it is divided; of one patch, as published, it is the same.
    """

    def draw(self, x0: Tensor, rng: torch.Generator, part: slice = WHOLE) -> Items:
        """Divide patches into what the network sees and what it shall give."""
        times = torch.ones(len(x0), dtype=torch.long)
        return x0[part, :1], times[part], x0[part, 1:]

    def loss(self, output: Tensor, t: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of some patches."""
        space = tuple(range(2, target.ndim))
        foreground = target[:, :1]
        weight = foreground.clamp(BACKGROUND_WEIGHT, 1.0)
        error = (output[:, 1:] - target[:, 1:]).square() * weight
        flow = error.sum(dim=space) / weight.sum(dim=space).clamp_min(1.0)
        return (output[:, :1] - foreground).abs().mean() + flow.mean()


def flow_network(filters: int, norm: str, seed: int) -> UNet:
    """Build the network: 1,980,980 parameters with 16 filters.

    Parameters
    ----------
    filters : int
        Channels of the finest level.
    norm : {"instance", "channel"}
        See `make_norm`.
    seed : int
        Of the weights.
    """
    spec = preset_spec("cellpose3d", DIMS, norm=norm)  # type: ignore[arg-type]
    if not isinstance(spec, PlainSpec):
        raise TypeError("the preset `cellpose3d` is a plain U-Net")

    def scaled(channels: Sequence[int]) -> tuple[int, ...]:
        return tuple(c * filters // PUBLISHED_FILTERS for c in channels)

    return build_network(
        replace(
            spec,
            encoder=[scaled(block) for block in spec.encoder],
            decoder=[scaled(block) for block in spec.decoder],
            head=scaled(spec.head),
        ),
        seed,
    )


def train(
    examples: Sequence[Example],
    chance: NDArray[np.float64],
    options: CellposeVolumes,
    *,
    folder: Path,
    state: Path,
    seed: int,
    threads: int,
    memory: int,
) -> None:
    """Train the network; leaves `folder/model.pt` and `folder/metrics.jsonl`.

    Parameters
    ----------
    examples : sequence of Example
        Annotated volumes or parts of them. The 1st to 99th percentile of each volume
        become 0 and 1.
    chance : ndarray, shape (n,)
        How often each is seen, as shares of 1.
    options : CellposeVolumes
        Network and training.
    folder : Path
        Where the model goes; it exists.
    state : Path
        Folder of the training state: the same command goes on from there.
    seed : int
        Of the weights, the patches and their augmentation.
    threads : int
        CPU threads. A CUDA device is used if there is one.
    memory : int
        Bytes of volumes to keep in memory; others are read by planes.

    Raises
    ------
    StopRequestedError
        On a signal or before a time limit, after the state was saved.
    """
    trainer = make_trainer(
        examples, chance, options, state=state, seed=seed, threads=threads,
        memory=memory,
    )  # fmt: skip
    with torch_threads(threads):
        trainer.train()
    write_text(folder / "metrics.jsonl", trainer.metrics_file.read_text())
    sizes = np.concatenate([example.objects.sizes for example in examples])
    about = {
        "tool": "cellpose",
        "dims": DIMS,
        "filters": options.filters,
        "norm": options.norm,
        "flows": options.flows,
        "seed": seed,
        "typical_size": float(np.median(sizes)),
    }
    trainer.save_model(folder / "model.pt", about)


def make_trainer(
    examples: Sequence[Example], chance: NDArray[np.float64],
    options: CellposeVolumes, *, state: Path, seed: int, threads: int, memory: int,
) -> Trainer:  # fmt: skip
    """Set up the training; see `train`."""
    settings = Train(
        steps=options.steps,
        batch_size=options.batch_size,
        patch=options.patch,
        patch_depth=options.patch_depth,
        optimiser=options.optimiser,
        learning_rate=options.learning_rate,
        warmup=0,
        ema=options.ema,
        clip=0,
        precision=options.precision,
        threads=threads,
    )
    patches = FlowPatches(
        examples,
        settings.patch_shape(DIMS),
        seed,
        chance=chance,
        flows=options.flows,
        on_objects=options.on_objects,
        augment=options.augment,
        memory=memory,
    )
    shown = [
        {**example.record(), "kind": example.kind}
        | {key: row[key] for key in ("sha256", "mask_sha256")}
        for example in examples
        for row in [example.images.row(example.identifier)]
    ]
    return Trainer(
        flow_network(options.filters, options.norm, seed),
        Process.one_step(),
        patches.batch,
        settings,
        seed=seed,
        noise_channel=False,
        identity={
            "segmenter": options.model_dump(exclude=PREDICTION_OPTIONS),
            "seed": seed,
            "threads": threads,
            "examples": shown,
            "chance": [round(float(c), 12) for c in chance],
        },
        state=state,
        objective=FlowRegression(),
    )


def load(folder: Path, options: CellposeVolumes, threads: int) -> Segmenter:
    """Return a function from a volume (Z, Y, X) to its labels.

    Parameters
    ----------
    folder : Path
        What `train` wrote.
    options : CellposeVolumes
        Tiles, and how flows become cells.
    threads : int
        CPU threads.

    Raises
    ------
    PhantomscopeError
        If there is no such model in `folder`.
    """
    path = folder / "model.pt"
    tensors, meta = load_checkpoint(path)
    try:
        network = flow_network(int(meta["filters"]), str(meta["norm"]), 0)
        network.load_state_dict(tensors["network"])
        typical = float(meta["typical_size"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PhantomscopeError(
            f"this is no model of flows in volumes ({reason[:120]})",
            where=path,
            fix="delete its folder and run `train-segmenter` again",
        ) from error
    device = pick_device("auto")
    precision = pick_precision(options.precision, device)
    evaluate = Evaluator(network, device, precision)
    min_size = options.min_size or max(1, round(typical / 10))

    def segment(image: Array) -> Array:
        with torch_threads(threads):
            foreground, flows = predict_flows(
                check_image(image), evaluate, options, device
            )
            if options.masks == "paper":
                return euler_masks(flows, foreground)
            return cellpose_masks(flows, foreground, min_size=min_size, device=device)

    return segment


@torch.inference_mode()
def predict_flows(
    image: Array, evaluate: Evaluator, options: CellposeVolumes, device: torch.device
) -> tuple[Float, Float]:
    """Predict foreground and flows of a volume of any size, tile by tile.

    Parameters
    ----------
    image : ndarray, shape (Z, Y, X)
        Any numeric dtype and range.
    evaluate : Evaluator
        Of the trained network.
    options : CellposeVolumes
        Tiles.
    device : torch.device
        Where the network is.

    Returns
    -------
    foreground : ndarray of float32, shape (Z, Y, X)
        About 0 to 1.
    flows : ndarray of float32, shape (3, Z, Y, X)
        Away from the centres, in [-1, 1].

    Raises
    ------
    PhantomscopeError
        If the image is no volume.
    """
    if image.ndim != DIMS:
        raise PhantomscopeError(
            f"this model is one of volumes, the image has the shape {image.shape}",
            fix="use a model that was trained on such images",
        )
    limits = unit_limits(image)
    source = RowsField(
        lambda first, stop: to_unit(image[first:stop], limits)[None],
        1,
        image.shape,
        device,
    )
    tiling = Tiling.of(
        image.shape,
        (options.tile_depth, options.tile, options.tile),
        (options.overlap_depth, options.overlap, options.overlap),
        evaluate.spec.stride,
        "cosine",
        device,
    )
    channels = evaluate.spec.outputs
    # On the CPU: four values a voxel, which nothing but the masks needs.
    output = MemoryField(channels, image.shape, torch.device("cpu"))

    def work(slab: list[Tile]) -> Any:
        part = tiling.cut(source, slab)
        for tile in slab:
            yield evaluate(part(tile)[None])[0]

    for _, row, rows, _ in tiling.sweep(work, channels):
        output.write(row, rows)
    values: Float = output.values.numpy()
    return values[0], values[1:]

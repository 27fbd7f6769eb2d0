"""Untrained StarDist models, 2D and 3D, that fit their objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phantomscope.config.analysis import Stardist, StardistVolumes
from phantomscope.downstream.common import Array, mean_diameter, object_extents

VALIDATION_PATCHES = 16
# Objects under this diameter are too small for a prediction at every second pixel.
FINE_BELOW = 12.0


def new_model_2d(options: Stardist, labels: Sequence[Array], folder: Path) -> Any:
    """Return an untrained StarDist2D that lives in `folder`.

    Parameters
    ----------
    options : Stardist
        Steps, patches, rays, channels and learning rate.
    labels : sequence of ndarray of integer, each of shape (Y, X)
        The objects: large ones get a prediction at every second pixel.
    folder : Path
        Its name and place are those of the model.
    """
    from stardist.models import Config2D, StarDist2D

    diameter = mean_diameter(labels)
    step = 1 if diameter < FINE_BELOW else 2
    config = Config2D(
        n_rays=options.rays,
        grid=(step, step),
        unet_n_filter_base=options.filters,
        net_conv_after_unet=4 * options.filters,
        # Off in StarDist. At 800 steps it raised the AP on real nuclei from 0.74 to
        # 0.79 at IoU 0.5 and from 0.31 to 0.51 at IoU 0.75 (thresholds 0.5, 0.4).
        unet_batch_norm=True,
        train_patch_size=(options.patch, options.patch),
        **_schedule(options),
    )
    model = StarDist2D(config, name=folder.name, basedir=str(folder.parent))
    _start_distances(model, diameter)
    return model


def new_model_3d(
    options: StardistVolumes, labels: Sequence[Array], anisotropy: float, folder: Path
) -> Any:
    """Return an untrained StarDist3D that lives in `folder`.

    Parameters
    ----------
    options : StardistVolumes
        Steps, patches, rays, channels and learning rate.
    labels : sequence of ndarray of integer, each of shape (Z, Y, X)
        The objects: along an axis on which they are large, every second voxel gets a
        prediction.
    anisotropy : float
        How many times larger a voxel is in z than in y and x.
    folder : Path
        Its name and place are those of the model.
    """
    from stardist.models import Config3D, StarDist3D
    from stardist.rays3d import Rays_GoldenSpiral

    shape = (anisotropy, 1.0, 1.0)
    grid = tuple(1 if n < FINE_BELOW else 2 for n in object_extents(labels))
    config = Config3D(
        rays=Rays_GoldenSpiral(options.rays, anisotropy=shape),
        grid=grid,
        anisotropy=shape,
        unet_n_filter_base=options.filters,
        net_conv_after_unet=4 * options.filters,
        unet_batch_norm=True,
        train_patch_size=(options.patch_depth, options.patch, options.patch),
        **_schedule(options),
    )
    model = StarDist3D(config, name=folder.name, basedir=str(folder.parent))
    # Distances are counted in px of the planes.
    _start_distances(model, mean_diameter(labels) * np.cbrt(anisotropy))
    return model


def _schedule(options: Stardist | StardistVolumes) -> dict[str, Any]:
    """Return how long to train, and what of StarDist's own habits is left out."""
    epochs = max(1, min(20, options.steps // 10))
    return {
        "train_batch_size": options.batch_size,
        "train_epochs": epochs,
        "train_steps_per_epoch": -(-options.steps // epochs),
        "train_learning_rate": options.learning_rate,
        "train_n_val_patches": VALIDATION_PATCHES,
        "train_tensorboard": False,
        # Waiting for a plateau takes longer than the whole training; see `_rate`.
        "train_reduce_lr": None,
        # Written at every epoch and never loaded.
        "train_checkpoint_epoch": None,
    }


def _start_distances(model: Any, diameter: float) -> None:
    """Let the untrained network predict distances of the size of the objects.

    From 0, they need much of a small budget to grow. From an interior point the
    outline of a disc is about 0.4 of its diameter away on average, that of a ball 0.37.
    """
    bias = model.keras_model.get_layer("dist").bias
    bias.assign(np.full(bias.shape, 0.4 * diameter, np.float32))

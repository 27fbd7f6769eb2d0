"""How work is divided: into shards, and among the processes of a training.

Nothing heavy is imported, since the Snakefile asks whenever it is read.
"""

from __future__ import annotations

import math

from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.planning.rates import packaged_rates

FEWEST_SHARDS = 2  # so that two cores are busy
VOLUMES = "-3d"  # ends the variants whose rates are of volumes
MOST_SHARDS = 2000  # more jobs burden Snakemake and the queue of a cluster


def tiled_length(size: int, tile: int, overlap: int, stride: int) -> int:
    """Return the length of an axis over all its tiles, overlaps included.

    Parameters
    ----------
    size : int
        Length of the image along the axis, px.
    tile, overlap : int
        Largest tile, and its overlap on each side, px.
    stride : int
        Of the network.
    """
    count = math.ceil(size / (tile - 2 * overlap))
    core = math.ceil(size / count / stride) * stride
    side = min(tile, core + 2 * overlap)
    return math.ceil(size / (side - 2 * overlap)) * side


def network_evaluations(config: Config) -> int:
    """Return the evaluations of the diffusion model for one image.

    Of a chain of all steps, with t_start still open, the most that there can be.
    """
    start = config.start.value
    known = [t for t in config.start.candidates if t <= config.process.timesteps]
    most = max(known, default=1) if start == "auto" else start
    return config.synthesise.evaluations(most)


def network_pixels(config: Config, steps: int | None = None) -> int:
    """Pixels that the network sees for one synthetic image, over all steps.

    Without `steps` those of `synthesise`: it is a student that takes `distil.steps`.
    """
    options = config.synthesise
    if steps is None:
        steps = config.distil.steps or network_evaluations(config)
    flat = (options.tile, options.overlap)
    tiles = [(options.tile_depth, options.overlap_depth), flat, flat][-config.dims :]
    lengths = [
        tiled_length(size, tile, overlap, config.network.stride)
        for size, (tile, overlap) in zip(config.simulate.size, tiles, strict=True)
    ]
    return steps * math.prod(lengths)


def network_variant(config: Config) -> str:
    """Return what sets the rate of a network: its preset, and whether it is 3D."""
    return config.network.preset + (VOLUMES if config.dims == 3 else "")


def shard_count(config: Config) -> int:
    """Return the number of shards: that of the config, or from the target duration.

    It depends on the config and the packaged rates alone, not on the machine or on
    earlier runs, so that a finished run stays finished elsewhere.

    Parameters
    ----------
    config : Config
        `simulate.shards` is a number or ``auto``.

    Returns
    -------
    int
        With ``auto`` at least 2, at most 2000 and at most the number of images, or
        of time series, which stay whole.
    """
    options = config.simulate
    if options.shards != "auto":
        return options.shards
    variant = network_variant(config)
    wants_gpu = config.synthesise.device == "cuda"
    rate, _ = packaged_rates().find(f"synthesise/{variant}", wants_gpu)
    if rate is None:
        raise PhantomscopeError(
            f"nobody measured how long a synthesis with the network {variant!r} takes",
            where="simulate.shards",
            fix="give a number instead of `auto`",
        )
    seconds = rate.seconds_per_unit * options.images * network_pixels(config)
    wanted = math.ceil(seconds / (60 * options.job_minutes))
    return min(max(wanted, FEWEST_SHARDS), MOST_SHARDS, options.series)


def pixels_per_job(config: Config) -> int:
    """Pixels that the network sees in one synthesis of the usual duration.

    It does not depend on how the work is really divided: whether a job compiles the
    network follows from it, and the images must not depend on the shards.
    """
    usual = config.simulate.model_copy(update={"shards": "auto", "job_minutes": 30.0})
    jobs = shard_count(config.model_copy(update={"simulate": usual}))
    return network_pixels(config) * config.simulate.images // jobs


def resolved(config: Config) -> Config:
    """Return the whole config with the number of shards filled in."""
    if config.translate.methods:
        for method in config.translate.methods:
            own = config.of_method(method)
            own.check_sides(config.translate.factor_of(method))
        # No sketches are drawn.
        simulate = config.simulate.model_copy(update={"shards": 1})
        return config.model_copy(update={"simulate": simulate})
    config.check_sides()
    config.check_sketches()
    simulate = config.simulate.model_copy(update={"shards": shard_count(config)})
    return config.model_copy(update={"simulate": simulate})


def training_processes(config: Config, rule: str) -> int:
    """Return how many processes share the job of a rule, each with threads and a GPU.

    Parameters
    ----------
    config : Config
        With ``auto`` a job is given one GPU; where it sees more, it takes them.
    rule : str
        Rule of the workflow.
    """
    wish = 1 if config.train.devices == "auto" else config.train.devices
    # No more than there are patches in a batch.
    most = {
        "train_diffusion": config.train.batch_size,
        "distil": config.distil.batch_size,
    }
    return min(wish, most.get(rule, 1))

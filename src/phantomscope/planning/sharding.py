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
        config.check_study()
        # No sketches are drawn.
        simulate = config.simulate.model_copy(update={"shards": 1})
        return config.model_copy(update={"simulate": simulate})
    if config.filter.methods:
        config.check_filter()
        simulate = config.simulate.model_copy(update={"shards": 1})
        return config.model_copy(update={"simulate": simulate})
    config.check_sides()
    config.check_sketches()
    simulate = config.simulate.model_copy(update={"shards": shard_count(config)})
    return config.model_copy(update={"simulate": simulate})


def shards_of_plates(config: Config, shard: int) -> list[int]:
    """Return the shards that share a plate with a shard of sites, itself among them.

    Parameters
    ----------
    config : Config
        With `translate.plates`; shards are blocks of sites, plate after plate, each
        with as many sites as `shard_sites` of `phantomscope.acquire.plates` gives it.
    shard : int
        Counted from 0.
    """
    options = config.translate.plates
    # Shares of a plate tell what numbers of sites do, since all plates have as many,
    # but where blocks are less than a site; those are empty.
    plates, shards = max(len(options.plates), 1), options.shards
    sites = plates * sites_of_plate(config)

    def held(number: int) -> range:
        begin = number * sites // shards
        end = (number + 1) * sites // shards
        first = begin * plates // sites
        return range(first, (end - 1) * plates // sites + 1 if end > begin else first)

    own = set(held(shard))
    return [n for n in range(shards) if n == shard or own & set(held(n))]


def sites_of_plate(config: Config) -> int:
    """Return how many sites of each plate a config asks for."""
    options = config.translate.plates
    wells = len(options.wells or ()) or options.rows * options.columns
    return wells * (len(options.sites or ()) or options.sites_per_well)


def freed_before(config: Config, shard: int) -> list[int]:
    """Return the shards of sites that are paired and freed before one is fetched.

    Those that the shard before it has waited for are left out.

    With `scope: plate` no shard can be before all of its plate are fetched, so more
    than `ahead` of them may be there at once.
    """
    plates, shared = config.translate.plates, config.translate.scope == "plate"
    of_plate = sites_of_plate(config)
    total = len(plates.plates) * of_plate

    def end(number: int) -> int:
        return (number + 1) * total // plates.shards

    def latest(number: int) -> int:
        found = max(number - plates.ahead, -1)
        # Sites of the plates that are whole by then.
        whole = end(number - 1) // of_plate * of_plate
        while found >= 0 and shared and end(found) > whole:
            found -= 1
        return found

    return list(range(latest(shard - 1) + 1, latest(shard) + 1))


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

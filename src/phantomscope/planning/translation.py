"""What translation makes the workflow do: plates, pairs, trainings, predictions."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

from phantomscope.config.model import Config
from phantomscope.config.translation import LATENT
from phantomscope.planning.sharding import tiled_length, training_processes
from phantomscope.planning.sources import Images
from phantomscope.planning.work import Work, asks_for_gpu

# Bytes of a pixel of a channel as it is stored.
BYTES = 2


def plate_images(config: Config) -> Images | None:
    """Return the images of plates or of a folder; None where nothing tells of them.

    Of plates by their wells and sites, without any download; the few sites that a plate
    lacks are counted as well.
    """
    options = config.translate.plates
    if options.kind == "gallery":
        # Here, because the Snakefile must not wait for what reads images.
        from phantomscope.acquire.plates import list_sites

        sites = list_sites(options)
        wells = len({site.group for site in sites})
        return Images(Counter({tuple(options.size): len(sites)}), "uint16", wells)
    folder = Path(options.fields.path or "")
    name = re.sub(r"\{\w+\}", "*", options.fields.images)
    paths = sorted(folder.glob(name)) if folder.is_dir() else []
    if not paths:
        return None
    from phantomscope.images.files import read_array

    shape = read_array(paths[0]).shape
    size = shape[1:] if options.fields.axes.startswith("C") else shape[:2]
    return Images(Counter({tuple(size): len(paths)}), "uint16", len(paths))


def test_share(config: Config) -> float:
    """Return about which share of the images is for the test."""
    split = config.translate.plates.split
    if split.test:
        units = len(split.named)
        return len(split.test) / max(units, 1)
    return split.test_fraction


def evaluated_pixels(config: Config, side: tuple[int, int], factor: int = 1) -> int:
    """Pixels that a method's network sees for one image, over all steps.

    Those of the image, also where `factor` of them along a side are one in a latent
    space.
    """
    options = config.synthesise
    steps = options.evaluations(config.process.timesteps)
    stride = factor * config.network.stride
    lengths = [tiled_length(s, options.tile, options.overlap, stride) for s in side]
    return steps * math.prod(lengths)


def translation_works(config: Config, images: Images) -> list[Work]:
    """List the work of a config of translation.

    Parameters
    ----------
    config : Config
        With methods of translation.
    images : Images
        Sites of the plates, or fields.

    Returns
    -------
    list of Work
        In the order of the workflow.
    """
    options = config.translate
    channels = len(options.plates.wanted)
    share = test_share(config)
    [(shape, _)] = images.shapes.most_common(1)
    side = (options.size, options.size) if options.size else (shape[-2], shape[-1])
    pixels = images.count * math.prod(side)
    tested = share * images.count
    stored = BYTES * (channels + len(options.boundaries)) * pixels
    work = [Work("write_config", 1, 1, "job", ())]
    first: tuple[str, ...] = ()
    if options.plates.kind == "gallery":
        work.append(Work("fetch_plates", 1, images.count * channels, "files", ()))
        first = ("fetch_plates",)
    work += [
        Work("acquire_plates", 1, channels * images.pixels, "pixels", first,
             stored=BYTES * channels * images.pixels, store="uint16"),
        Work("pair_fields", 1, channels * pixels, "pixels", ("acquire_plates",),
             stored=stored, store="uint16"),
    ]  # fmt: skip
    scores, codec = [], _codec_work(config)
    if LATENT in options.methods:
        work.append(codec)
    for method in options.methods:
        own, factor = config.of_method(method), options.factor_of(method)
        variant = f"{own.network.preset}-{method}"
        seen = own.train.steps * own.train.batch_size * own.train.patch**2
        processes = training_processes(own, "train_diffusion")
        each = math.ceil(tested / options.shards)
        seeds = len(options.seeds)
        work += [
            Work("train_translator", seeds, seen, "pixels",
                 (codec.name if method == LATENT else "pair_fields",), variant,
                 gpu=asks_for_gpu(own), threads=processes * own.train.threads,
                 processes=processes, first=True),
            Work("translate", seeds * options.shards,
                 options.samples * each * evaluated_pixels(own, side, factor),
                 "network pixels", (f"train_translator.{variant}",), variant,
                 gpu=asks_for_gpu(own), threads=own.synthesise.threads,
                 stored=each * BYTES * len(options.channels) * math.prod(side),
                 store="uint16"),
            Work("evaluate_translation", seeds, tested * math.prod(side), "pixels",
                 (f"translate.{variant}",), part=method),
        ]  # fmt: skip
        scores.append(f"evaluate_translation.{method}")
    after = ("write_config", *scores)
    return [
        *work,
        Work("tabulate_translation", 1, 1, "job", after),
        Work("draw_translation", 1, 1, "job", after),
        Work("report_translation", 1, 1, "job",
             ("tabulate_translation", "draw_translation")),
    ]  # fmt: skip


def _codec_work(config: Config) -> Work:
    """Return the work of training the codec of a latent space."""
    options, train = config.translate.latent, config.train
    processes = training_processes(config, "train_diffusion")
    return Work(
        "train_codec", 1, options.steps * options.batch_size * options.patch**2,
        "pixels", ("pair_fields",), f"width{options.width}", gpu=asks_for_gpu(config),
        threads=processes * train.threads, processes=processes, first=True,
    )  # fmt: skip

"""What translation makes the workflow do: plates, pairs, trainings, predictions."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from phantomscope.config.model import Config
from phantomscope.config.translation import LATENT
from phantomscope.planning.sharding import (
    freed_before,
    tiled_length,
    training_processes,
)
from phantomscope.planning.sources import Images
from phantomscope.planning.work import Work, asks_for_gpu, tool_pixels

# Bytes of a pixel of a channel as it is stored.
BYTES = 2
# Those of the first level of StarDist whose rates were measured.
FILTERS = 16


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


def evaluated_pixels(
    config: Config, side: tuple[int, int], factor: int = 1, steps: int | None = None
) -> int:
    """Pixels that a method's network sees for one image, over all or some steps.

    Those of the image, also where `factor` of them along a side are one in a latent
    space.
    """
    options = config.synthesise
    if steps is None:
        steps = options.evaluations(config.process.timesteps)
    stride = factor * config.network.stride
    lengths = [tiled_length(s, options.tile, options.overlap, stride) for s in side]
    return steps * math.prod(lengths)


def _on_disk(config: Config) -> int:
    """Shards of plates that are there in full size at most, if others are freed."""
    most, freed = 0, -1
    for number in range(config.translate.plates.shards):
        freed = max([freed, *freed_before(config, number)])
        most = max(most, number - freed)
    return most


def _plates(config: Config, images: Images, scaled: int) -> list[Work]:
    """List the work of getting images, and of scaling them to so many pixels."""
    options, plates = config.translate, config.translate.plates
    channels, shards = len(plates.wanted), plates.shards
    raw = BYTES * channels * images.pixels / shards
    work: list[Work] = []
    first: tuple[str, ...] = ()
    freed = None if plates.keep == "all" else _on_disk(config)
    if plates.kind == "gallery":
        from phantomscope.acquire.plates.sites import COMPRESSED

        # Files in a folder stay where they are.
        coming = COMPRESSED * raw if urlsplit(plates.address).scheme else 0.0
        work = [
            Work("survey_plates", 1, images.count, "sites", ()),
            Work("fetch_plates", shards, images.count * channels / shards, "files",
                 ("survey_plates",), stored=coming, download=coming,
                 kept=freed if plates.keep == "pairs" else None),
        ]  # fmt: skip
        first = ("fetch_plates",)
    work.append(
        Work("acquire_plates", shards, channels * images.pixels / shards, "pixels",
             first, stored=raw, kept=freed)
    )  # fmt: skip
    ready: tuple[str, ...] = ("acquire_plates",)
    if options.scope == "plate":
        work.append(
            Work("measure_intensities", shards, channels * images.pixels / shards,
                 "pixels", ready)
        )  # fmt: skip
        ready = ("measure_intensities",)
    stored = BYTES * (channels + len(options.boundaries)) * scaled / shards
    work.append(
        Work("scale_fields", shards, channels * images.pixels / shards, "pixels", ready,
             stored=stored)
    )  # fmt: skip
    return work


def _profiles(jobs: int, pixels: float, after: str, part: str) -> Work:
    """Return the work of measuring features; how many objects there are, nobody knows.

    It is taken to be as many for each pixel as in the run of the rates.
    """
    return Work(
        "measure_profiles", jobs, pixels, "pixels", (after,), part=part, stored=pixels
    )


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
    share = test_share(config)
    [(shape, _)] = images.shapes.most_common(1)
    side = (options.size, options.size) if options.size else (shape[-2], shape[-1])
    pixels = images.count * math.prod(side)
    tested = share * images.count
    work = [Work("write_config", 1, 1, "job", ())]
    if options.pairs_from is None:
        work += _plates(config, images, pixels)
    ready = ("scale_fields",) if options.pairs_from is None else ()
    work.append(Work("pair_fields", 1, images.count, "images", ready))
    scores, whole = [], math.prod(side)
    each, ways = math.ceil(tested / options.shards), len(options.profiled)
    if ways:
        work.append(_profiles(options.shards, each * whole, "pair_fields", "real"))
    codec = _codec_work(config)
    if LATENT in options.methods:
        work.append(codec)
    for method in options.methods:
        own, factor = config.of_method(method), options.factor_of(method)
        variant = f"{own.network.preset}-{method}"
        seen = own.train.steps * own.train.batch_size * own.train.patch**2
        processes = training_processes(own, "train_diffusion")
        seeds = len(options.seeds)
        work += [
            Work("train_translator", seeds, seen, "pixels",
                 (codec.name if method == LATENT else "pair_fields",), variant,
                 gpu=asks_for_gpu(own), threads=processes * own.train.threads,
                 processes=processes, first=True),
            Work("translate", seeds * options.shards,
                 _samples(own, options.samples_of(method)) * each
                 * evaluated_pixels(own, side, factor),
                 "network pixels", (f"train_translator.{variant}",), variant,
                 gpu=asks_for_gpu(own), threads=own.synthesise.threads,
                 stored=each * BYTES * len(options.channels) * math.prod(side),
                 store="uint16"),
            Work("evaluate_translation", seeds * options.shards, each * whole,
                 "pixels", (f"translate.{variant}",), part=method),
            Work("join_scores", seeds, tested, "images",
                 (f"evaluate_translation.{method}",), part=method),
        ]  # fmt: skip
        scores.append(f"join_scores.{method}")
        if ways:
            work += [
                _profiles(seeds * ways * options.shards, each * whole,
                          f"translate.{variant}", method),
                Work("compare_profiles", ways, seeds * tested * whole, "pixels",
                     ("measure_profiles.real", f"measure_profiles.{method}"),
                     part=method),
            ]  # fmt: skip
            scores.append(f"compare_profiles.{method}")
    detections = _detections(config, tested, side)
    scores += [one.name for one in detections if one.rule == "evaluate_detection"]
    work += detections
    after = ("write_config", *scores)
    studies = _studies(config, tested, side, images.pixels / images.count)
    studied = (*after, *(one.name for one in studies if one.part))
    return [
        *work,
        *studies,
        Work("tabulate_translation", 1, 1, "job", after),
        Work("draw_translation", 1, 1, "job", after),
        Work("tabulate_studies", 1, 1, "job", studied),
        Work("draw_studies", 1, 1, "job", studied),
        Work("report_translation", 1, 1, "job",
             ("tabulate_translation", "draw_translation", "tabulate_studies",
              "draw_studies")),
    ]  # fmt: skip


def _detections(config: Config, tested: float, side: tuple[int, int]) -> list[Work]:
    """List the work of StarDist, for each detector and what it finds."""
    options, seeds = config.translate, len(config.translate.seeds)
    threads, pixels = config.segment.threads, tested * math.prod(side)
    tool, seen = tool_pixels(config, "stardist")
    # The rates are of so many filters; convolutions take the square of them.
    each = (config.segment.stardist.filters / FILTERS) ** 2
    work = []
    for detector, kind in itertools.product(options.detectors, options.detected):
        part = f"{detector}.{kind}"
        work += [
            Work("train_detector", seeds, each * seen, "pixels", ("pair_fields",),
                 tool, part, threads=threads),
            Work("detect", seeds, each * pixels, "pixels",
                 (f"train_detector.{tool}.{part}",), tool, part, threads=threads,
                 stored=2 * BYTES * pixels, store="uint16"),
            Work("evaluate_detection", seeds, pixels, "pixels",
                 (f"detect.{tool}.{part}",), part=part),
        ]  # fmt: skip
    return work


def _samples(own: Config, samples: int) -> int:
    """Return how often a method predicts an image: regression does so once."""
    return 1 if own.process.kind == "one_step" else samples


def _studies(
    config: Config, tested: float, side: tuple[int, int], pixels: float
) -> list[Work]:
    """List the work of the studies; their measurements have a `part`."""
    options, study, work = config.translate, config.translate.study, []
    seeds = len(options.seeds)
    images = min(tested, study.images or tested)
    if study.steps:
        own = config.of_method("cellresdm")
        variant = f"{own.network.preset}-cellresdm"
        work.append(Work(
            "study_steps", seeds,
            images * options.averaged_of("cellresdm")
            * evaluated_pixels(own, side, steps=sum(study.steps)),
            "network pixels",
            (f"train_translator.{variant}",), variant, "steps",
            gpu=asks_for_gpu(own), threads=own.synthesise.threads,
        ))  # fmt: skip
    if options.studied:
        work.append(Work(
            "plant_artefacts", 1, images * pixels, "pixels", ("pair_fields",),
        ))  # fmt: skip
    for method in options.studied:
        own = config.of_method(method)
        variant = f"{own.network.preset}-{method}"
        # Each image with artefacts and without.
        both = 2 * _samples(own, study.samples) * images
        work.append(Work(
            "study_artefacts", seeds,
            both * evaluated_pixels(own, side, options.factor_of(method)),
            "network pixels", (f"train_translator.{variant}", "plant_artefacts"),
            variant, method, gpu=asks_for_gpu(own), threads=own.synthesise.threads,
        ))  # fmt: skip
    return work


def _codec_work(config: Config) -> Work:
    """Return the work of training the codec of a latent space."""
    options, train = config.translate.latent, config.train
    processes = training_processes(config, "train_diffusion")
    return Work(
        "train_codec", 1, options.steps * options.batch_size * options.patch**2,
        "pixels", ("pair_fields",), f"width{options.width}", gpu=asks_for_gpu(config),
        threads=processes * train.threads, processes=processes, first=True,
    )  # fmt: skip

"""What semantic filtering makes the workflow do: crops, trainings, objects."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from phantomscope.config.filtering import DETECTORS, FILTERS, SEGMENTERS
from phantomscope.config.model import Config
from phantomscope.planning.sharding import tiled_length, training_processes
from phantomscope.planning.sources import Images, split_images
from phantomscope.planning.work import Work, asks_for_gpu, preparation, tool_pixels

# Bytes of a composed pixel: four channels and two kinds of labels.
COMPOSED = 12
# Of what a method makes of an image: its layer (float32) and labels.
FOUND = 6


def tested_pixels(config: Config, images: Images) -> float:
    """Return the pixels of the images on which one fold is tested."""
    options = config.filter
    if options.truth == "layers":
        return float(options.tests * options.compose.size**2)
    if options.folds > 1:
        return images.pixels / options.folds
    return float(split_images(config, images)[1].pixels)


def _evaluated(config: Config, images: Images) -> float:
    """Return the pixels that a filter sees of them, overlaps of tiles included."""
    pixels, options = tested_pixels(config, images), config.synthesise
    shape, _ = images.shapes.most_common(1)[0]
    side = (config.filter.compose.size,) * 2
    if config.filter.truth != "layers":
        side = shape[-2], shape[-1]
    stride = config.network.stride
    lengths = [tiled_length(s, options.tile, options.overlap, stride) for s in side]
    return pixels * math.prod(lengths) / math.prod(side)


def _trained(config: Config) -> float:
    """Return the pixels that a filter sees in its training."""
    composed = config.filter.pairs == "composed"
    side = config.filter.compose.size if composed else config.train.patch
    return float(config.train.steps * config.train.batch_size * side**2)


def _sets(config: Config) -> list[Work]:
    """List the work of crops and of composed images."""
    options, work = config.filter, list[Work]()
    for use, count in (("taught", options.taught), ("tests", options.tests)):
        taught = any(name in SEGMENTERS for name in options.methods)
        if taught if use == "taught" else options.truth == "layers":
            pixels = count * options.compose.size**2
            sets = len(options.targets) * options.folds
            if use == "taught":
                sets *= len(options.sizes)
            work.append(
                Work("compose_set", sets, pixels, "pixels", ("cut_crops",), part=use,
                     stored=COMPOSED * pixels)
            )  # fmt: skip
    return work


def _filter(config: Config, images: Images, method: str, runs: int) -> list[Work]:
    """List the work of one of our own filters."""
    processes = training_processes(config, "train_diffusion")
    preset, gpu = config.network.preset, asks_for_gpu(config)
    before = "cut_crops" if config.filter.pairs == "composed" else "prepare"
    tested = tested_pixels(config, images)
    return [
        Work("train_filter", runs, _trained(config), "pixels", (before,), preset,
             method, gpu=gpu, threads=processes * config.train.threads,
             processes=processes, first=True),
        Work("filter_images", runs, _evaluated(config, images), "network pixels",
             (f"train_filter.{preset}.{method}", *_tests_of(config)), preset, method,
             gpu=gpu, threads=config.synthesise.threads, stored=FOUND * tested),
    ]  # fmt: skip


def _tests_of(config: Config) -> tuple[str, ...]:
    return ("compose_set.tests",) if config.filter.truth == "layers" else ()


def _rival(config: Config, images: Images, method: str, runs: int) -> list[Work]:
    """List the work of a rival."""
    threads, tested = config.segment.threads, tested_pixels(config, images)
    options = config.filter
    if method == "median":
        return [
            Work("filter_images", runs, tested, "pixels", ("prepare",), method,
                 threads=config.synthesise.threads, stored=FOUND * tested)
        ]  # fmt: skip
    if method in DETECTORS:
        own = getattr(options.detectors, method)
        # Each epoch sees all images of the training part, or a crop of each.
        seen = float(own.epochs * images.pixels)
        before, gpu = "prepare", asks_for_gpu(config)
    else:
        seen, before = float(tool_pixels(config, method)[1]), "compose_set.taught"
        gpu = asks_for_gpu(config, method)
    return [
        Work("train_finder", runs, seen, "pixels", (before,), method, gpu=gpu,
             threads=threads),
        Work("find_objects", runs, tested, "pixels",
             (f"train_finder.{method}", *_tests_of(config)), method, gpu=gpu,
             threads=threads, stored=FOUND * tested),
    ]  # fmt: skip


def _counted(
    config: Config, images: Images, scores: list[str], made: list[Work]
) -> list[Work]:  # fmt: skip
    """List the work on a plate, which is like the images if nobody says its size.

    Its objects are found by jobs of the rules that are in `made`; the names of its
    counts go to `scores`.
    """
    options, tested = config.filter, tested_pixels(config, images)
    plate = config.source.beside(str(options.plate), "filter.plate")
    extent = plate.entry.extent if plate.entry is not None else None
    if extent is not None:
        shapes = Counter({tuple(extent.shape): extent.images})
        images = Images(shapes, extent.dtype, extent.groups)
    pixels = float(images.pixels)
    work = [
        Work("download_plate", len(plate.downloaded), 1, "files", ()),
        Work("acquire_plate", 1, pixels, "pixels", ("download_plate",), stored=pixels),
    ]
    finding = {(w.rule, w.part or w.variant): w for w in made}
    for method in options.counting:
        rule = "filter_images" if method in FILTERS else "find_objects"
        like = finding[rule, method]
        runs = like.jobs // len(options.sizes_of(method))
        found = replace(
            like, jobs=runs, units=like.units * pixels / tested,
            part=f"{method}.plate",
            after=(*like.after, "acquire_plate"), stored=FOUND * pixels,
        )  # fmt: skip
        count = Work("evaluate_plate", runs, pixels, "pixels", (found.name,),
                     part=method)  # fmt: skip
        work += [found, count]
        scores.append(count.name)
    return work


def filter_works(config: Config, images: Images) -> list[Work]:
    """List the work of a config of semantic filtering.

    Parameters
    ----------
    config : Config
        With methods of filtering.
    images : Images
        The source images.

    Returns
    -------
    list of Work
        In the order of the workflow.
    """
    options = config.filter
    work = preparation(config, images, images.pixels)
    if options.pairs == "composed":
        work.append(
            Work("cut_crops", 1, images.pixels, "pixels", ("prepare",),
                 stored=images.pixels)
        )  # fmt: skip
        work += _sets(config)
    places = len(options.targets) * options.folds
    scores = []
    for method in options.methods:
        runs = places * len(options.seeds_of(method)) * len(options.sizes_of(method))
        make = _filter if method in FILTERS else _rival
        made = make(config, images, method, runs)
        score = Work(
            "evaluate_filter", runs, tested_pixels(config, images), "pixels",
            (made[-1].name,), part=method,
        )  # fmt: skip
        work += [*made, score]
        scores.append(score.name)
    if options.counting:
        work += _counted(config, images, scores, work)
    after = ("write_config", *scores)
    return [
        *work,
        Work("tabulate_filter", 1, 1, "job", after),
        Work("draw_filter", 1, 1, "job", after),
        Work("report_filter", 1, 1, "job", ("tabulate_filter", "draw_filter")),
    ]

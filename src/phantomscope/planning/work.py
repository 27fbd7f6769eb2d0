"""What a config makes the workflow do: jobs, their work, and what they write.

The functions below `works` are the table to correct when a rule changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from phantomscope.config.arms import parse_arm
from phantomscope.config.model import Config
from phantomscope.planning.sharding import (
    VOLUMES,
    network_evaluations,
    network_pixels,
    network_variant,
    training_processes,
)
from phantomscope.planning.sources import Images, split_images

ITEM_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
LABEL_BYTES = 2
IMAGES_OF_TYPE = 20  # that `fit_sketch` looks at
IMAGES_COMPARED = 60  # of each set, by `measure_realism` and `measure_populations`


@dataclass(frozen=True)
class Work:
    """Jobs of one kind.

    Attributes
    ----------
    rule : str
        Rule of the workflow.
    jobs : int
        How many jobs there are.
    units : float
        Work of each job, in `unit`.
    unit : str
        What is counted.
    after : tuple of str
        Names of the work that must be finished before.
    variant : str
        What sets the rate besides the rule: the network's preset or the tool.
    part : str
        Tells work of the same rule and variant apart.
    gpu : bool
        Whether a GPU is requested.
    threads : int
        CPU threads of each job.
    processes : int
        Processes that share each job, each with a GPU if one is requested.
    first : bool
        Whether it goes first when several jobs could start.
    stored : float
        What each job writes: bytes of images before compression, else files of a
        size that is measured, or what their size is proportional to.
    store : str
        Dtype of the images that are written; empty for other files.
    kept : int, optional
        Jobs of which it is on disk at once, if others have freed theirs by then.
    download : float
        Bytes that each job fetches.
    """

    rule: str
    jobs: int
    units: float
    unit: str
    after: tuple[str, ...]
    variant: str = ""
    part: str = ""
    gpu: bool = False
    threads: int = 1
    processes: int = 1
    first: bool = False
    stored: float = 1.0
    store: str = ""
    kept: int | None = None
    download: float = 0.0

    @property
    def key(self) -> str:
        """Name of its rate: the rule, and the variant if there is one."""
        return f"{self.rule}/{self.variant}" if self.variant else self.rule

    @property
    def name(self) -> str:
        """A name of its own, for `after`."""
        return ".".join(filter(None, (self.rule, self.variant, self.part)))

    @property
    def disk_key(self) -> str:
        """Name of the measured bytes per unit of `stored`."""
        return self.store or self.key


def works(config: Config, images: Images) -> list[Work]:
    """List the work of a config.

    Parameters
    ----------
    config : Config
        With a number of shards; see `resolved`.
    images : Images
        The source images.

    Returns
    -------
    list of Work
        In the order of the workflow: what a job waits for stands before it.
    """
    train, test = split_images(config, images)
    training = _training(config, train)
    predictions = _predictions(config, test, training)
    scores = _scores(predictions, test) if config.scored else []
    restoration = _restoration(config, train, test) if config.restore.arms else []
    return [
        *preparation(config, images, train.pixels + test.pixels),
        *_sketches(config, train),
        *_diffusion(config, train),
        *_gathered(config, train, test),
        *training,
        *predictions,
        *scores,
        *restoration,
        *_tables(
            [work.name for work in scores],
            [work.name for work in (*predictions, *restoration)],
        ),
    ]


def _raw(pixels: float, dtype: str, labels: bool = True) -> float:
    """Bytes of images and their labels before compression."""
    return pixels * (ITEM_BYTES[dtype] + LABEL_BYTES * labels)


def asks_for_gpu(config: Config, tool: str = "") -> bool:
    """Whether a job asks for a GPU; StarDist's TensorFlow is that for the CPU."""
    return tool != "stardist" and "cpu" not in (
        config.train.device,
        config.synthesise.device,
    )


def preparation(config: Config, images: Images, kept: int) -> list[Work]:
    """List the work from the source to the prepared images, of which some are kept."""
    dtype, labels = images.dtype, config.has_labels
    files = len(config.source.downloaded)
    download = [Work("download", files, 1, "files", ())] if files else []
    # By group, the prepared set points to the pixels of the acquired one.
    copied = kept if kept < images.pixels else 0
    return [
        Work("write_config", 1, 1, "job", ()),
        *download,
        Work("acquire", 1, images.pixels, "pixels", tuple(w.name for w in download),
             stored=_raw(images.pixels, dtype, labels), store=dtype),
        Work("prepare", 1, images.pixels, "pixels", ("acquire",),
             stored=_raw(copied, dtype, labels), store=dtype),
    ]  # fmt: skip


def _fitted_pixels(config: Config, train: Images) -> int:
    """Pixels that are measured: real images, and sketches of them in each round."""
    counts = sorted(train.shapes.items(), key=lambda item: -item[1])
    own = config.fit.max_types - (len(counts) > config.fit.max_types)
    groups = [counts[n : n + 1] for n in range(own)] + [counts[own:]]
    seen = 0.0
    for group in groups:
        count = sum(n for _, n in group)
        taken = math.ceil(count / max(math.ceil(count / IMAGES_OF_TYPE), 1))
        pixels = sum(n * math.prod(shape) for shape, n in group)
        seen += pixels * taken / max(count, 1)
    return round(seen * (config.fit.calibration_rounds + 2))


def _sketches(config: Config, train: Images) -> list[Work]:
    shards = _shards(config)
    pixels = config.simulate.images * math.prod(config.simulate.size) / shards
    return [
        Work("fit_sketch", 1, _fitted_pixels(config, train), "pixels", ("prepare",)),
        Work("simulate", shards, pixels, "pixels", ("fit_sketch",),
             stored=_raw(pixels, "float32"), store="float32"),
        Work("photograph", shards, pixels, "pixels", ("simulate",),
             stored=_raw(pixels, train.dtype), store=train.dtype),
    ]  # fmt: skip


def _shards(config: Config) -> int:
    if config.simulate.shards == "auto":
        raise ValueError("the number of shards must be resolved first")
    return config.simulate.shards


def _diffusion(config: Config, train: Images) -> list[Work]:
    options, dtype = config.train, train.dtype
    preset, gpu, threads = (
        network_variant(config), asks_for_gpu(config), config.synthesise.threads,
    )  # fmt: skip
    seen = (
        options.steps * options.batch_size * math.prod(options.patch_shape(config.dims))
    )
    times = {t for t in config.start.candidates if t <= config.process.timesteps}
    if config.start.value != "auto":
        times.add(config.start.value)
    tried = len(times) * config.start.images
    # The teacher tries the times.
    each = network_pixels(config, network_evaluations(config))
    pseudo = [
        Work("pseudo_sketches", 1, train.pixels, "pixels", ("fit_sketch",),
             stored=_raw(train.pixels, "float32"), store="float32")
    ] if config.condition.kind == "sketch" else []  # fmt: skip
    chosen = f"choose_start.{preset}"
    training, distilling = (
        training_processes(config, rule) for rule in ("train_diffusion", "distil")
    )
    distil = [
        Work("distil", 1, _distil_pixels(config), "network pixels",
             ("fit_sketch", chosen), preset, gpu=gpu, first=True,
             threads=distilling * options.threads, processes=distilling)
    ] if config.distil.steps else []  # fmt: skip
    made = f"distil.{preset}" if distil else chosen
    size = math.prod(config.simulate.size)
    images = config.simulate.images / _shards(config)
    return [
        *pseudo,
        Work("train_diffusion", 1, seen, "pixels",
             ("prepare", *(one.name for one in pseudo)), preset, gpu=gpu, first=True,
             threads=training * options.threads, processes=training),
        Work("choose_start", 1, tried * each, "network pixels",
             ("fit_sketch", f"train_diffusion.{preset}"), preset, gpu=gpu,
             threads=threads, first=True,
             stored=_raw(tried * size, dtype), store=dtype),
        *distil,
        Work("synthesise", _shards(config), images * network_pixels(config),
             "network pixels", ("simulate", made), preset, gpu=gpu,
             threads=threads, first=True,
             stored=_raw(images * size, dtype), store=dtype),
        Work("check", _shards(config), images * size, "pixels",
             (f"synthesise.{preset}",), first=True, stored=images),
    ]  # fmt: skip


def _distil_pixels(config: Config) -> int:
    """Pixels that networks see: the teacher forwards, the student both ways."""
    options = config.distil
    ways = math.ceil(options.batch_size / options.steps)
    seen = ways * options.steps * math.ceil(options.teacher_steps / options.steps)
    # A step of training takes as long as three evaluations.
    return options.train_steps * (seen + 3 * options.batch_size) * options.patch**2


def _gathered(config: Config, train: Images, test: Images) -> list[Work]:
    """Work on all shards together."""
    images = config.simulate.images
    drawn = min(images, IMAGES_COMPARED) * math.prod(config.simulate.size)
    real = (test if config.has_labels else train).pixels_of(IMAGES_COMPARED)
    return [
        Work("gather", 1, images, "images", ("check",), part="checked", stored=images),
        Work("gather", 1, images, "images", ("photograph",), part="camera",
             stored=images),
        Work("measure_realism", 1, train.pixels_of(IMAGES_COMPARED) + 2 * drawn,
             "pixels", ("gather.checked", "gather.camera")),
        Work("measure_populations", 1, real + drawn, "pixels",
             ("fit_sketch", "gather.checked")),
    ]  # fmt: skip


def _training(config: Config, train: Images) -> list[Work]:
    options = config.segment
    sets = {"synthetic": "gather.checked", "annotated": "prepare",
            "sketch": "gather.camera"}  # fmt: skip
    work = []
    for tool in options.tools:
        variant, seen = tool_pixels(config, tool)
        work += [
            Work("train_segmenter", len(options.seeds), seen, "pixels",
                 tuple(sets[name] for name in parse_arm(arm).sets), variant, arm,
                 gpu=asks_for_gpu(config, tool), threads=options.threads)
            for arm in config.arms
        ]  # fmt: skip
    if config.scored:
        tried = train.pixels_of(options.images) * len(options.classical.sigmas)
        work.append(
            Work("train_segmenter", 1, tried, "pixels", ("prepare",),
                 "otsu_watershed", "annotated", threads=options.threads)
        )  # fmt: skip
    return work


def tool_pixels(config: Config, tool: str) -> tuple[str, int]:
    """Return the variant of a tool, and the pixels that its training sees."""
    own = config.segment.cellpose if tool == "cellpose" else config.segment.stardist
    if config.dims == 2:
        return tool, own.steps * own.batch_size * own.patch**2
    deep = own.volumes
    seen = deep.steps * deep.batch_size * deep.patch_depth * deep.patch**2
    return f"{tool}{VOLUMES}", seen


def _predictions(config: Config, test: Images, trained: Sequence[Work]) -> list[Work]:
    threads, stored = config.segment.threads, _raw(test.pixels, test.dtype)
    work = [
        Work("predict", one.jobs, test.pixels, "pixels", (one.name,), one.variant,
             one.part, gpu=one.gpu, threads=threads, stored=stored, store=test.dtype)
        for one in trained
    ]  # fmt: skip
    if config.scored and config.segment.generalist:
        # Without its weights, which are seldom there, it does nothing.
        work.append(
            Work("predict_generalist", 1, 1, "job", ("prepare",),
                 gpu=asks_for_gpu(config, "generalist"), threads=threads)
        )  # fmt: skip
    return work


def _scores(predictions: Sequence[Work], test: Images) -> list[Work]:
    return [
        Work("evaluate", one.jobs, test.pixels, "pixels", (one.name,),
             part=one.name, stored=test.pixels)
        for one in predictions
    ]  # fmt: skip


def _restoration(config: Config, train: Images, test: Images) -> list[Work]:
    options, care = config.restore, config.restore.care
    cut, shown = options.pairs * options.patch**2, math.prod(config.simulate.size)
    epochs, seeds = min(care.epochs, care.steps), len(options.seeds)
    steps = epochs * math.ceil(care.steps / epochs)
    seen = steps * care.batch_size * care.patch**2
    # What pairs are cut from, and its pixels, which are looked at as a whole.
    sources = {
        "mathematical": ("simulate", config.simulate.images * shown),
        "diffusion": ("gather.checked", config.simulate.images * shown),
        "experimental": ("prepare", train.pixels),
    }
    paired = _raw(1, "uint16", False) + _raw(1, "float32", False)
    work = [
        Work("make_pairs", 1, test.pixels, "pixels", ("prepare",), part="test",
             stored=paired * test.pixels, store="pairs"),
        Work("evaluate_restoration", 1, test.pixels, "pixels", ("make_pairs.test",),
             part="widefield", stored=test.pixels),
    ]  # fmt: skip
    for arm in options.arms:
        after, pixels = sources[arm]
        work += [
            Work("make_pairs", 1, pixels + cut, "pixels", ("prepare", after), part=arm,
                 stored=paired * cut, store="pairs"),
            Work("train_restorer", seeds, seen, "pixels", (f"make_pairs.{arm}",),
                 part=arm, threads=options.threads, stored=1),
            Work("restore", seeds, test.pixels, "pixels",
                 (f"train_restorer.{arm}", "make_pairs.test"), part=arm,
                 threads=options.threads, stored=_raw(test.pixels, "float32", False),
                 store="float32"),
            Work("evaluate_restoration", seeds, test.pixels, "pixels",
                 (f"restore.{arm}",), part=arm, stored=test.pixels),
        ]  # fmt: skip
    scored = [one.name for one in work if one.rule == "evaluate_restoration"]
    after_all = ("write_config", *scored)
    return [
        *work,
        Work("tabulate_restoration", 1, 1, "job", after_all),
        Work("draw_restoration", 1, 1, "job", ("tabulate_restoration",)),
    ]


def _tables(scores: Sequence[str], predictions: Sequence[str]) -> list[Work]:
    work = [
        Work("tabulate", 1, 1, "job", ("write_config", *scores)),
        Work("draw_figures", 1, 1, "job",
             ("tabulate", "measure_realism", "measure_populations")),
    ]  # fmt: skip
    if scores:
        after = ("write_config", *scores)
        work.append(Work("draw_segmentations", 1, 1, "job", after))
    drawn = tuple(one.name for one in work)
    return [*work, Work("report", 1, 1, "job", (*drawn, *predictions))]

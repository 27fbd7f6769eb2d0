"""The command `phantomscope plan`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from phantomscope.config.load import make_config, read_yaml
from phantomscope.config.model import Config
from phantomscope.config.papers import load_paper, parts_of
from phantomscope.errors import PhantomscopeError
from phantomscope.planning.plan import make_plan, render, summary
from phantomscope.planning.rates import packaged_rates
from phantomscope.planning.runs import rates_from_run
from phantomscope.planning.sharding import training_processes
from phantomscope.planning.sources import source_images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `phantomscope plan`."""
    parser.add_argument("--config", type=Path, help="config file (default: the demo)")
    parser.add_argument(
        "--rates", type=Path, metavar="FOLDER",
        help="finished run to take rates from, such as results/demo",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
        help="jobs at once: cores, or jobs of a cluster (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--gpus", type=int, metavar="N",
        help="GPUs at once (default: what a training takes if the config says cuda, "
        "else 0)",
    )  # fmt: skip
    parser.add_argument(
        "--source-images", type=int, metavar="N", help="number of source images"
    )
    parser.add_argument(
        "--source-pixels", type=int, metavar="P", help="pixels of each source image"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> str:
    """Return what `phantomscope plan` prints.

    Raises
    ------
    PhantomscopeError
        For a bad config or folder of a run, or numbers that cannot be.
    """
    given = read_yaml(options.config) if options.config else {}
    where = str(options.config or "the config")
    if "paper" in given:
        paper = load_paper(str(given["paper"]), given, where)
        configs = [part.config for part in parts_of(paper, where)]
    else:
        configs = [make_config(given, where)]
    gpus = _gpus(options, configs)
    rates = packaged_rates()
    if options.rates:
        rates = rates_from_run(options.rates).over(rates)
    plans = []
    for config in configs:
        images = source_images(
            config, count=options.source_images, pixels=options.source_pixels
        )
        plans.append(make_plan(config, rates, options.jobs, images, gpus))
    if options.json:
        plain = [plan.plain() for plan in plans]
        return json.dumps(plain if "paper" in given else plain[0], indent=2)
    shown = [render(plan) for plan in plans]
    return "\n\n".join(shown if len(plans) == 1 else [*shown, summary(plans)])


def estimate(configs: Sequence[Config]) -> str:
    """Return what several experiments cost together, by the packaged rates.

    Where nothing tells yet how many source images there are, it says so instead.
    """
    rates, plans = packaged_rates(), []
    try:
        for config in configs:
            gpus = int("cuda" in (config.train.device, config.synthesise.device))
            images = source_images(config)
            plans.append(make_plan(config, rates, 1, images, gpus))
    except PhantomscopeError as error:
        return f"no estimate of the cost: {error.what}"
    notes = dict.fromkeys(note for plan in plans for note in plan.notes)
    return "\n".join([summary(plans), *(f"- {note}" for note in notes)])


def _gpus(options: argparse.Namespace, configs: Sequence[Config]) -> int:
    """Return how many GPUs are used at once."""
    asking = [c for c in configs if "cuda" in (c.train.device, c.synthesise.device)]
    needed = max((training_processes(c, "train_diffusion") for c in asking), default=0)
    gpus = needed if options.gpus is None else options.gpus
    if options.jobs < 1 or gpus < 0:
        raise PhantomscopeError(
            f"{options.jobs} jobs and {gpus} GPUs at once cannot be",
            where="--jobs, --gpus",
            fix="give at least one job, and no negative number of GPUs",
        )
    if asking and not gpus:
        raise PhantomscopeError(
            "the config asks for a GPU (`device: cuda`), but there is none",
            where="--gpus",
            fix="give at least 1, or write `device: auto`",
        )
    return int(gpus)

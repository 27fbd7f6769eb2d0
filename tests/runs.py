"""Plans of the packaged images, and what a run with known rates would leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.planning.rates import Rates
from phantomscope.planning.sharding import resolved
from phantomscope.planning.sources import Images, source_images
from phantomscope.planning.work import Work, works

PACKAGE = source_images(Config(), Path("nowhere"))
UNLABELLED = {"kind": "folder", "path": "my images"}
MADE_UP = {
    "simulate": {"images": 12, "size": [64, 96], "shards": 3},
    "segment": {"seeds": [0, 1]},
}


def planned(options: dict[str, Any] | Config, images: Images = PACKAGE) -> list[Work]:
    config = options if isinstance(options, Config) else make_config(options)
    return works(resolved(config), images)


def benchmark_names(one: Work, config: Config) -> list[str]:
    """Names as the rules write them."""
    if one.rule in ("simulate", "photograph", "synthesise", "check"):
        return [f"{one.rule}.{n:03d}" for n in range(one.jobs)]
    if one.rule in ("train_segmenter", "predict"):
        return [f"{one.name}.{seed}" for seed in range(one.jobs)]
    if one.rule == "evaluate":
        method = one.part.split(".")[1:] or ["generalist", "none"]
        return [f"evaluate/{'/'.join(method)}/seed{seed}" for seed in range(one.jobs)]
    return [f"gather.{one.part}" if one.rule == "gather" else one.rule]


def write_run(
    results: Path, rates: Rates, options: dict[str, Any], gpu: str = ""
) -> list[Work]:
    """Write what a run with exactly these rates would leave."""
    config = resolved(make_config(options))
    results.mkdir(parents=True, exist_ok=True)
    (results / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (results / "report.html").write_text("x" * 1000)
    work = works(config, PACKAGE)
    for one in work:
        rate, _ = rates.find(one.key, bool(gpu and one.gpu))
        assert rate is not None, one.key
        for name in benchmark_names(one, config):
            path = results / "benchmarks" / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                "s\th:m:s\tmax_rss\n"
                f"{rate.seconds(one.units)!r}\t0:00:01\t{len(name)}.5\n"
            )
    machine = {"cores": 2} | ({"gpu": gpu} if gpu else {})
    record = results / "diffusion/model.pt.provenance.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps({"machine": machine}))
    return work

"""AP50 of a segmenter trained on images of few steps, beside those of the full chain.

One set of sketches is brought back by the full ancestral chain and by shorter ways. On
each set the same tool is trained with some seeds, and segments the real held-out
images. All of it is done by the stages of an experiment, in processes of their own, two
at a time; what is there is not made again. The area does it with the defaults;
`python -m benchmarks.quality_ap50 results/demo config/default.yaml` has options.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.laboratory import ENVIRONMENT, ROOT, Laboratory, stage
from benchmarks.quality import FULL, full_chain, key_of, rounded
from benchmarks.quality_losses import judge
from benchmarks.table import Row
from phantomscope.config.model import Config
from phantomscope.engine.distil import student_options
from phantomscope.engine.model import DiffusionModel
from phantomscope.images.files import read_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.measure.statistics import percentiles
from phantomscope.progress import Progress
from phantomscope.stages import analysis, checking, sketching
from phantomscope.tables.rows import Bootstrap, Method, load_methods, over_seeds

CORES = 2
DEFAULT, REFERENCE = "default", "full"


@dataclass(frozen=True)
class Way:
    """A way back: its name, options of `synthesise`, and whether a student goes it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    student: bool = False


# Beside the full chain and what the config asks for, where they are wanted.
FURTHER = (
    Way("ddim-10", {"sampler": "ddim", "steps": 10, "spacing": "uniform"}),
    *(
        Way(f"dpmpp-{n}", {"sampler": "dpmpp_2m", "steps": n, "spacing": "log_snr"})
        for n in (10, 15, 20)
    ),
    Way("student", student=True),
)


class Sets:
    """Sketches, and the sets that are made of them, in a folder of their own.

    Parameters
    ----------
    lab : Laboratory
        A finished experiment; its synthetic set's first sketches are taken.
    count : int
        How many.
    folder : Path
        Gets a folder whose name tells what shapes the sets: with another model or other
        options there is another folder.
    """

    def __init__(self, lab: Laboratory, count: int, folder: Path) -> None:
        self.lab = lab
        self.start = int(read_json(lab.start)["value"])
        simulate = {"images": count, "shards": CORES}
        self.config = lab.config.model_copy(
            update={"simulate": lab.config.simulate.model_copy(update=simulate)}
        )
        self.student = lab.folder / "student/model.pt"
        shape = yaml.safe_dump(self.config.model_dump(mode="json"))
        shape += "".join(p.read_text() for p in (lab.sketch, lab.normalisation))
        shape += DiffusionModel.load(lab.model).meta["fingerprint"] + str(self.start)
        if self.student.exists():
            shape += DiffusionModel.load(self.student).meta["fingerprint"]
        self.folder = folder / f"{count}-{sha256(shape.encode()).hexdigest()[:10]}"

    def config_of(self, way: Way) -> Config:
        """Return the config of a way back: the experiment's, with other options."""
        options = self.config.synthesise
        if way.name == REFERENCE:
            options = full_chain(options, self.start)
        elif way.student:
            meta = DiffusionModel.load(self.student).meta
            options = student_options(meta, options, self.start)
        options = options.model_copy(update=dict(way.options))
        return self.config.model_copy(update={"synthesise": options})

    def key_of(self, way: Way) -> dict[str, Any]:
        """Return what tells the way apart in a table."""
        own = key_of(self.config_of(way).synthesise, student=way.student)
        return own | {"sampler": FULL} if way.name == REFERENCE else own

    def written(self, way: Way) -> Path:
        """Write the config of a way back and return its file."""
        path = self.folder / f"{way.name}.yaml"
        content = self.config_of(way).model_dump(mode="json")
        write_text(path, yaml.safe_dump(content, sort_keys=False))
        return path

    def draw(self) -> list[Path]:
        """Draw the sketches."""
        shards = [self.folder / f"sketches/{n}" for n in range(CORES)]
        for n, shard in enumerate(shards):
            if not shard.exists():
                sketching.simulate(
                    self.config, sketch=self.lab.sketch, sketches=shard, shard=n
                )
        return shards

    def make(self, ways: Sequence[Way]) -> None:
        """Bring the sketches back by each way, and join the parts of each set.

        No image is dropped, as `check` would: labels must be the same for all.
        """
        shards, commands = self.draw(), []
        for way in ways:
            used = Laboratory(self.lab.folder, self.lab.config)
            used.prepared, used.normalisation = (
                self.lab.prepared,
                self.lab.normalisation,
            )
            used.start = self.lab.start
            used.model = self.student if way.student else self.lab.model
            for n, shard in enumerate(shards):
                made = self.folder / f"synthetic/{way.name}/{n}"
                if not made.exists():
                    commands.append(used.synthesis(shard, made, self.written(way)))
        run_all("sets", commands)
        for way in ways:
            parts = [self.folder / f"synthetic/{way.name}/{n}" for n in range(CORES)]
            gathered = self.gathered(way)
            if not gathered.exists():
                checking.gather(self.config, parts=parts, gathered=gathered)

    def gathered(self, way: Way) -> Path:
        """Return the folder of the whole set."""
        return self.folder / f"synthetic/{way.name}/all"

    def segment(self, ways: Sequence[Way], tool: str, seeds: Sequence[int]) -> None:
        """Train on each set with each seed, segment the real test part, and score."""
        each = [(way, seed) for way in ways for seed in seeds]
        run_all("trainings", [
            stage("train-segmenter", "training", self.gathered(way), "folder",
                  self._place("models", tool, way, seed), "tool", tool, "arm",
                  "synthetic", "seed", seed, config=self.written(way))
            for way, seed in each
            if not self._place("models", tool, way, seed).exists()
        ])  # fmt: skip
        run_all("predictions", [
            stage("predict", "prepared", self.lab.prepared, "predictions",
                  self._place("predictions", tool, way, seed), "tool", tool, "folder",
                  self._place("models", tool, way, seed), config=self.written(way))
            for way, seed in each
            if not self._place("predictions", tool, way, seed).exists()
        ])  # fmt: skip
        for way, seed in each:
            analysis.evaluate(
                self.config, prepared=self.lab.prepared,
                predictions=self._place("predictions", tool, way, seed),
                scores=self._place("scores", tool, way, seed),
            )  # fmt: skip

    def _place(self, kind: str, tool: str, way: Way, seed: int) -> Path:
        return self.folder / kind / tool / way.name / f"seed{seed}"


def run_all(label: str, commands: Iterable[list[str]]) -> None:
    """Run commands, as many at a time as there are cores; their output is shown.

    Raises
    ------
    RuntimeError
        When one failed; those beside it are stopped, and go on in the next run.
    """
    waiting, running = list(commands), []
    total = len(waiting)
    with Progress(label, total, unit="jobs") as progress:
        try:
            while waiting or running:
                while waiting and len(running) < CORES:
                    running.append(
                        subprocess.Popen(waiting.pop(0), cwd=ROOT, env=ENVIRONMENT)
                    )
                for process in list(running):
                    try:
                        status = process.wait(timeout=0.2)
                    except subprocess.TimeoutExpired:
                        continue
                    running.remove(process)
                    if status:
                        raise RuntimeError(f"{' '.join(process.args)}: status {status}")
                    progress.advance()
        finally:
            for process in running:
                process.terminate()
                process.wait()


def compare(sets: Sets, ways: Sequence[Way], tool: str) -> pd.DataFrame:
    """Return AP50 of each way, the mean over seeds, and its loss with interval.

    All are resampled alike: groups of images, or, where there are fewer than three,
    objects.
    """
    methods = {m.arm: m for m in load_methods(sets.folder) if m.tool == tool}
    bootstrap = Bootstrap(methods[REFERENCE], sets.config)

    def drawn(method: Method) -> tuple[float, Any]:
        values = float(over_seeds(bootstrap.values(method), "ap_0.50"))
        return values, over_seeds(bootstrap.draws(method), "ap_0.50")

    full, full_draws = drawn(methods[REFERENCE])
    rows = []
    for way in ways:
        value, draws = drawn(methods[way.name])
        # Without a single hit of the full chain there is no share to lose.
        share = draws / np.where(full_draws > 0, full_draws, np.nan)
        low, high = percentiles(1 - share, sets.config.evaluate.confidence)
        if way.name == REFERENCE:
            low = high = 0.0
        rows.append({
            "way": way.name, **sets.key_of(way), "ap50": value,
            "loss_ap50": 1 - value / full if full else float("nan"),
            "low_ap50": low, "high_ap50": high, "tool": tool,
            "seeds": len(methods[way.name].seeds), "n": bootstrap.n,
            "unit": bootstrap.unit,
            "images": len(ImageSet.open(sets.gathered(way))),
        })  # fmt: skip
    return pd.DataFrame(rows)


def rows(
    lab: Laboratory, on: str, tables: Path, *, count: int = 40,
    seeds: Sequence[int] = (0, 1, 2), further: Sequence[Way] = (), suffix: str = "",
    tool: str = "stardist", folder: Path | None = None,
) -> list[Row]:  # fmt: skip
    """Make the sets, train, segment, compare; keep the table and judge the default.

    Parameters
    ----------
    lab : Laboratory
        A finished experiment.
    on : str
        What it is.
    tables : Path
        Gets `quality_ap50.csv` (means over seeds) and `quality_ap50_per_image.csv`.
    count, seeds, tool
        Sketches, and trainings of the tool.
    further : sequence of Way
        Beside the full chain and the default.
    suffix : str
        Of the row's id.
    folder : Path, optional
        For sets and models: a folder beside the experiment's other results by default.
    """
    sets = Sets(lab, count, folder or lab.folder / "benchmarks/quality_ap50")
    distilled = bool(lab.config.distil.steps)
    ways = [Way(REFERENCE), Way(DEFAULT, student=distilled)]
    for way in further:
        there = not way.student or sets.student.exists()
        if there and sets.key_of(way) not in [sets.key_of(w) for w in ways]:
            ways.append(way)
    sets.make(ways)
    sets.segment(ways, tool, seeds)
    table = compare(sets, ways, tool)
    tables.mkdir(parents=True, exist_ok=True)
    write_text(tables / "quality_ap50.csv", rounded(table))
    write_text(tables / "quality_ap50_per_image.csv", rounded(per_image(sets, tool)))
    full, own = (table.iloc[n] for n in (0, 1))
    what = (
        f"loss of AP50 by the default ({own['sampler']}, {own['steps']} steps: "
        f"{own['ap50']:.3f}) against the full chain ({full['steps']} steps: "
        f"{full['ap50']:.3f}): {tool} trained on {own['images']} images each, made "
        f"from the same sketches, {own['seeds']} seeds; none where the interval of the "
        f"paired difference reaches 0; it is {own['loss_ap50']:.3f} ("
        f"{own['low_ap50']:.3f} to {own['high_ap50']:.3f}, {own['n']} x {own['unit']})"
    )
    lost = judge(float(own["loss_ap50"]), float(own["low_ap50"]))
    return [
        Row(f"engine.quality_loss_ap50{suffix}", what, f"{on}, real held-out images",
            lost, "", "<= 0.02", "python -m benchmarks quality_ap50",
            floor="0: the full chain itself")
    ]  # fmt: skip


def per_image(sets: Sets, tool: str) -> pd.DataFrame:
    """Return counts and AP50 of every real image under every way and seed."""
    parts = []
    for method in load_methods(sets.folder):
        if method.tool != tool:
            continue
        for seed, found in method.images.items():
            part = found[["id", "group", "tp_0.50", "fp_0.50", "fn_0.50"]].copy()
            counted = part[["tp_0.50", "fp_0.50", "fn_0.50"]].sum(axis=1)
            # Nothing to find and nothing found is 1, as everywhere.
            part["ap50"] = (part["tp_0.50"] / counted).where(counted > 0, 1.0)
            parts.append(part.assign(way=method.arm, seed=seed))
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Command line: one experiment, with options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="such as results/demo")
    parser.add_argument("config", type=Path, help="of that experiment")
    parser.add_argument("--count", type=int, default=40, help="sketches")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    names = {way.name: way for way in FURTHER}
    parser.add_argument("--further", nargs="*", default=[], choices=names)
    given = parser.parse_args()
    lab = Laboratory.of_experiment(given.results.resolve(), given.config.resolve())
    tables = ROOT / "benchmarks/results" / given.results.name
    further = [names[name] for name in given.further]
    for row in rows(lab, f"model of {given.results.name}", tables, count=given.count,
                    seeds=given.seeds, further=further):  # fmt: skip
        print(f"{row.id}: {row.value:.4g}; {row.what}")


if __name__ == "__main__":
    main()

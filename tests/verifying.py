"""A small run with its records, to change and to verify."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path

import tifffile
from benchmarks.laboratory import Laboratory

from phantomscope.config.load import sections
from phantomscope.images.files import read_array, write_json
from phantomscope.provenance import SUFFIX, fingerprint, record
from phantomscope.stages import analysis, checking, results, sketching

SHARDS = ("shard-000", "shard-001")
TOOL = "otsu_watershed/annotated/seed0"


class Recorder:
    """Runs stages below a folder and writes their records."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = Laboratory(root).config

    def note(self, stage, outputs, inputs, **arguments):
        content = sections(self.config, "seed")
        record(
            stage, content, inputs=inputs, outputs=outputs, arguments=arguments,
            started=time.time(), seconds=0.1,
        )  # fmt: skip

    def run(self, stage, outputs, inputs=None, **arguments):
        groups = [
            {
                key: [self.root / name for name in value]
                if isinstance(value, list) else self.root / value
                for key, value in (group or {}).items()
            }
            for group in (outputs, inputs)
        ]  # fmt: skip
        stage(self.config, **groups[0], **groups[1], **arguments)
        self.note(stage.__name__, *groups, **arguments)


def draw(run: Recorder, shard: str, real: dict[str, str]) -> None:
    sketches = f"sketches/{shard}"
    run.run(
        sketching.simulate, {"sketches": sketches}, {"sketch": "sketch.yaml"},
        shard=int(shard[-3:]),
    )  # fmt: skip
    run.run(
        sketching.photograph, {"photographs": f"photographs/{shard}"},
        {"sketch": "sketch.yaml", **real, "sketches": sketches},
    )  # fmt: skip


def told(report):
    """Where something is wrong, relative to the results, and the first of what."""
    return {
        os.path.relpath(problem.where, report.results): problem.what
        for problem in reversed(report.problems)
    }


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def change_pixel(path):
    array = read_array(path)
    array[3, 5] += 1
    tifffile.imwrite(path, array, compression="zlib")


def edit_manifest(path, **changes):
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0].update(changes)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def remake(results, stage, **changes):
    """Write a record anew, as if the stage had run again on what is there."""
    (path,) = (
        path for path in results.rglob(f"*{SUFFIX}")
        if json.loads(path.read_text())["stage"] == stage
    )  # fmt: skip
    old = json.loads(path.read_text())
    inputs, outputs = (
        {key: [path.parent / item["path"] for item in items]
         for key, items in old[side].items()}
        for side in ("inputs", "outputs")
    )  # fmt: skip
    values = {"inputs": inputs, "outputs": outputs, **changes}
    record(stage, {}, **values, arguments={}, started=time.time(), seconds=0.0)
    return path


def forge(path, change):
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    write_json(path, {**content, "sha256": fingerprint(content)})


def finish(root: Path) -> Path:
    """Make a small run by real stages, with what Snakemake and training leave."""
    lab = Laboratory(root)
    lab.prepare()
    run = Recorder(root)
    run.note("acquire", {"images": lab.images}, {})
    real = {"prepared": "prepared", "normalisation": "normalisation.json"}
    paths = {key: root / name for key, name in real.items()}
    run.note("prepare", paths, {"images": lab.images})
    fitted = {"sketch": lab.sketch, "fit": root / "fit.json"}
    fitted["objects"] = root / "fit_objects.csv"
    run.note("fit_sketch", fitted, paths)
    for shard in SHARDS:
        draw(run, shard, real)
    parts = [f"photographs/{shard}" for shard in SHARDS]
    run.run(checking.gather, {"gathered": "camera"}, {"parts": parts})
    model, predictions, scores = (
        f"{name}/{TOOL}" for name in ("models", "predictions", "scores")
    )
    run.run(
        analysis.train_segmenter, {"folder": model}, {"training": "prepared"},
        tool="otsu_watershed", arm="annotated", seed=0,
    )  # fmt: skip
    found = {"predictions": predictions}
    run.run(
        analysis.predict, found, {"prepared": "prepared", "folder": model},
        tool="otsu_watershed",
    )  # fmt: skip
    run.run(analysis.evaluate, {"scores": scores}, {"prepared": "prepared", **found})
    run.run(results.write_config, {"resolved": "config.yaml"})
    names = {"csv": "csv", "md": "md", "per_image": "per_image.csv"}
    tables = {key: f"tables/{name}" for key, name in names.items()}
    run.run(results.tabulate, tables, {"root": "."})
    for name in ("logs/a.log", "benchmarks/a.tsv", "model.pt.state/state.pt"):
        (root / name).parent.mkdir()
        (root / name).touch()
    (root / "camera/.snakemake_timestamp").touch()
    (root / ".camera.lock").touch()
    return root

"""Stages that cannot go on: nothing found, all rejected, wrong tools, usage."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch

from benchmarks.bad_inputs.building import (
    blobs,
    camera_of,
    checking,
    config_file,
    synthesising,
    training,
    write,
)
from benchmarks.bad_inputs.model import Case, Invocation, NotPermittedError, run_here
from benchmarks.laboratory import SMOKE, Laboratory
from phantomscope.config.load import load_config
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import data


def _noise_only(folder: Path, lab: Laboratory) -> Invocation:
    rng = np.random.default_rng(5)
    with ImageSetWriter(folder / "images", {}) as writer:
        for n in range(4):
            image = rng.normal(1000, 10, (96, 96)).astype(np.uint16)
            writer.add(f"i{n}", image, stratum="96x96")
    return _fitting(folder)


def _one_object(folder: Path, lab: Laboratory) -> Invocation:
    with ImageSetWriter(folder / "images", {}) as writer:
        for n in range(4):
            image = np.random.default_rng(n).normal(100, 5, (96, 96))
            image[30:60, 30 + n : 60] += 500 * (n == 0)
            writer.add(f"i{n}", image.astype(np.uint16), stratum="96x96")
    return _fitting(folder)


def _fitting(folder: Path) -> Invocation:
    """Divide the set `images` and fit the sketch parameters to it."""
    config = load_config(SMOKE)
    images, normalisation = folder / "images", folder / "normalisation.json"
    prepared = folder / "prepared"
    data.prepare(config, images=images, prepared=prepared, normalisation=normalisation)
    outputs = tuple(folder / n for n in ("sketch.yaml", "fit.json", "objects.csv"))
    argv = ["fit-sketch", "--config", SMOKE, "--prepared", prepared]
    argv += ["--normalisation", normalisation, "--sketch", outputs[0]]
    return Invocation([*argv, "--fit", outputs[1], "--objects", outputs[2]], outputs)


def _all_rejected(folder: Path, lab: Laboratory) -> Invocation:
    call = checking(folder, lab, {"check": {"min_agreement": 1.0}})
    run_here(call)
    argv = ["gather", "--config", SMOKE, "--parts", *call.outputs]
    return Invocation([*argv, "--gathered", folder / "all"], (folder / "all",))


def _too_many_steps(folder: Path, lab: Laboratory) -> Invocation:
    return synthesising(folder, lab, {"synthesise": {"steps": 301}})


def _other_timesteps(folder: Path, lab: Laboratory) -> Invocation:
    options = {"process": {"timesteps": 2000}}
    outputs = tuple(folder / n for n in ("start.json", "table.csv", "start"))
    argv = ["choose-start", "--config", config_file(folder, options)]
    argv += ["--prepared", lab.prepared, "--normalisation", lab.normalisation]
    argv += ["--sketch", lab.sketch, "--model", lab.model, "--start", outputs[0]]
    argv += ["--table", outputs[1], "--start-images", outputs[2]]
    return Invocation(argv, outputs)


def _no_gpu(folder: Path, lab: Laboratory) -> Invocation:
    if torch.cuda.is_available():
        # Hidden from a process of its own.
        call = training(folder, lab, {"device": "cuda"})
        shell = "export CUDA_VISIBLE_DEVICES="
        return Invocation(call.argv, call.outputs, shell=shell)
    return training(folder, lab, {"device": "cuda"})


def _no_such_shard(folder: Path, lab: Laboratory) -> Invocation:
    output = folder / "out"
    argv = ["simulate", "--config", SMOKE, "--sketch", lab.sketch, "--shard", 7]
    return Invocation([*argv, "--sketches", output], (output,))


def _segmenting(folder: Path, lab: Laboratory, tool: str, arm: str) -> Invocation:
    with ImageSetWriter(folder / "images", {}) as writer:
        for n in range(2):
            writer.add(f"i{n}", blobs(seed=n), split="train")
    output = folder / "out"
    argv = ["train-segmenter", "--config", SMOKE, "--training", folder / "images"]
    argv += ["--folder", output, "--tool", tool, "--arm", arm]
    return Invocation(argv, (output,))


def _predicting(folder: Path, lab: Laboratory, tool: str, **files: str) -> Invocation:
    """Predict with a tool whose trained folder holds these files."""
    for name, content in files.items():
        write(folder / "trained" / name.replace("_json", ".json"), content)
    if tool == "cellpose" and importlib.util.find_spec("cellpose") is None:
        raise NotPermittedError("Cellpose is not installed")
    output = folder / "out"
    argv = ["predict", "--config", SMOKE, "--prepared", lab.prepared, "--folder"]
    argv += [folder / "trained", "--tool", tool, "--predictions", output]
    return Invocation(argv, (output,))


def _predictions_of_others(folder: Path, lab: Laboratory) -> Invocation:
    output = folder / "scores"
    output.mkdir()
    argv = ["evaluate", "--config", SMOKE, "--prepared", lab.prepared]
    argv += ["--predictions", camera_of(lab), "--scores", output]
    return Invocation(argv, (output,))


def _tabulating(folder: Path, lab: Laboratory) -> Invocation:
    outputs = tuple(folder / n for n in ("table.csv", "table.md", "images.csv"))
    argv = ["tabulate", "--config", SMOKE, "--root", folder / "results/nothing"]
    argv += ["--csv", outputs[0], "--md", outputs[1], "--per-image", outputs[2]]
    return Invocation(argv, outputs)


def _reporting_on_others(folder: Path, lab: Laboratory) -> Invocation:
    write(folder / "thesis/chapter.txt", b"precious")
    argv = ["report", "--config", SMOKE, "--root", folder / "thesis"]
    return Invocation([*argv, "--html", folder / "out.html"], (folder / "out.html",))


RUNS = [
    Case("all-rejected", "run", _all_rejected,
         ("all 3 synthetic images were rejected", "disagreement", "where: check",
          "relax the limits of `check`")),
    Case("nothing-stands-out", "run", _noise_only,
         ("where: fit", "`fit.parameters`")),
    Case("one-object", "run", _one_object,
         ("whole objects were found", "where: fit", "`fit.parameters`")),
    Case("more-steps-than-times", "run", _too_many_steps,
         ("301 steps do not fit", "synthesise.steps", "at most 300 steps")),
    Case("model-of-other-timesteps", "run", _other_timesteps,
         ("model.pt", "process.timesteps: 1000", "train again")),
    Case("no-gpu", "run", _no_gpu,
         ("no usable GPU", "train.device", "`auto` or `cpu`")),
    Case("no-such-shard", "run", _no_such_shard,
         ("no shard 7", "--shard", "from 0 to 1")),
    Case("no-such-tool", "run", lambda f, lab: _segmenting(f, lab, "unet", "sketch"),
         ("'unet'", "segment.tools", "use one of cellpose")),
    Case("unlabelled-arm", "run",
         lambda f, lab: _segmenting(f, lab, "otsu_watershed", "annotated"),
         ("no labels", "segment.arms", "source.labels")),
    Case("no-labelled-object", "run",
         lambda f, lab: _segmenting(f, lab, "otsu_watershed", "sketch"),
         ("images/manifest.csv", "labelled object", "source.labels")),
    Case("tool-not-trained", "run",
         lambda f, lab: _predicting(f, lab, "otsu_watershed"),
         ("trained/parameters.json", "no such file", "check the path")),
    Case("tool-incomplete", "run",
         lambda f, lab: _predicting(f, lab, "otsu_watershed", parameters_json="{}"),
         ("/trained", "cannot be loaded", "run `train-segmenter` again")),
    Case("tool-damaged", "run",
         lambda f, lab: _predicting(f, lab, "cellpose", model="words"),
         ("/trained", "cannot be loaded", "run `train-segmenter` again")),
    Case("predictions-of-others", "run", _predictions_of_others,
         ("camera/manifest.csv", "no image 'nuclei-test'", "again")),
    Case("root-missing", "run", _tabulating,
         ("folder of the experiment does not exist", "results/nothing", "--root")),
    Case("root-of-others", "run", _reporting_on_others,
         ("no folder of an experiment", "thesis/config.yaml", "--root")),
    Case("unknown-stage", "usage",
         lambda f, lab: Invocation(["fly", "--images", f / "out"], (f / "out",), 2),
         ("invalid choice: 'fly'", "acquire", "synthesise")),
    Case("missing-argument", "usage",
         lambda f, lab: Invocation(["acquire", "--config", SMOKE], code=2),
         ("required", "--images")),
]  # fmt: skip

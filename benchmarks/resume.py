"""Kill training with SIGKILL at random moments; the final weights must not differ."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import torch
import yaml

from benchmarks.laboratory import SMOKE, Laboratory, run, stage, start
from phantomscope.engine.checkpoint import load_checkpoint


def training_config(folder: Path, steps: int) -> Path:
    """Write a config that trains for a few seconds and saves its state often."""
    content = yaml.safe_load(SMOKE.read_text())
    content["train"] |= {"steps": steps, "checkpoint_every": 7}
    path = folder / "training.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def training(lab: Laboratory, folder: Path, config: Path) -> list[str]:
    """Return the command that trains into `folder`."""
    return stage(
        "train-diffusion", "prepared", lab.prepared, "normalisation",
        lab.normalisation, "model", folder / "model.pt", "metrics",
        folder / "metrics.jsonl", "state", folder / "model.pt.state", config=config,
    )  # fmt: skip


def same_weights(a: Path, b: Path) -> bool:
    """Whether two models hold the same bits."""
    first, second = (load_checkpoint(p / "model.pt")[0]["network"] for p in (a, b))
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def kill_and_resume(command: list[str], moment: float) -> int:
    """Start, kill after `moment` seconds of life, run again; return its exit status."""
    process = start(command)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run(command)
    return process.returncode


def kills_identical(folder: Path, kills: int, steps: int, seed: int = 0) -> int:
    """Count the runs that end with the weights of the undisturbed run.

    Parameters
    ----------
    folder : Path
        Scratch folder.
    kills : int
        How many runs are killed, each once, at moments spread over a whole run.
    steps : int
        Length of the training.
    seed : int
        Of the moments.
    """
    lab = Laboratory(folder / "lab")
    if not lab.sketch.exists():
        lab.prepare()
    config = training_config(folder, steps)
    begin = time.monotonic()
    run(training(lab, folder / "undisturbed", config))
    whole = time.monotonic() - begin
    rng = random.Random(seed)
    identical = 0
    for number in range(kills):
        # Importing takes the first part of a run; most kills should hit the training.
        moment = whole * rng.uniform(0.3, 1.0)
        target = folder / f"killed-{number}"
        kill_and_resume(training(lab, target, config), moment)
        identical += same_weights(folder / "undisturbed", target)
        shutil.rmtree(target)
    return identical

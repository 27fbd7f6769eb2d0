"""A small trained experiment on the packaged images, for benchmarks and tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from phantomscope.config.load import load_config
from phantomscope.config.model import Config
from phantomscope.images.files import write_json
from phantomscope.stages import data, diffusion, sketching

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "config/demo/smoke.yaml"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT / "src"),
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def stage(name: str, *arguments: object, config: Path = SMOKE) -> list[str]:
    """Return the command of a stage; arguments alternate between name and value."""
    command = [sys.executable, "-m", "phantomscope", name, "--config", str(config)]
    for key, value in zip(arguments[::2], arguments[1::2], strict=True):
        command += [f"--{key}", str(value)]
    return command


def start(command: list[str], cwd: Path = ROOT) -> subprocess.Popen[str]:
    """Start a command and do not wait."""
    return subprocess.Popen(
        command, cwd=cwd, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run(command: list[str], cwd: Path = ROOT) -> str:
    """Run a command to its end; its output is in the error when it fails."""
    process = start(command, cwd)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{output}")
    return output


class Laboratory:
    """Prepared images, sketch parameters, a trained small model and t_start."""

    def __init__(self, folder: Path, config: Config | None = None) -> None:
        self.folder = folder
        self.config = config or load_config(SMOKE)
        self.images, self.prepared = folder / "images", folder / "prepared"
        self.normalisation = folder / "normalisation.json"
        self.sketch, self.model = folder / "sketch.yaml", folder / "model.pt"
        self.start = folder / "start.json"
        self.base = SMOKE

    @classmethod
    def of_experiment(cls, results: Path, base: Path) -> Laboratory:
        """Use the model of a finished experiment and the options of its config."""
        found = cls(results, load_config(base))
        found.model, found.base = results / "diffusion/model.pt", base
        return found

    def prepare(self) -> None:
        """Everything up to the sketch parameters."""
        c = self.config
        data.acquire(c, images=self.images)
        data.prepare(
            c, images=self.images, prepared=self.prepared,
            normalisation=self.normalisation,
        )  # fmt: skip
        sketching.fit_sketch(
            c, prepared=self.prepared, normalisation=self.normalisation,
            sketch=self.sketch, fit=self.folder / "fit.json",
            objects=self.folder / "fit_objects.csv",
        )  # fmt: skip

    def train(self, t_start: int = 300) -> None:
        """Train the small model and fix t_start."""
        diffusion.train_diffusion(
            self.config, prepared=self.prepared, normalisation=self.normalisation,
            model=self.model, metrics=self.folder / "metrics.jsonl",
            state=self.folder / "model.pt.state",
        )  # fmt: skip
        write_json(self.start, {"value": t_start, "reason": "fixed"})

    def synthesis(self, sketches: Path, synthetic: Path, config: Path) -> list[str]:
        """Return the command that synthesises one shard."""
        return stage(
            "synthesise", "prepared", self.prepared, "normalisation",
            self.normalisation, "model", self.model, "start", self.start,
            "sketches", sketches, "synthetic", synthetic, config=config,
        )  # fmt: skip

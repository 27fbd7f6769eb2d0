"""Shared fixtures."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.laboratory import ENVIRONMENT, Laboratory
from hypothesis import settings

# A busy machine is no failure: what is slow is seen by `--durations`.
settings.register_profile("phantomscope", deadline=None)
settings.load_profile("phantomscope")

Snakemake = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """A small trained experiment on the packaged images."""
    laboratory = Laboratory(tmp_path_factory.mktemp("lab"))
    laboratory.prepare()
    laboratory.train()
    return laboratory


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def snakemake(root: Path) -> Snakemake:
    """Return a function that runs Snakemake in a folder, without any profile."""

    def run(
        folder: Path, *arguments: object, snakefile: Path = root / "Snakefile",
        **environment: str,
    ) -> "subprocess.CompletedProcess[str]":  # fmt: skip
        command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile]
        command += ["--profile", "none", "--workflow-profile", "none", "--nocolor"]
        return subprocess.run(
            [str(part) for part in (*command, *arguments)], cwd=folder, text=True,
            env=ENVIRONMENT | environment, capture_output=True,
        )  # fmt: skip

    return run

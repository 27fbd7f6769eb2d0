"""Shared fixtures."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from benchmarks.laboratory import ENVIRONMENT, Laboratory
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# A busy machine is no failure: what is slow is seen by `--durations`.
settings.register_profile("phantomscope", deadline=None)
settings.load_profile("phantomscope")

# So many tests make a file large.
LARGE = 25

Snakemake = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name cases of raw content by their argument and number.

    Packed bytes hold the time of day, and workers must collect the same names.
    """
    long = isinstance(val, str) and (len(val) > 60 or not val.isprintable())
    return argname if long or isinstance(val, bytes) else None


class OneCluster(LoadFileScheduling):
    """Give each worker whole files, and all tests on SLURM to one of them.

    There is one cluster on a host: a second worker would wait for it, and do nothing.
    """

    def _split_scope(self, nodeid: str) -> str:
        of_cluster = nodeid.startswith("tests/slurm/")
        return "tests/slurm" if of_cluster else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(
    config: pytest.Config, log: object
) -> LoadFileScheduling | None:
    """Return our scheduler where files are distributed."""
    if config.getoption("dist") != "loadfile":
        return None
    return OneCluster(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests on SLURM first, since they mostly wait, and small files last.

    Beside the cluster's faults run the large files of quick tests; then those that
    start whole workflows. At the end no worker waits long for the file of another.
    """
    counts = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int, str]:
        parts, count = item.path.parts, counts[item.path]
        if "slurm" in parts:
            group = 0
        elif {"end_to_end", "workflow"} & set(parts):
            group = 2
        else:
            group = 1 if count >= LARGE else 3
        return group, -count, str(item.path)

    items.sort(key=place)


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
        under: Sequence[object] = (), **environment: str,
    ) -> "subprocess.CompletedProcess[str]":  # fmt: skip
        command = [*under, sys.executable, "-m", "snakemake", "--snakefile", snakefile]
        command += ["--profile", "none", "--workflow-profile", "none", "--nocolor"]
        return subprocess.run(
            [str(part) for part in (*command, *arguments)], cwd=folder, text=True,
            env=ENVIRONMENT | environment, capture_output=True,
        )  # fmt: skip

    return run

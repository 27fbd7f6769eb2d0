"""A real SLURM cluster on this host, and a clone that runs on it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.slurm.host import Clone, Cluster

IMPOSSIBLE = 3  # exit status of the script on a host that cannot have a cluster


def _unable(reason: str) -> NoReturn:
    if os.environ.get("PHANTOMSCOPE_SLURM_TESTS") == "required":
        pytest.fail(f"SLURM tests are required: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A fresh cluster; skips where there cannot be one.

    ``PHANTOMSCOPE_SLURM_TESTS=required`` fails instead of skipping, ``off`` skips.
    """
    if os.environ.get("PHANTOMSCOPE_SLURM_TESTS") == "off":
        pytest.skip("switched off by PHANTOMSCOPE_SLURM_TESTS")
    home = Path(tempfile.gettempdir()) / "phantomscope-slurm"
    # Files may run on several workers: one cluster at a time on a host.
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = Cluster(home)
        found.call("down", "--wipe")  # what a killed test run left
        try:
            started = found.call("up")
            if started.returncode == IMPOSSIBLE:
                _unable(started.stdout.splitlines()[-1])
            assert started.returncode == 0, started.stdout
            yield found
        finally:
            found.call("down", "--wipe")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A fresh clone."""
    return Clone.of_repository(tmp_path_factory.mktemp("slurm") / "clone")

"""Shared fixtures."""

from pathlib import Path

import pytest

from benchmarks.laboratory import Laboratory


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

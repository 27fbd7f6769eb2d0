"""Fixtures that several modules of unit tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archives import Place
from tests.plates import Gallery
from tests.server import Server
from tests.verifying import finish


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of files that can be told to fail."""
    with Server() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a download goes."""
    return tmp_path / "data" / "set" / "a.bin"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with a registry of data sets of its own."""
    return Place(tmp_path)


@pytest.fixture(scope="session")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Cell Painting Gallery; leave it as it is."""
    return Gallery(tmp_path_factory.mktemp("plates") / "bucket").root


@pytest.fixture
def gallery(plates: Path, tmp_path: Path) -> Gallery:
    """A copy of the gallery, to change."""
    shutil.copytree(plates, tmp_path / "bucket")
    return Gallery(tmp_path / "bucket")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run by real stages, with their records; leave it as it is."""
    return finish(tmp_path_factory.mktemp("run") / "results" / "demo")


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to change."""
    shutil.copytree(finished, tmp_path / "results/demo")
    return tmp_path / "results/demo"

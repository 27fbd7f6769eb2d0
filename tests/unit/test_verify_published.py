"""A published set is compared with its own list of checksums."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pytest

from phantomscope.config.load import make_config
from phantomscope.images.checksums import CHECKSUMS
from phantomscope.images.writer import ImageSetWriter
from phantomscope.provenance import record
from phantomscope.stages.publish import publish
from phantomscope.verify import verify


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A published set of two images as OME-Zarr and TIFF, with its record."""
    root = tmp_path_factory.mktemp("published") / "results/demo"
    rng = np.random.default_rng(0)
    info = {"name": "fake", "licence": "CC BY 4.0", "citation": "Nobody 2026"}
    for name in ("prepared", "checked"):
        with ImageSetWriter(root / name, info) as writer:
            for n in range(2):
                labels = np.zeros((40, 48), np.uint16)
                labels[5:15, 5:15] = n + 1
                raw = rng.integers(0, 99, labels.shape).astype(np.uint16)
                writer.add(f"a{n}", raw, labels, split="train", type="all",
                           limits="a0")  # fmt: skip
    paths = {name: root / name for name in ("prepared", "checked")}
    for name, path in paths.items():
        record(name, {}, inputs={}, outputs={"x": path}, arguments={},
               started=time.time(), seconds=0.1)  # fmt: skip
    config = make_config({
        "publish": {"formats": ["ome_zarr", "tiff"], "creators": ["Doe, Jane; Place"]}
    })  # fmt: skip
    publish(config, **paths, published=root / "published")
    record("publish", {}, inputs=paths, outputs={"published": root / "published"},
           arguments={}, started=time.time(), seconds=0.1)  # fmt: skip
    return root


@pytest.fixture
def results(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "results/demo")
    return tmp_path / "results/demo"


def told(report):
    return {
        os.path.relpath(problem.where, report.results): problem.what
        for problem in report.problems
    }


def test_every_file_of_an_untouched_set_is_known(finished):
    report = verify(finished)
    assert report.ok
    assert not report.unaccounted
    assert report.tally("publish").images == 2
    assert verify(finished, quick=True).ok


@pytest.mark.parametrize("kind", ["ome_zarr", "tiff"])
@pytest.mark.parametrize("change", ["flip", "lose"])
def test_a_changed_file_is_found(results, kind, change):
    folder = results / "published" / kind
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = max(files, key=lambda file: file.stat().st_size)
    if change == "flip":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    found = told(verify(results))
    assert list(found) == [str(path.relative_to(results))]
    (what,) = found.values()
    assert CHECKSUMS in what
    assert bool(told(verify(results, quick=True))) == (change == "lose")


def test_a_file_that_nobody_listed_is_told(results):
    path = results / "published/ome_zarr/a0.ome.zarr/0/9.9"
    path.write_bytes(b"x")
    report = verify(results)
    assert report.ok
    assert report.unaccounted == [path]


@pytest.mark.parametrize("text", [b"\xff\xfe", b"no checksum\n", b""])
def test_a_broken_list_is_a_problem_not_a_crash(results, text):
    path = results / "published" / CHECKSUMS
    path.write_bytes(text)
    found = told(verify(results))
    assert str(path.relative_to(results)) in found

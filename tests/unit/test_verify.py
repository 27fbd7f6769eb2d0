"""Every change of a finished run is found and named; an untouched run is fine."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.verifying import (
    SHARDS,
    TOOL,
    change_pixel,
    edit_manifest,
    files_below,
    told,
)

from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import pixel_hash, read_array
from phantomscope.provenance import SUFFIX
from phantomscope.verify import verify

# An untouched run.


def test_an_untouched_run_is_fine(finished):
    report = verify(finished)
    assert report.ok
    assert not report.unaccounted
    assert not report.unrecorded
    assert not report.partial
    assert list(report.stages) == [
        "acquire", "prepare", "fit_sketch", "simulate", "photograph", "gather",
        "train_segmenter", "predict", "evaluate", "write_config", "tabulate",
    ]  # fmt: skip
    assert report.stages["simulate"].records == len(SHARDS)
    for stage in ("simulate", "photograph", "gather"):
        assert report.stages[stage].images == 6
    assert report.stages["prepare"].files == 3
    assert report.stages["prepare"].images == 2
    assert verify(finished, quick=True).stages == report.stages


def test_a_run_may_be_moved(results, monkeypatch):
    monkeypatch.chdir(results)
    assert verify(Path(".")).ok
    monkeypatch.chdir("..")
    Path("link").symlink_to("demo")
    assert verify(Path("link/../link")).ok


def test_links_are_followed_once(results, tmp_path):
    shutil.move(results / "scores", tmp_path / "scores")
    (results / "scores").symlink_to(tmp_path / "scores")
    (tmp_path / "scores/back").symlink_to(results)
    report = verify(results)
    assert report.ok
    assert report.stages["evaluate"].records == 1
    assert not report.unaccounted


def test_another_compression_of_the_same_pixels_is_fine(results):
    path = results / "images/images/nuclei.ome.tif"
    tifffile.imwrite(path, read_array(path), compression=None)
    assert verify(results).ok


# Changed and lost files.


PIXELS = {
    "images/images/nuclei.ome.tif": "acquire",
    "prepared/labels/nuclei-train.ome.tif": "prepare",
    "sketches/shard-001/images/sketch-000005.ome.tif": "simulate",
    "photographs/shard-000/labels/sketch-000000.ome.tif": "photograph",
    f"predictions/{TOOL}/labels/nuclei-test.ome.tif": "predict",
}


@pytest.mark.parametrize("name", PIXELS)
def test_one_changed_pixel_is_found(results, name):
    change_pixel(results / name)
    report = verify(results)
    assert told(report) == {name: "the pixels are not those that the manifest records"}
    assert len(report.problems) == 1
    assert report.stages[PIXELS[name]].problems == 1
    assert f"--forcerun {(results / name).parents[1]}`" in report.problems[0].fix
    assert verify(results, quick=True).ok


@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("quick", [True, False])
def test_a_lost_image_is_found(results, name, quick):
    (results / name).unlink()
    report = verify(results, quick=quick)
    assert list(told(report)) == [name]
    assert "manifest.csv names it" in report.problems[0].what
    assert "put it back" in report.problems[0].fix


def covered(root):
    """Files whose bytes the records cover: all but images, records and the like."""
    left_out = (SUFFIX, ".tif", ".log", ".tsv", ".lock", ".pt", "_timestamp")
    return [
        path.relative_to(root) for path in files_below(root)
        if path.name == "training.log" or not path.name.endswith(left_out)
    ]  # fmt: skip


def test_any_flipped_byte_of_any_other_file_is_found(results):
    names = covered(results)
    assert len(names) > 25
    rng = random.Random(0)
    for name in names:
        path = results / name
        original = path.read_bytes()
        if not original:
            continue
        for place in {0, len(original) - 1, rng.randrange(len(original))}:
            changed = bytearray(original)
            changed[place] ^= rng.randrange(1, 256)
            path.write_bytes(changed)
            report = verify(results, quick=True)
            assert "was changed" in told(report)[str(name)], (name, place)
        path.write_bytes(original)
    assert verify(results).ok


def test_any_lost_file_is_found(results):
    for name in covered(results):
        (results / name).rename(results.parent / "away")
        report = verify(results, quick=True)
        assert "it is gone" in told(report)[str(name)], name
        assert len(report.problems) == 1
        assert not report.unaccounted
        (results.parent / "away").rename(results / name)


@pytest.mark.parametrize("name", ["camera", "sketches/shard-000", f"models/{TOOL}"])
def test_a_lost_folder_is_one_problem(results, name):
    shutil.rmtree(results / name)
    report = verify(results)
    assert list(told(report)) == [name]
    assert len(report.problems) == 1
    assert f"--forcerun {results / name}`" in report.problems[0].fix


def test_a_file_in_place_of_a_folder_is_found(results):
    shutil.rmtree(results / "camera")
    (results / "camera").touch()
    assert "gone or unreadable" in told(verify(results))["camera"]


def test_what_cannot_be_read_is_a_problem_not_a_crash(results):
    (results / f"models/{TOOL}/weights").symlink_to("nowhere")
    assert told(verify(results)) == {
        f"models/{TOOL}/weights": "no such file or folder",
        f"models/{TOOL}": "`train_segmenter` made this, and it is gone or unreadable",
    }


TIFF_BYTES = settings(
    max_examples=80, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@TIFF_BYTES
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_of_an_image_matters_if_pixels_do(finished, place, flip):
    name = "photographs/shard-000/images/sketch-000000.ome.tif"
    path = finished / name
    original, array = path.read_bytes(), read_array(path)
    changed = bytearray(original)
    changed[place % len(original)] ^= flip
    path.write_bytes(changed)
    try:
        report = verify(finished)
        try:
            same = pixel_hash(read_array(path)) == pixel_hash(array)
        except PhantomscopeError:
            same = False
        assert list(told(report)) == ([] if same else [name])
    finally:
        path.write_bytes(original)


# A manifest that was changed by somebody who knows how.


def test_a_pixel_changed_along_with_its_hash_is_found(results):
    name = "sketches/shard-000/images/sketch-000000.ome.tif"
    change_pixel(results / name)
    digest = pixel_hash(read_array(results / name))
    edit_manifest(results / "sketches/shard-000/manifest.csv", sha256=digest)
    assert list(told(verify(results))) == ["sketches/shard-000/manifest.csv"]


def test_sets_that_contradict_each_other_are_found(results):
    edit_manifest(results / "camera/manifest.csv", sha256="0" * 64)
    report = verify(results)
    assert {problem.what for problem in report.problems} == {
        "`gather` made this, and it was changed",
        "files with other pixels than in another set: 1",
    }


@pytest.mark.parametrize(
    "text", ["", "id,image\na,b\n", "id,image,mask,sha256\na,,,\n", "\0", "\udcff"]
)
def test_a_broken_manifest_is_a_problem_not_a_crash(results, text):
    name = "camera/manifest.csv"
    (results / name).write_bytes(text.encode(errors="surrogateescape"))
    report = verify(results)
    assert set(told(report)) == {name}
    assert not report.unaccounted

"""Results made from something else than is there, files that nobody knows, records."""

from __future__ import annotations

import shutil
import time

import pytest
from tests.verifying import (
    SHARDS,
    TOOL,
    Recorder,
    change_pixel,
    draw,
    edit_manifest,
    forge,
    remake,
    told,
)

from phantomscope.errors import PhantomscopeError
from phantomscope.provenance import SUFFIX
from phantomscope.verify import verify

# Chains.


def test_what_was_made_from_another_version_is_found(results):
    path = results / "sketch.yaml"
    path.write_text(path.read_text() + "\n")
    remake(results, "fit_sketch")
    report = verify(results)
    what = f"this was made from another version of {path}"
    assert told(report) == dict.fromkeys(
        [f"{name}/{shard}" for name in ("photographs", "sketches") for shard in SHARDS],
        what,
    )
    assert all("--forcerun" in problem.fix for problem in report.problems)
    run = Recorder(results)
    real = {"prepared": "prepared", "normalisation": "normalisation.json"}
    for shard in SHARDS:
        draw(run, shard, real)
    assert verify(results).ok  # the same sketches, so the same camera images


def test_a_set_made_from_an_older_set_is_found(results):
    folder = results / "photographs/shard-001"
    edit_manifest(folder / "manifest.csv", group="other")
    Recorder(results).note(
        "photograph", {"photographs": folder},
        {"sketches": results / "sketches/shard-001"},
    )  # fmt: skip
    what = f"this was made from another version of {folder}"
    assert told(verify(results)) == {"camera": what}


def test_tables_of_older_scores_are_found(results):
    scores = results / f"scores/{TOOL}"
    (scores / "images.csv").write_text("id,n_true\n")
    remake(results, "evaluate")
    what = f"this was made from another version of {scores}"
    assert told(verify(results)) == {"tables/csv": what}


def test_an_input_outside_counts_while_it_is_there(results, tmp_path):
    source = tmp_path / "data/source"
    source.mkdir(parents=True)
    (source / "a.png").write_bytes(b"pixels")
    remake(results, "acquire", inputs={"source": source})
    assert verify(results).ok
    (source / "a.png").write_bytes(b"others")
    assert told(verify(results)) == {
        "images": f"this was made from another version of {source}"
    }
    shutil.rmtree(source)
    assert verify(results).ok


def test_an_input_without_a_record_is_compared_and_told(results):
    (results / f"sketches/shard-000{SUFFIX}").unlink()
    report = verify(results)
    assert report.ok
    assert report.unrecorded == [results / "sketches/shard-000"]
    assert not report.unaccounted
    change_pixel(results / "sketches/shard-000/images/sketch-000000.ome.tif")
    (results / "sketches/shard-000/info.json").write_text("{}")
    assert set(told(verify(results))) == {
        "sketches/shard-000/images/sketch-000000.ome.tif", "photographs/shard-000",
    }  # fmt: skip
    shutil.rmtree(results / "sketches/shard-000")
    assert told(verify(results)) == {
        "photographs/shard-000":
        f"this was made from {results / 'sketches/shard-000'}, which is gone"
    }  # fmt: skip


def test_of_two_records_of_a_file_the_later_counts(results):
    """Figures drawn again in another order: the old record is named otherwise."""
    run, root = Recorder(results), results
    for name in ("a.png", "b.png"):
        (root / name).write_text("old")
    run.note("draw_figures", {"figures": [root / "a.png", root / "b.png"]}, {})
    time.sleep(0.01)
    for name in ("a.png", "b.png"):
        (root / name).write_text("new")
    run.note("draw_figures", {"figures": [root / "b.png", root / "a.png"]}, {})
    assert verify(results).ok
    (root / "a.png").write_text("old")
    assert list(told(verify(results))) == ["a.png"]


# Files that nobody knows.


def test_files_that_nobody_names_are_told_but_no_problem(results):
    extra = ["sketches/shard-000/images/mine.ome.tif", "notes.txt", ".DS_Store"]
    for name in extra:
        (results / name).touch()
    report = verify(results)
    assert report.ok
    assert set(report.unaccounted) == {results / name for name in extra}
    for name in extra:
        assert f"warning: {results / name}: no record" in report.render()


@pytest.mark.parametrize("folder", [f"scores/{TOOL}", f"models/{TOOL}", "camera"])
def test_a_file_that_a_later_stage_may_read_is_a_problem(results, folder):
    name = f"{folder}/absent.txt"
    (results / name).touch()
    report = verify(results)
    assert "was not there" in told(report)[name]
    assert report.problems[0].fix == "move it away"


def test_what_was_stopped_is_told(results):
    (results / "sketches/.shard-002.partial/images").mkdir(parents=True)
    (results / "sketches/.shard-002.partial/images/x.ome.tif").touch()
    (results / ".sketch.yaml.0123abcd.partial").touch()
    report = verify(results)
    assert report.ok
    assert not report.unaccounted
    assert set(report.partial) == {
        results / "sketches/.shard-002.partial",
        results / ".sketch.yaml.0123abcd.partial",
    }


# Records.


def test_an_edited_record_is_found_and_its_outputs_not_blamed(results):
    name = f"sketches/shard-000{SUFFIX}"
    text = (results / name).read_text()
    (results / name).write_text(text.replace('"seed": 0', '"seed": 1'))
    report = verify(results)
    assert "changed after it was written" in told(report)[name]
    assert len(report.problems) == 1
    assert not report.unaccounted


def test_a_record_of_the_future_is_found(results):
    name = f"camera{SUFFIX}"
    forge(results / name, lambda content: content.update(format=2))
    assert "has the format 2" in told(verify(results))[name]


@pytest.mark.parametrize("target", ["../../../secret", "..", "a/../../x", "."])
def test_an_output_outside_is_refused(results, tmp_path, target):
    (tmp_path / "secret").write_text("secret")
    name = f"config.yaml{SUFFIX}"

    def change(content):
        content["outputs"]["resolved"][0]["path"] = target

    forge(results / name, change)
    report = verify(results)
    assert f"claims {target}, outside" in told(report)[name]
    assert report.unaccounted == [results / "config.yaml"]


def test_every_problem_is_told_not_only_the_first(results):
    change_pixel(results / "images/images/nuclei.ome.tif")
    (results / "fit.json").unlink()
    (results / "normalisation.json").write_text("{}")
    (results / f"camera{SUFFIX}").write_text("{")
    (results / f"tables/csv{SUFFIX}").write_bytes(b"\xff")
    assert set(told(verify(results))) == {
        "images/images/nuclei.ome.tif", "fit.json", "normalisation.json",
        f"camera{SUFFIX}", f"tables/csv{SUFFIX}",
    }  # fmt: skip


def test_a_folder_without_records_is_an_error(results, tmp_path):
    for path in results.rglob(f"*{SUFFIX}"):
        path.unlink()
    with pytest.raises(PhantomscopeError, match="no provenance record") as caught:
        verify(results)
    assert caught.value.where == str(results)
    assert "results/demo" in caught.value.fix
    for name in ("absent", "results/demo/config.yaml"):
        with pytest.raises(PhantomscopeError, match="no such folder"):
            verify(tmp_path / name)

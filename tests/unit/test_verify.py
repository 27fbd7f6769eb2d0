"""Every change of a finished run is found and named; an untouched run is fine."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from benchmarks.laboratory import ENVIRONMENT, Laboratory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phantomscope.cli import main
from phantomscope.config.load import sections
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import pixel_hash, read_array, write_json
from phantomscope.provenance import SUFFIX, fingerprint, record
from phantomscope.stages import analysis, checking, data
from phantomscope.verify import verify

SHARDS = ("shard-000", "shard-001")
TOOL = "otsu_watershed/annotated/seed0"


class Recorder:
    """Runs stages below a folder and writes their records."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = Laboratory(root).config

    def note(self, stage, outputs, inputs, **arguments):
        content = sections(self.config, "seed")
        record(
            stage, content, inputs=inputs, outputs=outputs, arguments=arguments,
            started=time.time(), seconds=0.1,
        )  # fmt: skip

    def run(self, stage, outputs, inputs=None, **arguments):
        groups = [
            {
                key: [self.root / name for name in value]
                if isinstance(value, list) else self.root / value
                for key, value in (group or {}).items()
            }
            for group in (outputs, inputs)
        ]  # fmt: skip
        stage(self.config, **groups[0], **groups[1], **arguments)
        self.note(stage.__name__, *groups, **arguments)


def draw(run: Recorder, shard: str, real: dict[str, str]) -> None:
    sketches = f"sketches/{shard}"
    run.run(
        data.simulate, {"sketches": sketches}, {"sketch": "sketch.yaml"},
        shard=int(shard[-3:]),
    )  # fmt: skip
    run.run(
        data.photograph, {"photographs": f"photographs/{shard}"},
        {"sketch": "sketch.yaml", **real, "sketches": sketches},
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run by real stages, with what Snakemake and training leave beside."""
    root = tmp_path_factory.mktemp("run") / "results" / "demo"
    lab = Laboratory(root)
    lab.prepare()
    run = Recorder(root)
    run.note("acquire", {"images": lab.images}, {})
    real = {"prepared": "prepared", "normalisation": "normalisation.json"}
    paths = {key: root / name for key, name in real.items()}
    run.note("prepare", paths, {"images": lab.images})
    fitted = {"sketch": lab.sketch, "fit": root / "fit.json"}
    fitted["objects"] = root / "fit_objects.csv"
    run.note("fit_sketch", fitted, paths)
    for shard in SHARDS:
        draw(run, shard, real)
    parts = [f"photographs/{shard}" for shard in SHARDS]
    run.run(checking.gather, {"gathered": "camera"}, {"parts": parts})
    model, predictions, scores = (
        f"{name}/{TOOL}" for name in ("models", "predictions", "scores")
    )
    run.run(
        analysis.train_segmenter, {"folder": model}, {"training": "prepared"},
        tool="otsu_watershed", arm="annotated", seed=0,
    )  # fmt: skip
    found = {"predictions": predictions}
    run.run(
        analysis.predict, found, {"prepared": "prepared", "folder": model},
        tool="otsu_watershed",
    )  # fmt: skip
    run.run(analysis.evaluate, {"scores": scores}, {"prepared": "prepared", **found})
    run.run(analysis.write_config, {"resolved": "config.yaml"})
    names = {"csv": "csv", "md": "md", "per_image": "per_image.csv"}
    tables = {key: f"tables/{name}" for key, name in names.items()}
    run.run(analysis.tabulate, tables, {"root": "."})
    for name in ("logs/a.log", "benchmarks/a.tsv", "model.pt.state/state.pt"):
        (root / name).parent.mkdir()
        (root / name).touch()
    (root / "camera/.snakemake_timestamp").touch()
    (root / ".camera.lock").touch()
    return root


@pytest.fixture
def results(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "results/demo")
    return tmp_path / "results/demo"


def told(report):
    """Where something is wrong, relative to the results, and the first of what."""
    return {
        os.path.relpath(problem.where, report.results): problem.what
        for problem in reversed(report.problems)
    }


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def change_pixel(path):
    array = read_array(path)
    array[3, 5] += 1
    tifffile.imwrite(path, array, compression="zlib")


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


def edit_manifest(path, **changes):
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0].update(changes)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


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


# Chains.


def remake(results, stage, **changes):
    """Write a record anew, as if the stage had run again on what is there."""
    (path,) = (
        path for path in results.rglob(f"*{SUFFIX}")
        if json.loads(path.read_text())["stage"] == stage
    )  # fmt: skip
    old = json.loads(path.read_text())
    inputs, outputs = (
        {key: [path.parent / item["path"] for item in items]
         for key, items in old[side].items()}
        for side in ("inputs", "outputs")
    )  # fmt: skip
    values = {"inputs": inputs, "outputs": outputs, **changes}
    record(stage, {}, **values, arguments={}, started=time.time(), seconds=0.0)
    return path


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


def forge(path, change):
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    write_json(path, {**content, "sha256": fingerprint(content)})


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


# The command.


def test_the_command_says_all_is_well(finished, capsys):
    assert main(["verify", str(finished)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].split() == ["stage", "records", "files", "images"]
    assert lines[1].split() == ["acquire", "1", "2", "1", "ok"]
    assert lines[-1] == f"{finished}: all as recorded"
    assert main(["verify", str(finished), "--quick"]) == 0
    assert "pixels were not compared" in capsys.readouterr().out


def test_the_command_names_each_problem_and_fails(results, capsys):
    change_pixel(results / "images/images/nuclei.ome.tif")
    (results / "config.yaml").unlink()
    assert main(["verify", str(results)]) == 1
    shown = capsys.readouterr()
    for name in ("images/images/nuclei.ome.tif", "config.yaml"):
        assert f"  where: {results / name}\n  mend:  " in shown.out
    assert f"{results}: problems: 2" in shown.out
    assert "Traceback" not in shown.out + shown.err
    assert "mend each of the problems above" in shown.err


def test_many_problems_are_counted_not_listed(results, capsys):
    shutil.rmtree(results / "sketches/shard-000/images")
    for number in range(150):
        (results / f"extra-{number}").touch()
    main(["verify", str(results)])
    shown = capsys.readouterr().out
    assert shown.count("no record and no manifest") == 100
    assert "... and 50 more of these" in shown
    assert shown.count("manifest.csv names it") == 3


def test_the_command_explains_itself_and_needs_no_torch(finished):
    code = (
        "import sys; from phantomscope.cli import main; status = main(sys.argv[1:]); "
        "print(*({'torch', 'pandas'} & set(sys.modules)), sep=','); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "verify"]
    for argument in (str(finished), "--help"):
        process = subprocess.run(
            [*command, argument], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr
        if argument == "--help":
            assert "--quick" in process.stdout
        else:
            assert process.stdout.splitlines()[-1] == ""


def test_labels_are_compared_as_strictly_as_images(results):
    """The same numbers as another type are other labels."""
    path = results / "sketches/shard-000/labels/sketch-000000.ome.tif"
    tifffile.imwrite(path, read_array(path).astype(np.uint32))
    assert list(told(verify(results))) == [str(path.relative_to(results))]

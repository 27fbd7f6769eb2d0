"""What a provenance record says, and which records are refused."""

import hashlib
import json
import shutil
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phantomscope import __version__, provenance
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_array, write_json
from phantomscope.images.writer import ImageSetWriter
from phantomscope.provenance import (
    SUFFIX,
    fingerprint,
    load,
    measure,
    record,
    source_commit,
)
from phantomscope.readings import FIGURES_READ, ROOT_READ
from phantomscope.stages.arguments import arguments
from phantomscope.stages.registry import STAGES
from phantomscope.tables.figures import FIGURES

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ANY_FOLDER = settings(
    max_examples=60, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_set(folder, **info):
    image = np.random.default_rng(0).integers(0, 900, (20, 30)).astype(np.uint16)
    with ImageSetWriter(folder, info) as writer:
        writer.add("a", image, (image > 500).astype(np.uint16))
    return folder


def write_record(folder, **changes):
    """A stage that made a file and a set from a file."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    (folder / "in.csv").write_text("1\n")
    (folder / "out/model.pt").write_bytes(b"model")
    write_set(folder / "out/images")
    values = {
        "stage": "simulate",
        "sections": {"seed": 3, "simulate": {"size": (8, 9), "limit": None}},
        "inputs": {"table": folder / "in.csv"},
        "outputs": {"model": folder / "out/model.pt", "sets": [folder / "out/images"]},
        "arguments": {"shard": 4, "tool": None},
        "started": 1_600_000_000.25,
        "seconds": 2.5,
    }
    values |= changes
    return record(values.pop("stage"), values.pop("sections"), **values)


def test_a_record_says_what_from_what_and_how(tmp_path):
    path = write_record(tmp_path)
    assert path == tmp_path / "out" / f"model.pt{SUFFIX}"
    found = json.loads(path.read_bytes())
    assert found["format"] == 1
    assert found["stage"] == "simulate"
    assert found["seed"] == 3
    assert found["arguments"] == {"shard": 4, "tool": None}
    assert found["started"] == "2020-09-13T12:26:40.250+00:00"
    assert found["seconds"] == 2.5
    assert found["inputs"] == {
        "table": [{"path": "../in.csv", "kind": "file", "digest": sha256(b"1\n")}]
    }
    assert found["outputs"]["model"] == [
        {"path": "model.pt", "kind": "file", "digest": sha256(b"model")}
    ]
    (images,) = found["outputs"]["sets"]
    assert (images["path"], images["kind"]) == ("images", "images")
    assert set(images["files"]) == {"manifest.csv", "info.json"}
    sections = {"seed": 3, "simulate": {"size": [8, 9], "limit": None}}
    text = json.dumps(sections, sort_keys=True, separators=(",", ":"))
    assert found["config"] == {
        "sections": sections,
        "fingerprint": sha256(text.encode()),
    }
    versions = found["versions"]
    assert versions["phantomscope"] == __version__
    assert versions["python"] == sys.version.split()[0]
    assert versions["numpy"] == np.__version__
    assert versions["tifffile"] == tifffile.__version__
    assert "cellpose" not in versions
    assert set(found["machine"]) >= {"system", "processor", "cores"}


def test_a_record_is_read_as_it_was_written(tmp_path):
    found = load(write_record(tmp_path))
    assert found.arguments["shard"] == 4
    assert found.outputs["model"][0].files is None
    assert found.config.sections["simulate"]["limit"] is None


def test_tools_are_named_where_they_are_used(tmp_path):
    found = load(write_record(tmp_path, stage="train_segmenter"))
    assert {"cellpose", "stardist", "csbdeep"} <= set(found.versions)


def test_a_seed_among_the_arguments_counts(tmp_path):
    assert load(write_record(tmp_path, arguments={"seed": 8})).seed == 8
    assert load(write_record(tmp_path, sections={}, arguments={})).seed is None


def test_from_any_folder_the_record_is_the_same(tmp_path, monkeypatch):
    write_record(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a/out")
    path = write_record(
        Path(".."),
        inputs={"table": [Path("../out/../in.csv")]},
        outputs={"model": Path("model.pt"), "sets": Path("../out/images/")},
    )
    assert path.read_bytes() == write_record(tmp_path / "b").read_bytes()


def test_a_gpu_in_use_is_named(tmp_path, monkeypatch):
    used = True
    cuda = SimpleNamespace(
        is_initialized=lambda: used, get_device_name=lambda: "NVIDIA H200"
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert load(write_record(tmp_path)).machine["gpu"] == "NVIDIA H200"
    used = False
    assert "gpu" not in load(write_record(tmp_path)).machine


def test_a_missing_output_is_an_error_and_leaves_no_record(tmp_path):
    with pytest.raises(PhantomscopeError, match="no such file") as caught:
        write_record(tmp_path, outputs={"model": tmp_path / "other.pt"})
    assert "other.pt" in caught.value.where
    assert not list(tmp_path.rglob(f"*{SUFFIX}"))
    with pytest.raises(ValueError, match="no output"):
        write_record(tmp_path, outputs={})


def test_the_digest_of_a_set_covers_pixels_by_their_hashes(tmp_path):
    folder = write_set(tmp_path / "set", source="mine")
    digest, files = measure(folder)
    assert files == {
        name: sha256((folder / name).read_bytes())
        for name in ("info.json", "manifest.csv")
    }
    assert digest == fingerprint(files)
    image = folder / "images/a.ome.tif"
    tifffile.imwrite(image, read_array(image), compression=None)
    (folder / ".snakemake_timestamp").touch()
    (folder / f"x{SUFFIX}").touch()
    assert measure(folder)[0] == digest
    (folder / "info.json").write_text("{}")
    assert measure(folder)[0] != digest


FILES = st.dictionaries(
    st.sampled_from(["a", "b", "model", "deep/a", "deep/b", "deep/er/c"]),
    st.binary(max_size=3), max_size=5,
)  # fmt: skip


@ANY_FOLDER
@given(FILES, FILES)
def test_folders_have_the_same_digest_only_if_they_are_the_same(tmp_path, one, two):
    found = []
    for name, files in (("one", one), ("two", two)):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        (tmp_path / name).mkdir()
        for inside, content in files.items():
            (tmp_path / name / inside).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / inside).write_bytes(content)
        (tmp_path / name / ".hidden").write_text(name)
        (tmp_path / name / ".a.1.partial").write_text(name)
        found.append(measure(tmp_path / name))
    assert (found[0] == found[1]) == (one == two)
    assert found[0][1] == {inside: sha256(content) for inside, content in one.items()}


def test_a_huge_file_is_never_in_memory(tmp_path):
    size = 100_000_000
    with (tmp_path / "model.pt").open("wb") as stream:
        stream.truncate(size)
    tracemalloc.start()
    digest = measure(tmp_path / "model.pt")[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 50
    assert digest == sha256(bytes(size))


def test_the_root_of_an_experiment_stands_for_what_is_read_there(tmp_path):
    write_set(tmp_path / "prepared")
    for tool in ("cellpose", "stardist"):
        scores = tmp_path / "scores" / tool / "synthetic/seed0"
        scores.mkdir(parents=True)
        (scores / "images.csv").write_text("id\n")
        (scores.parent / f"seed0{SUFFIX}").touch()
        (scores.parent / ".seed1.partial").mkdir()
    (tmp_path / "realism.json").write_text("{}")
    (tmp_path / "out.png").touch()
    read = {}
    for stage, output in (
        ("tabulate", "out.png"), ("draw_figures", "realism.png"), ("report", "out.png"),
    ):  # fmt: skip
        (tmp_path / output).touch()
        path = record(
            stage, {}, inputs={"root": tmp_path}, outputs={"x": tmp_path / output},
            arguments={}, started=0, seconds=0.0,
        )  # fmt: skip
        read[stage] = [artefact.path for artefact in load(path).inputs["root"]]
    scores = [f"scores/{tool}/synthetic/seed0" for tool in ("cellpose", "stardist")]
    assert read["tabulate"] == ["prepared", *scores]
    assert read["draw_figures"] == ["realism.json"]
    assert read["report"] == ["prepared", "realism.json", *scores]


def test_what_is_read_below_a_root_is_known_of_every_stage_and_figure():
    stages = {
        name for name, stage in STAGES.items()
        if "root" in {argument.name for argument in arguments(stage)}
    }  # fmt: skip
    assert stages == set(ROOT_READ)
    assert set(FIGURES) == set(FIGURES_READ)
    for name, (_, needs) in FIGURES.items():
        for need in needs:
            known = any(need.startswith(read) for read in FIGURES_READ[name])
            assert known or need.startswith("benchmarks/"), (name, need)


def test_the_commit_of_a_checkout(tmp_path):
    git = tmp_path / ".git"
    assert source_commit(tmp_path) is None
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{COMMIT}\n")
    assert source_commit(tmp_path) == COMMIT
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert source_commit(tmp_path) is None  # no commit yet
    (git / "packed-refs").write_text(
        f"# pack-refs with: peeled\n{'1' * 40} refs/heads/other\n"
        f"{COMMIT} refs/heads/main\n^{'2' * 40}\n"
    )
    assert source_commit(tmp_path) == COMMIT
    (git / "refs/heads/main").write_text(f"{'3' * 40}\n")
    assert source_commit(tmp_path) == "3" * 40
    tree = tmp_path / "worktree"
    (git / "worktrees/tree").mkdir(parents=True)
    (git / "worktrees/tree/HEAD").write_text("ref: refs/heads/main\n")
    (git / "worktrees/tree/commondir").write_text("../..\n")
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {git}/worktrees/tree\n")
    assert source_commit(tree) == "3" * 40
    (git / "HEAD").write_bytes(b"\xff\xfe")
    assert source_commit(tmp_path) is None


def test_installed_code_takes_no_commit_of_a_repository_around_it(
    tmp_path, monkeypatch
):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text(COMMIT)
    for folder, expected in (("vendor", None), ("src", COMMIT)):
        place = tmp_path / folder / "phantomscope/provenance.py"
        monkeypatch.setattr(provenance, "__file__", str(place))
        assert source_commit() == expected


@ANY_FOLDER
@given(st.data())
def test_any_changed_byte_of_a_record_is_noticed(tmp_path, data):
    path = tmp_path / "out" / f"model.pt{SUFFIX}"
    if not path.exists():
        write_record(tmp_path)
    before, original = load(path), path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(original)
    changed[place] ^= flip
    path.write_bytes(changed)
    try:
        # Space between the tokens of JSON has no meaning.
        assert load(path) == before
        assert bytes(changed).split() == original.split()
    except PhantomscopeError as error:
        assert error.where == str(path)  # noqa: PT017
        assert error.fix  # noqa: PT017
    finally:
        path.write_bytes(original)


def sealed(content):
    """Seal a record again, as somebody who knows how would."""
    content = {key: value for key, value in content.items() if key != "sha256"}
    return {**content, "sha256": fingerprint(content)}


def forged(path, change):
    content = json.loads(path.read_bytes())
    change(content)
    write_json(path, sealed(content))
    return path


def change_output(**changes):
    return lambda content: content["outputs"]["sets"][0].update(changes)


BROKEN = {
    "absolute path": change_output(path="/etc"),
    "path with a null": change_output(path="a\0b"),
    "no path": change_output(path=""),
    "unknown kind": change_output(kind="link"),
    "no digest": change_output(digest="0"),
    "digest of other files": change_output(digest="0" * 64),
    "files outside": change_output(
        files={"../x": "0" * 64}, digest=fingerprint({"../x": "0" * 64})
    ),
    "files not listed": lambda c: c["outputs"]["sets"][0].pop("files"),
    "no outputs": lambda c: c.update(outputs={}),
    "outputs no mapping": lambda c: c.update(outputs=[]),
    "other sections": lambda c: c["config"]["sections"].update(seed=4),
    "unknown key": lambda c: c.update(note="mine"),
    "lost key": lambda c: c.pop("stage"),
    "text for a number": lambda c: c.update(seconds="2.5"),
    "format 0": lambda c: c.update(format=0),
    "format as text": lambda c: c.update(format="1"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_record_that_cannot_be_is_refused(tmp_path, change):
    path = forged(write_record(tmp_path), change)
    with pytest.raises(PhantomscopeError, match="provenance record") as caught:
        load(path)
    assert caught.value.where == str(path)
    assert "make model.pt again" in caught.value.fix


def test_an_edit_is_noticed(tmp_path):
    path = write_record(tmp_path)
    path.write_text(path.read_text().replace('"seconds": 2.5', '"seconds": 1.5'))
    with pytest.raises(PhantomscopeError, match="changed after it was written"):
        load(path)


def test_a_record_of_the_future_is_not_guessed(tmp_path):
    path = forged(write_record(tmp_path), lambda c: c.update(format=2, shape="new"))
    with pytest.raises(PhantomscopeError, match="format 2") as caught:
        load(path)
    assert "phantomscope that wrote it" in caught.value.fix


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\x00", b"[" * 100_000]
)
def test_what_is_no_record_is_refused(tmp_path, data):
    path = tmp_path / f"x{SUFFIX}"
    path.write_bytes(data)
    with pytest.raises(PhantomscopeError):
        load(path)
    with pytest.raises(PhantomscopeError, match="no such file"):
        load(tmp_path / "absent")

"""The config: generated files, round trip, and what a user reads about a mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from phantomscope.config import docs
from phantomscope.config.load import load_config, make_config, sections
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError

ROOT = Path(__file__).parents[2]


def _keywords(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, entry in schema["properties"].items():
        yield prefix + name, entry
        if "properties" in entry:
            yield from _keywords(entry, f"{prefix}{name}.")


SCHEMA = docs.json_schema()
OPTIONS = {k: e for k, e in _keywords(SCHEMA) if "properties" not in e}


def _write(folder: Path, content: str | bytes) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Generated files


def test_committed_files_are_the_generated_ones() -> None:
    problems = docs.check_generated(ROOT)
    assert not problems, "\n".join(problems)


def test_check_says_what_differs_and_how_to_mend_it(tmp_path: Path) -> None:
    missing = docs.check_generated(tmp_path)
    assert len(missing) == 3
    assert all("is missing" in problem for problem in missing)
    written = docs.write_generated(tmp_path)
    assert set(written) == set(docs.generated_files(tmp_path))
    assert docs.check_generated(tmp_path) == []
    path = tmp_path / "config/default.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    (problem,) = docs.check_generated(tmp_path)
    assert problem.startswith("config/default.yaml is out of date")
    assert "python -m phantomscope config --write" in problem
    assert "\n-seed: 1\n+seed: 0\n" in problem
    path.write_bytes(b"\xff\xfe")
    assert len(docs.check_generated(tmp_path)) == 1


def test_generated_files_cannot_be_written_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    with pytest.raises(PhantomscopeError, match="mend:"):
        docs.write_generated(tmp_path)


def test_default_yaml_reads_back_as_the_demo(tmp_path: Path) -> None:
    text = docs.default_yaml()
    first = text.splitlines()[0]
    schema = "../workflow/schemas/config.schema.json"
    assert first == f"# yaml-language-server: $schema={schema}"
    assert load_config(_write(tmp_path, text)) == Config()
    assert yaml.safe_load(text) == Config().model_dump(mode="json")
    assert max(map(len, text.splitlines())) <= docs.WIDTH


def test_every_option_is_on_a_line_with_a_comment_above() -> None:
    lines = docs.default_yaml().splitlines()
    # Items of long lists have lines of their own.
    no_key = ("#", "- ")
    keys = [
        n for n, line in enumerate(lines)
        if line and not line.lstrip().startswith(no_key)
    ]  # fmt: skip
    assert len(keys) == len(list(_keywords(SCHEMA)))
    assert all(lines[n - 1].lstrip().startswith("# ") for n in keys)


def test_schema_is_valid_and_documents_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("draft/2020-12/schema")
    for key, entry in _keywords(SCHEMA):
        assert entry["description"].endswith("."), key
        assert "default" in entry, key
    sections = [SCHEMA, *(e for _, e in _keywords(SCHEMA) if "properties" in e)]
    assert len(sections) == 53
    assert all(section["additionalProperties"] is False for section in sections)
    json.dumps(SCHEMA, allow_nan=False)


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({}, True),
        ({"train": {"steps": 5}}, True),
        ({"start": {"value": 300}}, True),
        ({"train": {"step": 5}}, False),
        ({"simulate": {"size": [64]}}, False),
        ({"split": {"train_fraction": 1.0}}, False),
        ({"source": {"kind": "web"}}, False),
    ],
)
def test_schema_and_models_agree(options: dict[str, Any], valid: bool) -> None:
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(options) is valid
    if valid:
        make_config(options)
    else:
        with pytest.raises(PhantomscopeError):
            make_config(options)


def test_reference_has_one_row_per_option() -> None:
    page = docs.reference_markdown()
    for key in OPTIONS:
        section, _, name = key.rpartition(".")
        heading = f"## `{section}`" if section else "## Top level"
        table = page.split(heading + "\n")[1].split("\n## ")[0]
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}`")]
        assert row.replace("\\|", "").count("|") == 8
    row = next(r for r in page.splitlines() if r.startswith("| `size`"))
    kinds = "[integer, integer] or [integer, integer, integer]"
    assert f"| {kinds} | px | `[192, 192]` | each ≥ 16, ≤ 65536" in row


# What can be read


def test_changed_options_survive_a_round_trip(tmp_path: Path) -> None:
    config = make_config(
        {
            "experiment": "mine-1.b",
            "source": {"kind": "folder", "path": "a b/c: d", "group": r"p(\d+)_"},
            "start": {"value": 250},
            "simulate": {"size": [64, 80], "images": 4, "shards": 4},
            "segment": {"tools": ["stardist"], "cellpose": {"steps": 7}},
        }
    )
    path = _write(tmp_path, yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(path) == config
    assert config.simulate.size == (64, 80)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "train:\nsource:\n", "{}"])
def test_an_empty_config_is_the_demo(tmp_path: Path, text: str) -> None:
    config = load_config(_write(tmp_path, text))
    assert config == Config()
    assert config.name == "demo"


def test_a_byte_order_mark_and_merged_keys_are_read(tmp_path: Path) -> None:
    text = "\ufefftrain: &t {steps: 3}\nsegment: {stardist: {<<: *t, rays: 16}}\n"
    config = load_config(_write(tmp_path, text))
    assert (config.train.steps, config.segment.stardist.steps) == (3, 3)


def test_scientific_notation_that_yaml_takes_as_text(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, "train: {learning_rate: 1e-3}"))
    assert config.train.learning_rate == 0.001


def test_options_given_are_left_alone() -> None:
    options: dict[str, Any] = {"train": None, "segment": {"cellpose": None}}
    make_config(options)
    assert options == {"train": None, "segment": {"cellpose": None}}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({}, "demo"),
        ({"kind": "folder", "path": "data/My plate 7"}, "My_plate_7"),
        ({"kind": "folder", "path": "/"}, "experiment"),
        ({"kind": "dataset", "dataset": "bbbc038"}, "bbbc038"),
    ],
)
def test_name_of_the_experiment(source: dict[str, Any], name: str) -> None:
    assert make_config({"source": source}).name == name
    assert make_config({"source": source, "experiment": "x"}).name == "x"


def test_without_labels_there_is_no_annotated_arm() -> None:
    folder = {"kind": "folder", "path": "data"}
    without = make_config({"source": folder})
    assert (without.has_labels, without.arms) == (False, ["synthetic", "sketch"])
    labelled = make_config({"source": folder | {"labels": "masks"}})
    assert labelled.has_labels
    assert "annotated" in labelled.arms
    assert "annotated" in Config().arms


def test_a_config_cannot_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(Config().train, "steps", 3)  # noqa: B010


def test_sections_leave_out_what_does_not_shape_the_result() -> None:
    runtime = {"micro_batch": 2, "checkpoint_every": 7, "devices": 2}
    config = make_config({"train": runtime})
    chosen = sections(config, "train", "segment.stardist", "segment.seeds")
    assert set(chosen) == {"train", "segment"}
    assert set(chosen["segment"]) == {"stardist", "seeds"}
    assert chosen["train"]["steps"] == config.train.steps
    assert not set(runtime) & set(chosen["train"])

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
from phantomscope.config.load import load_config, make_config, read_yaml, sections
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


def _message(folder: Path, content: str | bytes) -> str:
    """Return what a user reads about a config file; it names the file."""
    path = _write(folder, content)
    with pytest.raises(PhantomscopeError) as caught:
        load_config(path)
    assert caught.value.where == str(path)
    assert caught.value.fix
    return str(caught.value)


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
    keys = [n for n, line in enumerate(lines) if line and line.lstrip()[0] != "#"]
    assert len(keys) == len(list(_keywords(SCHEMA)))
    assert all(lines[n - 1].lstrip().startswith("# ") for n in keys)


def test_schema_is_valid_and_documents_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("draft/2020-12/schema")
    for key, entry in _keywords(SCHEMA):
        assert entry["description"].endswith("."), key
        assert "default" in entry, key
    sections = [SCHEMA, *(e for _, e in _keywords(SCHEMA) if "properties" in e)]
    assert len(sections) == 26
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


# Files that cannot be read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: {steps: 3", "this is no YAML"),
        ("train:\n\tsteps: 3\n", "spaces, no tabs"),
        ("a: b: c", "this is no YAML"),
        ("- train\n- split\n", "expected options (key: value), found a list"),
        ("just words", "expected options (key: value), found a str"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "this is not a text file"),
        ("seed: 1\n".encode("utf-16"), "this is not a text file"),
        (b"seed: \x00", "this is no YAML"),
        ("experiment: 2026-02-30", "this is no YAML"),
        ("seed: !!python/object:os.system x", "this is no YAML"),
        ("---\nseed: 1\n---\nseed: 2\n", "this is no YAML"),
        ("[" * 1200, "this is no YAML"),
        ("train: {}\nseed: 1\ntrain: {}\n", "the key 'train' stands here twice"),
        ("train:\n  steps: 1\n  steps: 2\n", "the key 'steps' stands here twice"),
    ],
)
def test_file_that_is_no_config(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    assert message in _message(tmp_path, content)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(PhantomscopeError, match="no such file") as caught:
        load_config(tmp_path / "absent.yaml")
    assert caught.value.where.endswith("absent.yaml")
    with pytest.raises(PhantomscopeError, match="a folder, not a file"):
        read_yaml(tmp_path)


# Unknown options


@pytest.mark.parametrize(
    ("text", "unknown", "fix"),
    [
        ("sede: 1", "sede", "did you mean `seed`?"),
        ("Train: {}", "Train", "did you mean `train`?"),
        ("train: {stepz: 1}", "train.stepz", "did you mean `train.steps`?"),
        (
            "train: {learning-rate: 1}",
            "train.learning-rate",
            "did you mean `train.learning_rate`?",
        ),
        (
            "segment: {stardist: {ray: 8}}",
            "segment.stardist.ray",
            "did you mean `segment.stardist.rays`?",
        ),
        ("train: {fusion: x}", "train.fusion", "did you mean `synthesise.fusion`?"),
        ("train: {seed: 1}", "train.seed", "did you mean `seed`?"),
        ("cellpose: {}", "cellpose", "did you mean `segment.cellpose`?"),
        ("rays: 32", "rays", "did you mean `segment.stardist.rays` or `segment."),
        ("steps: 3", "steps", "`distil.steps` or `synthesise.steps` or `segment."),
        ("split: {qqqq: 1}", "split.qqqq", "known here: by, train_fraction, margin"),
        ("qqqq: 1", "qqqq", "known here: experiment, scale, seed, source"),
    ],
)
def test_unknown_option(tmp_path: Path, text: str, unknown: str, fix: str) -> None:
    message = _message(tmp_path, text)
    assert f"unknown option `{unknown}`" in message
    assert fix in message


# Bad values


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        # types
        ("train: {steps: many}", "train.steps", "valid integer"),
        ("train: {steps: 2.5}", "train.steps", "valid integer"),
        ("train: {steps: }", "train.steps", "(given: None)"),
        ("train: {augment: maybe}", "train.augment", "valid boolean"),
        ("train: {learning_rate: [1]}", "train.learning_rate", "(given: [1])"),
        ("experiment: 2026-01-15", "experiment", "valid string"),
        ("source: {kind: web}", "source.kind", "'dataset' or 'localisations'"),
        ("segment: {tools: cellpose}", "segment.tools", "valid list"),
        ("segment: {tools: [unet]}", "segment.tools.0", "'cellpose' or 'stardist'"),
        ("simulate: {size: [64]}", "simulate.size.1", "required"),
        ("start: {value: soon}", "start.value", "'auto', or: Input should be a valid"),
        ("1: 2", "1", "Keys should be strings"),
        ("train: {1: 2}", "train.1", "Keys should be strings"),
        # true and false are no numbers
        ("seed: yes", "seed", "true or false"),
        ("train: {clip: true}", "train.clip", "true or false"),
        ("start: {value: on}", "start.value", "true or false"),
        ("segment: {seeds: [0, yes]}", "segment.seeds", "true or false"),
        ("segment: {cellpose: {steps: no}}", "segment.cellpose.steps", "true or false"),
        # bounds
        ("seed: -1", "seed", "greater than or equal to 0 (given: -1)"),
        ("seed: 9223372036854775808", "seed", "less than 9223372036854775808"),
        ("split: {train_fraction: 1}", "split.train_fraction", "less than 1"),
        ("train: {learning_rate: .nan}", "train.learning_rate", "(given: nan)"),
        ("train: {patch: 60}", "train.patch", "multiple of 8"),
        ("segment: {tools: []}", "segment.tools", "at least 1 item"),
        ("simulate: {size: [8, 64]}", "simulate.size.0", "equal to 16"),
        ("start: {value: 0}", "start.value", "greater than or equal to 1"),
        ("start: {candidates: [5, 0]}", "start.candidates.1", "equal to 1 (given: 0)"),
        ("evaluate: {confidence: 1}", "evaluate.confidence", "less than 1"),
        # source
        ("source: {kind: folder}", "source", "`kind: folder` needs `path`"),
        ("source: {path: data}", "source", "belongs to `kind: folder`"),
        ("source: {labels: masks}", "source", "belongs to `kind: folder`"),
        ("source: {axes: CYX}", "source", "`channel` go together"),
        ("source: {channel: 0}", "source", "`channel` go together"),
        ("source: {axes: TYX}", "source.axes", "'TYX' are not supported"),
        ("source: {axes: YXX}", "source.axes", "each letter once"),
        ("source: {group: '(a'}", "source.group", "not a regular expression"),
        ("source: {group: 'a'}", "source.group", "exactly one group in parentheses"),
        ("source: {group: '(a)(b)'}", "source.group", "has 2"),
        # combinations
        ("synthesise: {tile: 32}", "synthesise", "more than twice `overlap` (16)"),
        ("train: {micro_batch: 3}", "train", "(3) must divide `batch_size` (8)"),
        ("train: {devices: 9}", "train", "`devices` (9) must not exceed"),
        ("simulate: {images: 2, shards: 3}", "simulate", "`shards` (3) must not"),
        ("simulate: {nucleoli: [3, 1]}", "simulate", "needs [fewest, most]"),
        ("simulate: {nucleoli: [-1, 1]}", "simulate", "needs [fewest, most]"),
        ("simulate: {nucleolus_contrast: [0.9, 0.5]}", "simulate", "needs [low, high]"),
        ("fit: {min_diameter: 9, max_diameter: 5}", "fit", "below `max_diameter`"),
        ("evaluate: {thresholds: [0.7]}", "evaluate", "must contain 0.5"),
        ("evaluate: {thresholds: [0.5, 1]}", "evaluate", "between 0 and 1"),
        ("segment: {tools: [stardist, stardist]}", "segment", "something twice"),
        ("segment: {seeds: [1, 1]}", "segment", "something twice: [1, 1]"),
        ("segment: {arms: [sketch, sketch]}", "segment", "something twice"),
        ("start: {value: 1001}", "(whole config)", "beyond `process.timesteps` (1000)"),
        ("process: {timesteps: 50}", "(whole config)", "no value of `start.candidates"),
        ("experiment: a/../b", "(whole config)", "becomes a folder name"),
        ("experiment: my plate", "(whole config)", "becomes a folder name"),
        (
            "source: {kind: folder, path: d}\nsegment: {arms: [annotated]}",
            "(whole config)",
            "needs `source.labels`",
        ),
    ],
)
def test_bad_value(tmp_path: Path, text: str, key: str, says: str) -> None:
    message = _message(tmp_path, text)
    assert message.startswith(f"error: bad value of `{key}`: ")
    assert says in message
    assert "Value error" not in message


@pytest.mark.parametrize("content", ["5", "[1, 2]", "steps"])
def test_section_that_is_none(tmp_path: Path, content: str) -> None:
    message = _message(tmp_path, f"train: {content}")
    assert "`train` is a section: it holds options, not" in message


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = "sede: 1\ntrain: {steps: 0, clip: yes}\nstart: {value: 0}\n"
    message = _message(tmp_path, text)
    assert message.startswith("error: 4 options are wrong:\n")
    for key in ("`sede`", "`train.steps`", "`train.clip`", "`start.value`"):
        assert message.count(key) == 1
    assert "did you mean `seed`?" in message


def test_a_long_value_is_cut() -> None:
    with pytest.raises(PhantomscopeError) as caught:
        make_config({"train": {"steps": "x" * 5000}})
    assert len(str(caught.value)) < 400
    with pytest.raises(PhantomscopeError) as caught:
        make_config({"train": ["x" * 5000]})
    assert len(str(caught.value)) < 400


def test_options_from_elsewhere_name_where_they_are_from() -> None:
    with pytest.raises(PhantomscopeError) as caught:
        make_config({"seed": -1}, "model.json")
    assert caught.value.where == "model.json"

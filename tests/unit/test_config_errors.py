"""What a config cannot be, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from phantomscope.config.load import load_config, make_config, read_yaml
from phantomscope.errors import PhantomscopeError


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


VIDEOS = "kind: videos, path: v"
TABLE = "kind: annotated, path: a, table: t.csv"

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
        ("source: {kind: web}", "source.kind", "'videos' or 'annotated'"),
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
        ("segment: {seeds: []}", "segment.seeds", "at least 1 item"),
        ("simulate: {size: [8, 64]}", "simulate.size.0", "equal to 16"),
        ("start: {value: 0}", "start.value", "greater than or equal to 1"),
        ("start: {candidates: [5, 0]}", "start.candidates.1", "equal to 1 (given: 0)"),
        ("evaluate: {confidence: 1}", "evaluate.confidence", "less than 1"),
        # source
        ("source: {kind: folder}", "source", "`kind: folder` needs `path`"),
        ("source: {path: data}", "source", "belongs to `kind: folder`"),
        ("source: {labels: masks}", "source", "belongs to `kind: folder`"),
        ("source: {labels: masks}", "source", "or `videos`"),
        ("source: {kind: videos}", "source", "needs `path`, a video or a folder"),
        ("source: {kind: annotated, path: a}", "source", "needs `table`, a CSV"),
        ("source: {table: a.csv}", "source", "belongs to `kind: annotated`"),
        ("source: {videos: {step: 1}}", "source", "belongs to `kind: videos`"),
        ("source: {frames: {every: 2}}", "source", "`kind: dataset` or `videos`"),
        (f"source: {{{VIDEOS}, group: '(a)'}}", "source", "each video is a group"),
        (f"source: {{{VIDEOS}, axes: YX}}", "source", "are stacks (T, Y, X)"),
        (f"source: {{{VIDEOS}, labelled: true}}", "source", "a folder of label stacks"),
        (f"source: {{{VIDEOS}, frames: {{only: [3]}}}}", "source", "`first`, `last`"),
        (f"source: {{{VIDEOS}, frames: {{limit: 3}}}}", "source", "evenly spaced"),
        (f"source: {{{VIDEOS}, table: t}}", "source", "belongs to `kind: annotated`"),
        (
            f"source: {{{VIDEOS}, videos: {{part: all}}}}",
            "source.videos.part",
            "'mask'",
        ),
        (f"source: {{{TABLE}, axes: ZYX}}", "source", "are no volumes"),
        (f"source: {{{TABLE}, labelled: true}}", "source", "without a row"),
        (f"source: {{{TABLE}, labels: l}}", "source", "belongs to `kind: folder`"),
        (
            f"source: {{{TABLE}, axes: CYX, channel: [0, 1]}}",
            "source",
            "give one number",
        ),
        ("split: {by: published, test: [a]}", "split", "`test` names groups"),
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

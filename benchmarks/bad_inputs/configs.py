"""Bad configs and bad sketch parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.bad_inputs.building import config_file, write
from benchmarks.bad_inputs.model import CANARY, Case, Invocation
from benchmarks.laboratory import SMOKE, Laboratory


def config_case(name: str, content: str | bytes, *expect: str) -> Case:
    """Build a bad config; both the check and a stage would read it the same way."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        path, output = write(folder / "mine.yaml", content), folder / "out"
        argv = ["acquire", "--config", path, "--images", output]
        return Invocation(argv, (output,))

    return Case(name, "config", build, ("mine.yaml", *expect))


def _config_missing(folder: Path, lab: Laboratory) -> Invocation:
    argv = ["acquire", "--config", folder / "mine.yaml", "--images", folder / "out"]
    return Invocation(argv, (folder / "out",))


def _config_folder(folder: Path, lab: Laboratory) -> Invocation:
    (folder / "mine.yaml").mkdir()
    return Invocation(["config", "--check", folder / "mine.yaml"])


def _config_code(folder: Path, lab: Laboratory) -> Invocation:
    tag = "!!python/object/apply:pathlib.Path.touch"
    path = write(folder / "mine.yaml", f"seed: {tag} [{folder / CANARY}]\n")
    return Invocation(["config", "--check", path])


def _laughs(lists: bool) -> str:
    """Return nine levels of nine aliases each: 10^8 values in a few lines."""
    opened, closed = ("[", "]") if lists else ("{<<: [", "]}")
    lines = ["a0: &a0 [1]" if lists else "a0: &a0 {k: 1}"]
    for n in range(1, 10):
        lines.append(f"a{n}: &a{n} {opened}{','.join([f'*a{n - 1}'] * 9)}{closed}")
    return "\n".join([*lines, "seed: *a9\n"])


REFERENCE = "config/README.md"
ALIASES = "write options without aliases"
QUOTES = "put text into quotes"
CONFIGS = [
    config_case("unknown-key", "train: {step: 9}\n", "unknown option `train.step`",
                "did you mean `train.steps`"),
    config_case("unknown-section", "trian: {steps: 9}\n", "unknown option `trian`",
                "did you mean `train`"),
    config_case("key-in-wrong-section", "simulate: {window: edt}\n",
                "unknown option `simulate.window`", "did you mean",
                "`synthesise.window`"),
    config_case("wrong-type", "train: {steps: many}\n", "`train.steps`", "'many'",
                REFERENCE),
    config_case("yes-for-a-number", "train: {steps: yes}\n", "`train.steps`",
                "true or false", REFERENCE),
    config_case("out-of-bounds", "split: {train_fraction: 1.5}\n",
                "`split.train_fraction`", "less than 1", "1.5", REFERENCE),
    config_case("negative-seed", "seed: -1\n", "`seed`", "-1", REFERENCE),
    config_case("not-a-number", "train: {learning_rate: .nan}\n",
                "`train.learning_rate`", "nan", REFERENCE),
    config_case("no-such-choice", "synthesise: {sampler: euler}\n",
                "`synthesise.sampler`", "'ddim'", REFERENCE),
    config_case("section-is-a-value", "train: 5\n", "`train` is a section",
                "indented by two spaces"),
    config_case("several-options", "seed: -1\ntrain: {steps: 0}\n",
                "2 options are wrong", "`seed`", "`train.steps`", "mend each"),
    config_case("bad-axes", "source: {kind: folder, path: x, axes: TYX}\n",
                "`source.axes`", "use 'YX', 'CYX' or 'YXC'"),
    config_case("bad-regex", "source: {kind: folder, path: x, group: 'a(b'}\n",
                "`source.group`", "not a regular expression"),
    config_case("regex-too-large",
                "source: {kind: folder, path: x, group: '(a{99999999999})'}\n",
                "`source.group`", "not a regular expression"),
    config_case("regex-without-group", "source: {kind: folder, path: x, group: ab}\n",
                "`source.group`", "exactly one group"),
    config_case("bad-name", "experiment: ../up\n", "`experiment`",
                "use letters, digits"),
    config_case("folder-without-path", "source: {kind: folder}\n", "`source`",
                "needs `path`"),
    config_case("path-without-folder", "source: {path: x}\n", "`source`",
                "belongs to `kind: folder`"),
    config_case("axes-without-channel",
                "source: {kind: folder, path: x, axes: CYX}\n", "`source`",
                "say which channel"),
    config_case("shards-over-images", "simulate: {images: 2, shards: 3}\n",
                "`shards` (3) must not exceed `images` (2)", "`simulate`", REFERENCE),
    config_case("tile-too-small", "synthesise: {tile: 32, overlap: 16}\n",
                "`synthesise`", "`tile` (32) must be more than twice `overlap`"),
    config_case("micro-batch", "train: {batch_size: 8, micro_batch: 3}\n", "`train`",
                "`micro_batch` (3) must divide `batch_size` (8)"),
    config_case("diameters", "fit: {min_diameter: 9, max_diameter: 3}\n", "`fit`",
                "`min_diameter` must be below `max_diameter`"),
    config_case("thresholds", "evaluate: {thresholds: [0.7]}\n", "`evaluate`",
                "must contain 0.5"),
    config_case("t-start-beyond", "start: {value: 900}\nprocess: {timesteps: 500}\n",
                "`start.value` (900) is beyond `process.timesteps` (500)", REFERENCE),
    config_case("no-candidate", "start: {candidates: [80]}\nprocess: {timesteps: 50}\n",
                "`start.candidates`", "`process.timesteps` (50)", REFERENCE),
    config_case("annotated-without-labels",
                "source: {kind: folder, path: x}\nsegment: {arms: [annotated]}\n",
                "`segment.arms: [annotated]`", "needs `source.labels`"),
    config_case("not-yaml", "train: {steps: 5\nseed: [\n", "this is no YAML",
                "mind indentation"),
    config_case("tabs", "train:\n\tsteps: 5\n", "this is no YAML", "no tabs"),
    config_case("repeated-key", "seed: 1\nseed: 2\n", "'seed' stands here twice",
                "line 2", "keep one"),
    config_case("laughs", _laughs(lists=True), "100000 values", ALIASES),
    config_case("laughs-merged", _laughs(lists=False), "100000 values", ALIASES),
    config_case("endless", "train: &t {steps: *t}\n", "100000 values", ALIASES),
    config_case("undefined-alias", "seed: *s\n", "undefined alias", "indentation"),
    config_case("deep", "seed: " + "[" * 9999, "recursion", "indentation"),
    config_case("long-number", "seed: " + "9" * 5000, "too many digits", "line 1",
                QUOTES),
    config_case("long-hex", "train: {steps: 0x" + "f" * 9999 + "}\n",
                "too many digits", "line 1", QUOTES),
    config_case("long-sexagesimal", "train: {learning_rate: " + "59:" * 999 + "1.5}\n",
                "too many digits", "line 1", QUOTES),
    config_case("no-such-day", "experiment: 2026-02-30\n", "no YAML", "day"),
    config_case("not-of-its-tag", "seed: !!bool maybe\n", "does not fit its tag"),
    config_case("timestamp-tag", "seed: !!timestamp soon\n", "does not fit its tag"),
    config_case("unknown-tag", "seed: !dice 6\n", "!dice", "indentation"),
    config_case("two-documents", "seed: 1\n---\nseed: 2\n", "a single document"),
    config_case("number-as-key", "train: {1: 2}\n", "`train.1`", "Keys should be"),
    config_case("list-as-key", "? [seed]\n: 1\n", "unhashable key", "indentation"),
    config_case("control-character", "seed: \a1\n", "special characters",
                "indentation"),
    config_case("path-with-zero-byte", 'source: {kind: folder, path: "a\\0b"}\n',
                "`source.path`", "no file can have", REFERENCE),
    config_case("path-of-half-a-character",
                'source: {kind: folder, path: "\\ud800"}\n', "`source.path`",
                "no file can have", REFERENCE),
    config_case("config-of-utf16", "seed: 1\n".encode("utf-16"), "not a text file",
                "UTF-8"),
    config_case("config-too-large", "#" * 2_100_000, "2000000 bytes", "a few kB"),
    config_case("very-many-options", "".join(f"o{n}: 1\n" for n in range(500)),
                "500 options are wrong", "and 480 more", "mend each"),
    Case("config-with-code", "config", _config_code,
         ("mine.yaml", "python/object", "indentation")),
    config_case("binary", b"\x89PNG\r\n\x1a\n\xff\xfe\0", "not a text file",
                "give a YAML file"),
    config_case("list", "- seed\n- 1\n", "found a list", "phantomscope init"),
    config_case("words", "hello\n", "found a str", "phantomscope init"),
    Case("config-missing", "config", _config_missing,
         ("mine.yaml", "no such file", "check the path")),
    Case("config-is-a-folder", "config", _config_folder,
         ("mine.yaml", "it is a folder", "name a file")),
]  # fmt: skip


def sketch_case(
    name: str, edit: Callable[[dict[str, Any]], object] | str, *expect: str
) -> Case:
    """Edit the fitted parameters badly; `edit` gets the first type, or is the file."""

    def build(folder: Path, lab: Laboratory) -> Invocation:
        content = yaml.safe_load(lab.sketch.read_text())
        if not isinstance(edit, str):
            edit(content["types"][0])
        text = edit if isinstance(edit, str) else yaml.safe_dump(content)
        sketch, output = write(folder / "sketch.yaml", text), folder / "out"
        argv = ["simulate", "--config", SMOKE, "--sketch", sketch]
        return Invocation([*argv, "--sketches", output], (output,))

    return Case(name, "sketch parameters", build, ("sketch.yaml", *expect))


def _sketch_missing(folder: Path, lab: Laboratory) -> Invocation:
    config = config_file(folder, {"fit": {"parameters": str(folder / "no.yaml")}})
    outputs = tuple(folder / n for n in ("sketch.yaml", "fit.json", "objects.csv"))
    argv = ["fit-sketch", "--config", config, "--prepared", lab.prepared]
    argv += ["--normalisation", lab.normalisation, "--sketch", outputs[0]]
    return Invocation([*argv, "--fit", outputs[1], "--objects", outputs[2]], outputs)


CONTRADICTION = {
    "radius_elongation": 0.9, "radius_intensity": 0.9, "elongation_intensity": -0.9,
}  # fmt: skip
COMPARE = "compare with the file that a fit writes"
SKETCHES = [
    sketch_case("quantiles-fall", lambda t: t["radius"].reverse(), "`types.0.radius`",
                "must rise", COMPARE),
    sketch_case("six-quantiles", lambda t: t["density"].pop(), "`types.0.density`",
                "7 items", COMPARE),
    sketch_case("negative-radius", lambda t: t["radius"].__setitem__(0, -1.0),
                "`types.0.radius`", "must not be negative", COMPARE),
    sketch_case("radius-under-a-pixel", lambda t: t["radius"].__setitem__(0, 0.5),
                "`radius` must be at least 1 px", COMPARE),
    sketch_case("sketch-unknown-key", lambda t: t.update(colour="red"),
                "`types.0.colour`", COMPARE),
    sketch_case("sketch-wrong-type", lambda t: t.update(edge="soft"),
                "`types.0.edge`", "valid number", COMPARE),
    sketch_case("sketch-infinite", lambda t: t["density"].__setitem__(6, float("inf")),
                "`types.0.density", "finite", COMPARE),
    sketch_case("correlations", lambda t: t.update(correlation=CONTRADICTION),
                "`types.0`", "contradict each other", COMPARE),
    sketch_case("sketch-not-yaml", "types: [\n", "this is no YAML", "indentation"),
    sketch_case("sketch-laughs", _laughs(lists=True), "100000 values", ALIASES),
    sketch_case("sketch-long-number", "types: 0x" + "f" * 9999, "too many digits",
                QUOTES),
    sketch_case("sketch-with-code", "types: !!python/object/apply:os.abort []\n",
                "python/object", "indentation"),
    sketch_case("sketch-not-of-its-tag", "types: !!int ''\n", "does not fit its tag"),
    sketch_case("sketch-empty", "", "`types`", COMPARE),
    sketch_case("sketch-no-type", "types: []\n", "`types`", "at least 1", COMPARE),
    Case("sketch-missing", "sketch parameters", _sketch_missing,
         ("no.yaml", "no such file", "check the path")),
]  # fmt: skip

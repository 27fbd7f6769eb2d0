"""A paper's config: parts, presets, and what asks for it."""

from pathlib import Path

import pytest
import yaml

from phantomscope.config.painting import PAPER_PLATES
from phantomscope.config.papers import (
    PAPERS,
    asked_paper,
    find_shipped,
    load_paper,
    merged,
    parts_of,
)
from phantomscope.config.plates import barcode_of
from phantomscope.errors import PhantomscopeError

MINE = {"paper": "eschweiler", "scale": "smoke", "presets": ["best", "plos"],
        "common": {"train": {"steps": 5}},
        "parts": {"gowt1": {"train": {"patch": 32}}, "hela": None}}  # fmt: skip


def test_later_layers_win_and_sections_are_merged():
    found = merged({"a": {"x": 1, "y": [1, 2]}, "b": 1}, {"a": {"y": [3]}}, {"b": None})
    assert found == {"a": {"x": 1, "y": [3]}, "b": None}


def test_layers_are_not_changed():
    first = {"a": {"x": 1}}
    merged(first, {"a": {"y": 2}})["a"]["x"] = 5
    assert first == {"a": {"x": 1}}


def test_each_preset_runs_each_part():
    options = {**MINE, "parts": {"gowt1": {"train": {"patch": 32}}, "hela": {}}}
    parts = parts_of(load_paper("eschweiler", options, "f"), "f")
    assert [(p.preset, p.name) for p in parts] == [
        ("best", "gowt1"), ("best", "hela"), ("plos", "gowt1"), ("plos", "hela")
    ]  # fmt: skip
    names = {p.config.name for p in parts}
    assert names == {f"eschweiler/{p.preset}/{p.name}" for p in parts}
    assert all(p.config.train.steps == 5 for p in parts)
    assert [p.config.train.patch for p in parts][::2] == [32, 32]


@pytest.mark.parametrize(("options", "arguments", "expected"), [
    ({}, ["snakemake", "-n"], None),
    ({}, ["snakemake", "eschweiler"], "eschweiler"),
    ({}, ["x", "--target-jobs", "eschweiler_best_ce_train:"], "eschweiler"),
    ({}, ["x", "results/eschweiler/best/ce/report.html"], "eschweiler"),
    ({"paper": "eschweiler"}, ["snakemake"], "eschweiler"),
    ({}, ["snakemake", "saguy"], "saguy"),
    ({}, ["x", "--configfile", "/home/me/config/saguy/pilot.yaml"], "saguy"),
    ({}, ["x", "--target-jobs", "tabulate_saguy_best:"], "saguy"),
    ({}, ["x", "--target-jobs", "eschweiler_best_ce_evaluate:method=a/b/seed0"],
     "eschweiler"),
    # A clone in a folder of that name.
    ({}, ["/home/saguy/bin/snakemake", "--snakefile", "/srv/saguy/Snakefile"], None),
])  # fmt: skip
def test_what_asks_for_a_paper(options, arguments, expected):
    assert asked_paper(options, arguments) == expected


@pytest.mark.parametrize(("options", "message"), [
    ({**MINE, "prests": []}, "did you mean `presets`"),
    ({**MINE, "presets": ["nope"]}, "no preset 'nope'"),
    ({**MINE, "presets": ["best", "best"]}, "twice"),
    ({**MINE, "parts": {}}, "parts"),
    ({**MINE, "parts": {"Bad name": {}}}, "parts"),
    ({**MINE, "parts": {"ce": {"train": {"stepz": 1}}}}, "train.steps"),
    ({**MINE, "scale": "huge"}, "scale"),
    ({**MINE, "paper": "sagui"}, "did you mean `saguy`"),
])  # fmt: skip
def test_a_bad_paper_gives_one_clear_error(options, message):
    with pytest.raises(PhantomscopeError) as caught:
        parts_of(load_paper("eschweiler", options, "mine.yaml"), "mine.yaml")
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("scale", ["smoke", "pilot", "paper"])
def test_shipped_papers_are_fine_with_every_preset(paper, scale):
    presets = yaml.safe_load(find_shipped(paper, "presets.yaml").read_text())
    options = {"scale": scale, "presets": list(presets)}
    parts = parts_of(load_paper(paper, options, "shipped"), "shipped")
    assert len(parts) >= len(presets)
    for part in parts:
        part.config.check_sides()
        assert part.config.scale == scale


def test_presets_share_pairs_where_they_want_the_same():
    options = {"scale": "paper", "presets": ["paper", "best", "code"]}
    paper = load_paper("cellresdm", options, "shipped")
    first, *others = parts_of(paper, "shipped")
    assert first.config.translate.pairs_from is None
    for part in others:
        assert part.config.translate.pairs_from == "results/cellresdm/paper/jump"
    # Wider outlines, or another number of shards, are other pairs.
    plates = paper.parts["jump"]["translate"]["plates"]
    for change in ({"boundary_width": 3}, {"plates": {**plates, "shards": 2}}):
        translate = {**paper.parts["jump"]["translate"], **change}
        other = paper.model_copy(
            update={"parts": {**paper.parts, "b": {"translate": translate}},
                    "presets": ["paper"]}
        )  # fmt: skip
        assert [p.config.translate.pairs_from for p in parts_of(other, "x")] == [
            None
        ] * 2


def test_the_split_of_the_released_code():
    path = find_shipped("cellresdm", "code_split.yaml")
    options = yaml.safe_load(path.read_text())
    (part,) = parts_of(load_paper("cellresdm", options, str(path)), str(path))
    plates = part.config.translate.plates
    sides = plates.split.named
    # In the order in which they were measured, of each cell line.
    of_line = {"A549": PAPER_PLATES[:4], "U2OS": PAPER_PLATES[4:]}
    for line, (one, two, three, four) in of_line.items():
        assert [sides[barcode_of(name)] for name in (one, two, four)] == [
            "train", "train", "test",
        ]  # fmt: skip
        assert three not in plates.plates
        assert {dict(plates.cell_lines)[barcode_of(n)] for n in (one, four)} == {line}
    assert part.config.of_method("cellresdm").process.timesteps == 4


def test_nothing_shipped_gives_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PhantomscopeError, match=r"there is no .*none\.yaml"):
        find_shipped("eschweiler", "none.yaml")
    assert Path("config").exists() is False
